"""`clob market`: markets are made, listed, halted and opened again."""

import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from clob.v1.admin_service_pb2 import CreateMarketsRequest, DefineAssetsRequest, MarketResult, SetMarketStateRequest
from clob.v1.event_pb2 import RejectReason
from clob.v1.market_data_service_pb2 import ListMarketsRequest
from clob.v1.market_pb2 import Asset, Market, MarketState
from exchange.cli.connection import Connection, operator_command, request_id_option
from exchange.cli.directory import Directory
from exchange.cli.tables import draw_facts, draw_table
from exchange.domain.limits import REQUEST_ID_BYTES
from exchange.ingress.http_json import JsonError, message_to_json, parse_json, read_message

CHUNK: Final = 1_024
"""Markets per call: small enough to see progress, and each call can be made again for itself."""
MARKETS_MAX: Final = 1_000_000
EXIT_REFUSED: Final = 1
_REFUSALS_SHOWN: Final = 20
_CALL_S: Final = 600.0
_PROGRESS_S: Final = 0.2
_PROGRESS_LOG_S: Final = 5.0
_SYMBOL: Final = re.compile(r"[A-Z0-9._-]{1,32}")
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_PREFIX: Final = "MARKET_STATE_"
_STATES: Final[dict[str, Any]] = {
    MarketState.Name(value).removeprefix(_PREFIX).lower().replace("_", "-"): value
    for value in MarketState.values()
    if value
}
_OPPOSITES: Final = {"halt": "halted"}
"""Words that people say for states."""


def _symbol(value: str) -> str:
    """Return the symbol of a market or an asset, in upper case."""
    text = value.upper()
    if _SYMBOL.fullmatch(text) is None:
        raise click.BadParameter(f"{text[:40]!r}: a symbol has 1 to 32 of A-Z, 0-9, '.', '_' and '-'")
    return text


@click.group()
def market() -> None:
    """Make markets, list them, change their states."""


# --- making ---------------------------------------------------------------------------------------------------------


@market.command("create")
@click.argument("file", metavar="[FILE.json]", type=click.File("rb"), required=False)
@click.option("--count", type=click.IntRange(1, MARKETS_MAX), help="Make so many, all alike, numbered from --first.")
@click.option("--first", type=click.IntRange(min=1), default=1, show_default=True, help="First number in the symbols.")
@click.option("--symbol", type=_symbol, metavar="SYMBOL", help="Make one of this symbol.")
@click.option(
    "--base", type=_symbol, metavar="SYMBOL", default="BTC", show_default=True, help="Asset that is bought and sold."
)
@click.option(
    "--quote", type=_symbol, metavar="SYMBOL", default="USD", show_default=True, help="Asset that it is paid with."
)
@click.option("--base-decimals", type=click.IntRange(0, 18), default=8, show_default=True, help="Of a new base asset.")
@click.option("--quote-decimals", type=click.IntRange(0, 18), default=6, show_default=True, help="Of a new quote.")
@click.option("--base-units-per-lot", type=click.IntRange(1, 2**53 - 1), default=1_000, show_default=True)
@click.option("--quote-units-per-tick-lot", type=click.IntRange(1, 2**53 - 1), default=1, show_default=True)
@click.option("--maker-fee-ppm", type=click.IntRange(0, 1_000_000), default=100, show_default=True)
@click.option("--taker-fee-ppm", type=click.IntRange(0, 1_000_000), default=250, show_default=True)
@click.option("--band-ppm", type=click.IntRange(0, 1_000_000), default=500_000, show_default=True)
@click.option("--shard", type=click.IntRange(0, 4095), default=0, help="Shard that serves them; else they are spread.")
@click.option("--state", type=click.Choice(sorted(_STATES)), default="open", show_default=True, help="To begin in.")
@request_id_option
@operator_command
def create_markets(
    connection: Connection,
    file: Any,
    count: int | None,
    symbol: str | None,
    request_id: bytes,
    **options: Any,
) -> None:
    """Make markets, from a file or all alike, and return when they take orders.

    FILE.json is {"assets": [...], "markets": [...]} or a list of markets, with the fields of Asset and Market in
    market.proto; - is standard input. A market's assets are numbers or symbols; number 0 or none is the next free one,
    shard 0 or none the one with the fewest markets.

    Markets are sent in calls of 1,024. With the --request-id that an error prints, the same command goes on where it
    was. Ends with 1 when any was refused.
    """
    if sum(given is not None for given in (file, count, symbol)) != 1:
        raise click.UsageError("say which markets: FILE.json, --count N, or --symbol BASE-QUOTE")
    directory = Directory(connection)
    maker = _Maker(connection, request_id)
    if file is not None:
        assets, rows = _read_file(file.read())
        maker.define_assets(assets)
        markets = [_read_market(row, place, directory) for place, row in enumerate(rows)]
    else:
        base, quote = options["base"], options["quote"]
        if base == quote:
            raise click.UsageError(f"a market trades two assets, --base and --quote are both {base}")
        decimals = {base: options["base_decimals"], quote: options["quote_decimals"]}
        known = {asset.symbol for asset in directory.assets.values()}
        missing = [name for name in (quote, base) if name not in known]
        maker.define_assets([Asset(symbol=name, decimals=decimals[name]) for name in missing])
        if missing:
            directory = Directory(connection)
        markets = list(_alike(symbol, count or 1, directory.asset(base), directory.asset(quote), options))
    maker.create(markets)
    maker.report()


def _read_file(text: bytes) -> tuple[list[Asset], list[Any]]:
    """Return the assets and the raw markets of a file."""
    try:
        content = parse_json(text)
        if isinstance(content, list):
            content = {"markets": content}
        if not isinstance(content, dict) or not {"assets", "markets"}.issuperset(content):
            raise JsonError("it is neither a list of markets nor an object of assets and markets")
        request = DefineAssetsRequest()
        read_message({"assets": content.get("assets", [])}, request)
        rows = content.get("markets", [])
        if not isinstance(rows, list):
            raise JsonError("markets is not a list")
    except JsonError as error:
        raise click.UsageError(f"FILE.json: {error}") from None
    return list(request.assets), rows


def _read_market(row: Any, place: int, directory: Directory) -> Market:
    """Return a market of a file, its assets' symbols replaced by their numbers."""
    made = Market()
    if isinstance(row, dict):
        row = dict(row)
        for name in ("base_asset", "quote_asset"):
            if isinstance(row.get(name), str) and not row[name].isdigit():
                row[name] = directory.asset(row[name]).asset
    try:
        read_message(row, made)
    except JsonError as error:
        raise click.UsageError(f"FILE.json: markets[{place}]: {error}") from None
    return made


def _alike(symbol: str | None, count: int, base: Asset, quote: Asset, options: dict[str, Any]) -> Iterator[Market]:
    """Yield markets that differ in their symbols only."""
    for number in range(options["first"], options["first"] + count):
        yield Market(
            symbol=symbol or f"{base.symbol}{number:05d}-{quote.symbol}",
            shard=options["shard"],
            base_asset=base.asset,
            quote_asset=quote.asset,
            base_units_per_lot=options["base_units_per_lot"],
            quote_units_per_tick_lot=options["quote_units_per_tick_lot"],
            maker_fee_ppm=options["maker_fee_ppm"],
            taker_fee_ppm=options["taker_fee_ppm"],
            band_ppm=options["band_ppm"],
            state=_STATES[options["state"]],
        )


class _Maker:
    """Makes markets, a chunk after the other, each under a request id of its own that follows from the command's."""

    def __init__(self, connection: Connection, request_id: bytes) -> None:
        self._connection = connection
        self._request_id = request_id
        self._results: list[tuple[str, MarketResult]] = []
        self._repeated = 0
        self._chunks = 0
        self._elapsed_s = 0.0

    def define_assets(self, assets: Sequence[Asset]) -> None:
        """Define assets; those that exist stay as they are."""
        for place, chunk in enumerate(_chunks(assets)):
            request = DefineAssetsRequest(request_id=self._name("assets", place), assets=chunk)
            answer = self._call(self._connection.admin.DefineAssets, request)
            for asset, result in zip(chunk, answer.results, strict=True):
                if result.reason not in (0, RejectReason.REJECT_REASON_ALREADY_DEFINED):
                    raise click.ClickException(f"asset {asset.symbol} was refused: {_reason(result.reason)}")

    def create(self, markets: Sequence[Market]) -> None:
        """Make the markets."""
        started_s = time.monotonic()
        progress = _Progress(len(markets), "markets")
        for place, chunk in enumerate(_chunks(markets)):
            request = CreateMarketsRequest(request_id=self._name("markets", place), markets=chunk)
            answer = self._call(self._connection.admin.CreateMarkets, request)
            self._results += zip((row.symbol for row in chunk), answer.results, strict=True)
            self._repeated += bool(answer.repeated)
            self._chunks += 1
            progress.show(len(self._results))
        progress.clear()
        self._elapsed_s = time.monotonic() - started_s

    def report(self) -> None:
        """Say what became of them, and end with 1 if any was refused."""
        refused = [(symbol, result) for symbol, result in self._results if result.reason]
        made = len(self._results) - len(refused)
        shards = Counter(result.shard for _, result in self._results if not result.reason)
        lines = draw_facts(
            [
                ("made", f"{made:,} of {len(self._results):,} markets in {self._elapsed_s:.1f} s"),
                ("shards", ", ".join(f"{shard}: {number:,}" for shard, number in sorted(shards.items())) or None),
                ("market", self._results[0][1].market if made == len(self._results) == 1 else None),
                (
                    "repeated",
                    f"{self._repeated} of {self._chunks} calls, as answered before" if self._repeated else None,
                ),
                ("request", self._request_id.hex()),
            ]
        )
        lines += [f"refused  {symbol}: {_reason(result.reason)}" for symbol, result in refused[:_REFUSALS_SHOWN]]
        if len(refused) > _REFUSALS_SHOWN:
            lines.append(f"... and {len(refused) - _REFUSALS_SHOWN:,} more; --json lists them")
        as_json = {
            "request_id": self._request_id.hex(),
            "made": made,
            "refused": len(refused),
            "repeated_calls": self._repeated,
            "results": [{"symbol": symbol, **message_to_json(result)} for symbol, result in self._results],
        }
        self._connection.show(as_json, lines)
        if refused:
            sys.exit(EXIT_REFUSED)

    def _call(self, method: Any, request: Any) -> Any:
        """Make a call; when it fails, name the command's own request id instead of the call's."""
        from exchange.cli.connection import CallFailedError

        try:
            return self._connection.call(method, request, timeout_s=max(_CALL_S, self._connection.timeout_s))
        except CallFailedError as error:
            error.request_id = self._request_id
            raise

    def _name(self, kind: str, place: int) -> bytes:
        text = self._request_id + kind.encode() + place.to_bytes(4, "big")
        return hashlib.sha256(text).digest()[:REQUEST_ID_BYTES]


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


class _Progress:
    """Says on stderr how far something is: in place on a terminal, else a line every few seconds."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._in_place = sys.stderr.isatty()
        self._every_s = _PROGRESS_S if self._in_place else _PROGRESS_LOG_S
        self._next_s = time.monotonic() + self._every_s

    def show(self, done: int) -> None:
        """Say how many are done, if it is time to."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s
        text = f"{done:,} of {self._total:,} {self._what} ({done * 100 // self._total} %)"
        click.echo(f"\r{text:<60}" if self._in_place else text, nl=not self._in_place, err=True)

    def clear(self) -> None:
        """Leave no trace on a terminal."""
        if self._in_place:
            click.echo(f"\r{'':<60}\r", nl=False, err=True)


# --- looking --------------------------------------------------------------------------------------------------------


@market.command("list")
@click.option("--shard", type=click.IntRange(1, 4095), help="Only this shard's.")
@click.option("--limit", type=click.IntRange(min=1), help="Most markets to show; without it, all.")
@operator_command
def list_markets(connection: Connection, shard: int | None, limit: int | None) -> None:
    """List markets, by number, with the states that they are in now."""
    request = ListMarketsRequest(shard=shard or 0)
    markets = connection.pages(connection.market_data.ListMarkets, request, "markets", limit)
    lines: list[str] = []
    if not connection.as_json:
        assets = Directory(connection).assets
        names = {number: asset.symbol for number, asset in assets.items()}
        lines = draw_table(
            ("MARKET", "SYMBOL", "SHARD", "STATE", "BASE", "QUOTE", "MAKER PPM", "TAKER PPM"),
            [
                (
                    row.market,
                    row.symbol,
                    row.shard,
                    _state_name(row.state),
                    names.get(row.base_asset, row.base_asset),
                    names.get(row.quote_asset, row.quote_asset),
                    row.maker_fee_ppm,
                    row.taker_fee_ppm,
                )
                for row in markets
            ],
            "rlrlllrr",
        )
    connection.show([message_to_json(row) for row in markets], lines)


@market.command("show")
@click.argument("name", metavar="SYMBOL|NUMBER")
@operator_command
def show_market(connection: Connection, name: str) -> None:
    """Show all settings of a market."""
    found = Directory(connection).market(name)
    facts = message_to_json(found)
    connection.show(
        found,
        draw_facts((name, value if isinstance(value, str) else json.dumps(value)) for name, value in facts.items()),
    )


# --- states ---------------------------------------------------------------------------------------------------------


@market.command("state")
@click.argument("state", metavar="STATE", type=click.Choice([*sorted(_STATES), *_OPPOSITES]))
@click.argument("names", metavar="[SYMBOL|NUMBER]...", nargs=-1)
@click.option("--all", "everywhere", is_flag=True, help="All markets.")
@click.option("--from", "file", type=_FILE, help="File with a name a line.")
@click.option("--at", "effective", metavar="TIME", help="When, such as 2031-05-01T12:00:00Z; at once by default.")
@request_id_option
@operator_command
def set_state(
    connection: Connection,
    state: str,
    names: tuple[str, ...],
    everywhere: bool,
    file: Path | None,
    effective: str | None,
    request_id: bytes,
) -> None:
    """Change the state of markets: open, post-only, cancel-only, halted.

    A halt stops everything of traders, cancels included. A change at once withdraws those that were planned. Ends with
    1 when any was refused.
    """
    directory = Directory(connection)
    given = [*names, *(file.read_text("utf-8").split() if file is not None else ())]
    if everywhere == bool(given):
        raise click.UsageError("say which markets: symbols or numbers, --from FILE, or --all")
    if everywhere:
        rows = connection.pages(connection.market_data.ListMarkets, ListMarketsRequest(), "markets")
        numbers = [row.market for row in rows]
    else:
        numbers = list(dict.fromkeys(directory.market_number(name) for name in given))
    request = SetMarketStateRequest(
        request_id=request_id,
        markets=numbers,
        state=_STATES[_OPPOSITES.get(state, state)],
        effective_us=_time_us(effective),
    )
    answer = connection.call(connection.admin.SetMarketState, request, timeout_s=max(_CALL_S, connection.timeout_s))
    refused = [(number, row.reason) for number, row in zip(numbers, answer.results, strict=True) if row.reason]
    done = f"{len(numbers) - len(refused):,} of {len(numbers):,} markets: {_OPPOSITES.get(state, state)}"
    lines = [done + (f" from {effective}" if effective else "") + (" (as answered before)" if answer.repeated else "")]
    lines += [f"refused  market {number}: {_reason(reason)}" for number, reason in refused[:_REFUSALS_SHOWN]]
    if len(refused) > _REFUSALS_SHOWN:
        lines.append(f"... and {len(refused) - _REFUSALS_SHOWN:,} more; --json lists them")
    connection.show(answer, [*lines, f"request {request_id.hex()}"])
    if refused:
        sys.exit(EXIT_REFUSED)


def _time_us(text: str | None) -> int:
    if text is None:
        return 0
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--at {text}: write a time like 2031-05-01T12:00:00Z") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    return max(0, since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds)


def _state_name(state: MarketState) -> str:
    return MarketState.Name(state).removeprefix(_PREFIX).lower().replace("_", " ")


def _reason(reason: RejectReason) -> str:
    return RejectReason.Name(reason).removeprefix("REJECT_REASON_")

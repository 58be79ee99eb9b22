"""`benchmark-client`: sends a transaction, or load, and prints the true end-to-end latency by stage."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from hdrh.histogram import HdrHistogram

from exchange.client import instructions as instruct
from exchange.client.aio import AsyncClient
from exchange.client.books import LocalBook
from exchange.client.errors import ClientError
from exchange.client.load import STEPS, Load, LoadReport, run_load
from exchange.client.options import EXIT_NOT_DONE, EXIT_UNUSABLE, address_options, private_key, where_of
from exchange.client.probing import Probe, meeting_price, probe_at, resting_probe
from exchange.client.results import STAGES, Result, Stages, Status
from exchange.domain.commands import Side
from exchange.domain.limits import BATCH_COMMANDS_MAX, REQUEST_COMMANDS_MAX
from exchange.domain.markets import Market, MarketState
from exchange.domain.signing import EnvironmentNameError

FUNDS_WAIT_S: Final = 5.0
"""A new user's funds are on their way for a moment."""
MARKETS_TRIED: Final = 64
SWITCH_S: Final = 0.0005
PATIENCE_S: Final = 3.0
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 100.0)
_ALL_STAGES: Final = ("sent", *STAGES, "got")
_CLOCKS: Final = (
    "client",
    "ingress",
    "ingress",
    "ingress",
    "bus",
    "matcher",
    "matcher",
    "matcher",
    "ingress",
    "client",
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """An order and, when it rested, its cancel."""

    placed: Result
    cancelled: Result | None

    @property
    def results(self) -> list[Result]:
        """Both, or the one."""
        return [self.placed] if self.cancelled is None else [self.placed, self.cancelled]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command was told about the transaction."""

    market: str | None
    side: Side | None
    quantity_lots: int
    price_ticks: int

    @property
    def is_plain(self) -> bool:
        """Whether the order is for us to choose: one that rests away from the market."""
        return not (self.quantity_lots or self.price_ticks)


@click.command("benchmark-client", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("key", metavar="[KEY]", required=False)
@address_options
@click.option("--account", type=click.IntRange(1), help="Where the key may act for several.")
@click.option("--market", metavar="SYMBOL", help="Default: the first open one where the account has funds.")
@click.option("--side", type=click.Choice(["buy", "sell"]), help="Default: buy if that can be paid, else sell.")
@click.option("--quantity", type=click.IntRange(1), metavar="LOTS", help="Default: the smallest that the market takes.")
@click.option("--price", type=click.IntRange(1), metavar="TICKS", help="Default: as far from the market as may be.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Transactions, one after another.")
@click.option("--rate", type=click.IntRange(1), metavar="N", help="Load: orders a second, sent when they are planned.")
@click.option("--duration", type=click.FloatRange(0.1), metavar="S", help="Of the load.  [default: 10]")
@click.option("--connections", type=click.IntRange(1, 1_000), metavar="N", help="Of the load.  [default: 1]")
@click.option("--batch", type=click.IntRange(1, REQUEST_COMMANDS_MAX), metavar="N", help="Signed batches in a message.")
@click.option("--commands-per-signature", type=click.IntRange(1, BATCH_COMMANDS_MAX), metavar="N", help="[default: 1]")
@click.option(
    "--trades",
    "trade_percent",
    type=click.IntRange(0, 100),
    metavar="PERCENT",
    help="Orders that trade; sets the last price.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def main(
    key: str | None,
    address: str,
    environment: str | None,
    tls: bool | None,
    ca: Path | None,
    cert: Path | None,
    cert_key: Path | None,
    account: int | None,
    market: str | None,
    side: str | None,
    quantity: int | None,
    price: int | None,
    count: int,
    rate: int | None,
    duration: float | None,
    connections: int | None,
    batch: int | None,
    commands_per_signature: int | None,
    trade_percent: int | None,
    as_json: bool,
) -> None:
    """Send a signed order through the exchange and print how long each stage of its way took.

    KEY is a private key, a file that holds it, or - for standard input; without it CLOB_PRIVATE_KEY says it. The order
    rests away from the market and is cancelled at once, so that nothing is left behind. With --rate it is open-loop
    load: latency counts from the moment at which a message was planned.

    Ends with 0; with 1 if an order was refused or, under load, an outcome is lost or an order left behind; with 2 if
    there is nobody to talk to or nothing to trade with.
    """
    where = where_of(address, environment, tls, ca, cert, cert_key)
    load_options = (duration, connections, batch, commands_per_signature, trade_percent)
    if rate is None and any(option is not None for option in load_options):
        raise click.UsageError("--duration, --connections, --batch, --commands-per-signature and --trades need --rate")
    if rate is not None and (quantity or price or count > 1):
        raise click.UsageError("--quantity, --price and --count are for single transactions, not for --rate")
    batches, commands = batch or 1, commands_per_signature or 1
    if batches * commands > REQUEST_COMMANDS_MAX:
        raise click.UsageError(f"a message has at most {REQUEST_COMMANDS_MAX:,} commands, not {batches * commands:,}")
    private = private_key(key, address)
    wanted = Wanted(market, Side[side.upper()] if side else None, quantity or 0, price or 0)

    async def work() -> bool:
        async with await where.connect(private, account=account or 0, patience_s=PATIENCE_S) as client:
            probe, book = await _find(client, wanted)
            if rate is None:
                return _show_transactions(client, probe, await _transact(client, probe, wanted, count), as_json)
            load = await _load(
                client, probe, book, rate, duration or 10.0, connections or 1, batches, commands, trade_percent or 0
            )
            return _show_load(client, load, await run_load(client, load), as_json)

    # The thread that keeps the time of a load must not wait for long for another to end its turn.
    sys.setswitchinterval(SWITCH_S)
    try:
        went_well = asyncio.run(work())
    except (ClientError, EnvironmentNameError) as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_UNUSABLE)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if went_well else EXIT_NOT_DONE)


# --- what to send ---------------------------------------------------------------------------------------------------


async def _find(client: AsyncClient, wanted: Wanted) -> tuple[Probe, LocalBook]:
    """Return an order and the book of its market: the market that was named, or the first open one with funds.

    Raises:
        ClientError: NO_MARKET, NO_FUNDS.
    """
    ends_s = time.monotonic() + FUNDS_WAIT_S
    while True:
        markets = [await client.market(wanted.market)] if wanted.market else await _open_markets(client)
        if not markets:
            raise ClientError("NO_MARKET", "no market is open here; `clob market create` makes one")
        balances = await client.balances()
        for market in markets:
            free = {one.asset: one.free_units for one in balances.funds if one.shard == market.shard}
            if market.base_asset not in free and market.quote_asset not in free:
                continue
            book = await client.book(market.market, 1)
            probe = _probe(market, book, free, wanted)
            if probe is not None:
                return probe, book
        if time.monotonic() > ends_s:
            raise ClientError(
                "NO_FUNDS",
                f"account {balances.account} has not what an order in {wanted.market or 'any open market'} needs in "
                "its shard; `clob deposit` credits it, `clob order allocate` moves what lies in the treasury",
            )
        await asyncio.sleep(0.1)


def _probe(market: Market, book: LocalBook, free: dict[int, int], wanted: Wanted) -> Probe | None:
    if wanted.is_plain:
        return resting_probe(market, book, lambda asset: free.get(asset, 0), wanted.side)
    for side in (wanted.side,) if wanted.side else (Side.BUY, Side.SELL):
        resting = resting_probe(market, book, lambda _: 2**63, side)
        price_ticks = wanted.price_ticks or (resting.price_ticks if resting else 0)
        if price_ticks:
            probe = probe_at(market, side, price_ticks, wanted.quantity_lots)
            # What was asked for is sent as it is: the exchange's refusal says more than ours would.
            if wanted.side or probe.needs_units <= free.get(probe.asset, 0):
                return probe
    return None


async def _open_markets(client: AsyncClient) -> list[Market]:
    """Return the first markets that are open."""
    found: list[Market] = []
    async for page in client.directory.market_pages():
        found += [market for market in page if market.state == MarketState.OPEN]
        if len(found) >= MARKETS_TRIED:
            break
    return found[:MARKETS_TRIED]


async def _transact(client: AsyncClient, probe: Probe, wanted: Wanted, count: int) -> list[Transaction]:
    """Place and cancel, one transaction after another, on a connection that is warm."""
    done: list[Transaction] = []
    for _ in range(count):
        order = instruct.place(
            probe.market.market, probe.side, probe.quantity_lots, probe.price_ticks, post_only=wanted.is_plain
        )
        placed = (await client.submit([order], with_stages=True))[0]
        cancelled = None
        if placed.status is Status.RESTING:
            cancel = instruct.cancel(placed.order_id, market=probe.market.market)
            cancelled = (await client.submit([cancel], with_stages=True))[0]
        done.append(Transaction(placed, cancelled))
    return done


async def _load(
    client: AsyncClient,
    probe: Probe,
    book: LocalBook,
    rate: int,
    duration_s: float,
    connections: int,
    batch: int,
    commands_per_signature: int,
    trade_percent: int,
) -> Load:
    meeting_ticks = meeting_price(probe, book) if trade_percent else 0
    if trade_percent and not meeting_ticks:
        raise ClientError("NO_ROOM", f"{probe.market.symbol}: no price between bid and ask for orders to meet at")
    meeting_lots = probe_at(probe.market, Side.SELL, meeting_ticks).quantity_lots if meeting_ticks else 0
    return Load(
        rate, duration_s, connections, batch, commands_per_signature, probe, trade_percent, meeting_ticks, meeting_lots
    )


# --- what to show ---------------------------------------------------------------------------------------------------


def _show_transactions(client: AsyncClient, probe: Probe, done: Sequence[Transaction], as_json: bool) -> bool:
    good = all(result.accepted for one in done for result in one.results)
    if as_json:
        shown = {
            **_head(client, probe),
            "transactions": [{"commands": [_result_json(result) for result in one.results]} for one in done],
        }
        click.echo(json.dumps(shown, indent=2))
        return good
    lines = [*_head_lines(client, probe), ""]
    if len(done) == 1:
        names = ("place", "cancel")
        lines += [f"{name:8}{result}" for name, result in zip(names, done[0].results, strict=False)]
        lines += ["", *_single_table(done[0].results)]
    else:
        lines += [*_repeated_lines(done)]
    click.echo("\n".join(lines))
    return good


def _head(client: AsyncClient, probe: Probe) -> dict[str, Any]:
    return {
        "environment": client.environment,
        "durability": client.exchange.durability,
        "account": str(client.account),
        "market": probe.market.market,
        "symbol": probe.market.symbol,
        "shard": probe.market.shard,
    }


def _head_lines(client: AsyncClient, probe: Probe) -> list[str]:
    market = probe.market
    return [
        f"{client.address}, environment {client.environment}, durability {client.exchange.durability}",
        f"account {client.account}, {market.symbol} (market {market.market}, shard {market.shard})",
        f"{probe.side.name.lower()} {probe.quantity_lots:,} at {probe.price_ticks:,} ticks",
    ]


def _result_json(result: Result) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "command": type(result.command).__name__,
        "status": result.status,
        "reason": result.reason,
        "order_id": str(result.order_id),
        "n": str(result.n),
        "fills": len(result.fills),
    }
    if result.stages is not None:
        shown["end_to_end_us"] = result.stages.got_us - result.stages.sent_us
        shown["since_sent_us"] = {
            stage: at_us - result.stages.sent_us
            for stage, at_us in zip(_ALL_STAGES, _times(result.stages), strict=True)
            if at_us
        }
    return shown


def _times(stages: Stages) -> tuple[int, ...]:
    """Return the times of _ALL_STAGES."""
    return stages[2:]


def _single_table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the stages, with the time each took and the time since the message was sent, for each command."""
    columns = [_times(result.stages) for result in results if result.stages is not None]
    if not columns:
        return
    names = ("place", "cancel")[: len(columns)]
    yield f"{'microseconds':<24}" + "".join(f"{name:>12}{'since sent':>12}" for name in names)
    differ = False
    last = [0] * len(columns)
    for place, (stage, clock) in enumerate(zip(_ALL_STAGES, _CLOCKS, strict=True)):
        cells = ""
        for column, times in enumerate(columns):
            at_us = times[place]
            if not at_us:
                cells += f"{'-':>12}{'-':>12}"
                continue
            step = at_us - last[column] if last[column] else None
            differ = differ or (step is not None and step < 0)
            cells += f"{'' if step is None else f'{step:,}':>12}{at_us - times[0]:>12,}"
            last[column] = at_us
        yield f"{stage:<14}{clock:<10}{cells}"
    yield f"{'end to end':<24}" + "".join(f"{'':>12}{times[-1] - times[0]:>12,}" for times in columns)
    if differ:
        yield "the clocks of these machines differ: steps from one clock to another are off by that"


def _repeated_lines(done: Sequence[Transaction]) -> Iterator[str]:
    results = [result for one in done for result in one.results]
    accepted = sum(result.accepted for result in results)
    yield f"{len(done):,} transactions one after another: {len(results):,} commands, {accepted:,} accepted"
    for reason in sorted({result.reason for result in results if not result.accepted}):
        yield f"  {reason}: {sum(result.reason == reason and not result.accepted for result in results):,}"
    steps = [HdrHistogram(1, 60_000_000, 3) for _ in _ALL_STAGES]
    for result in results:
        if result.stages is not None:
            times = _times(result.stages)
            for place in range(1, len(times)):
                if times[place] and times[place - 1]:
                    steps[place].record_value(max(1, times[place] - times[place - 1]))
            steps[0].record_value(max(1, times[-1] - times[0]))
    yield ""
    yield _percentile_head()
    for place in range(1, len(_ALL_STAGES)):
        name = f"{_ALL_STAGES[place - 1]} -> {_ALL_STAGES[place]}"
        yield _percentile_line(name, _CLOCKS[place], steps[place])
    yield _percentile_line("end to end", "", steps[0])


def _percentile_head() -> str:
    names = [*(f"p{percentile:g}" for percentile in PERCENTILES[:-1]), "max"]
    return f"{'microseconds':<24}{'':<10}" + "".join(f"{name:>12}" for name in names)


def _percentile_line(name: str, where: str, histogram: HdrHistogram) -> str:
    if not histogram.get_total_count():
        return f"{name:<24}{where:<10}" + f"{'-':>12}" * len(PERCENTILES)
    values = (histogram.get_value_at_percentile(percentile) for percentile in PERCENTILES)
    return f"{name:<24}{where:<10}" + "".join(f"{value:>12,}" for value in values)


def _show_load(client: AsyncClient, load: Load, report: LoadReport, as_json: bool) -> bool:
    good = not report.lost and not report.left_behind
    if as_json:
        click.echo(json.dumps(_load_json(client, load, report), indent=2))
    else:
        click.echo("\n".join(_load_lines(client, load, report)))
    return good


def _load_json(client: AsyncClient, load: Load, report: LoadReport) -> dict[str, Any]:
    steps = {
        name.replace(" -> ", "_to_"): _percentiles(histogram)
        for (_, name), histogram in zip(STEPS, report.latencies.steps, strict=True)
    }
    return {
        **_head(client, load.resting),
        "rate": load.rate,
        "duration_s": load.duration_s,
        "connections": load.connections,
        "batches_per_message": load.batch,
        "commands_per_signature": load.commands_per_signature,
        "trade_percent": load.trade_percent,
        "commands": report.commands,
        "batches": report.batches,
        "messages": report.messages,
        "accepted": report.accepted,
        "rejected": dict(report.rejected),
        "refused": dict(report.refused),
        "trades": report.trades,
        "in_doubt": report.in_doubt,
        "lost": report.lost,
        "left_behind": report.left_behind,
        "elapsed_us": report.sending_us,
        "commands_per_second": report.commands * 1_000_000 // max(1, report.sending_us),
        "cpu_us": report.cpu_us,
        "cpu_us_per_command": report.cpu_us / max(1, report.commands),
        "late_us_max": report.late_us_max,
        "latency_us": {"end_to_end": _percentiles(report.latencies.end_to_end), **steps},
    }


def _percentiles(histogram: HdrHistogram) -> dict[str, int]:
    if not histogram.get_total_count():
        return {}
    names = [*(f"p{percentile:g}" for percentile in PERCENTILES[:-1]), "max"]
    return {name: histogram.get_value_at_percentile(one) for name, one in zip(names, PERCENTILES, strict=True)}


def _load_lines(client: AsyncClient, load: Load, report: LoadReport) -> Iterator[str]:
    yield from _head_lines(client, load.resting)
    yield (
        f"{load.rate:,} orders/s for {load.duration_s:g} s, open loop; connections {load.connections}, batches per "
        f"message {load.batch}, commands per signature {load.commands_per_signature}, {load.trade_percent} % trade"
    )
    yield ""
    rejected, refused = report.rejected.total(), report.refused.total()
    achieved = report.commands * 1_000_000 // max(1, report.sending_us)
    yield f"sent       {report.commands:>10,}   {achieved:,}/s in {report.messages:,} messages"
    yield f"accepted   {report.accepted:>10,}"
    yield f"rejected   {rejected:>10,}   {_reasons(report.rejected)}".rstrip()
    yield f"refused    {refused:>10,}   {_reasons(report.refused)}".rstrip()
    yield f"trades     {report.trades:>10,}"
    if report.in_doubt:
        yield f"in doubt   {report.in_doubt:>10,}   asked again"
    yield f"lost       {report.lost:>10,}"
    if report.left_behind:
        yield f"left over  {report.left_behind:>10,}   orders could not be cancelled; `clob order cancel-all` does"
    yield ""
    yield _percentile_head()
    for (where, name), histogram in zip(STEPS, report.latencies.steps, strict=True):
        yield _percentile_line(name, where, histogram)
    yield _percentile_line("end to end, from planned", "", report.latencies.end_to_end)
    yield ""
    cpu_us = report.cpu_us / max(1, report.commands)
    yield (
        f"this process: {report.cpu_us / max(1, report.sending_us):.0%} of a core, {cpu_us:.1f} us per order; messages "
        f"left at most {report.late_us_max / 1000:,.1f} ms late"
    )
    if report.latencies.backwards:
        yield (
            f"{report.latencies.backwards:,} steps were negative and count as 0: the clocks of machines differ, or a "
            "frame left while the rest of its message was being verified"
        )


def _reasons(counted: Any) -> str:
    return ", ".join(f"{reason or 'no reason told'} {count:,}" for reason, count in counted.most_common())


if __name__ == "__main__":
    main()

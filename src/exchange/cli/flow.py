"""`clob flow`: make order flow from a seed."""

import json
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import IO, Any, Final

import click

from exchange.domain.commands import Command, OrderType, SelfTradePrevention, Side, TimeInForce
from exchange.domain.events import CommandRejected, Event, OrderAccepted, Trade
from exchange.domain.rejects import RejectReason
from exchange.engine.choice import DEFAULT_ENGINE, engine_named
from exchange.flow.seeded import MARKETS_MAX, FlowCommand, FlowKind, SeededFlow
from exchange.local.flow_venue import execute_on, open_flow_venue

BUSIEST: Final = 5
SEED_MAX: Final = 2**64 - 1
_OPS: Final = {
    "PlaceOrder": "place",
    "CancelOrder": "cancel",
    "ReduceOrder": "reduce",
    "ReplaceOrder": "replace",
    "CancelAllOrders": "cancel_all",
    "ReleaseFunds": "release",
}
_NAMES: Final[dict[str, type[IntEnum]]] = {
    "side": Side,
    "order_type": OrderType,
    "time_in_force": TimeInForce,
    "self_trade_prevention": SelfTradePrevention,
}


class _Summary:
    """What was made and what became of it on the engine."""

    def __init__(self, seed: int, markets: int) -> None:
        self.seed = seed
        self.markets = markets
        self.kinds: Counter[FlowKind] = Counter()
        self.by_market: Counter[int] = Counter()
        self.rejected: Counter[int] = Counter()
        self.placed = 0
        self.trades = 0
        self._traded: set[int] = set()

    def count(self, command: FlowCommand, events: tuple[Event, ...]) -> None:
        self.kinds[command.kind] += 1
        for event in events:
            match event:
                case OrderAccepted():
                    self.placed += 1
                    self.by_market[event.market] += 1
                case CommandRejected():
                    self.rejected[event.reason] += 1
                case Trade():
                    self.trades += 1
                    self._traded.update((event.maker_order_id, event.taker_order_id))
                case _:
                    pass

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "markets": self.markets,
            "commands": self.kinds.total(),
            "kinds": {kind.value: self.kinds[kind] for kind in FlowKind if self.kinds[kind]},
            "rejected": {RejectReason(reason).name: count for reason, count in sorted(self.rejected.items())},
            "orders_placed": self.placed,
            "orders_traded": len(self._traded),
            "trades": self.trades,
            "markets_used": len(self.by_market),
            "busiest_markets": {str(market): count for market, count in _busiest(self.by_market)},
        }

    def as_text(self) -> str:
        total = self.kinds.total()
        rejected = ", ".join(f"{RejectReason(reason).name} {count}" for reason, count in sorted(self.rejected.items()))
        lines = [
            f"seed {self.seed}: {total} commands, {self.markets} markets, {len(self.by_market)} of them used",
            *(f"  {kind:<12} {self.kinds[kind]:>8}" for kind in FlowKind if self.kinds[kind]),
            f"orders placed {self.placed}, of which traded {len(self._traded)}; trades {self.trades}",
            f"refused {self.rejected.total()}" + (f": {rejected}" if rejected else ""),
            "busiest markets by orders placed: "
            + ", ".join(f"{market} ({count})" for market, count in _busiest(self.by_market)),
        ]
        return "\n".join(lines)


def _busiest(by_market: Counter[int]) -> list[tuple[int, int]]:
    return sorted(by_market.items(), key=lambda item: (-item[1], item[0]))[:BUSIEST]


@click.command("flow")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=1, show_default=True, help="Where it all comes from."
)
@click.option(
    "--markets", type=click.IntRange(1, MARKETS_MAX), default=10, show_default=True, help="Number of markets."
)
@click.option("--orders", type=click.IntRange(0), default=1_000, show_default=True, help="Number of commands.")
@click.option(
    "--out", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write the commands to this file."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object: the summary, and `commands` without --out."
)
def flow(seed: int, markets: int, orders: int, out: Path | None, as_json: bool) -> None:
    """Make order flow from a seed: the same for the same seed, number of markets and number of orders everywhere.

    A line of JSON per command, written as a scenario's step; its note says what the command is meant to be.

    Each command is executed on an engine as it is made, for the next one depends on what is open then. What became
    of them is the summary, on standard error, or on standard output where the commands go to a file.
    """
    made = SeededFlow(seed, markets)
    summary = _Summary(seed, markets)
    steps = _steps(made, orders, summary)
    if out is not None:
        with _open(out) as file:
            file.writelines(_line(step) for step in steps)
        click.echo(json.dumps({"summary": summary.as_json()}, indent=2) if as_json else summary.as_text())
    elif as_json:
        commands = list(steps)
        click.echo(json.dumps({"summary": summary.as_json(), "commands": commands}))
    else:
        for step in steps:
            click.echo(_line(step), nl=False)
        click.echo(summary.as_text(), err=True)


def _steps(flow: SeededFlow, commands: int, summary: _Summary) -> Iterator[dict[str, Any]]:
    """Yield the commands as steps and count what becomes of them."""
    venue = open_flow_venue(flow, engine_named(DEFAULT_ENGINE), keep_log=False)

    def execute(command: FlowCommand) -> tuple[Event, ...]:
        events = tuple(execute_on(venue, command))
        summary.count(command, events)
        return events

    for command in flow.run(commands, execute):
        yield step_json(command)


def step_json(command: FlowCommand) -> dict[str, Any]:
    """Return a command as a scenario's step, its kind as the note; fields that are zero are left out."""
    head = {"op": _OPS[type(command.command).__name__], "note": command.kind.value, "at_us": command.time_us}
    return {**head, "account": command.account, **_fields(command.command)}


def _fields(command: Command) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if value:
            fields[name] = _NAMES[name](value).name.lower() if name in _NAMES else value
    return fields


def _line(step: dict[str, Any]) -> str:
    return json.dumps(step, separators=(",", ":")) + "\n"


def _open(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise click.UsageError(
            f"--out {path} cannot be written: {error.strerror}; name a file in a folder that is there"
        ) from error

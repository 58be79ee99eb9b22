"""`clob play`: a scenario in JSON, played on an engine."""

import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

import click
import msgspec

from exchange.engine.choice import DEFAULT_ENGINE, engine_named
from exchange.local.drawing import EMPTY, NOTHING, draw, draw_balances, draw_step
from exchange.local.player import Played, play_scenario
from exchange.local.reading import read_scenario, scenario_schema
from exchange.local.scenario import Scenario, ScenarioError


@click.command(name="play")
@click.argument("file", metavar="SCENARIO.json", type=click.File("rb"), required=False)
@click.option("--engine", default=DEFAULT_ENGINE, show_default=True, help="Engine to play it on.")
@click.option("--json", "as_json", is_flag=True, help="Print everything that happened as one JSON object.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of scenarios and play nothing.")
def play(file: BinaryIO | None, engine: str, as_json: bool, schema: bool) -> None:
    """Play a scenario on an engine and print what came of it; - reads the scenario from standard input.

    Ends with 0 if every expectation in the scenario was met, with 1 if one was not or the engine stopped, with 2 if the
    scenario cannot be played. docs/scenarios.md describes scenarios.
    """
    if schema:
        click.echo(json.dumps(scenario_schema(), indent=2))
        return
    if file is None:
        raise click.UsageError("name a SCENARIO.json, or - for standard input; --schema prints what it looks like")
    try:
        factory = engine_named(engine)
    except ValueError as error:
        _refuse(str(error))
    try:
        scenario = read_scenario(file.read())
        played = play_scenario(scenario, factory)
    except ScenarioError as error:
        _refuse(f"{getattr(file, 'name', '<stdin>')}: {error}")
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(played), indent=2))
    else:
        click.echo("\n".join(_drawn(scenario, played)))
    sys.exit(0 if played.ok else 1)


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(2)


def _drawn(scenario: Scenario, played: Played) -> Iterator[str]:
    """Yield the lines for people: steps with their outcomes, books, balances, what was not as expected."""
    if played.title:
        yield from (played.title, "")
    commands = [draw_step(step) for step in scenario.commands[: len(played.steps)]]
    width = min(max((len(command) for command in commands), default=0), 60)
    failed = {failure.field.partition(".")[0].partition(" ")[0] for failure in played.failures}
    for step, command in zip(played.steps, commands, strict=True):
        mark = "!" if f"commands[{step.step}]" in failed else " "
        yield f"{mark}{step.step:4}  {command:{width}} -> {step.outcome}"
    for symbol, book in played.books.items():
        yield from ("", f"{symbol}, {book['state'].lower().replace('_', ' ')}", *_drawn_book(book))
    if played.balances:
        yield from ("", "balances", *_drawn_balances(played.balances))
    if played.fees:
        yield f"  fees: {', '.join(f'{asset} {units}' for asset, units in played.fees.items())}"
    yield ""
    yield f"{len(played.trades)} trades, {played.entries} entries on {played.engine}"
    if played.state_hash:
        yield f"state {played.state_hash}"
    yield f"chain {played.chain_hash}"
    yield from (f"FAILED {failure.field}: {failure.message}" for failure in played.failures)


def _drawn_book(book: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each level, asks above bids, each with its queue, the oldest order first."""
    rows = [("", level, str(level["quantity_lots"])) for level in reversed(book["asks"])]
    rows += [(str(level["quantity_lots"]), level, "") for level in book["bids"]]
    if not rows:
        yield f"  {EMPTY}"
        return
    yield f"  {'bid':>12} {'price':>12} {'ask':>12}"
    for bid, level, ask in rows:
        queue = ", ".join(f"{order['order_name']} {order['open_lots']}" for order in level["orders"])
        yield f"  {bid:>12} {level['price_ticks']:>12} {ask:>12}   {queue}"


def _drawn_balances(balances: dict[str, dict[str, dict[str, int]]]) -> Iterator[str]:
    for name, assets in balances.items():
        yield f"  {name}: {draw(draw_balances(assets), NOTHING)}"

"""The scenario format and the command that plays it: schema, examples, errors, output."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from exchange.cli.main import main
from exchange.engine.choice import ENGINES
from exchange.engine.port import EngineFactory
from exchange.local.drawing import draw_step, is_drawn_as
from exchange.local.player import play_scenario
from exchange.local.reading import read_scenario, scenario_of, scenario_schema
from exchange.local.scenario import STEPS, ScenarioError
from exchange.local.table import TableError, compile_table, play

ROOT = Path(__file__).resolve().parents[1]
SCHEMA_FILE = ROOT / "src" / "exchange" / "local" / "scenario.schema.json"
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.json"))
PAGE = (ROOT / "docs" / "scenarios.md").read_text()
WORKED_EXAMPLE, WORKED_OUTPUT = re.findall(r"```(?:json|text)\n(.*?)```", PAGE, re.DOTALL)
MARKET = {"symbol": "BTC-USD", "base": "BTC", "quote": "USD"}
PLACE = {"op": "place", "account": "A", "side": "buy", "price_ticks": 100, "quantity_lots": 1}


def small(*commands: dict[str, Any], **fields: Any) -> dict[str, Any]:
    accounts = [{"name": "A", "funds": "ample"}, {"name": "B", "funds": {"USD": 1000}}]
    return {"markets": [MARKET], "accounts": accounts, "commands": list(commands), **fields}


def clob_play(scenario: dict[str, Any] | str, *options: str) -> Result:
    text = scenario if isinstance(scenario, str) else json.dumps(scenario)
    return CliRunner().invoke(main, ["play", "-", *options], input=text)


# --- schema and examples ----------------------------------------------------------------------------------------------


def test_schema_file_is_what_the_model_says() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == scenario_schema(), f"clob play --schema > {SCHEMA_FILE}"
    jsonschema.Draft202012Validator.check_schema(scenario_schema())


def test_every_property_in_the_schema_is_described() -> None:
    schema = scenario_schema()
    undescribed = [
        f"{owner}.{name}"
        for owner, part in [("Scenario", schema), *schema["$defs"].items()]
        for name, value in part["properties"].items()
        if not any("description" in option for option in [value, *value.get("anyOf", [])])
    ]
    assert undescribed == []


def test_page_names_every_step_and_every_field() -> None:
    words = set(re.findall(r"`(\w+)`", PAGE))
    fields = {field for part in scenario_schema()["$defs"].values() for field in part["properties"]}
    assert {*STEPS, *fields} - words == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_keeps_the_schema_and_comes_out_as_expected(engine: EngineFactory, path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), scenario_schema())
    played = play_scenario(read_scenario(path.read_text()), engine)
    assert played.failures == []


def test_examples_use_every_step() -> None:
    used = {op for path in EXAMPLES for op in re.findall(r'"op": "(\w+)"', path.read_text())}
    assert set(STEPS) - used == {"set_state", "post_only", "settings", "orders"}


def test_worked_example_prints_what_the_page_shows() -> None:
    result = clob_play(WORKED_EXAMPLE)
    assert result.exit_code == 0
    assert result.output.startswith(WORKED_OUTPUT)


# --- what schema and model refuse alike -------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, str]] = {
    "unknown field": (
        small({**PLACE, "price": 5}),
        "commands[0].price: there is no such field; did",
    ),
    "unknown step": (
        small({**PLACE, "op": "plcae"}),
        "commands[0].op: there is no step 'plcae'; did you",
    ),
    "missing field": (small({"op": "place", "side": "buy"}), "commands[0].quantity_lots: is missing"),
    "wrong word": (small({**PLACE, "side": "bid"}), "commands[0].side: 'bid' is none of buy, sell"),
    "text for a number": (
        small({**PLACE, "price_ticks": "100"}),
        'commands[0].price_ticks: "100": expected `int`',
    ),
    "negative": (small({**PLACE, "price_ticks": -1}), "commands[0].price_ticks: -1: expected `int` >= 0"),
    "name with a space": (small({**PLACE, "id": "a 1"}), 'commands[0].id: "a 1" is no name'),
    "unknown field in a batch": (
        small({"op": "batch", "account": "A", "commands": [{**PLACE, "tif": "ioc"}]}),
        "commands[0].commands[0].tif: there is no such field",
    ),
    "unknown field in expect": (
        small({**PLACE, "expect": {"reject": "X"}}),
        "commands[0].expect.reject: there is no such field; did you mean 'rejected'?",
    ),
    "no funds": (small(accounts=[{"name": "A"}]), "accounts[0].funds: is missing"),
    "no market": (small(markets=[]), "markets: expected `array` of length >= 1"),
    "misspelt top": (small(comands=[]), "comands: there is no such field; did you mean 'commands'?"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_model_and_schema_refuse_alike(name: str) -> None:
    scenario, message = REFUSED[name]
    with pytest.raises(ScenarioError, match=re.escape(message)):
        scenario_of(scenario)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scenario, scenario_schema())


UNPLAYABLE: dict[str, tuple[dict[str, Any], str]] = {
    "unknown account": (
        small({**PLACE, "account": "C"}),
        "commands[0].account: there is no account 'C'; there",
    ),
    "unknown market": (small({**PLACE, "market": "X-Y"}), "commands[0].market: there is no market 'X-Y'"),
    "market left out": (
        small(PLACE, markets=[MARKET, {**MARKET, "symbol": "BTC-2"}]),
        "commands[0].market: is missing, and there are several markets: BTC-USD, BTC-2",
    ),
    "unknown asset": (
        small(accounts=[{"name": "A", "funds": {"EUR": 1}}]),
        "accounts[0].funds: there is no asset",
    ),
    "unknown order": (
        small(PLACE, {"op": "cancel", "order": "z", "account": "A"}),
        "commands[1].order: no earlier",
    ),
    "unnamed order": (small({"op": "cancel", "account": "A"}), "commands[0].order: is missing"),
    "two names": (
        small(PLACE | {"id": 1}, {"op": "cancel", "order": 1, "order_id": 1}),
        "commands[1].order: stands beside",
    ),
    "name of an open order": (small(PLACE | {"id": 1}, PLACE | {"id": 1}), "commands[1].id: '1' names an open order"),
    "same batch": (
        small({"op": "batch", "account": "A", "commands": [PLACE | {"id": 1}, {"op": "cancel", "order": 1}]}),
        "commands[0].commands[1].order: is placed in the same batch, before it has an order_id; give",
    ),
    "expect in a batch": (
        small({"op": "batch", "account": "A", "commands": [PLACE | {"expect": "accepted"}]}),
        "commands[0].commands[0].expect: belongs to the batch",
    ),
    "other account in a batch": (
        small({"op": "batch", "account": "B", "commands": [PLACE]}),
        "commands[0].commands[0].account: is not the account that signs the batch",
    ),
    "backwards": (
        small(PLACE | {"at_us": 5}, PLACE | {"at_us": 4}),
        "commands[1].at_us: 4 us after the start",
    ),
    "two times": (small(PLACE | {"at_us": 5, "at_ms": 4}), "commands[0].at_ms: stands beside at_us; keep one"),
    "idle advance": (small({"op": "advance"}), "commands[0]: `advance` says either how long"),
    "unknown batch": (small({"op": "resend", "batch": "x"}), "commands[0].batch: no earlier step sends a batch 'x'"),
    "beyond 64 bits": (small(PLACE | {"price_ticks": 2**64}), "commands[0].price_ticks: OUT_OF_RANGE"),
    "unknown reason": (
        small(PLACE | {"expect": {"rejected": "INSUFFICIENT_FUND"}}),
        "commands[0].expect.rejected: there is no reason 'INSUFFICIENT_FUND'; did you mean 'INSUFFICIENT_FUNDS'?",
    ),
    "unknown event field": (
        small(PLACE | {"expect": {"events": [{"event": "Trade", "price": 1}]}}),
        "commands[0].expect.events[0].price: there is no field 'price'",
    ),
    "account twice": (
        small(accounts=[{"name": 1, "funds": {}}, {"name": "1", "funds": {}}]),
        "accounts[1].name: '1'",
    ),
    "market twice": (small(markets=[MARKET, MARKET]), "markets[1].symbol: 'BTC-USD' stands twice"),
    "one asset": (small(markets=[MARKET | {"quote": "BTC"}]), "markets[0].quote: 'BTC' is the base too"),
    "crossed band": (
        small(markets=[MARKET | {"band_low_ticks": 5, "band_high_ticks": 4}]),
        "markets[0]: a table",
    ),
    "more than there can be": (
        small(accounts=[{"name": name, "funds": {"BTC": 2**62}} for name in "AB"]),
        "accounts[1].funds: deposits of BTC together exceed 2^63-1 units",
    ),
    "new market": (
        small({"op": "define_market", "symbol": "N"}),
        "commands[0].base: is missing, and 'N' is",
    ),
    "bad settings": (small(settings={"max_validity_ms": 0}), "settings: a value is out of its bounds"),
}


@pytest.mark.parametrize("name", UNPLAYABLE)
def test_scenario_that_means_nothing_ends_with_2_and_names_step_and_field(name: str) -> None:
    scenario, message = UNPLAYABLE[name]
    result = clob_play(scenario)
    assert result.output.startswith(f"<stdin>: {message}")
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is no JSON"),
        ("[1]", "expected `object`, got `array`"),
        ('{"markets": 1.0}', "1.0 is no integer"),
        ('{"title": "a", "title": "b"}', "title: the name stands twice in one object"),
        ("\xff", "this is no JSON"),
        ("", "it is empty"),
        ('{"name": "\\ud800"}', "a text in it is no Unicode"),
        ('{"commands": [' + "9" * 5_000 + "]}", "a number in it is far out of bounds"),
    ],
)
def test_text_that_is_no_scenario_ends_with_2(text: str, message: str) -> None:
    result = clob_play(text)
    assert f"<stdin>: {message}" in result.output
    assert result.exit_code == 2


def test_engine_that_is_not_here_ends_with_2() -> None:
    result = clob_play(small(), "--engine", "abacus")
    assert result.output.startswith("UNKNOWN_ENGINE: there is no engine 'abacus' here")
    assert result.exit_code == 2


def test_no_scenario_at_all_ends_with_2() -> None:
    assert CliRunner().invoke(main, ["play"]).exit_code == 2


# --- output -----------------------------------------------------------------------------------------------------------


def test_json_shows_numbers_with_names_beside_them() -> None:
    result = clob_play(
        small(
            {"op": "place", "id": "a1", "account": "A", "side": "SELL", "price_ticks": 100, "quantity_lots": 2},
            {"op": "place", "id": 7, "account": "B", "side": "BUY", "price_ticks": 100, "quantity_lots": 1},
        ),
        "--json",
    )
    played = json.loads(result.output)
    trade = played["trades"][0]
    assert trade["step"] == 1
    assert [trade[f"{role}_{what}"] for role in ("maker", "taker") for what in ("order_name", "account_name")] == [
        "a1",
        "A",
        "7",
        "B",
    ]
    assert trade["market_symbol"] == "BTC-USD"
    assert trade["taker_side"] == "BUY"
    assert [level["orders"][0]["order_name"] for level in played["books"]["BTC-USD"]["asks"]] == ["a1"]
    assert played["balances"]["B"] == {
        "BTC": {"free_units": 1, "locked_units": 0},
        "USD": {"free_units": 900, "locked_units": 0},
    }
    assert [event["event"] for event in played["steps"][1]["events"]] == ["BatchResult", "OrderAccepted", "Trade"]
    assert played["ok"] is True
    assert result.exit_code == 0


def test_same_scenario_gives_the_same_hashes_on_every_engine(engine: EngineFactory) -> None:
    text = (ROOT / "docs" / "examples" / "fees-and-holds.json").read_text()
    played, again = (play_scenario(read_scenario(text), factory) for factory in (engine, ENGINES["reference"]))
    assert (played.state_hash, played.chain_hash) == (again.state_hash, again.chain_hash)
    assert len(played.chain_hash) == 64


WRONG: dict[str, dict[str, Any]] = {
    "drawn": {"expect": "traded 1 @ 100"},
    "accepted": {"expect": {"accepted": False}},
    "rejected": {"expect": {"rejected": "INSUFFICIENT_FUNDS"}},
    "trades": {"expect": {"trades": [{"price_ticks": 100}]}},
    "events": {"expect": {"events": [{"event": "OrderAccepted", "quantity_lots": 2}]}},
    "book": {"expect": {"book": {"bids": [[100, 2]]}}},
    "balances": {"expect": {"balances": {"B": {"USD": 1000}}}},
    "locked": {"expect": {"balances": {"B": {"USD": {"locked_units": 99}}}}},
    "orders": {"expect": {"orders": {"B": []}}},
    "order": {"expect": {"orders": {"B": [{"order": "b", "open_lots": 2}]}}},
    "open lots": {"expect": {"open_lots": {"b": 0}}},
}
RIGHT: dict[str, Any] = {
    "accepted": True,
    "trades": [],
    "events": [{"event": "OrderAccepted", "quantity_lots": 1, "order_name": "b", "side": "BUY"}],
    "book": {"bids": [[100, 1]]},
    "balances": {"A": {}, "B": {"USD": {"free_units": 900, "locked_units": 100}, "BTC": 0}},
    "orders": {"B": ["b"], "A": []},
    "open_lots": {"b": 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_expectation_that_is_not_met_ends_with_1_and_is_shown(name: str) -> None:
    result = clob_play(small({**PLACE, "account": "B", "id": "b", **WRONG[name]}))
    assert "FAILED commands[0]" in result.output
    assert "!   0  place B buy 1 @ 100 as b" in result.output
    assert result.exit_code == 1


def test_expectation_that_is_met_ends_with_0() -> None:
    assert clob_play(small({**PLACE, "account": "B", "id": "b", "expect": RIGHT})).exit_code == 0


def test_steps_that_a_stopped_engine_did_not_take_are_a_failure() -> None:
    conflict = {"op": "deposit", "account": "A", "funds": {"USD": 1}, "sequence": 1}
    result = clob_play(small({**conflict, "expect": "stopped LINK_CONFLICT"}, PLACE))
    assert "FAILED commands[0]: the engine stopped and 1 steps were not taken" in result.output
    assert result.exit_code == 1


# --- names ------------------------------------------------------------------------------------------------------------


def test_refused_order_is_named_like_one_that_never_was(engine: EngineFactory) -> None:
    play(
        engine,
        """
        funds A 1 USD
        place A buy 1 @ 2     -> rejected INSUFFICIENT_FUNDS
        cancel a1             -> rejected UNKNOWN_ORDER
        place A buy 1 @ 1 as a1
        cancel a1             -> cancelled 1 of a1
        """,
    )


def test_order_without_an_id_is_called_by_its_number(engine: EngineFactory) -> None:
    steps: list[dict[str, Any]] = [{**PLACE, "expect": "accepted"}, {"op": "book", "expect": "bid 1 @ 100 = #1 1"}]
    assert play_scenario(scenario_of(small(*steps)), engine).failures == []


# --- drawn form -------------------------------------------------------------------------------------------------------


def test_drawn_step_reads_as_the_step_that_it_draws() -> None:
    table = """
        market BTC-USD
        place A buy 4 @ 100 ioc post_only stp none client 7 in BTC-USD as x
        place A sell 4 market @ 90
        place A sell 4 market at 5 ms
        cancel client 7 of A
        cancel order_id 9 of A
        reduce x by 2
        replace x 5 @ 101
        replace x @ 102
        cancel_all A buy in BTC-USD
        cancel_orders of A sell
        release A 100 USD
        deposit A 100 USD 2 BTC link 3
        halt in BTC-USD from 500 ms
        set_state halted
        define_market BTC-USD tick_table=1:1/100:5 lot_table=1:2 maker_fee_ppm=3
        settings max_validity_ms=1000
        sweep_fees USD
        advance 10 ms
        advance at 900 ms
        batch A nonce 7 valid 500 as b : place A buy 1 @ 100 as y ; cancel x
        resend b
        book BTC-USD
        balances A
        orders A
    """
    steps = compile_table(table).commands
    drawn = "\n".join(draw_step(step) for step in steps)
    assert [draw_step(step) for step in compile_table(drawn).commands] == drawn.splitlines()
    assert {str(step.__struct_config__.tag) for step in steps} == set(STEPS) - {"open", "post_only", "cancel_only"}


def test_details_may_be_left_out_and_clauses_may_not() -> None:
    clauses = [("accepted",), ("traded 4 @ 100", "with a1", "fees 0 + 1"), ("cancelled 2", "of b1", "self_trade")]
    assert is_drawn_as(clauses, "accepted,  traded 4 @ 100 with a1, cancelled 2 self_trade")
    assert is_drawn_as(clauses, "traded 4 @ 100 fees 0 + 1, cancelled 2")
    assert not is_drawn_as(clauses, "traded 4 @ 100")
    assert not is_drawn_as(clauses, "accepted")
    assert not is_drawn_as(clauses, "traded 4 @ 100 with a2, cancelled 2")
    assert not is_drawn_as(clauses, "cancelled 2, traded 4 @ 100")
    assert not is_drawn_as(clauses, "nothing")
    assert is_drawn_as([], "nothing")


@pytest.mark.parametrize("line", ["plaice A buy 1 @ 1", "place A buy one @ 1", "place A buy 1 @", "cancel a1 now"])
def test_line_that_cannot_be_read_says_so(line: str) -> None:
    with pytest.raises(TableError, match=re.escape(line)):
        compile_table(f"place A buy 1 @ 1\n{line}")


def test_table_that_does_not_come_out_shows_what_came_instead(engine: EngineFactory) -> None:
    with pytest.raises(TableError, match="place A buy 1 @ 1 as a1 -> accepted"):
        play(engine, "place A buy 1 @ 1 -> rejected INVALID_PRICE")

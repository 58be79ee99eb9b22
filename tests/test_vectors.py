"""The documents in tests/vectors hold for this implementation, and for every engine that it has."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from exchange.domain import limits
from exchange.domain.commands import OrderType, PlaceOrder, SelfTradePrevention, Side, TimeInForce
from exchange.domain.events import CommandRejected, Event, OrderAccepted, Trade
from exchange.domain.frames import ExecutionFrame, OrderFrame
from exchange.domain.markets import Market, MarketState
from exchange.domain.operations import Transfer
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import (
    EnvironmentNameError,
    PrivateKeyError,
    SignedKind,
    format_private_key,
    key_id_of,
    parse_private_key,
    signed_bytes,
)
from exchange.domain.state import Genesis
from exchange.domain.units import CONTROL_SHARD, PRICE_TICKS_MAX, name_of
from exchange.engine.port import EngineFactory, RawEntry
from exchange.engine.reference import control_from_checkpoint, control_from_genesis
from exchange.local.venue import Venue
from exchange.reference.signing import public_key_of, sign, verify_one
from exchange.wire.entries import check_format, parse_entry
from exchange.wire.errors import UnknownFormatError, WireError, WireReason
from exchange.wire.hashing import bus_mac, chain_hash, digest_of, genesis_hash, input_hash, state_hash
from exchange.wire.messages import CODECS, decode, encode
from tests.support.plain import from_plain, to_plain
from tests.support.raw_wire import from_runs
from tests.support.records import RECORDS
from tests.support.verdicts import verdicts
from tests.vectors import regenerate
from tests.vectors.make_replay_protection import kept_nonces

STRICT_BYTES = regenerate.load("strict_bytes.json")
SIGNED_BYTES = regenerate.load("signed_bytes.json")
HASHES = regenerate.load("hashes.json")
NUMBERS = regenerate.load("numbers.json")
LIMITS = regenerate.load("limits.json")
REPLAY_PROTECTION = regenerate.load("replay_protection.json")
EXECUTIONS = regenerate.load("executions.json")
CANNOT_SHOW = {
    "Link": {WireReason.ONEOF_MISSING, WireReason.INVALID_UTF8},
    "Registration": {WireReason.ONEOF_MISSING, WireReason.INVALID_UTF8, WireReason.OUT_OF_RANGE},
    "OrderFrame": {WireReason.ONEOF_MISSING, WireReason.INVALID_UTF8},
}
"""Messages without a oneof, without strings, or with numbers of 64 bits only."""
ALICE, BOB = 1, 2
BASE, QUOTE = 1, 2


def by_name(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    """Parametrize a test with cases that have names."""
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


# --- the documents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", regenerate.makers())
def test_documents_are_what_their_makers_make(maker: str) -> None:
    _, _, difference = regenerate.difference(maker)
    assert difference == ""


def test_a_difference_is_shown_and_written_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regenerate, "FOLDER", tmp_path)
    monkeypatch.setattr(regenerate, "makers", lambda: ["make_hashes"])
    (tmp_path / "hashes.json").write_text('{\n  "format": 0\n}\n')
    assert regenerate.main([]) == 1
    assert '-  "format": 0' in capsys.readouterr().out
    assert (tmp_path / "hashes.json").read_text() == '{\n  "format": 0\n}\n'
    assert regenerate.main(["--write"]) == 0
    assert regenerate.load("hashes.json") == HASHES
    assert regenerate.main([]) == 0
    (tmp_path / "stray.json").write_text("{}")
    assert regenerate.main([]) == 1


def test_numbers_above_2_53_are_written_as_strings() -> None:
    def numbers(value: Any) -> list[int]:
        if isinstance(value, dict):
            return numbers(list(value.values()))
        if isinstance(value, list):
            return [number for element in value for number in numbers(element)]
        return [value] if isinstance(value, int) else []

    for path in regenerate.FOLDER.glob("*.json"):
        assert all(number < 2**53 for number in numbers(regenerate.load(path.name))), path.name


# --- strict bytes ---------------------------------------------------------------------------------------------------


@by_name(STRICT_BYTES["good"])
def test_good_bytes_decode_to_their_value_and_back(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    record = decode(RECORDS[case["message"]], data)
    assert to_plain(record) == case["value"]
    assert encode(from_plain(case["message"], case["value"])) == data


def test_bad_bytes_are_refused_with_reason_field_and_offset() -> None:
    wrong = []
    for case in STRICT_BYTES["bad"]:
        with pytest.raises(WireError) as refused:
            decode(RECORDS[case["message"]], bytes.fromhex(case["hex"]))
        error = refused.value
        if (error.reason, error.field, error.offset) != (case["reason"], case["field"], case["offset"]):
            wrong.append(f"{case['name']}: {error}")
    assert wrong == []


def test_bad_bytes_show_every_reason_for_every_signed_payload_and_frame() -> None:
    shown = {(case["message"], case["reason"]) for case in STRICT_BYTES["bad"]}
    for message in ("Batch", "Operation", "Link", "Registration", "OrderFrame", "ExecutionFrame"):
        missing = {reason for reason in WireReason if (message, reason) not in shown}
        assert missing == CANNOT_SHOW.get(message, set()), message


@by_name(STRICT_BYTES["unknown_format"])
def test_another_version_stops_and_bytes_of_no_version_are_malformed(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    if case["found"] is None:
        check_format("order frame", data)
        assert not parse_entry(1, 1, data).well_formed
    else:
        with pytest.raises(UnknownFormatError) as stopped:
            parse_entry(1, 1, data)
        assert stopped.value.found == case["found"]


# --- limits ---------------------------------------------------------------------------------------------------------


def test_limits_are_the_published_ones() -> None:
    assert {name: value for name, value in vars(limits).items() if name.isupper()} == LIMITS["limits"]


@by_name(LIMITS["cases"])
def test_bytes_at_a_limit_are_taken_and_beyond_it_refused(case: dict[str, Any]) -> None:
    data = from_runs(case["runs"])
    record = RECORDS[case["message"]]
    if case["verdict"] == "good":
        assert encode(decode(record, data)) == data
    else:
        with pytest.raises(WireError) as refused:
            decode(record, data)
        found = refused.value.reason, refused.value.field, refused.value.offset
        assert found == (case["verdict"], case["field"], case["offset"])


@by_name(LIMITS["frame_commands"])
def test_a_frame_with_too_many_commands_is_malformed_as_a_whole(case: dict[str, Any]) -> None:
    data = from_runs(case["runs"])
    assert encode(decode(OrderFrame, data)) == data
    entry = parse_entry(1, 1, data)
    assert entry.well_formed is case["well_formed"]
    assert bool(entry.batches) is case["well_formed"]


# --- signed bytes and hashes ----------------------------------------------------------------------------------------


def test_signatures_cover_tag_environment_and_payload() -> None:
    assert {kind.name: kind.value.hex() for kind in SignedKind} == SIGNED_BYTES["tags"]
    for case in SIGNED_BYTES["signatures"]:
        covered = signed_bytes(SignedKind[case["kind"]], case["environment"], bytes.fromhex(case["payload"]))
        seed = bytes.fromhex(case["seed"])
        assert covered.hex() == case["covered"]
        assert sign(seed, covered).hex() == case["signature"]
        assert verify_one(public_key_of(seed), covered, bytes.fromhex(case["signature"]))


def test_a_signature_is_valid_in_its_environment_and_kind_only() -> None:
    for signed in SIGNED_BYTES["signatures"]:
        key = VerifyKey(public_key_of(bytes.fromhex(signed["seed"])))
        for other in SIGNED_BYTES["signatures"]:
            covered, signature = bytes.fromhex(other["covered"]), bytes.fromhex(signed["signature"])
            if other is signed:
                assert key.verify(covered, signature) == covered
            elif other["kind"] != signed["kind"] and other["payload"] == signed["payload"]:
                with pytest.raises(BadSignatureError):
                    key.verify(covered, signature)


@pytest.mark.parametrize("environment", SIGNED_BYTES["bad_environments"])
def test_environments_of_other_characters_or_lengths_sign_nothing(environment: str) -> None:
    with pytest.raises(EnvironmentNameError):
        signed_bytes(SignedKind.BATCH, environment, b"payload")


def test_keys_have_the_published_names() -> None:
    for case in SIGNED_BYTES["keys"]:
        seed = bytes.fromhex(case["seed"])
        assert format_private_key(seed) == case["private_key"]
        assert parse_private_key(case["private_key"]) == seed
        assert public_key_of(seed).hex() == case["public_key"]
        assert key_id_of(public_key_of(seed)).hex() == case["key_id"]


@pytest.mark.parametrize("text", SIGNED_BYTES["bad_private_keys"])
def test_other_texts_are_no_private_keys(text: str) -> None:
    with pytest.raises(PrivateKeyError):
        parse_private_key(text)


def test_signed_messages_are_signed_over_the_payload_that_they_carry() -> None:
    for case in SIGNED_BYTES["messages"]:
        message: Any = decode(RECORDS[case["message"]], bytes.fromhex(case["hex"]))
        assert to_plain(message) == case["signed"]
        assert to_plain(decode(RECORDS[case["payload_message"]], message.payload)) == case["payload"]
        covered = signed_bytes(SignedKind[case["kind"]], case["environment"], message.payload)
        assert verify_one(bytes.fromhex(case["public_key"]), covered, message.signature)


def test_hashes_are_the_published_ones() -> None:
    def raw(case: dict[str, str], name: str) -> bytes:
        return bytes.fromhex(case[name])

    def number(case: dict[str, str], name: str) -> int:
        return int(case[name])

    of: dict[str, Callable[[dict[str, str]], bytes]] = {
        "digest": lambda case: digest_of(raw(case, "payload")),
        "input": lambda case: input_hash(number(case, "n"), number(case, "t_us"), raw(case, "order_frame")),
        "chain": lambda case: chain_hash(raw(case, "execution_frame")),
        "genesis": lambda case: genesis_hash(case["environment"], number(case, "shard"), raw(case, "genesis")),
        "state": lambda case: state_hash(raw(case, "state")),
    }
    for name, hash_of in of.items():
        for case in HASHES[name]:
            assert hash_of(case).hex() == case["hash"], name
    for case in HASHES["mac"]:
        shard, counter = number(case, "shard"), number(case, "counter")
        mac = bus_mac(raw(case, "bus_key"), shard, raw(case, "ingress"), counter, raw(case, "order_frame"))
        assert mac.hex() == case["mac"]


# --- numbers --------------------------------------------------------------------------------------------------------


def integers(case: dict[str, Any]) -> dict[str, int]:
    """Return the decimal strings of a case as integers."""
    return {name: int(value) for name, value in case.items() if isinstance(value, str) and value.isdigit()}


def market_of(numbers: dict[str, int]) -> Market:
    """Return a market with those settings that a case names."""
    settings = {name: number for name, number in numbers.items() if name in Market.__struct_fields__}
    plain: dict[str, Any] = {
        "market": 1,
        "shard": 1,
        "base_asset": BASE,
        "quote_asset": QUOTE,
        "state": MarketState.OPEN,
    }
    units = {"base_units_per_lot": 1, "quote_units_per_tick_lot": 1}
    return Market(symbol="BTC-USD", **(plain | units | settings))


def order_of(side: int, price_ticks: int, quantity_lots: int, time_in_force: int = TimeInForce.GTC) -> PlaceOrder:
    return PlaceOrder(
        market=1,
        side=side,
        order_type=OrderType.LIMIT,
        time_in_force=time_in_force,
        self_trade_prevention=SelfTradePrevention.CANCEL_TAKER,
        price_ticks=price_ticks,
        quantity_lots=quantity_lots,
    )


def verdict_on(events: tuple[Event, ...]) -> Event:
    """Return what became of the only command."""
    return next(event for event in events if isinstance(event, OrderAccepted | CommandRejected))


def test_names_have_the_shard_in_12_bits_and_the_counter_in_52() -> None:
    for case in map(integers, NUMBERS["names"]):
        assert name_of(case["shard"], case["counter"]) == case["name"]


def test_orders_and_trades_are_named_after_their_shard(engine: EngineFactory) -> None:
    venue = Venue(engine, shard=4095, signed=False)
    venue.define_markets(market_of({"shard": 4095}))
    venue.credit(Transfer(ALICE, BASE, 10), Transfer(BOB, QUOTE, 10))
    venue.trade(ALICE, order_of(Side.SELL, 1, 1))
    events = venue.trade(BOB, order_of(Side.BUY, 1, 1))
    trade = next(event for event in events if isinstance(event, Trade))
    assert (trade.maker_order_id, trade.taker_order_id, trade.trade_id) == (
        4095 * 2**52 + 1,
        4095 * 2**52 + 2,
        4095 * 2**52 + 1,
    )


@pytest.mark.parametrize("way", ["hold_ioc", "hold_resting", "hold_crossing"])
@by_name(NUMBERS["holds"])
def test_an_order_needs_its_hold_and_not_a_unit_less(engine: EngineFactory, case: dict[str, Any], way: str) -> None:
    numbers = integers(case)
    asset = QUOTE if numbers["side"] == Side.BUY else BASE
    order = order_of(
        numbers["side"],
        numbers["price_ticks"],
        numbers["quantity_lots"],
        TimeInForce.IOC if way == "hold_ioc" else TimeInForce.GTC,
    )
    venue = Venue(engine, signed=False)
    venue.define_markets(market_of(numbers))
    if way == "hold_crossing":
        opposite = Side(numbers["side"]).opposite
        units = numbers["base_units_per_lot"] if opposite is Side.SELL else 2 * numbers["price_ticks"]
        venue.credit(Transfer(BOB, BASE if opposite is Side.SELL else QUOTE, units))
        assert isinstance(verdict_on(venue.trade(BOB, order_of(opposite, numbers["price_ticks"], 1))), OrderAccepted)
    if case[way] is None:
        venue.credit(Transfer(ALICE, asset, 2**63 - 1))
        refused = verdict_on(venue.trade(ALICE, order))
        assert isinstance(refused, CommandRejected)
        assert refused.reason == RejectReason.AMOUNT_TOO_LARGE
        return
    if numbers[way] > 1:
        venue.credit(Transfer(ALICE, asset, numbers[way] - 1))
    short = verdict_on(venue.trade(ALICE, order))
    assert isinstance(short, CommandRejected)
    assert short.reason == RejectReason.INSUFFICIENT_FUNDS
    assert (short.required_units, short.available_units) == (numbers[way], numbers[way] - 1)
    venue.credit(Transfer(ALICE, asset, 1))
    assert isinstance(verdict_on(venue.trade(ALICE, order)), OrderAccepted)
    if way == "hold_resting":
        assert venue.engine.balances(ALICE)[asset][1] == numbers["locked_resting"]


@pytest.mark.parametrize("role", ["maker", "taker"])
@by_name(NUMBERS["fees"])
def test_fees_of_an_order_add_up_to_its_notional_times_the_rate_rounded_up_once(
    engine: EngineFactory, case: dict[str, Any], role: str
) -> None:
    numbers = integers(case)
    price, fills = numbers["price_ticks"], [int(lots) for lots in case["fills_lots"]]
    venue = Venue(engine, signed=False)
    venue.define_markets(market_of(numbers | {f"{role}_fee_ppm": numbers["fee_ppm"]}))
    venue.credit(Transfer(ALICE, BASE, 2**62), Transfer(BOB, QUOTE, 2**63 - 1))
    whole = order_of(Side.BUY, price, sum(fills))
    parts = [order_of(Side.SELL, price, lots) for lots in fills]
    events: list[Event] = []
    if role == "maker":
        events += venue.trade(BOB, whole)
        for part in parts:
            events += venue.trade(ALICE, part)
    else:
        for part in parts:
            events += venue.trade(ALICE, part)
        events += venue.trade(BOB, whole)
    trades = [event for event in events if isinstance(event, Trade)]
    assert [trade.quantity_lots for trade in trades] == fills
    fees = [trade.maker_fee_quote_units if role == "maker" else trade.taker_fee_quote_units for trade in trades]
    assert fees == [int(fee) for fee in case["fees_quote_units"]]


@pytest.mark.parametrize("case", NUMBERS["bands"], ids=lambda case: f"{case['band_ppm']}-ppm")
def test_a_band_ends_at_its_edges(engine: EngineFactory, case: dict[str, Any]) -> None:
    numbers = integers(case)
    venue = Venue(engine, signed=False)
    venue.define_markets(market_of({}))
    venue.credit(Transfer(ALICE, BASE, 10), Transfer(BOB, QUOTE, 2**63 - 1))
    venue.trade(ALICE, order_of(Side.SELL, numbers["last_price_ticks"], 1))
    venue.trade(BOB, order_of(Side.BUY, numbers["last_price_ticks"], 1))
    venue.define_markets(market_of(numbers))
    for price, inside in (
        (numbers["lowest_ticks"] - 1, False),
        (numbers["lowest_ticks"], True),
        (numbers["highest_ticks"], True),
        (numbers["highest_ticks"] + 1, False),
    ):
        event = verdict_on(venue.trade(BOB, order_of(Side.BUY, price, 1, TimeInForce.IOC)))
        if inside:
            assert isinstance(event, OrderAccepted)
        else:
            assert isinstance(event, CommandRejected)
            no_price = price == 0 or price > PRICE_TICKS_MAX
            expected = RejectReason.INVALID_PRICE if no_price else RejectReason.PRICE_OUTSIDE_BAND
            assert event.reason == expected


# --- logs -----------------------------------------------------------------------------------------------------------


@by_name(REPLAY_PROTECTION["sequences"])
def test_batches_that_come_again_get_the_published_verdicts(engine: EngineFactory, case: dict[str, Any]) -> None:
    shard = engine.from_genesis(bytes.fromhex(case["genesis"]))
    for entry in case["entries"]:
        frame = shard.apply([raw_entry(entry)])[0]
        expected = [
            {name: value for name, value in batch.items() if name.startswith(("verdict", "repeat"))}
            for batch in entry["batches"]
        ]
        assert verdicts(frame) == expected
        live = [(bytes.fromhex(nonce["key_id"]), int(nonce["nonce"])) for nonce in entry["live_nonces"]]
        assert kept_nonces(shard.checkpoint()) == live


def raw_entry(entry: dict[str, Any]) -> RawEntry:
    return RawEntry(int(entry["n"]), int(entry["t_us"]), bytes.fromhex(entry["order_frame"]))


@dataclasses.dataclass(frozen=True)
class Loaders:
    """How an engine comes into being from bytes."""

    from_genesis: Callable[[bytes], Any]
    from_checkpoint: Callable[[bytes], Any]


def loaders_of(case: dict[str, Any], engine: EngineFactory) -> Loaders:
    """Return the engine's, or those of the control engine for the log of shard 0."""
    if decode(Genesis, bytes.fromhex(case["genesis"])).shard == CONTROL_SHARD:
        return Loaders(control_from_genesis, control_from_checkpoint)
    return Loaders(engine.from_genesis, engine.from_checkpoint)


@by_name(EXECUTIONS["logs"])
def test_logs_replay_to_equal_bytes(engine: EngineFactory, case: dict[str, Any]) -> None:
    shard = loaders_of(case, engine).from_genesis(bytes.fromhex(case["genesis"]))
    frames = shard.apply([raw_entry(entry) for entry in case["entries"]])
    assert [frame.hex() for frame in frames] == [entry["execution_frame"] for entry in case["entries"]]
    assert shard.chain_hash.hex() == case["chain_hash"]
    assert shard.state_hash().hex() == case["state_hash"]
    assert shard.checkpoint().hex() == case["checkpoint"]


@by_name([case for case in EXECUTIONS["logs"] if case["name"] != "long-commands"])
def test_logs_replay_to_equal_bytes_from_every_checkpoint(engine: EngineFactory, case: dict[str, Any]) -> None:
    loaders = loaders_of(case, engine)
    shard = loaders.from_genesis(bytes.fromhex(case["genesis"]))
    for entry in case["entries"]:
        shard = loaders.from_checkpoint(shard.checkpoint())
        assert shard.apply([raw_entry(entry)])[0].hex() == entry["execution_frame"]
    assert shard.checkpoint().hex() == case["checkpoint"]


def test_every_command_action_and_event_of_the_contracts_is_in_a_log() -> None:
    seen: set[str] = set()
    for case in EXECUTIONS["logs"]:
        for entry in case["entries"]:
            parsed = parse_entry(*raw_entry(entry))
            batches = [batch.batch for batch in parsed.batches if batch.batch]
            operations = [operation.operation for operation in parsed.operations if operation.operation]
            seen |= {type(command).__name__ for batch in batches for command in batch.commands}
            seen |= {type(action).__name__ for operation in operations for action in operation.actions}
            answer = decode(ExecutionFrame, bytes.fromhex(entry["execution_frame"]))
            seen |= {type(event).__name__ for event in answer.events}
    oneofs = [CODECS[name] for name in ("Command", "OperatorAction", "Event")]
    members = {field.sub.name for codec in oneofs for field in codec.fields if field.sub}
    # Rules are raised only to a version that the engine knows, and there is one.
    assert members - seen == {"RaiseRules", "RulesRaised"}

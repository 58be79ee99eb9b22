"""Makes strict_bytes.json: canonical encodings, and bytes that break each rule of ARCHITECTURE.md, "Strict bytes".

Bad bytes are put together by hand, and what is wrong with them, and where, is stated by hand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from google.protobuf.message import Message

from clob.v1 import batch_pb2, event_pb2, operation_pb2
from exchange.domain.commands import (
    AllocateFunds,
    Batch,
    CancelAllOrders,
    CancelOrder,
    PlaceOrder,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    RequestWithdrawal,
    SignedBatch,
)
from exchange.domain.control import (
    ControlRequest,
    OpenAccount,
    RegisterKey,
    Registration,
    RevokeKey,
    SignedRegistration,
)
from exchange.domain.events import (
    AccountOpened,
    BatchResult,
    CommandRejected,
    MarketDefined,
    OrderAccepted,
    OrderCancelled,
    Trade,
    WithdrawalRequested,
)
from exchange.domain.frames import ExecutionFrame, OrderFrame
from exchange.domain.markets import DEFAULT_SETTINGS, Asset, LotRule, Market, TickRule
from exchange.domain.operations import (
    CancelOrders,
    CloseWithdrawal,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    Link,
    Operation,
    PayOutFees,
    RaiseControlFloor,
    RaiseRules,
    RotateOperatorKey,
    SetMarketState,
    SetShardSettings,
    SignedLink,
    SignedOperation,
    SweepFees,
    Transfer,
)
from exchange.domain.record import Record
from exchange.domain.state import UserState
from exchange.wire.messages import encode
from tests.support.plain import ENCODING, to_plain
from tests.support.raw_wire import (
    EMPTY,
    END_GROUP,
    FIXED32,
    FIXED64,
    LENGTH,
    START_GROUP,
    U64_MAX,
    VARINT,
    Raw,
    join,
    marked,
    scalar,
    sized,
    tag,
    varint,
)

KEY_ID, HASH, PUBLIC_KEY, SIGNATURE = bytes(range(16)), bytes(range(32)), bytes(range(64, 96)), bytes(range(128, 192))
REQUEST_ID, INGRESS = bytes(range(16, 32)), bytes(range(32, 48))
TIME_US: Final = 1_700_000_000_000_000
TIME_US_MAX: Final = 2**53 - 1
TYPE_MAX: Final = {"uint32": 2**32 - 1, "uint64": U64_MAX, "enum": 2**31 - 1, "bool": 1}


def vectors() -> dict[str, Any]:
    """Return the document."""
    good, bad = [*_good()], [*_bad()]
    for cases in (good, bad):
        names = [case["name"] for case in cases]
        assert len(set(names)) == len(names), "two cases have one name"
    return {
        "format": 1,
        "what": "Bytes that a strict decoder takes for a message, and bytes that it refuses.",
        "rule": (
            "ARCHITECTURE.md, Strict bytes: a payload is valid only if it equals the canonical encoding of what it "
            "decodes to. Bytes are read from first to last, and the first broken rule is the reason; that a field is "
            "missing shows where its message ends. `offset` is that of the field that breaks the rule; of a field that "
            "is missing, that of the field that holds its message, 0 for the outermost. `field` is the path of the "
            "field, or of its message where no field is known."
        ),
        "encoding": ENCODING,
        "good": good,
        "bad": bad,
        "unknown_format": [*_unknown_format()],
    }


# --- good -----------------------------------------------------------------------------------------------------------

MARKET = Market(
    market=2**32 - 1,
    shard=4095,
    symbol="BTC-USD",
    base_asset=1,
    quote_asset=2,
    base_units_per_lot=10**4,
    quote_units_per_tick_lot=10**6,
    tick_table=(TickRule(1, 1), TickRule(1000, 5)),
    lot_table=(LotRule(1, 10),),
    band_low_ticks=1,
    band_high_ticks=2**53 - 1,
    band_ppm=100_000,
    maker_fee_ppm=100,
    taker_fee_ppm=250,
    state=1,
)
PLACE = PlaceOrder(3, 1, 1, 1, True, 4, 2**53 - 1, 25, U64_MAX)
REGISTER = RegisterKey(SignedRegistration(encode(Registration(PUBLIC_KEY, 5, 6)), SIGNATURE))
COMMANDS = (
    PLACE,
    PlaceOrder(market=1, side=2, order_type=2, quantity_lots=1),
    CancelOrder(order_id=1 << 52 | 1),
    ReduceOrder(client_order_id=7, quantity_lots=2),
    ReplaceOrder(order_id=1 << 52 | 1, price_ticks=100, quantity_lots=3),
    CancelAllOrders(),
    CancelAllOrders(market=1, side=2),
    ReleaseFunds(1, 2**63 - 1),
    AllocateFunds(1, 5, 4095),
    RequestWithdrawal(1, 5, "Konto 1 · π"),
    REGISTER,
    RevokeKey(KEY_ID),
    OpenAccount(9),
)
ACTIONS = (
    DefineMarket(MARKET),
    SetMarketState(1, 4, TIME_US),
    CancelOrders(7, 1, 2),
    SetShardSettings(DEFAULT_SETTINGS),
    RaiseControlFloor(12),
    RaiseRules(2),
    RotateOperatorKey(PUBLIC_KEY),
    SweepFees(2),
    DefineAsset(Asset(1, "BTC", 8)),
    DefineShard(1, "s1"),
    Deposit(7, 1, 100, 2, 1),
    CloseWithdrawal(1, True),
    REGISTER,
    RevokeKey(KEY_ID),
    OpenAccount(9),
    PayOutFees(7, 2, 5),
)
EVENTS = (
    BatchResult(1),
    OrderAccepted(1, 7, 1, 3, 1, 1 << 52 | 1, 9, 1, 1, 1, False, 100, 5),
    CommandRejected(2, 7, 2, 40, 3, 0, 0, 100, 99, 2),
    Trade(3, 2, 1 << 52 | 1, 100, 5, 1, 1 << 52 | 2, 1 << 52 | 1, 8, 4, 7, 3, 1, 2),
    OrderCancelled(3, 7, 4, 3, 3, 1 << 52 | 1, 5, 1),
    MarketDefined(MARKET, 1),
    AccountOpened(1, 2, 3),
    WithdrawalRequested(1, 1, 7, 5, 1, 5, "Konto 1 · π"),
)
BATCH = Batch(7, 1, 9, 1_700_000_030_000, (PLACE,))
SIGNED_BATCH = SignedBatch(KEY_ID, encode(BATCH), SIGNATURE)
LINK = Link(0, 1, 1, 17, (Transfer(7, 1, 5), Transfer(0, 2, 2**63 - 1)))
OPERATION = Operation(1, 2, 1, ACTIONS)


def _good() -> Iterator[dict[str, Any]]:
    for name, record in (
        ("least", Batch(1, 0, 0, 1, (CancelAllOrders(),))),
        ("most", Batch(U64_MAX, 4095, U64_MAX, TIME_US_MAX, COMMANDS)),
        ("numbers-of-enums-that-do-not-exist-pass", Batch(1, 1, 1, 1, (PlaceOrder(1, 99, 2**31 - 1, 7),))),
        ("same-command-twice", Batch(1, 1, 1, 1, (CancelOrder(5), CancelOrder(5)))),
    ):
        yield _accepted(name, record)
    yield _accepted("least", Operation(sequence=1, actions=(SweepFees(),)))
    yield _accepted("every-action", OPERATION)
    yield _accepted("with-request-id", Operation(0, 1, U64_MAX, (Deposit(7, 1, 100, 3),), REQUEST_ID))
    yield _accepted("least", Link(sequence=1, source_n=1, transfers=(Transfer(amount_units=1),)))
    yield _accepted("two-transfers", LINK)
    yield _accepted("new-user", Registration(PUBLIC_KEY))
    yield _accepted("one-account", Registration(PUBLIC_KEY, U64_MAX, U64_MAX))
    yield _accepted("empty", OrderFrame(format=1, ingress=INGRESS, counter=1, ingress_time_us=1))
    yield _accepted(
        "everything",
        OrderFrame(
            1,
            INGRESS,
            U64_MAX,
            TIME_US_MAX,
            17,
            (SIGNED_BATCH, SignedBatch(KEY_ID, b"\xff", SIGNATURE)),
            (SignedLink(encode(LINK), SIGNATURE),),
            (SignedOperation(encode(OPERATION), SIGNATURE),),
            (ControlRequest(REQUEST_ID, REGISTER),),
        ),
    )
    yield _accepted("empty", ExecutionFrame(format=1, n=1, previous_hash=HASH, input_hash=HASH))
    yield _accepted("events", ExecutionFrame(1, 2, TIME_US, 1, HASH, HASH, EVENTS))
    yield _accepted("packed", UserState(1, (0, 1, U64_MAX)))


def _accepted(name: str, record: Record) -> dict[str, Any]:
    message = type(record).__name__
    return {
        "name": f"{message}/{name}",
        "message": message,
        "hex": encode(record).hex(),
        "value": to_plain(record),
    }


# --- bad ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """A field of a message with a value that it may have.

    Attributes:
        kind: a type of TYPE_MAX, or bytes, string, message or list (of messages).
        value: number, or content.
        outside: values beyond the bounds of LIMITS.
        required: the field may not be left out, and is reported with this reason.
        missing: path of what is then reported, below the message.
    """

    name: str
    number: int
    kind: str
    value: int | bytes
    outside: tuple[int | bytes, ...] = ()
    required: str = ""
    missing: str = ""

    def raw(self, value: int | bytes | None = None, spare_bytes: int = 0) -> Raw:
        """Return the field with its value or another."""
        shown = self.value if value is None else value
        if isinstance(shown, int):
            return scalar(self.number, shown, spare_bytes)
        return sized(self.number, shown, length=varint(len(shown), spare_bytes))


@dataclass(frozen=True, slots=True)
class Level:
    """The field in which a message stands, between the fields around it."""

    number: int
    before: Raw = EMPTY


@dataclass(frozen=True, slots=True)
class Target:
    """A message to spoil, and the messages around it, outermost first."""

    message: str
    path: str
    parts: tuple[Part, ...]
    levels: tuple[Level, ...] = field(default=())

    def embed(self, raw: Raw) -> Raw:
        """Return the outermost message with these bytes as the innermost."""
        for level in reversed(self.levels):
            raw = level.before + sized(level.number, raw)
        return raw

    def embed_lacking(self, raw: Raw) -> Raw:
        """Return the same, marked where the innermost message is held: what it lacks has no place of its own."""
        if not self.levels:
            return marked(raw)
        innermost = self.levels[-1]
        held = innermost.before + marked(sized(innermost.number, raw))
        return Target(self.message, "", (), self.levels[:-1]).embed(held)

    def case(self, name: str, reason: str, field_name: str, raw: Raw) -> dict[str, Any]:
        """Return a bad case; `field_name` is empty where the message itself is at fault."""
        assert raw.mark is not None, name
        path = ".".join(part for part in (self.path, field_name) if part)
        return {
            "name": f"{self.message}/{f'{self.path}/' if self.path else ''}{name}",
            "message": self.message,
            "hex": raw.data.hex(),
            "reason": reason,
            "field": path or self.message,
            "offset": raw.mark,
        }


def _raws(parts: Sequence[Part]) -> Raw:
    return join(*(part.raw() for part in parts))


def _number(name: str, number: int, kind: str, value: int, *outside: int, required: bool = False) -> Part:
    return Part(name, number, kind, value, outside, "OUT_OF_RANGE" if required else "")


def _bytes(name: str, number: int, value: bytes, *outside: bytes, required: bool = True) -> Part:
    return Part(name, number, "bytes", value, outside, "LENGTH" if required else "")


def _exactly(name: str, number: int, value: bytes, *, required: bool = True) -> Part:
    return _bytes(name, number, value, value[:-1], value + b"\0", required=required)


def _list(name: str, number: int, element: bytes, *, required: bool = False) -> Part:
    return Part(name, number, "list", element, (), "LENGTH" if required else "")


PLACE_PARTS = (
    _number("market", 1, "uint32", 3),
    _number("side", 2, "enum", 1),
    _number("post_only", 5, "bool", 1),
    _number("price_ticks", 7, "uint64", 2**53 - 1),
)
ONE_COMMAND = sized(1, _raws(PLACE_PARTS)).data
BATCH_PARTS = (
    _number("account", 1, "uint64", 7, required=True),
    _number("shard", 2, "uint32", 1, 4096),
    _number("nonce", 3, "uint64", 9),
    _number("valid_until_ms", 4, "uint64", 1_700_000_030_000, TIME_US_MAX + 1, required=True),
    _list("commands", 5, ONE_COMMAND, required=True),
)
IN_COMMAND = Level(5, _raws(BATCH_PARTS[:-1]))
SIGNED_REGISTRATION_PARTS = (_bytes("payload", 1, b"\x01", bytes(257)), _exactly("signature", 2, SIGNATURE))
MARKET_PARTS = (
    _number("market", 1, "uint32", 1),
    Part("symbol", 3, "string", b"BTC-USD"),
    _list("tick_table", 8, (scalar(1, 1) + scalar(2, 5)).data),
    _number("state", 15, "enum", 1),
)
OPERATION_PARTS = (
    _number("shard", 1, "uint32", 1, 4096),
    _number("role", 2, "enum", 2),
    _number("sequence", 3, "uint64", 1, required=True),
    _list("actions", 4, sized(6, scalar(1, 2)).data, required=True),
    _exactly("request_id", 5, REQUEST_ID, required=False),
)
TRANSFER_PARTS = (
    _number("account", 1, "uint64", 7),
    _number("asset", 2, "uint32", 1),
    _number("amount_units", 3, "uint64", 5, 2**63, required=True),
)
LINK_PARTS = (
    _number("from_shard", 1, "uint32", 2, 4096),
    _number("to_shard", 2, "uint32", 1, 4096),
    _number("sequence", 3, "uint64", 1, required=True),
    _number("source_n", 4, "uint64", 17, TIME_US_MAX + 1, required=True),
    _list("transfers", 5, _raws(TRANSFER_PARTS).data, required=True),
)
REGISTRATION_PARTS = (
    _exactly("public_key", 1, PUBLIC_KEY),
    _number("user", 2, "uint64", 5),
    _number("account", 3, "uint64", 6),
)
SIGNED_BATCH_PARTS = (
    _exactly("key_id", 1, KEY_ID),
    _bytes("payload", 2, b"\x01"),
    _exactly("signature", 3, SIGNATURE),
)
ORDER_FRAME_PARTS = (
    _number("format", 1, "uint32", 1, 2, required=True),
    _exactly("ingress", 2, INGRESS),
    _number("counter", 3, "uint64", 4, required=True),
    _number("ingress_time_us", 4, "uint64", TIME_US, TIME_US_MAX + 1, required=True),
    _number("control_n", 5, "uint64", 17),
    _list("batches", 6, _raws(SIGNED_BATCH_PARTS).data),
)
CONTROL_REQUEST_PARTS = (
    _exactly("request_id", 1, REQUEST_ID),
    Part(
        "register_key",
        2,
        "message",
        sized(1, _raws(SIGNED_REGISTRATION_PARTS)).data,
        (),
        "LENGTH",
        "register_key.registration.payload",
    ),
)
TRADE_PARTS = (
    _number("market", 1, "uint32", 3),
    _number("market_seq", 2, "uint64", 2),
    _number("taker_side", 6, "enum", 1),
)
EXECUTION_FRAME_PARTS = (
    _number("format", 1, "uint32", 1, 2, required=True),
    _number("n", 2, "uint64", 2, required=True),
    _number("t_us", 3, "uint64", TIME_US, TIME_US_MAX + 1),
    _number("rules", 4, "uint32", 1),
    _exactly("previous_hash", 5, HASH),
    _exactly("input_hash", 6, HASH),
    _list("events", 7, sized(8, _raws(TRADE_PARTS)).data),
)
IN_EVENT = Level(7, _raws(EXECUTION_FRAME_PARTS[:-1]))

MESSAGES: Final = (
    Target("Batch", "", BATCH_PARTS),
    Target("Batch", "commands[0].place", PLACE_PARTS, (IN_COMMAND, Level(1))),
    Target(
        "Batch",
        "commands[0].withdraw",
        (
            _number("asset", 1, "uint32", 1),
            Part("destination", 3, "string", "Konto 1 · π".encode()),
        ),
        (IN_COMMAND, Level(8)),
    ),
    Target(
        "Batch",
        "commands[0].register_key.registration",
        SIGNED_REGISTRATION_PARTS,
        (IN_COMMAND, Level(9), Level(1)),
    ),
    Target("Operation", "", OPERATION_PARTS),
    Target(
        "Operation",
        "actions[0].define_market.market",
        MARKET_PARTS,
        (Level(4, _raws(OPERATION_PARTS[:3])), Level(1), Level(1)),
    ),
    Target(
        "Operation",
        "actions[0].define_market",
        (Part("market", 1, "message", _raws(MARKET_PARTS).data),),
        (Level(4, _raws(OPERATION_PARTS[:3])), Level(1)),
    ),
    Target(
        "Operation",
        "actions[0].close_withdrawal",
        (_number("withdrawal", 1, "uint64", 5), _number("paid", 2, "bool", 1)),
        (Level(4, _raws(OPERATION_PARTS[:3])), Level(12)),
    ),
    Target("Link", "", LINK_PARTS),
    Target("Link", "transfers[0]", TRANSFER_PARTS, (Level(5, _raws(LINK_PARTS[:-1])),)),
    Target("Registration", "", REGISTRATION_PARTS),
    Target("OrderFrame", "", ORDER_FRAME_PARTS),
    Target("OrderFrame", "batches[0]", SIGNED_BATCH_PARTS, (Level(6, _raws(ORDER_FRAME_PARTS[:-1])),)),
    Target("OrderFrame", "requests[0]", CONTROL_REQUEST_PARTS, (Level(9, _raws(ORDER_FRAME_PARTS[:-1])),)),
    Target("ExecutionFrame", "", EXECUTION_FRAME_PARTS),
    Target("ExecutionFrame", "events[0].trade", TRADE_PARTS, (IN_EVENT, Level(8))),
    Target(
        "ExecutionFrame",
        "events[0].asset_defined",
        (Part("asset", 1, "message", (scalar(1, 1) + sized(2, b"BTC")).data),),
        (IN_EVENT, Level(25)),
    ),
    Target(
        "ExecutionFrame",
        "events[0].withdrawal_requested",
        (_number("command", 1, "uint32", 1), Part("destination", 7, "string", "Konto 1 · π".encode())),
        (IN_EVENT, Level(32)),
    ),
)
ONEOFS: Final = (
    Target("Batch", "commands[0]", (), (IN_COMMAND,)),
    Target("Operation", "actions[0]", (), (Level(4, _raws(OPERATION_PARTS[:3])),)),
    Target("ExecutionFrame", "events[0]", (), (IN_EVENT,)),
)


def _ends(oneof: type[Message]) -> tuple[str, str, int]:
    """Return the names of the first and the last member of a oneof, and the number of the last."""
    members = sorted((field.number, field.name) for field in oneof.DESCRIPTOR.fields)
    return members[0][1], members[-1][1], members[-1][0]


ONEOF_ENDS: Final = {
    "Batch": _ends(batch_pb2.Command),
    "Operation": _ends(operation_pb2.OperatorAction),
    "ExecutionFrame": _ends(event_pb2.Event),
}


def _bad() -> Iterator[dict[str, Any]]:
    shown: set[tuple[str, str]] = set()
    for target in MESSAGES:
        yield from _spoiled_message(target)
        for place, part in enumerate(target.parts):
            if (target.message, part.kind) not in shown:
                yield from _spoiled_field(target, place)
            shown.add((target.message, part.kind))
            yield from _out_of_bounds(target, place)
    for target in ONEOFS:
        yield from _spoiled_oneof(target)
    yield from _later_elements()
    yield from _spoiled_packed()


def _spoiled_message(target: Target) -> Iterator[dict[str, Any]]:
    """Break what concerns the fields of a message together."""
    parts, whole = target.parts, _raws(target.parts)
    unknown = max(part.number for part in parts) + 1000

    def case(name: str, reason: str, field_name: str, bad: Raw) -> dict[str, Any]:
        return target.case(name, reason, field_name, target.embed(whole + marked(bad)))

    yield case("unknown-field", "UNKNOWN_FIELD", f"{unknown}", scalar(unknown, 1))
    yield case("unknown-field-with-bytes", "UNKNOWN_FIELD", f"{unknown}", sized(unknown, b"x"))
    yield case("field-zero", "UNKNOWN_FIELD", "0", scalar(0, 1))
    yield case("unknown-group", "UNKNOWN_FIELD", f"{unknown}", Raw(tag(unknown, START_GROUP) + tag(unknown, END_GROUP)))
    yield case("zero-byte-at-the-end", "UNKNOWN_FIELD", "0", Raw(b"\0"))
    yield case("truncated-tag", "TRUNCATED", "", Raw(b"\x80"))
    yield case("tag-of-65-bits", "VARINT_TOO_LONG", "", Raw(varint(2**64)))
    yield case("tag-of-11-bytes", "VARINT_TOO_LONG", "", Raw(varint(8, 10) + b"\1"))
    last = parts[-1]
    wire_type = VARINT if isinstance(last.value, int) else LENGTH
    yield target.case(
        "tag-not-minimal",
        "VARINT_NOT_MINIMAL",
        "",
        target.embed(
            _raws(parts[:-1])
            + marked(Raw(tag(last.number, wire_type, 1)) + Raw(last.raw().data[len(tag(last.number, 0)) :]))
        ),
    )
    for earlier, later in pairwise(parts):
        swapped = _raws(parts[: parts.index(earlier)]) + later.raw() + marked(earlier.raw())
        name = f"{later.name}-before-{earlier.name}"
        yield target.case(name, "FIELD_ORDER", earlier.name, target.embed(swapped))
    for part in parts:
        if part.required:
            rest = _raws([other for other in parts if other is not part])
            lacking = target.embed_lacking(rest)
            yield target.case(f"no-{part.name}", part.required, part.missing or part.name, lacking)


def _spoiled_field(target: Target, place: int) -> Iterator[dict[str, Any]]:
    """Break what concerns one field, as far as it depends on the field's type."""
    part = target.parts[place]
    before, after = _raws(target.parts[:place]), _raws(target.parts[place + 1 :])

    def case(name: str, reason: str, bad: Raw, rest: Raw = after) -> dict[str, Any]:
        return target.case(f"{part.kind}-{name}", reason, part.name, target.embed(before + marked(bad) + rest))

    number = part.number
    is_number = isinstance(part.value, int)
    other = sized(number, b"\1") if is_number else scalar(number, 1)
    yield case("as-other-wire-type", "WRONG_WIRE_TYPE", other)
    yield case("as-fixed64", "WRONG_WIRE_TYPE", Raw(tag(number, FIXED64) + bytes(8)))
    yield case("as-fixed32", "WRONG_WIRE_TYPE", Raw(tag(number, FIXED32) + bytes(4)))
    yield case("as-group", "WRONG_WIRE_TYPE", Raw(tag(number, START_GROUP) + tag(number, END_GROUP)))
    yield case("wire-type-6", "WRONG_WIRE_TYPE", Raw(tag(number, 6)))
    if part.kind != "list":
        yield target.case(
            f"{part.kind}-twice",
            "FIELD_REPEATED",
            part.name,
            target.embed(before + part.raw() + marked(part.raw()) + after),
        )
        yield case("default", "DEFAULT_ENCODED", part.raw(0 if is_number else b""))
    yield case("not-minimal", "VARINT_NOT_MINIMAL", part.raw(spare_bytes=1))
    head = tag(number, VARINT if is_number else LENGTH)
    yield case("of-65-bits", "VARINT_TOO_LONG", Raw(head + varint(2**64)))
    yield case("of-11-bytes", "VARINT_TOO_LONG", Raw(head + varint(1, 10) + b"\1"))
    yield case("truncated-after-tag", "TRUNCATED", Raw(head), EMPTY)
    yield case("truncated-in-varint", "TRUNCATED", Raw(head + b"\x81"), EMPTY)
    if is_number:
        most = TYPE_MAX[part.kind]
        if most < U64_MAX:
            yield case("above-its-type", "OUT_OF_RANGE", part.raw(most + 1))
        if part.kind == "enum":
            yield case("negative", "OUT_OF_RANGE", part.raw(U64_MAX))
    else:
        assert isinstance(part.value, bytes)
        yield case("truncated-by-one", "TRUNCATED", Raw(part.raw().data[:-1]), EMPTY)
        yield case("length-of-2^64-1", "TRUNCATED", Raw(head + varint(U64_MAX)), EMPTY)
        yield case("length-of-2^31", "TRUNCATED", Raw(head + varint(2**31)), EMPTY)
    if part.kind == "string":
        for name, text in (
            ("lone-continuation", b"\x80"),
            ("overlong", b"\xc0\xaf"),
            ("surrogate", b"\xed\xa0\x80"),
            ("above-unicode", b"\xf4\x90\x80\x80"),
            ("cut-short", b"\xe2\x82"),
        ):
            yield case(name, "INVALID_UTF8", part.raw(text))


def _out_of_bounds(target: Target, place: int) -> Iterator[dict[str, Any]]:
    part = target.parts[place]
    before, after = _raws(target.parts[:place]), _raws(target.parts[place + 1 :])
    for value in part.outside:
        spoiled = target.embed(before + marked(part.raw(value)) + after)
        if isinstance(value, int):
            yield target.case(f"{part.name}-is-{value}", "OUT_OF_RANGE", part.name, spoiled)
        else:
            yield target.case(f"{part.name}-of-{len(value)}-bytes", "LENGTH", part.name, spoiled)


def _spoiled_oneof(target: Target) -> Iterator[dict[str, Any]]:
    first, last, last_number = ONEOF_ENDS[target.message]
    one = sized(1, b"")

    def case(name: str, reason: str, field_name: str, raw: Raw) -> dict[str, Any]:
        return target.case(name, reason, field_name, target.embed(raw))

    yield target.case("oneof-missing", "ONEOF_MISSING", "", target.embed_lacking(EMPTY))
    yield case("unknown-member", "UNKNOWN_FIELD", f"{last_number + 1}", marked(sized(last_number + 1, b"")))
    yield case("member-zero", "UNKNOWN_FIELD", "0", marked(sized(0, b"")))
    yield case("member-as-number", "WRONG_WIRE_TYPE", first, marked(scalar(1, 1)))
    yield case("member-as-group", "WRONG_WIRE_TYPE", first, marked(Raw(tag(1, START_GROUP) + tag(1, END_GROUP))))
    if target.message == "ExecutionFrame":
        one = sized(1, scalar(1, 1))
    yield case("two-members", "FIELD_REPEATED", last, one + marked(sized(last_number, b"")))
    yield case("one-member-twice", "FIELD_REPEATED", first, one + marked(one))
    yield case("members-descending", "FIELD_REPEATED", first, sized(last_number, b"") + marked(one))
    yield case("unknown-after-member", "UNKNOWN_FIELD", "200", one + marked(scalar(200, 1)))
    yield case("truncated-after-member", "TRUNCATED", "", one + marked(Raw(b"\x80")))
    yield case("member-not-minimal", "VARINT_NOT_MINIMAL", "", marked(Raw(tag(1, LENGTH, 1) + b"\0")))
    yield case("member-length-not-minimal", "VARINT_NOT_MINIMAL", first, marked(sized(1, b"", length=varint(0, 1))))
    yield case("member-truncated", "TRUNCATED", first, marked(sized(1, b"", length=varint(1))))
    yield case("member-without-length", "TRUNCATED", first, marked(Raw(tag(1, LENGTH))))


def _later_elements() -> Iterator[dict[str, Any]]:
    """Break an element of a list that is not the first: its place stands in the path."""
    head = _raws(BATCH_PARTS[:-1])
    good = sized(5, ONE_COMMAND)
    batch = Target("Batch", "commands[2].place", ())
    bad = sized(5, sized(1, scalar(1, 3) + marked(scalar(2, 0))))
    yield batch.case("default-in-third-command", "DEFAULT_ENCODED", "side", head + good + good + bad)
    batch = Target("Batch", "commands[1]", ())
    yield batch.case("empty-second-command", "ONEOF_MISSING", "", head + good + marked(sized(5, b"")))
    frame = Target("OrderFrame", "batches[1]", ())
    short = sized(6, _raws(SIGNED_BATCH_PARTS[:2]))
    whole = _raws(ORDER_FRAME_PARTS)
    yield frame.case("second-batch-not-signed", "LENGTH", "signature", whole + marked(short))
    frame = Target("OrderFrame", "batches[0]", ())
    empty = _raws(ORDER_FRAME_PARTS[:-1]) + marked(sized(6, b""))
    yield frame.case("empty-batch", "LENGTH", "key_id", empty)


def _spoiled_packed() -> Iterator[dict[str, Any]]:
    """Break a packed list. None is in a signed payload or a frame; this one is in the state of shard 0."""
    target = Target("UserState", "", ())

    def case(name: str, reason: str, bad: Raw, before: Raw = EMPTY) -> dict[str, Any]:
        return target.case(name, reason, "accounts", scalar(1, 1) + before + marked(bad))

    packed = sized(2, b"\1\2")
    yield case("not-packed", "WRONG_WIRE_TYPE", scalar(2, 1))
    yield case("packed-twice", "FIELD_REPEATED", packed, packed)
    yield case("packed-but-empty", "DEFAULT_ENCODED", sized(2, b""))
    yield case("element-not-minimal", "VARINT_NOT_MINIMAL", sized(2, b"\1" + varint(1, 1)))
    yield case("element-of-65-bits", "VARINT_TOO_LONG", sized(2, varint(2**64)))
    yield case("element-of-11-bytes", "VARINT_TOO_LONG", sized(2, varint(1, 10)))
    yield case("element-cut-short", "TRUNCATED", sized(2, b"\1\x81"))
    yield case("list-cut-short", "TRUNCATED", sized(2, b"\1", length=varint(2)))


# --- versions -------------------------------------------------------------------------------------------------------


def _unknown_format() -> Iterator[dict[str, Any]]:
    """Tell frames of another version, at which an engine stops, from malformed ones, which it answers."""
    rest = _raws(ORDER_FRAME_PARTS[1:])
    for found in (2, 127, 128, 300, 2**32 - 1):
        yield {"name": f"format-{found}", "hex": (scalar(1, found) + rest).data.hex(), "found": found}
    yield {"name": "format-2-and-nothing-more", "hex": scalar(1, 2).data.hex(), "found": 2}
    yield {"name": "format-2-and-what-no-version-1-has", "hex": (scalar(1, 2) + Raw(b"\xff")).data.hex(), "found": 2}
    for name, start in (
        ("nothing", EMPTY),
        ("no-format", rest),
        ("format-0", scalar(1, 0) + rest),
        ("format-2-not-minimal", scalar(1, 2, 1) + rest),
        ("format-above-its-type", scalar(1, 2**32) + rest),
        ("format-cut-short", Raw(b"\x08\x82")),
        ("format-of-65-bits", Raw(tag(1, VARINT) + varint(2**64)) + rest),
        ("format-as-bytes", sized(1, b"\2") + rest),
        ("tag-not-minimal", Raw(tag(1, VARINT, 1) + b"\2") + rest),
    ):
        yield {"name": name, "hex": start.data.hex(), "found": None}

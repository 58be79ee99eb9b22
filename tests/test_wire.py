"""The wire: encoding and decoding are inverse, nothing but canonical bytes is taken, and hostile bytes do no harm."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clob.v1 import batch_pb2, control_pb2, event_pb2, frame_pb2, market_pb2, operation_pb2, state_pb2
from exchange.domain.commands import Batch, CancelOrder, PlaceOrder, SignedBatch
from exchange.domain.control import ControlRequest, RegisterKey, Registration, SignedRegistration
from exchange.domain.events import WithdrawalRequested
from exchange.domain.frames import ExecutionFrame, OrderFrame
from exchange.domain.operations import Operation, RaiseControlFloor, SignedLink, SignedOperation, SweepFees
from exchange.domain.record import Record
from exchange.domain.state import Checkpoint, ControlState, Genesis, OperatorKey, ShardCore, ShardState, UserState
from exchange.engine.port import EngineFactory
from exchange.local.control_venue import ControlVenue
from exchange.local.venue import Venue
from exchange.wire.checkpoint import (
    CheckpointError,
    read_control_checkpoint,
    read_shard_checkpoint,
    write_checkpoint,
)
from exchange.wire.codec import Bounds, MessageCodec, OneofCodec, compile_codecs, leading_number
from exchange.wire.entries import operation_body_digest, parse_entry
from exchange.wire.errors import UnknownFormatError, WireError, WireReason
from exchange.wire.hashing import state_hash
from exchange.wire.messages import CODECS, TOTAL_BYTES_MAX, decode, encode
from tests.support.raw_wire import scalar, sized, varint
from tests.support.records import RECORDS
from tests.support.wire_strategies import any_message, mutated, records

HASHED_FILES = (market_pb2, batch_pb2, operation_pb2, control_pb2, event_pb2, frame_pb2, state_pb2)
DESCRIPTORS: dict[str, Descriptor] = {
    name: message for file in HASHED_FILES for name, message in file.DESCRIPTOR.message_types_by_name.items()
}
FRAMES_AND_PAYLOADS = ("Batch", "Operation", "Link", "Registration", "OrderFrame", "ExecutionFrame")
BEYOND_THE_LIBRARY = {
    WireReason.OUT_OF_RANGE,
    WireReason.LENGTH,
    WireReason.ONEOF_MISSING,
    WireReason.DEFAULT_ENCODED,
}
"""Why bytes are refused that the protobuf library writes too: LIMITS, a oneof or a submessage with nothing in it."""


# --- inverse --------------------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None, print_blob=True)
@given(any_message().flatmap(records))
def test_decoding_gives_back_what_was_encoded(record: Record) -> None:
    data = encode(record)
    decoded = decode(type(record), data)
    assert decoded == record
    assert encode(decoded) == data


@pytest.mark.parametrize("message", sorted(RECORDS))
def test_every_message_has_an_encoding_that_decodes(message: str) -> None:
    @settings(max_examples=5, deadline=None, database=None, derandomize=True)
    @given(records(message))
    def holds(record: Record) -> None:
        assert decode(type(record), encode(record)) == record

    holds()


@settings(max_examples=400, deadline=None, print_blob=True)
@given(any_message().flatmap(records))
def test_the_protobuf_library_reads_the_same_values_and_writes_the_same_bytes(record: Record) -> None:
    data = encode(record)
    message = library_class(type(record).__name__).FromString(data)
    assert_same(record, message)
    assert message.SerializeToString(deterministic=True) == data


def library_class(name: str) -> type[Message]:
    """Return the class that the protobuf library has for a message."""
    return GetMessageClass(DESCRIPTORS[name])


def assert_same(value: Any, other: Any) -> None:
    """Compare a record, or a value in one, with what the library has."""
    if isinstance(value, tuple):
        assert len(value) == len(other)
        for mine, theirs in zip(value, other, strict=True):
            assert_same(mine, theirs)
    elif isinstance(value, Record):
        if isinstance(CODECS[other.DESCRIPTOR.name], OneofCodec):
            other = getattr(other, other.WhichOneof(other.DESCRIPTOR.oneofs[0].name))
        assert type(value).__name__ == other.DESCRIPTOR.name
        for name in value.__struct_fields__:
            assert_same(getattr(value, name), getattr(other, name))
    else:
        assert type(value)(other) == value


# --- hostile bytes --------------------------------------------------------------------------------------------------


def taken_or_refused_well(message: str, data: bytes) -> WireError | None:
    """Decode; what is taken must encode to the same bytes, what is refused must be so with a full WireError."""
    try:
        record = decode(RECORDS[message], data)
    except WireError as refused:
        error = refused
    else:
        assert encode(record) == data
        return None
    assert error.reason in WireReason
    assert error.field
    assert 0 <= error.offset <= max(0, len(data) - 1)
    assert str(error).startswith(f"{error.reason}: {error.field} at byte {error.offset}: ")
    return error


@settings(max_examples=600, deadline=None, print_blob=True)
@given(any_message(), st.binary(max_size=200))
@example("Batch", b"")
@example("UserState", b"\x12\x00")
@example("ShardState", b"\x08\x01")  # a state without its core, which has to name its hash
@example("Checkpoint", b"\x08\x01")
def test_random_bytes_are_canonical_or_refused(message: str, data: bytes) -> None:
    taken_or_refused_well(message, data)


@settings(max_examples=1000, deadline=None, print_blob=True)
@given(st.data())
def test_damaged_bytes_are_canonical_or_refused_and_the_library_agrees(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FRAMES_AND_PAYLOADS) | any_message())
    damaged = data.draw(mutated(encode(data.draw(records(name)))))
    error = taken_or_refused_well(name, damaged)
    if error is None:
        assert is_written_by_library(name, damaged)
    elif error.reason not in BEYOND_THE_LIBRARY:
        assert not is_written_by_library(name, damaged), error


def is_written_by_library(name: str, data: bytes) -> bool:
    """Return whether the library reads these bytes and writes them again, with no field that it does not know."""
    try:
        message = library_class(name).FromString(data)
    except DecodeError:
        return False
    message.DiscardUnknownFields()
    return message.SerializeToString(deterministic=True) == data


@pytest.mark.parametrize("message", FRAMES_AND_PAYLOADS)
def test_bytes_cut_short_anywhere_are_canonical_or_refused(message: str) -> None:
    @settings(max_examples=3, deadline=None, database=None, derandomize=True)
    @given(records(message))
    def holds(record: Record) -> None:
        data = encode(record)
        for end in range(len(data)):
            taken_or_refused_well(message, data[:end])

    holds()


@settings(max_examples=300, deadline=None, print_blob=True)
@given(st.data())
def test_entries_of_any_bytes_are_parsed_or_stop_as_an_unknown_format(data: st.DataObject) -> None:
    order_frame = data.draw(st.binary(max_size=100) | records("OrderFrame").map(encode).flatmap(mutated))
    if leading_number(1, order_frame) not in (None, 1):
        with pytest.raises(UnknownFormatError):
            parse_entry(1, 2, order_frame)
        return
    entry = parse_entry(1, 2, order_frame)
    assert (entry.n, entry.t_us) == (1, 2)
    assert entry.well_formed is (taken_or_refused_well("OrderFrame", order_frame) is None)


def test_a_payload_that_is_malformed_leaves_the_others_of_its_frame() -> None:
    batch = Batch(1, 1, 1, 1, (CancelOrder(order_id=1),))
    operation = Operation(1, 1, 1, (SweepFees(1),))
    registration = RegisterKey(SignedRegistration(b"\xff", bytes(64)))
    frame = OrderFrame(
        format=1,
        ingress=bytes(16),
        counter=1,
        ingress_time_us=1,
        control_n=5,
        batches=(
            SignedBatch(bytes(16), encode(batch) + b"\0", bytes(64)),
            SignedBatch(bytes(16), encode(batch), bytes(64)),
        ),
        links=(SignedLink(b"\xff", bytes(64)),),
        operations=(SignedOperation(b"\xff", bytes(64)), SignedOperation(encode(operation), bytes(64))),
        requests=(ControlRequest(bytes(16), registration),),
    )
    entry = parse_entry(3, 4, encode(frame))
    assert (entry.well_formed, entry.n, entry.t_us, entry.control_n) == (True, 3, 4, 5)
    assert [parsed.batch for parsed in entry.batches] == [None, batch]
    assert [parsed.link for parsed in entry.links] == [None]
    assert [parsed.operation for parsed in entry.operations] == [None, operation]
    assert [parsed.request.register_key for parsed in entry.requests] == [registration]


def test_the_body_of_an_operation_is_the_same_under_another_sequence_number_only() -> None:
    operation = Operation(1, 1, 1, (SweepFees(1),), bytes(16))
    same = msgspec.structs.replace(operation, sequence=2)
    assert operation_body_digest(same) == operation_body_digest(operation)
    changes: tuple[dict[str, Any], ...] = (
        {"shard": 2},
        {"role": 2},
        {"actions": (SweepFees(2),)},
        {"actions": (SweepFees(1), SweepFees(1))},
        {"request_id": b"\1" * 16},
    )
    for change in changes:
        other = msgspec.structs.replace(operation, **change)
        assert operation_body_digest(other) != operation_body_digest(operation)


@pytest.mark.parametrize("sequence", [1, 127, 128, 2**64 - 1])
@pytest.mark.parametrize(("shard", "role"), [(0, 0), (0, 2), (4095, 3), (1, 2**31 - 1)])
def test_an_entry_has_the_body_digests_of_its_operations(shard: int, role: int, sequence: int) -> None:
    operation = Operation(shard, role, sequence, (SweepFees(1), SweepFees(2)), b"r" * 16)
    frame = OrderFrame(1, bytes(16), 1, 1, operations=(SignedOperation(encode(operation), bytes(64)),))
    assert parse_entry(1, 1, encode(frame)).operations[0].body_digest == operation_body_digest(operation)


# --- encoding -------------------------------------------------------------------------------------------------------

ORDER = PlaceOrder(market=1, side=1, order_type=1, price_ticks=5, quantity_lots=5)
PLACED = Batch(1, 1, 1, 1, (CancelOrder(), ORDER))


@pytest.mark.parametrize(
    ("record", "reason", "field"),
    [
        (Batch(0, 1, 1, 1, (ORDER,)), WireReason.OUT_OF_RANGE, "account"),
        (Batch(1, 4096, 1, 1, (ORDER,)), WireReason.OUT_OF_RANGE, "shard"),
        (Batch(1, -1, 1, 1, (ORDER,)), WireReason.OUT_OF_RANGE, "shard"),
        (Batch(1, 1, 2**64, 1, (ORDER,)), WireReason.OUT_OF_RANGE, "nonce"),
        (Batch(1, 1, 1, 1), WireReason.LENGTH, "commands"),
        (Batch(1, 1, 1, 1, (ORDER,) * 1025), WireReason.LENGTH, "commands"),
        (
            msgspec.structs.replace(PLACED, commands=(ORDER, PlaceOrder(price_ticks=2**64))),
            WireReason.OUT_OF_RANGE,
            "commands[1].place.price_ticks",
        ),
        (SignedBatch(bytes(15), b"x", bytes(64)), WireReason.LENGTH, "key_id"),
        (SignedBatch(bytes(16), b"", bytes(64)), WireReason.LENGTH, "payload"),
        (RegisterKey(), WireReason.LENGTH, "registration.payload"),
        (ShardState(format=1), WireReason.OUT_OF_RANGE, "core.genesis.format"),
        (Genesis(format=1, environment="\ud800"), WireReason.INVALID_UTF8, "environment"),
        (Genesis(format=1, operators=(OperatorKey(1, b"short"),)), WireReason.LENGTH, "operators[0].public_key"),
        (UserState(1, (1, 2**64)), WireReason.OUT_OF_RANGE, "accounts"),
        (Checkpoint(1, bytes(31), b"x"), WireReason.LENGTH, "state_hash"),
    ],
)
def test_records_that_break_a_rule_are_not_encoded(record: Record, reason: WireReason, field: str) -> None:
    with pytest.raises(WireError) as refused:
        encode(record)
    assert (refused.value.reason, refused.value.field, refused.value.offset) == (reason, field, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"account": None},
        {"account": "1"},
        {"account": 1.5},
        {"nonce": None},
        {"nonce": b""},
        {"commands": [ORDER]},
        {"commands": (None,)},
        {"commands": (SweepFees(1),)},
        {"commands": (PlaceOrder(post_only=1),)},  # type: ignore[arg-type]
    ],
)
def test_values_of_another_type_are_never_encoded_as_something_else(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        encode(msgspec.structs.replace(PLACED, **change))


@pytest.mark.parametrize("payload", [None, "", "text", [1, 2], bytearray(b"x"), 5])
def test_bytes_are_given_as_bytes(payload: Any) -> None:
    with pytest.raises(TypeError):
        encode(SignedBatch(bytes(16), payload, bytes(64)))


@pytest.mark.parametrize("environment", [None, b"", b"text", ["a"], 5])
def test_strings_are_given_as_strings(environment: Any) -> None:
    with pytest.raises(TypeError):
        encode(Genesis(format=1, environment=environment))


def test_an_encoding_that_is_too_long_as_a_whole_is_refused() -> None:
    longest = WithdrawalRequested(destination="x" * TOTAL_BYTES_MAX["ExecutionFrame"])
    huge = ExecutionFrame(1, 1, 1, 1, bytes(32), bytes(32), (longest,))
    with pytest.raises(WireError) as refused:
        encode(huge)
    assert (refused.value.reason, refused.value.field) == (WireReason.LENGTH, "ExecutionFrame")


# --- contracts ------------------------------------------------------------------------------------------------------


def test_every_message_that_is_signed_hashed_or_checkpointed_has_a_codec() -> None:
    assert set(CODECS) == set(DESCRIPTORS)
    roots = ("SignedBatch", "SignedLink", "SignedOperation", "SignedRegistration", "Genesis", "Checkpoint")
    reached = reachable([DESCRIPTORS[name] for name in (*FRAMES_AND_PAYLOADS, *roots, "ShardState", "ControlState")])
    assert reached == set(CODECS)


def reachable(messages: Iterable[Descriptor]) -> set[str]:
    """Return the names of the messages and of all that they contain."""
    names: set[str] = set()
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.name not in names:
            names.add(message.name)
            waiting += [field.message_type for field in message.fields if field.message_type]
    return names


def test_every_field_of_fixed_length_has_a_bound() -> None:
    lengths = {"key_id": 16, "request_id": 16, "ingress": 16, "public_key": 32, "signature": 64, "digest": 32}
    lengths |= dict.fromkeys(("previous_hash", "input_hash", "chain_hash", "state_hash", "last_digest"), 32)
    outputs = reachable([DESCRIPTORS["Event"]])
    for name, codec in CODECS.items():
        # Events are written by engines only; the frame that holds them is compared, not judged.
        if name not in outputs:
            for field in codec.fields:
                if field.name in lengths:
                    assert (field.low, field.high) == (lengths[field.name],) * 2, f"{name}.{field.name}"


class Plain(Record, frozen=True):
    number: int = 0


class Listed(Record, frozen=True):
    numbers: tuple[int, ...] = ()


class Holder(Record, frozen=True):
    choice: Plain = Plain()


def described(**messages: list[descriptor_pb2.FieldDescriptorProto]) -> dict[str, Descriptor]:
    """Return descriptors of messages that no contract has; the fields named in_oneof_* are in one."""
    file = descriptor_pb2.FileDescriptorProto(name="test.proto", package="test", syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        message.field.extend(fields)
        if any(field.HasField("oneof_index") for field in fields):
            message.oneof_decl.add(name="choice")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: pool.FindMessageTypeByName(f"test.{name}") for name in messages}


def field_of(name: str, number: int, kind: Any, **others: Any) -> descriptor_pb2.FieldDescriptorProto:
    label = others.pop("label", FieldDescriptor.LABEL_OPTIONAL)
    return descriptor_pb2.FieldDescriptorProto(name=name, number=number, type=kind, label=label, **others)


NUMBER = field_of("number", 1, FieldDescriptor.TYPE_UINT64)
MEMBER = field_of("plain", 1, FieldDescriptor.TYPE_MESSAGE, type_name=".test.Plain", oneof_index=0)
CHOICE = field_of("choice", 1, FieldDescriptor.TYPE_MESSAGE, type_name=".test.Choice")


def test_a_message_that_is_a_oneof_must_be_there_and_have_a_member() -> None:
    messages = described(Plain=[NUMBER], Choice=[MEMBER], Holder=[CHOICE])
    codecs = compile_codecs(messages.values(), {"Plain": Plain, "Holder": Holder}, {})
    holder = codecs["Holder"]
    assert isinstance(holder, MessageCodec)
    for value in (Plain(), Plain(7)):
        data = bytes(holder.encode(Holder(value)))
        assert holder.decode(data, 0, len(data), 0) == Holder(value)
    for data in (b"", sized(1, b"").data):
        with pytest.raises(WireError) as refused:
            holder.decode(data, 0, len(data), 0)
        assert (refused.value.reason, refused.value.field) == (WireReason.ONEOF_MISSING, "choice")


def test_a_packed_list_keeps_the_bounds_of_its_type_and_of_its_length() -> None:
    listed = field_of("numbers", 1, FieldDescriptor.TYPE_UINT32, label=FieldDescriptor.LABEL_REPEATED)
    codecs = compile_codecs(
        described(Listed=[listed]).values(), {"Listed": Listed}, {("Listed", "numbers"): Bounds(0, 2)}
    )
    codec = codecs["Listed"]
    for numbers, reason in (
        ((0, 2**32 - 1), None),
        ((0, 2**32), WireReason.OUT_OF_RANGE),
        ((1, 2, 3), WireReason.LENGTH),
    ):
        data = sized(1, b"".join(varint(number) for number in numbers)).data
        if reason is None:
            assert codec.decode(data, 0, len(data), 0) == Listed(numbers)
            assert codec.encode(Listed(numbers)) == data
            continue
        with pytest.raises(WireError) as refused:
            codec.decode(data, 0, len(data), 0)
        assert (refused.value.reason, refused.value.field, refused.value.offset) == (reason, "numbers", 0)
        with pytest.raises(WireError) as refused:
            codec.encode(Listed(numbers))
        assert (refused.value.reason, refused.value.field) == (reason, "numbers")


@pytest.mark.parametrize(
    "kind",
    [
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_DOUBLE,
        FieldDescriptor.TYPE_FLOAT,
    ],
)
def test_contracts_with_types_that_have_no_rule_are_refused(kind: int) -> None:
    messages = described(Plain=[field_of("number", 1, kind)])
    with pytest.raises(TypeError, match="no rule for this type"):
        compile_codecs(messages.values(), {"Plain": Plain}, {})


def test_contracts_with_optional_fields_scalars_in_oneofs_or_other_records_are_refused() -> None:
    in_oneof = field_of("number", 1, FieldDescriptor.TYPE_UINT64, oneof_index=0)
    beside = field_of("other", 2, FieldDescriptor.TYPE_UINT64)
    optional = field_of("number", 1, FieldDescriptor.TYPE_UINT64, oneof_index=0, proto3_optional=True)
    bools = field_of("number", 1, FieldDescriptor.TYPE_BOOL, label=FieldDescriptor.LABEL_REPEATED)
    for fields, expected in (
        ([bools], "no rule for this type"),
        ([in_oneof], "members of a oneof are messages"),
        ([in_oneof, beside], "stands alone"),
        ([optional, beside], "no optional"),
        ([field_of("amount", 1, FieldDescriptor.TYPE_UINT64)], "differ in their fields"),
    ):
        with pytest.raises(TypeError, match=expected):
            compile_codecs(described(Plain=fields).values(), {"Plain": Plain}, {})
    with pytest.raises(TypeError, match=r"Plain.amount, which does not exist"):
        compile_codecs(described(Plain=[NUMBER]).values(), {"Plain": Plain}, {("Plain", "amount"): Bounds(1, 2)})


def test_a_default_that_absence_does_not_mean_is_refused() -> None:
    class Wrong(Record, frozen=True):
        number: int = 1

    with pytest.raises(TypeError, match="absence does not mean 1"):
        compile_codecs(described(Plain=[NUMBER]).values(), {"Plain": Wrong}, {})


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_checkpoints_hold_a_state_and_nothing_else(engine: EngineFactory) -> None:
    shard = Venue(engine).engine.checkpoint()
    state = read_shard_checkpoint(shard)
    assert write_checkpoint(state) == shard
    control = ControlVenue().state
    assert read_control_checkpoint(write_checkpoint(control)) == control


def test_damaged_checkpoints_are_never_loaded(engine: EngineFactory) -> None:
    good = Venue(engine).engine.checkpoint()
    for place in range(len(good)):
        damaged = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        with pytest.raises((CheckpointError, WireError, UnknownFormatError)):
            read_shard_checkpoint(damaged)
        with pytest.raises((CheckpointError, WireError)):
            read_shard_checkpoint(good[:place])


def test_checkpoints_of_another_version_stop_the_program(engine: EngineFactory) -> None:
    with pytest.raises(UnknownFormatError, match="checkpoint has format 2"):
        read_shard_checkpoint(scalar(1, 2).data + b"whatever comes later")
    state = scalar(1, 300).data + b"whatever comes later"
    with pytest.raises(UnknownFormatError, match="state has format 300"):
        read_shard_checkpoint(encode(Checkpoint(1, state_hash(state), state)))


def test_control_and_trading_shards_do_not_load_each_others_checkpoints(engine: EngineFactory) -> None:
    core: ShardCore = ControlVenue().state.core
    # Before anything happened both states are the same bytes but for the number of the shard.
    assert encode(ShardState(1, core)) == encode(ControlState(1, core))
    with pytest.raises(CheckpointError, match="CHECKPOINT_SHARD"):
        read_shard_checkpoint(write_checkpoint(ControlState(1, core)))
    with pytest.raises(CheckpointError, match="CHECKPOINT_SHARD"):
        read_control_checkpoint(Venue(engine).engine.checkpoint())


def test_a_state_with_another_hash_beside_it_is_refused() -> None:
    state = ControlVenue().state
    with pytest.raises(CheckpointError, match="STATE_HASH"):
        read_control_checkpoint(encode(Checkpoint(1, bytes(32), encode(state))))


# --- what errors say ------------------------------------------------------------------------------------------------


def test_an_error_names_reason_field_byte_and_rule() -> None:
    batch = encode(Batch(1, 1, 1, 1, (ORDER,)))
    spoiled = batch[:-2] + b"\x40\x00"
    with pytest.raises(WireError) as refused:
        decode(Batch, spoiled)
    assert str(refused.value) == (
        "DEFAULT_ENCODED: commands[0].place.quantity_lots at byte 20: the default is encoded by leaving the field out"
    )


def test_registrations_and_floors_of_the_largest_numbers_fit() -> None:
    for record in (Registration(bytes(32), 2**64 - 1, 2**64 - 1), RaiseControlFloor(2**64 - 1)):
        assert decode(type(record), encode(record)) == record

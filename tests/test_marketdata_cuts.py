"""Private messages: the core cuts them out of frames byte for byte as Python does."""

import random

import pytest

from clob.v1.account_service_pb2 import StreamExecutionsResponse
from clob.v1.event_pb2 import Event
from clob.v1.frame_pb2 import ExecutionFrame
from exchange.marketdata import private
from exchange.marketdata.folds import FOLDS
from exchange.marketdata.private import ACCOUNT_EVENTS, MESSAGE_EVENTS_MAX, accounts_of, private_messages

core = pytest.importorskip("exchange_core", reason="the core is not built: make core")
from tests.test_core_folds import VECTORS, flowed, log_of, traded_log, treasury_log  # noqa: E402 - needs the module

SHARD = 7
HASH = bytes(32)


def logs() -> list[list[bytes]]:
    return [frames for _, frames, _ in (*map(log_of, VECTORS), treasury_log(), traded_log(), flowed(4, 3, 400))]


@pytest.mark.parametrize("frames", logs())
def test_core_and_python_cut_the_same_messages_for_everybody_from_any_place(frames: list[bytes]) -> None:
    draw = random.Random(3)
    for data in frames:
        frame = ExecutionFrame.FromString(data)
        accounts = [*sorted(accounts_of(frame)), 0, 2**64 - 1]
        draw.shuffle(accounts)
        for after_place in (0, 1, draw.randint(0, len(frame.events) + 1), 2**32 - 1):
            expected = private_messages(SHARD, data, accounts, after_place)
            assert core.private_messages(SHARD, data, accounts, after_place) == expected
        assert core.private_messages(SHARD, data, []) == []


@pytest.mark.parametrize("shard", [0, 1, 4095])
def test_events_of_every_kind_are_cut_the_same(shard: int) -> None:
    frame = ExecutionFrame(format=1, n=1, t_us=5, rules=1, previous_hash=HASH, input_hash=HASH)
    for field in Event.DESCRIPTOR.fields:
        wrapped = frame.events.add()
        getattr(wrapped, field.name).SetInParent()
        if field.name in ACCOUNT_EVENTS:
            getattr(wrapped, field.name).account = 9
    maker, taker, both = (frame.events.add().trade for _ in range(3))
    maker.maker_account, maker.taker_account, maker.maker_order_id, maker.taker_order_id = 9, 8, 1, 2
    maker.maker_fee_quote_units, maker.taker_fee_quote_units, maker.taker_account_seq = 3, 4, 5
    taker.CopyFrom(maker)
    taker.maker_account, taker.taker_account, taker.maker_account_seq = 8, 9, 6
    both.maker_account = both.taker_account = 9
    both.maker_order_id = both.taker_order_id = 1
    data = frame.SerializeToString()
    found = core.private_messages(shard, data, [9, 8])
    assert found == private_messages(shard, data, [9, 8])
    assert len(StreamExecutionsResponse.FromString(found[0][0]).events) == len(ACCOUNT_EVENTS) + 3


def test_long_frames_are_cut_into_messages_at_the_same_places() -> None:
    frame = ExecutionFrame(format=1, n=300, t_us=5, rules=1, previous_hash=HASH, input_hash=HASH)
    for place in range(2 * MESSAGE_EVENTS_MAX + 1):
        frame.events.add().order_cancelled.account = 1 + (place % 4_096 == 63)
    for events in (2 * MESSAGE_EVENTS_MAX + 1, 2 * MESSAGE_EVENTS_MAX, MESSAGE_EVENTS_MAX):
        del frame.events[events:]
        data = frame.SerializeToString()
        assert core.private_messages(1, data, [1, 2]) == private.private_messages(1, data, [1, 2])


def test_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="MALFORMED_FRAME"):
        core.private_messages(1, b"\x01", [1])


@pytest.mark.parametrize("engine", sorted(FOLDS))
def test_owners_of_a_frame_are_those_with_events_in_it(engine: str) -> None:
    genesis, frames, _ = flowed(5, 2, 200)
    fold = FOLDS[engine].from_genesis(genesis)
    for data in frames:
        applied = fold.apply(data)
        expected = accounts_of(ExecutionFrame.FromString(data))
        assert sorted(applied.owners) == sorted(expected) == sorted(applied.accounts)
        assert len(applied.owners) == len(expected)
        assert all(account in applied.owners for account in expected)
        assert 0 not in applied.owners
        assert 2**64 not in applied.owners

"""The bus on real servers: what the scripts check, what they answer twice, and what they never do."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exchange.bus import calls
from exchange.bus.client import AsyncBus, Bus, Reconnected, bus_url
from exchange.bus.entries import (
    ENTRY_OVERHEAD_BYTES,
    CommitFrame,
    ExecutionsEntry,
    Limits,
    ShardKeys,
    Stamp,
    default_tag,
    execution_bytes,
    read_stamp,
    write_stamp,
)
from exchange.bus.errors import BusReason, BusRefusal, BusUnavailable
from exchange.bus.keys import BusKey, BusKeys, SealedFrame, check_mac, frame_origin, frame_time_us, seal
from exchange.bus.registry import ProcessRecord
from exchange.domain.limits import FRAME_BYTES_MAX
from tests.support.servers import BusServer, bus_server_of
from tests.support.shard_log import ENVIRONMENT, INGRESS_KEY, KEYS, ShardLog

HASHES = [bytes([number]) * 32 for number in range(32)]
EPOCH_OF_A_STRANGER = 99


@pytest.fixture
def log(bus_server: BusServer) -> Iterator[ShardLog]:
    shard_log = ShardLog(bus_server.address)
    yield shard_log
    shard_log.close()


def refused(call: Callable[[], Any], reason: BusReason) -> BusRefusal:
    """Return the refusal of a call, which must be for this reason."""
    with pytest.raises(BusRefusal) as caught:
        call()
    assert caught.value.reason is reason, caught.value
    return caught.value


def answers(log: ShardLog, epoch: int, after_n: int, *frames: bytes, ingress: bytes = b"") -> list[CommitFrame]:
    """Return frames as they are committed behind `after_n`, stamped with what the log says of the entries."""
    entries = log.bus.orders_range(log.tag, after_n + 1, after_n + len(frames))
    head = log.bus.head(log.tag)
    assert head is not None
    size = head.executions_bytes
    commits = []
    for entry, frame in zip(entries, frames, strict=True):
        size += execution_bytes(frame)
        stamp = Stamp(epoch, 1, 2, entry.commands_total, size, entry.bytes_total)
        commits.append(CommitFrame(frame, stamp, ingress))
    return commits


def commit(log: ShardLog, epoch: int, after_n: int, *frames: bytes, ingress: bytes = b"") -> None:
    """Commit frames behind `after_n`; the chain hash after entry n is HASHES[n], and that of the genesis."""
    before = HASHES[after_n] if after_n else log.genesis_hash
    commits = answers(log, epoch, after_n, *frames, ingress=ingress)
    log.bus.commit(log.tag, epoch, after_n, before, commits, HASHES[after_n + len(frames)])


# --- ingest -----------------------------------------------------------------------------------------------------------


def test_entries_are_dense_from_one_and_carry_what_was_ingested(log: ShardLog) -> None:
    frames = [log.sealed(commands=commands) for commands in (1, 5, 64)]
    answered = [log.bus.ingest(log.tag, frame) for frame in frames]
    entries = log.bus.orders_range(log.tag, 1, 10)
    assert [answer.n for answer in answered] == [entry.n for entry in entries] == [1, 2, 3]
    assert [entry.order_frame for entry in entries] == [frame.order_frame for frame in frames]
    assert [entry.t_us for entry in entries] == [answer.t_us for answer in answered]
    assert [entry.commands_total for entry in entries] == [1, 6, 70]
    sizes = [len(frame.order_frame) + ENTRY_OVERHEAD_BYTES for frame in frames]
    assert [entry.bytes_total for entry in entries] == [sum(sizes[:count]) for count in (1, 2, 3)]
    for entry in entries:
        assert check_mac(KEYS, 1, *frame_origin(entry.order_frame), entry)


def test_a_frame_that_comes_again_is_answered_as_the_first_time(log: ShardLog) -> None:
    sealed = log.sealed()
    first = log.bus.ingest(log.tag, sealed)
    again = log.bus.ingest(log.tag, sealed)
    assert (again.n, again.t_us, again.repeated) == (first.n, first.t_us, True)
    assert not first.repeated
    assert len(log.bus.orders_range(log.tag, 1, 10)) == 1


def test_another_frame_under_a_used_counter_is_refused(log: ShardLog) -> None:
    log.enter()
    refused(lambda: log.bus.ingest(log.tag, log.sealed(counter=1, commands=2)), BusReason.COUNTER_CONFLICT)
    log.counter = 1
    log.enter()
    refused(lambda: log.bus.ingest(log.tag, log.sealed(counter=1)), BusReason.COUNTER_CONFLICT)


def test_a_counter_that_skips_one_is_refused(log: ShardLog) -> None:
    refused(lambda: log.bus.ingest(log.tag, log.sealed(counter=2)), BusReason.COUNTER_GAP)
    log.enter()
    refused(lambda: log.bus.ingest(log.tag, log.sealed(counter=3)), BusReason.COUNTER_GAP)


@pytest.mark.parametrize("counter", [1, 127, 128, 16_383, 16_384, 2**32, 2**53 - 1])
def test_counters_of_every_length_are_found_in_the_frame(valkey_server: BusServer, counter: int) -> None:
    with contextlib.closing(ShardLog(valkey_server.address)) as log:
        keys = ShardKeys(log.tag)
        valkey_server.command(
            "HSET", keys.ingress(log.ingress), "counter", counter - 1, "digest", "", "n", 0, "t_us", 0
        )
        sealed = log.sealed(counter=counter)
        assert frame_origin(sealed.order_frame) == (log.ingress, counter)
        assert log.bus.ingest(log.tag, sealed).n == 1


def test_a_clock_that_is_half_a_second_off_is_refused_either_way(log: ShardLog) -> None:
    now_us = log.bus.time_us()
    for time_us in (now_us - 600_000, now_us + 600_000):
        sealed = log.sealed(time_us=time_us)
        refusal = refused(lambda sealed=sealed: log.bus.ingest(log.tag, sealed), BusReason.CLOCK_SKEW)  # type: ignore[misc]
        assert refusal.retry_after_ms > 0
        log.counter -= 1
    assert log.bus.ingest(log.tag, log.sealed(time_us=log.bus.time_us() + 300_000)).n == 1


def test_a_frame_that_comes_again_late_is_answered_and_not_called_skewed(log: ShardLog, bus_server: BusServer) -> None:
    sealed = log.sealed()
    first = log.bus.ingest(log.tag, sealed)
    late = sealed._replace(ingress_time_us=sealed.ingress_time_us - 10_000_000)
    assert log.bus.ingest(log.tag, late).n == first.n


def test_time_never_goes_backwards(log: ShardLog, bus_server: BusServer) -> None:
    log.enter()
    ahead_us = log.bus.time_us() + 60_000_000
    bus_server.command("HSET", ShardKeys(log.tag).head, "orders_t_us", ahead_us)
    assert [log.enter().t_us, log.enter().t_us] == [ahead_us, ahead_us]


def test_frames_of_other_formats_origins_and_sizes_are_refused(log: ShardLog) -> None:
    good = log.sealed()

    def with_frame(frame: bytes) -> SealedFrame:
        return good._replace(order_frame=frame, digest=frame[:40].hex())

    frame = good.order_frame
    for wrong in (b"\x08\x02" + frame[2:], b"\x10\x01" + frame[2:], b"\x08"):
        refused(lambda wrong=wrong: log.bus.ingest(log.tag, with_frame(wrong)), BusReason.UNKNOWN_FORMAT)  # type: ignore[misc]
    other = frame[:10] + bytes([frame[10] ^ 1]) + frame[11:]
    for wrong in (other, frame[:20], frame[:21] + b"\x02" + frame[22:]):
        refused(lambda wrong=wrong: log.bus.ingest(log.tag, with_frame(wrong)), BusReason.FRAME_ORIGIN)  # type: ignore[misc]
    for wrong in (b"", frame + bytes(FRAME_BYTES_MAX)):
        refused(lambda wrong=wrong: log.bus.ingest(log.tag, with_frame(wrong)), BusReason.FRAME_SIZE)  # type: ignore[misc]
    largest = with_frame(frame + bytes(FRAME_BYTES_MAX - len(frame)))
    assert log.bus.ingest(log.tag, largest).n == 1


def test_a_frame_for_another_shard_is_refused(log: ShardLog) -> None:
    refused(lambda: log.bus.ingest(log.tag, log.sealed()._replace(shard=2)), BusReason.WRONG_SHARD)


def test_a_shard_without_head_takes_nothing(bus_server: BusServer, log: ShardLog) -> None:
    sealed = log.sealed()
    for call in (
        lambda: log.bus.ingest("nobody", sealed),
        lambda: log.bus.take_epoch("nobody"),
        lambda: log.bus.commit("nobody", 1, 0, HASHES[0], [CommitFrame(b"", Stamp(1, 1, 1, 1, 1, 1), b"")], HASHES[1]),
        lambda: log.bus.trim("nobody", 1, 1, 1),
        lambda: log.bus.approve("nobody", "x"),
        lambda: log.bus.stop("nobody", "x"),
    ):
        refused(call, BusReason.NOT_INITIALISED)
    assert log.bus.head("nobody") is None


# --- limits -----------------------------------------------------------------------------------------------------------


def test_commands_that_wait_are_limited_until_they_are_executed(bus_server: BusServer) -> None:
    with contextlib.closing(ShardLog(bus_server.address, limits=Limits(commands_unprocessed_max=10))) as log:
        log.enter(commands=6)
        sealed = log.sealed(commands=5)
        refusal = refused(lambda: log.bus.ingest(log.tag, sealed), BusReason.OVERLOADED)
        assert refusal.retry_after_ms > 0
        exempt = log.sealed(commands=5, exempt=True, counter=2)
        assert log.bus.ingest(log.tag, exempt).n == 2
        epoch = log.bus.take_epoch(log.tag)
        commit(log, epoch, 0, b"one", b"two")
        log.counter = 2
        assert log.enter(commands=5).n == 3


def test_a_frame_above_a_limit_goes_through_an_empty_shard(bus_server: BusServer) -> None:
    limits = Limits(commands_unprocessed_max=1, bytes_unprocessed_max=1, bytes_untrimmed_max=1)
    with contextlib.closing(ShardLog(bus_server.address, limits=limits)) as log:
        assert log.enter(commands=100).n == 1


def test_bytes_that_wait_are_limited_until_they_are_executed(bus_server: BusServer) -> None:
    with contextlib.closing(ShardLog(bus_server.address, limits=Limits(bytes_unprocessed_max=300))) as log:
        log.enter()
        sealed = log.sealed()
        assert "bytes wait to be executed" in str(
            refused(lambda: log.bus.ingest(log.tag, sealed), BusReason.OVERLOADED)
        )
        commit(log, log.bus.take_epoch(log.tag), 0, b"one")
        assert log.bus.ingest(log.tag, sealed).n == 2


def test_bytes_of_both_streams_are_limited_until_they_are_trimmed(bus_server: BusServer) -> None:
    with contextlib.closing(ShardLog(bus_server.address, limits=Limits(bytes_untrimmed_max=400))) as log:
        log.enter()
        commit(log, log.bus.take_epoch(log.tag), 0, b"one")
        sealed = log.sealed()
        assert "bytes wait to be settled" in str(refused(lambda: log.bus.ingest(log.tag, sealed), BusReason.OVERLOADED))
        [order], [answer] = log.bus.orders_range(log.tag, 1, 1), log.bus.executions_range(log.tag, 1, 1)
        log.bus.trim(log.tag, 1, order.bytes_total, answer.stamp.bytes_total)
        assert log.bus.ingest(log.tag, sealed).n == 2


def test_a_quiet_shard_says_do_not_gather_and_a_busy_one_says_how_long(bus_server: BusServer) -> None:
    with contextlib.closing(ShardLog(bus_server.address, limits=Limits(frames_per_second_max=200))) as log:
        assert log.enter().gather_us == 0
        told = [log.enter().gather_us for _ in range(100)]
        assert 0 < max(told) <= 5_000
        head = log.bus.head(log.tag)
        assert head is not None
        # Two windows of a tenth of a second later nothing of it is left.
        bus_server.command("HINCRBY", ShardKeys(log.tag).head, "rate_window", -2)
        assert log.enter().gather_us == 0


def test_a_server_without_memory_refuses_orders_and_takes_commits(bus_server: BusServer) -> None:
    with contextlib.closing(ShardLog(bus_server.address)) as log:
        log.enter()
        epoch = log.bus.take_epoch(log.tag)
        bus_server.command("CONFIG", "SET", "maxmemory", 1)
        sealed = log.sealed()
        refusal = refused(lambda: log.bus.ingest(log.tag, sealed), BusReason.OUT_OF_MEMORY)
        assert refusal.retry_after_ms > 0
        commit(log, epoch, 0, b"one")
        [order], [answer] = log.bus.orders_range(log.tag, 1, 1), log.bus.executions_range(log.tag, 1, 1)
        log.bus.trim(log.tag, 1, order.bytes_total, answer.stamp.bytes_total)
        log.bus.stop(log.tag, "a test")
        log.bus.announce(ProcessRecord("test", "127.0.0.1:1", "SERVING"))
        bus_server.command("CONFIG", "SET", "maxmemory", 0)
        log.bus.approve(log.tag, log.bus.server().run_id, resume=True)
        assert log.bus.ingest(log.tag, sealed).n == 2


# --- commit -----------------------------------------------------------------------------------------------------------


def test_commit_appends_what_answers_entries_and_nothing_beyond(log: ShardLog) -> None:
    for _ in range(3):
        log.enter()
    epoch = log.bus.take_epoch(log.tag)
    commit(log, epoch, 0, b"one")
    commit(log, epoch, 1, b"two", b"three")
    found = log.bus.executions_range(log.tag, 1, 10)
    assert [(entry.n, entry.frame) for entry in found] == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert [entry.stamp.commands_total for entry in found] == [1, 2, 3]
    extra = [CommitFrame(b"four", found[-1].stamp, b"")]
    refused(lambda: log.bus.commit(log.tag, epoch, 3, HASHES[3], extra, HASHES[4]), BusReason.POSITION)
    head = log.bus.head(log.tag)
    assert head is not None
    assert (head.executions_n, head.executions_hash, head.executions_commands) == (3, HASHES[3], 3)
    assert head.executed_bytes == head.orders_bytes


def test_a_commit_that_comes_again_is_done_once(log: ShardLog) -> None:
    log.enter()
    epoch = log.bus.take_epoch(log.tag)
    frames = answers(log, epoch, 0, b"one")
    for _ in range(3):
        log.bus.commit(log.tag, epoch, 0, log.genesis_hash, frames, HASHES[1])
    assert [entry.frame for entry in log.bus.executions_range(log.tag, 1, 10)] == [b"one"]


def test_a_commit_at_another_position_or_hash_is_refused(log: ShardLog) -> None:
    for _ in range(3):
        log.enter()
    epoch = log.bus.take_epoch(log.tag)
    frames = answers(log, epoch, 0, b"one")
    refused(lambda: log.bus.commit(log.tag, epoch, 0, HASHES[7], frames, HASHES[1]), BusReason.POSITION)
    refused(lambda: log.bus.commit(log.tag, epoch, 1, log.genesis_hash, frames, HASHES[1]), BusReason.POSITION)
    commit(log, epoch, 0, b"one")
    refused(lambda: log.bus.commit(log.tag, epoch, 0, log.genesis_hash, frames, HASHES[9]), BusReason.POSITION)
    assert len(log.bus.executions_range(log.tag, 1, 10)) == 1


def test_who_has_an_older_epoch_commits_nothing_not_even_again(log: ShardLog) -> None:
    log.enter()
    old = log.bus.take_epoch(log.tag)
    frames = answers(log, old, 0, b"one")
    log.bus.commit(log.tag, old, 0, log.genesis_hash, frames, HASHES[1])
    new = log.bus.take_epoch(log.tag)
    assert new == old + 1
    for epoch in (old, EPOCH_OF_A_STRANGER):
        refused(
            lambda epoch=epoch: log.bus.commit(log.tag, epoch, 0, log.genesis_hash, frames, HASHES[1]),  # type: ignore[misc]
            BusReason.FENCED,
        )


def test_a_stream_that_somebody_else_touched_is_found_out(log: ShardLog, bus_server: BusServer) -> None:
    log.enter()
    log.enter()
    keys = ShardKeys(log.tag)
    epoch = log.bus.take_epoch(log.tag)
    commit(log, epoch, 0, b"one")
    bus_server.command("DEL", keys.executions)
    frames = answers(log, epoch, 1, b"two")
    refused(lambda: log.bus.commit(log.tag, epoch, 1, HASHES[1], frames, HASHES[2]), BusReason.INCONSISTENT)
    bus_server.command("XADD", keys.orders, "50-0", "f", "forged")
    refused(lambda: log.bus.ingest(log.tag, log.sealed()), BusReason.INCONSISTENT)
    bus_server.command("DEL", keys.head)
    refused(lambda: log.bus.initialise(log.tag, ENVIRONMENT, 1, log.genesis_hash), BusReason.INCONSISTENT)


# --- head -------------------------------------------------------------------------------------------------------------


def test_a_head_belongs_to_one_shard_of_one_environment_for_ever(log: ShardLog) -> None:
    assert log.bus.initialise(log.tag, ENVIRONMENT, 1, log.genesis_hash, Limits(frames_per_second_max=7)) is False
    head = log.bus.head(log.tag)
    assert head is not None
    assert head.limits.frames_per_second_max == 7
    for environment, shard, genesis in (
        ("other", 1, log.genesis_hash),
        (ENVIRONMENT, 2, log.genesis_hash),
        (ENVIRONMENT, 1, HASHES[1]),
    ):
        refused(
            lambda environment=environment, shard=shard, genesis=genesis: log.bus.initialise(  # type: ignore[misc]
                log.tag, environment, shard, genesis
            ),
            BusReason.WRONG_SHARD,
        )


def test_a_stop_refuses_all_writers_until_it_is_ended_on_purpose(log: ShardLog) -> None:
    sealed = log.sealed()
    log.bus.ingest(log.tag, sealed)
    epoch = log.bus.take_epoch(log.tag)
    frames = answers(log, epoch, 0, b"one")
    log.bus.stop(log.tag, "LOST: entry 7 is missing; restore it")
    log.bus.stop(log.tag, "a consequence")
    run_id = log.bus.server().run_id
    log.bus.approve(log.tag, run_id)
    for call in (
        lambda: log.bus.ingest(log.tag, log.sealed(counter=2)),
        lambda: log.bus.commit(log.tag, epoch, 0, log.genesis_hash, frames, HASHES[1]),
        lambda: log.bus.take_epoch(log.tag),
        lambda: log.bus.trim(log.tag, 1, 1, 1),
    ):
        assert refused(call, BusReason.STOPPED).detail == "LOST: entry 7 is missing; restore it"
    # What is in the log is said even now: STOPPED means that a frame is not in it.
    assert log.bus.ingest(log.tag, sealed).repeated
    log.bus.approve(log.tag, run_id, resume=True)
    log.bus.commit(log.tag, epoch, 0, log.genesis_hash, frames, HASHES[1])


def test_a_server_that_was_restarted_is_written_to_only_when_approved(durable_bus_server: BusServer) -> None:
    server = durable_bus_server
    with contextlib.closing(ShardLog(server.address)) as log:
        sealed = log.sealed()
        first = log.bus.ingest(log.tag, sealed)
        epoch = log.bus.take_epoch(log.tag)
        frames = answers(log, epoch, 0, b"one")
        before = log.bus.server().run_id
        server.kill()
        with pytest.raises(BusUnavailable):
            log.bus.ingest(log.tag, sealed)
        server.start()
        head = log.bus.head(log.tag)
        assert head is not None
        assert not head.is_approved
        for call in (
            lambda: log.bus.ingest(log.tag, sealed),
            lambda: log.bus.commit(log.tag, epoch, 0, log.genesis_hash, frames, HASHES[1]),
            lambda: log.bus.take_epoch(log.tag),
            lambda: log.bus.trim(log.tag, 1, 1, 1),
            lambda: log.bus.approve(log.tag, before),
        ):
            refused(call, BusReason.NOT_APPROVED)
        log.bus.approve(log.tag, log.bus.server().run_id)
        assert log.bus.ingest(log.tag, sealed) == first._replace(repeated=True, gather_us=0)
        # What the old matcher executed may not be what this server has: it must look again.
        refused(lambda: log.bus.commit(log.tag, epoch, 0, log.genesis_hash, frames, HASHES[1]), BusReason.FENCED)


def test_trimming_takes_both_streams_and_only_what_is_executed(log: ShardLog) -> None:
    for _ in range(3):
        log.enter()
    epoch = log.bus.take_epoch(log.tag)
    commit(log, epoch, 0, b"one", b"two")
    refused(lambda: log.bus.trim(log.tag, 3, 1, 1), BusReason.POSITION)
    [order], [answer] = log.bus.orders_range(log.tag, 2, 2), log.bus.executions_range(log.tag, 2, 2)
    for _ in range(2):
        log.bus.trim(log.tag, 2, order.bytes_total, answer.stamp.bytes_total)
    log.bus.trim(log.tag, 1, 1, 1)
    head = log.bus.head(log.tag)
    assert head is not None
    assert (head.trimmed_n, head.trimmed_bytes) == (2, order.bytes_total + answer.stamp.bytes_total)
    assert [entry.n for entry in log.bus.orders_range(log.tag, 1, 10)] == [3]
    assert log.bus.executions_range(log.tag, 1, 10) == []
    assert log.enter().n == 4
    commit(log, epoch, 2, b"three", b"four")
    assert [entry.n for entry in log.bus.executions_range(log.tag, 1, 10)] == [3, 4]


# --- clients ----------------------------------------------------------------------------------------------------------


def test_reads_go_on_after_a_position_and_wait_for_the_first_entry(log: ShardLog) -> None:
    assert log.bus.read_orders({log.tag: 0}, 10) == {}
    began_s = time.monotonic()
    assert log.bus.read_orders({log.tag: 0}, 10, block_ms=30) == {}
    assert time.monotonic() - began_s >= 0.02
    for _ in range(5):
        log.enter()
    assert [entry.n for entry in log.bus.read_orders({log.tag: 2, "other": 0}, 2)[log.tag]] == [3, 4]
    commit(log, log.bus.take_epoch(log.tag), 0, b"one", b"two")
    assert [entry.n for entry in log.bus.read_executions({log.tag: 1}, 9, 5)[log.tag]] == [2]


def test_scripts_are_loaded_again_when_the_server_forgot_them(log: ShardLog, bus_server: BusServer) -> None:
    log.enter()
    bus_server.command("SCRIPT", "FLUSH")
    assert log.enter().n == 2


def test_a_connection_that_the_server_dropped_is_unavailable_once_and_then_there_again(
    log: ShardLog, bus_server: BusServer
) -> None:
    sealed = log.sealed()
    log.bus.ingest(log.tag, sealed)
    bus_server.command("CLIENT", "KILL", "TYPE", "normal")
    with contextlib.suppress(BusUnavailable):
        log.bus.ingest(log.tag, sealed)
    assert log.bus.ingest(log.tag, sealed).repeated


def test_a_server_that_is_not_there_is_unavailable_and_the_address_shows_no_password() -> None:
    with (
        contextlib.closing(Bus.connect("redis://user:hunter2@127.0.0.1:1/")) as bus,
        pytest.raises(BusUnavailable) as at,
    ):
        bus.head("s1")
    assert "hunter2" not in str(at.value)


def test_addresses_are_urls_or_host_and_port() -> None:
    assert bus_url("10.0.0.5:6379") == "redis://10.0.0.5:6379"
    for url in ("redis://10.0.0.5/", "rediss://user:pass@host:1/", "unix:///run/bus.sock"):
        assert bus_url(url) == url
    for wrong in ("http://host/", "redis://"):
        with pytest.raises(ValueError, match="REDIS_ADDR"):
            bus_url(wrong)


def test_the_server_says_what_it_is(bus_server: BusServer, log: ShardLog) -> None:
    info = log.bus.server()
    assert info.kind == bus_server.kind
    assert info.maxmemory_policy == "noeviction"
    assert (info.appendonly, info.maxmemory_bytes) == ("no", 0)
    assert int(info.version.split(".")[0]) >= 7


def test_a_server_that_hides_its_settings_is_read_as_far_as_it_lets_us() -> None:
    with (
        bus_server_of("valkey", ("--rename-command", "CONFIG", "")) as server,
        contextlib.closing(Bus.connect(server.address)) as bus,
    ):
        assert (bus.server().appendonly, bus.server().maxmemory_policy) == ("", "noeviction")


def test_the_registry_forgets_who_does_not_announce_itself(log: ShardLog) -> None:
    matcher = ProcessRecord("market-matcher", "127.0.0.1:5001", "SERVING", (1,), 17, extra={"engine": "reference"})
    other = ProcessRecord("ingress-verifier", "127.0.0.1:5002", "SERVING", (), 18)
    gone = ProcessRecord("market-data", "127.0.0.1:5003", "SERVING", (), 19)
    log.bus.announce(matcher)
    log.bus.announce(other)
    log.bus.announce(gone, ttl_ms=1)
    deadline_s = time.monotonic() + 5
    while len(log.bus.processes()) > 2 and time.monotonic() < deadline_s:
        time.sleep(0.005)
    found = log.bus.processes()
    assert [record.address for record in found] == ["127.0.0.1:5002", "127.0.0.1:5001"]
    assert found[1].extra == {"engine": "reference"}
    assert found[1].seen_us > 0
    log.bus.announce(ProcessRecord("market-matcher", "127.0.0.1:5001", "DRAINING", (1,), 17))
    assert [record.state for record in log.bus.processes()] == ["SERVING", "DRAINING"]
    log.bus.withdraw(matcher)
    assert [record.kind for record in log.bus.processes()] == ["ingress-verifier"]


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(AsyncBus) - {"results", "heads"} == public(Bus)


def test_the_async_client_answers_as_the_other_does(bus_server: BusServer) -> None:
    async def scenario() -> None:
        with contextlib.closing(ShardLog(bus_server.address)) as log:
            bus = AsyncBus.connect(bus_server.address)
            sealed = log.sealed()
            first = await bus.ingest(log.tag, sealed)
            assert (await bus.ingest(log.tag, sealed)).n == first.n == 1
            assert await bus.orders_range(log.tag, 1, 1) == log.bus.orders_range(log.tag, 1, 1)
            assert await bus.read_orders({log.tag: 0}, 5, 5) == log.bus.read_orders({log.tag: 0}, 5)
            epoch = await bus.take_epoch(log.tag)
            await bus.commit(log.tag, epoch, 0, log.genesis_hash, answers(log, epoch, 0, b"one"), HASHES[1])
            assert await bus.read_executions({log.tag: 0}, 5) == {log.tag: await bus.executions_range(log.tag, 1, 9)}
            assert await bus.head(log.tag) == log.bus.head(log.tag)
            assert (await bus.server()).kind == bus_server.kind
            record = ProcessRecord("test", "127.0.0.1:1", "SERVING")
            await bus.announce(record)
            assert len(await bus.processes()) == 1
            await bus.withdraw(record)
            assert not await bus.initialise(log.tag, ENVIRONMENT, 1, log.genesis_hash)
            [order], [answer] = await bus.orders_range(log.tag, 1, 1), await bus.executions_range(log.tag, 1, 1)
            await bus.trim(log.tag, 1, order.bytes_total, answer.stamp.bytes_total)
            await bus.stop(log.tag, "a test")
            await bus.approve(log.tag, (await bus.server()).run_id, resume=True)
            assert abs(await bus.time_us() - time.time_ns() // 1000) < 5_000_000
            await bus.shut_down(save=False)
            with pytest.raises(BusUnavailable):
                await bus.head(log.tag)
            await bus.close()

    asyncio.run(scenario())


def test_heads_that_are_asked_for_together_are_those_that_are_asked_for_one_by_one(bus_server: BusServer) -> None:
    async def scenario() -> None:
        with (
            contextlib.closing(ShardLog(bus_server.address)) as log,
            contextlib.closing(ShardLog(bus_server.address, shard=2)) as second,
        ):
            log.enter()
            bus = AsyncBus.connect(bus_server.address)
            expected = [second.bus.head(second.tag), None, log.bus.head(log.tag)]
            assert await bus.heads([second.tag, "nobody", log.tag]) == expected
            assert await bus.heads([]) == []
            # A server that was started again knows no script.
            bus_server.command("SCRIPT", "FLUSH")
            assert await bus.heads([second.tag, "nobody", log.tag]) == expected
            # Answers to who has given up are nobody's.
            bus_server.command("CLIENT", "PAUSE", 200, "ALL")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await bus.heads([second.tag, "nobody", log.tag])
            assert await bus.heads([log.tag, log.tag, second.tag]) == [expected[2], expected[2], expected[0]]
            bus_server.command("SET", ShardKeys("wrong").head, "no hash")
            with pytest.raises(BusUnavailable):
                await bus.heads([log.tag, "wrong"])
            assert await bus.heads([log.tag]) == [expected[2]]
            await bus.close()

    asyncio.run(scenario())


def test_an_ingress_is_handed_the_results_of_its_own_entries_alone(bus_server: BusServer) -> None:
    async def scenario() -> None:
        with (
            contextlib.closing(ShardLog(bus_server.address)) as log,
            contextlib.closing(ShardLog(bus_server.address, shard=2)) as second,
        ):
            for _ in range(3):
                log.enter()
            second.enter()
            epoch, second_epoch = log.bus.take_epoch(log.tag), second.bus.take_epoch(second.tag)
            bus = AsyncBus.connect(bus_server.address)
            results = bus.results(log.ingress, [log.tag, second.tag])
            async with asyncio.timeout(10):
                assert isinstance(await anext(results), Reconnected)
                commit(log, epoch, 0, b"one", ingress=log.ingress)
                commit(log, epoch, 1, b"not mine", ingress=second.ingress)
                # Longer than what is handed out: announced, and read from the stream.
                long = b"three" + bytes(calls.HANDED_OUT_BYTES_MAX)
                commit(log, epoch, 2, long, ingress=log.ingress)
                commit(second, second_epoch, 0, b"other shard", ingress=log.ingress)
                found = [await anext(results) for _ in range(3)]
            assert [(tag, entry.n, entry.frame) for tag, entry in _results(found)] == [
                ("s1", 1, b"one"),
                ("s1", 3, long),
                ("s2", 1, b"other shard"),
            ]
            assert _results(found)[0][1] == log.bus.executions_range(log.tag, 1, 1)[0]
            await results.aclose()  # type: ignore[attr-defined]
            await bus.close()

    asyncio.run(scenario())


def test_who_loses_the_results_connection_is_told_so(bus_server: BusServer) -> None:
    async def scenario() -> None:
        with contextlib.closing(ShardLog(bus_server.address)) as log:
            for _ in range(2):
                log.enter()
            epoch = log.bus.take_epoch(log.tag)
            bus = AsyncBus.connect(bus_server.address)
            results = bus.results(log.ingress, [log.tag])
            async with asyncio.timeout(10):
                assert isinstance(await anext(results), Reconnected)
                bus_server.command("CLIENT", "KILL", "TYPE", "pubsub")
                commit(log, epoch, 0, b"one", ingress=log.ingress)
                assert isinstance(await anext(results), Reconnected)
                commit(log, epoch, 1, b"two", ingress=log.ingress)
                [(_, entry)] = _results([await anext(results)])
            assert entry.frame == b"two"
            await results.aclose()  # type: ignore[attr-defined]
            await bus.close()

    asyncio.run(scenario())


def _results(found: list[Any]) -> list[tuple[str, ExecutionsEntry]]:
    assert not any(isinstance(one, Reconnected) for one in found)
    return found


def test_scripts_keep_to_the_slot_of_their_shard_in_a_cluster() -> None:
    for kind in ("redis", "valkey"):
        with bus_server_of(kind, ("--cluster-enabled", "yes", "--port", "0")) as server:
            server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            with contextlib.closing(Bus.connect(server.address)) as bus:
                deadline_s = time.monotonic() + 10
                while b"cluster_state:ok" not in bytes(server.command("CLUSTER", "INFO")):  # type: ignore[call-overload]
                    assert time.monotonic() < deadline_s
                    time.sleep(0.01)
                bus.announce(ProcessRecord("test", "127.0.0.1:1", "SERVING"))
                assert len(bus.processes()) == 1
            with contextlib.closing(ShardLog(server.address)) as log:
                log.enter()
                commit(log, log.bus.take_epoch(log.tag), 0, b"one", ingress=log.ingress)
                [order], [answer] = log.bus.orders_range(log.tag, 1, 1), log.bus.executions_range(log.tag, 1, 1)
                log.bus.trim(log.tag, 1, order.bytes_total, answer.stamp.bytes_total)
                log.bus.stop(log.tag, "a test")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_seal_holds_for_one_shard_ingress_counter_and_frame(log: ShardLog) -> None:
    sealed = log.sealed()
    log.bus.ingest(log.tag, sealed)
    [entry] = log.bus.orders_range(log.tag, 1, 1)
    assert check_mac(KEYS, 1, log.ingress, 1, entry)
    assert not check_mac(KEYS, 2, log.ingress, 1, entry)
    assert not check_mac(KEYS, 1, bytes(16), 1, entry)
    assert not check_mac(KEYS, 1, log.ingress, 2, entry)
    assert not check_mac(KEYS, 1, log.ingress, 1, entry._replace(order_frame=entry.order_frame + b"x"))
    assert not check_mac(KEYS, 1, log.ingress, 1, entry._replace(mac=bytes(32)))
    assert not check_mac(KEYS, 1, log.ingress, 1, entry._replace(key_name="matcher"))
    assert not check_mac(KEYS, 1, log.ingress, 1, entry._replace(key_name="nobody"))


def test_bus_keys_are_read_from_lines_and_never_shown(tmp_path: Any) -> None:
    path = tmp_path / "bus.keys"
    path.write_text(f"# of the ingresses\n\ningress-1 {'ab' * 32}\nmatcher\t{'cd' * 32}\n")
    keys = BusKeys.load(path)
    assert sorted(keys) == ["ingress-1", "matcher"]
    assert keys.named("matcher").secret == bytes.fromhex("cd" * 32)
    assert "abab" not in repr(keys["ingress-1"])
    with pytest.raises(ValueError, match=r"no bus key 'other'; there are: ingress-1, matcher"):
        keys.named("other")
    for wrong in ("", "name short", f"a {'ab' * 32}\na {'cd' * 32}", f"a {'AB' * 32}"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="BUS_KEYS") as error:
            BusKeys.load(path)
        assert "abab" not in str(error.value)


def test_frames_say_who_made_them(valkey_server: BusServer) -> None:
    with contextlib.closing(ShardLog(valkey_server.address)) as log:
        sealed = log.sealed(counter=300, time_us=1_700_000_000_000_000)
    assert frame_origin(sealed.order_frame) == (log.ingress, 300)
    assert frame_time_us(sealed.order_frame) == 1_700_000_000_000_000
    for wrong in (
        b"",
        sealed.order_frame[:22],
        b"\x08\x02" + sealed.order_frame[2:],
        sealed.order_frame[:21] + b"\xff" * 12,
    ):
        with pytest.raises(ValueError, match="FRAME_ORIGIN"):
            frame_origin(wrong)
    with pytest.raises(ValueError, match="FRAME_ORIGIN"):
        seal(BusKey("a", bytes(32)), 1, bytes(16), 300, sealed.order_frame, 1)


def test_stamps_and_tags_are_written_as_they_are_read() -> None:
    stamp = Stamp(3, 1_700_000_000_000_000, 1_700_000_000_000_100, 64, 5_000, 4_000)
    assert read_stamp(write_stamp(stamp)) == stamp
    assert default_tag(0) == "s0"
    keys = ShardKeys("s7")
    assert keys.head == "clob:{s7}:head"
    assert keys.results(bytes(16)) == f"clob:{{s7}}:results:{'00' * 16}"
    assert INGRESS_KEY.name in KEYS

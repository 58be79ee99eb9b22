"""Links on their way, approval of servers, outcomes, samples: the decisions of settlement, without bus or threads."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clob.v1 import frame_pb2, order_service_pb2, process_service_pb2
from exchange.bus.entries import ExecutionsEntry, Head, Limits, OrdersEntry, Stamp
from exchange.bus.registry import RECORD_TTL_MS, ProcessRecord
from exchange.control.view import ControlView
from exchange.domain.commands import Batch, PlaceOrder, Side
from exchange.domain.limits import FRAME_LINKS_MAX, LINK_DIGESTS_MAX, LINK_TRANSFERS_MAX
from exchange.domain.operations import Link, Transfer
from exchange.domain.rejects import RejectReason
from exchange.engine.choice import engine_named
from exchange.local.control_venue import ControlVenue
from exchange.local.venue import Venue
from exchange.serving.errors import Refusal, reason_of
from exchange.settlement import outcome_service
from exchange.settlement.approval import Claim, Tail, judge
from exchange.settlement.approver import Approver, ShardNews
from exchange.settlement.archive import Archive, Archived, rows_of
from exchange.settlement.database import Database, DatabaseError
from exchange.settlement.ledger import Draft, Ledger, LinkAnswer
from exchange.settlement.ledgers import LEDGERS
from exchange.settlement.links import LinksInTransit
from exchange.settlement.outcome_service import LOOKS_MAX, OutcomeServicer
from exchange.settlement.outcomes import cut_operation, cut_outcome, find_batches
from exchange.settlement.signatures import KeyHistory, Sample, Sampler
from exchange.wire.messages import decode
from tests.support.bus_venue import environment_named
from tests.support.markets import ALICE, BASE, BOB, QUOTE, UNBANDED

REFERENCE = engine_named("reference")

# --- links ----------------------------------------------------------------------------------------------------------


def link(sequence: int, from_shard: int = 0, to_shard: int = 1, transfers: int = 1) -> Link:
    return Link(from_shard, to_shard, sequence, 7, tuple(Transfer(one + 1, QUOTE, 5) for one in range(transfers)))


def in_transit(*links: Link) -> LinksInTransit:
    transit = LinksInTransit()
    for one in links:
        transit.add(one, debited_us=one.sequence)
    return transit


def test_links_are_taken_in_order_once_and_gone_when_they_are_applied() -> None:
    transit = in_transit(link(2), link(1), link(1, from_shard=2))
    taken = transit.take(1)
    assert [(one.from_shard, one.sequence) for one in taken] == [(0, 1), (0, 2), (2, 1)]
    assert transit.take(1) == []
    transit.entered(taken, n=5)
    transit.settled(1, 5, [LinkAnswer(0, 1, 0), LinkAnswer(2, 1, 0), LinkAnswer(0, 2, RejectReason.LINK_GAP)])
    assert [one.link for one in transit.all()] == [link(2)]
    assert transit.take(1) == [link(2)]


def test_link_whose_entry_was_settled_without_it_is_ready_again_and_one_that_waits_is_not() -> None:
    transit = in_transit(link(1))
    transit.entered(transit.take(1), n=5)
    transit.settled(1, 4, [])
    assert transit.take(1) == []
    transit.settled(1, 5, [])
    assert transit.take(1) == [link(1)]
    transit.give_back([link(1)])
    assert transit.take(1) == [link(1)]


def test_no_more_links_of_a_pair_are_unanswered_than_a_receiver_remembers() -> None:
    transit = in_transit(*(link(sequence) for sequence in range(1, LINK_DIGESTS_MAX + 10)))
    taken: list[Link] = []
    while part := transit.take(1):
        assert len(part) <= FRAME_LINKS_MAX
        transit.entered(part, n=1)
        taken += part
    assert [one.sequence for one in taken] == list(range(1, LINK_DIGESTS_MAX + 1))
    transit.settled(1, 1, [LinkAnswer(0, sequence, 0) for sequence in range(1, 4)])
    assert {one.sequence for one in transit.take(1)} >= {4}


def test_frame_of_large_links_stays_below_what_a_frame_may_have() -> None:
    transit = in_transit(*(link(sequence, transfers=LINK_TRANSFERS_MAX) for sequence in range(1, 300)))
    while part := transit.take(1):
        assert len(part) <= FRAME_LINKS_MAX
        transit.settled(1, 1, [LinkAnswer(0, one.sequence, 0) for one in part])


def test_refusal_of_a_link_is_kept_until_one_is_applied() -> None:
    transit = in_transit(link(1))
    transit.entered(transit.take(1), n=1)
    transit.settled(1, 1, [LinkAnswer(0, 1, RejectReason.BAD_SIGNATURE)])
    assert transit.refused == {(0, 1): RejectReason.BAD_SIGNATURE}
    transit.settled(1, 2, [LinkAnswer(0, 1, 0)])
    assert transit.refused == {}


# --- approval -------------------------------------------------------------------------------------------------------


def head(orders_n: int, executions_n: int) -> Head:
    return Head(
        environment="local",
        shard=1,
        genesis_hash=bytes(32),
        run_id="before",
        run_id_now="now",
        stopped="",
        orders_n=orders_n,
        orders_t_us=0,
        orders_commands=0,
        orders_bytes=0,
        executions_n=executions_n,
        executions_hash=hash_at(executions_n),
        executions_commands=0,
        executed_bytes=0,
        executions_bytes=0,
        epoch=1,
        trimmed_n=0,
        trimmed_bytes=0,
        limits=Limits(),
    )


def hash_at(n: int) -> bytes:
    return n.to_bytes(32, "big")


def tail(
    orders_n: int, executions_n: int, faults: tuple[str, ...] = (), known: Mapping[int, bytes] | None = None
) -> Tail:
    hashes = known if known is not None else {n: hash_at(n) for n in range(executions_n + 1)}
    inputs = {n: hash_at(1_000 + n) for n in range(1, orders_n + 1)}
    return Tail(1, head(orders_n, executions_n), faults, hashes.get, inputs.get)


NOTHING = Tail(1, None, (), lambda _: None, lambda _: None)


def test_shard_that_nobody_knows_is_made() -> None:
    assert judge(NOTHING, [Claim("the database", 0)]) == ("", True)


def test_server_that_has_all_that_anybody_knows_is_approved() -> None:
    claims = [
        Claim("the database", 8, hash_at(8)),
        Claim("a checkpoint", 3),
        Claim("ingress", 12, hash_at(1_012), of_orders=True),
        Claim("matcher", 10, hash_at(10)),
    ]
    assert judge(tail(12, 10), claims) == ("", False)


def test_claim_of_what_was_trimmed_and_cannot_be_compared_is_no_loss() -> None:
    assert judge(tail(12, 10, known={10: hash_at(10)}), [Claim("the database", 4, b"x" * 32)]) == ("", False)


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (
            Claim("the database", 11, hash_at(11)),
            "missing are executions 11 .. 11: the database knows executions up to 11",
        ),
        (Claim("ingress", 15, b"", of_orders=True), "missing are orders 13 .. 15: ingress knows orders up to 15"),
        (Claim("the archive", 9, hash_at(8)), "the archive knows hash"),
        (Claim("ingress", 12, hash_at(0), of_orders=True), "ingress knows hash"),
    ],
)
def test_loss_says_which_positions_and_who_knew_them(claim: Claim, said: str) -> None:
    loss = judge(tail(12, 10), [claim, Claim("the database", 8, hash_at(8))]).loss
    assert loss.startswith("BUS_LOST: shard 1: ")
    assert said in loss


def test_server_that_has_nothing_of_a_known_shard_has_lost_it() -> None:
    loss = judge(NOTHING, [Claim("the database", 8, hash_at(8)), Claim("ingress", 9, b"", of_orders=True)]).loss
    assert "missing are positions 1 .. 9" in loss


def test_streams_that_do_not_fit_their_head_are_not_approved() -> None:
    assert "one too many" in judge(tail(12, 10, faults=("one too many",)), []).loss


NOW_US = 10**15
MATCHER, INGRESS = "matcher:1", "ingress:1"


class Others:
    """A bus that has nothing of a shard, and the other processes of its registry.

    Attributes:
        records: by address.
        known: last ingested position that a process answers with; None: it knows nothing; none here: no answer.
        decided: what was done to the shard.
        waits: how often the approver gave processes time to register.
        run_id: of the server process.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: dict[str, ProcessRecord] = {}
        self.known: dict[str, int | None] = {}
        self.decided: list[str] = []
        self.waits = 0
        self.run_id = "now"
        self.head_now: Head | None = None
        self.approver = Approver(
            self,  # type: ignore[arg-type]
            environment_named("local"),
            SimpleNamespace(positions=lambda _: []),  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            self._own_claims,
            lambda: "plane:1",
            limits=Limits(),
            wait_s=7,
        )
        self.register("plane:1", shards=(0,))
        monkeypatch.setattr("exchange.settlement.approver.asyncio.sleep", self._sleep)

    def register(self, address: str, state: str = "SERVING", shards: tuple[int, ...] = (), age_ms: int = 0) -> None:
        self.records[address] = ProcessRecord("x", address, state, shards, seen_us=NOW_US - age_ms * 1000)

    def look(self) -> ShardNews:
        return asyncio.run(self.approver.look(1, "s1"))

    async def _own_claims(self, shard: int) -> list[Claim]:
        return []

    async def _sleep(self, _: float) -> None:
        self.waits += 1

    # as the bus
    async def head(self, tag: str) -> Head | None:
        return self.head_now

    async def server(self) -> Any:
        return SimpleNamespace(run_id=self.run_id)

    async def time_us(self) -> int:
        return NOW_US

    async def initialise(self, *_: Any) -> None:
        self.decided.append("initialise")

    async def approve(self, *_: Any) -> None:
        self.decided.append("approve")

    async def stop(self, tag: str, message: str) -> None:
        self.decided.append(message)

    # as the peers
    async def processes(self, *, fresh: bool) -> list[ProcessRecord]:
        assert fresh
        return list(self.records.values())

    def headers(self, record: ProcessRecord) -> tuple[tuple[str, str], ...]:
        return ()

    def channel(self, record: ProcessRecord) -> Any:
        async def ask(request: bytes, **_: Any) -> bytes:
            if record.address not in self.known:
                raise TimeoutError
            answer = process_service_pb2.GetEvidenceResponse()
            ingested_n = self.known[record.address]
            if ingested_n is not None:
                answer.shards.add(shard=1, ingested_n=ingested_n)
            return answer.SerializeToString()

        return SimpleNamespace(unary_unary=lambda method: ask)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Others:
    return Others(monkeypatch)


def test_first_start_of_a_shard_waits_for_nobody(others: Others) -> None:
    others.register(INGRESS)
    others.known[INGRESS] = 0
    others.look()
    assert (others.decided, others.waits) == (["initialise", "approve"], 0)


def test_nothing_is_decided_while_a_process_that_is_registered_has_not_answered(others: Others) -> None:
    others.register(MATCHER, shards=(1,))
    others.known[MATCHER] = None
    others.register(INGRESS)
    assert others.look() == ShardNews(False, "")
    assert others.decided == []
    others.known[INGRESS] = 5
    others.look()
    assert "missing are positions 1 .. 5" in others.decided[-1]


def test_processes_get_time_to_register_once_for_all_shards_of_a_server_process(others: Others) -> None:
    others.register(MATCHER, shards=(1, 2, 3))
    others.known[MATCHER] = None
    for shard, tag in ((1, "s1"), (2, "s2"), (3, "s3")):
        asyncio.run(others.approver.look(shard, tag))
    assert (others.decided, others.waits) == (["initialise", "approve"] * 3, 1)
    others.run_id = "another"
    others.look()
    assert others.waits == 2


def test_process_that_left_the_registry_drains_or_ended_is_not_waited_for(others: Others) -> None:
    others.register(INGRESS)
    others.look()
    assert others.decided == []
    del others.records[INGRESS]
    others.register("drains", "DRAINING")
    others.register("ended", "STOPPED", age_ms=RECORD_TTL_MS + 1)
    others.register("stopped and here", "STOPPED", age_ms=500)
    others.look()
    assert others.decided == []
    others.known["stopped and here"] = None
    others.look()
    assert others.decided == ["initialise", "approve"]


def test_entries_that_only_other_processes_know_are_missed_of_a_shard_that_is_unknown_here(others: Others) -> None:
    others.register(INGRESS)
    others.known[INGRESS] = 2
    others.look()
    assert "missing are positions 1 .. 2" in others.decided[-1]
    assert others.waits == 1


def test_shard_that_is_served_or_was_approved_before_is_not_taken_for_new(others: Others) -> None:
    others.register(MATCHER, shards=(1,))
    others.known[MATCHER] = None
    others.look()
    assert others.waits == 1
    del others.records[MATCHER]
    others.head_now = head(2, 2)._replace(run_id="now")
    assert others.look().is_approved
    others.head_now = None  # started again, without what it had, the registry included
    others.look()
    assert others.waits == 2


# --- outcomes -------------------------------------------------------------------------------------------------------


def traded() -> Venue:
    venue = Venue(REFERENCE, signed=False)
    venue.define_markets(UNBANDED)
    venue.credit(Transfer(ALICE, BASE, 50), Transfer(BOB, QUOTE, 10_000))
    venue.trade(ALICE, PlaceOrder(UNBANDED.market, Side.SELL, 1, price_ticks=100, quantity_lots=5))
    return venue


def test_outcome_has_the_events_of_its_batch_and_the_other_side_of_a_trade_left_out() -> None:
    venue = traded()
    first = venue.batch(BOB, PlaceOrder(UNBANDED.market, Side.BUY, 1, price_ticks=110, quantity_lots=3))
    second = venue.batch(BOB, PlaceOrder(UNBANDED.market, Side.BUY, 1, price_ticks=1, quantity_lots=3))
    venue.enter(first, second)
    frame = frame_pb2.ExecutionFrame.FromString(venue.frames[-1])
    outcome = cut_outcome(frame, 1, BOB)
    assert outcome is not None
    assert [event.WhichOneof("event") for event in outcome.events] == ["batch_result", "order_accepted", "trade"]
    trade = outcome.events[2].trade
    assert (trade.taker_account, trade.maker_account, trade.maker_order_id, trade.maker_account_seq) == (BOB, 0, 0, 0)
    assert frame.events[2].trade.maker_account == ALICE
    last = cut_outcome(frame, 2, BOB)
    assert last is not None
    assert [event.WhichOneof("event") for event in last.events] == ["batch_result", "order_accepted"]
    assert cut_outcome(frame, 3, BOB) is None
    batch = decode(Batch, second.payload)
    (found,) = find_batches(venue.entries[-1].order_frame, second.key_id, batch.nonce)
    assert (found.place, found.account, found.valid_until_ms) == (2, BOB, batch.valid_until_ms)


def test_outcome_of_an_operation_ends_where_the_next_part_begins() -> None:
    venue = traded()
    venue.enter(
        venue.batch(BOB, PlaceOrder(UNBANDED.market, Side.BUY, 1, price_ticks=1, quantity_lots=1)),
        links=(venue.link(Transfer(BOB, QUOTE, 1)),),
    )
    define = frame_pb2.ExecutionFrame.FromString(venue.frames[0])
    outcome = cut_operation(define, 1)
    assert outcome is not None
    assert [event.WhichOneof("event") for event in outcome.events] == ["operation_result", "market_defined"]
    assert cut_operation(frame_pb2.ExecutionFrame.FromString(venue.frames[-1]), 1) is None


class Trimming:
    """A bus, and a settler that has settled, archived and trimmed everything right after the first look at it."""

    def __init__(self, venue: Venue, archive: Archive, *, settles: bool) -> None:
        self.looks = 0
        self._archive = archive
        self._settles = settles
        self._entries = [
            Archived(
                OrdersEntry(entry.n, entry.t_us, entry.order_frame, bytes(32), "ingress", entry.n, 0),
                ExecutionsEntry(entry.n, frame, Stamp(1, 2, 3, entry.n, 0, 4)),
            )
            for entry, frame in zip(venue.entries, venue.frames, strict=True)
        ]
        self._now_us = venue.now_us
        self.progress = {1: SimpleNamespace(n=0, t_us=0)}

    def archive(self, shard: int) -> Archive:
        return self._archive

    def settlement(self, shard: int) -> None:
        return None

    async def time_us(self) -> int:
        return self._now_us + 10**12

    async def head(self, tag: str) -> Head:
        return head(len(self._entries), len(self._entries))._replace(run_id="now")

    async def orders_range(self, tag: str, first_n: int, last_n: int) -> list[OrdersEntry]:
        self.looks += 1
        if self._settles and self._archive.last_n == 0:
            self._archive.append(self._entries, rows_of(self._entries))
            self.progress = {1: SimpleNamespace(n=self._archive.last_n, t_us=self._now_us)}
        return []


@pytest.mark.parametrize("settles", [True, False])
def test_batch_that_is_trimmed_during_the_look_up_is_never_said_to_be_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settles: bool
) -> None:
    monkeypatch.setattr(outcome_service, "LOOK_AGAIN_S", 0)
    venue = traded()
    signed = venue.batch(BOB, PlaceOrder(UNBANDED.market, Side.BUY, 1, price_ticks=110, quantity_lots=3))
    venue.enter(signed)
    batch = decode(Batch, signed.payload)
    request = order_service_pb2.GetOutcomeRequest(
        key_id=signed.key_id, shard=1, nonce=batch.nonce, valid_until_ms=batch.valid_until_ms
    )
    archive = Archive(tmp_path, 1, is_durable=False)
    both: Any = Trimming(venue, archive, settles=settles)
    follower: Any = SimpleNamespace(view=SimpleNamespace(shards={1: "s1"}, keys={}))
    servicer = OutcomeServicer(both, environment_named("local"), follower, both)
    asked = servicer.GetOutcome(request, SimpleNamespace(invocation_metadata=lambda: ()))
    if settles:
        answer = asyncio.run(asked)
        assert answer.state == order_service_pb2.OUTCOME_STATE_EXECUTED
        assert answer.outcome.n == len(venue.entries)
        assert both.looks == 1
    else:
        with pytest.raises(Refusal) as refusal:
            asyncio.run(asked)
        assert reason_of(refusal.value.status) == "UNAVAILABLE"
        assert both.looks == LOOKS_MAX
    archive.close()


# --- samples --------------------------------------------------------------------------------------------------------


def test_sampler_chooses_every_batch_none_or_one_in_so_many() -> None:
    assert Sampler(1).chosen(5) == [0, 1, 2, 3, 4]
    assert Sampler(0).chosen(5) == []
    sampler, chosen = Sampler(10), Counter[int]()
    for _ in range(2_000):
        chosen.update(sampler.chosen(7))
    assert 1_000 < sum(chosen.values()) < 1_900


def test_key_is_good_from_its_registration_to_its_revocation() -> None:
    control = ControlVenue()
    history = KeyHistory(ControlView.from_genesis(control.genesis))
    account, key = control.new_user("alice")
    signed = control.batch(key, account, PlaceOrder(UNBANDED.market, Side.BUY, 1, price_ticks=1, quantity_lots=1))

    def refusal(control_n: int, signature: bytes = signed.signature, account: int = account) -> str:
        for frame in control.frames[history.view.position :]:
            history.apply(frame)
        sample = Sample(1, 1, control_n, key.key_id, account, signed.payload, signature)
        return history.refusal(control.environment, sample)

    registered_n = control.engine.position
    assert refusal(registered_n) == ""
    assert "was registered at" in refusal(registered_n - 1)
    assert "does not verify" in refusal(registered_n, bytes(64))
    assert "may not sign" in refusal(registered_n, account=account + 1)
    from exchange.domain.control import RevokeKey

    control.command(key, account, RevokeKey(key.key_id))
    assert refusal(registered_n) == ""
    assert "was revoked" in refusal(control.engine.position)
    assert "was revoked" in refusal(2**40)


# --- the ledger as rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ledger_class", LEDGERS.values(), ids=LEDGERS)
def test_ledger_comes_back_from_the_database_as_it_was(tmp_path: Path, ledger_class: type[Ledger]) -> None:
    from exchange.domain.commands import ReleaseFunds
    from exchange.wire.hashing import chain_hash

    venue = traded()
    venue.trade(BOB, PlaceOrder(UNBANDED.market, Side.BUY, 1, price_ticks=110, quantity_lots=3))
    venue.trade(ALICE, ReleaseFunds(QUOTE, 70), ReleaseFunds(QUOTE, 5))
    database = Database(tmp_path / "x.db", "local", is_durable=True)
    ledger = ledger_class(venue.genesis)
    for frame in venue.frames:
        draft, _ = ledger.fold_proven([frame], chain_hash(frame))
        database.settle([(1, draft)])
        ledger.adopt(draft)
    strict = ledger_class(venue.genesis)
    strict.apply(venue.frames, venue.entries)
    again = ledger_class(venue.genesis, database.rows(1))
    for one in (ledger, again):
        assert (one.n, one.t_us, one.chain_hash) == (strict.n, strict.t_us, strict.chain_hash)
        assert one.holdings() == strict.holdings()
        assert one.outstanding() == strict.outstanding()
        assert one.sent_after(0, 0) == {QUOTE: 75}
    assert len(again.outstanding()[0].transfers) == 2
    with pytest.raises(DatabaseError, match="CURSOR_MOVED"):
        database.settle([(1, ledger_class(venue.genesis).draft())])
    assert database.check() == ""
    database.close()
    with pytest.raises(DatabaseError, match="environment"):
        Database(tmp_path / "x.db", "other", is_durable=True)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_balances_of_any_number_of_holders_are_written_and_written_over(tmp_path: Path, rows: int) -> None:
    database = Database(tmp_path / "x.db", "local", is_durable=False)
    units = {(0, holder, QUOTE): 2**63 - 1 - holder for holder in range(rows)}
    database.settle([(1, Draft(0, b"", 1, 1, b"1" * 32, units)), (2, Draft(0, b"", 1, 1, b"2" * 32, units))])
    changed = {(0, holder, QUOTE): -(2**70) for holder in range(0, rows, 2)}
    database.settle([(1, Draft(1, b"1" * 32, 2, 1, b"3" * 32, changed))])
    assert database.rows(1).units == {**units, **changed}
    assert database.rows(2).units == units
    database.close()


def test_damaged_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(DatabaseError, match="move it away"):
        Database(tmp_path / "x.db", "local", is_durable=False)

"""Links on their way, approval of servers, outcomes, samples: the decisions of settlement, without bus or threads."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from clob.v1 import frame_pb2
from exchange.bus.entries import Head, Limits
from exchange.control.view import ControlView
from exchange.domain.commands import Batch, PlaceOrder, Side
from exchange.domain.limits import FRAME_LINKS_MAX, LINK_DIGESTS_MAX, LINK_TRANSFERS_MAX
from exchange.domain.operations import Link, Transfer
from exchange.domain.rejects import RejectReason
from exchange.engine.choice import engine_named
from exchange.local.control_venue import ControlVenue
from exchange.local.venue import Venue
from exchange.settlement.approval import Claim, Tail, judge
from exchange.settlement.database import Database, DatabaseError
from exchange.settlement.ledger import Ledger, LinkAnswer
from exchange.settlement.links import LinksInTransit
from exchange.settlement.outcomes import cut_operation, cut_outcome, find_batches
from exchange.settlement.signatures import KeyHistory, Sample, Sampler
from exchange.wire.messages import decode
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


def test_ledger_comes_back_from_the_database_as_it_was(tmp_path: Path) -> None:
    from exchange.domain.commands import ReleaseFunds
    from exchange.settlement.frames import read_frame
    from exchange.wire.hashing import chain_hash

    venue = traded()
    venue.trade(BOB, PlaceOrder(UNBANDED.market, Side.BUY, 1, price_ticks=110, quantity_lots=3))
    venue.trade(ALICE, ReleaseFunds(QUOTE, 70), ReleaseFunds(QUOTE, 5))
    database = Database(tmp_path / "x.db", "local", is_durable=True)
    ledger = Ledger(venue.genesis)
    for frame in venue.frames:
        draft = ledger.draft()
        ledger.fold_proven(draft, [read_frame(frame)], chain_hash(frame))
        database.settle([(1, draft)])
        ledger.adopt(draft)
    strict = Ledger(venue.genesis)
    strict.apply(venue.frames, venue.entries)
    again = Ledger(venue.genesis, database.rows(1))
    for one in (ledger, again):
        assert (one.n, one.t_us, one.chain_hash) == (strict.n, strict.t_us, strict.chain_hash)
        assert one.holdings() == strict.holdings()
        assert one.outstanding() == strict.outstanding()
        assert one.sent_after(0, 0) == {QUOTE: 75}
    assert len(again.outstanding()[0].transfers) == 2
    with pytest.raises(DatabaseError, match="CURSOR_MOVED"):
        database.settle([(1, Ledger(venue.genesis).draft())])
    assert database.check() == ""
    database.close()
    with pytest.raises(DatabaseError, match="environment"):
        Database(tmp_path / "x.db", "other", is_durable=True)


def test_damaged_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(DatabaseError, match="move it away"):
        Database(tmp_path / "x.db", "local", is_durable=False)

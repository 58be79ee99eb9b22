"""The sender of a flow: signs each order on its own, keeps a shard's orders in order, counts what became of them."""

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import grpc
from hdrh.histogram import HdrHistogram

from clob.v1 import door_reason_pb2, event_pb2, order_service_pb2, order_service_pb2_grpc, outcome_pb2
from exchange.domain.commands import Batch, Command
from exchange.domain.markets import Market
from exchange.domain.money import notional_of
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.embedded.traders import Trader
from exchange.reference.signing import sign
from exchange.wire.messages import encode

BATCHES_PER_MESSAGE: Final = 64
MESSAGES_IN_FLIGHT: Final = 16
VALIDITY_MS: Final = 50_000
WAIT_MS_MAX: Final = 30_000
LATENCY_US_MAX: Final = 60_000_000

STAGES: Final = (
    ("to the ingress", "sent_us", "received_us"),
    ("verify", "received_us", "verified_us"),
    ("frame", "verified_us", "framed_us"),
    ("sequence", "framed_us", "sequenced_us"),
    ("wait for the matcher", "sequenced_us", "taken_us"),
    ("match", "taken_us", "executed_us"),
    ("commit", "executed_us", "durable_us"),
    ("to the ingress again", "durable_us", "answered_us"),
    ("answer", "answered_us", "got_us"),
    ("end to end", "sent_us", "got_us"),
)
"""Name of a stage, and the moments that it lies between (EntryStages; sent_us and got_us are the sender's)."""


@dataclass(slots=True)
class Tally:
    """What became of the orders of a flow.

    Attributes:
        sent: batches, each of one command.
        executed: batches that a shard executed; their commands were accepted or rejected on their own.
        accepted: commands that were not rejected.
        rejected, refused: commands by reject reason, and batches that were not executed by the reason's name.
        lost: batches of which nothing is known.
        repeated: batches that had been executed before.
        orders: accepted orders. trades, volume_units: trades, and notional by quote asset.
        last_n: highest position of an outcome, by shard.
        latency: by stage, in microseconds.
        started_ns, ended_ns: first message sent, last answer received; monotonic.
    """

    sent: int = 0
    executed: int = 0
    accepted: int = 0
    rejected: Counter[RejectReason] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    repeated: int = 0
    orders: int = 0
    trades: int = 0
    volume_units: Counter[int] = field(default_factory=Counter)
    last_n: dict[int, int] = field(default_factory=dict)
    latency: dict[str, HdrHistogram] = field(
        default_factory=lambda: {name: HdrHistogram(1, LATENCY_US_MAX, 3) for name, _, _ in STAGES}
    )
    started_ns: int = 0
    ended_ns: int = 0

    @property
    def seconds(self) -> float:
        """From the first message to the last answer."""
        return max(1, self.ended_ns - self.started_ns) / 1e9


class FlowSender:
    """Sends orders to the exchange's traders' port."""

    def __init__(self, channel: grpc.aio.Channel, environment: str, markets: dict[int, Market], tally: Tally) -> None:
        self._stub = order_service_pb2_grpc.OrderServiceStub(channel)
        self._environment = environment
        self._markets = markets
        self._tally = tally
        # One random number keeps the nonces of one sender apart from those of every other.
        self._nonce = secrets.randbits(63)

    async def send(
        self,
        shard: int,
        orders: Iterable[tuple[Trader, Command]],
        on_progress: Callable[[int], None],
        on_outcome: Callable[[int, outcome_pb2.BatchOutcome], None] = lambda place, outcome: None,
    ) -> None:
        """Send all orders to one shard, in order, BATCHES_PER_MESSAGE to a message, some ahead of the answers.

        Args:
            shard: that they are for.
            orders: taken and signed as they are sent.
            on_progress: called with the number of orders that an answer was about.
            on_outcome: called with the place of an order, from 0, and its outcome; answers may overtake one another.

        Raises:
            grpc.RpcError: the stream broke; what was not answered counts as lost.
        """
        room = asyncio.Semaphore(MESSAGES_IN_FLIGHT)
        in_flight: dict[int, tuple[int, int]] = {}
        first_of: dict[int, int] = {}
        started_at = self._tally.sent

        async def requests() -> AsyncIterator[order_service_pb2.SubmitStreamRequest]:
            for tag, message in enumerate(self._messages(shard, orders), 1):
                await room.acquire()
                first_of[tag] = self._tally.sent - started_at
                in_flight[tag] = (time.time_ns() // 1000, len(message.batches))
                self._tally.started_ns = self._tally.started_ns or time.monotonic_ns()
                self._tally.sent += len(message.batches)
                yield order_service_pb2.SubmitStreamRequest(tag=tag, submit=message)

        try:
            async for answer in self._stub.SubmitStream(requests()):
                got_us = time.time_ns() // 1000
                sent_us, batches = in_flight.pop(answer.tag)
                room.release()
                assert len(answer.submit.outcomes) == batches
                self._count(shard, answer.submit, sent_us, got_us)
                for place, outcome in enumerate(answer.submit.outcomes, first_of.pop(answer.tag)):
                    on_outcome(place, outcome)
                on_progress(batches)
        finally:
            self._tally.lost += sum(batches for _, batches in in_flight.values())

    def _messages(
        self, shard: int, orders: Iterable[tuple[Trader, Command]]
    ) -> Iterator[order_service_pb2.SubmitRequest]:
        """Yield orders as messages of signed batches, each of one command."""
        left = iter(orders)
        while part := list(islice(left, BATCHES_PER_MESSAGE)):
            message = order_service_pb2.SubmitRequest(
                environment=self._environment, with_stages=True, wait_ms_max=WAIT_MS_MAX
            )
            valid_until_ms = time.time_ns() // 1_000_000 + VALIDITY_MS
            for trader, command in part:
                self._nonce += 1
                payload = encode(Batch(trader.account, shard, self._nonce, valid_until_ms, (command,)))
                signature = sign(trader.seed, signed_bytes(SignedKind.BATCH, self._environment, payload))
                message.batches.add(key_id=trader.key_id, payload=payload, signature=signature)
            yield message

    # --- counting ---------------------------------------------------------------------------------------------------

    def _count(self, shard: int, answer: order_service_pb2.SubmitResponse, sent_us: int, got_us: int) -> None:
        tally = self._tally
        tally.ended_ns = time.monotonic_ns()
        batches_at: dict[int, int] = defaultdict(int)
        for outcome in answer.outcomes:
            if outcome.state == outcome_pb2.SEND_STATE_EXECUTED:
                tally.executed += 1
                tally.repeated += outcome.repeated
                batches_at[outcome.n] += 1
                tally.last_n[shard] = max(tally.last_n.get(shard, 0), outcome.n)
                self._count_events(outcome)
            elif outcome.state == outcome_pb2.SEND_STATE_REFUSED:
                tally.refused[_refusal(outcome)] += 1
            else:
                tally.lost += 1
        for stages in answer.stages:
            moments = {"sent_us": sent_us, "got_us": got_us}
            for name, first, last in STAGES:
                before = moments.get(first) or getattr(stages, first)
                after = moments.get(last) or getattr(stages, last)
                # Clocks of one machine; a stage that ends before it began is within their resolution.
                value = min(max(1, after - before), LATENCY_US_MAX)
                tally.latency[name].record_value(value, batches_at[stages.n])

    def _count_events(self, outcome: outcome_pb2.BatchOutcome) -> None:
        tally = self._tally
        rejected = False
        for event in outcome.events:
            kind = event.WhichOneof("event")
            if kind == "command_rejected":
                rejected = True
                tally.rejected[RejectReason(event.command_rejected.reason)] += 1
            elif kind == "order_accepted":
                tally.orders += 1
            elif kind == "trade":
                self._count_trade(event.trade)
        tally.accepted += not rejected

    def _count_trade(self, trade: event_pb2.Trade) -> None:
        market = self._markets[trade.market]
        self._tally.trades += 1
        notional = notional_of(market, trade.price_ticks, trade.quantity_lots)
        self._tally.volume_units[market.quote_asset] += notional


def _refusal(outcome: outcome_pb2.BatchOutcome) -> str:
    if outcome.reject_reason:
        return RejectReason(outcome.reject_reason).name
    return door_reason_pb2.DoorReason.Name(outcome.door_reason).removeprefix("DOOR_REASON_")

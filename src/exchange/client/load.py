"""Open-loop load on one market: orders leave when they are planned, whatever became of those before.

Latency counts from the planned time of a message, so that a wait of the load's own, for room on the connection or for
the processor, is in it (no coordinated omission). Messages are signed ahead of their time, in slices of a few
signatures, so that signing is not.
"""

import asyncio
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final

from hdrh.histogram import HdrHistogram

from clob.v1 import outcome_pb2
from exchange.client.aio import AsyncClient
from exchange.client.batches import SignedCommands, request_head, sign_commands
from exchange.client.errors import ClientError
from exchange.client.instructions import cancel
from exchange.client.probing import Probe
from exchange.client.results import STAGES, Status, reason_of, reject_name
from exchange.client.streaming import Answer, SubmitStream
from exchange.client.transport import Transport
from exchange.domain.commands import (
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

LATENCY_US_MAX: Final = 600_000_000
DIGITS: Final = 3
SIGN_AHEAD_S: Final = 0.3
SLICE: Final = 4
"""Signatures between two looks at the connections: 0.2 ms."""
LIVE_NONCES: Final = 50_000
"""A key may have 65,536 live nonces in a shard (the default): validity is short enough for the rate."""
VALID_MS: Final = (2_000, 10_000)
RESTING: Final = 200
"""Orders of a connection that rest at once before the oldest is cancelled."""
IN_FLIGHT_MAX: Final = 4_096

STEPS: Final = (
    ("client", "planned -> sent"),
    ("network", "sent -> received"),
    ("ingress", "received -> verified"),
    ("ingress", "verified -> framed"),
    ("bus", "framed -> sequenced"),
    ("bus", "sequenced -> taken"),
    ("matcher", "taken -> executed"),
    ("matcher", "executed -> durable"),
    ("bus", "durable -> answered"),
    ("network", "answered -> got"),
)
"""Where time is spent, and between which stages."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    Attributes:
        rate: orders (commands) a second, over all connections.
        batch: signed batches in a message.
        trade_percent: how many of a hundred orders come in pairs that trade with one another.
        resting: an order that rests away from the market, which is placed and cancelled again and again.
        meeting_ticks, meeting_lots: price and quantity of the pairs.
    """

    rate: int
    duration_s: float
    connections: int
    batch: int
    commands_per_signature: int
    resting: Probe
    trade_percent: int = 0
    meeting_ticks: int = 0
    meeting_lots: int = 0

    @property
    def commands_per_message(self) -> int:
        """Commands in one message."""
        return self.batch * self.commands_per_signature

    @property
    def messages(self) -> int:
        """Messages of the whole run, at least one."""
        return max(1, round(self.rate * self.duration_s / self.commands_per_message))

    @property
    def valid_for_ms(self) -> int:
        """How long a batch is valid: no longer than the key has nonces for."""
        batches_per_s = max(1, self.rate // self.commands_per_signature)
        return max(VALID_MS[0], min(VALID_MS[1], LIVE_NONCES * 1_000 // batches_per_s))


class Latencies:
    """Histograms of microseconds."""

    def __init__(self) -> None:
        self.end_to_end = HdrHistogram(1, LATENCY_US_MAX, DIGITS)
        self.steps = [HdrHistogram(1, LATENCY_US_MAX, DIGITS) for _ in STEPS]
        self.backwards = 0

    def record(self, planned_us: int, sent_us: int, got_us: int, weight: int, row: Any = None) -> None:
        """Record a message, or the part of it that is in one entry, as `weight` batches."""
        self._put(self.end_to_end, got_us - planned_us, weight)
        if row is None:
            return
        times = [planned_us, sent_us, *(getattr(row, f"{stage}_us") for stage in STAGES), got_us]
        for histogram, before, after in zip(self.steps, times, times[1:], strict=False):
            if before and after:
                self._put(histogram, after - before, weight)

    def _put(self, histogram: HdrHistogram, value_us: int, weight: int) -> None:
        if value_us < 0:
            self.backwards += weight
        histogram.record_value(max(1, min(value_us, LATENCY_US_MAX)), weight)


@dataclass(slots=True)
class LoadReport:
    """What came of it.

    Attributes:
        commands, batches, messages: sent.
        accepted, rejected: commands that shards executed and did not reject, and the others by reason.
        refused: commands of batches that were not executed, by reason.
        trades: trades in which an order of ours took.
        in_doubt, lost: commands whose outcome the answer did not tell, and of these the ones nobody could tell.
        sending_us: from the first planned to the last answered message.
        cpu_us: processor time of this process meanwhile.
        late_us_max: how much later than planned a message left, at most.
        left_behind: orders that could not be cancelled at the end.
        latencies: by step.
    """

    commands: int = 0
    batches: int = 0
    messages: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    trades: int = 0
    in_doubt: int = 0
    lost: int = 0
    sending_us: int = 0
    cpu_us: int = 0
    late_us_max: int = 0
    left_behind: int = 0
    latencies: Latencies = field(default_factory=Latencies)


class Flow:
    """The commands of one connection: orders that rest, their cancels, and pairs that trade with one another."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._first_id = self._next_id = secrets.randbits(62) + 1
        self._owed = 0
        self._resting: deque[int] = deque()

    def __iter__(self) -> Iterator[Command]:
        """Yield commands without end, each to be sent before the next."""
        load, probe = self._load, self._load.resting
        while True:
            self._owed += load.trade_percent
            if self._owed >= 200:
                self._owed += load.trade_percent - 200
                yield self._meeting(Side.SELL, TimeInForce.GTC)
                yield self._meeting(Side.BUY, TimeInForce.IOC)
            elif len(self._resting) >= RESTING:
                yield CancelOrder(client_order_id=self._resting.popleft())
            else:
                self._resting.append(self._next_id)
                yield PlaceOrder(
                    market=probe.market.market,
                    side=probe.side,
                    order_type=OrderType.LIMIT,
                    post_only=True,
                    price_ticks=probe.price_ticks,
                    quantity_lots=probe.quantity_lots,
                    client_order_id=self._name(),
                )

    def has_made(self, client_order_id: int) -> bool:
        """Return whether an order is one of this flow's."""
        return self._first_id <= client_order_id < self._next_id

    def _meeting(self, side: Side, time_in_force: TimeInForce) -> PlaceOrder:
        return PlaceOrder(
            market=self._load.resting.market.market,
            side=side,
            order_type=OrderType.LIMIT,
            time_in_force=time_in_force,
            self_trade_prevention=SelfTradePrevention.NONE,
            price_ticks=self._load.meeting_ticks,
            quantity_lots=self._load.meeting_lots,
            client_order_id=self._name(),
        )

    def _name(self) -> int:
        self._next_id += 1
        return self._next_id - 1


async def run_load(client: AsyncClient, load: Load) -> LoadReport:
    """Send the load, wait for every answer, find out what is in doubt, and cancel what rests.

    Raises:
        ClientError: the exchange refuses to take the messages at all.
    """
    return await _Run(client, load).run()


class _Run:
    def __init__(self, client: AsyncClient, load: Load) -> None:
        self._client = client
        self._load = load
        self._report = LoadReport()
        self._flows = [Flow(load) for _ in range(load.connections)]
        self._in_doubt: list[SignedCommands] = []
        self._signed: list[asyncio.Queue[list[SignedCommands]]] = []
        self._due = [asyncio.Semaphore(0) for _ in self._flows]
        self._account = 0

    async def run(self) -> LoadReport:
        load, report = self._load, self._report
        self._account = await self._client.own_account()
        transports = [self._client.another_transport() for _ in self._flows]
        try:
            for transport in transports:
                await transport.channel.channel_ready()
            cpu_ns = time.process_time_ns()
            ahead = max(2, round(load.rate * SIGN_AHEAD_S / load.commands_per_message / load.connections))
            self._signed = [asyncio.Queue(ahead) for _ in self._flows]
            signers = [
                asyncio.create_task(self._sign(index, iter(flow)))
                for index, flow in enumerate(self._flows)
                if self._messages_of(index)
            ]
            while not all(queue.full() or task.done() for queue, task in zip(self._signed, signers, strict=False)):
                await asyncio.sleep(0.001)
            start_us = time.time_ns() // 1000 + 1_000
            stop = threading.Event()
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._keep_time, args=(start_us, loop, stop), name="clock", daemon=True).start()
            try:
                async with asyncio.TaskGroup() as group:
                    for index, transport in enumerate(transports):
                        group.create_task(self._send(index, transport, start_us))
            except* ClientError as errors:
                raise errors.exceptions[0] from None
            finally:
                stop.set()
                for task in signers:
                    task.cancel()
            report.sending_us = time.time_ns() // 1000 - start_us
            report.cpu_us = (time.process_time_ns() - cpu_ns) // 1000
        finally:
            for transport in transports:
                await transport.close()
        await self._settle_doubts()
        await self._clean_up()
        return report

    def _messages_of(self, index: int) -> int:
        """Return how many messages a connection sends: they take turns."""
        return len(range(index, self._load.messages, self._load.connections))

    async def _sign(self, index: int, commands: Iterator[Command]) -> None:
        """Keep messages ready for a connection."""
        client, load = self._client, self._load
        signer, shard = client.signer, load.resting.market.shard
        valid_for_ms = await client.directory.validity_ms(shard, load.valid_for_ms)
        for _ in range(self._messages_of(index)):
            message: list[SignedCommands] = []
            for made in range(load.batch):
                part = tuple(islice(commands, load.commands_per_signature))
                valid_until_ms = client.directory.now_ms() + valid_for_ms
                message.append(sign_commands(signer, self._account, shard, valid_until_ms, part))
                if made % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            await self._signed[index].put(message)
            await asyncio.sleep(0)

    def _planned_us(self, start_us: int, number: int) -> int:
        return start_us + number * self._load.commands_per_message * 1_000_000 // self._load.rate

    def _keep_time(self, start_us: int, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        """Let each message go at its time. In a thread, because timers of event loops count in milliseconds."""
        for number in range(self._load.messages):
            wait_us = self._planned_us(start_us, number) - time.time_ns() // 1000
            if wait_us > 0:
                time.sleep(wait_us / 1_000_000)
            if stop.is_set():
                return
            loop.call_soon_threadsafe(self._due[number % self._load.connections].release)

    async def _send(self, index: int, transport: Transport, start_us: int) -> None:
        load, report = self._load, self._report
        head = request_head(self._client.environment, sequenced_only=False, with_stages=True)
        queue = self._signed[index]
        async with SubmitStream(transport, head, IN_FLIGHT_MAX) as stream:
            for number in range(index, load.messages, load.connections):
                planned_us = self._planned_us(start_us, number)
                await self._due[index].acquire()
                batches = await queue.get()
                report.late_us_max = max(report.late_us_max, time.time_ns() // 1000 - planned_us)
                report.messages += 1
                report.batches += len(batches)
                report.commands += sum(len(batch.commands) for batch in batches)
                answer = await stream.send(batches)
                answer.add_done_callback(partial(self._answered, planned_us, batches))

    def _answered(self, planned_us: int, batches: list[SignedCommands], future: "asyncio.Future[Answer]") -> None:
        if future.cancelled() or future.exception() is not None:
            self._in_doubt += batches
            return
        answer = future.result()
        entries: Counter[int] = Counter()
        for batch, outcome in zip(batches, answer.response.outcomes, strict=True):
            entries[outcome.n] += 1
            self._count(batch, outcome, answer.attempts)
        rows = {row.n: row for row in answer.response.stages}
        for n, weight in entries.items():
            self._report.latencies.record(planned_us, answer.sent_us, answer.got_us, weight, rows.get(n))

    def _count(self, batch: SignedCommands, outcome: Any, attempts: int) -> None:
        report = self._report
        if outcome.state == outcome_pb2.SEND_STATE_EXECUTED:
            self._count_events(len(batch.commands), outcome.events)
        elif outcome.state == outcome_pb2.SEND_STATE_REFUSED and attempts == 1:
            report.refused[reason_of(outcome)] += len(batch.commands)
        else:
            self._in_doubt.append(batch)

    def _count_events(self, commands: int, events: Any) -> None:
        rejected = 0
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "command_rejected":
                rejected += 1
                self._report.rejected[reject_name(event.command_rejected.reason)] += 1
            elif kind == "trade":
                self._report.trades += 1
        self._report.accepted += commands - rejected

    async def _settle_doubts(self) -> None:
        """Send what is in doubt again, or ask for its outcome."""
        report = self._report
        if not self._in_doubt:
            return
        for result in await self._client.send(self._in_doubt, sent_before=True):
            report.in_doubt += 1
            report.trades += len(result.fills)
            if result.status is Status.UNKNOWN:
                report.lost += 1
            elif result.status is Status.REFUSED:
                report.refused[result.reason] += 1
            elif result.status is Status.REJECTED:
                report.rejected[result.reason] += 1
            else:
                report.accepted += 1

    async def _clean_up(self) -> None:
        """Cancel the orders of the flows that rest."""
        market = self._load.resting.market.market
        resting = [
            cancel(order.order_id, market=market)
            for order in (await self._client.open_orders(market)).orders
            if any(flow.has_made(order.client_order_id) for flow in self._flows)
        ]
        if resting:
            results = await self._client.submit(resting)
            self._report.left_behind = sum(not result.accepted for result in results)

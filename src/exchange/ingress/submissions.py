"""Submissions in Python: messages of batches on their way through a worker, from the door to the answer.

Batches of a message are read, judged and handed to the framer in order; per shard they get positions in that order.
What comes back is told to every message that waits for it. One that stops waiting is told what is known then.
"""

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import Any, Final

from clob.v1 import event_pb2, order_service_pb2, outcome_pb2
from exchange.bus.errors import BusRefusal, BusUnavailable
from exchange.domain.limits import FRAME_BYTES_MAX, REQUEST_COMMANDS_MAX
from exchange.domain.rejects import RejectReason
from exchange.ingress import outcomes
from exchange.ingress.crowd import SMALL_BATCHES
from exchange.ingress.desk import (
    ATTEMPTS_MAX,
    CANCELS_RESERVE,
    DRAINING,
    LOST,
    MESSAGE_SIZE,
    REPEATED_BYTES_MAX,
    WAIT_MS,
    Desk,
    failure_of,
    overloaded,
    parsed,
    reason_of,
    valid_until_ms,
)
from exchange.ingress.door import ReadBatch, Refusal, as_error, executable_until_ms, read_batch
from exchange.ingress.keys import catch_up
from exchange.ingress.messages import Chunk, Executed, Refused, Sequenced
from exchange.ingress.outcomes import FrameError, ScannedFrame
from exchange.serving import errors

_log = logging.getLogger(__name__)

SLICE: Final = 32
"""Batches that are verified before others get their turn; 2 ms at most."""
CHUNK_BATCHES_MAX: Final = 4_096

_SEQUENCED: Final = order_service_pb2.WAIT_LEVEL_SEQUENCED


class Submission:
    """One message: what is known of each of its batches.

    Attributes:
        outcomes: encoded BatchOutcome of each batch; None: not known yet.
        sent: the batches that were handed on, by place in the message.
        done: set when nothing is awaited any more.
        rejected: reject reasons that occur.
        refusals: door refusals, one per refused batch.
        repeated_bytes: of outcomes that were told before.
        short: account, asset and shard of commands that were refused for funds.
        stages: by shard and position, when asked for.
    """

    __slots__ = (
        "done",
        "is_open",
        "missing",
        "outcomes",
        "received_us",
        "refusals",
        "rejected",
        "repeated_bytes",
        "sent",
        "short",
        "stages",
        "timer",
        "verified_us",
        "wait",
        "with_stages",
    )

    def __init__(self, batches: int, wait: int, with_stages: bool, received_us: int) -> None:
        self.outcomes: list[bytes | None] = [None] * batches
        self.sent: list[Sent | None] = [None] * batches
        self.missing = batches
        self.wait = wait
        self.with_stages = with_stages
        self.received_us = received_us
        self.verified_us = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_open = True
        self.rejected: set[int] = set()
        self.refusals: list[Refusal] = []
        self.repeated_bytes = 0
        self.short: set[tuple[int, int, int]] = set()
        self.stages: dict[tuple[int, int], order_service_pb2.EntryStages] = {}
        self.timer: asyncio.TimerHandle | None = None

    def settle(self, index: int, outcome: bytes) -> None:
        """Take what became of a batch; the first answer counts."""
        if self.is_open and self.outcomes[index] is None:
            self.outcomes[index] = outcome
            self.missing -= 1
            if not self.missing:
                self._close()

    def refuse(self, index: int, refusal: Refusal, batch: ReadBatch | None, attempts: int = 0) -> None:
        """Take that a batch was not let in, or not again after so many attempts that reached its shard."""
        if self.is_open and self.outcomes[index] is None:
            if not attempts:
                # An error of the call would say that nothing was handed to any shard.
                self.refusals.append(refusal)
            self.settle(index, outcomes.refused_at_door(refusal, batch))

    def refuse_unread(self, index: int, refusal: Refusal, payload: bytes) -> None:
        """Take that a batch was refused before anybody read it."""
        self.refusals.append(refusal)
        outcome = outcome_pb2.BatchOutcome.FromString(outcomes.refused_at_door(refusal, None))
        outcome.executable_until_ms = executable_until_ms(valid_until_ms(payload), refusal.is_final)
        self.settle(index, outcome.SerializeToString())

    def start_waiting(self, wait_ms: int) -> None:
        """Wait no longer than this for what is missing."""
        if self.is_open:
            self.timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self.give_up)

    def give_up(self) -> None:
        """Answer with what is known now."""
        for index, sent in enumerate(list(self.sent)):
            if sent is not None and self.outcomes[index] is None:
                self.settle(index, sent.as_unanswered(self))

    def failure(self) -> Refusal | None:
        """Return what the call fails with: the one reason for which all its batches were refused, if it is such."""
        return failure_of(self.refusals, len(self.outcomes))

    def stage(self, shard: int, n: int) -> order_service_pb2.EntryStages:
        """Return the stages of an entry, to be filled."""
        found = self.stages.get((shard, n))
        if found is None:
            found = order_service_pb2.EntryStages(
                shard=shard, n=n, received_us=self.received_us, verified_us=self.verified_us
            )
            self.stages[shard, n] = found
        return found

    def _close(self) -> None:
        self.is_open = False
        if self.timer is not None:
            self.timer.cancel()
        self.sent.clear()
        if not self.done.done():
            self.done.set_result(None)


class Sent:
    """A batch that was handed on: its chunk says where it is."""

    __slots__ = ("attempts", "batch", "chunk", "index", "offset", "submission")

    def __init__(self, submission: Submission, index: int, batch: ReadBatch) -> None:
        self.submission = submission
        self.index = index
        self.batch = batch
        self.attempts = 0
        self.chunk: Gathered | None = None
        self.offset = 0

    def as_unanswered(self, submission: Submission) -> bytes:
        """Return its outcome while nothing more is known: SEQUENCED, or UNKNOWN."""
        chunk = self.chunk
        if chunk is None or not chunk.n:
            return outcomes.not_answered(self.batch, 0, 0, 0)
        if submission.with_stages:
            stage = submission.stage(chunk.shard, chunk.n)
            stage.framed_us, stage.sequenced_us = chunk.framed_us, chunk.t_us
        return outcomes.not_answered(self.batch, chunk.n, chunk.first + self.offset, chunk.t_us)


class Gathered:
    """Batches for one shard that are handed to the framer together.

    Attributes:
        n, first, t_us, framed_us: position of the frame, place of the first batch in it, times; 0: not known yet.
    """

    __slots__ = ("commands", "control_n", "data", "first", "framed_us", "n", "sent", "shard", "size", "t_us", "tag")

    def __init__(self, shard: int, tag: str, control_n: int) -> None:
        self.shard = shard
        self.tag = tag
        self.control_n = control_n
        self.sent: list[Sent] = []
        self.data: list[bytes] = []
        self.size = 0
        self.commands = 0
        self.n = self.first = self.t_us = self.framed_us = 0


class Submissions(Desk):
    """A desk in Python, for where the core is not built."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands = 0
        self._outbox: dict[int, Gathered] = {}
        self._flush_is_due = False
        self._chunks: dict[int, Gathered] = {}
        self._last_chunk = 0
        self._is_lost = False

    @property
    def commands_under_way(self) -> int:
        """Commands that were handed on and are not answered."""
        return self._commands

    # --- messages ---------------------------------------------------------------------------------------------------

    async def submit(self, request: bytes, address: str) -> bytes:
        """Return the SubmitResponse to a SubmitRequest.

        Raises:
            errors.Refusal: the call fails as OrderService.Submit says.
        """
        message = parsed(order_service_pb2.SubmitRequest, request)
        self.check_size(len(message.batches), len(request))
        if (failure := self._check(message)) is not None:
            raise failure
        submission = await self.let_in(message, address)
        return await self.answer(submission, fails=True)

    async def take(self, request: bytes, address: str) -> tuple[int, Submission]:
        """Let in a SubmitStreamRequest; what Submit would fail with is an outcome of every batch."""
        message = parsed(order_service_pb2.SubmitStreamRequest, request)
        self.check_size(len(message.submit.batches), len(request))
        failure = self._check(message.submit)
        as_refusal = Refusal(reason_of(failure), str(failure)) if failure is not None else None
        return message.tag, await self.let_in(message.submit, address, as_refusal)

    def _check(self, message: order_service_pb2.SubmitRequest) -> errors.Refusal | None:
        return self.check(message.environment, message.wait, message.wait_ms_max, len(message.batches))

    async def answer(self, submission: Submission, fails: bool) -> bytes:
        """Return the SubmitResponse when all is known that is waited for.

        Raises:
            errors.Refusal: every batch was refused for one reason that is the call's, where `fails`.
        """
        self._open += 1
        try:
            await submission.done
        finally:
            self._open -= 1
        if fails and (failure := submission.failure()) is not None:
            raise as_error(failure)
        elsewhere = await self.elsewhere(submission.short) if submission.short else ()
        return outcomes.submit_response(
            outcomes.encode_outcomes(outcome for outcome in submission.outcomes if outcome is not None),
            self._durability,
            submission.rejected,
            elsewhere,
            list(submission.stages.values()),
        )

    async def let_in(
        self, message: order_service_pb2.SubmitRequest, address: str, failure: Refusal | None = None
    ) -> Submission:
        """Read, judge and hand on the batches of a message; returns when that is done for all of them.

        Args:
            message: that came.
            address: of its sender, which pays for it in any case.
            failure: what is wrong with the message as a whole; None: nothing is.
        """
        self.counts.messages += 1
        received_us = time.time_ns() // 1000
        submission = Submission(len(message.batches), message.wait, message.with_stages, received_us)
        refusal = self.door.admit_address(address, 1 + len(message.batches), time.monotonic()) or failure
        if refusal is None and self.is_draining:
            refusal = DRAINING
        batches: list[ReadBatch | Refusal] = []
        if refusal is None:
            batches = await self._read(message)
            self.counts.batches_read += len(batches)
            if sum(one.commands for one in batches if type(one) is ReadBatch) > REQUEST_COMMANDS_MAX:
                refusal = MESSAGE_SIZE
        if refusal is not None:
            await self._refuse_all(message, submission, refusal)
            return submission
        read = [one for one in batches if type(one) is ReadBatch]
        only_cancels = all(one.only_cancels for one in read)
        commands = sum(one.commands for one in read)
        self._open += 1
        try:
            with nullcontext() if only_cancels else await self._room.take(commands, message.ByteSize()):
                await self._judge_all(batches, submission, address)
        finally:
            self._open -= 1
        submission.verified_us = time.time_ns() // 1000
        for entry in submission.stages.values():
            entry.verified_us = submission.verified_us
        submission.start_waiting(message.wait_ms_max or WAIT_MS)
        return submission

    async def _refuse_all(
        self, message: order_service_pb2.SubmitRequest, submission: Submission, refusal: Refusal
    ) -> None:
        """Refuse every batch of a message, none of them decoded; a message without batches has an empty answer."""
        for index, signed in enumerate(message.batches):
            if index and not index % (4 * SLICE):
                await asyncio.sleep(0)
            submission.refuse_unread(index, refusal, signed.payload)
        if not message.batches:
            submission.done.set_result(None)

    async def _read(self, message: order_service_pb2.SubmitRequest) -> list[ReadBatch | Refusal]:
        batches: list[ReadBatch | Refusal] = []
        for signed in message.batches:
            batches.append(read_batch(signed.key_id, signed.payload, signed.signature))
            if not len(batches) % (4 * SLICE):
                await asyncio.sleep(0)
        return batches

    async def _judge_all(self, batches: list[ReadBatch | Refusal], submission: Submission, address: str) -> None:
        """Judge batches in order and hand on those that are let in."""
        door = self.door
        caught_up = False
        for index, one in enumerate(batches):
            if not index % SLICE:
                if len(batches) > SMALL_BATCHES:
                    async with self._turn:
                        pass
                door.verify(self._fitting(batches[index : index + SLICE]), time.monotonic())
            if type(one) is not ReadBatch:
                assert isinstance(one, Refusal)
                submission.refuse(index, one, None)
                self.counts.batches_refused += 1
                continue
            refusal = self._judge(one)
            if refusal is not None and refusal.may_change and not caught_up:
                caught_up = True
                unknown = await catch_up(self.door.control)
                refusal = unknown or self._judge(one)
            if refusal is None:
                refusal = self._hand_on(Sent(submission, index, one))
            elif refusal.blames_sender:
                door.blame(address, 1, time.monotonic())
            if refusal is not None:
                submission.refuse(index, refusal, one)
                self.counts.batches_refused += 1

    def _judge(self, batch: ReadBatch) -> Refusal | None:
        if not self._has_room(batch):
            return overloaded(self._commands_max)
        return self.door.judge(batch, time.time_ns() // 1000, time.monotonic())

    # --- to the framer ----------------------------------------------------------------------------------------------

    def _has_room(self, batch: ReadBatch, more: int = 0) -> bool:
        """Return whether a batch may be let in when `more` commands are before it."""
        reserve = self._commands_max // CANCELS_RESERVE if batch.only_cancels else 0
        return self._commands + more + batch.commands <= self._commands_max + reserve

    def _fitting(self, batches: list[ReadBatch | Refusal]) -> list[ReadBatch | Refusal]:
        """Return the batches that there is room for if all of them are let in: no other is worth verifying."""
        more = 0
        fitting: list[ReadBatch | Refusal] = []
        for one in batches:
            if type(one) is ReadBatch and self._has_room(one, more):
                more += one.commands
                fitting.append(one)
        return fitting

    def _hand_on(self, sent: Sent) -> Refusal | None:
        """Put a batch that is let in into the outbox of its shard."""
        batch = sent.batch
        if self._is_lost:
            return LOST
        if self.is_draining and not sent.attempts:
            return DRAINING
        view = self.door.control.view
        data = batch.as_frame_field()
        chunk = self._outbox.get(batch.shard)
        if chunk is not None and (
            len(chunk.sent) >= CHUNK_BATCHES_MAX
            or chunk.commands + batch.commands > REQUEST_COMMANDS_MAX
            or chunk.size + len(data) > FRAME_BYTES_MAX // 2
        ):
            self._flush_one(batch.shard)
            chunk = None
        if chunk is None:
            chunk = Gathered(batch.shard, view.shards[batch.shard], view.position)
            self._outbox[batch.shard] = chunk
            if not self._flush_is_due:
                self._flush_is_due = True
                asyncio.get_running_loop().call_soon(self._flush)
        sent.chunk = chunk
        sent.offset = len(chunk.sent)
        sent.attempts += 1
        chunk.sent.append(sent)
        chunk.data.append(data)
        chunk.size += len(data)
        chunk.commands += batch.commands
        if sent.submission.is_open:
            sent.submission.sent[sent.index] = sent
        self._commands += batch.commands
        self.counts.batches_let_in += 1
        return None

    def _flush(self) -> None:
        self._flush_is_due = False
        for shard in list(self._outbox):
            self._flush_one(shard)

    def _flush_one(self, shard: int) -> None:
        chunk = self._outbox.pop(shard)
        self._last_chunk += 1
        self._chunks[self._last_chunk] = chunk
        message = Chunk(
            self._last_chunk,
            shard,
            chunk.tag,
            chunk.control_n,
            len(chunk.sent),
            chunk.commands,
            b"".join(chunk.data),
        )
        chunk.data.clear()
        if not self._send(message):
            # It was not written, so nobody can have it.
            self.take_refused(Refused([self._last_chunk], LOST.reason, LOST.detail, LOST.retry_after_ms))

    # --- from the framer --------------------------------------------------------------------------------------------

    def take_sequenced(self, message: Sequenced) -> None:
        """Chunks have positions."""
        self.door.time_us[message.shard] = message.t_us
        for part in message.parts:
            chunk = self._chunks.get(part.chunk)
            if chunk is None:
                continue
            chunk.n, chunk.first = message.n, part.first
            chunk.t_us, chunk.framed_us = message.t_us, message.framed_us
            for sent in chunk.sent:
                submission = sent.submission
                if submission.wait == _SEQUENCED and submission.is_open:
                    submission.settle(sent.index, sent.as_unanswered(submission))

    def take_executed(self, message: Executed) -> None:
        """Chunks have outcomes."""
        chunks = [(part.first, chunk) for part in message.parts if (chunk := self._forget(part.chunk)) is not None]
        if not message.frame:
            for _, chunk in chunks:
                for sent in chunk.sent:
                    self.start(self._ask_settlement(sent, repeated=False))
            return
        try:
            frame = ScannedFrame(message.frame)
        except (FrameError, IndexError):
            _log.exception("shard %d: an execution frame cannot be read; its senders are told UNKNOWN", message.shard)
            for _, chunk in chunks:
                self._lose(chunk)
            return
        stale: list[Sent] = []
        answered_us = time.time_ns() // 1000
        for first, chunk in chunks:
            for place, sent in enumerate(chunk.sent, first):
                submission = sent.submission
                if not submission.is_open or submission.outcomes[sent.index] is not None:
                    continue
                if submission.with_stages:
                    stage = submission.stage(message.shard, message.n)
                    stage.framed_us, stage.sequenced_us = chunk.framed_us, frame.t_us
                    stage.taken_us, stage.executed_us = message.taken_us, message.executed_us
                    stage.durable_us, stage.answered_us = message.seen_us, answered_us
                self._settle(frame, place, sent, stale)
        if stale:
            self.counts.batches_stale += len(stale)
            self.start(self._send_again(stale))

    def take_refused(self, message: Refused) -> None:
        """Chunks will not come into the log."""
        refusal = message.as_refusal()
        for number in message.chunks:
            chunk = self._forget(number)
            for sent in chunk.sent if chunk else ():
                sent.submission.refuse(sent.index, refusal, sent.batch, sent.attempts - 1)

    def framer_lost(self) -> None:
        """The framer is gone: what was handed to it may be executed or not."""
        self._is_lost = True
        for number in list(self._chunks):
            chunk = self._forget(number)
            if chunk is not None:
                self._lose(chunk)

    def _lose(self, chunk: Gathered) -> None:
        for sent in chunk.sent:
            if sent.submission.is_open:
                sent.submission.settle(sent.index, sent.as_unanswered(sent.submission))

    def _forget(self, number: int) -> Gathered | None:
        chunk = self._chunks.pop(number, None)
        if chunk is not None:
            self._commands -= chunk.commands
        return chunk

    def _settle(self, frame: ScannedFrame, place: int, sent: Sent, stale: list[Sent]) -> None:
        """Take what a frame says of a batch."""
        submission, batch = sent.submission, sent.batch
        if not frame.batches:
            submission.rejected.add(RejectReason.MALFORMED)
            submission.settle(sent.index, outcomes.refused_by_shard(frame, place, batch))
            return
        result = frame.batches[place - 1]
        if result.repeat_n:
            self.counts.batches_repeated += 1
            self.start(self._repeat(sent, result.repeat_n, result.repeat_batch))
        elif not result.reason:
            self.counts.batches_executed += 1
            self._settle_executed(frame, place, sent, repeated=False)
        elif result.reason == RejectReason.STALE_CONTROL and sent.attempts < ATTEMPTS_MAX:
            stale.append(sent)
        else:
            self.counts.batches_refused += 1
            submission.rejected.add(result.reason)
            submission.settle(sent.index, outcomes.refused_by_shard(frame, place, batch))

    def _settle_executed(self, frame: ScannedFrame, place: int, sent: Sent, repeated: bool) -> None:
        submission, batch = sent.submission, sent.batch
        for rejected in frame.rejected(place):
            submission.rejected.add(rejected.reason)
            if rejected.reason == event_pb2.REJECT_REASON_INSUFFICIENT_FUNDS:
                submission.short.add((batch.account, rejected.asset, batch.shard))
        submission.settle(sent.index, outcomes.executed(frame, place, batch.account, repeated))

    # --- repetitions and stale keys ---------------------------------------------------------------------------------

    async def _send_again(self, stale: list[Sent]) -> None:
        """Catch up with shard 0, judge again and hand the same bytes on once more."""
        unknown = await catch_up(self.door.control)
        for sent in stale:
            if not sent.submission.is_open:
                continue
            refusal = unknown or self._judge(sent.batch)
            if refusal is None:
                refusal = self._hand_on(sent)
            if refusal is not None:
                sent.submission.refuse(sent.index, refusal, sent.batch, sent.attempts)

    async def _repeat(self, sent: Sent, n: int, place: int) -> None:
        """Answer with the outcome of the first time."""
        tag = self.door.control.view.shards[sent.batch.shard]
        try:
            frame = await self._frames.get(tag, n)
        except (BusUnavailable, BusRefusal, FrameError, IndexError):
            frame = None
        if frame is None:
            await self._ask_settlement(sent, repeated=True, n=n, place=place)
        elif sent.submission.is_open:
            if sent.submission.repeated_bytes > REPEATED_BYTES_MAX:
                sent.submission.settle(sent.index, outcomes.not_answered(sent.batch, n, place, frame.t_us))
                return
            sent.submission.repeated_bytes += len(frame.events_for(place, sent.batch.account))
            self._settle_executed(frame, place, sent, repeated=True)

    async def _ask_settlement(self, sent: Sent, repeated: bool, n: int = 0, place: int = 0) -> None:
        """Answer with what settlement knows of a batch whose frame is no longer in the stream."""
        answer = await self._outcome_of(sent.batch)
        submission = sent.submission
        if not submission.is_open:
            return
        if answer is not None and answer.state == order_service_pb2.OUTCOME_STATE_EXECUTED:
            outcome = answer.outcome
            outcome.state = outcome_pb2.SEND_STATE_EXECUTED
            outcome.repeated = repeated
            submission.rejected.update(
                event.command_rejected.reason for event in outcome.events if event.HasField("command_rejected")
            )
            submission.settle(sent.index, outcome.SerializeToString())
        elif n:
            submission.settle(sent.index, outcomes.not_answered(sent.batch, n, place, 0))
        else:
            submission.settle(sent.index, sent.as_unanswered(submission))

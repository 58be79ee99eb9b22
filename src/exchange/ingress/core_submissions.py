"""Submissions on the core: no statement here runs once per batch, unless something is the matter with it.

The core reads, verifies, judges and gathers the batches of a message, and cuts what became of them out of execution
frames. What it cannot say in bytes alone is said here: why a batch was refused, what a repetition came to the first
time, and everything that has to be waited for. `submissions` does all of it in Python.
"""

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import Any, Final

from exchange_core import FrameFormError, IngressDesk, KeyRates, SubmitMessage, Verifier

from clob.v1 import event_pb2, order_service_pb2, outcome_pb2
from exchange.bus.errors import BusRefusal, BusUnavailable
from exchange.control.view import ControlView
from exchange.domain.limits import REQUEST_COMMANDS_MAX
from exchange.domain.rejects import RejectReason
from exchange.engine.reading import BatchHead
from exchange.ingress import door as doors
from exchange.ingress import outcomes
from exchange.ingress.crowd import SMALL_BATCHES
from exchange.ingress.desk import (
    ATTEMPTS_MAX,
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
)
from exchange.ingress.door import ReadBatch, Refusal, as_error, read_batch
from exchange.ingress.keys import catch_up
from exchange.ingress.messages import Chunk, Executed, Refused, Sequenced
from exchange.ingress.outcomes import FrameError, ScannedFrame

_log = logging.getLogger(__name__)

SLICE: Final = 128
"""Batches that are judged before others get their turn: 1 ms where eight are verified at once, 3 ms elsewhere."""
_Refused = tuple[str, float, int, int, list[int]]
"""Why batches are not let in, seconds to wait, two numbers that the sentence names, and their places."""
_STAGES: Final = ("shard", "n", "framed_us", "sequenced_us", "taken_us", "executed_us", "durable_us", "answered_us")


class CoreSubmission:
    """One message, whose batches the core keeps.

    Attributes:
        message: what came, and what is known of each batch.
        done: set when nothing is awaited any more.
        refusals: door refusals, one per refused batch.
        repeated_bytes: of outcomes that were told before.
        received_us, verified_us: clock of the ingress.
    """

    __slots__ = ("done", "message", "received_us", "refusals", "repeated_bytes", "timer", "verified_us")

    def __init__(self, message: SubmitMessage, received_us: int) -> None:
        self.message = message
        self.received_us = received_us
        self.verified_us = 0
        self.repeated_bytes = 0
        self.refusals: list[Refusal] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None

    def read(self, index: int) -> ReadBatch:
        """Return a batch whose bytes are in order."""
        head = self.message.head(index)
        assert head is not None
        return ReadBatch(*self.message.fields(index), BatchHead(*head))


class CoreSubmissions(Desk):
    """A desk whose batches the core keeps.

    The door's verifier and the buckets of its keys are the core's, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        door = self.door
        assert isinstance(door.verifier, Verifier)
        assert isinstance(door.key_rates, KeyRates)
        self._core = IngressDesk(door.signed_prefix, door.verifier, door.key_rates, self._commands_max)
        self._flush_is_due = False
        self._waiting: dict[int, CoreSubmission] = {}
        self._last_number = 0
        self._view: ControlView | None = None
        self._keys_known = self._accounts_known = self._shards_known = 0
        self._validity: dict[int, int] | None = None

    @property
    def commands_under_way(self) -> int:
        """Commands that were handed on and are not answered."""
        return self._core.commands

    # --- messages ---------------------------------------------------------------------------------------------------

    async def submit(self, request: bytes, address: str) -> bytes:
        """Return the SubmitResponse to a SubmitRequest."""
        message = SubmitMessage.read(request) or _canonical(parsed(order_service_pb2.SubmitRequest, request))
        self.check_size(message.batches, len(request))
        failure = self.check(message.environment, message.wait, message.wait_ms_max, message.batches)
        if failure is not None:
            raise failure
        return await self.answer(await self.let_in(message, address), fails=True)

    async def take(self, request: bytes, address: str) -> tuple[int, CoreSubmission]:
        """Let in a SubmitStreamRequest; what Submit would fail with is an outcome of every batch."""
        read = SubmitMessage.read_streamed(request)
        if read is None:
            streamed = parsed(order_service_pb2.SubmitStreamRequest, request)
            read = streamed.tag, _canonical(streamed.submit)
        tag, message = read
        self.check_size(message.batches, len(request))
        failure = self.check(message.environment, message.wait, message.wait_ms_max, message.batches)
        refusal = Refusal(reason_of(failure), str(failure)) if failure is not None else None
        return tag, await self.let_in(message, address, refusal)

    async def let_in(self, message: SubmitMessage, address: str, failure: Refusal | None = None) -> CoreSubmission:
        """Read, judge and hand on the batches of a message; returns when that is done for all of them.

        Args:
            message: that came.
            address: of its sender, which pays for it in any case.
            failure: what is wrong with the message as a whole; None: nothing is.
        """
        self.counts.messages += 1
        submission = CoreSubmission(message, time.time_ns() // 1000)
        self._last_number += 1
        message.number = self._last_number
        self._waiting[self._last_number] = submission
        self._open += 1
        try:
            await self._let_in(submission, address, failure)
        except BaseException:
            # Its sender has left half way: what was handed on is executed, and nobody waits for it.
            self._abandon(submission)
            raise
        finally:
            self._open -= 1
        return submission

    async def _let_in(self, submission: CoreSubmission, address: str, failure: Refusal | None) -> None:
        message = submission.message
        refusal = self.door.admit_address(address, 1 + message.batches, time.monotonic()) or failure
        if refusal is None and self.is_draining:
            refusal = DRAINING
        commands, only_cancels = message.read_batches() if refusal is None else (0, True)
        if refusal is None:
            self.counts.batches_read += message.batches
            if commands > REQUEST_COMMANDS_MAX:
                refusal = MESSAGE_SIZE
        if refusal is not None:
            await self._refuse_all(submission, refusal)
            return
        with nullcontext() if only_cancels else await self._room.take(commands, message.size):
            await self._admit_all(submission, address)
        submission.verified_us = time.time_ns() // 1000
        if message.is_open:
            wait_s = (message.wait_ms_max or WAIT_MS) / 1000
            submission.timer = asyncio.get_running_loop().call_later(wait_s, self._give_up, submission)

    async def answer(self, submission: CoreSubmission, fails: bool) -> bytes:
        """Return the SubmitResponse when all is known that is waited for."""
        self._open += 1
        try:
            await submission.done
            encoded, rejected, short, stages = submission.message.answer()
        finally:
            self._open -= 1
            # Chunks hold the message until they are executed: not what it was made of.
            self._abandon(submission)
        if fails and (failure := failure_of(submission.refusals, submission.message.batches)) is not None:
            raise as_error(failure)
        return outcomes.submit_response(
            encoded,
            self._durability,
            rejected,
            await self.elsewhere(short) if short else (),
            [
                order_service_pb2.EntryStages(
                    received_us=submission.received_us,
                    verified_us=submission.verified_us,
                    **dict(zip(_STAGES, stage, strict=True)),
                )
                for stage in stages
            ],
        )

    async def _refuse_all(self, submission: CoreSubmission, refusal: Refusal) -> None:
        """Refuse every batch of a message, none of them decoded; a message without batches has an empty answer."""
        message = submission.message
        self._refuse_unless_told(submission, None, refusal)
        if not message.batches:
            self._close(message.number)

    async def _admit_all(self, submission: CoreSubmission, address: str) -> None:
        """Judge batches in order and hand on those that are let in."""
        message = submission.message
        place, end, stops = 0, SLICE, True
        while place < message.batches:
            if place == end:
                end += SLICE
            # Whoever leaves, and be it at once, leaves when a slice is done with and paid for.
            async with self._turn if message.batches > SMALL_BATCHES else nullcontext():
                start, again = place, None
                place, refused = self._admit(message, start, min(end, message.batches), stops)
                self.counts.batches_let_in += place - start - sum(len(row[-1]) for row in refused)
                self._hand_over()
                for row in refused:
                    refusal, indexes = self._refusal(submission, row), row[-1]
                    if stops and refusal.may_change and indexes[-1] == place - 1:
                        again = indexes.pop()
                    if refusal.blames_sender:
                        self.door.blame(address, len(indexes), time.monotonic())
                    self._refuse(submission, indexes, refusal)
            if again is not None:
                stops = False
                unknown = await catch_up(self.door.control)
                if unknown is None:
                    place = again
                else:
                    self._refuse(submission, [again], unknown)

    def _admit(self, message: SubmitMessage, start: int, stop: int, stops: bool) -> tuple[int, list[_Refused]]:
        self._follow()
        self._core.is_draining = self.is_draining
        assert self._view is not None
        position = self._view.position
        return self._core.admit(message, start, stop, stops, time.time_ns() // 1000, time.monotonic(), position)

    def _follow(self) -> None:
        """Let the core know of shard 0 what is known here."""
        core, view = self._core, self.door.control.view
        if view is not self._view:
            core.forget_view()
            core.set_keys([(key_id, *key) for key_id, key in view.keys.items()])
            core.set_accounts(list(view.user_of.items()))
            self._view, self._shards_known = view, 0
            self._keys_known, self._accounts_known = len(view.changed_keys), len(view.changed_accounts)
        if self._keys_known < len(view.changed_keys):
            core.set_keys([(key_id, *view.keys[key_id]) for key_id in view.changed_keys[self._keys_known :]])
            self._keys_known = len(view.changed_keys)
        if self._accounts_known < len(view.changed_accounts):
            changed = view.changed_accounts[self._accounts_known :]
            core.set_accounts([(account, view.user_of[account]) for account in changed])
            self._accounts_known = len(view.changed_accounts)
        if self._shards_known < len(view.shards):
            core.set_shards(list(view.shards))
            self._shards_known = len(view.shards)
        if self._validity is not self.door.max_validity_ms:
            self._validity = self.door.max_validity_ms
            core.set_validity(list(self._validity.items()))

    def _refusal(self, submission: CoreSubmission, row: _Refused) -> Refusal:
        """Return what the core says of a batch as the door says it."""
        what, seconds, first, second, [index, *_] = row
        match what:
            case "UNREADABLE":
                refusal = read_batch(*submission.message.fields(index))
                assert isinstance(refusal, Refusal), "core and reference read a batch alike"
                return refusal
            case "UNKNOWN_KEY":
                return doors.bad_key(may_change=True)
            case "REVOKED_KEY":
                return doors.bad_key()
            case "BAD_SIGNATURE":
                return doors.bad_key(blames_sender=True)
            case "TOO_FAST":
                return self.door.key_too_fast(seconds)
            case "LOST":
                return LOST
            case "DRAINING":
                return DRAINING
            case "OVERLOADED":
                return overloaded(self._commands_max)
        batch = submission.read(index)
        match what:
            case "ACCOUNT_NOT_OF_KEY":
                return doors.account_not_of_key(batch.account)
            case "UNKNOWN_SHARD":
                return doors.unknown_shard(batch.shard)
            case "BATCH_EXPIRED":
                return doors.batch_expired(batch.valid_until_ms, first)
            case _:
                assert what == "VALIDITY_TOO_LONG"
                return doors.validity_too_long(batch, first, second)

    # --- a message's end --------------------------------------------------------------------------------------------

    def _settle(self, submission: CoreSubmission, index: int, outcome: bytes) -> None:
        if submission.message.settle(index, outcome):
            self._close(submission.message.number)

    def _refuse(self, submission: CoreSubmission, indexes: list[int], refusal: Refusal) -> None:
        """Take that batches were not let in."""
        self.counts.batches_refused += len(indexes)
        self._refuse_unless_told(submission, indexes, refusal)

    def _refuse_unless_told(
        self, submission: CoreSubmission, indexes: list[int] | None, refusal: Refusal, attempts: int = 0
    ) -> None:
        """Take that batches, or all, did not reach a shard, at least not after so many attempts that did."""
        message = submission.message
        refused, is_done = message.refuse(indexes, *outcomes.refused_parts(refusal), refusal.is_final)
        if not attempts:
            # An error of the call would say that nothing was handed to any shard.
            submission.refusals += [refusal] * refused
        if is_done:
            self._close(message.number)

    def _give_up(self, submission: CoreSubmission) -> None:
        """Answer with what is known now."""
        if submission.message.give_up():
            self._close(submission.message.number)

    def _abandon(self, submission: CoreSubmission) -> None:
        """Nobody asks for a message any more."""
        self._waiting.pop(submission.message.number, None)
        if submission.timer is not None:
            submission.timer.cancel()
        submission.message.release()

    def _close(self, number: int) -> None:
        submission = self._waiting.pop(number, None)
        if submission is None:
            return
        if submission.timer is not None:
            submission.timer.cancel()
        if not submission.done.done():
            submission.done.set_result(None)

    # --- to the framer ----------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Send the chunks that are full, and the others when everybody has had their turn."""
        self._send_chunks(everything=False)
        if self._core.has_some and not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        self._send_chunks(everything=True)

    def _send_chunks(self, everything: bool) -> None:
        shards = self.door.control.view.shards
        for chunk, shard, control_n, batches, commands, data in self._core.hand_over(everything):
            if not self._send(Chunk(chunk, shard, shards[shard], control_n, batches, commands, data)):
                # It was not written, so nobody can have it.
                self.take_refused(Refused([chunk], LOST.reason, LOST.detail, LOST.retry_after_ms))

    # --- from the framer --------------------------------------------------------------------------------------------

    def take_sequenced(self, message: Sequenced) -> None:
        """Chunks have positions."""
        self.door.time_us[message.shard] = message.t_us
        parts = [(part.chunk, part.first) for part in message.parts]
        for number in self._core.sequenced(message.shard, message.n, message.t_us, message.framed_us, parts):
            self._close(number)

    def take_executed(self, message: Executed) -> None:
        """Chunks have outcomes."""
        parts = [(part.chunk, part.first) for part in message.parts]
        if not message.frame:
            for chunk, _ in parts:
                for number, _, indexes in self._core.forget(chunk):
                    if (submission := self._waiting.get(number)) is not None:
                        for index in indexes:
                            self.start(self._ask_settlement(submission, index, repeated=False))
            return
        stamps = message.taken_us, message.executed_us, message.seen_us, time.time_ns() // 1000
        try:
            done, odd, settled = self._core.executed(message.shard, message.frame, stamps, parts)
        except FrameFormError:
            self._take_unreadable(message, parts)
            return
        self.counts.batches_executed += settled
        for number in done:
            self._close(number)
        if odd:
            self._take_odd(ScannedFrame(message.frame), odd)

    def _take_unreadable(self, message: Executed, parts: list[tuple[int, int]]) -> None:
        """Take a frame that the core cannot read, such as a newer engine's, as far as it can be read at all."""
        try:
            frame = ScannedFrame(message.frame)
        except (FrameError, IndexError):
            _log.exception("shard %d: an execution frame cannot be read; its senders are told UNKNOWN", message.shard)
            for chunk, _ in parts:
                self._lose(chunk)
            return
        for chunk, first in parts:
            sent = [(number, index) for number, _, indexes in self._core.forget(chunk) for index in indexes]
            self._take_odd(frame, [(number, index, place) for place, (number, index) in enumerate(sent, first)])

    def take_refused(self, message: Refused) -> None:
        """Chunks will not come into the log."""
        refusal = message.as_refusal()
        for chunk in message.chunks:
            for number, attempts, indexes in self._core.forget(chunk):
                if (submission := self._waiting.get(number)) is not None:
                    self._refuse_unless_told(submission, indexes, refusal, attempts - 1)

    def framer_lost(self) -> None:
        """The framer is gone: what was handed to it may be executed or not."""
        self._core.is_lost = True
        for chunk in self._core.awaited:
            self._lose(chunk)

    def _lose(self, chunk: int) -> None:
        for number, _, indexes in self._core.forget(chunk):
            if (submission := self._waiting.get(number)) is not None:
                for index in indexes:
                    if submission.message.unanswered(index):
                        self._close(number)

    # --- what is no plain outcome -----------------------------------------------------------------------------------

    def _take_odd(self, frame: ScannedFrame, odd: list[tuple[int, int, int]]) -> None:
        """Take what a frame says of batches that it has not simply executed."""
        stale: list[tuple[CoreSubmission, int]] = []
        for number, index, place in odd:
            submission = self._waiting.get(number)
            if submission is None or not submission.message.lacks(index):
                continue
            result = frame.batches[place - 1] if frame.batches else None
            if result is not None and result.repeat_n:
                self.counts.batches_repeated += 1
                self.start(self._repeat(submission, index, result.repeat_n, result.repeat_batch))
            elif result is not None and not result.reason:
                self.counts.batches_executed += 1
                self._settle_executed(submission, index, frame, place, repeated=False)
            elif (
                result is not None
                and result.reason == RejectReason.STALE_CONTROL
                and submission.message.attempts(index) < ATTEMPTS_MAX
            ):
                stale.append((submission, index))
            else:
                self.counts.batches_refused += 1
                submission.message.note([result.reason if result else RejectReason.MALFORMED], [])
                refused = outcomes.refused_by_shard(frame, place, submission.read(index))
                self._settle(submission, index, refused)
        if stale:
            self.counts.batches_stale += len(stale)
            self.start(self._send_again(stale))

    async def _send_again(self, stale: list[tuple[CoreSubmission, int]]) -> None:
        """Catch up with shard 0, judge again and hand the same bytes on once more."""
        unknown = await catch_up(self.door.control)
        for submission, index in stale:
            message = submission.message
            if not message.lacks(index):
                continue
            refusal = unknown
            if refusal is None:
                _, refused = self._admit(message, index, index + 1, stops=False)
                if refused:
                    refusal = self._refusal(submission, refused[0])
                else:
                    self.counts.batches_let_in += 1
            if refusal is not None:
                self._refuse_unless_told(submission, [index], refusal, message.attempts(index))
        self._hand_over()

    async def _repeat(self, submission: CoreSubmission, index: int, n: int, place: int) -> None:
        """Answer with the outcome of the first time."""
        message = submission.message
        if not message.lacks(index):
            return
        batch = submission.read(index)
        tag = self.door.control.view.shards[batch.shard]
        try:
            frame = await self._frames.get(tag, n)
        except (BusUnavailable, BusRefusal, FrameError, IndexError):
            frame = None
        if frame is None:
            await self._ask_settlement(submission, index, repeated=True, n=n, place=place)
        elif message.lacks(index) and submission.repeated_bytes > REPEATED_BYTES_MAX:
            self._settle(submission, index, outcomes.not_answered(batch, n, place, frame.t_us))
        elif message.lacks(index):
            submission.repeated_bytes += len(frame.events_for(place, batch.account))
            self._settle_executed(submission, index, frame, place, repeated=True)

    def _settle_executed(
        self, submission: CoreSubmission, index: int, frame: ScannedFrame, place: int, repeated: bool
    ) -> None:
        batch = submission.read(index)
        rejected = frame.rejected(place)
        submission.message.note(
            [one.reason for one in rejected],
            [
                (batch.account, one.asset, batch.shard)
                for one in rejected
                if one.reason == event_pb2.REJECT_REASON_INSUFFICIENT_FUNDS
            ],
        )
        self._settle(submission, index, outcomes.executed(frame, place, batch.account, repeated))

    async def _ask_settlement(
        self, submission: CoreSubmission, index: int, repeated: bool, n: int = 0, place: int = 0
    ) -> None:
        """Answer with what settlement knows of a batch whose frame is no longer in the stream."""
        message = submission.message
        if not message.lacks(index):
            return
        batch = submission.read(index)
        answer = await self._outcome_of(batch)
        if not message.lacks(index):
            return
        if answer is not None and answer.state == order_service_pb2.OUTCOME_STATE_EXECUTED:
            outcome = answer.outcome
            outcome.state = outcome_pb2.SEND_STATE_EXECUTED
            outcome.repeated = repeated
            message.note(
                [event.command_rejected.reason for event in outcome.events if event.HasField("command_rejected")], []
            )
            self._settle(submission, index, outcome.SerializeToString())
        elif n:
            self._settle(submission, index, outcomes.not_answered(batch, n, place, 0))
        elif message.unanswered(index):
            self._close(message.number)


def _canonical(message: order_service_pb2.SubmitRequest) -> SubmitMessage:
    """Return a message that came in another encoding than the canonical one, or with fields that nobody knows."""
    message.DiscardUnknownFields()
    read = SubmitMessage.read(message.SerializeToString(deterministic=True))
    assert read is not None, "a message of the contracts has a canonical encoding"
    return read

"""How a signed batch is followed until its outcome is known: what to do after each answer. No input or output here.

The same bytes are executed at most once, whoever sends them how often, and every repetition is answered with the first
outcome. So a batch is sent again for as long as it could still be executed:

- the exchange refused it and names a time after which to come again: nothing was executed; send again after that time;
- no answer came, or UNKNOWN, or a position only: it is in doubt; send again, the answer will be the first outcome;
- any other refusal is final, unless the batch is in doubt: then the refusal speaks of the repetition only (the nonce
  may have been forgotten, or the key revoked, since the first was executed), and GetOutcome has the last word;
- the time until which it could be executed has passed: final if it never was in doubt, else GetOutcome.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from clob.v1 import door_reason_pb2, order_service_pb2, outcome_pb2
from exchange.client.batches import SignedCommands
from exchange.client.errors import ClientError
from exchange.client.results import Told
from exchange.client.transport import Backoff
from exchange.domain.rejects import RejectReason

_REFUSED: Final = outcome_pb2.SEND_STATE_REFUSED
_BATCH_EXPIRED: Final = door_reason_pb2.DOOR_REASON_BATCH_EXPIRED
_NONCE_REUSED_DETAIL: Final = (
    "the key used this nonce for other bytes, which were executed in its place; sign the commands again"
)


class Next(Enum):
    """What to do about a batch."""

    SEND = "SEND"
    ASK = "ASK"
    NOTHING = "NOTHING"


@dataclass(slots=True)
class Pursuit:
    """A batch on its way.

    Attributes:
        batch: the batch.
        next: what to do, after `wait_s`.
        in_doubt: some copy of it may have reached the shard, and what became of it is not known.
        told: what was told last of it; None: nothing yet.
    """

    batch: SignedCommands
    backoff: Backoff
    next: Next = Next.SEND
    wait_s: float = 0.0
    in_doubt: bool = False
    told: Told | None = None

    @classmethod
    def begun(cls, batch: SignedCommands, backoff: Backoff, now_ms: int, *, sent_before: bool) -> "Pursuit":
        """Return the pursuit of a batch that may have been sent before. One that is too old to be sent is asked for."""
        too_old = sent_before and now_ms >= batch.valid_until_ms
        return cls(batch, backoff, next=Next.ASK if too_old else Next.SEND, in_doubt=sent_before)

    def answered(self, told: Told, now_ms: int, *, sequenced_only: bool, resend: bool) -> None:
        """Take an outcome that a Submit told."""
        self.told = told
        outcome = told.outcome
        ends = {outcome_pb2.SEND_STATE_EXECUTED} | ({outcome_pb2.SEND_STATE_SEQUENCED} if sequenced_only else set())
        if outcome.state in ends:
            self._end()
        elif outcome.state == _REFUSED:
            again = outcome.retry_after_ms and resend and now_ms + outcome.retry_after_ms < self.batch.valid_until_ms
            if again:
                self._again(Next.SEND, outcome.retry_after_ms)
            elif self.in_doubt:
                self._again(Next.ASK)
            else:
                self._end()
        else:
            self.in_doubt = True
            self._send_or_ask(now_ms, resend)

    def failed(self, error: ClientError, now_ms: int, *, resend: bool) -> bool:
        """Take the failure of a call that carried it.

        Returns:
            False: the call will fail again and the batch never was in doubt; the caller's mistake is for the caller.
        """
        if not error.nothing_happened:
            self.in_doubt = True
            self.told = self.told or _unknown(error)
            self._send_or_ask(now_ms, resend, error.retry_after_ms)
            return True
        if error.may_help_to_retry and resend and now_ms + (error.retry_after_ms or 0) < self.batch.valid_until_ms:
            self._again(Next.SEND, error.retry_after_ms)
            return True
        if self.in_doubt:
            self._again(Next.ASK)
            return True
        if error.may_help_to_retry:
            self.refused(error)
            return True
        return False

    def refused(self, error: ClientError) -> None:
        """End with the failure of a call as the refusal: no copy of the batch can have reached the shard."""
        self.told = Told(_refused(getattr(door_reason_pb2, f"DOOR_REASON_{error.reason}", 0), error.detail), {})
        self._end()

    def found(self, answer: Any) -> None:
        """Take what GetOutcome says."""
        state, ours = answer.state, answer.payload_digest == self.batch.digest
        if state == order_service_pb2.OUTCOME_STATE_EXECUTED and ours:
            self.told = Told(answer.outcome, {})
            self._end()
        elif state == order_service_pb2.OUTCOME_STATE_EXECUTED:
            self.told = Told(
                _refused(door_reason_pb2.DOOR_REASON_UNSPECIFIED, _NONCE_REUSED_DETAIL, RejectReason.NONCE_REUSED), {}
            )
            self._end()
        elif state == order_service_pb2.OUTCOME_STATE_NEVER:
            refused = self.told is not None and self.told.outcome.state == _REFUSED
            if not refused:
                self.told = Told(_refused(_BATCH_EXPIRED, "it was not executed in time and never will be"), {})
            self._end()
        else:
            self._again(Next.ASK)

    def give_up(self, detail: str) -> None:
        """End without knowing."""
        outcome = outcome_pb2.BatchOutcome(
            state=outcome_pb2.SEND_STATE_UNKNOWN, executable_until_ms=self.batch.valid_until_ms, detail=detail
        )
        self.told = Told(outcome, {})
        self._end()

    def _send_or_ask(self, now_ms: int, resend: bool, told_ms: int | None = None) -> None:
        can_be_executed = now_ms < self.batch.valid_until_ms
        self._again(Next.SEND if can_be_executed and resend else Next.ASK, told_ms)

    def _again(self, what: Next, told_ms: int | None = None) -> None:
        self.next = what
        self.wait_s = self.backoff.next_s(told_ms)

    def _end(self) -> None:
        self.next, self.wait_s = Next.NOTHING, 0.0


def _refused(door_reason: int, detail: str, reject_reason: int = 0) -> Any:
    outcome: Any = outcome_pb2.BatchOutcome(state=_REFUSED, detail=detail)
    outcome.door_reason = door_reason
    outcome.reject_reason = reject_reason
    return outcome


def _unknown(error: ClientError) -> Told:
    return Told(outcome_pb2.BatchOutcome(state=outcome_pb2.SEND_STATE_UNKNOWN, detail=str(error)), {})

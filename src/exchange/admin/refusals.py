"""What admin says no with: an exception that becomes the error of the call."""

from collections.abc import Mapping
from typing import Any, NoReturn

from clob.v1.door_reason_pb2 import DoorReason
from exchange.domain.explanations import EXPLANATIONS
from exchange.domain.rejects import RejectReason


class AdminRefusal(Exception):  # noqa: N818 - an outcome, not an error
    """The call fails; what it says about what was changed is in `detail`.

    Attributes:
        reason: the door's, or that of the shard that refused.
        detail: thing, value, rule and way out, for people.
        fields: what is wrong with fields of the request, by path.
        retry_after_ms: when to try again; None: that alone does not help.
    """

    def __init__(
        self,
        reason: "DoorReason | RejectReason",
        detail: str,
        *,
        fields: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.fields = dict(fields or {})
        self.retry_after_ms = retry_after_ms

    @property
    def name(self) -> str:
        """The stable reason, as ErrorInfo has it."""
        if isinstance(self.reason, RejectReason):
            return self.reason.name
        return DoorReason.Name(self.reason).removeprefix("DOOR_REASON_")

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


def refused_by_shard(reason: RejectReason, what: str) -> AdminRefusal:
    """Return the refusal of a call that a shard refused: what became of it, then the rule and the way out."""
    return AdminRefusal(reason, f"{what}. {EXPLANATIONS[reason]}")


def explain(response: Any) -> None:
    """Give a response about many things a sentence for each reason that occurs among its results."""
    for reason in sorted({result.reason for result in response.results if result.reason}):
        response.explanations.add(reason=reason, text=EXPLANATIONS[RejectReason(reason)])


def unavailable(detail: str, retry_after_ms: int = 1_000) -> AdminRefusal:
    """Return the refusal of a call that may succeed when it is made again under the same request_id."""
    return AdminRefusal(DoorReason.DOOR_REASON_UNAVAILABLE, detail, retry_after_ms=retry_after_ms)


def invalid(fields: Mapping[str, str]) -> AdminRefusal:
    """Return the refusal of a request whose fields, by path, are out of bounds."""
    detail = "; ".join(f"{path} {what}" for path, what in fields.items())
    return AdminRefusal(DoorReason.DOOR_REASON_INVALID_FIELD, detail, fields=fields)


def refuse_field(path: str, what: str) -> NoReturn:
    """Refuse a request for one of its fields.

    Raises:
        AdminRefusal: INVALID_FIELD.
    """
    raise invalid({path: what})

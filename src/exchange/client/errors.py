"""Errors of the client: what a call failed with, as stable reasons. Refused orders are results, never errors."""

from typing import Any, Final

import grpc
from google.rpc import error_details_pb2, status_pb2

DOMAIN: Final = "clob.v1"
STATUS_KEY: Final = "grpc-status-details-bin"
COME_AGAIN: Final = frozenset({"TOO_FAST", "OVERLOADED", "UNAVAILABLE", "DRAINING", "CLOCK_SKEW", "TOO_MANY_CALLS"})
"""Reasons of the door with which a whole call fails and waiting helps (door_reason.proto)."""


class ClientError(Exception):
    """A call failed as a whole.

    Attributes:
        reason: stable. A name of DoorReason or RejectReason without its prefix when the exchange said it; else one of
            ours: UNREACHABLE, TIMED_OUT, NOT_SUPPORTED and GRPC_<CODE> for what the network or a proxy said, and those
            that docs/client.md lists for what the client itself refuses.
        detail: what exactly is wrong and what to do, for people.
        retry_after_ms: how long to wait before asking again; None where waiting alone does not help.
        by_exchange: the exchange said so. Then, INTERNAL excepted, nothing was handed to any shard.
        may_help_to_retry: the same call may succeed later or at another address.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        retry_after_ms: int | None = None,
        by_exchange: bool = False,
        may_help_to_retry: bool = False,
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.by_exchange = by_exchange
        self.may_help_to_retry = may_help_to_retry or retry_after_ms is not None

    @property
    def nothing_happened(self) -> bool:
        """Whether the call is known to have changed nothing."""
        return self.by_exchange and self.reason != "INTERNAL"

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def error_of(failed: grpc.aio.AioRpcError, address: str) -> ClientError:
    """Return what a gRPC call failed with, the exchange's own words where it has some."""
    code, text = failed.code(), failed.details() or ""
    told = _told(failed)
    if told is not None:
        reason, detail, retry_after_ms = told
        return ClientError(
            reason,
            detail or text,
            retry_after_ms=retry_after_ms,
            by_exchange=True,
            may_help_to_retry=reason in COME_AGAIN,
        )
    if code is grpc.StatusCode.UNAVAILABLE:
        return ClientError(
            "UNREACHABLE",
            f"{address} does not answer ({text}); is the exchange running there, and is it TLS or plaintext?",
            may_help_to_retry=True,
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ClientError("TIMED_OUT", f"no answer from {address} in time", may_help_to_retry=True)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ClientError("NOT_SUPPORTED", f"{address} does not serve this call; is it the traders' port? ({text})")
    # CANCELLED and UNKNOWN are what a server that dies or a proxy in between leaves behind.
    may_help = code in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
    return ClientError(f"GRPC_{code.name}", f"{address}: {text}", may_help_to_retry=may_help)


def _told(failed: grpc.aio.AioRpcError) -> tuple[str, str, int | None] | None:
    """Return reason, sentence and retry time of the one ErrorInfo of ours; None where there is none."""
    metadata: Any = failed.trailing_metadata() or ()
    for key, value in metadata:
        if key != STATUS_KEY:
            continue
        status = status_pb2.Status.FromString(value)
        reason, detail, retry_after_ms = "", status.message, None
        for packed in status.details:
            info, retry, bad = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.RetryInfo(),
                error_details_pb2.BadRequest(),
            )
            if packed.Unpack(info) and info.domain == DOMAIN:
                reason = info.reason
            elif packed.Unpack(retry):
                delay = retry.retry_delay
                retry_after_ms = delay.seconds * 1000 + -(-delay.nanos // 1_000_000)
            elif packed.Unpack(bad):
                fields = "; ".join(f"{broken.field}: {broken.description}" for broken in bad.field_violations)
                detail = f"{detail} ({fields})" if fields and fields not in detail else detail
        if reason:
            return reason, detail.removeprefix(f"{reason}: "), retry_after_ms
    return None

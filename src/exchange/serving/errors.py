"""Errors of calls: one google.rpc.Status for each, with exactly one ErrorInfo, the same over gRPC and HTTP.

A handler raises `Refusal`, made by `refused` or `rejected`; `serving.guard` ends the call with it.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from clob.v1.door_reason_pb2 import DoorReason
from exchange.domain.rejects import RejectReason

DOMAIN: Final = "clob.v1"
STATUS_KEY: Final = "grpc-status-details-bin"
RETRY_AFTER_MS: Final = 1_000
"""When to try again, where nobody knows better."""

_DOOR_PREFIX: Final = "DOOR_REASON_"

CODE_OF_REASON: Final[Mapping[int, int]] = {
    DoorReason.DOOR_REASON_BAD_KEY_OR_SIGNATURE: Code.UNAUTHENTICATED,
    DoorReason.DOOR_REASON_ACCOUNT_NOT_OF_KEY: Code.PERMISSION_DENIED,
    DoorReason.DOOR_REASON_UNKNOWN_SHARD: Code.NOT_FOUND,
    DoorReason.DOOR_REASON_TOO_FAST: Code.RESOURCE_EXHAUSTED,
    DoorReason.DOOR_REASON_OVERLOADED: Code.RESOURCE_EXHAUSTED,
    DoorReason.DOOR_REASON_UNAVAILABLE: Code.UNAVAILABLE,
    DoorReason.DOOR_REASON_DRAINING: Code.UNAVAILABLE,
    DoorReason.DOOR_REASON_CLOCK_SKEW: Code.UNAVAILABLE,
    DoorReason.DOOR_REASON_WRONG_ENVIRONMENT: Code.INVALID_ARGUMENT,
    DoorReason.DOOR_REASON_INVALID_FIELD: Code.INVALID_ARGUMENT,
    DoorReason.DOOR_REASON_MESSAGE_SIZE: Code.INVALID_ARGUMENT,
    DoorReason.DOOR_REASON_TOO_MANY_CALLS: Code.RESOURCE_EXHAUSTED,
    DoorReason.DOOR_REASON_REQUEST_ID_MISSING: Code.INVALID_ARGUMENT,
    DoorReason.DOOR_REASON_REQUEST_ID_REUSED: Code.ALREADY_EXISTS,
    DoorReason.DOOR_REASON_NOT_FOUND: Code.NOT_FOUND,
    DoorReason.DOOR_REASON_SESSION_REQUIRED: Code.UNAUTHENTICATED,
    DoorReason.DOOR_REASON_CHALLENGE_REFUSED: Code.UNAUTHENTICATED,
    DoorReason.DOOR_REASON_TOKEN_REQUIRED: Code.UNAUTHENTICATED,
    DoorReason.DOOR_REASON_ROLE_REQUIRED: Code.PERMISSION_DENIED,
    DoorReason.DOOR_REASON_HOST_NOT_ALLOWED: Code.PERMISSION_DENIED,
    DoorReason.DOOR_REASON_ORIGIN_NOT_ALLOWED: Code.PERMISSION_DENIED,
    DoorReason.DOOR_REASON_NOT_JSON: Code.INVALID_ARGUMENT,
    DoorReason.DOOR_REASON_CURSOR_TOO_OLD: Code.OUT_OF_RANGE,
    DoorReason.DOOR_REASON_CURSOR_AHEAD: Code.OUT_OF_RANGE,
    DoorReason.DOOR_REASON_TOO_SLOW: Code.RESOURCE_EXHAUSTED,
    DoorReason.DOOR_REASON_SETTLEMENT_STOPPED: Code.FAILED_PRECONDITION,
    DoorReason.DOOR_REASON_INTERNAL: Code.INTERNAL,
}
"""gRPC code of every reason that a call can fail with, as door_reason.proto says. The other reasons are outcomes of
batches and no errors of calls."""

WITH_RETRY: Final = frozenset(
    {
        DoorReason.DOOR_REASON_TOO_FAST,
        DoorReason.DOOR_REASON_OVERLOADED,
        DoorReason.DOOR_REASON_UNAVAILABLE,
        DoorReason.DOOR_REASON_DRAINING,
        DoorReason.DOOR_REASON_CLOCK_SKEW,
        DoorReason.DOOR_REASON_TOO_MANY_CALLS,
    }
)
"""Reasons whose error always has RetryInfo."""

_HTTP_OF_REASON: Final[Mapping[str, int]] = {"HOST_NOT_ALLOWED": 403, "ORIGIN_NOT_ALLOWED": 403, "NOT_JSON": 415}
_HTTP_OF_CODE: Final[Mapping[int, int]] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
}
"""HTTP statuses of gRPC codes (google/rpc/code.proto)."""

_NOT_FOUND: Final = frozenset(
    {
        RejectReason.UNKNOWN_KEY,
        RejectReason.UNKNOWN_MARKET,
        RejectReason.UNKNOWN_ORDER,
        RejectReason.UNKNOWN_ASSET,
        RejectReason.UNKNOWN_SHARD,
        RejectReason.UNKNOWN_USER,
        RejectReason.UNKNOWN_ACCOUNT,
        RejectReason.UNKNOWN_WITHDRAWAL,
    }
)
_EXISTS: Final = frozenset(
    {
        RejectReason.KEY_EXISTS,
        RejectReason.ALREADY_DEFINED,
        RejectReason.REQUEST_ID_REUSED,
        RejectReason.DUPLICATE_CLIENT_ORDER_ID,
        RejectReason.NONCE_REUSED,
    }
)
_INVALID: Final = frozenset(
    {
        RejectReason.MALFORMED,
        RejectReason.WRONG_SHARD,
        RejectReason.BAD_SIGNATURE,
        RejectReason.NO_PROTECTION_PRICE,
        RejectReason.PRICE_OUTSIDE_BAND,
        RejectReason.PRICE_OFF_TICK,
        RejectReason.QUANTITY_OFF_LOT,
        RejectReason.AMOUNT_TOO_LARGE,
        RejectReason.REQUEST_ID_MISSING,
    }
)
_DENIED: Final = frozenset(
    {RejectReason.ACCOUNT_NOT_OF_KEY, RejectReason.ROLE_NOT_ALLOWED, RejectReason.KEY_SCOPE_TOO_NARROW}
)
_SEND_AGAIN: Final = frozenset({RejectReason.ENTRY_WORK_LIMIT, RejectReason.STALE_CONTROL})


def code_of_reject(reason: RejectReason) -> int:
    """Return the gRPC code of an admin call that a shard refused.

    What cannot be said in the shard's present state is FAILED_PRECONDITION. ENTRY_WORK_LIMIT and STALE_CONTROL go away
    when the same is sent again: UNAVAILABLE.
    """
    code: int = Code.FAILED_PRECONDITION
    if reason in _NOT_FOUND:
        code = Code.NOT_FOUND
    elif reason in _EXISTS:
        code = Code.ALREADY_EXISTS
    elif reason in _INVALID or reason.name.startswith("INVALID_"):
        code = Code.INVALID_ARGUMENT
    elif reason in _DENIED:
        code = Code.PERMISSION_DENIED
    elif reason in _SEND_AGAIN:
        code = Code.UNAVAILABLE
    return code


class Refusal(Exception):  # noqa: N818 - what a call is answered with; not always somebody's error
    """The end of a call with a status.

    Attributes:
        status: what the caller gets, details included.
    """

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status

    @property
    def reason(self) -> str:
        """Reason in its ErrorInfo; empty: it has none."""
        return reason_of(self.status)


def door_reason_name(reason: int) -> str:
    """Return the name of a reason as ErrorInfo has it, without DOOR_REASON_."""
    return DoorReason.Name(reason).removeprefix(_DOOR_PREFIX)


def status_of(
    reason: int,
    detail: str,
    *,
    retry_after_ms: int | None = None,
    fields: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Status:
    """Return the status that a call fails with.

    Args:
        reason: a DoorReason of CODE_OF_REASON; another is a mistake of the program (KeyError).
        detail: thing, value, rule and way out, for people. The name of the reason is put before it.
        retry_after_ms: when to send the same again; RETRY_AFTER_MS where the reason demands one and none is given.
        fields: what is wrong, by path of the field; becomes a BadRequest.
        metadata: more for machines.
    """
    name = door_reason_name(reason)
    if retry_after_ms is None and reason in WITH_RETRY:
        retry_after_ms = RETRY_AFTER_MS
    return _status(CODE_OF_REASON[reason], name, detail, retry_after_ms, fields or {}, metadata or {})


def reject_status(reason: RejectReason, detail: str, *, metadata: Mapping[str, str] | None = None) -> Status:
    """Return the status of an admin call that a shard refused; its reason is the shard's."""
    code = code_of_reject(reason)
    retry_after_ms = RETRY_AFTER_MS if code == Code.UNAVAILABLE else None
    return _status(code, reason.name, detail, retry_after_ms, {}, metadata or {})


def _status(
    code: int,
    name: str,
    detail: str,
    retry_after_ms: int | None,
    fields: Mapping[str, str],
    metadata: Mapping[str, str],
) -> Status:
    status = Status(code=code, message=f"{name}: {detail}")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN, metadata=metadata))
    if fields:
        bad = error_details_pb2.BadRequest()
        for path, what in fields.items():
            bad.field_violations.add(field=path, description=what)
        status.details.add().Pack(bad)
    if retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(max(1, retry_after_ms))
        status.details.add().Pack(retry)
    return status


def refused(
    reason: int,
    detail: str,
    *,
    retry_after_ms: int | None = None,
    fields: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Refusal:
    """Return what to raise to end a call; arguments as of `status_of`."""
    return Refusal(status_of(reason, detail, retry_after_ms=retry_after_ms, fields=fields, metadata=metadata))


def rejected(reason: RejectReason, detail: str, *, metadata: Mapping[str, str] | None = None) -> Refusal:
    """Return what to raise to end an admin call that a shard refused."""
    return Refusal(reject_status(reason, detail, metadata=metadata))


def invalid(fields: Mapping[str, str]) -> Refusal:
    """Return what to raise for fields that are out of their bounds: what is wrong, by path. At least one."""
    path, what = next(iter(fields.items()))
    more = f"; {len(fields) - 1} more, see BadRequest" if len(fields) > 1 else ""
    return refused(DoorReason.DOOR_REASON_INVALID_FIELD, f"{path}: {what}{more}", fields=fields)


# --- over gRPC ------------------------------------------------------------------------------------------------------

_GRPC_CODES: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


async def abort_with(context: Any, status: Status) -> NoReturn:
    """End a call of grpc.aio with a status and its details."""
    context.set_trailing_metadata((*(context.trailing_metadata() or ()), (STATUS_KEY, status.SerializeToString())))
    await context.abort(_GRPC_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message)
    raise AssertionError("abort returned")


async def abort(
    context: Any,
    reason: int,
    detail: str,
    *,
    retry_after_ms: int | None = None,
    fields: Mapping[str, str] | None = None,
) -> NoReturn:
    """End a call; arguments as of `status_of`. Raising `refused(...)` does the same and needs no context."""
    await abort_with(context, status_of(reason, detail, retry_after_ms=retry_after_ms, fields=fields))


def status_of_error(error: grpc.RpcError) -> Status:
    """Return the status in a failed call's error, with its details as the server sent them.

    A status that contradicts the code of the call, or cannot be read, is not believed (gRPC's Richer Error Model).
    """
    code, message = _code_of(error), str(getattr(error, "details", lambda: "")() or "")
    metadata = getattr(error, "trailing_metadata", lambda: ())() or ()
    for key, value in metadata:
        if key == STATUS_KEY:
            with contextlib.suppress(Exception):
                # Bytes of another process: protobuf has several errors for what is no Status.
                status = Status.FromString(value)
                if status.code == code:
                    return status
    return Status(code=code, message=message)


def _code_of(error: grpc.RpcError) -> int:
    code = getattr(error, "code", lambda: None)()
    return int(code.value[0]) if isinstance(code, grpc.StatusCode) else int(Code.UNKNOWN)


# --- for all --------------------------------------------------------------------------------------------------------


def reason_of(status: Status) -> str:
    """Return the reason in the ErrorInfo of a status; empty: it has none of ours."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            return str(info.reason)
    return ""


def retry_after_ms(status: Status) -> int | None:
    """Return when to send the same again, as RetryInfo says; None: it does not."""
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            return int(retry.retry_delay.ToMilliseconds())
    return None


def http_status(status: Status) -> int:
    """Return the HTTP status of an error."""
    return _HTTP_OF_REASON.get(reason_of(status)) or _HTTP_OF_CODE.get(status.code, 500)


def http_headers(status: Status) -> dict[str, str]:
    """Return the headers of an HTTP answer with this error: Retry-After, in whole seconds, where it says so."""
    after = retry_after_ms(status)
    return {} if after is None else {"Retry-After": str(-(-after // 1000))}


def http_body(status: Status) -> dict[str, Any]:
    """Return the JSON body of an error: {"error": {code, status, reason, message, details}} (google.rpc.Status)."""
    return {
        "error": {
            "code": http_status(status),
            "status": Code.Name(status.code),
            "reason": reason_of(status),
            "message": status.message,
            "details": [MessageToDict(detail) for detail in status.details],
        }
    }

"""Errors as HTTP clients of the operators' port see them: a status, headers, and a JSON object that says what to do.

    {"error": {"code": "NOT_FOUND", "reason": "UNKNOWN_USER", "message": "...", "fields": {}, "retry_after_ms": null}}

`code` is the gRPC code and `reason` the stable one of DoorReason or RejectReason, null where there is none; `fields`
says by path what is wrong with the request; `retry_after_ms` is null where waiting alone does not help.
"""

from typing import Any, Final

from google.rpc import error_details_pb2
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from exchange.serving import errors

_STATUS_OF_REASON: Final = {"MESSAGE_SIZE": 413}


class HttpRefusal(Exception):  # noqa: N818 - what a request is answered with
    """The end of a request that HTTP has a status of its own for, such as 405."""

    def __init__(self, status: Status, http_status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(status.message)
        self.status = status
        self.http_status = http_status
        self.headers = headers or {}


def http_status(status: Status) -> int:
    """Return the HTTP status of an error."""
    return _STATUS_OF_REASON.get(errors.reason_of(status)) or errors.http_status(status)


def error_headers(status: Status) -> dict[str, str]:
    """Return what the headers of the answer say: when to come again, and how to say who one is."""
    headers = errors.http_headers(status)
    if status.code == Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = 'Bearer realm="clob"'
    return headers


def error_body(status: Status) -> dict[str, Any]:
    """Return the JSON object of an error."""
    return {
        "error": {
            "code": Code.Name(status.code),
            "reason": errors.reason_of(status) or None,
            "message": status.message,
            "fields": fields_of(status),
            "retry_after_ms": errors.retry_after_ms(status),
        }
    }


def fields_of(status: Status) -> dict[str, str]:
    """Return what is wrong with the request, by path of the field."""
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(bad):
            return {violation.field: violation.description for violation in bad.field_violations}
    return {}

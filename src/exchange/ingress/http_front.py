"""HTTP/JSON of the operators' port.

Paths and methods are those of the contracts (`front_methods`), JSON is as `http_json` says, errors as `http_errors`.

- Fields of the request come from the path, from query parameters (GET) or from a JSON body (POST). Nothing is ignored.
- `Idempotency-Key` names a request that changes something. Without one the server chooses, except where money moves;
  the answer's own `Idempotency-Key` has the request_id that it was.
- `Clob-Timeout-Ms` bounds how long a call may take.
"""

import asyncio
import contextlib
import html
import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec
from aiohttp import web
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from clob.v1.door_reason_pb2 import DoorReason
from exchange.domain.limits import REQUEST_ID_BYTES
from exchange.ingress.front_calls import Front, unknown_market
from exchange.ingress.front_methods import METHODS, Method
from exchange.ingress.http_errors import HttpRefusal, error_body, error_headers, http_status
from exchange.ingress.http_json import (
    JsonError,
    message_to_json,
    parse_json,
    read_idempotency_key,
    read_message,
    read_texts,
)
from exchange.serving import errors
from exchange.serving.callers import caller_of_request
from exchange.serving.guard import Gate
from exchange.serving.metrics import Metrics

_log = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""Room for 32,768 markets with tables."""
_IN_THREAD_BYTES: Final = 256 * 1024
"""Longer bodies are read and written in a thread, so that other calls go on meanwhile."""
_MONEY_METHODS: Final = frozenset({"Deposit", "CloseWithdrawal"})
"""Where the caller has to choose the request id, so that it has one to repeat the request under."""
_TIMEOUT_MS_MAX: Final = 3_600_000
_TIMEOUT: Final = "Clob-Timeout-Ms"
_KEY: Final = "Idempotency-Key"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_PREFLIGHT_HEADERS: Final = f"authorization, content-type, {_KEY.lower()}, {_TIMEOUT.lower()}"
_JSON: Final = "application/json"
_JSON_TYPE: Final = re.compile(r"application/json\s*(?:;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)


class _Route(NamedTuple):
    method: Method
    segments: tuple[str, ...]

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the fields that a path gives; None: it is another one."""
        if len(segments) != len(self.segments):
            return None
        found = {}
        for ours, theirs in zip(self.segments, segments, strict=True):
            if ours.startswith("{"):
                found[ours[1:-1]] = theirs
            elif ours != theirs:
                return None
        return found


def _segments(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


_ROUTES: Final = {
    verb: tuple(
        _Route(method, _segments(method.http.path))
        for method in METHODS.values()
        if method.http is not None and method.http.verb == verb
    )
    for verb in ("GET", "POST")
}


def make_app(
    front: Front,
    environment: str,
    version: str,
    gate: Gate,
    metrics: Metrics,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> web.Application:
    """Return the application that answers HTTP for a front.

    Args:
        front: makes the calls.
        environment: its name, for the page.
        version: of the software, for the page.
        gate: returns why nothing is served now; None: it is.
        metrics: where calls are counted, under the names of their gRPC methods.
        body_bytes_max: largest body of a request.
    """
    app = web.Application(client_max_size=body_bytes_max)
    answering = HttpFront(front, environment, version, gate, metrics, body_bytes_max)
    app.router.add_route("*", "/{path:.*}", answering.answer)
    app.on_response_prepare.append(answering.dress)
    return app


class HttpFront:
    """Answers HTTP requests."""

    def __init__(
        self,
        front: Front,
        environment: str,
        version: str,
        gate: Gate,
        metrics: Metrics,
        body_bytes_max: int,
    ) -> None:
        self._front = front
        self._environment = environment
        self._version = version
        self._gate = gate
        self._metrics = metrics
        self._body_bytes_max = body_bytes_max

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; errors of every kind are JSON."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        extra = dict(_HEADERS)
        try:
            self._check_browser(request, headers)
            origin = headers.get("origin")
            if origin is not None:
                # It is an allowed one, or this server's own.
                extra |= {
                    "Access-Control-Allow-Origin": origin,
                    "Access-Control-Expose-Headers": f"{_KEY}, Retry-After",
                    "Vary": "Origin",
                }
            return await self._answer(request, headers, extra)
        except HttpRefusal as refusal:
            status, http, more = refusal.status, refusal.http_status, refusal.headers
        except errors.Refusal as refusal:
            status, http, more = refusal.status, http_status(refusal.status), {}
        except Exception:  # noqa: BLE001 - whatever it is, the client gets JSON and the log the rest
            number = secrets.token_hex(4)
            _log.exception("mistake %s in the answer to %s %s", number, request.method, request.path)
            detail = f"a mistake of ours, number {number} in the log; whether anything was changed is not known"
            status, http, more = errors.status_of(DoorReason.DOOR_REASON_INTERNAL, detail), 500, {}
        return web.Response(
            status=http,
            headers={**extra, **error_headers(status), **more},
            body=_dump(error_body(status)),
            content_type=_JSON,
        )

    async def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Make JSON of the errors that the port itself answers with, before `answer` sees the request."""
        response.headers.pop("Server", None)
        if not isinstance(response, web.Response) or response.status < 400 or response.content_type == _JSON:
            return
        if response.status == 413:
            status = self._too_large().status
        else:
            code = Code.DEADLINE_EXCEEDED if response.status == 408 else Code.INVALID_ARGUMENT
            status = Status(code=code, message=response.text or response.reason or "")
        body = _dump(error_body(status))
        response.body = body
        response.content_type = _JSON
        response.headers.update({**_HEADERS, "Content-Length": str(len(body))})

    def _too_large(self) -> errors.Refusal:
        detail = f"the body has more than {self._body_bytes_max:,} bytes; split it, or use gRPC"
        return errors.refused(DoorReason.DOOR_REASON_MESSAGE_SIZE, detail)

    def _check_browser(self, request: web.Request, headers: Mapping[str, str]) -> None:
        transport = request.transport
        own = transport.get_extra_info("sockname") if transport is not None else None
        own_host = str(own[0]).partition("%")[0] if isinstance(own, tuple) else ""
        caller = caller_of_request(request)
        self._front.access.check_browser(headers, own_host, is_tls=caller.is_tls)

    async def _answer(self, request: web.Request, headers: Mapping[str, str], extra: dict[str, str]) -> web.Response:
        # request.path is decoded, and a slash in a segment may have been one of its bytes.
        path = request.rel_url.raw_path
        segments = tuple(unquote(part) for part in _segments(path))
        if request.method == "OPTIONS":
            return _preflight(segments, headers, extra)
        if not segments:
            return self._index(request, headers, extra)
        refusal = self._gate()
        if refusal is not None:
            raise refusal
        if segments == ("healthz",):
            return _json_response({"status": "SERVING"}, extra)
        method, path_fields = _find(request.method, segments, path)
        with self._counted(method):
            return await self._call(request, headers, extra, method, path_fields)

    @contextlib.contextmanager
    def _counted(self, method: Method) -> Iterator[None]:
        """Count a call when it has ended, as the guard of the port counts those of gRPC."""
        name = method.name.removeprefix("/")
        started_s = time.perf_counter()
        code, reason = "UNKNOWN", ""
        try:
            yield
            code = "OK"
        except errors.Refusal as refusal:
            code, reason = Code.Name(refusal.status.code), refusal.reason
            raise
        finally:
            self._metrics.calls.labels(name, code, reason).inc()
            self._metrics.seconds.labels(name).observe(time.perf_counter() - started_s)

    async def _call(
        self,
        request: web.Request,
        headers: Mapping[str, str],
        extra: dict[str, str],
        method: Method,
        path_fields: dict[str, str],
    ) -> web.Response:
        principal = self._front.admit(method, caller_of_request(request), headers)
        timeout_s = _timeout_s(headers.get(_TIMEOUT.lower()), method)
        message = method.request()
        await self._body(request, headers, message)
        try:
            await self._read_path(message, path_fields)
            request_id = _name(method, message, headers.get(_KEY.lower()))
        except JsonError as error:
            raise _invalid(error) from None
        if request_id:
            extra[_KEY] = request_id.hex()
        encoded = message.SerializeToString()
        try:
            answer = await self._front.unary(method, principal, encoded, timeout_s)
        except errors.Refusal as refusal:
            if refusal.status.code == Code.DEADLINE_EXCEEDED and not refusal.status.details:
                raise _too_long(timeout_s, request_id) from None
            raise
        if len(answer) > _IN_THREAD_BYTES:
            written = await asyncio.to_thread(_written, method, answer)
        else:
            written = _written(method, answer)
        return web.Response(body=written, headers=extra, content_type=_JSON)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _body(self, request: web.Request, headers: Mapping[str, str], message: Message) -> None:
        """Fill the message from query parameters or from the body."""
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise self._too_large() from None
        except (web.HTTPException, ValueError) as error:
            raise _invalid(JsonError(f"the body cannot be read: {error}")) from None
        try:
            if request.method in ("GET", "HEAD"):
                if body:
                    raise JsonError("GET has no body; send query parameters, such as ?page_size=10")
                texts: dict[str, list[str]] = {}
                for name, value in request.query.items():
                    texts.setdefault(name, []).append(value)
                read_texts(texts, message)
                return
            if request.query_string:
                raise JsonError("POST takes its fields from the JSON body, not from query parameters")
            if not body:
                return
            content_type = headers.get("content-type", "")
            if _JSON_TYPE.fullmatch(content_type.strip()) is None:
                raise errors.refused(
                    DoorReason.DOOR_REASON_NOT_JSON,
                    f"the body is {content_type[:80] or 'of no content type'}; send JSON in UTF-8, with the header "
                    "content-type: application/json",
                )
            if len(body) > _IN_THREAD_BYTES:
                await asyncio.to_thread(_read_body, body, message)
            else:
                _read_body(body, message)
        except JsonError as error:
            raise _invalid(error) from None

    async def _read_path(self, message: Message, path_fields: dict[str, str]) -> None:
        """Set the fields that the path names; a market may be named by its symbol."""
        for name, text in path_fields.items():
            body_has = getattr(message, name)
            if name == "market" and not text.isdigit():
                number = await self._front.market_of_symbol(text)
                if number is None:
                    raise unknown_market(text[:40])
                text = str(number)
            made = type(message)()
            read_texts({name: [text]}, made)
            if body_has and body_has != getattr(made, name):
                raise JsonError(f"{name} is another one than in the path", {name: "is another one than in the path"})
            setattr(message, name, getattr(made, name))

    # --- the page ---------------------------------------------------------------------------------------------------

    def _index(self, request: web.Request, headers: Mapping[str, str], extra: dict[str, str]) -> web.Response:
        """Say what is here: to browsers as a page, else as JSON."""
        if request.method not in ("GET", "HEAD"):
            raise _no_verb(request.method, "/", ("GET",))
        routes = [
            {
                "method": method.http.verb,
                "path": method.http.path,
                "does": method.http.says,
                "role": method.role,
                "rpc": method.name.removeprefix("/"),
                "fields": list(method.descriptor.input_type.fields_by_name),
            }
            for method in METHODS.values()
            if method.http is not None
        ]
        if "text/html" in headers.get("accept", ""):
            return web.Response(
                text=self._page(routes),
                content_type="text/html",
                headers={**extra, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
            )
        return _json_response({"environment": self._environment, "version": self._version, "methods": routes}, extra)

    def _page(self, routes: list[dict[str, Any]]) -> str:
        rows = "\n".join(
            "<tr><td>{method}<td><code>{path}</code><td>{does}<td>{role}<td>{fields}".format(
                method=route["method"],
                path=(
                    f'<a href="{route["path"]}">{route["path"]}</a>'
                    if route["method"] == "GET" and "{" not in route["path"]
                    else html.escape(route["path"])
                ),
                does=html.escape(route["does"]),
                role=route["role"] or "everybody",
                fields=html.escape(", ".join(route["fields"])),
            )
            for route in routes
        )
        return _PAGE.format(environment=html.escape(self._environment), version=html.escape(self._version), rows=rows)


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>clob {environment}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}}
tr+tr td{{border-top:1px solid #ddd}}td:last-child{{color:#666;font-size:85%}}</style>
<h1>Exchange {environment}</h1>
<p>Operators' port of clob {version}: gRPC with reflection, and HTTP/JSON as below.
A new user with an account and a key: <code>curl -X POST http://127.0.0.1:9090/users</code></p>
<table><tr><th>Method<th>Path<th>What it does<th>Role<th>Fields
{rows}
</table></html>
"""


def _find(verb: str, segments: tuple[str, ...], path: str) -> tuple[Method, dict[str, str]]:
    """Return the method at a path, and the fields that the path gives."""
    verbs = []
    for offered, routes in _ROUTES.items():
        for route in routes:
            found = route.match(segments)
            if found is not None:
                if offered == verb or (offered, verb) == ("GET", "HEAD"):
                    return route.method, found
                verbs.append(offered)
                break
    if verbs:
        raise _no_verb(verb, path, tuple(verbs))
    detail = f"there is no {path[:80]} here; GET / lists what there is"
    raise errors.refused(DoorReason.DOOR_REASON_NOT_FOUND, detail)


def _no_verb(verb: str, path: str, verbs: tuple[str, ...]) -> HttpRefusal:
    detail = f"{verb[:20]} {path[:80]} is not possible; this path takes {' and '.join(verbs)}"
    return HttpRefusal(Status(code=Code.UNIMPLEMENTED, message=detail), 405, {"Allow": ", ".join(verbs)})


def _preflight(segments: tuple[str, ...], headers: Mapping[str, str], extra: dict[str, str]) -> web.Response:
    """Answer OPTIONS; an origin that may not call was refused before."""
    verbs = [verb for verb, routes in _ROUTES.items() if any(route.match(segments) is not None for route in routes)]
    allowed = ", ".join([*verbs, "OPTIONS"])
    if "origin" in headers:
        extra |= {
            "Access-Control-Allow-Methods": allowed,
            "Access-Control-Allow-Headers": _PREFLIGHT_HEADERS,
            "Access-Control-Max-Age": "600",
        }
    return web.Response(status=204, headers={**extra, "Allow": allowed})


def _timeout_s(text: str | None, method: Method) -> float:
    if text is None:
        return method.seconds_default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= _TIMEOUT_MS_MAX):
        detail = f"the header {_TIMEOUT} is {text[:40]!r}, must be 1 .. {_TIMEOUT_MS_MAX} milliseconds"
        raise _invalid(JsonError(detail))
    return int(text) / 1_000


def _name(method: Method, message: Message, header: str | None) -> bytes:
    """Give the request its name and return it; empty: it has none, and needs none or must be refused for that."""
    if not method.takes_request_id:
        # GET and the like may carry the header; it has no meaning for them.
        return b""
    in_body: bytes = getattr(message, "request_id")  # noqa: B009 - messages of many types
    if header is not None:
        try:
            named = read_idempotency_key(header.strip())
        except JsonError as error:
            raise JsonError(f"the header {_KEY} {error}", {"request_id": str(error)}) from None
        if in_body and in_body != named:
            what = f"is another one than in the header {_KEY}; send one of them"
            raise JsonError(f"request_id {what}", {"request_id": what})
    elif in_body or method.descriptor.name in _MONEY_METHODS:
        named = in_body
    else:
        named = secrets.token_bytes(REQUEST_ID_BYTES)
    if named:
        setattr(message, "request_id", named)  # noqa: B010 - messages of many types
    return named


def _read_body(body: bytes, message: Message) -> None:
    read_message(parse_json(body), message)


def _written(method: Method, answer: bytes) -> bytes:
    return _dump(message_to_json(method.response.FromString(answer)))


def _dump(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _json_response(value: Any, headers: dict[str, str]) -> web.Response:
    return web.Response(body=_dump(value), headers=headers, content_type=_JSON)


def _invalid(error: JsonError) -> errors.Refusal:
    return errors.refused(DoorReason.DOOR_REASON_INVALID_FIELD, str(error), fields=error.fields)


def _too_long(timeout_s: float, request_id: bytes) -> errors.Refusal:
    again = f"send it again with {_KEY}: {request_id.hex()}" if request_id else "send it again"
    detail = (
        f"no answer within {timeout_s:g} s, and whether anything was changed is not known; {again}, or with a longer "
        f"{_TIMEOUT}"
    )
    return errors.Refusal(Status(code=Code.DEADLINE_EXCEEDED, message=detail))

"""The operators' port: gRPC and HTTP/JSON on one address, over the real port, with small real services behind it."""

import hashlib
import http.client
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from clob.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    batch_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    matching_service_pb2,
    matching_service_pb2_grpc,
    operation_pb2,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
    verification_service_pb2,
    verification_service_pb2_grpc,
)
from exchange.ingress.front_access import Access, AccessRules
from exchange.ingress.front_methods import METHODS, SERVICES, Role
from exchange.ingress.front_tokens import TokenFileError, TokenStore, create_token, read_tokens
from exchange.ingress.http_json import message_to_json, read_message
from exchange.serving import errors
from exchange.serving.callers import Caller
from exchange.serving.tls import Certificate
from tests.support.certificates import write_certificates
from tests.support.front_backends import Running

PROTO = Path(__file__).parent.parent / "proto" / "clob" / "v1"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("front"), {"admin_origins": "https://console.example"})
    made.listing.list_market(7, 1, "BTC-USD")
    yield made
    made.close()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


def ask(running: Running, verb: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Make an HTTP request; a body that is not bytes is sent as JSON. Names of headers are written with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        named.setdefault("content-type", "application/json")
    connection = http.client.HTTPConnection(running.address, timeout=20)
    try:
        connection.request(verb, path, body=body, headers=named)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture
def channel(running: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(running.address) as made:
        yield made


# --- the table and the contracts ------------------------------------------------------------------------------------


def comments() -> dict[str, tuple[str, str]]:
    """Return what the contracts' comments say of each method of the port, and of its service."""
    found = {}
    for name in ("admin", "settlement", "matching", "market_data", "verification"):
        text, service, service_says = [], "", ""
        for line in (PROTO / f"{name}_service.proto").read_text("utf-8").splitlines():
            line = line.strip()
            if line.startswith("//"):
                text.append(line.removeprefix("//").strip())
                continue
            said = " ".join(text)
            if match := re.match(r"service (\w+) ", line):
                service, service_says = match[1], said
            elif match := re.match(r"rpc (\w+)\(", line):
                found[f"/clob.v1.{service}/{match[1]}"] = (said, service_says)
            text = []
    return found


def test_every_method_of_the_contracts_is_in_the_table() -> None:
    assert set(METHODS) == set(comments())


@pytest.mark.parametrize("name", METHODS)
def test_the_table_says_what_the_comments_of_the_contracts_say(name: str) -> None:
    method, (said, service_says) = METHODS[name], comments()[name]
    http_line = re.search(r"HTTP: (GET|POST) (/[a-z0-9/_{}]+)\.", said)
    assert (method.http and (method.http.verb, method.http.path)) == (http_line and http_line.groups())
    role = re.search(r"[Nn]eeds the role ([a-z-]+)|with the role ([a-z-]+)", f"{said} {service_says}")
    everybody = service_says.startswith("For everybody")
    assert method.role == (None if everybody else role and (role[1] or role[2]))


def test_paths_name_fields_of_their_requests() -> None:
    for method in METHODS.values():
        if method.http is not None:
            fields = set(re.findall(r"\{(\w+)\}", method.http.path))
            assert fields <= set(method.descriptor.input_type.fields_by_name), method.name


# --- HTTP: users with curl ------------------------------------------------------------------------------------------


def test_curl_makes_a_user_with_no_body_and_no_content_type(running: Running) -> None:
    url = f"http://{running.address}/users"
    done = subprocess.run(["curl", "-sS", "-X", "POST", url], capture_output=True, timeout=20, check=True)
    user = json.loads(done.stdout)
    assert user["user_id"] == str(max(running.control.users))
    assert int(user["account_id"]) == 100 + int(user["user_id"])
    assert re.fullmatch(r"[0-9a-f]{32}", user["key_id"])
    assert re.fullmatch(r"clobsk_[0-9a-f]{64}", user["private_key"])
    assert user["environment"] == "test-front"
    assert user["starting_funds"] == []
    assert user["repeated"] is False


def test_the_same_idempotency_key_gets_the_first_answer_without_the_secret(running: Running) -> None:
    key = "00112233-4455-6677-8899-aabbccddeeff"
    first = ask(running, "POST", "/users", idempotency_key=key)
    again = ask(running, "POST", "/users", idempotency_key=key.replace("-", ""))
    assert first.headers["Idempotency-Key"] == key.replace("-", "")
    assert again.json["user_id"] == first.json["user_id"]
    assert (again.json["repeated"], again.json["private_key"]) == (True, "")


def test_without_an_idempotency_key_the_answer_says_which_was_chosen(running: Running) -> None:
    first, second = ask(running, "POST", "/users"), ask(running, "POST", "/users", {})
    assert re.fullmatch(r"[0-9a-f]{32}", first.headers["Idempotency-Key"])
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]
    assert running.control.calls[-1][1].request_id.hex() == second.headers["Idempotency-Key"]


def test_an_idempotency_key_may_be_any_text(running: Running) -> None:
    answer = ask(running, "POST", "/users", idempotency_key="order 66")
    name = hashlib.sha256(b"clob.v1.Idempotency\0order 66").digest()[:16].hex()
    assert answer.headers["Idempotency-Key"] == name


def test_json_of_every_message_can_be_read_back() -> None:
    for method in METHODS.values():
        for kind in (method.request, method.response):
            read = kind()
            read_message(message_to_json(kind()), read)
            assert read == kind()


def test_a_key_that_moves_money_is_never_chosen_by_the_server(running: Running) -> None:
    deposit = {"deposits": [{"account": 101, "asset": 1, "amount_units": "5", "allocate": "NONE"}]}
    refused = ask(running, "POST", "/deposits", deposit)
    assert (refused.status, refused.error["reason"]) == (400, "REQUEST_ID_MISSING")


def test_bytes_are_hex_and_enums_may_be_short_or_long(running: Running) -> None:
    ask(running, "POST", "/users", {"public_key": "AB" * 32, "signature": "cd" * 64})
    request = running.control.calls[-1][1]
    assert (request.public_key, request.signature) == (b"\xab" * 32, b"\xcd" * 64)
    for allocate in ("EVEN", "even", "ALLOCATION_POLICY_EVEN", 1, "1"):
        body = {"deposits": [{"account": "101", "asset": 1, "amount_units": 5, "allocate": allocate}]}
        ask(running, "POST", "/deposits", body, idempotency_key="11" * 16)
        assert running.control.calls[-1][1].deposits[0].allocate == operation_pb2.ALLOCATION_POLICY_EVEN


def test_64_bit_integers_are_strings_and_enums_full_names(running: Running) -> None:
    account = ask(running, "GET", "/accounts/101").json
    assert account["user"] == "1"
    balance = account["balances"]["shards"][0]["balances"][0]
    assert balance == {"asset": 1, "free_units": str(2**62), "locked_units": "5"}
    assert account["balances"]["shards"][1]["cursor"] == {"shard": 1, "n": "4", "event": 0}
    trade = ask(running, "GET", "/markets/7/trades").json["trades"][0]
    assert (trade["trade_id"], trade["price_ticks"], trade["taker_side"]) == (str(2**52 + 1), "7", "SIDE_BUY")


def test_paths_give_fields_and_a_market_may_be_named_by_its_symbol(running: Running) -> None:
    assert ask(running, "GET", "/markets/BTC-USD/book").json["book"]["market"] == 7
    assert ask(running, "GET", "/markets/7/book?levels_max=3").json["book"]["bids"][0]["quantity_lots"] == "6"
    assert running.control.calls[-1][1].levels_max == 3
    key = "0f" * 16
    assert ask(running, "POST", f"/keys/{key}/revoke").json["shards_pending"] == [2]
    unknown = ask(running, "GET", "/markets/NO-SUCH/book")
    assert (unknown.status, unknown.error["reason"]) == (404, "UNKNOWN_MARKET")


def test_query_parameters_give_fields_lists_by_repetition_or_comma(running: Running) -> None:
    for query in ("shards=1&shards=2", "shards=1,2"):
        positions = ask(running, "GET", f"/positions?{query}").json["positions"]
        assert [row["settled"]["shard"] for row in positions] == [1, 2]
    ask(running, "GET", "/withdrawals?state=paid&page_size=3")
    assert (running.control.calls[-1][1].state, running.control.calls[-1][1].page_size) == (2, 3)


def test_results_say_reasons_and_an_asset_number_of_zero_gets_the_next(running: Running) -> None:
    created = ask(running, "POST", "/assets", {"assets": [{"symbol": "NEW", "decimals": 2}]})
    assert created.json["results"] == [{"asset": 1, "reason": "REJECT_REASON_UNSPECIFIED"}]
    again = ask(running, "POST", "/assets", {"assets": [{"symbol": "NEW", "decimals": 2}]})
    assert again.json["results"] == [{"asset": 1, "reason": "REJECT_REASON_ALREADY_DEFINED"}]


def test_21000_markets_in_one_body(running: Running, tmp_path: Path) -> None:
    markets = [
        {
            "symbol": f"M{number:05d}-USD",
            "base_asset": 2,
            "quote_asset": 1,
            "base_units_per_lot": 1000,
            "quote_units_per_tick_lot": 10,
            "tick_table": [
                {"from_price_ticks": 1, "multiple_ticks": 1},
                {"from_price_ticks": 1000, "multiple_ticks": 5},
            ],
            "maker_fee_ppm": 100,
            "taker_fee_ppm": 250,
        }
        for number in range(21_000)
    ]
    body = tmp_path / "markets.json"
    body.write_text(json.dumps({"markets": markets}), "utf-8")
    # curl asks "Expect: 100-continue" before a body of this size.
    command = ["curl", "-sS", "-H", "content-type: application/json", "--data-binary", f"@{body}"]
    done = subprocess.run([*command, f"http://{running.address}/markets"], capture_output=True, timeout=60, check=True)
    results = json.loads(done.stdout)["results"]
    assert len(results) == 21_000
    assert all(row["reason"] == "REJECT_REASON_UNSPECIFIED" and row["shard"] in (1, 2) for row in results)
    assert running.control.markets[results[-1]["market"]].tick_table[1].multiple_ticks == 5


# --- HTTP: what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path", "what"),
    [
        ({"public_kye": "00"}, "public_kye", "did you mean public_key"),
        ({"public_key": "xyz"}, "public_key", "hex"),
        ({"public_key": 5}, "public_key", "hex"),
        ({"request_id": "12"}, "request_id", "32 hex digits or a UUID"),
        ([], "body", "must be an object"),
        ("text", "body", "must be an object"),
    ],
)
def test_a_body_that_is_no_request_is_refused_by_field(running: Running, body: Any, path: str, what: str) -> None:
    refused = ask(running, "POST", "/users", body)
    assert (refused.status, refused.error["reason"], refused.error["code"]) == (
        400,
        "INVALID_FIELD",
        "INVALID_ARGUMENT",
    )
    assert what in refused.error["fields"][path]


@pytest.mark.parametrize(
    ("deposit", "path"),
    [
        ({"account": 1.5}, None),
        ({"account": -1}, "deposits[0].account"),
        ({"account": True}, "deposits[0].account"),
        ({"account": "0x10"}, "deposits[0].account"),
        ({"account": 2**64}, "deposits[0].account"),
        ({"asset": 2**32}, "deposits[0].asset"),
        ({"allocate": "SIDEWAYS"}, "deposits[0].allocate"),
        ({"allocate": 99}, "deposits[0].allocate"),
        (7, "deposits[0]"),
    ],
)
def test_numbers_and_enums_outside_their_types_are_refused_by_path(
    running: Running, deposit: Any, path: str | None
) -> None:
    refused = ask(running, "POST", "/deposits", {"deposits": [deposit]}, idempotency_key="aa" * 16)
    assert (refused.status, refused.error["reason"]) == (400, "INVALID_FIELD")
    assert list(refused.error["fields"]) == ([path] if path else [])


@pytest.mark.parametrize(
    "text", [b"{", b"\xff\xfe", b'{"assets": [NaN]}', b"[" * 100_000, b"1" * 5_000, b'{"assets": [], "assets": []}']
)
def test_what_is_no_json_is_refused(running: Running, text: bytes) -> None:
    refused = ask(running, "POST", "/assets", text, content_type="application/json")
    assert (refused.status, refused.error["reason"]) == (400, "INVALID_FIELD")


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=latin-1", ""]
)
def test_a_body_that_is_not_json_is_refused_as_not_json(running: Running, content_type: str) -> None:
    refused = ask(running, "POST", "/users", b"{}", content_type=content_type)
    assert (refused.status, refused.error["reason"]) == (415, "NOT_JSON")
    assert "content-type: application/json" in refused.error["message"]


def test_curl_with_data_and_no_content_type_is_told_what_to_do(running: Running) -> None:
    url = f"http://{running.address}/users"
    done = subprocess.run(["curl", "-sS", "-d", "{}", url], capture_output=True, timeout=20, check=True)
    assert json.loads(done.stdout)["error"]["reason"] == "NOT_JSON"


def test_unknown_paths_and_verbs_say_what_there_is(running: Running) -> None:
    unknown = ask(running, "GET", "/usres")
    assert (unknown.status, unknown.error["reason"]) == (404, "NOT_FOUND")
    assert "GET / lists" in unknown.error["message"]
    wrong = ask(running, "DELETE", "/users")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, POST")
    assert wrong.error["code"] == "UNIMPLEMENTED"


def test_unknown_query_parameters_and_misplaced_fields_are_refused(running: Running) -> None:
    assert "did you mean page_size" in ask(running, "GET", "/users?pagesize=3").error["fields"]["pagesize"]
    assert ask(running, "POST", "/users?user=3").status == 400
    assert ask(running, "GET", "/users", {"page_size": 3}).status == 400
    assert ask(running, "GET", "/users?page_size=1&page_size=2").status == 400
    assert ask(running, "GET", "/users/abc").error["fields"]["user"]


def test_a_field_that_contradicts_the_path_or_the_header_is_refused(running: Running) -> None:
    refused = ask(running, "POST", "/keys/" + "00" * 16 + "/revoke", {"key_id": "11" * 16})
    assert "another one than in the path" in refused.error["fields"]["key_id"]
    refused = ask(running, "POST", "/users", {"request_id": "11" * 16}, idempotency_key="22" * 16)
    assert "another one than in the header" in refused.error["fields"]["request_id"]
    for key in ("", "x" * 256, "\xe4"):
        refused = ask(running, "POST", "/users", idempotency_key=key)
        assert (refused.status, refused.error["reason"]) == (400, "INVALID_FIELD")


def test_a_private_key_that_was_sent_by_mistake_is_not_repeated(running: Running) -> None:
    refused = ask(running, "POST", "/users", {"public_key": "clobsk_" + "ab" * 32})
    assert refused.status == 400
    assert b"clobsk_" not in refused.body


def test_an_error_of_the_backend_has_status_reason_and_way_out(running: Running) -> None:
    refused = ask(running, "GET", "/users/999999")
    assert refused.status == 404
    assert refused.error == {
        "code": "NOT_FOUND",
        "reason": "UNKNOWN_USER",
        "message": "UNKNOWN_USER: there is no user 999999",
        "fields": {},
        "retry_after_ms": None,
    }


def test_a_timeout_says_that_nothing_is_known_and_how_to_go_on(running: Running) -> None:
    late = ask(running, "POST", "/settle", {"with_state_hashes": True}, clob_timeout_ms="50")
    assert (late.status, late.error["code"]) == (504, "DEADLINE_EXCEEDED")
    assert ask(running, "POST", "/settle", clob_timeout_ms="soon").status == 400
    assert running.control.cancelled.wait(10)


def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    small = Running(tmp_path, {"admin_body_bytes_max": "2000"})
    try:
        refused = ask(small, "POST", "/users", {"public_key": "00" * 2_000})
        assert (refused.status, refused.error["reason"]) == (413, "MESSAGE_SIZE")
    finally:
        small.close()


# --- HTTP: browsers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9090", "localhost.evil.example", "10.1.2.3", "", "[::1"]
)
def test_an_unknown_host_is_refused(running: Running, host: str) -> None:
    refused = ask(running, "POST", "/users", host=host)
    assert (refused.status, refused.error["reason"]) == (403, "HOST_NOT_ALLOWED")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9090", "[::1]:9090"])
def test_names_of_this_machine_are_hosts(running: Running, host: str) -> None:
    assert ask(running, "GET", "/exchange", host=host).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1"])
def test_pages_of_others_are_refused(running: Running, origin: str) -> None:
    calls = len(running.control.calls)
    for verb in ("POST", "OPTIONS"):
        refused = ask(running, verb, "/users", origin=origin)
        assert (refused.status, refused.error["reason"]) == (403, "ORIGIN_NOT_ALLOWED")
        assert "Access-Control-Allow-Origin" not in refused.headers
    assert ask(running, "POST", "/users", sec_fetch_site="cross-site").status == 403
    assert len(running.control.calls) == calls


def test_pages_of_an_allowed_origin_may_call(running: Running) -> None:
    origin = "https://console.example"
    preflight = ask(running, "OPTIONS", "/users", origin=origin, access_control_request_method="POST")
    assert preflight.status == 204
    assert "idempotency-key" in preflight.headers["Access-Control-Allow-Headers"]
    answer = ask(running, "GET", "/users", origin=origin)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, origin)
    assert ask(running, "GET", "/users", origin=f"http://{running.address}").status == 200


def test_nothing_is_cached_or_guessed_by_browsers(running: Running) -> None:
    answer = ask(running, "POST", "/users")
    assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


def test_the_root_says_what_is_here(running: Running) -> None:
    index = ask(running, "GET", "/").json
    assert index["environment"] == "test-front"
    assert {(row["method"], row["path"]) for row in index["methods"]} == {
        (method.http.verb, method.http.path) for method in METHODS.values() if method.http
    }
    page = ask(running, "GET", "/", accept="text/html")
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"/markets/{market}/book" in page.body
    assert ask(running, "GET", "/healthz").json == {"status": "SERVING"}


# --- who may --------------------------------------------------------------------------------------------------------

STRANGER = Caller("203.0.113.5:700", "203.0.113.5", is_loopback=False, is_tls=True)
LOCAL = Caller("127.0.0.1:700", "127.0.0.1", is_loopback=True)


def reason_of(access: Access, caller: Caller, role: Role | None, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        access.require(access.principal_of(caller, named), role, "it")
    except errors.Refusal as refusal:
        return refusal.reason
    return ""


def test_tokens_have_roles_of_their_own_and_are_kept_as_hashes(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token = create_token(file, "desk", (Role.READ, Role.TRADE_OPS))
    assert token not in file.read_text("utf-8")
    assert file.stat().st_mode & 0o077 == 0
    access = Access(AccessRules(), TokenStore(file))
    bearer = f"Bearer {token}"
    assert reason_of(access, STRANGER, Role.READ) == "TOKEN_REQUIRED"
    assert reason_of(access, STRANGER, Role.READ, authorization=bearer) == ""
    assert reason_of(access, STRANGER, Role.TRADE_OPS, authorization=bearer) == ""
    assert reason_of(access, STRANGER, Role.MONEY, authorization=bearer) == "ROLE_REQUIRED"
    assert reason_of(access, STRANGER, None) == ""
    for wrong in (bearer[:-1], "Bearer ", token, f"Basic {token}", "Bearer \udcff"):
        assert reason_of(access, STRANGER, Role.READ, authorization=wrong) == "TOKEN_REQUIRED"


def test_on_this_machine_no_token_is_needed_unless_a_proxy_passed_the_call_on(tmp_path: Path) -> None:
    access = Access(AccessRules(), TokenStore(tmp_path / "none.json"))
    assert reason_of(access, LOCAL, Role.MONEY) == ""
    assert reason_of(access, LOCAL, Role.MONEY, x_forwarded_for="203.0.113.5") == "TOKEN_REQUIRED"
    assert reason_of(access, LOCAL, Role.MONEY, authorization="Bearer wrong") == "TOKEN_REQUIRED"
    distrusting = Access(AccessRules(loopback_trusted=False), TokenStore(None))
    assert reason_of(distrusting, LOCAL, Role.READ) == "TOKEN_REQUIRED"


def test_a_client_certificate_has_the_roles_of_its_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    rows = {"certificates": [{"name": "payments", "roles": ["money"], "fingerprint": "ab" * 32}]}
    file.write_text(json.dumps(rows), "utf-8")
    file.chmod(0o600)
    access = Access(AccessRules(), TokenStore(file))
    known = STRANGER.__class__("h:1", "h", False, True, Certificate("payments", (), "ab" * 32))
    other = STRANGER.__class__("h:1", "h", False, True, Certificate("payments", (), "cd" * 32))
    assert reason_of(access, known, Role.MONEY) == ""
    assert reason_of(access, known, Role.READ) == "ROLE_REQUIRED"
    assert reason_of(access, other, Role.MONEY) == "TOKEN_REQUIRED"


def test_an_ended_token_and_a_file_that_others_can_read_let_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token = create_token(file, "old", (Role.READ,), expires_ms=1_000)
    assert TokenStore(file, now_ms=lambda: 999).by_token(token) is not None
    assert TokenStore(file, now_ms=lambda: 1_000).by_token(token) is None
    file.chmod(0o644)
    assert TokenStore(file, now_ms=lambda: 999).by_token(token) is None
    with pytest.raises(TokenFileError, match="chmod 600"):
        read_tokens(file)
    file.chmod(0o600)
    with pytest.raises(TokenFileError, match="has 'old' already"):
        create_token(file, "old", (Role.READ,))


def test_a_caller_that_is_too_fast_is_told_when_to_come_back(tmp_path: Path) -> None:
    fast = Running(tmp_path, {"admin_calls_per_second": "1", "admin_calls_burst": "2"})
    try:
        answers = [ask(fast, "GET", "/exchange") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].error["reason"] == "TOO_FAST"
        assert 0 < answers[2].error["retry_after_ms"] <= 1_001
        assert int(answers[2].headers["Retry-After"]) >= 1
    finally:
        fast.close()


def test_beyond_loopback_roles_count_over_both_protocols(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token = create_token(file, "reader", (Role.READ,))
    flags = {"admin_tokens": str(file), "admin_loopback_trusted": "false"}
    strict = Running(tmp_path, flags)
    bearer = f"Bearer {token}"
    try:
        refused = ask(strict, "GET", "/users")
        assert (refused.status, refused.error["reason"]) == (401, "TOKEN_REQUIRED")
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert ask(strict, "GET", "/users", authorization=bearer).status == 200
        denied = ask(strict, "POST", "/users", authorization=bearer)
        assert (denied.status, denied.error["reason"]) == (403, "ROLE_REQUIRED")
        assert ask(strict, "GET", "/exchange").status == 200
        with grpc.insecure_channel(strict.address) as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            assert _grpc_reason(lambda: stub.ListUsers(admin_service_pb2.ListUsersRequest())) == "TOKEN_REQUIRED"
            metadata = (("authorization", bearer),)
            stub.ListUsers(admin_service_pb2.ListUsersRequest(), metadata=metadata)
            request = admin_service_pb2.CreateUserRequest()
            assert _grpc_reason(lambda: stub.CreateUser(request, metadata=metadata)) == "ROLE_REQUIRED"
        assert strict.control.calls[-1][2]["clob-operator"] == "token reader"
        assert "authorization" not in strict.control.calls[-1][2]
    finally:
        strict.close()


def test_a_treasury_operation_needs_the_role_money(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    operations = create_token(file, "operations", (Role.TRADE_OPS,))
    both = create_token(file, "both", (Role.TRADE_OPS, Role.MONEY))
    strict = Running(tmp_path, {"admin_tokens": str(file), "admin_loopback_trusted": "false"})
    try:
        with grpc.insecure_channel(strict.address) as channel:
            stub = matching_service_pb2_grpc.MatchingServiceStub(channel)

            def match(token: str, payload: bytes) -> str:
                signed = batch_operation(payload)
                return _grpc_reason(lambda: stub.Match(signed, metadata=(("authorization", f"Bearer {token}"),)))

            market = operation_pb2.Operation(role=operation_pb2.OPERATOR_ROLE_MARKET).SerializeToString()
            treasury = operation_pb2.Operation(role=operation_pb2.OPERATOR_ROLE_TREASURY).SerializeToString()
            assert match(operations, market) == ""
            assert match(operations, treasury) == "ROLE_REQUIRED"
            assert match(operations, b"\xff") == "ROLE_REQUIRED"
            assert match(both, treasury) == ""
    finally:
        strict.close()


def batch_operation(payload: bytes) -> matching_service_pb2.MatchRequest:
    signed = operation_pb2.SignedOperation(payload=payload)
    return matching_service_pb2.MatchRequest(shard=1, batches=[batch_pb2.SignedBatch()], operations=[signed])


def test_tls_with_a_client_certificate_over_both_protocols(tmp_path: Path) -> None:
    write_certificates(tmp_path, "server", "payments", "nobody")
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "payments.pem").read_text("ascii"))
    owner = {"name": "payments", "roles": ["read"], "fingerprint": hashlib.sha256(der).hexdigest()}
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"certificates": [owner]}), "utf-8")
    file.chmod(0o600)
    flags = {"tls_cert": "server.pem", "tls_key": "server.key", "tls_client_ca": "ca.pem"}
    paths = {name: str(tmp_path / path) for name, path in flags.items()}
    strict = Running(tmp_path, {**paths, "admin_tokens": str(file), "admin_loopback_trusted": "false"})
    port = strict.address.rpartition(":")[2]
    roots = (tmp_path / "ca.pem").read_bytes()
    try:
        for name, status in (("payments", "200"), ("nobody", "401")):
            pair = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
            command = ["curl", "-sS", "-o", "-", "-w", "\\n%{http_code}", "--cacert", str(tmp_path / "ca.pem")]
            command += ["--key", str(pair[0]), "--cert", str(pair[1]), f"https://localhost:{port}/users"]
            done = subprocess.run(command, capture_output=True, timeout=20, check=True, text=True)
            assert done.stdout.rpartition("\n")[2] == status
            credentials = grpc.ssl_channel_credentials(roots, *(path.read_bytes() for path in pair))
            with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
                stub = admin_service_pb2_grpc.AdminServiceStub(channel)
                reason = "" if status == "200" else "TOKEN_REQUIRED"
                assert _grpc_reason(lambda: stub.ListUsers(admin_service_pb2.ListUsersRequest())) == reason  # noqa: B023
    finally:
        strict.close()


# --- gRPC -----------------------------------------------------------------------------------------------------------


def _grpc_reason(call: Any) -> str:
    """Return the reason that a call fails with; empty: it does not."""
    try:
        call()
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        assert status is not None
        infos = []
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                infos.append(info)
        assert len(infos) == 1
        assert infos[0].domain == "clob.v1"
        return str(infos[0].reason)
    return ""


def test_grpc_and_http_answer_on_one_port(running: Running, channel: grpc.Channel) -> None:
    made = admin_service_pb2_grpc.AdminServiceStub(channel).CreateUser(admin_service_pb2.CreateUserRequest())
    assert ask(running, "GET", f"/users/{made.user_id}").json["user"]["accounts"] == [str(made.account_id)]


def test_errors_pass_through_with_their_details(channel: grpc.Channel) -> None:
    stub = admin_service_pb2_grpc.AdminServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetUser(admin_service_pb2.GetUserRequest(user=999_999))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "UNKNOWN_USER: there is no user 999999"
    assert _grpc_reason(lambda: stub.GetUser(admin_service_pb2.GetUserRequest(user=999_999))) == "UNKNOWN_USER"


def test_bytes_that_are_no_request_are_refused(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary("/clob.v1.AdminService/GetUser")
    assert _grpc_reason(lambda: call(b"\xff\xff\xff")) == "INVALID_FIELD"


def test_shards_and_markets_decide_which_process_answers(running: Running, channel: grpc.Channel) -> None:
    stub = matching_service_pb2_grpc.MatchingServiceStub(channel)
    for shard in (0, 1):
        status = stub.GetShard(matching_service_pb2.GetShardRequest(shard=shard)).status
        assert status.executed.shard == shard
    book = stub.GetBook(matching_service_pb2.MatchingServiceGetBookRequest(market=7))
    assert (book.position.shard, book.book.market.market) == (1, 7)
    request = matching_service_pb2.GetShardRequest(shard=9)
    assert _grpc_reason(lambda: stub.GetShard(request)) == "UNKNOWN_SHARD"
    request = matching_service_pb2.GetShardRequest(shard=2)
    assert _grpc_reason(lambda: stub.GetShard(request, timeout=1)) == "UNAVAILABLE"
    caught_up = running.listing.caught_up
    book_request = matching_service_pb2.MatchingServiceGetBookRequest(market=8)
    assert _grpc_reason(lambda: stub.GetBook(book_request)) == "UNKNOWN_MARKET"
    assert running.listing.caught_up > caught_up


def test_streams_are_passed_on_with_the_error_that_ends_them(channel: grpc.Channel) -> None:
    stub = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
    call = stub.StreamTrades(market_data_service_pb2.StreamTradesRequest())
    seen: list[int] = []

    def read() -> None:
        seen.extend(message.cursors[0].after_market_seq for message in call)

    assert _grpc_reason(read) == "TOO_SLOW"
    assert seen == [0, 1, 2]


def test_verification_is_answered_here(running: Running, channel: grpc.Channel) -> None:
    stub = verification_service_pb2_grpc.VerificationServiceStub(channel)
    assert stub.Verify(verification_service_pb2.VerifyRequest(environment="x")).control_n == 3
    assert running.verified[-1] == (b"\n\x01x", "127.0.0.1")


def test_a_caller_that_leaves_ends_the_call_behind(running: Running, channel: grpc.Channel) -> None:
    running.control.waiting.clear()
    running.control.cancelled.clear()
    stub = settlement_service_pb2_grpc.SettlementServiceStub(channel)
    call = stub.Settle.future(settlement_service_pb2.SettleRequest(with_state_hashes=True))
    assert running.control.waiting.wait(10)
    call.cancel()
    assert running.control.cancelled.wait(10)


def test_a_deadline_goes_along(running: Running, channel: grpc.Channel) -> None:
    running.control.cancelled.clear()
    stub = settlement_service_pb2_grpc.SettlementServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Settle(settlement_service_pb2.SettleRequest(with_state_hashes=True), timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert running.control.cancelled.wait(10)


def test_health_and_both_reflections_name_every_service(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", *SERVICES):
        status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    for version in ("v1", "v1alpha"):
        reflect = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
        requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in SERVICES]
        listed, *described = list(reflect(iter(requests)))
        assert set(SERVICES) <= {row.name for row in listed.list_services_response.service}
        assert all(answer.file_descriptor_response.file_descriptor_proto for answer in described)


def test_a_process_that_went_away_is_looked_for_again(tmp_path: Path) -> None:
    moving = Running(tmp_path)
    try:
        server, record = moving.run(moving.serve("settlement-plane", moving.control, (0,)))
        moving.call(lambda: moving.registry.records.remove(moving.registry.records[0]))
        with grpc.insecure_channel(moving.address) as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            stub.ListUsers(admin_service_pb2.ListUsersRequest())
            moving.run(server.stop(0))
            moving.call(lambda: moving.registry.records.remove(record))
            # A read waits for the process to come back.
            timer = threading.Timer(0.5, lambda: moving.run(moving.serve("settlement-plane", moving.control, (0,))))
            timer.start()
            stub.ListUsers(admin_service_pb2.ListUsersRequest())
            timer.join()
    finally:
        moving.close()


def test_a_process_that_drains_refuses_calls(tmp_path: Path) -> None:
    draining = Running(tmp_path)
    try:
        draining.call(draining.stop_event.set)
        for path in ("/users", "/healthz"):
            refused = ask(draining, "GET", path)
            assert (refused.status, refused.error["reason"]) == (503, "DRAINING")
            assert refused.headers["Retry-After"] == "1"
        with grpc.insecure_channel(draining.address) as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            assert _grpc_reason(lambda: stub.ListUsers(admin_service_pb2.ListUsersRequest())) == "DRAINING"
    finally:
        draining.close()

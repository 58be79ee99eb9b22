"""Bad input over the real ports of a whole exchange: every kind has its stable reason and a sentence with a way out."""

import http.client
import json
import secrets
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from clob.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    batch_pb2,
    event_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    market_pb2,
    operation_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    outcome_pb2,
    position_pb2,
    session_pb2,
    verification_service_pb2,
    verification_service_pb2_grpc,
    withdrawal_pb2,
)
from clob.v1 import (
    door_reason_pb2 as doors,
)
from exchange.client.keys import PrivateKey
from exchange.domain.commands import (
    AllocateFunds,
    Batch,
    CancelAllOrders,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    RequestWithdrawal,
    Side,
    TimeInForce,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.embedded.traders import Trader
from exchange.reference.signing import sign
from exchange.wire.messages import encode
from tests.support.hosted import Hosted
from tests.support.running import ENVIRONMENT, new_trader, settle_and_audit

CALL_S_MAX = 20
BTC, ETH, RULED, HALTED, CANCEL_ONLY, POST_ONLY, NOWHERE = 1, 2, 10, 11, 12, 13, 999
USD_ASSET, BTC_ASSET = 1, 2
ELSEWHERE = 2
"""BTC is in shard 1, ETH in shard 2."""
KEY_BURST = 64
SESSION_BURST = 100
TINY_RATES = (
    ("--key-per-second", "8", "--key-burst", str(KEY_BURST)),
    (
        "--session-per-second",
        "5",
        "--session-burst",
        str(SESSION_BURST),
    ),
)
ASK = 100_000
"""Price in ticks around which the tests trade."""


def market(
    number: int, symbol: str, state: market_pb2.MarketState = market_pb2.MARKET_STATE_OPEN, **more: Any
) -> market_pb2.Market:
    return market_pb2.Market(
        market=number,
        shard=1,
        symbol=symbol,
        base_asset=BTC_ASSET,
        quote_asset=USD_ASSET,
        base_units_per_lot=1_000,
        quote_units_per_tick_lot=1,
        state=state,
        **more,
    )


MARKETS = (
    market(
        RULED,
        "RULED",
        tick_table=[market_pb2.TickRule(from_price_ticks=1, multiple_ticks=5)],
        lot_table=[market_pb2.LotRule(from_price_ticks=1, multiple_lots=10)],
        band_low_ticks=1_000,
        band_high_ticks=2_000_000,
    ),
    market(HALTED, "HALTED", market_pb2.MARKET_STATE_HALTED),
    market(CANCEL_ONLY, "CANCEL-ONLY", market_pb2.MARKET_STATE_CANCEL_ONLY),
    market(POST_ONLY, "POST-ONLY", market_pb2.MARKET_STATE_POST_ONLY),
)


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Desk:
    """What the tests have of the exchange: its two ports, a trader and another one."""

    def __init__(self, hosted: Hosted) -> None:
        self.hosted = hosted
        self.traders_port = grpc.insecure_channel(hosted.exchange.traders)
        self.admin_port = grpc.insecure_channel(hosted.exchange.admin)
        self.orders = order_service_pb2_grpc.OrderServiceStub(self.traders_port)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(self.traders_port)
        self.verification = verification_service_pb2_grpc.VerificationServiceStub(self.traders_port)
        self.data = market_data_service_pb2_grpc.MarketDataServiceStub(self.traders_port)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.admin_port)
        self.trader = self.new_trader()
        self.other = self.new_trader()

    def close(self) -> None:
        self.traders_port.close()
        self.admin_port.close()

    def new_trader(self) -> Trader:
        return self.hosted.run(new_trader(self.hosted.exchange))

    def payload(
        self,
        *commands: Command,
        shard: int = 1,
        account: int | None = None,
        valid_for_ms: int = 30_000,
        nonce: int | None = None,
    ) -> bytes:
        owner = self.trader.account if account is None else account
        until_ms = time.time_ns() // 1_000_000 + valid_for_ms
        return encode(Batch(owner, shard, secrets.randbits(63) if nonce is None else nonce, until_ms, commands))

    def sign(
        self, payload: bytes, trader: Trader | None = None, environment: str = ENVIRONMENT
    ) -> batch_pb2.SignedBatch:
        signer = trader or self.trader
        signature = sign(signer.seed, signed_bytes(SignedKind.BATCH, environment, payload))
        return batch_pb2.SignedBatch(key_id=signer.key_id, payload=payload, signature=signature)

    def signed(self, *commands: Command, trader: Trader | None = None, **more: Any) -> batch_pb2.SignedBatch:
        return self.sign(self.payload(*commands, account=(trader or self.trader).account, **more), trader)

    def submit(self, *batches: batch_pb2.SignedBatch, **fields: Any) -> order_service_pb2.SubmitResponse:
        request = order_service_pb2.SubmitRequest(batches=batches, **fields)
        answer: order_service_pb2.SubmitResponse = self.orders.Submit(request, timeout=CALL_S_MAX)
        return answer

    def outcome(self, batch: batch_pb2.SignedBatch) -> outcome_pb2.BatchOutcome:
        return self.submit(batch).outcomes[0]

    def session(self, trader: Trader) -> tuple[tuple[str, str], ...]:
        """Return the header of a new session."""
        challenge = self.accounts.CreateChallenge(account_service_pb2.CreateChallengeRequest(), timeout=CALL_S_MAX)
        until_ms = time.time_ns() // 1_000_000 + 600_000
        signed = PrivateKey(trader.seed).signer(ENVIRONMENT).sign_session(challenge.challenge, until_ms)
        opened = self.accounts.OpenSession(account_service_pb2.OpenSessionRequest(session=signed), timeout=CALL_S_MAX)
        return (("authorization", f"Bearer {opened.token}"),)

    def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Make an HTTP request; a body that is not bytes is sent as JSON. Names of headers are written with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            named.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection(self.hosted.exchange.admin, timeout=CALL_S_MAX)
        try:
            connection.request(verb, path, body=body, headers=named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def audit_and_trade(self) -> None:
        """Check that all money is there and that two traders can still trade."""
        audit = self.hosted.run(settle_and_audit(self.hosted.exchange))
        assert audit.passed, audit
        maker, taker = self.new_trader(), self.new_trader()
        resting = self.outcome(self.signed(place(side=Side.SELL, price_ticks=ASK), trader=maker))
        taken = self.outcome(self.signed(place(price_ticks=ASK), trader=taker))
        assert [names(resting), names(taken)][1].count("trade") == 1, (resting, taken)


def place(**more: Any) -> PlaceOrder:
    fields: dict[str, Any] = {
        "market": BTC,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "price_ticks": ASK - 1_000,
        "quantity_lots": 10,
    }
    return PlaceOrder(**{**fields, **more})


def names(outcome: outcome_pb2.BatchOutcome) -> list[str]:
    return [event.WhichOneof("event") or "" for event in outcome.events]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    hosted = Hosted(tmp_path_factory.mktemp("bad"), {"ingress-verifier": (*TINY_RATES[0], *TINY_RATES[1])})
    try:
        made = Desk(hosted)
        results = made.admin.CreateMarkets(
            admin_service_pb2.CreateMarketsRequest(markets=MARKETS), timeout=CALL_S_MAX
        ).results
        assert not any(result.reason for result in results), results
        yield made
        made.audit_and_trade()
        made.close()
    finally:
        hosted.close()


class Failure(NamedTuple):
    """A failed gRPC call, taken apart."""

    code: grpc.StatusCode
    reason: str
    message: str
    fields: dict[str, str]
    retry_ms: int


def failure_of(call: Callable[[], Any]) -> Failure:
    """Make a call that must fail, and check what every failure has: one ErrorInfo and a sentence."""
    with pytest.raises(grpc.RpcError) as raised:  # noqa: PT012 - a stream fails when it is read
        answer = call()
        if isinstance(answer, Iterator):
            list(answer)
    status = rpc_status.from_call(raised.value)
    assert status is not None, raised.value
    reasons, fields, retry_ms = [], {}, 0
    for detail in status.details:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "clob.v1"
            reasons.append(info.reason)
        elif detail.Unpack(bad):
            fields = {one.field: one.description for one in bad.field_violations}
        elif detail.Unpack(retry):
            retry_ms = retry.retry_delay.ToMilliseconds()
    assert len(reasons) == 1, status
    assert status.message.startswith(f"{reasons[0]}: ")
    assert len(status.message) > len(reasons[0]) + 12, "a sentence"
    return Failure(raised.value.code(), reasons[0], status.message, fields, retry_ms)


# --- batches that the door refuses ----------------------------------------------------------------------------------


class Refused(NamedTuple):
    """A batch that is refused at the door.

    Attributes:
        reason: a DoorReason.
        says: parts of the sentence: the thing, and the way out.
        waits: sending the same bytes later helps.
        is_final: the same bytes can never be executed.
    """

    name: str
    batch: Callable[[Desk], batch_pb2.SignedBatch]
    reason: doors.DoorReason
    says: Sequence[str]
    waits: bool = False
    is_final: bool = False


def without_signature(desk: Desk) -> batch_pb2.SignedBatch:
    made = desk.signed(place())
    return batch_pb2.SignedBatch(key_id=made.key_id, payload=made.payload, signature=made.signature[:-1])


def changed_after_signing(desk: Desk) -> batch_pb2.SignedBatch:
    made, other = desk.signed(place()), desk.payload(place(quantity_lots=11))
    return batch_pb2.SignedBatch(key_id=made.key_id, payload=other, signature=made.signature)


def of_unknown_key(desk: Desk) -> batch_pb2.SignedBatch:
    stranger = PrivateKey.generate()
    return stranger.signer(ENVIRONMENT).sign_batch(desk.payload(place()))


def of_other_size(commands: int) -> Callable[[Desk], batch_pb2.SignedBatch]:
    """Return what makes a batch of so many commands, which our own encoder refuses to write."""

    def make(desk: Desk) -> batch_pb2.SignedBatch:
        message = batch_pb2.Batch.FromString(desk.payload(CancelOrder(order_id=1)))
        command = message.commands.pop()
        message.commands.extend([command] * commands)
        return desk.sign(message.SerializeToString())

    return make


def without_key_id(desk: Desk) -> batch_pb2.SignedBatch:
    made = desk.signed(place())
    return batch_pb2.SignedBatch(payload=made.payload, signature=made.signature)


REFUSED = (
    Refused(
        "a payload that is no message",
        lambda desk: desk.sign(b"\xff" * 40),
        doors.DOOR_REASON_MALFORMED,
        ("payload", "sign it again"),
        is_final=True,
    ),
    Refused(
        "a payload with an unknown field",
        lambda desk: desk.sign(desk.payload(place()) + b"\xf8\x01\x05"),
        doors.DOOR_REASON_MALFORMED,
        ("payload", "canonical", "sign it again"),
        is_final=True,
    ),
    Refused(
        "a payload that writes a zero",
        lambda desk: desk.sign(desk.payload(place()) + b"\x10\x00"),
        doors.DOOR_REASON_MALFORMED,
        ("payload", "canonical"),
        is_final=True,
    ),
    Refused(
        "a payload that breaks off",
        lambda desk: desk.sign(desk.payload(place())[:-1]),
        doors.DOOR_REASON_MALFORMED,
        ("payload", "byte"),
        is_final=True,
    ),
    Refused(
        "a signature of 63 bytes", without_signature, doors.DOOR_REASON_MALFORMED, ("signature", "64"), False, True
    ),
    Refused("no key_id", without_key_id, doors.DOOR_REASON_MALFORMED, ("key_id", "16"), False, True),
    Refused(
        "an empty payload", lambda desk: desk.sign(b""), doors.DOOR_REASON_BATCH_SIZE, ("payload", "1,024"), False, True
    ),
    Refused(
        "no commands",
        of_other_size(0),
        doors.DOOR_REASON_BATCH_SIZE,
        ("commands", "1024"),
        is_final=True,
    ),
    Refused(
        "1,025 commands",
        of_other_size(1_025),
        doors.DOOR_REASON_BATCH_SIZE,
        ("1025", "1024", "split it"),
        is_final=True,
    ),
    Refused(
        "a payload of 65,537 bytes",
        lambda desk: desk.sign(b"\x08" * 65_537),
        doors.DOOR_REASON_BATCH_SIZE,
        ("65537", "65536", "split it"),
        is_final=True,
    ),
    Refused("an unknown key", of_unknown_key, doors.DOOR_REASON_BAD_KEY_OR_SIGNATURE, ("key", "sign again")),
    Refused(
        "bytes that were changed after signing",
        changed_after_signing,
        doors.DOOR_REASON_BAD_KEY_OR_SIGNATURE,
        ("signature", "sign again"),
    ),
    Refused(
        "a signature for another environment",
        lambda desk: desk.sign(desk.payload(place()), environment="another"),
        doors.DOOR_REASON_BAD_KEY_OR_SIGNATURE,
        ("environment", "sign again"),
    ),
    Refused(
        "an account of somebody else",
        lambda desk: desk.sign(desk.payload(place(), account=desk.other.account)),
        doors.DOOR_REASON_ACCOUNT_NOT_OF_KEY,
        ("account", "sign with a key of its user"),
    ),
    Refused(
        "an account that does not exist",
        lambda desk: desk.sign(desk.payload(place(), account=2**40)),
        doors.DOOR_REASON_ACCOUNT_NOT_OF_KEY,
        (str(2**40),),
    ),
    Refused(
        "a shard that does not exist",
        lambda desk: desk.signed(place(), shard=77),
        doors.DOOR_REASON_UNKNOWN_SHARD,
        ("77", "ListMarkets"),
    ),
    Refused(
        "an expired batch",
        lambda desk: desk.signed(place(), valid_for_ms=-10_000),
        doors.DOOR_REASON_BATCH_EXPIRED,
        ("valid_until_ms", "sign a new one"),
        is_final=True,
    ),
    Refused(
        "too long a validity",
        lambda desk: desk.signed(place(), valid_for_ms=90_000),
        doors.DOOR_REASON_VALIDITY_TOO_LONG,
        ("60000", "shorter"),
        waits=True,
    ),
)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_batch_that_is_not_let_in_has_its_reason(desk: Desk, case: Refused) -> None:
    batch = case.batch(desk)
    outcome = desk.outcome(batch)
    assert (outcome.state, outcome.n) == (outcome_pb2.SEND_STATE_REFUSED, 0)
    assert doors.DoorReason.Name(outcome.door_reason) == doors.DoorReason.Name(case.reason)
    for part in case.says:
        assert part in outcome.detail
    assert bool(outcome.retry_after_ms) == case.waits
    assert (outcome.executable_until_ms == 0) == case.is_final
    assert not outcome.events


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_verify_says_what_submit_would(desk: Desk, case: Refused) -> None:
    trader = desk.new_trader()
    request = verification_service_pb2.VerifyRequest(batches=[case.batch(desk)])
    answer = desk.verification.Verify(request, metadata=desk.session(trader), timeout=CALL_S_MAX)
    assert answer.verdicts[0].door_reason == case.reason
    assert answer.verdicts[0].detail


def test_a_bad_batch_does_not_keep_the_good_ones_of_its_message_out(desk: Desk) -> None:
    trader = desk.new_trader()
    good = [desk.signed(place(client_order_id=number), trader=trader) for number in (1, 2)]
    answer = desk.submit(good[0], changed_after_signing(desk), good[1])
    assert [outcome.state for outcome in answer.outcomes] == [
        outcome_pb2.SEND_STATE_EXECUTED,
        outcome_pb2.SEND_STATE_REFUSED,
        outcome_pb2.SEND_STATE_EXECUTED,
    ]


# --- batches that are executed once ---------------------------------------------------------------------------------


def test_the_same_bytes_are_executed_once_and_answered_again(desk: Desk) -> None:
    trader = desk.new_trader()
    batch = desk.signed(place(client_order_id=7), trader=trader)
    first = desk.outcome(batch)
    both = desk.submit(batch, batch).outcomes
    assert first.state == outcome_pb2.SEND_STATE_EXECUTED
    assert not first.repeated
    for again in both:
        assert again.repeated
        assert (again.n, again.batch, again.t_us) == (first.n, first.batch, first.t_us)
        assert again.events == first.events
    request = account_service_pb2.ListOpenOrdersRequest(account=trader.account)
    orders = desk.accounts.ListOpenOrders(request, metadata=desk.session(trader), timeout=CALL_S_MAX).orders
    assert len(orders) == 1


def test_a_nonce_of_another_batch_is_refused(desk: Desk) -> None:
    trader = desk.new_trader()
    assert desk.outcome(desk.signed(place(), trader=trader, nonce=5)).state == outcome_pb2.SEND_STATE_EXECUTED
    answer = desk.submit(desk.signed(place(quantity_lots=11), trader=trader, nonce=5))
    outcome = answer.outcomes[0]
    assert outcome.state == outcome_pb2.SEND_STATE_REFUSED
    assert RejectReason(outcome.reject_reason) is RejectReason.NONCE_REUSED
    assert "nonce" in outcome.detail
    assert [RejectReason(one.reason) for one in answer.explanations] == [RejectReason.NONCE_REUSED]
    assert "nonce that is new" in answer.explanations[0].text


# --- commands that a shard rejects ----------------------------------------------------------------------------------


class Rejected(NamedTuple):
    """A command that its shard rejects; the sentence has these words."""

    name: str
    command: Command
    reason: RejectReason
    says: str
    shard: int = 1


TOO_MUCH = 2**53
REJECTED = (
    Rejected("an unknown market", place(market=NOWHERE), RejectReason.UNKNOWN_MARKET, "ListMarkets"),
    Rejected("a market of another shard", place(market=ETH), RejectReason.UNKNOWN_MARKET, "which shard"),
    Rejected("an order for the treasury", place(), RejectReason.NOT_FOR_THIS_SHARD, "Shard 0", shard=0),
    Rejected("no side", place(side=0), RejectReason.INVALID_SIDE, "BUY or SELL"),
    Rejected("no order type", place(order_type=0), RejectReason.INVALID_ORDER_TYPE, "LIMIT or MARKET"),
    Rejected("a time in force of 9", place(time_in_force=9), RejectReason.INVALID_TIME_IN_FORCE, "GTC, IOC or FOK"),
    Rejected("a market order GTC", place(order_type=2, time_in_force=1), RejectReason.INVALID_TIME_IN_FORCE, "IOC"),
    Rejected(
        "a post-only IOC",
        place(post_only=True, time_in_force=TimeInForce.IOC),
        RejectReason.INVALID_POST_ONLY,
        "GTC",
    ),
    Rejected("a prevention of 9", place(self_trade_prevention=9), RejectReason.INVALID_SELF_TRADE_PREVENTION, "mode"),
    Rejected("a quantity of 0", place(quantity_lots=0), RejectReason.INVALID_QUANTITY, "1 to 2^53-1"),
    Rejected("a quantity of 2^53", place(quantity_lots=TOO_MUCH), RejectReason.INVALID_QUANTITY, "1 to 2^53-1"),
    Rejected("a quantity of 2^64-1", place(quantity_lots=2**64 - 1), RejectReason.INVALID_QUANTITY, "1 to 2^53-1"),
    Rejected("a price of 0", place(price_ticks=0), RejectReason.INVALID_PRICE, "1 to 2^53-1"),
    Rejected("a price of 2^53", place(price_ticks=TOO_MUCH), RejectReason.INVALID_PRICE, "1 to 2^53-1"),
    Rejected("a price of 2^64-1", place(price_ticks=2**64 - 1), RejectReason.INVALID_PRICE, "1 to 2^53-1"),
    Rejected(
        "a notional of 2^63 and more",
        place(market=RULED, price_ticks=1_000_000, quantity_lots=9_000_000_000_000_010),
        RejectReason.AMOUNT_TOO_LARGE,
        "smaller",
    ),
    Rejected(
        "off tick", place(market=RULED, price_ticks=1_001), RejectReason.PRICE_OFF_TICK, "multiple of what the market"
    ),
    Rejected(
        "off lot",
        place(market=RULED, price_ticks=1_000, quantity_lots=15),
        RejectReason.QUANTITY_OFF_LOT,
        "multiple of what the market",
    ),
    Rejected("below the band", place(market=RULED, price_ticks=995), RejectReason.PRICE_OUTSIDE_BAND, "inside"),
    Rejected("above the band", place(market=RULED, price_ticks=2_000_005), RejectReason.PRICE_OUTSIDE_BAND, "inside"),
    Rejected("halted", place(market=HALTED), RejectReason.MARKET_HALTED, "wait"),
    Rejected("halted, a mass cancel", CancelAllOrders(market=HALTED), RejectReason.MARKET_HALTED, "not even cancels"),
    Rejected("cancel-only", place(market=CANCEL_ONLY), RejectReason.MARKET_CANCEL_ONLY, "cancels and reductions"),
    Rejected("post-only", place(market=POST_ONLY), RejectReason.MARKET_POST_ONLY, "post-only orders"),
    Rejected(
        "fill-or-kill of more than there is",
        place(time_in_force=TimeInForce.FOK, price_ticks=ASK - 40_000),
        RejectReason.FOK_NOT_FILLABLE,
        "nothing was traded",
    ),
    Rejected("no order named", CancelOrder(), RejectReason.INVALID_ORDER_REFERENCE, "exactly one"),
    Rejected("two names", CancelOrder(order_id=1, client_order_id=1), RejectReason.INVALID_ORDER_REFERENCE, "one of"),
    Rejected("cancel an unknown order", CancelOrder(order_id=2**60), RejectReason.UNKNOWN_ORDER, "no such open order"),
    Rejected(
        "reduce an unknown order",
        ReduceOrder(client_order_id=123, quantity_lots=1),
        RejectReason.UNKNOWN_ORDER,
        "no such open order",
    ),
    Rejected(
        "replace an unknown order",
        ReplaceOrder(client_order_id=123, price_ticks=5),
        RejectReason.UNKNOWN_ORDER,
        "no such open order",
    ),
    Rejected("release nothing", ReleaseFunds(asset=USD_ASSET), RejectReason.INVALID_AMOUNT, "1 to 2^63-1"),
    Rejected(
        "release 2^63", ReleaseFunds(asset=USD_ASSET, amount_units=2**63), RejectReason.INVALID_AMOUNT, "1 to 2^63-1"
    ),
    Rejected(
        "release more than there is",
        ReleaseFunds(asset=USD_ASSET, amount_units=2**62),
        RejectReason.INSUFFICIENT_FUNDS,
        "AllocateFunds",
    ),
    Rejected(
        "allocate from a trading shard",
        AllocateFunds(asset=USD_ASSET, amount_units=1, to_shard=2),
        RejectReason.NOT_FOR_THIS_SHARD,
        "Shard 0",
    ),
    Rejected(
        "allocate to an unknown shard",
        AllocateFunds(asset=USD_ASSET, amount_units=1, to_shard=77),
        RejectReason.UNKNOWN_SHARD,
        "GetExchange",
        shard=0,
    ),
    Rejected(
        "allocate what is not there",
        AllocateFunds(asset=USD_ASSET, amount_units=1, to_shard=2),
        RejectReason.INSUFFICIENT_FUNDS,
        "less free",
        shard=0,
    ),
    Rejected(
        "withdraw to nowhere",
        RequestWithdrawal(asset=USD_ASSET, amount_units=1),
        RejectReason.INVALID_DESTINATION,
        "1 to 128 bytes",
        shard=0,
    ),
    Rejected(
        "withdraw what is not there",
        RequestWithdrawal(asset=USD_ASSET, amount_units=1, destination="bank"),
        RejectReason.INSUFFICIENT_FUNDS,
        "less free",
        shard=0,
    ),
)


@pytest.mark.parametrize("case", REJECTED, ids=lambda case: case.name)
def test_a_command_that_is_rejected_has_its_reason(desk: Desk, case: Rejected) -> None:
    trader = desk.new_trader()
    answer = desk.submit(desk.signed(case.command, shard=case.shard, trader=trader))
    outcome = answer.outcomes[0]
    assert outcome.state == outcome_pb2.SEND_STATE_EXECUTED, outcome
    assert names(outcome) == ["batch_result", "command_rejected"]
    assert RejectReason(outcome.events[1].command_rejected.reason) is case.reason
    assert [RejectReason(one.reason) for one in answer.explanations] == [case.reason]
    assert case.says in answer.explanations[0].text


def test_who_lacks_funds_is_told_how_much_and_where_there_is_some(desk: Desk) -> None:
    trader = desk.new_trader()
    answer = desk.submit(desk.signed(place(price_ticks=20_000_000, quantity_lots=100_000), trader=trader))
    rejected = answer.outcomes[0].events[1].command_rejected
    assert rejected.reason == event_pb2.REJECT_REASON_INSUFFICIENT_FUNDS
    assert rejected.asset == USD_ASSET
    assert rejected.required_units > rejected.available_units == 1_000_000_000_000
    assert "AllocateFunds" in answer.explanations[0].text
    found = [(row.account, row.asset, row.shard, row.free_units) for row in answer.funds_elsewhere]
    assert found == [(trader.account, USD_ASSET, ELSEWHERE, 1_000_000_000_000)]


def test_a_client_order_id_of_an_open_order_is_refused(desk: Desk) -> None:
    trader = desk.new_trader()
    order = place(client_order_id=9)
    answer = desk.submit(desk.signed(order, order, trader=trader))
    assert names(answer.outcomes[0]) == ["batch_result", "order_accepted", "command_rejected"]
    rejected = answer.outcomes[0].events[2].command_rejected
    assert rejected.reason == event_pb2.REJECT_REASON_DUPLICATE_CLIENT_ORDER_ID
    assert "choose another" in answer.explanations[0].text


def test_a_post_only_order_that_would_trade_is_refused(desk: Desk) -> None:
    maker, taker = desk.new_trader(), desk.new_trader()
    sell = place(market=RULED, side=Side.SELL, price_ticks=500_000)
    assert "order_accepted" in names(desk.outcome(desk.signed(sell, trader=maker)))
    answer = desk.submit(desk.signed(place(market=RULED, price_ticks=500_000, post_only=True), trader=taker))
    assert answer.outcomes[0].events[1].command_rejected.reason == event_pb2.REJECT_REASON_POST_ONLY_WOULD_TRADE
    assert "does not cross" in answer.explanations[0].text


# --- calls of traders that fail as a whole --------------------------------------------------------------------------


def raw(desk: Desk, method: str, body: bytes, *, admin: bool = False) -> Callable[[], Any]:
    channel = desk.admin_port if admin else desk.traders_port
    call: Any = channel.unary_unary(method)
    return lambda: call(body, timeout=CALL_S_MAX)


NO_MESSAGE = b"\xff\xff\xff"


@pytest.mark.parametrize(
    "method",
    [
        "OrderService/Submit",
        "OrderService/GetOutcome",
        "VerificationService/Verify",
        "AccountService/OpenSession",
        "AccountService/GetBalances",
        "MarketDataService/GetBook",
    ],
)
def test_bytes_that_are_no_message_are_refused_by_every_traders_service(desk: Desk, method: str) -> None:
    trader = desk.new_trader()
    call: Any = desk.traders_port.unary_unary(f"/clob.v1.{method}")
    failed = failure_of(lambda: call(NO_MESSAGE, metadata=desk.session(trader), timeout=CALL_S_MAX))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


@pytest.mark.parametrize(
    "method",
    ["AdminService/CreateUser", "AdminService/Deposit", "SettlementService/Audit", "MarketDataService/GetBook"],
)
def test_bytes_that_are_no_message_are_refused_by_every_operators_service(desk: Desk, method: str) -> None:
    failed = failure_of(raw(desk, f"/clob.v1.{method}", NO_MESSAGE, admin=True))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


class Failing(NamedTuple):
    """A SubmitRequest that fails as a whole."""

    name: str
    request: Callable[[Desk], order_service_pb2.SubmitRequest]
    reason: str
    says: Sequence[str]


REQUEST = order_service_pb2.SubmitRequest
FAILING = (
    Failing(
        "another environment",
        lambda desk: REQUEST(environment="another", batches=[desk.signed(place())]),
        "WRONG_ENVIRONMENT",
        ("'another'", "'test'"),
    ),
    Failing("no batches", lambda desk: REQUEST(), "INVALID_FIELD", ("batches", "4096")),
    Failing(
        "a wait of 30,001 ms",
        lambda desk: REQUEST(wait_ms_max=30_001, batches=[desk.signed(place())]),
        "INVALID_FIELD",
        ("wait_ms_max", "30000"),
    ),
    Failing(
        "a wait level of 9",
        lambda desk: REQUEST(wait=9, batches=[desk.signed(place())]),  # type: ignore[arg-type]
        "INVALID_FIELD",
        ("wait",),
    ),
    Failing(
        "4,097 batches",
        lambda desk: REQUEST(batches=[batch_pb2.SignedBatch()] * 4_097),
        "MESSAGE_SIZE",
        ("more than 4096 batches", "split"),
    ),
    Failing(
        "4,100 commands",
        lambda desk: REQUEST(batches=[desk.signed(*[CancelOrder(order_id=1)] * 820)] * 5),
        "MESSAGE_SIZE",
        ("4096 commands", "split"),
    ),
    Failing(
        "more than 2 MiB",
        lambda desk: REQUEST(batches=[batch_pb2.SignedBatch(payload=bytes(2**21))]),
        "MESSAGE_SIZE",
        ("2097152", "split"),
    ),
    Failing(
        "more than 4 MiB",
        lambda desk: REQUEST(batches=[batch_pb2.SignedBatch(payload=bytes(5 * 2**20))]),
        "MESSAGE_SIZE",
        ("split",),
    ),
)


@pytest.mark.parametrize("case", FAILING, ids=lambda case: case.name)
def test_a_submission_that_is_refused_as_a_whole_has_its_reason(desk: Desk, case: Failing) -> None:
    failed = failure_of(lambda: desk.orders.Submit(case.request(desk), timeout=CALL_S_MAX))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, case.reason)
    for part in case.says:
        assert part in failed.message.replace(",", "")
    if case.reason == "INVALID_FIELD":
        assert failed.fields


TOO_LARGE = ("4,097 batches", "more than 2 MiB", "more than 4 MiB")
"""Messages that are not worth an outcome for each of their batches: on a stream they end it."""


@pytest.mark.parametrize("case", [case for case in FAILING if case.name in TOO_LARGE], ids=lambda case: case.name)
def test_a_stream_ends_with_a_message_that_is_too_large(desk: Desk, case: Failing) -> None:
    message = order_service_pb2.SubmitStreamRequest(tag=1, submit=case.request(desk))
    failed = failure_of(lambda: list(desk.orders.SubmitStream(iter([message]), timeout=CALL_S_MAX)))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, case.reason)
    for part in case.says:
        assert part in failed.message.replace(",", "")


@pytest.mark.parametrize("case", [case for case in FAILING if case.name not in ("no batches", *TOO_LARGE)])
def test_a_stream_goes_on_after_a_message_that_is_refused_as_a_whole(desk: Desk, case: Failing) -> None:
    trader = desk.new_trader()
    good = REQUEST(batches=[desk.signed(place(), trader=trader)])
    messages = [order_service_pb2.SubmitStreamRequest(tag=1, submit=case.request(desk))]
    messages.append(order_service_pb2.SubmitStreamRequest(tag=2, submit=good))
    answers = {answer.tag: answer.submit for answer in desk.orders.SubmitStream(iter(messages), timeout=CALL_S_MAX)}
    assert answers[2].outcomes[0].state == outcome_pb2.SEND_STATE_EXECUTED
    assert len(answers[1].outcomes) == len(messages[0].submit.batches)
    for outcome in answers[1].outcomes:
        assert outcome.state == outcome_pb2.SEND_STATE_REFUSED
        assert outcome.door_reason == doors.DoorReason.Value(f"DOOR_REASON_{case.reason}")
        assert outcome.detail


def test_who_is_too_fast_is_told_when_to_come_back(desk: Desk) -> None:
    trader = desk.new_trader()
    batches = [desk.signed(place(client_order_id=number + 1), trader=trader) for number in range(2 * KEY_BURST)]
    outcomes = desk.submit(*batches).outcomes
    late = [outcome for outcome in outcomes if outcome.state == outcome_pb2.SEND_STATE_REFUSED]
    assert KEY_BURST <= len(outcomes) - len(late) < KEY_BURST + 8
    for outcome in late:
        assert outcome.door_reason == doors.DOOR_REASON_TOO_FAST
        assert outcome.retry_after_ms > 0
        assert "slow down" in outcome.detail
        assert outcome.executable_until_ms
    failed = failure_of(lambda: desk.submit(*batches[-KEY_BURST // 2 :], batches[-1]))
    assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_FAST")
    assert failed.retry_ms > 0
    time.sleep(failed.retry_ms / 1_000)
    assert desk.outcome(batches[-1]).state == outcome_pb2.SEND_STATE_EXECUTED, "it was told when to come back"


# --- what is private ------------------------------------------------------------------------------------------------


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", token),)


@pytest.mark.parametrize("header", [(), bearer(""), bearer("Bearer nothing"), bearer("Basic abc"), bearer("é" * 3)])
def test_what_is_private_needs_a_session(desk: Desk, header: tuple[tuple[str, str], ...]) -> None:
    header = tuple((name, value.encode("ascii", "replace").decode()) for name, value in header)
    calls: list[Callable[[], Any]] = [
        lambda: desk.accounts.GetBalances(account_service_pb2.GetBalancesRequest(), metadata=header),
        lambda: desk.accounts.ListOpenOrders(account_service_pb2.ListOpenOrdersRequest(), metadata=header),
        lambda: desk.accounts.StreamExecutions(account_service_pb2.StreamExecutionsRequest(), metadata=header),
        lambda: desk.accounts.ListAccountWithdrawals(
            account_service_pb2.ListAccountWithdrawalsRequest(), metadata=header
        ),
        lambda: desk.orders.GetOutcome(
            order_service_pb2.GetOutcomeRequest(key_id=desk.trader.key_id, shard=1, nonce=1), metadata=header
        ),
        lambda: desk.verification.Verify(
            verification_service_pb2.VerifyRequest(batches=[desk.signed(place())]), metadata=header
        ),
    ]
    for call in calls:
        failed = failure_of(call)
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_REQUIRED")
        assert "OpenSession" in failed.message or "open" in failed.message


def test_a_session_reads_nobody_elses_account(desk: Desk) -> None:
    header = desk.session(desk.other)
    mine = desk.trader
    calls: list[Callable[[], Any]] = [
        lambda: desk.accounts.GetBalances(
            account_service_pb2.GetBalancesRequest(account=mine.account), metadata=header
        ),
        lambda: desk.accounts.ListOpenOrders(
            account_service_pb2.ListOpenOrdersRequest(account=mine.account), metadata=header
        ),
        lambda: desk.accounts.StreamExecutions(
            account_service_pb2.StreamExecutionsRequest(account=mine.account), metadata=header
        ),
        lambda: desk.accounts.ListAccountWithdrawals(
            account_service_pb2.ListAccountWithdrawalsRequest(account=mine.account), metadata=header
        ),
        lambda: desk.orders.GetOutcome(
            order_service_pb2.GetOutcomeRequest(key_id=mine.key_id, shard=1, nonce=1), metadata=header
        ),
    ]
    for call in calls:
        failed = failure_of(call)
        assert (failed.code, failed.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ACCOUNT_NOT_OF_KEY")
        assert "session" in failed.message


def test_a_challenge_is_answered_once_by_a_key_that_is_known(desk: Desk) -> None:
    def challenge() -> bytes:
        answer = desk.accounts.CreateChallenge(account_service_pb2.CreateChallengeRequest(), timeout=CALL_S_MAX)
        return bytes(answer.challenge)

    def open_with(signed: session_pb2.SignedSession) -> Callable[[], Any]:
        return lambda: desk.accounts.OpenSession(
            account_service_pb2.OpenSessionRequest(session=signed), timeout=CALL_S_MAX
        )

    until_ms = time.time_ns() // 1_000_000 + 60_000
    signer = PrivateKey(desk.trader.seed).signer(ENVIRONMENT)
    used = signer.sign_session(challenge(), until_ms)
    open_with(used)()
    stranger = PrivateKey.generate().signer(ENVIRONMENT)
    other = PrivateKey(desk.trader.seed).signer("another")
    for signed, reason in (
        (used, "CHALLENGE_REFUSED"),
        (signer.sign_session(b"made up", until_ms), "CHALLENGE_REFUSED"),
        (stranger.sign_session(challenge(), until_ms), "BAD_KEY_OR_SIGNATURE"),
        (other.sign_session(challenge(), until_ms), "BAD_KEY_OR_SIGNATURE"),
    ):
        failed = failure_of(open_with(signed))
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)


def test_a_cursor_ahead_of_the_log_is_refused(desk: Desk) -> None:
    request = account_service_pb2.StreamExecutionsRequest(cursors=[position_pb2.Cursor(shard=1, n=2**40)])
    header = desk.session(desk.new_trader())
    failed = failure_of(lambda: desk.accounts.StreamExecutions(request, metadata=header, timeout=CALL_S_MAX))
    assert (failed.code, failed.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD")


def test_reads_that_come_too_fast_are_told_when_to_come_back(desk: Desk) -> None:
    header = desk.session(desk.new_trader())

    def read_often() -> None:
        for _ in range(3 * SESSION_BURST):
            desk.accounts.GetBalances(account_service_pb2.GetBalancesRequest(), metadata=header, timeout=CALL_S_MAX)

    failed = failure_of(read_often)
    assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_FAST")
    assert failed.retry_ms > 0


# --- market data ----------------------------------------------------------------------------------------------------


def test_books_and_trades_of_what_is_not_there_are_refused(desk: Desk) -> None:
    data = market_data_service_pb2
    cases: list[tuple[Callable[[], Any], grpc.StatusCode, str]] = [
        (
            lambda: desk.data.GetBook(data.GetBookRequest(market=NOWHERE)),
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_MARKET",
        ),
        (
            lambda: desk.data.ListTrades(data.ListTradesRequest(market=NOWHERE)),
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_MARKET",
        ),
        (
            lambda: desk.data.StreamBook(data.StreamBookRequest(markets=[NOWHERE])),
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_MARKET",
        ),
        (lambda: desk.data.GetBook(data.GetBookRequest()), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        (
            lambda: desk.data.GetBook(data.GetBookRequest(market=BTC, levels_max=1_001)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        (lambda: desk.data.StreamBook(data.StreamBookRequest()), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        (
            lambda: desk.data.StreamBook(data.StreamBookRequest(markets=[BTC, BTC])),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        (
            lambda: desk.data.ListMarkets(data.ListMarketsRequest(page_token="nonsense")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
    ]
    for call, code, reason in cases:
        failed = failure_of(call)
        assert (failed.code, failed.reason) == (code, reason), failed


# --- operators, over gRPC -------------------------------------------------------------------------------------------


def deposit(account: int, asset: int = USD_ASSET, amount_units: int = 5, **more: Any) -> operation_pb2.Deposit:
    fields: dict[str, Any] = {"allocate": operation_pb2.ALLOCATION_POLICY_NONE}
    return operation_pb2.Deposit(account=account, asset=asset, amount_units=amount_units, **{**fields, **more})


def test_each_deposit_that_cannot_be_is_refused_on_its_own(desk: Desk) -> None:
    account = desk.trader.account
    one_shard = operation_pb2.ALLOCATION_POLICY_ONE_SHARD
    rows = [
        (deposit(account, amount_units=0), RejectReason.INVALID_AMOUNT),
        (deposit(account, amount_units=2**63), RejectReason.INVALID_AMOUNT),
        (deposit(account, amount_units=2**63 - 1), RejectReason.DEPOSITS_TOO_LARGE),
        (deposit(account, asset=99), RejectReason.UNKNOWN_ASSET),
        (deposit(2**40), RejectReason.UNKNOWN_ACCOUNT),
        (deposit(account, allocate=0), RejectReason.INVALID_POLICY),
        (deposit(account, to_shard=1), RejectReason.INVALID_POLICY),
        (deposit(account, allocate=one_shard, to_shard=77), RejectReason.UNKNOWN_SHARD),
        (deposit(account), 0),
    ]
    request = admin_service_pb2.DepositRequest(
        request_id=secrets.token_bytes(16), deposits=[row for row, _ in rows], wait_ms_max=1_000
    )
    answer = desk.admin.Deposit(request, timeout=CALL_S_MAX)
    assert [result.reason for result in answer.results] == [reason for _, reason in rows]
    assert {row.reason for row in answer.explanations} == {reason for _, reason in rows if reason}
    assert all(row.text for row in answer.explanations)


def test_operators_calls_that_cannot_be_have_their_reasons(desk: Desk) -> None:
    admin = admin_service_pb2
    code = grpc.StatusCode
    key = PrivateKey.generate()
    proof = key.registration("another")
    used = secrets.token_bytes(16)
    desk.admin.Deposit(admin.DepositRequest(request_id=used, deposits=[deposit(desk.trader.account)]))
    paid = withdrawal_pb2.WITHDRAWAL_STATE_PAID
    cases: list[tuple[Callable[[], Any], grpc.StatusCode, str, str]] = [
        (
            lambda: desk.admin.Deposit(admin.DepositRequest(deposits=[deposit(desk.trader.account)])),
            code.INVALID_ARGUMENT,
            "REQUEST_ID_MISSING",
            "request_id",
        ),
        (
            lambda: desk.admin.Deposit(
                admin.DepositRequest(request_id=used, deposits=[deposit(desk.trader.account, amount_units=6)])
            ),
            code.ALREADY_EXISTS,
            "REQUEST_ID_REUSED",
            "request_id",
        ),
        (
            lambda: desk.admin.Deposit(admin.DepositRequest(request_id=b"short", deposits=[deposit(1)])),
            code.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "request_id",
        ),
        (
            lambda: desk.admin.Deposit(admin.DepositRequest(request_id=secrets.token_bytes(16))),
            code.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "deposits",
        ),
        (
            lambda: desk.admin.CreateUser(
                admin.CreateUserRequest(public_key=key.public_key, signature=proof.signature)
            ),
            code.INVALID_ARGUMENT,
            "BAD_SIGNATURE",
            "environment",
        ),
        (
            lambda: desk.admin.CreateUser(admin.CreateUserRequest(public_key=b"short")),
            code.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "public_key",
        ),
        (
            lambda: desk.admin.OpenAccount(admin.OpenAccountRequest(user=2**40)),
            code.NOT_FOUND,
            "UNKNOWN_USER",
            "user",
        ),
        (
            lambda: desk.admin.RevokeKey(admin.RevokeKeyRequest(key_id=bytes(16))),
            code.NOT_FOUND,
            "UNKNOWN_KEY",
            "key",
        ),
        (lambda: desk.admin.GetUser(admin.GetUserRequest(user=2**40)), code.NOT_FOUND, "UNKNOWN_USER", "user"),
        (
            lambda: desk.admin.GetAccount(admin.GetAccountRequest(account=2**40)),
            code.NOT_FOUND,
            "UNKNOWN_ACCOUNT",
            "account",
        ),
        (
            lambda: desk.admin.CloseWithdrawal(
                admin.CloseWithdrawalRequest(request_id=secrets.token_bytes(16), withdrawal=2**40, state=paid)
            ),
            code.NOT_FOUND,
            "UNKNOWN_WITHDRAWAL",
            "withdrawal",
        ),
    ]
    for call, status_code, reason, says in cases:
        failed = failure_of(call)
        assert (failed.code, failed.reason) == (status_code, reason), failed
        assert says in failed.message.lower()


def test_markets_that_cannot_be_are_refused_on_their_own(desk: Desk) -> None:
    bad = [
        market(BTC, "TAKEN-NUMBER"),
        market(50, "RULED"),
        market(51, "lower case"),
        market_pb2.Market(market=52, symbol="NO-ASSETS"),
        market(53, "FINE"),
    ]
    results = desk.admin.CreateMarkets(admin_service_pb2.CreateMarketsRequest(markets=bad), timeout=CALL_S_MAX).results
    assert [bool(result.reason) for result in results] == [True, True, True, True, False]
    assert results[0].reason == RejectReason.ALREADY_DEFINED
    states = desk.admin.SetMarketState(
        admin_service_pb2.SetMarketStateRequest(markets=[NOWHERE, 53], state=market_pb2.MARKET_STATE_HALTED),
        timeout=CALL_S_MAX,
    ).results
    assert [result.reason for result in states] == [RejectReason.UNKNOWN_MARKET, 0]


# --- operators, over HTTP -------------------------------------------------------------------------------------------


def deposit_json(account: Any, **more: Any) -> dict[str, Any]:
    row = {"account": account, "asset": USD_ASSET, "amount_units": "5", "allocate": "NONE", **more}
    return {"deposits": [row], "wait_ms_max": 1_000}


class Http(NamedTuple):
    """A request over HTTP that is refused."""

    name: str
    ask: Callable[[Desk], Answer]
    status: int
    reason: str | None
    says: str


MONEY = {"idempotency_key": "bad-input"}
HTTP = (
    Http(
        "not JSON",
        lambda d: d.ask("POST", "/users", b"{", content_type="application/json"),
        400,
        "INVALID_FIELD",
        "JSON",
    ),
    Http(
        "a form", lambda d: d.ask("POST", "/users", b"a=b", content_type="text/plain"), 415, "NOT_JSON", "content-type"
    ),
    Http("a list", lambda d: d.ask("POST", "/users", []), 400, "INVALID_FIELD", "object"),
    Http("an unknown path", lambda d: d.ask("GET", "/nowhere"), 404, "NOT_FOUND", "/nowhere"),
    Http("an unknown field", lambda d: d.ask("POST", "/users", {"pubic_key": ""}), 400, "INVALID_FIELD", "public_key"),
    Http("an unknown parameter", lambda d: d.ask("GET", "/users?size=1"), 400, "INVALID_FIELD", "size"),
    Http("an unknown user", lambda d: d.ask("GET", "/users/99999999"), 404, "UNKNOWN_USER", "user"),
    Http("no number", lambda d: d.ask("GET", "/users/me"), 400, "INVALID_FIELD", "user"),
    Http("an unknown market", lambda d: d.ask("GET", "/markets/NOPE/book"), 404, "UNKNOWN_MARKET", "NOPE"),
    Http(
        "another Host", lambda d: d.ask("GET", "/users", host="evil.example"), 403, "HOST_NOT_ALLOWED", "evil.example"
    ),
    Http(
        "a foreign Origin",
        lambda d: d.ask("POST", "/users", {}, origin="https://evil.example"),
        403,
        "ORIGIN_NOT_ALLOWED",
        "evil.example",
    ),
    Http(
        "no Idempotency-Key for money",
        lambda d: d.ask("POST", "/deposits", deposit_json(d.trader.account)),
        400,
        "REQUEST_ID_MISSING",
        "Idempotency-Key",
    ),
    Http(
        "no Idempotency-Key for a payout",
        lambda d: d.ask("POST", "/withdrawals/1/close", {"state": "PAID"}),
        400,
        "REQUEST_ID_MISSING",
        "Idempotency-Key",
    ),
    Http(
        "a broken Idempotency-Key",
        lambda d: d.ask("POST", "/deposits", deposit_json(d.trader.account), idempotency_key="x" * 300),
        400,
        "INVALID_FIELD",
        "Idempotency-Key",
    ),
    Http(
        "an amount with a fraction",
        lambda d: d.ask("POST", "/deposits", deposit_json(d.trader.account, amount_units=0.5), **MONEY),
        400,
        "INVALID_FIELD",
        "smallest units",
    ),
    Http(
        "an amount below zero",
        lambda d: d.ask("POST", "/deposits", deposit_json(d.trader.account, amount_units=-1), **MONEY),
        400,
        "INVALID_FIELD",
        "amount_units",
    ),
    Http(
        "an amount of 2^64",
        lambda d: d.ask("POST", "/deposits", deposit_json(d.trader.account, amount_units=str(2**64)), **MONEY),
        400,
        "INVALID_FIELD",
        "amount_units",
    ),
    Http(
        "an allocation that does not exist",
        lambda d: d.ask("POST", "/deposits", deposit_json(d.trader.account, allocate="SOME"), **MONEY),
        400,
        "INVALID_FIELD",
        "EVEN",
    ),
    Http("an unknown verb", lambda d: d.ask("DELETE", "/users"), 405, None, "POST"),
)


@pytest.mark.parametrize("case", HTTP, ids=lambda case: case.name)
def test_a_bad_request_over_http_has_its_reason(desk: Desk, case: Http) -> None:
    answer = case.ask(desk)
    assert answer.status == case.status, answer.body
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json["error"]
    assert error["reason"] == case.reason, error
    assert case.says in error["message"], error
    if case.reason == "INVALID_FIELD" and case.name not in ("not JSON", "an amount with a fraction"):
        assert error["fields"], error


def test_a_body_that_is_too_large_is_refused_before_it_is_read(desk: Desk) -> None:
    body = b'{"request_id": "' + b"0" * (33 * 1024 * 1024) + b'"}'
    answer = desk.ask("POST", "/users", body, content_type="application/json")
    assert (answer.status, answer.json["error"]["reason"]) == (413, "MESSAGE_SIZE")
    assert "split it" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"amount_units": 0}, "INVALID_AMOUNT"),
        ({"amount_units": str(2**63)}, "INVALID_AMOUNT"),
        ({"amount_units": str(2**63 - 1)}, "DEPOSITS_TOO_LARGE"),
        ({"asset": 99}, "UNKNOWN_ASSET"),
        ({"to_shard": 1}, "INVALID_POLICY"),
    ],
)
def test_a_deposit_over_http_that_cannot_be_says_why(desk: Desk, row: dict[str, Any], reason: str) -> None:
    body = deposit_json(desk.trader.account, **row)
    answer = desk.ask("POST", "/deposits", body, idempotency_key=secrets.token_hex(16))
    assert answer.status == 200, answer.body
    assert [result["reason"] for result in answer.json["results"]] == [f"REJECT_REASON_{reason}"]


def test_an_idempotency_key_of_another_body_is_refused_and_moves_nothing(desk: Desk) -> None:
    account = desk.new_trader().account
    key = secrets.token_hex(16)
    first = desk.ask("POST", "/deposits", deposit_json(account), idempotency_key=key)
    again = desk.ask("POST", "/deposits", deposit_json(account), idempotency_key=key)
    other = desk.ask("POST", "/deposits", deposit_json(account, amount_units="6"), idempotency_key=key)
    assert (first.status, first.json["repeated"]) == (200, False)
    assert (again.status, again.json["repeated"]) == (200, True)
    assert (other.status, other.json["error"]["reason"]) == (409, "REQUEST_ID_REUSED")
    balances = desk.ask("GET", f"/accounts/{account}").json["balances"]["shards"]
    treasury = {row["asset"]: row["free_units"] for row in balances[0]["balances"]}
    assert treasury[USD_ASSET] == "5", "one deposit of 5"


# --- what is no request at all --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00" * 64,
        b"\xff" * 4_096,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 128,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=lambda said: f"{len(said)} bytes",
)
def test_bytes_that_are_no_request_end_their_own_connection_only(desk: Desk, said: bytes) -> None:
    for address in (desk.hosted.exchange.traders, desk.hosted.exchange.admin):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=CALL_S_MAX) as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(CALL_S_MAX)
            try:
                while connection.recv(65_536):
                    pass
            except ConnectionResetError:
                pass
    assert desk.ask("GET", "/healthz").status == 200
    desk.data.GetExchange(market_data_service_pb2.GetExchangeRequest(), timeout=CALL_S_MAX)


def test_a_method_that_does_not_exist_is_said_to_be_unknown(desk: Desk) -> None:
    for call in (
        raw(desk, "/clob.v1.OrderService/Nothing", b""),
        raw(desk, "/clob.v1.AdminService/CreateUser", b""),
        raw(desk, "/clob.v1.AdminService/Nothing", b"", admin=True),
        raw(desk, "/clob.v1.OrderService/Submit", b"", admin=True),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call()
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_after_all_of_it_no_money_is_lost_and_the_exchange_trades(desk: Desk) -> None:
    desk.audit_and_trade()


def test_http_on_the_traders_port_is_told_where_to_go(desk: Desk) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{desk.hosted.exchange.traders}/users", data=b"", timeout=CALL_S_MAX)
    assert refused.value.code == 404
    assert "operators' port" in json.loads(refused.value.read())["error"]["message"]

import json
import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clob.v1 import door_reason_pb2 as reasons
from clob.v1 import event_pb2, frame_pb2, order_service_pb2, outcome_pb2, session_pb2
from exchange.control.view import ControlView
from exchange.domain import events as domain_events
from exchange.domain.commands import Batch, CancelOrder, PlaceOrder, SignedBatch
from exchange.domain.control import OpenAccount, RevokeKey
from exchange.domain.events import BatchResult, CommandRejected, OrderAccepted, OrderCancelled, Trade
from exchange.domain.explanations import EXPLANATIONS
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.operations import DefineShard, OperatorRole
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine import reading, verifying
from exchange.engine.reading import BatchHead
from exchange.ingress import outcomes
from exchange.ingress.door import (
    DETAIL_BYTES_MAX,
    SKEW_MS_MAX,
    Door,
    ReadBatch,
    Refusal,
    clip,
    read_batch,
    varint,
)
from exchange.ingress.outcomes import FrameError, ScannedFrame
from exchange.ingress.rates import TokenBuckets
from exchange.ingress.sessions import CHALLENGE_MS, SESSION_MS_MAX, Sessions
from exchange.local.control_venue import ControlVenue, KeyPair
from exchange.reference import signing
from exchange.reference.signing import public_key_of, sign, verify_at_the_door, verify_one
from exchange.wire.errors import WireError
from exchange.wire.messages import decode, encode

ENVIRONMENT = "local"
NOW_US = 1_700_000_000_000_000
NOW_MS = NOW_US // 1000
RULE_FILE = Path(__file__).parent / "vectors" / "ed25519_rule.json"
UNLIMITED = TokenBuckets(0, 1)
CANCEL = CancelOrder(order_id=1)


class Control:
    """Shard 0 as one process knows it, and how it catches up."""

    def __init__(self, venue: ControlVenue) -> None:
        self.venue = venue
        self.view = ControlView.from_genesis(venue.genesis)
        self.follow()

    def follow(self) -> None:
        for frame in self.venue.frames[self.view.position :]:
            self.view.apply(frame)

    async def catch_up(self) -> None:
        self.follow()


class Desk:
    """A door with one user behind it."""

    def __init__(self, address_rates: TokenBuckets = UNLIMITED, key_rates: TokenBuckets = UNLIMITED) -> None:
        self.venue = ControlVenue(environment=ENVIRONMENT)
        self.venue.operate(OperatorRole.MARKET, DefineShard(1))
        self.account, self.key = self.venue.new_user("alice")
        self.control = Control(self.venue)
        self.door = Door(ENVIRONMENT, self.control, address_rates, key_rates)

    def signed(
        self,
        *commands: CancelOrder | PlaceOrder,
        account: int | None = None,
        shard: int = 1,
        valid_for_ms: int = 10_000,
        key: KeyPair | None = None,
        environment: str = ENVIRONMENT,
        kind: SignedKind = SignedKind.BATCH,
    ) -> SignedBatch:
        key = key or self.key
        batch = Batch(
            self.account if account is None else account, shard, 7, NOW_MS + valid_for_ms, commands or (CANCEL,)
        )
        payload = encode(batch)
        return SignedBatch(key.key_id, payload, sign(key.seed, signed_bytes(kind, environment, payload)))

    def judge(self, signed: SignedBatch, now_us: int = NOW_US, now_s: float = 0.0) -> Refusal | None:
        one = read_batch(signed.key_id, signed.payload, signed.signature)
        return one if isinstance(one, Refusal) else self.door.judge(one, now_us, now_s)

    def reason(self, signed: SignedBatch, now_us: int = NOW_US, now_s: float = 0.0) -> str:
        refusal = self.judge(signed, now_us, now_s)
        return reasons.DoorReason.Name(refusal.reason).removeprefix("DOOR_REASON_") if refusal else "let in"


@pytest.fixture
def desk() -> Desk:
    return Desk()


def read(signed: SignedBatch) -> ReadBatch:
    one = read_batch(signed.key_id, signed.payload, signed.signature)
    assert isinstance(one, ReadBatch)
    return one


def with_(signed: SignedBatch, **changes: bytes) -> SignedBatch:
    return msgspec.structs.replace(signed, **changes)


# --- what is let in


def test_a_batch_of_a_registered_key_for_its_account_is_let_in(desk: Desk) -> None:
    assert desk.judge(desk.signed()) is None


def test_a_batch_goes_into_the_frame_in_the_canonical_encoding_of_its_three_fields(desk: Desk) -> None:
    for signed in (desk.signed(), desk.signed(*[CANCEL] * 300)):
        field = read(signed).as_frame_field()
        frame = encode(OrderFrame(FORMAT, bytes(16), 1, NOW_US))
        assert decode(OrderFrame, frame + field + field).batches == (signed, signed)


def test_a_key_for_all_accounts_may_sign_for_a_new_one_and_a_key_for_one_account_may_not(desk: Desk) -> None:
    narrow = desk.venue.key("narrow")
    user = desk.venue.state.users[0].user
    registration = desk.venue.registration(narrow, user=user, account=desk.account)
    desk.venue.command(desk.key, desk.account, OpenAccount(user), registration)
    desk.control.follow()
    other = desk.venue.state.users[0].accounts[-1]
    assert other != desk.account
    assert desk.reason(desk.signed(account=other)) == "let in"
    assert desk.reason(desk.signed(account=desk.account, key=narrow)) == "let in"
    assert desk.reason(desk.signed(account=other, key=narrow)) == "ACCOUNT_NOT_OF_KEY"


# --- what is not


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"key_id": bytes(15)}, "key_id at byte 0"),
        ({"key_id": bytes(17)}, "key_id at byte 0"),
        ({"signature": bytes(63)}, "signature at byte"),
        ({"signature": b""}, "signature at byte"),
        ({"payload": b"\x08\x01\xff"}, "payload: "),
        ({"payload": b"\x50\x01"}, "10 at byte 0"),
    ],
)
def test_malformed_names_field_and_offset_and_is_final(desk: Desk, change: dict[str, bytes], field: str) -> None:
    refusal = desk.judge(with_(desk.signed(), **change))
    assert refusal is not None
    assert refusal.reason == reasons.DOOR_REASON_MALFORMED
    assert field in refusal.detail
    assert "byte" in refusal.detail
    assert refusal.is_final


def test_a_field_of_a_command_is_named_with_its_offset(desk: Desk) -> None:
    payload = desk.signed().payload
    at = payload.rindex(b"\x08\x01")
    refusal = desk.judge(with_(desk.signed(), payload=payload[:at] + b"\x08\x00" + payload[at + 2 :]))
    assert refusal is not None
    assert f"commands[0].cancel.order_id at byte {at}" in refusal.detail


def test_account_zero_is_malformed(desk: Desk) -> None:
    payload = desk.signed().payload
    assert payload[0] == 0x08
    refusal = desk.judge(with_(desk.signed(), payload=payload[2:]))
    assert refusal is not None
    assert refusal.reason == reasons.DOOR_REASON_MALFORMED
    assert "account" in refusal.detail


def test_batches_that_are_empty_or_too_large_are_of_a_wrong_size(desk: Desk) -> None:
    one = desk.signed()
    assert desk.reason(with_(one, payload=b"")) == "BATCH_SIZE"
    assert desk.reason(with_(one, payload=bytes(65_537))) == "BATCH_SIZE"
    assert desk.reason(with_(one, payload=one.payload[: one.payload.index(b"\x2a")])) == "BATCH_SIZE"
    start = one.payload.index(b"\x2a")
    assert desk.reason(with_(one, payload=one.payload + one.payload[start:] * 1_024)) == "BATCH_SIZE"
    assert desk.reason(desk.signed(*[CANCEL] * 1_024)) == "let in"


def test_unknown_key_revoked_key_and_bad_signature_have_one_answer(desk: Desk) -> None:
    good = desk.signed()
    stranger = desk.venue.key("nobody")
    flipped = bytes([good.signature[0] ^ 1]) + good.signature[1:]
    refusals = [
        desk.judge(desk.signed(key=stranger)),
        desk.judge(with_(good, signature=flipped)),
        desk.judge(with_(good, payload=desk.signed(CancelOrder(order_id=2)).payload)),
        desk.judge(desk.signed(environment="other")),
        desk.judge(desk.signed(kind=SignedKind.SESSION)),
        desk.judge(with_(good, key_id=desk.venue.new_user("bob")[1].key_id)),
    ]
    desk.venue.command(desk.key, desk.account, RevokeKey(desk.key.key_id))
    desk.control.follow()
    refusals.append(desk.judge(good))
    told = {outcomes.refused_at_door(refusal, read(good)) for refusal in refusals if refusal is not None}
    assert None not in refusals
    assert len(told) == 1, "senders can tell the cases apart"
    outcome = outcome_pb2.BatchOutcome.FromString(told.pop())
    assert outcome.door_reason == reasons.DOOR_REASON_BAD_KEY_OR_SIGNATURE
    assert outcome.executable_until_ms == NOW_MS + 10_000, "a key that is unknown here may be known elsewhere"


def test_only_what_may_be_new_is_worth_catching_up_for(desk: Desk) -> None:
    good = desk.signed()
    stranger = desk.judge(desk.signed(key=desk.venue.key("nobody")))
    account = desk.judge(desk.signed(account=99))
    shard = desk.judge(desk.signed(shard=9))
    forged = desk.judge(with_(good, signature=bytes(64)))
    assert all(one is not None and one.may_change for one in (stranger, account, shard))
    assert forged is not None
    assert not forged.may_change
    assert forged.blames_sender
    bob = desk.venue.new_user("bob")[1]
    assert desk.reason(desk.signed(key=bob)) == "BAD_KEY_OR_SIGNATURE"
    desk.control.follow()
    assert desk.reason(desk.signed(key=bob)) == "ACCOUNT_NOT_OF_KEY"


def test_a_shard_that_is_not_in_the_map_is_unknown_until_it_is(desk: Desk) -> None:
    assert desk.reason(desk.signed(shard=2)) == "UNKNOWN_SHARD"
    desk.venue.operate(OperatorRole.MARKET, DefineShard(2))
    desk.control.follow()
    assert desk.reason(desk.signed(shard=2)) == "let in"
    assert desk.reason(desk.signed(shard=0)) == "let in"


def test_expired_at_the_door_means_that_no_clock_within_the_skew_could_still_execute_it(desk: Desk) -> None:
    assert desk.reason(desk.signed(valid_for_ms=-SKEW_MS_MAX)) == "BATCH_EXPIRED"
    assert desk.reason(desk.signed(valid_for_ms=-SKEW_MS_MAX + 1)) == "let in"
    desk.door.time_us[1] = NOW_US
    assert desk.reason(desk.signed(valid_for_ms=0)) == "BATCH_EXPIRED", "the shard has been there, and never goes back"
    assert desk.reason(desk.signed(valid_for_ms=1)) == "let in"
    expired = desk.judge(desk.signed(valid_for_ms=-1_000))
    assert expired is not None
    assert expired.is_final


def test_validity_is_bounded_by_what_the_shard_allows_where_that_is_known(desk: Desk) -> None:
    day_ms = 86_400_000
    assert desk.reason(desk.signed(valid_for_ms=day_ms + SKEW_MS_MAX)) == "let in"
    assert desk.reason(desk.signed(valid_for_ms=day_ms + SKEW_MS_MAX + 1)) == "VALIDITY_TOO_LONG"
    desk.door.max_validity_ms[1] = 60_000
    assert desk.reason(desk.signed(valid_for_ms=60_000 + SKEW_MS_MAX)) == "let in"
    refusal = desk.judge(desk.signed(valid_for_ms=70_000))
    assert refusal is not None
    assert refusal.reason == reasons.DOOR_REASON_VALIDITY_TOO_LONG
    assert refusal.retry_after_ms == 10_000
    assert not refusal.is_final


def test_a_request_for_another_environment_is_refused_by_its_name(desk: Desk) -> None:
    assert desk.door.wrong_environment("") is None
    assert desk.door.wrong_environment(ENVIRONMENT) is None
    refusal = desk.door.wrong_environment("mainnet")
    assert refusal is not None
    assert "'mainnet'" in refusal.detail
    assert "'local'" in refusal.detail


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=20), st.binary(max_size=80), st.binary(max_size=70))
def test_whatever_comes_is_read_or_refused_with_a_sentence(key_id: bytes, payload: bytes, signature: bytes) -> None:
    one = read_batch(key_id, payload, signature)
    if isinstance(one, Refusal):
        assert 0 < len(one.detail.encode()) <= DETAIL_BYTES_MAX
        assert one.reason in (reasons.DOOR_REASON_MALFORMED, reasons.DOOR_REASON_BATCH_SIZE)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=700))
def test_a_detail_never_exceeds_its_bound(text: str) -> None:
    assert len(clip(text).encode(errors="replace")) <= DETAIL_BYTES_MAX


# --- rates


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    buckets = TokenBuckets(10, 5)
    assert [buckets.take("a", 1, 0.0) for _ in range(5)] == [0.0] * 5
    assert buckets.take("a", 1, 0.0) == pytest.approx(0.1)
    assert buckets.take("a", 1, 0.0) == pytest.approx(0.1), "what is refused takes nothing"
    assert buckets.take("b", 1, 0.0) == 0.0
    assert buckets.take("a", 1, 0.1) == 0.0
    assert buckets.take("a", 5, 1.0) == 0.0


def test_more_than_a_bucket_holds_goes_through_a_full_one_and_is_paid_for_later() -> None:
    buckets = TokenBuckets(10, 5)
    assert buckets.take("a", 1, 0.0) == 0.0
    assert buckets.take("a", 50, 0.0) == pytest.approx(0.1)
    assert buckets.take("a", 50, 0.1) == 0.0
    assert buckets.take("a", 1, 0.1) == pytest.approx(4.6)


def test_memory_of_buckets_is_bounded_and_full_ones_are_forgotten_first() -> None:
    buckets = TokenBuckets(1, 2, senders_max=100)
    for sender in range(1_000):
        buckets.take(sender, 1, 0.0)
    assert len(buckets) <= 101
    assert buckets.take("late", 1, 0.0) > 0.0, "new ones share a bucket while all others are busy"
    assert buckets.take(0, 2, 0.5) > 0.0, "those that have a bucket keep it"
    assert buckets.take("late", 2, 10.0) == 0.0
    assert len(buckets) < 10


def test_the_rate_of_a_key_is_not_used_up_by_those_who_do_not_have_it() -> None:
    desk = Desk(key_rates=TokenBuckets(1, 2))
    good = desk.signed()
    forged = with_(good, signature=bytes(64))
    for _ in range(10):
        assert desk.reason(forged) == "BAD_KEY_OR_SIGNATURE"
    assert [desk.reason(good) for _ in range(3)] == ["let in", "let in", "TOO_FAST"]
    refusal = desk.judge(good)
    assert refusal is not None
    assert refusal.retry_after_ms == 1_001
    assert desk.reason(good, now_s=1.1) == "let in"


def test_an_address_that_sends_too_much_is_told_when_to_come_again() -> None:
    desk = Desk(address_rates=TokenBuckets(100, 64))
    assert desk.door.admit_address("10.0.0.1", 64, 0.0) is None
    refusal = desk.door.admit_address("10.0.0.1", 64, 0.0)
    assert refusal is not None
    assert refusal.reason == reasons.DOOR_REASON_TOO_FAST
    assert refusal.retry_after_ms == 641
    assert desk.door.admit_address("10.0.0.2", 64, 0.0) is None


def test_signatures_that_were_checked_for_nothing_cost_their_address_more_and_never_more_than_a_burst() -> None:
    desk = Desk(address_rates=TokenBuckets(100, 64))
    desk.door.blame("10.0.0.1", 3, 0.0)
    assert desk.door.admit_address("10.0.0.1", 16, 0.0) is None
    refusal = desk.door.admit_address("10.0.0.1", 16, 0.0)
    assert refusal is not None
    assert refusal.retry_after_ms == 161
    desk.door.blame("10.0.0.1", 1_000_000, 0.0)
    assert desk.door.admit_address("10.0.0.1", 1, 0.64) is not None
    assert desk.door.admit_address("10.0.0.1", 1, 0.66) is None
    assert desk.door.admit_address("10.0.0.2", 64, 0.0) is None


@pytest.mark.parametrize("change", [b"", b"\x00", b"\x08\x01", b"\x32\x00"])
def test_a_head_is_read_alike_by_core_and_reference(desk: Desk, change: bytes) -> None:
    payload = desk.signed(*[CANCEL] * 3).payload + change
    read = []
    for head in (reading._head, reading._head_by_the_reference):
        try:
            read.append(str(head(payload)))
        except WireError as error:
            read.append(f"{error.reason} {error.field} {error.offset}")
    assert read[0] == read[1]


# --- signatures


def test_the_door_gives_every_vector_of_the_rule_the_verdict_of_the_reference() -> None:
    for vector in json.loads(RULE_FILE.read_text())["vectors"]:
        parts = [bytes.fromhex(vector[field]) for field in ("public_key", "message", "signature")]
        if signing.key_refusal(parts[0]) is None:
            assert verify_at_the_door(*parts) == verify_one(*parts), vector["name"]


def test_the_door_uses_the_faster_equation_and_agrees_on_random_and_mutated_signatures() -> None:
    assert signing._door_equation is signing._equation_holds_by_sodium
    seed = random.randrange(2**32)
    drawn = random.Random(seed)
    for _ in range(60):
        private = drawn.randbytes(32)
        public, message = public_key_of(private), drawn.randbytes(drawn.randrange(200))
        signature = sign(private, message)
        assert verify_at_the_door(public, message, signature), seed
        cases = [(message + b"x", signature), (message, drawn.randbytes(64)), (message, signature[:63])]
        for _ in range(4):
            bit = drawn.randrange(512)
            mutated = bytearray(signature)
            mutated[bit // 8] ^= 1 << bit % 8
            cases.append((message, bytes(mutated)))
        s = int.from_bytes(signature[32:], "little") + 2**252 + 27742317777372353535851937790883648493
        cases.append((message, signature[:32] + s.to_bytes(32, "little")))
        for text, candidate in cases:
            assert verify_at_the_door(public, text, candidate) == verify_one(public, text, candidate), seed


@pytest.mark.parametrize("verifier", [verifying.make_verifier(8), verifying.OneByOne()])
def test_signatures_that_are_verified_together_have_the_verdict_that_each_has_alone(
    verifier: verifying.BatchVerifier,
) -> None:
    rows = []
    for vector in json.loads(RULE_FILE.read_text())["vectors"]:
        parts = [bytes.fromhex(vector[field]) for field in ("public_key", "message", "signature")]
        if signing.key_refusal(parts[0]) is None and len(parts[2]) == 64:
            rows.append((*parts, verify_one(*parts)))
    keys, messages, signatures, expected = map(list, zip(*rows, strict=True))
    for _ in range(2):  # the second time under keys that are known
        assert verifier.verify_batch(messages, b"".join(signatures), b"".join(keys)) == expected


def test_a_verdict_counts_for_the_key_under_which_it_was_found(desk: Desk) -> None:
    batch = read(desk.signed())
    desk.door.verify([batch, Refusal(reasons.DOOR_REASON_MALFORMED, "not a batch")], 0.0)
    assert batch.verdict is not None
    assert batch.verdict[1]
    batch.verdict = (bytes(32), False)
    assert desk.door.judge(batch, NOW_US, 0.0) is None


def test_what_exceeds_the_rate_of_its_key_is_not_verified() -> None:
    desk = Desk(key_rates=TokenBuckets(1, 2))
    batches = [read(desk.signed()) for _ in range(4)]
    desk.door.verify(batches, 0.0)
    assert [batch.verdict is not None for batch in batches] == [True, True, False, False]
    assert [desk.door.judge(batch, NOW_US, 0.0) is None for batch in batches] == [True, True, False, False]
    later = read(desk.signed())
    desk.door.verify([later], 0.0)
    assert later.verdict is None
    desk.door.verify([later], 1.0)
    assert later.verdict is not None


def test_a_libsodium_that_multiplies_by_the_cofactor_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signing._sodium_is_cofactorless()
    monkeypatch.setattr(signing, "_equation_holds_by_sodium", lambda *_: True)
    assert not signing._sodium_is_cofactorless()


# --- sessions


class SessionDesk(Desk):
    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions(ENVIRONMENT, bytes(32))

    def open(
        self, challenge: bytes, valid_for_ms: int = 60_000, now_ms: int = NOW_MS, key: KeyPair | None = None
    ) -> tuple[str, object] | Refusal:
        key = key or self.key
        payload = session_pb2.Session(challenge=challenge, valid_until_ms=NOW_MS + valid_for_ms).SerializeToString()
        signature = sign(key.seed, signed_bytes(SignedKind.SESSION, ENVIRONMENT, payload))
        return self.sessions.open(self.control.view, key.key_id, payload, signature, now_ms)

    def token(self) -> str:
        opened = self.open(self.sessions.challenge(NOW_MS)[0])
        assert not isinstance(opened, Refusal)
        return opened[0]


def reason_of(result: object) -> str:
    assert isinstance(result, Refusal), result
    return reasons.DoorReason.Name(result.reason).removeprefix("DOOR_REASON_")


def test_any_process_with_the_secret_takes_a_token_and_an_answer_to_a_challenge_of_another() -> None:
    desk = SessionDesk()
    challenge, until_ms = desk.sessions.challenge(NOW_MS)
    assert until_ms == NOW_MS + CHALLENGE_MS
    assert len(challenge) <= 256
    desk.sessions = Sessions(ENVIRONMENT, bytes(32))
    opened = desk.open(challenge)
    assert not isinstance(opened, Refusal)
    token = opened[0]
    assert token.isascii()
    assert len(token) <= 512
    session = Sessions(ENVIRONMENT, bytes(32)).session_of(desk.control.view, f"Bearer {token}", NOW_MS)
    assert not isinstance(session, Refusal)
    assert session == opened[1]
    assert (session.key_id, session.user) == (desk.key.key_id, desk.venue.state.users[0].user)
    stranger = Sessions(ENVIRONMENT, bytes(31) + b"x").session_of(desk.control.view, f"Bearer {token}", NOW_MS)
    assert reason_of(stranger) == "SESSION_REQUIRED"
    elsewhere = Sessions("other", bytes(32)).session_of(desk.control.view, f"Bearer {token}", NOW_MS)
    assert reason_of(elsewhere) == "SESSION_REQUIRED"


def test_a_challenge_is_answered_once_in_time_and_by_this_environment_only() -> None:
    desk = SessionDesk()
    challenge, until_ms = desk.sessions.challenge(NOW_MS)
    assert reason_of(desk.open(challenge, now_ms=until_ms)) == "CHALLENGE_REFUSED"
    assert reason_of(desk.open(challenge[:-1] + bytes([challenge[-1] ^ 1]))) == "CHALLENGE_REFUSED"
    assert reason_of(desk.open(b"x")) == "CHALLENGE_REFUSED"
    assert reason_of(desk.open(challenge, key=desk.venue.key("nobody"))) == "BAD_KEY_OR_SIGNATURE"
    assert not isinstance(desk.open(challenge), Refusal)
    assert reason_of(desk.open(challenge)) == "CHALLENGE_REFUSED"


def test_a_session_ends_when_it_is_over_or_its_key_is_revoked() -> None:
    desk = SessionDesk()
    token = desk.token()

    def session(now_ms: int = NOW_MS, header: str = f"bearer {token}") -> object:
        return desk.sessions.session_of(desk.control.view, header, now_ms)

    assert not isinstance(session(), Refusal)
    assert reason_of(session(NOW_MS + 60_000)) == "SESSION_REQUIRED"
    for header in ("", token, "Bearer", "Bearer ", f"Bearer {token}x", f"Bearer {token[:-8]}AAAAAAAA", "Bearer \u00e4"):
        assert reason_of(session(header=header)) == "SESSION_REQUIRED"
    desk.venue.command(desk.key, desk.account, RevokeKey(desk.key.key_id))
    desk.control.follow()
    assert reason_of(session()) == "SESSION_REQUIRED"
    assert reason_of(desk.open(desk.sessions.challenge(NOW_MS)[0])) == "BAD_KEY_OR_SIGNATURE"


def test_a_session_lasts_no_longer_than_a_day_and_has_not_ended_before_it_begins() -> None:
    desk = SessionDesk()
    opened = desk.open(desk.sessions.challenge(NOW_MS)[0], valid_for_ms=10 * SESSION_MS_MAX)
    assert not isinstance(opened, Refusal)
    assert opened[1].valid_until_ms == NOW_MS + SESSION_MS_MAX  # type: ignore[attr-defined]
    assert reason_of(desk.open(desk.sessions.challenge(NOW_MS)[0], valid_for_ms=0)) == "INVALID_FIELD"


def test_a_session_whose_bytes_are_not_canonical_is_refused() -> None:
    desk = SessionDesk()
    challenge, _ = desk.sessions.challenge(NOW_MS)
    good = session_pb2.Session(challenge=challenge, valid_until_ms=NOW_MS + 1).SerializeToString()
    for payload in (b"", good + b"\x18\x01", good[::-1], bytes(600)):
        refusal = desk.sessions.open(desk.control.view, desk.key.key_id, payload, bytes(64), NOW_MS)
        assert reason_of(refusal) == "INVALID_FIELD"


# --- outcomes


ACCEPTED = OrderAccepted(1, 5, 1, 1, 1, 300, 7, 1, 1, 1, False, 100, 4)
OWN_TRADE = Trade(1, 2, 1, 100, 1, 1, 200, 300, 5, 2, 5, 3, 1, 2)
TAKEN = Trade(1, 3, 2, 100, 1, 1, 201, 300, 6, 9, 5, 4, 1, 2)
MADE = Trade(1, 4, 3, 100, 1, 2, 300, 202, 5, 5, 8, 9, 3, 4)
SHORT = CommandRejected(2, 5, 5, RejectReason.INSUFFICIENT_FUNDS, 1, 0, 8, 100, 50, 2)
GONE = OrderCancelled(0, 6, 10, 1, 5, 201, 3, 5)


def frame_of(*events: domain_events.Event, n: int = 300) -> bytes:
    return encode(ExecutionFrame(FORMAT, n, NOW_US, 1, bytes(32), bytes(32), events))


def test_a_frame_is_cut_into_batches_and_what_comes_before_them_belongs_to_none() -> None:
    many = tuple(event for place in range(1, 200) for event in (BatchResult(place), ACCEPTED))
    frame = ScannedFrame(frame_of(GONE, *many, BatchResult(200, RejectReason.NONCE_REUSED), BatchResult(201, 0, 9, 3)))
    assert (frame.n, frame.t_us, len(frame.batches)) == (300, NOW_US, 201)
    assert frame.batches[199].reason == RejectReason.NONCE_REUSED
    assert (frame.batches[200].repeat_n, frame.batches[200].repeat_batch) == (9, 3)
    for place in (1, 127, 128, 199):
        outcome = outcome_pb2.BatchOutcome.FromString(outcomes.executed(frame, place, 5))
        assert [event.WhichOneof("event") for event in outcome.events] == ["batch_result", "order_accepted"]
        assert outcome.events[0].batch_result.batch == outcome.batch == place


def test_events_of_a_batch_are_the_bytes_of_the_log_when_nothing_is_hidden() -> None:
    data = frame_of(BatchResult(1), ACCEPTED, OWN_TRADE, BatchResult(2), ACCEPTED)
    frame = ScannedFrame(data)
    assert frame.events_for(1, 5) in data
    assert frame.events_for(1, 5) + frame.events_for(2, 5) == data[data.index(frame.events_for(1, 5)) :]


def test_of_a_trade_with_another_account_its_side_is_left_out() -> None:
    frame = ScannedFrame(frame_of(BatchResult(1), ACCEPTED, TAKEN, MADE, OWN_TRADE))
    outcome = outcome_pb2.BatchOutcome.FromString(outcomes.executed(frame, 1, 5))
    taken, made, own = (event.trade for event in outcome.events[2:])
    assert (taken.maker_account, taken.maker_order_id, taken.maker_account_seq, taken.maker_fee_quote_units) == (0,) * 4
    assert (taken.taker_account, taken.taker_order_id, taken.taker_account_seq) == (5, 300, 4)
    assert (made.taker_account, made.taker_order_id, made.taker_account_seq, made.taker_fee_quote_units) == (0,) * 4
    assert (made.maker_account, made.maker_fee_quote_units) == (5, 3)
    assert (own.maker_account, own.taker_account) == (5, 5)
    assert (taken.trade_id, taken.price_ticks, taken.quantity_lots, taken.market_seq) == (2, 100, 1, 3)


def test_outcomes_are_written_as_the_protobuf_library_writes_them() -> None:
    frame = ScannedFrame(frame_of(BatchResult(1), ACCEPTED, SHORT, BatchResult(2, RejectReason.TOO_MANY_NONCES)))
    batch = ReadBatch(bytes(16), b"x", bytes(64), BatchHead(5, 1, 1, 77, 1, False))
    for outcome in (
        outcomes.executed(frame, 1, 5),
        outcomes.executed(frame, 1, 5, repeated=True),
        outcomes.refused_by_shard(frame, 2, batch),
        outcomes.not_answered(batch, 0, 0, 0),
        outcomes.not_answered(batch, 3, 1, NOW_US),
    ):
        assert outcome_pb2.BatchOutcome.FromString(outcome).SerializeToString(deterministic=True) == outcome
    response = outcomes.submit_response(
        outcomes.encode_outcomes([outcomes.executed(frame, 1, 5)]),
        1,
        [rejected.reason for rejected in frame.rejected(1)],
    )
    parsed = order_service_pb2.SubmitResponse.FromString(response)
    assert parsed.SerializeToString(deterministic=True) == response
    assert [one.reason for one in parsed.explanations] == [event_pb2.REJECT_REASON_INSUFFICIENT_FUNDS]
    assert parsed.durability == outcome_pb2.DURABILITY_MEMORY


@pytest.mark.parametrize("reason", list(RejectReason))
def test_a_batch_that_the_shard_refused_says_until_when_it_could_be_executed(reason: RejectReason) -> None:
    frame = ScannedFrame(frame_of(BatchResult(1, reason)))
    batch = ReadBatch(bytes(16), b"x", bytes(64), BatchHead(5, 1, 1, 77, 1, False))
    outcome = outcome_pb2.BatchOutcome.FromString(outcomes.refused_by_shard(frame, 1, batch))
    assert outcome.state == outcome_pb2.SEND_STATE_REFUSED
    assert int(outcome.reject_reason) == reason
    assert outcome.executable_until_ms == (0 if reason in outcomes.NEVER_AGAIN else 77)
    assert outcome.detail == EXPLANATIONS[reason]


def test_a_frame_that_was_refused_as_a_whole_says_that_it_was_malformed_on_its_way() -> None:
    frame = ScannedFrame(frame_of(domain_events.FrameRefused(RejectReason.MALFORMED)))
    batch = ReadBatch(bytes(16), b"x", bytes(64), BatchHead(5, 1, 1, 77, 1, False))
    outcome = outcome_pb2.BatchOutcome.FromString(outcomes.refused_by_shard(frame, 3, batch))
    assert (int(outcome.reject_reason), outcome.executable_until_ms) == (RejectReason.MALFORMED, 77)


def test_bytes_that_are_no_frame_are_not_taken_for_one() -> None:
    good = frame_of(BatchResult(1), ACCEPTED)
    for data in (good[:-1], good + b"\x01", good[:9]):
        with pytest.raises((FrameError, IndexError)):
            ScannedFrame(data)
    with pytest.raises(FrameError, match="is of batch 2"):
        ScannedFrame(frame_of(BatchResult(2)))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_what_protobuf_writes(value: int) -> None:
    written = frame_pb2.ExecutionFrame(n=value).SerializeToString()
    assert written == (b"\x10" + varint(value) if value else b"")


def test_every_reject_reason_has_its_sentence_and_no_other_has_one() -> None:
    assert list(EXPLANATIONS) == list(RejectReason)
    for reason, text in EXPLANATIONS.items():
        assert text.endswith("."), reason
        assert 20 < len(text) <= 300, reason
    assert "9999" in outcomes.explanation(9999)

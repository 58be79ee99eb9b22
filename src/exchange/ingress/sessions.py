"""Sessions of traders: a signed challenge becomes a token, and neither needs to be kept by anybody.

Both are numbers under a MAC of the environment's session secret, so every ingress takes what another one gave. A
challenge is answered once per process. A session ends when it is over or its key is revoked.
"""

import base64
import binascii
import hmac
import secrets
from typing import Final, NamedTuple

from clob.v1 import door_reason_pb2 as reasons
from clob.v1 import session_pb2
from exchange.control.view import ControlView
from exchange.domain.limits import KEY_ID_BYTES, SIGNATURE_BYTES
from exchange.domain.record import Record
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.domain.units import TIME_US_MAX
from exchange.ingress.door import Refusal
from exchange.reference.signing import verify_at_the_door
from exchange.wire.codec import Bounds, compile_codecs
from exchange.wire.errors import WireError

CHALLENGE_MS: Final = 60_000
"""How long a challenge can be answered."""
SESSION_MS_MAX: Final = 86_400_000
"""Longest session, whatever is signed."""
PAYLOAD_BYTES_MAX: Final = 512
SECRET_BYTES_MIN: Final = 32
ANSWERED_MAX: Final = 65_536
"""Most challenges that a process remembers as answered; none is asked for faster than the rates of senders allow."""
_CHALLENGE_TAG: Final = b"clob.v1.ingress.challenge\0"
_TOKEN_TAG: Final = b"clob.v1.ingress.token\0"
_MAC_BYTES: Final = 32
_RANDOM_BYTES: Final = 16
_TIME_BYTES: Final = 8
_TOKEN_BYTES: Final = KEY_ID_BYTES + _TIME_BYTES + _MAC_BYTES
_BEARER: Final = "bearer "


class Session(Record, frozen=True):
    challenge: bytes = b""
    valid_until_ms: int = 0


_CODEC: Final = compile_codecs(
    [session_pb2.DESCRIPTOR.message_types_by_name["Session"]],
    {"Session": Session},
    {("Session", "challenge"): Bounds(1, 256), ("Session", "valid_until_ms"): Bounds(1, TIME_US_MAX)},
)["Session"]


class Opened(NamedTuple):
    """A session: its key, the key's user, and the first moment at which it has ended, in milliseconds."""

    key_id: bytes
    user: int
    valid_until_ms: int


class Sessions:
    """Gives challenges and tokens, and says whose a token is."""

    def __init__(self, environment: str, secret: bytes) -> None:
        """Use the environment's session secret; at least SECRET_BYTES_MIN bytes."""
        assert len(secret) >= SECRET_BYTES_MIN
        self._environment = environment
        self._secret = secret
        self._answered: dict[bytes, int] = {}

    def challenge(self, now_ms: int) -> tuple[bytes, int]:
        """Return bytes to be signed, and the first moment at which it is too late to answer, in milliseconds."""
        until_ms = now_ms + CHALLENGE_MS
        body = secrets.token_bytes(_RANDOM_BYTES) + until_ms.to_bytes(_TIME_BYTES, "big")
        return body + self._mac(_CHALLENGE_TAG, body), until_ms

    def open(
        self, view: ControlView, key_id: bytes, payload: bytes, signature: bytes, now_ms: int
    ) -> tuple[str, Opened] | Refusal:
        """Return the token of a session and the session, or why it is not opened.

        Args:
            view: shard 0 as it is known.
            key_id: of the key that signed.
            payload: the signed bytes, a Session.
            signature: of the key over them.
            now_ms: clock of the ingress, milliseconds since 1970-01-01 UTC.
        """
        if len(payload) > PAYLOAD_BYTES_MAX:
            return _invalid(f"session.payload has {len(payload)} bytes, allowed are {PAYLOAD_BYTES_MAX}")
        if len(key_id) != KEY_ID_BYTES or len(signature) != SIGNATURE_BYTES:
            return _invalid(f"session.key_id has {KEY_ID_BYTES} bytes and session.signature {SIGNATURE_BYTES}")
        try:
            session = _CODEC.decode(payload, 0, len(payload), 0)
        except WireError as error:
            return _invalid(f"session.payload is not the canonical encoding of a Session: {error}")
        assert isinstance(session, Session)
        key = view.keys.get(key_id)
        message = signed_bytes(SignedKind.SESSION, self._environment, payload)
        if key is None or key.revoked or not verify_at_the_door(key.public_key, message, signature):
            return Refusal(
                reasons.DOOR_REASON_BAD_KEY_OR_SIGNATURE,
                "the key is not registered, was revoked, or the signature is not one of this payload under it; check "
                "key_id, the environment's name and the bytes that were signed",
                may_change=key is None,
            )
        # After the signature: only who has the key may use a challenge up.
        refusal = self._use(session.challenge, now_ms)
        if refusal is not None:
            return refusal
        until_ms = min(session.valid_until_ms, now_ms + SESSION_MS_MAX)
        if until_ms <= now_ms:
            return _invalid(f"session.valid_until_ms {session.valid_until_ms} has passed; sign a later one")
        return self._token(key_id, until_ms), Opened(key_id, key.user, until_ms)

    def session_of(self, view: ControlView, authorization: str, now_ms: int) -> Opened | Refusal:
        """Return the session that a call's header `authorization` names, or why there is none.

        One of a key that the view does not know may be of another ingress that is ahead: may_change.
        """
        if authorization[: len(_BEARER)].lower() != _BEARER:
            return _required("the call has no session; open one and send 'authorization: Bearer ' and its token")
        try:
            token = base64.b64decode(authorization[len(_BEARER) :].strip(), b"-_", validate=True)
        except (binascii.Error, ValueError):
            token = b""
        body, mac = token[:-_MAC_BYTES], token[-_MAC_BYTES:]
        if len(token) != _TOKEN_BYTES or not hmac.compare_digest(mac, self._mac(_TOKEN_TAG, body)):
            return _required("the token is not one of this environment; open a session")
        key_id, until_ms = body[:KEY_ID_BYTES], int.from_bytes(body[KEY_ID_BYTES:], "big")
        if until_ms <= now_ms:
            return _required(f"the session ended {now_ms - until_ms} ms ago; open another")
        key = view.keys.get(key_id)
        if key is None:
            return _required("the key of the session is not known here yet; try again")._replace(may_change=True)
        if key.revoked:
            return _required("the key of the session was revoked; open another with another key")
        return Opened(key_id, key.user, until_ms)

    def _use(self, challenge: bytes, now_ms: int) -> Refusal | None:
        """Use up a challenge, or say why it cannot be answered."""
        body, mac = challenge[:-_MAC_BYTES], challenge[-_MAC_BYTES:]
        if len(body) != _RANDOM_BYTES + _TIME_BYTES or not hmac.compare_digest(mac, self._mac(_CHALLENGE_TAG, body)):
            return _challenge("the challenge is not one of this environment")
        until_ms = int.from_bytes(body[_RANDOM_BYTES:], "big")
        if until_ms <= now_ms:
            return _challenge(f"the challenge was to be answered {now_ms - until_ms} ms ago")
        if body in self._answered:
            return _challenge("the challenge was answered before")
        if len(self._answered) >= ANSWERED_MAX:
            self._answered = {old: until for old, until in self._answered.items() if until > now_ms}
            if len(self._answered) >= ANSWERED_MAX:
                return Refusal(
                    reasons.DOOR_REASON_OVERLOADED, "too many sessions are being opened; try again in a second", 1_000
                )
        self._answered[body] = until_ms
        return None

    def _token(self, key_id: bytes, until_ms: int) -> str:
        body = key_id + until_ms.to_bytes(_TIME_BYTES, "big")
        return base64.urlsafe_b64encode(body + self._mac(_TOKEN_TAG, body)).decode("ascii")

    def _mac(self, tag: bytes, body: bytes) -> bytes:
        return hmac.digest(self._secret, tag + self._environment.encode("ascii") + b"\0" + body, "sha256")


def _required(detail: str) -> Refusal:
    return Refusal(reasons.DOOR_REASON_SESSION_REQUIRED, detail)


def _challenge(what: str) -> Refusal:
    return Refusal(reasons.DOOR_REASON_CHALLENGE_REFUSED, f"{what}; ask for another with CreateChallenge and sign that")


def _invalid(what: str) -> Refusal:
    return Refusal(reasons.DOOR_REASON_INVALID_FIELD, what)

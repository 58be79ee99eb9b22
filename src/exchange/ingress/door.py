"""The door: which signed batches are let in, and what the others are told. No clock, input or output.

A batch is read first (`read_batch`: strictly decoded, no key needed) and judged then (`Door.judge`), in the order in
which the rules stand there. Who is not proven learns nothing but that: an unknown key, a revoked one and a signature
that does not verify have one answer.

Times: a shard executes a batch iff t < valid_until_ms <= t + max_validity_ms, with t the time of its entry. The clock
of an ingress may be SKEW_MS_MAX off; what is not certain by that clock is left to the shard. So "expired" at the door
is final, as the contract says.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from clob.v1 import door_reason_pb2 as reasons
from exchange.config.environment import Environment
from exchange.control.view import ControlView
from exchange.domain.limits import (
    BATCH_BYTES_MAX,
    BATCH_COMMANDS_MAX,
    KEY_ID_BYTES,
    SIGNATURE_BYTES,
)
from exchange.domain.signing import SignedKind, check_environment
from exchange.engine.reading import BatchHead, read_head
from exchange.engine.verifying import make_verifier
from exchange.ingress.rates import TokenBuckets, key_buckets
from exchange.ingress.settings import IngressSettings
from exchange.serving import errors
from exchange.wire.errors import WireError, WireReason

DETAIL_BYTES_MAX: Final = 512
SKEW_MS_MAX: Final = 500
"""How far the clocks of ingress and bus may be apart; the ingest script refuses more."""
BLAME_TOKENS: Final = 16
"""What a signature costs its sender's address that was checked for nothing, in batches."""
KNOWN_KEYS_MAX: Final = 8_192
"""Keys that a door remembers to verify them faster: 26 MB at most."""
VALIDITY_MS_MAX: Final = 86_400_000
"""Longest max_validity_ms that a shard can have: what is allowed where the shard's own is not known."""

_BAD_KEY: Final = (
    "the key is not registered, was revoked, or the signature is not one of this payload under it; check key_id, the "
    "environment's name and the bytes that were signed, then sign again"
)


class Control(Protocol):
    """What is needed of `ControlFollower`."""

    view: ControlView
    """Shard 0 as it is known."""

    async def catch_up(self) -> None:
        """Wait until the view is where the log is."""


class KeyBuckets(Protocol):
    """`TokenBuckets` of keys: what a door needs of them."""

    @property
    def per_second(self) -> float:
        """Tokens that a bucket gains."""

    def take(self, sender: bytes, tokens: float, now_s: float, /) -> float:
        """Take tokens and return 0; or take none and return the seconds after which they will be there."""

    def has_more_than(self, tokens: float, sender: bytes, now_s: float, /) -> bool:
        """Return whether one more token could be taken after so many, one by one; takes none."""

    def give_back(self, sender: bytes, tokens: float, /) -> None:
        """Undo a take."""


class Refusal(NamedTuple):
    """Why something is not let in.

    Attributes:
        reason: a DoorReason.
        detail: what exactly is wrong and what to do; at most DETAIL_BYTES_MAX bytes.
        retry_after_ms: when to send the same bytes again; 0: waiting alone does not help.
        is_final: the same bytes can never be executed.
        may_change: the view of shard 0 may be behind: catch up once and judge again.
        blames_sender: a signature was checked for nothing; the address pays for it (`Door.blame`).
        hides_signer: whoever signed is not proven, so nothing of the payload is told.
    """

    reason: reasons.DoorReason
    detail: str
    retry_after_ms: int = 0
    is_final: bool = False
    may_change: bool = False
    blames_sender: bool = False
    hides_signer: bool = False


class ReadBatch:
    """A batch whose bytes are in order.

    Attributes:
        key_id, payload, signature: as they came.
        account, shard, nonce, valid_until_ms: as the payload says.
        commands: how many commands it has.
        only_cancels: whether all of them cancel or reduce orders.
        verdict: the public key under which the signature was verified, and whether it is valid; None: not yet.
    """

    __slots__ = (
        "account",
        "commands",
        "key_id",
        "nonce",
        "only_cancels",
        "payload",
        "shard",
        "signature",
        "valid_until_ms",
        "verdict",
    )

    def __init__(self, key_id: bytes, payload: bytes, signature: bytes, head: BatchHead) -> None:
        self.key_id = key_id
        self.payload = payload
        self.signature = signature
        self.account, self.shard, self.nonce, self.valid_until_ms, self.commands, self.only_cancels = head
        self.verdict: tuple[bytes, bool] | None = None

    def as_frame_field(self) -> bytes:
        """Return the batch as an element of OrderFrame.batches: tag, length and canonical encoding."""
        payload = self.payload
        head = b"\x0a\x10" + self.key_id + b"\x12" + varint(len(payload))
        return b"\x32" + varint(len(head) + len(payload) + 66) + head + payload + b"\x1a\x40" + self.signature


def varint(value: int) -> bytes:
    """Return the minimal varint of 0 <= value < 2^64."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ONE_BYTE: Final = [bytes([value]) for value in range(0x80)]


def read_batch(key_id: bytes, payload: bytes, signature: bytes) -> ReadBatch | Refusal:
    """Return the batch if its bytes are in order, else why not: MALFORMED or BATCH_SIZE."""
    if len(key_id) != KEY_ID_BYTES:
        return _malformed(f"key_id at byte 0 of the signed batch: {len(key_id)} bytes, it has {KEY_ID_BYTES}")
    if not payload:
        return _batch_size("the payload is empty; put 1 to 1,024 commands into it and sign it")
    if len(payload) > BATCH_BYTES_MAX:
        return _batch_size(
            f"the payload has {len(payload)} bytes, allowed are {BATCH_BYTES_MAX}; split it and sign again"
        )
    if len(signature) != SIGNATURE_BYTES:
        at = 2 + KEY_ID_BYTES + 1 + len(varint(len(payload))) + len(payload)
        return _malformed(
            f"signature at byte {at} of the signed batch: {len(signature)} bytes, it has {SIGNATURE_BYTES}"
        )
    try:
        head = read_head(payload)
    except WireError as error:
        if error.reason is WireReason.LENGTH and error.field == "commands":
            return _batch_size(
                f"{error.detail}; commands of a batch are 1 to {BATCH_COMMANDS_MAX}; split it and sign again"
            )
        return _malformed(f"payload: {error}")
    return ReadBatch(key_id, payload, signature, head)


class Door:
    """Judges batches by keys, clock and rates.

    Attributes:
        control: shard 0 as it is known.
        address_rates: tokens by address of the sender, one for each batch and each call.
        key_rates: tokens by key, one for each batch.
        max_validity_ms: longest validity by shard, where it is known.
        time_us: latest time of an entry by shard, where one is known: a shard's time never goes back.
        verifier: what verifies signatures.
        signed_prefix: what stands before a payload where it is signed.
    """

    def __init__(
        self,
        environment: str,
        control: Control,
        address_rates: TokenBuckets,
        key_rates: KeyBuckets,
    ) -> None:
        """Make a door.

        Args:
            environment: that batches must have been signed for.
            control: shard 0 as it is known; whoever uses the door catches up with it.
            address_rates: buckets of senders, which may be shared with other doors of the process.
            key_rates: buckets of keys, likewise.
        """
        check_environment(environment)
        self.environment = environment
        self.control = control
        self.address_rates = address_rates
        self.key_rates = key_rates
        self.max_validity_ms: dict[int, int] = {}
        self.time_us: dict[int, int] = {}
        self.verifier = make_verifier(KNOWN_KEYS_MAX)
        self.signed_prefix = SignedKind.BATCH.value + environment.encode("ascii") + b"\0"

    def wrong_environment(self, named: str) -> Refusal | None:
        """Return the refusal of a request that names another environment; one that names none is not refused."""
        if not named or named == self.environment:
            return None
        return Refusal(
            reasons.DOOR_REASON_WRONG_ENVIRONMENT,
            clip(
                f"the request is for environment {named!r}, this one is {self.environment!r}; connect to the other "
                "one, or sign for this one"
            ),
        )

    def admit_address(self, address: str, tokens: float, now_s: float) -> Refusal | None:
        """Take tokens of the sender's address, before anything is looked at; return TOO_FAST if it has not so many."""
        wait_s = self.address_rates.take(address, tokens, now_s)
        if not wait_s:
            return None
        rate = self.address_rates.per_second
        return _too_fast(f"your address sends more than {rate:g} batches and calls per second", wait_s)

    def verify(self, batches: Iterable[object], now_s: float) -> None:
        """Verify batches together, which is cheaper than one by one; `judge` finds the verdicts.

        What is no ReadBatch or has no key is passed over, and what exceeds its key's rate: that costs no verification.

        Args:
            batches: those that are judged next, in their order.
            now_s: a clock that never goes back, for the rates.
        """
        keys = self.control.view.keys
        asked: Counter[bytes] = Counter()
        rows: list[tuple[ReadBatch, bytes]] = []
        for one in batches:
            if type(one) is not ReadBatch or (key := keys.get(one.key_id)) is None or key.revoked:
                continue
            if self.key_rates.has_more_than(asked[one.key_id], one.key_id, now_s):
                asked[one.key_id] += 1
                rows.append((one, key.public_key))
        verdicts = self.verifier.verify_batch(
            [self.signed_prefix + batch.payload for batch, _ in rows],
            b"".join(batch.signature for batch, _ in rows),
            b"".join(public_key for _, public_key in rows),
        )
        for (batch, public_key), valid in zip(rows, verdicts, strict=True):
            batch.verdict = public_key, valid

    def blame(self, address: str, batches: int, now_s: float) -> None:
        """Let an address pay for signatures that were checked for nothing: a flood of them must stay cheap."""
        self.address_rates.charge(address, BLAME_TOKENS * batches, now_s)

    def judge(self, batch: ReadBatch, now_us: int, now_s: float) -> Refusal | None:
        """Return why a batch is not let in, or None: it may be handed on under the view's position.

        Args:
            batch: that was read.
            now_us: clock of the ingress, microseconds since 1970-01-01 UTC.
            now_s: a clock that never goes back, for the rates.
        """
        key = (view := self.control.view).keys.get(batch.key_id)
        if key is None:
            return bad_key(may_change=True)
        if key.revoked:
            return bad_key()
        wait_s = self.key_rates.take(batch.key_id, 1, now_s)
        if wait_s:
            return self.key_too_fast(wait_s)
        if not self._is_signed(batch, key.public_key):
            # Whoever names a key without having it must not use up what its owner may send.
            self.key_rates.give_back(batch.key_id, 1)
            return bad_key(blames_sender=True)
        account = batch.account
        if view.user_of.get(account) != key.user or (key.account and key.account != account):
            return account_not_of_key(account)
        if batch.shard not in view.shards:
            return unknown_shard(batch.shard)
        return self._judge_time(batch, now_us)

    def key_too_fast(self, wait_s: float) -> Refusal:
        """Return the refusal of a batch whose key has no token left."""
        return _too_fast(f"the key sends more than {self.key_rates.per_second:g} batches per second", wait_s)

    def _is_signed(self, batch: ReadBatch, public_key: bytes) -> bool:
        if batch.verdict is None or batch.verdict[0] != public_key:
            [valid] = self.verifier.verify_batch([self.signed_prefix + batch.payload], batch.signature, public_key)
            batch.verdict = public_key, valid
        return batch.verdict[1]

    def _judge_time(self, batch: ReadBatch, now_us: int) -> Refusal | None:
        shard_us = max(now_us - SKEW_MS_MAX * 1000, self.time_us.get(batch.shard, 0))
        until_ms = batch.valid_until_ms
        if until_ms * 1000 <= shard_us:
            return batch_expired(until_ms, shard_us)
        allowed_ms = self.max_validity_ms.get(batch.shard, VALIDITY_MS_MAX)
        too_early_ms = until_ms - allowed_ms - now_us // 1000
        if too_early_ms > SKEW_MS_MAX:
            return validity_too_long(batch, too_early_ms, allowed_ms)
        return None


def make_door(environment: Environment, control: Control, settings: IngressSettings) -> Door:
    """Return a door as the settings say, with buckets of its own, that looks at shard 0 as `control` knows it.

    Raises:
        ValueError: the library of the verifier's fast path is there and cannot be loaded.
    """
    return Door(
        environment.name,
        control,
        TokenBuckets(settings.address_per_second, settings.address_burst),
        key_buckets(settings.key_per_second, settings.key_burst),
    )


def as_error(refusal: Refusal) -> errors.Refusal:
    """Return a refusal as the end of a call."""
    return errors.refused(refusal.reason, refusal.detail, retry_after_ms=refusal.retry_after_ms or None)


def executable_until_ms(valid_until_ms: int | None, is_final: bool) -> int:
    """Return what a sender is told of bytes that have no outcome: when they can no longer be executed; 0: never can.

    Never too early: a batch that one ingress refuses because it knows too little, another may let in, and a sender that
    was told less would sign the same order again.
    """
    return 0 if is_final or valid_until_ms is None else valid_until_ms


def clip(detail: str) -> str:
    """Return a detail that fits its field."""
    raw = detail.encode(errors="replace")
    return detail if len(raw) <= DETAIL_BYTES_MAX else raw[: DETAIL_BYTES_MAX - 3].decode(errors="ignore") + "..."


def bad_key(*, may_change: bool = False, blames_sender: bool = False) -> Refusal:
    """Return the refusal of a batch whose signer is not proven."""
    reason = reasons.DOOR_REASON_BAD_KEY_OR_SIGNATURE
    return Refusal(reason, _BAD_KEY, may_change=may_change, blames_sender=blames_sender, hides_signer=True)


def account_not_of_key(account: int) -> Refusal:
    """Return the refusal of a batch for an account that its key may not sign for."""
    return Refusal(
        reasons.DOOR_REASON_ACCOUNT_NOT_OF_KEY,
        f"the key may not sign for account {account}, or there is no such account; sign with a key of its user",
        may_change=True,
    )


def unknown_shard(shard: int) -> Refusal:
    """Return the refusal of a batch for a shard that is not in the map."""
    return Refusal(
        reasons.DOOR_REASON_UNKNOWN_SHARD,
        f"there is no shard {shard}; GetExchange lists the shards, ListMarkets says which has a market",
        may_change=True,
    )


def batch_expired(until_ms: int, shard_us: int) -> Refusal:
    """Return the refusal of a batch that can never be executed."""
    return Refusal(
        reasons.DOOR_REASON_BATCH_EXPIRED,
        f"valid_until_ms {until_ms} passed {shard_us // 1000 - until_ms} ms ago or more, so the batch can "
        "never be executed; sign a new one and check the clock. If these bytes were sent before, GetOutcome "
        "tells what became of them",
        is_final=True,
    )


def validity_too_long(batch: ReadBatch, too_early_ms: int, allowed_ms: int) -> Refusal:
    """Return the refusal of a batch that is valid for longer than its shard allows."""
    return Refusal(
        reasons.DOOR_REASON_VALIDITY_TOO_LONG,
        f"valid_until_ms {batch.valid_until_ms} is {too_early_ms + allowed_ms} ms away, shard {batch.shard} allows "
        f"{allowed_ms}; send the same bytes later, or sign a shorter one",
        retry_after_ms=min(too_early_ms, 2**32 - 1),
    )


def _malformed(what: str) -> Refusal:
    return Refusal(
        reasons.DOOR_REASON_MALFORMED,
        clip(f"{what}; a payload must be the canonical encoding of a Batch: encode it again and sign it again"),
        is_final=True,
    )


def _batch_size(what: str) -> Refusal:
    return Refusal(reasons.DOOR_REASON_BATCH_SIZE, clip(what), is_final=True)


def _too_fast(what: str, wait_s: float) -> Refusal:
    wait_ms = int(wait_s * 1000) + 1
    return Refusal(
        reasons.DOOR_REASON_TOO_FAST,
        f"{what}; send the same bytes again in {wait_ms} ms, and slow down",
        wait_ms,
        hides_signer=True,
    )

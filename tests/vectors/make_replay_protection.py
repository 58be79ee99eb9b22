"""Makes replay_protection.json: batches that come again, late or early, and what a shard says of each.

Verdicts, and which nonces are burnt, are stated by hand and checked against the reference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exchange.domain.commands import Batch, CancelAllOrders, SignedBatch
from exchange.domain.frames import OrderFrame
from exchange.domain.markets import DEFAULT_SETTINGS, ShardSettings
from exchange.domain.operations import OperatorRole, RaiseControlFloor
from exchange.domain.state import LiveNonce
from exchange.engine.reference import ReferenceFactory
from exchange.local.venue import START_US, UNSIGNED, Venue
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.messages import encode
from tests.support.plain import ENCODING
from tests.support.verdicts import verdicts

START_MS: Final = START_US // 1000
MINUTE_MS: Final = 60_000
ALICE_KEY, BOB_KEY = bytes([0xA1] * 16), bytes([0xB0] * 16)
U64_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch, and what becomes of it.

    Attributes:
        valid_ms: how long after START_MS it may be executed.
        verdict: EXECUTED, REPEAT, or the reason for its refusal; n and place: of the first one, where it is a REPEAT.
        side: of the mass cancel in it; another side makes another digest.
        burns: its nonce is kept from now on.
    """

    nonce: int
    valid_ms: int
    verdict: str
    n: int = 0
    place: int = 0
    key_id: bytes = ALICE_KEY
    side: int = 0
    shard: int = 1
    payload: bytes | None = None

    @property
    def burns(self) -> bool:
        return self.verdict == EXECUTED

    def signed(self) -> SignedBatch:
        """Return the batch as it stands in a frame. A trading shard leaves signatures to the ingress."""
        batch = Batch(7, self.shard, self.nonce, START_MS + self.valid_ms, (CancelAllOrders(side=self.side),))
        return SignedBatch(self.key_id, encode(batch) if self.payload is None else self.payload, UNSIGNED)


@dataclass(frozen=True, slots=True)
class Step:
    """An entry `after_us` after START_US: batches in one frame, or bytes that are no frame; or a new control floor."""

    after_us: int
    sent: tuple[Sent, ...] = ()
    control_n: int = 0
    frame: bytes | None = None
    floor: int = 0


def _at(after_us: int, *sent: Sent, control_n: int = 0) -> Step:
    return Step(after_us, sent, control_n)


REPEAT, EXECUTED, EXPIRED, REUSED = "REPEAT", "EXECUTED", "BATCH_EXPIRED", "NONCE_REUSED"
TOO_LONG, TOO_MANY, STALE = "VALIDITY_TOO_LONG", "TOO_MANY_NONCES", "STALE_CONTROL"
SEQUENCES: Final[tuple[tuple[str, ShardSettings, tuple[Step, ...]], ...]] = (
    (
        "expires-at-its-last-moment",
        DEFAULT_SETTINGS,
        (
            _at(0, Sent(1, 0, EXPIRED), Sent(2, 1, EXECUTED), Sent(3, -1, EXPIRED)),
            _at(999, Sent(4, 1, EXECUTED), Sent(5, 0, EXPIRED)),
            _at(1000, Sent(6, 1, EXPIRED), Sent(7, 2, EXECUTED)),
            _at(1001, Sent(8, 1, EXPIRED), Sent(9, 2, EXECUTED)),
        ),
    ),
    (
        "valid-for-too-long-may-be-sent-again",
        DEFAULT_SETTINGS,
        (
            _at(0, Sent(1, MINUTE_MS, EXECUTED), Sent(2, MINUTE_MS + 1, TOO_LONG), Sent(3, 2 * MINUTE_MS, TOO_LONG)),
            _at(999, Sent(2, MINUTE_MS + 1, TOO_LONG)),
            _at(1000, Sent(2, MINUTE_MS + 1, EXECUTED), Sent(3, 2 * MINUTE_MS, TOO_LONG)),
            _at(1001, Sent(2, MINUTE_MS + 1, REPEAT, 3, 1)),
        ),
    ),
    (
        "another-longest-validity",
        ShardSettings(1_000, 65_536, 100_000),
        (_at(0, Sent(1, 1_000, EXECUTED), Sent(2, 1_001, TOO_LONG)),),
    ),
    (
        "farthest-time",
        DEFAULT_SETTINGS,
        (_at(0, Sent(1, 2**53 - 1 - START_MS, TOO_LONG)),),
    ),
    (
        "same-bytes-repeat-and-other-bytes-reuse",
        DEFAULT_SETTINGS,
        (
            _at(0, Sent(0, 9, EXECUTED), Sent(0, 9, REPEAT, 1, 1), Sent(1, 9, EXECUTED), Sent(1, 9, REPEAT, 1, 3)),
            _at(0, Sent(1, 9, REPEAT, 1, 3), Sent(1, 9, REUSED, side=1), Sent(1, 8, REUSED), Sent(0, 9, REPEAT, 1, 1)),
            _at(5, Sent(1, 9, EXECUTED, key_id=BOB_KEY), Sent(U64_MAX, 9, EXECUTED), Sent(1, 9, REUSED, side=2)),
            _at(6, Sent(U64_MAX, 9, REPEAT, 3, 2), Sent(1, 9, REPEAT, 3, 1, key_id=BOB_KEY), Sent(1, 9, REPEAT, 1, 3)),
        ),
    ),
    (
        "nonce-is-free-when-its-batch-has-expired",
        DEFAULT_SETTINGS,
        (
            _at(0, Sent(1, 9, EXECUTED), Sent(2, 10, EXECUTED)),
            _at(8_999, Sent(1, 9, REPEAT, 1, 1), Sent(1, 20, REUSED)),
            _at(9_000, Sent(1, 9, EXPIRED), Sent(2, 10, REPEAT, 1, 2), Sent(1, 20, EXECUTED), Sent(1, 9, REUSED)),
            _at(9_001, Sent(1, 20, REPEAT, 3, 3), Sent(1, 21, REUSED)),
            _at(3_600_000_000, Sent(1, 20, EXPIRED)),
        ),
    ),
    (
        "too-many-live-nonces",
        ShardSettings(60_000, 2, 100_000),
        (
            _at(0, Sent(1, 5, EXECUTED), Sent(2, 9, EXECUTED), Sent(3, 9, TOO_MANY), Sent(3, 9, TOO_MANY)),
            _at(1, Sent(1, 5, REPEAT, 1, 1), Sent(2, 9, REUSED, side=1), Sent(3, 9, EXECUTED, key_id=BOB_KEY)),
            _at(4_999, Sent(3, 9, TOO_MANY)),
            _at(5_000, Sent(3, 9, EXECUTED), Sent(4, 9, TOO_MANY), Sent(1, 9, TOO_MANY)),
            _at(9_000, Sent(3, 9, EXPIRED), Sent(4, 10, EXECUTED)),
        ),
    ),
    (
        "stale-control-burns-nothing",
        DEFAULT_SETTINGS,
        (
            _at(0, Sent(1, 9, EXECUTED)),
            Step(0, floor=5),
            _at(
                0,
                Sent(1, 9, REPEAT, 1, 1),
                Sent(1, 9, REUSED, side=1),
                Sent(2, 9, STALE),
                Sent(2, 9, STALE),
                control_n=4,
            ),
            _at(1, Sent(1, 9, REPEAT, 1, 1), Sent(1, 9, REUSED, side=1), Sent(2, 9, EXECUTED), control_n=5),
            _at(2, Sent(2, 9, REPEAT, 4, 3), Sent(3, 0, EXPIRED), Sent(3, 9, STALE), control_n=0),
            _at(3, Sent(2, 9, REPEAT, 4, 3), Sent(4, 9, EXECUTED), control_n=U64_MAX),
        ),
    ),
    (
        "what-is-refused-before-burns-nothing",
        DEFAULT_SETTINGS,
        (
            _at(
                0,
                Sent(1, 9, "WRONG_SHARD", shard=2),
                Sent(1, 0, EXPIRED),
                Sent(1, MINUTE_MS + 1, TOO_LONG),
                Sent(1, 9, "MALFORMED", payload=b"\xff"),
                Sent(1, 9, EXECUTED),
            ),
            _at(1, Sent(1, 9, "WRONG_SHARD", shard=0), Sent(1, 9, REPEAT, 1, 5)),
        ),
    ),
    (
        "precedence",
        ShardSettings(1_000, 1, 100_000),
        (
            Step(0, floor=5),
            _at(0, Sent(1, 9, EXECUTED), control_n=5),
            _at(1, Sent(1, 9, "WRONG_SHARD", shard=2), Sent(1, 9, REPEAT, 2, 1), Sent(1, -1, REUSED), control_n=4),
            _at(2, Sent(2, -1, EXPIRED), Sent(2, 5_000, TOO_LONG), Sent(2, 9, STALE), control_n=4),
            _at(3, Sent(2, 9, TOO_MANY), control_n=5),
        ),
    ),
    (
        "malformed-frame-lets-time-pass",
        DEFAULT_SETTINGS,
        (
            _at(0, Sent(1, 9, EXECUTED)),
            Step(9_000, frame=b"\xff"),
            _at(9_000, Sent(1, 9, EXPIRED), Sent(1, 10, EXECUTED)),
        ),
    ),
)


def vectors() -> dict[str, Any]:
    """Return the document."""
    return {
        "format": 1,
        "what": "Entries of shard 1, what it says of each batch, and which nonces are live after each entry.",
        "rule": (
            "ARCHITECTURE.md, Replay protection: with t the entry's time, a batch is valid iff t < valid_until <= t + "
            "max_validity. (key, nonce) is kept until valid_until has passed; the same digest is a REPEAT of (n, "
            "batch), another is NONCE_REUSED, whatever else is wrong with it. EXECUTED burns the nonce; what is "
            "refused leaves no trace. A trading shard does not look at signatures: they are zero."
        ),
        "encoding": ENCODING,
        "sequences": [_sequence(*sequence) for sequence in SEQUENCES],
    }


def _sequence(name: str, settings: ShardSettings, steps: Sequence[Step]) -> dict[str, Any]:
    venue = Venue(ReferenceFactory(), environment="vectors", settings=settings, signed=False)
    return {"name": name, "genesis": venue.genesis.hex(), "entries": [*_entries(name, venue, steps)]}


def _entries(name: str, venue: Venue, steps: Sequence[Step]) -> Iterator[dict[str, Any]]:
    live: dict[tuple[bytes, int], int] = {}
    for n, step in enumerate(steps, 1):
        venue.now_us = START_US + step.after_us
        if step.floor:
            venue.operate(OperatorRole.TREASURY, RaiseControlFloor(step.floor))
        else:
            venue.enter_raw(_frame(n, step) if step.frame is None else step.frame)
        live = {key: until for key, until in live.items() if until * 1000 > venue.now_us}
        live |= {(sent.key_id, sent.nonce): START_MS + sent.valid_ms for sent in step.sent if sent.burns}
        results = [_result(sent) for sent in step.sent]
        found = verdicts(venue.frames[-1])
        assert found == results, f"{name}, entry {n}: {found}"
        assert kept_nonces(venue.engine.checkpoint()) == sorted(live), f"{name}, entry {n}"
        yield {
            "n": str(n),
            "t_us": str(venue.now_us),
            "order_frame": venue.entries[-1].order_frame.hex(),
            "batches": [_described(sent) | result for sent, result in zip(step.sent, results, strict=True)],
            "live_nonces": [{"key_id": key_id.hex(), "nonce": str(nonce)} for key_id, nonce in sorted(live)],
        }


def _frame(n: int, step: Step) -> bytes:
    batches = tuple(sent.signed() for sent in step.sent)
    return encode(OrderFrame(1, bytes(16), n, START_US, step.control_n, batches))


def _result(sent: Sent) -> dict[str, str | int]:
    if sent.verdict == REPEAT:
        return {"verdict": REPEAT, "repeat_n": str(sent.n), "repeat_batch": sent.place}
    return {"verdict": sent.verdict}


def _described(sent: Sent) -> dict[str, str]:
    return {"key_id": sent.key_id.hex(), "nonce": str(sent.nonce), "valid_until_ms": str(START_MS + sent.valid_ms)}


def kept_nonces(checkpoint: bytes) -> list[tuple[bytes, int]]:
    """Return key and nonce of all live nonces in a checkpoint."""
    nonces: tuple[LiveNonce, ...] = read_shard_checkpoint(checkpoint).core.nonces
    return [(live.key_id, live.nonce) for live in nonces]

"""Makes limits.json: LIMITS as numbers, and bytes that are at a limit or one beyond it."""

from collections.abc import Iterator
from typing import Any

from exchange.domain import limits
from tests.support.raw_wire import Runs, join, runs, scalar, sized, tag, varint
from tests.vectors.make_strict_bytes import (
    BATCH_PARTS,
    CONTROL_REQUEST_PARTS,
    EXECUTION_FRAME_PARTS,
    KEY_ID,
    LINK_PARTS,
    OPERATION_PARTS,
    ORDER_FRAME_PARTS,
    SIGNATURE,
    SIGNED_BATCH_PARTS,
    Part,
)

CANCEL = sized(5, b"\x12\x00").data
"""The smallest command of a batch."""
SIGNATURE_FIELD = sized(3, SIGNATURE).data


def vectors() -> dict[str, Any]:
    """Return the document."""
    return {
        "format": 1,
        "what": "LIMITS of v1, and bytes that are at a limit or one beyond it.",
        "rule": (
            "ARCHITECTURE.md, Strict bytes: LIMITS belong to v1 and never change within it. A length of the whole is "
            "checked before anything is parsed. `verdict` is what a strict decoder of the message says; `good`, or a "
            "reason with field and offset. `frame_commands` are order frames that are canonical, and malformed as a "
            "whole when their batches have more commands than a frame may."
        ),
        "encoding": "bytes are hex; `runs` are bytes as hex and how often they come, one run after the other",
        "limits": {name: number for name, number in vars(limits).items() if name.isupper()},
        "cases": [*_counts(), *_sizes()],
        "frame_commands": [*_frame_commands()],
    }


def _case(name: str, message: str, data: Runs, reason: str = "", field: str = "", offset: int = 0) -> dict[str, Any]:
    case: dict[str, Any] = {"name": f"{message}/{name}", "message": message, "runs": data}
    return case | ({"verdict": reason, "field": field, "offset": offset} if reason else {"verdict": "good"})


def _head(parts: tuple[Part, ...]) -> bytes:
    """Return the fields of a message that stand before its lists."""
    return join(*(part.raw() for part in parts if part.kind != "list" and part.name != "request_id")).data


def _counts() -> Iterator[dict[str, Any]]:
    registered = sized(9, join(*(part.raw() for part in CONTROL_REQUEST_PARTS))).data
    signed = sized(1, b"\1").data + sized(2, SIGNATURE).data
    batch = sized(6, join(*(part.raw() for part in SIGNED_BATCH_PARTS))).data
    for message, parts, field, element, most in (
        ("Batch", BATCH_PARTS, "commands", CANCEL, 1_024),
        ("Operation", OPERATION_PARTS, "actions", sized(4, sized(5, b"")).data, 1_024),
        ("Link", LINK_PARTS, "transfers", sized(5, scalar(3, 1)).data, 1_024),
        ("OrderFrame", ORDER_FRAME_PARTS, "batches", batch, 16_384),
        ("OrderFrame", ORDER_FRAME_PARTS, "links", sized(7, signed).data, 64),
        ("OrderFrame", ORDER_FRAME_PARTS, "operations", sized(8, signed).data, 64),
        ("OrderFrame", ORDER_FRAME_PARTS, "requests", registered, 1_024),
    ):
        head = _head(parts)
        yield _case(f"{most}-{field}", message, runs((head, 1), (element, most)))
        beyond = len(head) + most * len(element)
        data = runs((head, 1), (element, most + 1))
        yield _case(f"{most + 1}-{field}", message, data, "LENGTH", field, beyond)
    head = _head(BATCH_PARTS)
    yield _case("0-commands", "Batch", runs((head, 1)), "LENGTH", "commands", 0)


def _sizes() -> Iterator[dict[str, Any]]:
    """Fill messages to their longest encoding with one long string or payload, and go one byte beyond."""
    withdraw, tag_action, event = (5, 8, 3), (4, 10, 2), (7, 32, 7)
    for message, parts, path, most in (
        ("Batch", BATCH_PARTS, withdraw, 65_536),
        ("Operation", OPERATION_PARTS, tag_action, 262_144),
        ("ExecutionFrame", EXECUTION_FRAME_PARTS, event, 32 * 1024 * 1024),
    ):
        head = _head(parts)
        yield _case(f"{most}-bytes", message, _filled(head, path, most))
        yield _case(f"{most + 1}-bytes", message, _filled(head, path, most + 1), "LENGTH", message)
    for message, most in (("Link", 65_536), ("Registration", 256)):
        # Their fields cannot fill so much: a decoder that reads before it measures would give another reason.
        yield _case(f"{most + 1}-bytes-of-nothing", message, runs((b"\0", most + 1)), "LENGTH", message)
        yield _case(f"{most}-bytes-of-nothing", message, runs((b"\0", most)), "UNKNOWN_FIELD", "0")
    yield from _order_frames()
    payload = 65_536
    for length in (payload, payload + 1):
        head = _head(ORDER_FRAME_PARTS)
        data = _signed_batch(length)
        verdict = ("LENGTH", "batches[0].payload", len(head) + 4 + 18) if length > payload else ()
        yield _case(f"payload-of-{length}-bytes", "OrderFrame", runs((head, 1), *data), *verdict)


def _filled(head: bytes, path: tuple[int, ...], total: int) -> Runs:
    """Return a message of `total` bytes, all but its head one string at the end of a path of field numbers."""
    length = total - len(head)
    before = b""
    for number in path:
        for content in range(length, 0, -1):
            if len(tag(number, 2) + varint(content)) + content == length:
                break
        else:
            raise AssertionError("no content has this length")
        before += tag(number, 2) + varint(content)
        length = content
    return runs((head + before, 1), (b"x", length))


def _signed_batch(payload_bytes: int) -> list[tuple[bytes, int]]:
    """Return a batch of a frame with a payload of this length, of 2^14 bytes or more, as parts of runs."""
    key_id, signature = sized(1, KEY_ID).data, SIGNATURE_FIELD
    payload = tag(2, 2) + varint(payload_bytes)
    length = len(key_id) + len(payload) + payload_bytes + len(signature)
    return [(tag(6, 2) + varint(length) + key_id + payload, 1), (b"\xff", payload_bytes), (signature, 1)]


def _order_frames() -> Iterator[dict[str, Any]]:
    most = 4 * 1024 * 1024
    head = _head(ORDER_FRAME_PARTS)
    full = _signed_batch(65_536)
    full_bytes = sum(len(data) * times for data, times in full)
    count = most // full_bytes
    around = sum(len(data) * times for data, times in _signed_batch(20_000)) - 20_000
    rest = most - len(head) - count * full_bytes - around
    yield _case(f"{most}-bytes", "OrderFrame", runs((head, 1), *(full * count), *_signed_batch(rest)))
    beyond = runs((head, 1), *(full * count), *_signed_batch(rest + 1))
    yield _case(f"{most + 1}-bytes", "OrderFrame", beyond, "LENGTH", "OrderFrame")


def _frame_commands() -> Iterator[dict[str, Any]]:
    """Spread commands over batches of 1,024, each of them good by itself."""
    head = _head(ORDER_FRAME_PARTS)
    for commands in (16_384, 16_385):
        parts: list[tuple[bytes, int]] = [(head, 1)]
        for first in range(0, commands, 1_024):
            count = min(1_024, commands - first)
            payload = sized(2, _head(BATCH_PARTS) + CANCEL * count).data
            signed = sized(6, sized(1, KEY_ID).data + payload + SIGNATURE_FIELD).data
            parts += [(signed.removesuffix(CANCEL * count + SIGNATURE_FIELD), 1), (CANCEL, count), (SIGNATURE_FIELD, 1)]
        yield {"name": f"{commands}-commands", "runs": runs(*parts), "well_formed": commands <= 16_384}

"""What a shard said of the batches of an entry, as vectors have it."""

from exchange.domain.events import BatchResult
from exchange.domain.frames import ExecutionFrame
from exchange.domain.rejects import RejectReason
from exchange.wire.messages import decode


def verdicts(execution_frame: bytes) -> list[dict[str, str | int]]:
    """Return EXECUTED, REPEAT with its place, or the reason of the refusal, batch by batch."""
    events = decode(ExecutionFrame, execution_frame).events
    results = [event for event in events if isinstance(event, BatchResult)]
    assert [result.batch for result in results] == list(range(1, len(results) + 1))
    return [_verdict(result) for result in results]


def _verdict(result: BatchResult) -> dict[str, str | int]:
    if result.repeat_n:
        return {"verdict": "REPEAT", "repeat_n": str(result.repeat_n), "repeat_batch": result.repeat_batch}
    return {"verdict": RejectReason(result.reason).name if result.reason else "EXECUTED"}

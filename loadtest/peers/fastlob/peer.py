"""The pure Python engine of the PyPI package fastlob on a flow file: `python peer.py FLOW-FILE RUNS SECONDS`.

Orders are made before the clock starts. It has no immediate-or-cancel: such an order is placed, and cancelled if it was
not filled; no flow here lets its rest trade in between. It counts makers that were filled, not trades, so that traded
quantity and money are compared and trades are not. Its thread that looks for expired orders is not started.
"""

import json
import logging
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

os.environ["FASTLOB_DECIMAL_PRECISION_PRICE"] = "1"
os.environ["FASTLOB_DECIMAL_PRECISION_QTY"] = "1"
logging.disable(logging.CRITICAL)

from fastlob import OrderParams, OrderSide, OrderType  # noqa: E402
from fastlob.enums import OrderStatus, ResultType  # noqa: E402
from fastlob.lob import Orderbook  # noqa: E402

TIMED: Final = 1 << 63
MESSAGE: Final = struct.Struct("<QqIIBBB5x")
WAITING: Final = (OrderStatus.PENDING, OrderStatus.PARTIAL)


class Flow:
    """A flow file as the engine wants it: market, id, order parameters or None for a cancel, whether it rests."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, self.markets, segments, messages, _orders = struct.unpack_from("<8sIIQQ", data)
        assert magic == b"CLOBFLW1"
        self.total = struct.unpack_from("<5Q", data, 32)
        self.segments = struct.unpack_from(f"<{segments}Q", data, 72)
        rows = MESSAGE.iter_unpack(data[72 + 8 * segments :])
        self.commands = list(self._commands(rows))
        assert len(self.commands) == messages

    def _commands(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[int, int, Any, bool]]:
        for order, price, quantity, market, kind, sells, force in rows:
            side = OrderSide.ASK if sells else OrderSide.BID
            params = None if kind == 1 else OrderParams(side, price, quantity, OrderType.GTC)
            yield market, order, params, force == 0


def run(flow: Flow) -> tuple[int, dict[str, int]]:
    """Return the processor nanoseconds of the timed segments and what came of all."""
    books = [Orderbook(f"M{market}") for market in range(flow.markets)]
    for book in books:
        book._alive = True
    ids: dict[int, str] = {}
    quantity = notional = rejected = timed_ns = start = 0
    for segment in flow.segments:
        end = start + (segment & ~TIMED)
        commands = flow.commands[start:end]
        start = end
        began = time.process_time_ns()
        for market, order, params, rests in commands:
            book = books[market]
            if params is None:
                try:
                    rejected += not book.cancel(ids[order]).success()
                except KeyError:  # a filled maker counts as open, and its price is gone (0.0.24)
                    rejected += 1
                continue
            result = book.process(params)
            ids[order] = result.orderid()
            if not rests and book.get_status(result.orderid())[0] in WAITING:
                book.cancel(result.orderid())
            if result.kind() is ResultType.LIMIT:
                continue
            for price, lots in result.execprices().items():
                quantity += lots
                notional += price * lots
        if segment & TIMED:
            timed_ns += time.process_time_ns() - began
    still_open = sum(
        limit.valid_orders() for book in books for side in (book._askside, book._bidside) for limit in side.limits()
    )
    return timed_ns, {
        "quantity": int(quantity),
        "notional": int(notional) % (1 << 64),
        "rejected": rejected,
        "open": still_open,
    }


def main() -> None:
    """Run and print one line of JSON."""
    path, runs, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    flow = Flow(path)
    messages = sum(segment & ~TIMED for segment in flow.segments if segment & TIMED)
    started = time.monotonic()
    runs_ns: list[int] = []
    total: dict[str, int] = {}
    for _ in range(max(1, runs)):
        took_ns, total = run(flow)
        runs_ns.append(took_ns)
        if time.monotonic() - started >= seconds:
            break
    agrees = (total["quantity"], total["notional"], total["open"]) == (flow.total[1], flow.total[2], flow.total[4])
    print(
        json.dumps(
            {
                "engine": "fastlob",
                "flow": path.stem,
                "messages": messages,
                "runs_ns": runs_ns,
                "trades": None,
                **total,
                "agrees": agrees,
            }
        )
    )


if __name__ == "__main__":
    main()

"""Writes what the fuzzer starts from: `base/` and `seeds/`, out of tests/vectors.

They are committed, so that `tests/corpora.rs` needs no Python; `--unpack` makes of `seeds/` the folders in `corpus/`
that the fuzzer takes. A file of seeds is each seed's length in 4 bytes, lowest first, and the seed.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from clob.v1 import order_service_pb2
from exchange.domain.commands import OrderType, PlaceOrder, Side
from exchange.domain.frames import OrderFrame
from exchange.domain.markets import LotRule, Market, TickRule
from exchange.domain.operations import Transfer
from exchange.domain.state import Checkpoint
from exchange.engine.reference import ReferenceFactory
from exchange.local.venue import Venue
from exchange.wire.errors import UnknownFormatError, WireError
from exchange.wire.messages import decode

HERE: Final = Path(__file__).resolve().parent
VECTORS: Final = HERE.parents[2] / "tests" / "vectors"
BYTES_MAX: Final = 4_096
"""Longest seed: a long one slows every run and shows nothing that a short one does not."""
DECODERS: Final = {
    "OrderFrame": "order_frame",
    "Batch": "batch",
    "Operation": "operation",
    "Link": "link",
    "Genesis": "genesis",
    "ExecutionFrame": "execution_frame",
    "ShardState": "state",
    "Checkpoint": "checkpoint",
}
ENVIRONMENT: Final = "vectors"


def files() -> dict[str, bytes]:
    """Return the content of every file by its path in this folder."""
    seeds: dict[str, set[bytes]] = {}
    for target, data in [*_from_strict_bytes(), *_from_logs(), *_for_commands()]:
        if data and len(data) <= BYTES_MAX:
            seeds.setdefault(target, set()).add(data)
    packed = {
        f"seeds/{target}.bin": b"".join(len(seed).to_bytes(4, "little") + seed for seed in sorted(there))
        for target, there in seeds.items()
    }
    return dict(_base()) | packed


def unpack() -> None:
    """Write each seed to a file of its own, for the fuzzer."""
    for path in (HERE / "seeds").glob("*.bin"):
        folder = HERE / "corpus" / path.stem
        folder.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:4], "little")
            seed, data = data[4 : 4 + length], data[4 + length :]
            (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def _base() -> Iterator[tuple[str, bytes]]:
    venue = Venue(ReferenceFactory(), environment=ENVIRONMENT, signed=False)
    plain = Market(
        market=1,
        shard=1,
        symbol="BTC-USD",
        base_asset=1,
        quote_asset=2,
        base_units_per_lot=10,
        quote_units_per_tick_lot=1,
        state=1,
    )
    venue.define_markets(
        replace(plain, maker_fee_ppm=333, taker_fee_ppm=777),
        replace(
            plain,
            market=2,
            symbol="ETH-USD",
            base_asset=3,
            tick_table=(TickRule(1, 1), TickRule(100, 5)),
            lot_table=(LotRule(1, 1), LotRule(101, 2)),
            band_low_ticks=80,
            band_high_ticks=125,
        ),
        replace(plain, market=3, symbol="BIG-USD", base_asset=4, base_units_per_lot=2**40),
    )
    venue.credit(*(Transfer(account, asset, 2**40) for account in (7, 8, 9, 10) for asset in (1, 2, 3, 4)))
    for account, side, price in ((7, Side.SELL, 100), (8, Side.SELL, 101), (9, Side.BUY, 98), (10, Side.BUY, 97)):
        venue.trade(
            account,
            *(
                PlaceOrder(market, side, OrderType.LIMIT, price_ticks=price, quantity_lots=4, client_order_id=market)
                for market in (1, 2)
                if market == 1 or price != 101
            ),
        )
    yield "base/genesis", venue.genesis
    yield "base/checkpoint", venue.engine.checkpoint()


def _from_strict_bytes() -> Iterator[tuple[str, bytes]]:
    document = json.loads((VECTORS / "strict_bytes.json").read_text())
    for case in [*document["good"], *document["bad"]]:
        if case["message"] in DECODERS and "hex" in case:
            yield DECODERS[case["message"]], bytes.fromhex(case["hex"])


def _from_logs() -> Iterator[tuple[str, bytes]]:
    document = json.loads((VECTORS / "executions.json").read_text())
    for log in document["logs"]:
        yield "genesis", bytes.fromhex(log["genesis"])
        if log["name"] == "control":
            continue
        checkpoint = bytes.fromhex(log["checkpoint"])
        yield "checkpoint", checkpoint
        yield "state", decode(Checkpoint, checkpoint).state
        entries, at = b"", 1_700_000_000_000_000
        for entry in log["entries"]:
            frame, t_us = bytes.fromhex(entry["order_frame"]), int(entry["t_us"])
            yield "order_frame", frame
            yield "execution_frame", bytes.fromhex(entry["execution_frame"])
            yield "ingress", bytes.fromhex(entry["execution_frame"])
            yield from _payloads(frame)
            if len(frame) < 2**16:
                later = min(max(0, t_us - at), 2**32 - 1)
                entries += later.to_bytes(4, "little") + len(frame).to_bytes(2, "little") + frame
                at += later
        yield "apply_frames", b"\0" + entries
        yield "apply_frames", b"\1" + entries


def _payloads(frame: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        parsed = decode(OrderFrame, frame)
    except (UnknownFormatError, WireError):
        return
    for target, parts in (("batch", parsed.batches), ("operation", parsed.operations), ("link", parsed.links)):
        for part in parts:
            yield target, part.payload
    submit = order_service_pb2.SubmitRequest(environment=ENVIRONMENT, with_stages=True, wait_ms_max=len(frame))
    for batch in parsed.batches:
        submit.batches.add(key_id=batch.key_id, payload=batch.payload, signature=batch.signature)
    yield "ingress", submit.SerializeToString(deterministic=True)
    streamed = order_service_pb2.SubmitStreamRequest(tag=len(parsed.batches), submit=submit)
    yield "ingress", streamed.SerializeToString(deterministic=True)


def _for_commands() -> Iterator[tuple[str, bytes]]:
    """Yield bytes from a counter: any bytes are commands."""
    for number in range(24):
        length = 40 + number * 24
        blocks = [hashlib.sha256(f"{number} {block}".encode()).digest() for block in range(length // 32 + 1)]
        yield "apply_commands", b"".join(blocks)[:length]


def main() -> None:
    """Write the files, or unpack them."""
    if "--unpack" in sys.argv:
        unpack()
        return
    wanted = files()
    for name, data in wanted.items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    sys.stdout.write(f"{len(wanted)} files, {sum(map(len, wanted.values()))} bytes\n")


if __name__ == "__main__":
    main()

"""The most that one entry can ask of an engine, within LIMITS: how long each takes, and what memory it adds.

`python -m tests.differential.worst` prints the table for one engine. What an entry may cost is bounded by
ENTRY_WORK_MAX and the size of a frame; each of these comes as near to a bound as one entry can.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

from exchange.domain.commands import (
    Batch,
    CancelAllOrders,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReleaseFunds,
    SignedBatch,
    TimeInForce,
)
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.limits import (
    FRAME_BATCHES_MAX,
    FRAME_BYTES_MAX,
    FRAME_LINKS_MAX,
    FRAME_OPERATIONS_MAX,
    LINK_TRANSFERS_MAX,
    OPERATION_ACTIONS_MAX,
)
from exchange.domain.markets import Market, MarketState, ShardSettings
from exchange.domain.operations import (
    CancelOrders,
    DefineMarket,
    Link,
    Operation,
    OperatorRole,
    SetMarketState,
    SignedLink,
    SignedOperation,
    Transfer,
)
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.choice import ENGINES, engine_named
from exchange.engine.port import Engine, EngineFactory, RawEntry
from exchange.local.venue import START_US, UNSIGNED, make_genesis, operator_seed
from exchange.reference.signing import sign
from exchange.wire.messages import encode
from tests.differential.making import INGRESS
from tests.support.raw_wire import sized

ENVIRONMENT: Final = "worst"
RICH: Final = 2**53
PAGE_BYTES: Final = 4_096


class Cost(NamedTuple):
    """What an entry took: seconds, bytes of memory that were not taken before, bytes in and out."""

    name: str
    seconds: float
    grown_bytes: int
    frame_bytes: int
    answer_bytes: int


class _Shard:
    def __init__(self, factory: EngineFactory) -> None:
        settings = ShardSettings(60_000, 1_048_576, 10_000_000)
        self.engine: Engine = factory.from_genesis(encode(make_genesis(ENVIRONMENT, 1, settings)))
        self.nonce = 0
        self.sequence = 0
        self.links = 0
        self.costs: list[Cost] = []

    def frame(self, **parts: Any) -> bytes:
        return encode(OrderFrame(FORMAT, INGRESS, self.engine.position + 1, START_US, 0, **parts))

    def enter(self, name: str, frame: bytes, *, later_us: int = 0) -> bytes:
        """Apply an entry; remember what it cost if it has a name."""
        entry = RawEntry(self.engine.position + 1, START_US + later_us, frame)
        before, started = _resident_bytes(), perf_counter()
        answer = self.engine.apply([entry])[0]
        seconds = perf_counter() - started
        self.sequence = self.engine.facts().sequences[OperatorRole.MARKET]
        if name:
            self.costs.append(Cost(name, seconds, _resident_bytes() - before, len(frame), len(answer)))
        return answer

    def batch(self, account: int, commands: Sequence[Command]) -> SignedBatch:
        self.nonce += 1
        payload = encode(Batch(account, 1, self.nonce, START_US // 1000 + 60_000, tuple(commands)))
        return SignedBatch(account.to_bytes(16, "big"), payload, UNSIGNED)

    def batches(self, account: int, commands: Sequence[Command]) -> tuple[SignedBatch, ...]:
        return tuple(self.batch(account, commands[start : start + 1_024]) for start in range(0, len(commands), 1_024))

    def operation(self, actions: Sequence[Any]) -> SignedOperation:
        self.sequence += 1
        payload = encode(Operation(1, OperatorRole.MARKET, self.sequence, tuple(actions)))
        seed = operator_seed(ENVIRONMENT, OperatorRole.MARKET)
        return SignedOperation(payload, sign(seed, signed_bytes(SignedKind.OPERATOR, ENVIRONMENT, payload)))

    def link(self, transfers: Sequence[Transfer]) -> SignedLink:
        self.links += 1
        payload = encode(Link(0, 1, self.links, 1, tuple(transfers)))
        seed = operator_seed(ENVIRONMENT, OperatorRole.TREASURY)
        return SignedLink(payload, sign(seed, signed_bytes(SignedKind.LINK, ENVIRONMENT, payload)))

    def open(self, markets: int, accounts: Sequence[int]) -> None:
        """Define so many markets and make accounts rich."""
        for start in range(1, markets + 1, 1_024):
            actions = [DefineMarket(_market(number)) for number in range(start, min(start + 1_024, markets + 1))]
            self.enter("", self.frame(operations=(self.operation(actions),)))
        self.enter("", self.frame(links=(self.link([Transfer(a, asset, RICH) for a in accounts for asset in (1, 2)]),)))

    def rest(self, account: int, orders: Sequence[PlaceOrder]) -> None:
        for start in range(0, len(orders), 16_384):
            self.enter("", self.frame(batches=self.batches(account, orders[start : start + 16_384])))


def _market(number: int) -> Market:
    return Market(number, 1, f"M{number}", 1, 2, 1, 1, state=MarketState.OPEN)


def _order(market: int, side: int, price: int, lots: int = 1, time_in_force: int = 0) -> PlaceOrder:
    return PlaceOrder(market, side, OrderType.LIMIT, time_in_force, False, 0, price, lots)


def _many_batches(shard: _Shard) -> None:
    shard.open(1, [1])
    batches = tuple(shard.batch(1, [_order(1, 1, 1 + place)]) for place in range(FRAME_BATCHES_MAX))
    shard.enter("16,384 batches, each an order at a price of its own", shard.frame(batches=batches))
    shard.enter("the same 16,384 batches again", shard.frame(batches=batches))
    refused = tuple(shard.batch(1, [_order(1, 1, 0)]) for _ in range(FRAME_BATCHES_MAX))
    shard.enter("16,384 batches, each an order that is refused", shard.frame(batches=refused))


def _fill_or_kill(shard: _Shard) -> None:
    shard.open(1, [1, 2])
    shard.rest(1, [_order(1, 2, 100 + place) for place in range(1_200)])
    orders = [_order(1, 1, 5_000, 2**20, TimeInForce.FOK)] * 16_384
    shard.enter(
        "16,384 fill-or-kill orders that 1,021 makers do not fill", shard.frame(batches=shard.batches(2, orders))
    )


def _takers(shard: _Shard) -> None:
    shard.open(1, [1, 2])
    shard.rest(1, [_order(1, 2, 100 + place) for place in range(65_536)])
    orders = [_order(1, 1, 2**20, 2**20, TimeInForce.IOC)] * 16_384
    shard.enter("16,384 takers on 65,536 makers, each at its price", shard.frame(batches=shard.batches(2, orders)))


def _mass_cancels(shard: _Shard, markets: int) -> None:
    shard.open(markets, [1])
    shard.rest(1, [_order(1 + place % markets, 1, 1 + place // markets) for place in range(markets * 2)])
    sells = [CancelAllOrders(0, 2)] * 16_384
    name = f"16,384 cancels of all asks of an account with bids in {markets:,} markets"
    shard.enter(name, shard.frame(batches=shard.batches(1, sells)))
    everything = [CancelAllOrders()] * 16_384
    shard.enter(f"16,384 cancels of all of {2 * markets:,} bids", shard.frame(batches=shard.batches(1, everything)))
    shard.enter("what is left of them", shard.frame())


def _operator_cancels(shard: _Shard) -> None:
    shard.open(1, [1])
    shard.rest(1, [_order(1, 1, 1 + place) for place in range(65_536)])
    actions = [CancelOrders(0, 1, 2)] * OPERATION_ACTIONS_MAX
    operations = tuple(shard.operation(actions) for _ in range(FRAME_OPERATIONS_MAX))
    shard.enter("65,536 operator cancels of asks that are not there", shard.frame(operations=operations))
    actions = [CancelOrders(0, 1)] * OPERATION_ACTIONS_MAX
    operations = tuple(shard.operation(actions) for _ in range(FRAME_OPERATIONS_MAX))
    shard.enter("65,536 operator cancels of 65,536 orders", shard.frame(operations=operations))


def _links(shard: _Shard) -> None:
    shard.open(1, [1])
    links = [
        shard.link([Transfer(1 << 32 | number << 10 | place, 1, 1) for place in range(LINK_TRANSFERS_MAX)])
        for number in range(FRAME_LINKS_MAX)
    ]
    shard.enter("64 links of 1,024 transfers, each to a new account", shard.frame(links=tuple(links)))


def _releases(shard: _Shard) -> None:
    shard.open(1, [1])
    commands = [ReleaseFunds(1, 1)] * 16_384
    shard.enter("16,384 releases", shard.frame(batches=shard.batches(1, commands)))


def _timers(shard: _Shard) -> None:
    shard.open(1, [1])
    actions = [SetMarketState(1, 1, START_US + 1_000 + place) for place in range(OPERATION_ACTIONS_MAX)]
    operations = tuple(shard.operation(actions) for _ in range(FRAME_OPERATIONS_MAX))
    shard.enter("65,536 timers set", shard.frame(operations=operations))
    shard.enter("as many of them due as one entry fires", shard.frame(), later_us=10_000)
    withdrawal = shard.operation([SetMarketState(1, 1)])
    shard.enter("the others withdrawn", shard.frame(operations=(withdrawal,)), later_us=10_000)


def _halts(shard: _Shard) -> None:
    shard.open(1, [1])
    shard.rest(1, [_order(1, 1, 1 + place) for place in range(65_536)])
    actions = [SetMarketState(1, state) for state in (MarketState.HALTED, MarketState.OPEN)] * (
        OPERATION_ACTIONS_MAX // 2
    )
    operations = tuple(shard.operation(actions) for _ in range(FRAME_OPERATIONS_MAX))
    shard.enter("65,536 halts and openings of a market with 65,536 orders", shard.frame(operations=operations))
    halt = (shard.operation([SetMarketState(1, MarketState.HALTED)]),)
    everything = [CancelAllOrders()] * 16_384
    frame = shard.frame(operations=halt, batches=shard.batches(1, everything))
    shard.enter("16,384 cancels of all, of which every market is halted", frame)


def _unknown_names(shard: _Shard) -> None:
    shard.open(1, [1])
    shard.rest(1, [_order(1, 1, 1 + place % 100) for place in range(98_304)])
    odd = [CancelOrder(1 << 52 | place) for place in range(1, 32_768, 2)]
    shard.enter("16,384 cancels, every second of the oldest orders", shard.frame(batches=shard.batches(1, odd)))
    shard.enter("the same 16,384 again", shard.frame(batches=shard.batches(1, odd)))


def _bytes(shard: _Shard) -> None:
    shard.open(1, [1])
    head = shard.frame()
    batch = sized(6, encode(SignedBatch(bytes(16), b"\x2a", bytes(64)))).data
    shard.enter("16,384 batches that are malformed", head + batch * FRAME_BATCHES_MAX)
    shard.enter("4 MiB that are no frame", b"\xff" * FRAME_BYTES_MAX)
    shard.enter("4 MiB of batches without an end", head + b"\x32\x00" * ((FRAME_BYTES_MAX - len(head)) // 2))
    empty = sized(6, sized(1, bytes(16)).data + sized(2, b"\x2a\x00" * 32_000).data + sized(3, bytes(64)).data).data
    shard.enter("4 MiB of batches of empty commands", head + empty * ((FRAME_BYTES_MAX - len(head)) // len(empty)))
    cancels = b"\x08\x01\x10\x01\x20\x01" + b"\x2a\x02\x2a\x00" * 16_000
    many = sized(6, sized(1, bytes(16)).data + sized(2, cancels).data + sized(3, bytes(64)).data).data
    shard.enter("4 MiB of batches of too many commands", head + many * ((FRAME_BYTES_MAX - len(head)) // len(many)))


SCENES: Final[tuple[Callable[[_Shard], None], ...]] = (
    _many_batches,
    _fill_or_kill,
    _takers,
    lambda shard: _mass_cancels(shard, 1_000),
    _operator_cancels,
    _links,
    _releases,
    _timers,
    _halts,
    _unknown_names,
    _bytes,
    lambda shard: _mass_cancels(shard, 21_000),
)


def costs_of(factory: EngineFactory, scenes: Sequence[Callable[[_Shard], None]] = SCENES) -> Iterator[Cost]:
    """Yield what each of the worst entries costs an engine; each scene has a shard of its own."""
    for scene in scenes:
        shard = _Shard(factory)
        scene(shard)
        yield from shard.costs


def table(costs: Sequence[Cost]) -> str:
    """Return costs as a table in Markdown."""
    lines = ["| entry | frame | answer | time | memory added |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {cost.name} | {cost.frame_bytes / 2**20:.2f} MiB | {cost.answer_bytes / 2**20:.2f} MiB "
        f"| {cost.seconds * 1e3:.1f} ms | {cost.grown_bytes / 2**20:.1f} MiB |"
        for cost in costs
    ]
    return "\n".join(lines)


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.worst", description=__doc__)
    parser.add_argument("--engine", default="core" if "core" in ENGINES else "reference")
    costs = list(costs_of(engine_named(parser.parse_args().engine)))
    print(table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

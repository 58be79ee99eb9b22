"""The core in Rust behind the port: the compiled module's tuples and exceptions become the port's.

Importing this needs the module `exchange_core`, which `make core` builds and installs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import exchange_core

from exchange.domain.markets import Market
from exchange.domain.operations import OperatorRole
from exchange.domain.stops import EngineStop, StopReason
from exchange.engine.port import BookCut, Level, OpenOrder, RawEntry, ShardFacts, Summary
from exchange.wire.checkpoint import CheckpointError
from exchange.wire.errors import UnknownFormatError, WireError, WireReason
from exchange.wire.messages import decode


class CoreWhatIf:
    """Batches, and the part of a shard that they can reach."""

    def __init__(self, what_if: exchange_core.WhatIf) -> None:
        self._what_if = what_if

    @property
    def position(self) -> tuple[int, int, bytes]:
        """Position, time and chain hash of the shard when the copy was taken."""
        return self._what_if.position

    def run(self) -> bytes:
        """Execute the batches on the copy and return the encoded execution frame."""
        with errors_of_the_project():
            return self._what_if.run()


class CoreShard:
    """A trading shard on the core."""

    def __init__(self, shard: exchange_core.Shard) -> None:
        self._shard = shard
        self._stopped: Exception | None = None
        self._markets: dict[bytes, Market] = {}

    @property
    def shard(self) -> int:
        return self._shard.shard

    @property
    def position(self) -> int:
        return self._shard.position

    @property
    def chain_hash(self) -> bytes:
        return self._shard.chain_hash

    @property
    def events_written(self) -> int:
        return self._shard.events_written

    def apply(self, entries: Sequence[RawEntry]) -> list[bytes]:
        shard = self._running()
        try:
            with errors_of_the_project():
                return shard.apply(entries)
        except Exception as stop:
            # Whatever it was, some of the entries may have been executed: nobody may go on from there.
            self._stopped = stop
            raise

    def has_due_work(self, t_us: int) -> bool:
        return self._running().has_due_work(t_us)

    def next_due_us(self) -> int | None:
        return self._running().next_due_us()

    def summary(self) -> Summary:
        return Summary(*self._running().summary())

    def state_hash(self) -> bytes:
        return self._running().state_hash()

    def checkpoint(self) -> bytes:
        return self._running().checkpoint()

    def facts(self) -> ShardFacts:
        position, t_us, sequences, control_floor, links_in = self._running().facts()
        of_role = {OperatorRole(role): sequence for role, sequence in sequences}
        return ShardFacts(position, t_us, of_role, control_floor, dict(links_in))

    def markets(self) -> dict[int, Market]:
        # Decoding 21,000 markets takes half a second, and hardly any has changed since they were asked for last.
        known = self._markets
        self._markets = {
            encoded: known.get(encoded) or decode(Market, encoded) for encoded in self._running().markets()
        }
        return {market.market: market for market in self._markets.values()}

    def depth(self, market: int, levels_max: int) -> tuple[list[Level], list[Level]]:
        found = self._running().depth(market, levels_max)
        if found is None:
            raise KeyError(market)
        bids, asks = ([Level(*level) for level in side] for side in found)
        return bids, asks

    def balances(self, account: int) -> dict[int, tuple[int, int]]:
        return {asset: (free, locked) for asset, free, locked in self._running().balances(account)}

    def open_orders(self, account: int) -> list[OpenOrder]:
        return [OpenOrder(*order) for order in self._running().open_orders(account)]

    def book(self, market: int, orders_per_side_max: int) -> BookCut:
        found = self._running().book(market, orders_per_side_max)
        if found is None:
            raise KeyError(market)
        return BookCut(*found)

    def what_if(self, batches: Sequence[bytes], t_us: int) -> CoreWhatIf:
        shard = self._running()
        with errors_of_the_project():
            return CoreWhatIf(shard.what_if(batches, t_us))

    def _running(self) -> exchange_core.Shard:
        if self._stopped is not None:
            raise self._stopped
        return self._shard


class CoreFactory:
    """Makes trading shards on the core."""

    name = "core"

    def from_genesis(self, genesis: bytes) -> CoreShard:
        return _made(exchange_core.Shard.from_genesis, genesis, ValueError)

    def from_checkpoint(self, checkpoint: bytes) -> CoreShard:
        return _made(exchange_core.Shard.from_checkpoint, checkpoint, CheckpointError)


def _made(make: Callable[[bytes], exchange_core.Shard], data: bytes, refused: type[ValueError]) -> CoreShard:
    with errors_of_the_project():
        try:
            return CoreShard(make(data))
        except exchange_core.LoadError as error:
            raise refused(*error.args) from None


def batch_head(payload: bytes) -> tuple[int, int, int, int, int, bool]:
    """Return what `exchange.engine.reading.read_head` does, as a tuple."""
    try:
        return exchange_core.batch_head(payload)
    except exchange_core.WireError as error:
        raise _wire_error(error) from None


def batch_verifier(known_keys_max: int) -> exchange_core.Verifier:
    """Return the verifier of batches, with the library of its fast path that came in the module's wheel, if one did.

    Raises:
        ValueError: that library cannot be loaded.
    """
    library = Path(exchange_core.__file__).parent / "lib" / "libexchange_ifma.so"
    if not library.is_file():
        return exchange_core.Verifier(known_keys_max)
    try:
        return exchange_core.Verifier(known_keys_max, library)
    except ValueError as error:
        raise ValueError(f"{error}; {library} came with the core: install it again (`make core`)") from error


@contextmanager
def errors_of_the_project() -> Iterator[None]:
    """Raise what the module raises as what the port documents."""
    try:
        yield
    except exchange_core.Stop as stop:
        reason, detail = stop.args
        raise EngineStop(StopReason(reason), detail) from None
    except exchange_core.UnknownFormat as error:
        raise UnknownFormatError(*error.args) from None
    except exchange_core.WireError as error:
        raise _wire_error(error) from None


def _wire_error(error: exchange_core.WireError) -> WireError:
    reason, field, offset, detail = error.args
    return WireError(WireReason(reason), field, offset, detail)

"""The ledger of the core: the same as the Python ledger in all that it says and refuses, and no statement per event.

Importing this needs the compiled module; `exchange.settlement.ledgers` looks whether it is there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import exchange_core

from exchange.domain.frames import ExecutionFrame
from exchange.domain.operations import Transfer
from exchange.engine.port import RawEntry
from exchange.settlement.frames import ReadFrame
from exchange.settlement.ledger import (
    KINDS,
    Draft,
    Holder,
    Ledger,
    LedgerError,
    LedgerReason,
    LedgerRows,
    LinkAnswer,
    MarketUnits,
    SentLink,
    WithdrawalChange,
    owner_of,
)
from exchange.wire.errors import UnknownFormatError
from exchange.wire.messages import decode

T = TypeVar("T")

# As their classes' own _make, which is a call of Python for each row.
_market_units = partial(tuple.__new__, MarketUnits)
_link_answer = partial(tuple.__new__, LinkAnswer)


@dataclass(slots=True)
class CoreDraft(Draft):
    """A draft with the columns that it was made of; None: it changes nothing."""

    columns: exchange_core.LedgerDraft | None = None


class CoreLedger(Ledger):
    """A ledger whose balances, markets and ends of links the core keeps."""

    def __init__(self, genesis: bytes, rows: LedgerRows | None = None) -> None:
        """Open the ledger as `Ledger` does."""
        kept = rows or LedgerRows()
        owners = list(kept.units)
        markets = list(kept.markets.values())
        self._core = exchange_core.Ledger(
            genesis,
            kept.n,
            kept.t_us,
            kept.chain_hash or None,
            (
                [owner[0] for owner in owners],
                [owner[1] for owner in owners],
                [owner[2] for owner in owners],
                list(kept.units.values()),
            ),
            (
                list(kept.markets),
                [units.base_asset for units in markets],
                [units.quote_asset for units in markets],
                [units.base_units_per_lot for units in markets],
                [units.quote_units_per_tick_lot for units in markets],
            ),
            (list(kept.links_in), list(kept.links_in.values())),
            (list(kept.links_out), list(kept.links_out.values())),
        )
        self.shard = self._core.shard
        self._sent = {(link.to_shard, link.sequence): link for link in kept.sent}
        self._take_cursor()

    def _take_cursor(self) -> None:
        self.n, self.t_us, self.chain_hash = self._core.n, self._core.t_us, self._core.chain_hash

    # --- what it says -----------------------------------------------------------------------------------------------

    def units(self, holder: Holder, asset: int) -> int:
        """Return what a holder has of an asset; below zero: what it brought in."""
        return self._core.units(*owner_of(holder, asset))

    def by_asset(self, holder: Holder) -> dict[int, int]:
        """Return what a holder has, by asset; assets of which it has nothing are left out."""
        kind, number, _ = owner_of(holder, 0)
        return dict(self._core.by_asset(kind, number))

    def holdings(self) -> dict[tuple[Holder, int], int]:
        """Return units by holder and asset, sorted; nothing that is zero. Per asset they add up to zero."""
        rows = zip(*self._core.holdings(), strict=True)
        return dict(sorted(((Holder(KINDS[kind], number), asset), units) for kind, number, asset, units in rows))

    def last_link_from(self, shard: int) -> int:
        """Return the sequence number of the last link that was received from a shard; 0: none."""
        return self._core.last_link_from(shard)

    def last_link_to(self, shard: int) -> int:
        """Return the sequence number of the last link that was sent to a shard; 0: none."""
        return self._core.last_link_to(shard)

    def partners(self) -> set[int]:
        """Return the shards that a link ever came from or went to."""
        return set(self._core.partners())

    # --- frames -----------------------------------------------------------------------------------------------------

    def apply(self, frames: Sequence[bytes], entries: Sequence[RawEntry] | None = None) -> list[ExecutionFrame]:
        """Settle the next frames, all of them or none, and return what they say, as `Ledger.apply`."""
        assert entries is None or len(entries) == len(frames)
        self.adopt(_draft_of(self._folded(lambda: self._core.fold(frames, entries))))
        return [decode(ExecutionFrame, frame) for frame in frames]

    def draft(self) -> Draft:
        """Return a draft that changes nothing."""
        return CoreDraft(self.n, self.chain_hash, self.n, self.t_us, self.chain_hash)

    def fold_proven(self, frames: Sequence[bytes], after_hash: bytes) -> tuple[Draft, list[ReadFrame]]:
        """Return what frames change that re-execution has proven, as `Ledger.fold_proven`."""
        columns = self._folded(lambda: self._core.fold_proven(frames, after_hash))
        return _draft_of(columns), _frames_of(columns)

    def adopt(self, draft: Draft) -> None:
        """Make it so. The draft is of this ledger as it stands."""
        assert (draft.after_n, draft.after_hash) == (self.n, self.chain_hash), "the draft is of another position"
        assert isinstance(draft, CoreDraft), "the draft is of another ledger"
        columns = draft.columns
        if columns is not None:
            self._folded(lambda: self._core.adopt(columns))
        self._sent.update(draft.sent)
        self._take_cursor()

    def _folded(self, fold: Callable[[], T]) -> T:
        try:
            return fold()
        except exchange_core.LedgerStop as stop:
            reason, n, detail = stop.args
            raise LedgerError(LedgerReason(reason), self.shard, n, detail) from stop
        except exchange_core.Stop as stop:
            reason, detail = stop.args
            raise LedgerError(LedgerReason(reason), self.shard, self.n + 1, detail) from stop
        except exchange_core.UnknownFormat as error:
            raise UnknownFormatError(*error.args) from error


def _draft_of(columns: exchange_core.LedgerDraft) -> CoreDraft:
    """Return columns as the rows that a database writes."""
    kinds, holders, assets, units = columns.units
    markets, *moved = columns.markets
    return CoreDraft(
        columns.after_n,
        columns.after_hash,
        columns.n,
        columns.t_us,
        columns.chain_hash,
        dict(zip(zip(kinds, holders, assets, strict=True), units, strict=True)),
        dict(zip(markets, map(_market_units, zip(*moved, strict=True)), strict=True)),
        dict(zip(*columns.links_in, strict=True)),
        dict(zip(*columns.links_out, strict=True)),
        {row[:2]: _link_of(row) for row in columns.sent},
        list(map(_link_answer, zip(*columns.answers, strict=True))),
        list(map(WithdrawalChange._make, columns.withdrawals)),
        columns=columns,
    )


def _link_of(row: tuple[int, int, int, int, list[tuple[int, int, int]]]) -> SentLink:
    to_shard, sequence, source_n, debited_us, transfers = row
    return SentLink(to_shard, sequence, source_n, debited_us, tuple(Transfer(*transfer) for transfer in transfers))


def _frames_of(columns: exchange_core.LedgerDraft) -> list[ReadFrame]:
    return [
        ReadFrame(n, t_us, [], [], changes_markets, events)
        for n, t_us, events, changes_markets in zip(*columns.frames, strict=True)
    ]

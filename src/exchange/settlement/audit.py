"""The audit: what engines say they hold, against what the logs say came in and went out (invariant I-01).

Per asset: treasury + open withdrawals + transit + shards + fees = deposits - payments. The left side is read from the
engines' own states, the right side and the transit from ledgers, which have only seen execution frames. Holder by
holder, both must agree as well.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from exchange.domain.state import AssetAmount, ControlState, ShardCore, ShardState
from exchange.domain.units import CONTROL_SHARD
from exchange.settlement.ledger import (
    DEPOSITS,
    EXCHANGE,
    OPEN_WITHDRAWALS,
    PAYMENTS,
    Holder,
    HolderKind,
    Ledger,
    LedgerError,
    LedgerReason,
    account_holder,
)

_LINK_COUNTERS: Final = 2**64
"""States count what went over links modulo this (state.proto)."""


class _Column(IntEnum):
    """Columns of an audit line, in its order."""

    TREASURY = 1
    OPEN_WITHDRAWALS = 2
    TRANSIT = 3
    SHARDS = 4
    FEES = 5
    IN = 6
    OUT = 7


Holdings = dict[tuple[Holder, int], int]


class Difference(NamedTuple):
    """What ledger and engine disagree about; for units, `what` names holder and asset."""

    shard: int
    what: str
    ledger: str
    engine: str


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One asset. Shards that are not audited count as outside: what came from them came in, what went to them went out.

    Attributes:
        treasury_units, shard_units: what accounts have in shard 0 and in the other shards.
        open_withdrawal_units: set aside for withdrawals that are neither paid nor given back.
        transit_units: sent by a shard and not yet received by another.
        fee_units: the exchange's own, wherever it is.
        in_units, out_units: what came in and what went out.
    """

    asset: int
    treasury_units: int
    open_withdrawal_units: int
    transit_units: int
    shard_units: int
    fee_units: int
    in_units: int
    out_units: int

    @property
    def held_units(self) -> int:
        """All that is there."""
        return self.treasury_units + self.open_withdrawal_units + self.transit_units + self.shard_units + self.fee_units

    @property
    def difference_units(self) -> int:
        """What is there beyond what should be; below zero: what is missing."""
        return self.held_units - (self.in_units - self.out_units)


@dataclass(frozen=True, slots=True)
class Audit:
    lines: tuple[AuditLine, ...]
    differences: tuple[Difference, ...]

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing, nothing too much, and ledgers and engines agree on everybody."""
        return not self.differences and all(line.difference_units == 0 for line in self.lines)


def audit(ledgers: Sequence[Ledger], states: Sequence[ShardState | ControlState]) -> Audit:
    """Return the audit of some shards: all there are, or one alone.

    Args:
        ledgers: one per shard.
        states: of the same shards in the same order, as their engines export them, at the ledgers' positions.

    Raises:
        LedgerError: RECEIVER_AHEAD, a shard received what another of them never sent.
    """
    assert [ledger.shard for ledger in ledgers] == [state.core.genesis.shard for state in states]
    held = [holdings_of(state) for state in states]
    columns = _columns(ledgers, held)
    assets = sorted({asset for units in columns.values() for asset in units})
    lines = tuple(AuditLine(asset, *(columns[column][asset] for column in _Column)) for asset in assets)
    differences = [found for pair in zip(ledgers, states, strict=True) for found in differences_between(*pair)]
    return Audit(lines, tuple(differences))


def differences_between(ledger: Ledger, state: ShardState | ControlState) -> list[Difference]:
    """Return where a ledger and its shard's state disagree: position, chain, and the units of every holder."""
    core = state.core
    found = []
    if ledger.n != core.n:
        found.append(Difference(ledger.shard, "position", str(ledger.n), str(core.n)))
    if ledger.chain_hash != core.chain_hash:
        found.append(Difference(ledger.shard, "chain hash", ledger.chain_hash.hex(), core.chain_hash.hex()))
    ours, theirs = _comparable(ledger.holdings()), _comparable(holdings_of(state))
    for owner in sorted({*ours, *theirs}):
        if ours.get(owner, 0) != theirs.get(owner, 0):
            (kind, number), asset = owner
            what = f"{kind} {number}, asset {asset}"
            found.append(Difference(ledger.shard, what, str(ours.get(owner, 0)), str(theirs.get(owner, 0))))
    return found


def holdings_of(state: ShardState | ControlState) -> Holdings:
    """Return what a state says that everybody has, in the terms of a ledger; nothing that is zero."""
    held = _links_of(state.core)
    if isinstance(state, ShardState):
        for owner in state.accounts:
            for balance in owner.balances:
                held[account_holder(owner.account), balance.asset] = balance.free_units + balance.locked_units
        _add(held, EXCHANGE, state.fees)
    else:
        for purse in state.treasury:
            _add(held, account_holder(purse.account), purse.balances)
        for withdrawal in state.withdrawals:
            _add(held, OPEN_WITHDRAWALS, (AssetAmount(withdrawal.asset, withdrawal.amount_units),))
        for totals in state.totals:
            held[DEPOSITS, totals.asset] = -totals.deposited_units
            held[PAYMENTS, totals.asset] = totals.withdrawn_units
    return {owner: units for owner, units in held.items() if units}


def _links_of(core: ShardCore) -> Holdings:
    held: Holdings = {}
    for received in core.links_in:
        for amount in received.received:
            held[Holder(HolderKind.OTHER_SHARD_IN, received.from_shard), amount.asset] = -amount.amount_units
    for sent in core.links_out:
        _add(held, Holder(HolderKind.OTHER_SHARD_OUT, sent.to_shard), sent.sent)
    return held


def _add(held: Holdings, holder: Holder, amounts: Sequence[AssetAmount]) -> None:
    for amount in amounts:
        held[holder, amount.asset] = held.get((holder, amount.asset), 0) + amount.amount_units


def _comparable(holdings: Holdings) -> Holdings:
    """Return the holdings with what went over links as states count it."""
    over_links = (HolderKind.OTHER_SHARD_IN, HolderKind.OTHER_SHARD_OUT)
    return {
        owner: units % _LINK_COUNTERS if owner[0].kind in over_links else units for owner, units in holdings.items()
    }


def _columns(ledgers: Sequence[Ledger], held: Sequence[Holdings]) -> dict[_Column, Counter[int]]:
    """Return units by column and asset."""
    audited = {ledger.shard for ledger in ledgers}
    columns: dict[_Column, Counter[int]] = {column: Counter() for column in _Column}
    columns[_Column.TRANSIT] = _transit(ledgers)
    for ledger, holdings in zip(ledgers, held, strict=True):
        for (holder, asset), units in holdings.items():
            if holder == EXCHANGE:
                columns[_Column.FEES][asset] += units
            elif holder.kind is HolderKind.ACCOUNT:
                place = _Column.TREASURY if ledger.shard == CONTROL_SHARD else _Column.SHARDS
                columns[place][asset] += units
            elif holder == OPEN_WITHDRAWALS:
                columns[_Column.OPEN_WITHDRAWALS][asset] += units
        for (holder, asset), units in ledger.holdings().items():
            outside = holder.number not in audited
            if holder == DEPOSITS or (holder.kind is HolderKind.OTHER_SHARD_IN and outside):
                columns[_Column.IN][asset] -= units
            elif holder == PAYMENTS or (holder.kind is HolderKind.OTHER_SHARD_OUT and outside):
                columns[_Column.OUT][asset] += units
    return columns


def _transit(ledgers: Sequence[Ledger]) -> Counter[int]:
    """Return by asset what the links carry that one of these shards has sent and another has not received.

    It is not what was sent less what was received: that would hide a link that arrived with another amount.
    """
    transit: Counter[int] = Counter()
    for receiver in ledgers:
        for sender in ledgers:
            received, sent = receiver.last_link_from(sender.shard), sender.last_link_to(receiver.shard)
            if received > sent:
                detail = f"it has link {received} from shard {sender.shard}, which has sent {sent}"
                raise LedgerError(LedgerReason.RECEIVER_AHEAD, receiver.shard, receiver.n, detail)
            transit.update(sender.sent_after(receiver.shard, received))
    return transit

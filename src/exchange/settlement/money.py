"""All money there is, added up: ledgers and engines of every shard, as settled, per asset."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import Engine
from exchange.engine.reference import ReferenceControl
from exchange.settlement.audit import differences_between
from exchange.settlement.ledger import DEPOSITS, EXCHANGE, OPEN_WITHDRAWALS, PAYMENTS, HolderKind, Ledger
from exchange.settlement.shard import ShardSettlement

_INT64_MAX: Final = 2**63 - 1


class MoneyLine(NamedTuple):
    """One asset, in its smallest units, as AuditLine in settlement_service.proto says it."""

    asset: int
    treasury_units: int
    set_aside_units: int
    transit_units: int
    shards_units: int
    locked_units: int
    fees_units: int
    deposited_units: int
    withdrawn_units: int

    @property
    def difference_units(self) -> int:
        """What there is less what there ought to be, at the ends of its range that much or more."""
        there = self.treasury_units + self.transit_units + self.shards_units + self.fees_units
        found = there - (self.deposited_units - self.withdrawn_units)
        return max(-_INT64_MAX - 1, min(_INT64_MAX, found))


class Money(NamedTuple):
    """All lines, and where a ledger and its engine disagree, for people."""

    lines: list[MoneyLine]
    differences: list[str]

    @property
    def is_balanced(self) -> bool:
        """Whether nothing is missing and nothing too much."""
        return not self.differences and all(line.difference_units == 0 for line in self.lines)


def add_up(shards: Sequence[ShardSettlement], running: Iterable[int], assets: Iterable[int]) -> Money:
    """Return all money there is. What trading shards have is what their engines say, where these still run.

    Args:
        shards: all of them, between two rounds.
        running: those whose engine may be asked.
        assets: assets to return lines for.
    """
    columns: dict[str, Counter[int]] = {name: Counter() for name in MoneyLine._fields[1:]}
    differences: list[str] = []
    may_ask = set(running)
    ledgers = {one.shard: one.ledger for one in shards}
    for one in shards:
        _add_ledger(columns, one.ledger)
        if one.shard not in may_ask:
            continue
        if one.shard == CONTROL_SHARD:
            assert isinstance(one.engine, ReferenceControl)
            found = differences_between(one.ledger, one.engine.state())
            differences += [f"shard 0: {each.what}: ledger {each.ledger}, engine {each.engine}" for each in found]
        else:
            differences += _ask_engine(columns, one.ledger, one.engine)  # type: ignore[arg-type]
    columns["transit_units"] = _transit(ledgers)
    lines = [
        MoneyLine(asset, *(columns[name][asset] for name in MoneyLine._fields[1:])) for asset in sorted(set(assets))
    ]
    return Money(lines, differences)


def _add_ledger(columns: Mapping[str, Counter[int]], ledger: Ledger) -> None:
    is_control = ledger.shard == CONTROL_SHARD
    for (holder, asset), units in ledger.holdings().items():
        if holder.kind is HolderKind.ACCOUNT:
            if is_control:
                columns["treasury_units"][asset] += units
            elif holder == EXCHANGE:
                columns["fees_units"][asset] += units
            else:
                columns["shards_units"][asset] += units
        elif holder == OPEN_WITHDRAWALS:
            columns["treasury_units"][asset] += units
            columns["set_aside_units"][asset] += units
        elif holder == DEPOSITS:
            columns["deposited_units"][asset] -= units
        elif holder == PAYMENTS:
            columns["withdrawn_units"][asset] += units


def _ask_engine(columns: Mapping[str, Counter[int]], ledger: Ledger, engine: Engine) -> list[str]:
    """Replace what the ledger says that accounts have by what the engine says; return where they differ."""
    ours: dict[int, dict[int, int]] = {}
    for (holder, asset), units in ledger.holdings().items():
        if holder.kind is HolderKind.ACCOUNT and holder != EXCHANGE:
            ours.setdefault(holder.number, {})[asset] = units
    differences = []
    for account, assets in ours.items():
        theirs = engine.balances(account)
        for asset, (free, locked) in theirs.items():
            columns["locked_units"][asset] += locked
            columns["shards_units"][asset] += free + locked - assets.get(asset, 0)
            if free + locked != assets.get(asset, 0):
                differences.append(
                    f"shard {ledger.shard}: account {account}, asset {asset}: ledger {assets.get(asset, 0)}, engine "
                    f"{free + locked}"
                )
        for asset, units in assets.items():
            if asset not in theirs:
                columns["shards_units"][asset] -= units
                differences.append(f"shard {ledger.shard}: account {account}, asset {asset}: ledger {units}, engine 0")
    return differences


def _transit(ledgers: Mapping[int, Ledger]) -> Counter[int]:
    """Return what links carry that were sent and whose receiver has not settled them."""
    transit: Counter[int] = Counter()
    for sender in ledgers.values():
        for link in sender.outstanding():
            receiver = ledgers.get(link.to_shard)
            if receiver is None or receiver.last_link_from(sender.shard) < link.sequence:
                for transfer in link.transfers:
                    transit[transfer.asset] += transfer.amount_units
    return transit

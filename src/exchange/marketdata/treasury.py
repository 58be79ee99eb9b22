"""The fold of shard 0: the treasury's money, withdrawals, assets and the shard map, after each execution frame."""

from dataclasses import dataclass
from typing import Any

from clob.v1 import market_pb2, withdrawal_pb2
from exchange.domain.state import ControlState
from exchange.domain.units import CONTROL_SHARD
from exchange.marketdata.chain import FoldReason
from exchange.marketdata.fold import Account, Fold, genesis_core
from exchange.wire.messages import encode

CONTROL_TAG = "s0"
"""Hash tag of shard 0's keys on the bus; those of the others stand in the shard map."""


@dataclass(slots=True)
class WithdrawalRecord:
    """A withdrawal, open or closed; its request at position 0 was before the checkpoint that the fold started from."""

    withdrawal: int
    account: int
    asset: int
    amount_units: int
    destination: str
    state: int
    requested_n: int = 0
    requested_us: int = 0
    closed_us: int = 0


class TreasuryFold(Fold):
    """Shard 0. Account 0 is the exchange's own: fees that were swept.

    Attributes:
        assets: by number.
        shards: hash tags of the trading shards, by number.
        withdrawals: those that were open at the start or requested since, by number.
        whole: the fold started from the genesis: it knows every withdrawal there ever was.
    """

    __slots__ = ("assets", "shards", "whole", "withdrawals", "withdrawals_of")

    def __init__(self, state: ControlState) -> None:
        """Start from the state of a checkpoint, or from one that has `core` and nothing else."""
        super().__init__(state.core)
        assert self.shard == CONTROL_SHARD
        self.whole = state.core.n == 0
        self.assets = {asset.asset: market_pb2.Asset.FromString(encode(asset)) for asset in state.assets}
        self.shards = {entry.shard: entry.tag for entry in state.shards}
        self.withdrawals: dict[int, WithdrawalRecord] = {}
        self.withdrawals_of: dict[int, list[WithdrawalRecord]] = {}
        for treasury in state.treasury:
            owner = self.accounts[treasury.account] = Account(treasury.account_seq)
            owner.units = {balance.asset: balance.amount_units for balance in treasury.balances}
        self.accounts.setdefault(0, Account())
        for there in state.withdrawals:
            self._add_withdrawal(
                WithdrawalRecord(
                    there.withdrawal,
                    there.account,
                    there.asset,
                    there.amount_units,
                    there.destination,
                    withdrawal_pb2.WITHDRAWAL_STATE_OPEN,
                )
            )
        self._handlers |= {
            **dict.fromkeys(
                (
                    "frame_refused",
                    "batch_result",
                    "operation_result",
                    "action_rejected",
                    "market_defined",
                    "market_state_changed",
                    "rules_raised",
                    "operator_key_rotated",
                    "request_result",
                    "user_created",
                    "account_opened",
                    "key_registered",
                    "key_revoked",
                ),
                self._on_other,
            ),
            "asset_defined": self._on_asset,
            "shard_defined": self._on_shard,
            "deposited": self._on_deposited,
            "withdrawal_requested": self._on_withdrawal,
            "withdrawal_closed": self._on_withdrawal_closed,
            "fees_paid_out": self._on_fees_paid_out,
        }

    @staticmethod
    def from_genesis(genesis: bytes) -> "TreasuryFold":
        """Return the fold before the first frame; `genesis` is the encoded Genesis of shard 0."""
        return TreasuryFold(ControlState(core=genesis_core(genesis)))

    def open_withdrawals(self, account: int) -> list[WithdrawalRecord]:
        """Return the account's withdrawals that are neither paid nor given back, oldest first."""
        there = self.withdrawals_of.get(account, [])
        return [record for record in there if record.state == withdrawal_pb2.WITHDRAWAL_STATE_OPEN]

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_credited(self, event: Any) -> None:
        if not event.account:
            self._credit(self.accounts[0], event.asset, event.amount_units)
        super()._on_credited(event)

    def _on_deposited(self, event: Any) -> None:
        self._credit(self._touch(event.account, event.account_seq), event.asset, event.amount_units)

    def _on_fees_paid_out(self, event: Any) -> None:
        self._debit(self.accounts[0], event.asset, event.amount_units)
        self._credit(self._touch(event.account, event.account_seq), event.asset, event.amount_units)

    def _on_withdrawal(self, event: Any) -> None:
        self._debit(self._touch(event.account, event.account_seq), event.asset, event.amount_units)
        self._add_withdrawal(
            WithdrawalRecord(
                event.withdrawal,
                event.account,
                event.asset,
                event.amount_units,
                event.destination,
                withdrawal_pb2.WITHDRAWAL_STATE_OPEN,
                self.n,
                self.t_us,
            )
        )

    def _add_withdrawal(self, record: WithdrawalRecord) -> None:
        self.withdrawals[record.withdrawal] = record
        self.withdrawals_of.setdefault(record.account, []).append(record)

    def _on_withdrawal_closed(self, event: Any) -> None:
        owner = self._touch(event.account, event.account_seq)
        record = self.withdrawals.get(event.withdrawal)
        if record is None or record.state != withdrawal_pb2.WITHDRAWAL_STATE_OPEN:
            self._fail(FoldReason.UNKNOWN_WITHDRAWAL, f"withdrawal {event.withdrawal}")
        if event.paid:
            record.state = withdrawal_pb2.WITHDRAWAL_STATE_PAID
        else:
            record.state = withdrawal_pb2.WITHDRAWAL_STATE_GIVEN_BACK
            self._credit(owner, event.asset, event.amount_units)
        record.closed_us = self.t_us

    def _on_asset(self, event: Any) -> None:
        asset = market_pb2.Asset()
        asset.CopyFrom(event.asset)
        self.assets[asset.asset] = asset

    def _on_shard(self, event: Any) -> None:
        self.shards[event.shard] = event.tag

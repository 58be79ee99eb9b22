"""What accounts have in a shard: free and locked units per asset, and the fees that the exchange collected."""

from dataclasses import dataclass, field

from exchange.domain.stops import invariant
from exchange.domain.units import AMOUNT_UNITS_MAX


@dataclass(slots=True)
class Balance:
    free_units: int = 0
    locked_units: int = 0


@dataclass(slots=True)
class Account:
    account_seq: int = 0
    balances: dict[int, Balance] = field(default_factory=dict)


class Funds:
    """Accounts by number, made when they are first named. Whoever debits one credits another with the same units."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.fees: dict[int, int] = {}

    def account(self, account: int) -> Account:
        """Return the account."""
        return self.accounts.setdefault(account, Account())

    def next_seq(self, account: int) -> int:
        """Return the next sequence number of the account's events."""
        owner = self.account(account)
        owner.account_seq += 1
        return owner.account_seq

    def free(self, account: int, asset: int) -> int:
        """Return the units that no order holds."""
        balance = self.account(account).balances.get(asset)
        return balance.free_units if balance else 0

    def credit(self, account: int, asset: int, units: int) -> None:
        """Add free units."""
        balance = self._balance(account, asset)
        balance.free_units += units
        invariant(balance.free_units + balance.locked_units <= AMOUNT_UNITS_MAX, "I-02", "a balance reached 2^63")

    def debit(self, account: int, asset: int, units: int) -> None:
        """Take free units, to be credited elsewhere; the caller has checked that they are there."""
        balance = self._balance(account, asset)
        balance.free_units -= units
        invariant(balance.free_units >= 0, "I-02", "free funds fell below zero")

    def hold(self, account: int, asset: int, units: int) -> None:
        """Lock free units; a negative number releases them."""
        balance = self._balance(account, asset)
        balance.free_units -= units
        balance.locked_units += units
        invariant(balance.free_units >= 0 and balance.locked_units >= 0, "I-02", "a hold exceeds what there is")

    def spend(self, account: int, asset: int, units: int) -> None:
        """Take locked units away, to be credited elsewhere."""
        balance = self._balance(account, asset)
        balance.locked_units -= units
        invariant(balance.locked_units >= 0, "I-02", "more was spent than was held")

    def collect(self, asset: int, units: int) -> None:
        """Credit the exchange with a fee."""
        if units:
            self.fees[asset] = self.fees.get(asset, 0) + units
            invariant(self.fees[asset] <= AMOUNT_UNITS_MAX, "I-02", "collected fees reached 2^63")

    def _balance(self, account: int, asset: int) -> Balance:
        return self.account(account).balances.setdefault(asset, Balance())

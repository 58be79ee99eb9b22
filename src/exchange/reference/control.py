"""Shard 0: users, accounts, keys, assets, markets, the shard map and the treasury.

An entry is taken in this order: operations; links; requests; batches. Shard 0 verifies the signatures of batches
itself, for it has the keys. It does not trade; what it moves to other shards it debits first.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from sortedcontainers import SortedDict

from exchange.domain.commands import AllocateFunds, Command, RequestWithdrawal
from exchange.domain.control import OpenAccount, RegisterKey, Registration, RevokeKey
from exchange.domain.events import (
    AccountOpened,
    AssetDefined,
    CommandRejected,
    Deposited,
    Event,
    FeesPaidOut,
    FrameRefused,
    FundsCredited,
    FundsSent,
    KeyRegistered,
    KeyRevoked,
    MarketDefined,
    MarketStateChanged,
    OperationResult,
    RequestResult,
    ShardDefined,
    UserCreated,
    WithdrawalClosed,
    WithdrawalRequested,
)
from exchange.domain.frames import FORMAT, Entry, ParsedBatch, ParsedLink, ParsedOperation, ParsedRequest
from exchange.domain.limits import (
    ACCOUNTS_PER_USER_MAX,
    DESTINATION_BYTES_MAX,
    ENTRY_WORK_MAX,
    KEYS_PER_USER_MAX,
    OPEN_WITHDRAWALS_PER_ACCOUNT_MAX,
)
from exchange.domain.markets import (
    MARKET_FIXED_FIELDS,
    Asset,
    Market,
    MarketState,
    market_is_valid,
    symbol_is_valid,
    tag_is_valid,
    with_state,
)
from exchange.domain.operations import (
    AllocationPolicy,
    CloseWithdrawal,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    OperatorAction,
    OperatorRole,
    PayOutFees,
    RaiseRules,
    RotateOperatorKey,
    SetMarketState,
    SetShardSettings,
)
from exchange.domain.record import known
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, key_id_of, signed_bytes
from exchange.domain.state import (
    AnsweredRequest,
    AssetTotals,
    ControlState,
    KeyState,
    OpenWithdrawal,
    ShardEntry,
    TreasuryAccount,
    UserState,
)
from exchange.domain.stops import invariant
from exchange.domain.units import AMOUNT_UNITS_MAX, SHARD_MAX
from exchange.reference.core import Core, amounts_in, amounts_out
from exchange.reference.refusal import Refused, require
from exchange.reference.signing import key_refusal, verify_one

EXCHANGE_ACCOUNT = 0
"""The exchange's own account in the treasury: swept fees."""
DECIMALS_MAX = 18


@dataclass(slots=True)
class Purse:
    """What an account has in the treasury."""

    account_seq: int = 0
    balances: dict[int, int] = field(default_factory=dict)


class Control:
    """The state of shard 0, and what it does with entries, one after another."""

    def __init__(self, state: ControlState, read_registration: Callable[[bytes], Registration | None]) -> None:
        """Load a state: one that was exported, or `genesis_core` and nothing else.

        Args:
            state: the state.
            read_registration: gives the payload of a SignedRegistration its meaning; None where it has none.
        """
        self.read_registration = read_registration
        self.core = Core(state.core)
        self.last_user = state.last_user
        self.last_account = state.last_account
        self.last_withdrawal = state.last_withdrawal
        self.users = {user.user: list(user.accounts) for user in state.users}
        self.user_of = {account: user.user for user in state.users for account in user.accounts}
        self.keys = {key.key_id: key for key in state.keys}
        self.assets: SortedDict[int, Asset] = SortedDict((asset.asset, asset) for asset in state.assets)
        self.shards: SortedDict[int, ShardEntry] = SortedDict((entry.shard, entry) for entry in state.shards)
        self.markets: SortedDict[int, Market] = SortedDict((market.market, market) for market in state.markets)
        self.asset_symbols = {asset.symbol for asset in state.assets}
        self.market_symbols = {market.symbol: market.market for market in state.markets}
        self.tags = {entry.tag for entry in state.shards}
        self.purses = {owner.account: Purse(owner.account_seq, amounts_in(owner.balances)) for owner in state.treasury}
        self.totals = {totals.asset: totals for totals in state.totals}
        self.withdrawals = {withdrawal.withdrawal: withdrawal for withdrawal in state.withdrawals}
        self.requests = {(request.request_id, request.by_operator): request for request in state.requests}
        self.keys_of = Counter(key.user for key in state.keys)
        self.open_withdrawals = Counter(withdrawal.account for withdrawal in state.withdrawals)
        self.events: list[Event] = []

    def export(self) -> ControlState:
        """Return the state as a value that does not depend on how it is kept here."""
        return ControlState(
            format=FORMAT,
            core=self.core.export(),
            last_user=self.last_user,
            last_account=self.last_account,
            last_withdrawal=self.last_withdrawal,
            users=tuple(UserState(user, tuple(accounts)) for user, accounts in sorted(self.users.items())),
            keys=tuple(self.keys[key_id] for key_id in sorted(self.keys)),
            assets=tuple(self.assets.values()),
            shards=tuple(self.shards.values()),
            markets=tuple(self.markets.values()),
            treasury=tuple(
                TreasuryAccount(account, purse.account_seq, amounts_out(purse.balances))
                for account, purse in sorted(self.purses.items())
                if purse.account_seq or any(purse.balances.values())
            ),
            totals=tuple(self.totals[asset] for asset in sorted(self.totals)),
            withdrawals=tuple(self.withdrawals[number] for number in sorted(self.withdrawals)),
            requests=tuple(self.requests[name] for name in sorted(self.requests)),
        )

    def apply(self, entry: Entry) -> tuple[Event, ...]:
        """Execute the next entry and return what happened.

        Raises:
            EngineStop: the entry cannot be answered; the shard must not be used any more.
        """
        self.core.begin(entry)
        self.events = []
        if not entry.well_formed:
            self._write(FrameRefused(RejectReason.MALFORMED))
        for place, operation in enumerate(entry.operations, 1):
            self._apply_operation(place, operation)
        for place, link in enumerate(entry.links, 1):
            self._apply_link(place, link)
        for place, request in enumerate(entry.requests, 1):
            self._apply_request(place, request)
        for place, batch in enumerate(entry.batches, 1):
            self._apply_batch(entry, place, batch)
        return tuple(self.events)

    def _write(self, event: Event) -> None:
        self.events.append(event)

    # --- the treasury -----------------------------------------------------------------------------------------------

    def _next_seq(self, account: int) -> int:
        """Return the next sequence number of the account's events; the exchange's own has none."""
        if account == EXCHANGE_ACCOUNT:
            return 0
        purse = self.purses.setdefault(account, Purse())
        purse.account_seq += 1
        return purse.account_seq

    def _credit(self, account: int, asset: int, units: int) -> None:
        balances = self.purses.setdefault(account, Purse()).balances
        balances[asset] = balances.get(asset, 0) + units
        invariant(balances[asset] <= AMOUNT_UNITS_MAX, "I-02", "a balance of the treasury reached 2^63")

    def _debit(self, account: int, asset: int, units: int) -> None:
        """Take free funds of an account.

        Raises:
            Refused: INSUFFICIENT_FUNDS.
        """
        purse = self.purses.get(account)
        available = purse.balances.get(asset, 0) if purse else 0
        if purse is None or units > available:
            raise Refused(RejectReason.INSUFFICIENT_FUNDS, units, available, asset)
        purse.balances[asset] -= units

    def _send(self, command: int, account: int, asset: int, units: int, to_shard: int) -> None:
        """Put funds on their way to a shard."""
        self._debit(account, asset, units)
        self._write(
            FundsSent(
                command=command,
                account=account,
                account_seq=self._next_seq(account),
                asset=asset,
                amount_units=units,
                to_shard=to_shard,
                link_sequence=self.core.send(to_shard, asset, units),
            )
        )

    # --- batches ----------------------------------------------------------------------------------------------------

    def _apply_batch(self, entry: Entry, place: int, parsed: ParsedBatch) -> None:
        work = len(self.events)
        result = self.core.judge_batch(entry, place, parsed, work, self._authenticate, self._authorize)
        self._write(result)
        if result.reason or result.repeat_n:
            return
        assert parsed.batch is not None
        account, key = parsed.batch.account, self.keys[parsed.signed.key_id]
        for number, command in enumerate(parsed.batch.commands, 1):
            try:
                require(len(self.events) < ENTRY_WORK_MAX, RejectReason.ENTRY_WORK_LIMIT)
                self._apply_command(number, key, account, command)
            except Refused as refused:
                self._write(
                    CommandRejected(
                        command=number,
                        account=account,
                        account_seq=self._next_seq(account),
                        reason=refused.reason,
                        required_units=refused.required_units,
                        available_units=refused.available_units,
                        asset=refused.asset,
                    )
                )

    def _authenticate(self, parsed: ParsedBatch) -> RejectReason | None:
        """Return why the batch is not from a key that is, or was, registered for its account."""
        assert parsed.batch is not None
        key = self.keys.get(parsed.signed.key_id)
        if key is None:
            return RejectReason.UNKNOWN_KEY
        covered = signed_bytes(SignedKind.BATCH, self.core.environment, parsed.signed.payload)
        if not verify_one(key.public_key, covered, parsed.signed.signature):
            return RejectReason.BAD_SIGNATURE
        if self.user_of.get(parsed.batch.account) != key.user or key.account not in (0, parsed.batch.account):
            return RejectReason.ACCOUNT_NOT_OF_KEY
        return None

    def _authorize(self, parsed: ParsedBatch) -> RejectReason | None:
        """Return why a key that is known may not sign any more."""
        return RejectReason.KEY_REVOKED if self.keys[parsed.signed.key_id].revoked else None

    def _apply_command(self, number: int, key: KeyState, account: int, command: Command) -> None:
        match command:
            case AllocateFunds():
                _check_amount(command.amount_units)
                require(command.asset in self.assets, RejectReason.UNKNOWN_ASSET)
                require(command.to_shard in self.shards, RejectReason.UNKNOWN_SHARD)
                self._send(number, account, command.asset, command.amount_units, command.to_shard)
            case RequestWithdrawal():
                self._request_withdrawal(number, account, command)
            case RegisterKey() | RevokeKey() | OpenAccount():
                require(key.account == 0, RejectReason.KEY_SCOPE_TOO_NARROW)
                self._change_user(command, key.user, number)
            case _:
                raise Refused(RejectReason.NOT_FOR_THIS_SHARD)

    def _request_withdrawal(self, number: int, account: int, command: RequestWithdrawal) -> None:
        """Set money aside for a payment; it is paid, or given back, by an operation."""
        _check_amount(command.amount_units)
        require(command.asset in self.assets, RejectReason.UNKNOWN_ASSET)
        destination_bytes = len(command.destination.encode())
        require(0 < destination_bytes <= DESTINATION_BYTES_MAX, RejectReason.INVALID_DESTINATION)
        open_withdrawals = self.open_withdrawals[account]
        require(open_withdrawals < OPEN_WITHDRAWALS_PER_ACCOUNT_MAX, RejectReason.TOO_MANY_WITHDRAWALS)
        self._debit(account, command.asset, command.amount_units)
        self.last_withdrawal += 1
        withdrawal = OpenWithdrawal(
            self.last_withdrawal, account, command.asset, command.amount_units, command.destination
        )
        self.withdrawals[withdrawal.withdrawal] = withdrawal
        self.open_withdrawals[account] += 1
        self._write(
            WithdrawalRequested(
                command=number,
                withdrawal=withdrawal.withdrawal,
                account=account,
                account_seq=self._next_seq(account),
                asset=withdrawal.asset,
                amount_units=withdrawal.amount_units,
                destination=withdrawal.destination,
            )
        )

    # --- links ------------------------------------------------------------------------------------------------------

    def _apply_link(self, place: int, parsed: ParsedLink) -> None:
        """Credit the treasury with what a shard released."""
        result = self.core.judge_link(place, parsed)
        self._write(result)
        if result.reason or result.repeated:
            return
        assert parsed.link is not None
        for transfer in parsed.link.transfers:
            account_exists = transfer.account == EXCHANGE_ACCOUNT or transfer.account in self.user_of
            invariant(account_exists and transfer.asset in self.assets, "I-11", "a link brought what was never sent")
            self._credit(transfer.account, transfer.asset, transfer.amount_units)
            self._write(
                FundsCredited(
                    account=transfer.account,
                    account_seq=self._next_seq(transfer.account),
                    asset=transfer.asset,
                    amount_units=transfer.amount_units,
                    from_shard=parsed.link.from_shard,
                )
            )

    # --- requests ---------------------------------------------------------------------------------------------------

    def _apply_request(self, place: int, parsed: ParsedRequest) -> None:
        """Make a new user with an account and a key, once per request id. What was refused may be asked again."""
        request = parsed.request
        if (repeated := self._answered(request.request_id, parsed.body_digest, by_operator=False)) is not None:
            self._write(RequestResult(place, *repeated))
            return
        try:
            registration = self._checked_registration(request.register_key)
            names_nobody = registration.user == 0 and registration.account == 0
            require(names_nobody, RejectReason.INVALID_REGISTRATION)
        except Refused as refused:
            self._write(RequestResult(place, refused.reason))
            return
        self._answer(request.request_id, parsed.body_digest, by_operator=False)
        self._write(RequestResult(place))
        self.last_user += 1
        self.users[self.last_user] = []
        self._write(UserCreated(self.last_user))
        self._open_account(self.last_user)
        self._register(registration.public_key, self.last_user, account=0)

    def _answered(self, request_id: bytes, digest: bytes, by_operator: bool) -> tuple[int, int] | None:
        """Return reason and position of the answer that a request id already has; None: it has none."""
        answered = self.requests.get((request_id, by_operator))
        if answered is None:
            return None
        return (0, answered.n) if answered.digest == digest else (RejectReason.REQUEST_ID_REUSED, 0)

    def _answer(self, request_id: bytes, digest: bytes, by_operator: bool) -> None:
        self.requests[request_id, by_operator] = AnsweredRequest(request_id, digest, self.core.n, by_operator)

    # --- users, accounts and keys -----------------------------------------------------------------------------------

    def _checked_registration(self, action: RegisterKey) -> Registration:
        """Return what is registered: a key that may be, and whose private key its sender holds."""
        signed = action.registration
        registration = self.read_registration(signed.payload)
        if registration is None:
            raise Refused(RejectReason.INVALID_REGISTRATION)
        require(key_refusal(registration.public_key) is None, RejectReason.INVALID_PUBLIC_KEY)
        covered = signed_bytes(SignedKind.REGISTER, self.core.environment, signed.payload)
        require(verify_one(registration.public_key, covered, signed.signature), RejectReason.BAD_SIGNATURE)
        require(key_id_of(registration.public_key) not in self.keys, RejectReason.KEY_EXISTS)
        return registration

    def _change_user(self, action: RegisterKey | RevokeKey | OpenAccount, by_user: int, command: int = 0) -> None:
        """Register or revoke a key, or open an account, of a user that exists.

        Args:
            action: what to do.
            by_user: user whose key asks for it, who sees no other user; 0: the exchange asks, for any user.
            command: place of the command; 0: an operation.
        """
        match action:
            case RegisterKey():
                registration = self._checked_registration(action)
                self._check_user(registration.user, by_user)
                belongs = registration.account == 0 or self.user_of.get(registration.account) == registration.user
                require(belongs, RejectReason.UNKNOWN_ACCOUNT)
                require(self.keys_of[registration.user] < KEYS_PER_USER_MAX, RejectReason.TOO_MANY_KEYS)
                self._register(registration.public_key, registration.user, registration.account, command)
            case RevokeKey(key_id):
                key = self.keys.get(key_id)
                if key is None or by_user not in (0, key.user):
                    raise Refused(RejectReason.UNKNOWN_KEY)
                require(not key.revoked, RejectReason.KEY_REVOKED)
                self.keys[key_id] = msgspec.structs.replace(key, revoked=True)
                self._write(KeyRevoked(key_id, command))
            case OpenAccount(user):
                self._check_user(user, by_user)
                require(len(self.users[user]) < ACCOUNTS_PER_USER_MAX, RejectReason.TOO_MANY_ACCOUNTS)
                self._open_account(user, command)

    def _check_user(self, user: int, by_user: int) -> None:
        require(user in self.users and by_user in (0, user), RejectReason.UNKNOWN_USER)

    def _register(self, public_key: bytes, user: int, account: int, command: int = 0) -> None:
        key_id = key_id_of(public_key)
        self.keys[key_id] = KeyState(key_id, public_key, user, account)
        self.keys_of[user] += 1
        self._write(KeyRegistered(key_id, public_key, user, account, command))

    def _open_account(self, user: int, command: int = 0) -> None:
        self.last_account += 1
        self.users[user].append(self.last_account)
        self.user_of[self.last_account] = user
        self._write(AccountOpened(user, self.last_account, command))

    # --- operations -------------------------------------------------------------------------------------------------

    def _apply_operation(self, place: int, parsed: ParsedOperation) -> None:
        """Apply the actions of an operation, once per request id; each is applied or refused on its own."""
        operation = parsed.operation
        if operation is not None and not operation.request_id:
            self._write(OperationResult(place, RejectReason.REQUEST_ID_MISSING))
            return

        def answered() -> OperationResult | None:
            assert operation is not None
            answer = self._answered(operation.request_id, parsed.body_digest, by_operator=True)
            return None if answer is None else OperationResult(place, *answer)

        result = self.core.judge_operation(place, parsed, len(self.events), answered)
        self._write(result)
        if result.reason or result.repeat_n or result.repeated:
            return
        assert operation is not None
        self._answer(operation.request_id, parsed.body_digest, by_operator=True)
        self.core.apply_actions(operation, lambda: len(self.events), self._apply_action, self._write)

    def _apply_action(self, role: OperatorRole, action: OperatorAction) -> None:
        match action:
            case DefineAsset():
                self._define_asset(action.asset)
            case DefineShard():
                self._define_shard(action)
            case DefineMarket():
                self._define_market(action.market)
            case SetMarketState():
                require(action.market in self.markets, RejectReason.UNKNOWN_MARKET)
                require(known(MarketState, action.state), RejectReason.INVALID_MARKET_STATE)
                require(action.effective_us <= self.core.t_us, RejectReason.NOT_FOR_THIS_SHARD)
                self.markets[action.market] = with_state(self.markets[action.market], action.state)
                self._write(MarketStateChanged(market=action.market, state=action.state))
            case Deposit():
                self._deposit(action)
            case CloseWithdrawal():
                self._close_withdrawal(action)
            case PayOutFees():
                self._pay_out_fees(action)
            case RegisterKey() | RevokeKey() | OpenAccount():
                self._change_user(action, by_user=0)
            case SetShardSettings() | RaiseRules() | RotateOperatorKey():
                self._write(self.core.change(role, action))
            case _:
                raise Refused(RejectReason.NOT_FOR_THIS_SHARD)

    def _define_asset(self, asset: Asset) -> None:
        valid = asset.asset > 0 and symbol_is_valid(asset.symbol) and asset.decimals <= DECIMALS_MAX
        require(valid, RejectReason.INVALID_DEFINITION)
        taken = asset.asset in self.assets or asset.symbol in self.asset_symbols
        require(not taken, RejectReason.ALREADY_DEFINED)
        self.assets[asset.asset] = asset
        self.asset_symbols.add(asset.symbol)
        self._write(AssetDefined(asset))

    def _define_shard(self, action: DefineShard) -> None:
        tag = action.tag or f"s{action.shard}"
        require(0 < action.shard <= SHARD_MAX and tag_is_valid(tag), RejectReason.INVALID_DEFINITION)
        require(action.shard not in self.shards and tag not in self.tags, RejectReason.ALREADY_DEFINED)
        self.shards[action.shard] = ShardEntry(action.shard, tag)
        self.tags.add(tag)
        self._write(ShardDefined(action.shard, tag))

    def _define_market(self, market: Market) -> None:
        """List a market on its shard, or change its settings."""
        require(market_is_valid(market), RejectReason.INVALID_MARKET)
        known_assets = market.base_asset in self.assets and market.quote_asset in self.assets
        require(known_assets, RejectReason.UNKNOWN_ASSET)
        require(market.shard in self.shards, RejectReason.UNKNOWN_SHARD)
        require(self.market_symbols.get(market.symbol, market.market) == market.market, RejectReason.ALREADY_DEFINED)
        listed = self.markets.get(market.market, market)
        fixed = all(getattr(market, name) == getattr(listed, name) for name in MARKET_FIXED_FIELDS)
        require(fixed, RejectReason.MARKET_FIELD_FIXED)
        self.markets[market.market] = with_state(market, listed.state)
        self.market_symbols[market.symbol] = market.market
        self._write(MarketDefined(self.markets[market.market]))

    def _deposit(self, action: Deposit) -> None:
        """Credit an account with money that arrived, and put it to work as the policy says."""
        _check_amount(action.amount_units)
        require(action.account in self.user_of, RejectReason.UNKNOWN_ACCOUNT)
        require(action.asset in self.assets, RejectReason.UNKNOWN_ASSET)
        require(known(AllocationPolicy, action.allocate), RejectReason.INVALID_POLICY)
        one_shard = action.allocate == AllocationPolicy.ONE_SHARD
        require(one_shard or action.to_shard == 0, RejectReason.INVALID_POLICY)
        known_shard = action.to_shard in self.shards if one_shard else bool(self.shards)
        require(known_shard or action.allocate == AllocationPolicy.NONE, RejectReason.UNKNOWN_SHARD)
        totals = self.totals.get(action.asset, AssetTotals(action.asset))
        deposited = totals.deposited_units + action.amount_units
        require(deposited <= AMOUNT_UNITS_MAX, RejectReason.DEPOSITS_TOO_LARGE)
        self.totals[action.asset] = AssetTotals(action.asset, deposited, totals.withdrawn_units)
        self._credit(action.account, action.asset, action.amount_units)
        self._write(Deposited(action.account, self._next_seq(action.account), action.asset, action.amount_units))
        for shard, units in self._allocation(action).items():
            self._send(0, action.account, action.asset, units, shard)

    def _allocation(self, deposit: Deposit) -> dict[int, int]:
        """Return how much of a deposit goes to which shard; shards that get nothing are left out."""
        if deposit.allocate == AllocationPolicy.NONE:
            return {}
        if deposit.allocate == AllocationPolicy.ONE_SHARD:
            return {deposit.to_shard: deposit.amount_units}
        part, left_over = divmod(deposit.amount_units, len(self.shards))
        parts = {shard: part + (place < left_over) for place, shard in enumerate(self.shards)}
        return {shard: units for shard, units in parts.items() if units}

    def _pay_out_fees(self, action: PayOutFees) -> None:
        """Move fees that were swept into the treasury to an account."""
        _check_amount(action.amount_units)
        require(action.account in self.user_of, RejectReason.UNKNOWN_ACCOUNT)
        self._debit(EXCHANGE_ACCOUNT, action.asset, action.amount_units)
        self._credit(action.account, action.asset, action.amount_units)
        seq = self._next_seq(action.account)
        self._write(FeesPaidOut(action.account, seq, action.asset, action.amount_units))

    def _close_withdrawal(self, action: CloseWithdrawal) -> None:
        """Count a withdrawal as paid, or give its money back."""
        withdrawal = self.withdrawals.pop(action.withdrawal, None)
        if withdrawal is None:
            raise Refused(RejectReason.UNKNOWN_WITHDRAWAL)
        self.open_withdrawals[withdrawal.account] -= 1
        if action.paid:
            totals = self.totals[withdrawal.asset]
            paid = totals.withdrawn_units + withdrawal.amount_units
            self.totals[withdrawal.asset] = AssetTotals(totals.asset, totals.deposited_units, paid)
        else:
            self._credit(withdrawal.account, withdrawal.asset, withdrawal.amount_units)
        self._write(
            WithdrawalClosed(
                withdrawal=withdrawal.withdrawal,
                paid=action.paid,
                account=withdrawal.account,
                account_seq=self._next_seq(withdrawal.account),
                asset=withdrawal.asset,
                amount_units=withdrawal.amount_units,
            )
        )


def _check_amount(units: int) -> None:
    require(0 < units <= AMOUNT_UNITS_MAX, RejectReason.INVALID_AMOUNT)

"""The view of shard 0: keys, accounts, assets, shards and markets, folded from checkpoint and execution frames."""

from typing import NamedTuple

from exchange.domain.events import (
    AccountOpened,
    AssetDefined,
    KeyRegistered,
    KeyRevoked,
    MarketDefined,
    MarketStateChanged,
    ShardDefined,
    UserCreated,
)
from exchange.domain.frames import ExecutionFrame
from exchange.domain.markets import Asset, Market, with_state
from exchange.domain.state import ControlState, Genesis
from exchange.domain.units import CONTROL_SHARD
from exchange.wire.checkpoint import read_control_checkpoint
from exchange.wire.entries import check_format
from exchange.wire.hashing import chain_hash, genesis_hash
from exchange.wire.messages import decode

CONTROL_TAG = "s0"
"""Hash tag of shard 0's keys on the bus; those of other shards stand in the shard map."""


class ChainBrokenError(Exception):
    """A frame does not follow the one before it. Nothing of it was applied; load a checkpoint and start again."""


class Key(NamedTuple):
    """A registered key; `account` is the one account that it may sign for, 0: all of its user's."""

    public_key: bytes
    user: int
    account: int
    revoked: bool


class ControlView:
    """What shard 0 has said up to frame `position`.

    Attributes:
        position, chain_hash: of the last frame that was applied; 0 and the genesis hash: none.
        t_us: time of that frame.
        keys: by key_id; revoked ones too.
        users: accounts by user, ascending. user_of: user by account.
        assets, markets: by number; a market's state is the listed one.
        shards: hash tag by number, shard 0 included.
        asset_by_symbol, market_by_symbol: numbers by symbol.
        changed_keys, changed_accounts: key_ids and accounts that frames have added or changed since the view was made,
            in that order: whoever keeps them elsewhere too goes on from where it was.
    """

    def __init__(self, state: ControlState) -> None:
        self.position = state.core.n
        self.chain_hash = state.core.chain_hash
        self.t_us = state.core.t_us
        self.keys = {key.key_id: Key(key.public_key, key.user, key.account, key.revoked) for key in state.keys}
        self.users = {user.user: list(user.accounts) for user in state.users}
        self.user_of = {account: user.user for user in state.users for account in user.accounts}
        self.assets = {asset.asset: asset for asset in state.assets}
        self.shards = {CONTROL_SHARD: CONTROL_TAG, **{entry.shard: entry.tag for entry in state.shards}}
        self.markets = {market.market: market for market in state.markets}
        self.asset_by_symbol = {asset.symbol: asset.asset for asset in state.assets}
        self.market_by_symbol = {market.symbol: market.market for market in state.markets}
        self.changed_keys: list[bytes] = []
        self.changed_accounts: list[int] = []

    @classmethod
    def from_checkpoint(cls, checkpoint: bytes) -> "ControlView":
        """Return the view of a checkpoint of shard 0. Raises as `read_control_checkpoint` does."""
        return cls(read_control_checkpoint(checkpoint))

    @classmethod
    def from_genesis(cls, genesis: bytes) -> "ControlView":
        """Return the view before the first frame; `genesis` is the encoded Genesis of shard 0."""
        check_format("genesis", genesis)
        parsed = decode(Genesis, genesis)
        view = cls(ControlState())
        view.chain_hash = genesis_hash(parsed.environment, parsed.shard, genesis)
        return view

    # --- questions --------------------------------------------------------------------------------------------------

    def may_sign(self, key_id: bytes, account: int) -> bool:
        """Return whether a key is registered, not revoked, and may sign for the account."""
        key = self.keys.get(key_id)
        return (
            key is not None
            and not key.revoked
            and self.user_of.get(account) == key.user
            and key.account in (0, account)
        )

    def accounts_of_key(self, key_id: bytes) -> list[int]:
        """Return the accounts that a key may sign for, ascending; none where it is unknown or revoked."""
        key = self.keys.get(key_id)
        if key is None or key.revoked:
            return []
        return [key.account] if key.account else list(self.users[key.user])

    def trading_shards(self) -> list[int]:
        """Return the shards of the map, without shard 0, ascending."""
        return sorted(shard for shard in self.shards if shard != CONTROL_SHARD)

    def markets_of(self, shard: int) -> list[int]:
        """Return the markets that a shard serves, ascending."""
        return sorted(number for number, market in self.markets.items() if market.shard == shard)

    def shard_of_market(self, market: int) -> int | None:
        """Return the shard that serves a market; None: there is no such market."""
        listed = self.markets.get(market)
        return listed.shard if listed else None

    # --- the fold ---------------------------------------------------------------------------------------------------

    def apply(self, data: bytes) -> ExecutionFrame:
        """Take in the next execution frame and return what it says.

        Raises:
            ChainBrokenError: it is not the next one, or does not carry the hash of the one before it.
            UnknownFormatError, WireError: it is of another version, or no frame.
        """
        check_format("execution frame", data)
        frame = decode(ExecutionFrame, data)
        if frame.n != self.position + 1 or frame.previous_hash != self.chain_hash:
            raise ChainBrokenError(
                f"CHAIN_BROKEN: frame {frame.n} of shard 0 follows {frame.previous_hash.hex()}; the view is at "
                f"{self.position} with {self.chain_hash.hex()}: one of the two is of another log"
            )
        for event in frame.events:
            match event:
                case KeyRegistered():
                    self.keys[event.key_id] = Key(event.public_key, event.user, event.account, revoked=False)
                    self.changed_keys.append(event.key_id)
                case KeyRevoked():
                    self.keys[event.key_id] = self.keys[event.key_id]._replace(revoked=True)
                    self.changed_keys.append(event.key_id)
                case UserCreated():
                    self.users[event.user] = []
                case AccountOpened():
                    self.users[event.user].append(event.account)
                    self.user_of[event.account] = event.user
                    self.changed_accounts.append(event.account)
                case AssetDefined():
                    self._add_asset(event.asset)
                case ShardDefined():
                    self.shards[event.shard] = event.tag
                case MarketDefined():
                    self._add_market(event.market)
                case MarketStateChanged():
                    self.markets[event.market] = with_state(self.markets[event.market], event.state)
                case _:
                    pass
        self.position, self.t_us, self.chain_hash = frame.n, frame.t_us, chain_hash(data)
        return frame

    def _add_asset(self, asset: Asset) -> None:
        self.assets[asset.asset] = asset
        self.asset_by_symbol[asset.symbol] = asset.asset

    def _add_market(self, market: Market) -> None:
        self.markets[market.market] = market
        self.market_by_symbol[market.symbol] = market.market

"""Listing: which numbers, shards and states new markets and assets get, and the operations that define them.

Every item of a request has one action, in the order of the request, so that the events of the operation are the
results. What is refused beforehand has an action too, one that shard 0 refuses for the same reason.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from exchange.admin.calls import Numbers, refused_whole, reused
from exchange.admin.desk import FRAME_ACTIONS_MAX, Part, in_parts
from exchange.admin.executed import Outcome
from exchange.admin.names import part_name
from exchange.admin.port import Host
from exchange.control.view import ControlView
from exchange.domain.limits import OPERATION_ACTIONS_MAX
from exchange.domain.markets import Asset, Market, MarketState, market_is_valid, symbol_is_valid
from exchange.domain.operations import DefineAsset, DefineMarket, OperatorAction, OperatorRole, SetMarketState
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD

NOTHING: Final = SetMarketState()
"""An action that changes nothing: there is no market 0, so it is refused."""
_REFUSED_MARKET: Final = DefineMarket(Market())
"""What an invalid market becomes: shorter than what may be wrong with it, and refused for the same reason."""
_REFUSED_ASSET: Final = DefineAsset(Asset())

Planner = Callable[[ControlView, Sequence[int]], Iterator[list[OperatorAction]]]
"""Gives the actions of parts, by number in ascending order, as they are to be on a view."""


class ClaimedJob:
    """A request of many items: an operation that claims its name, and one for each part (`names`).

    Attributes:
        outcomes: of the parts that were applied by this job, as far as it heard of them.
        is_new: it applied something itself.
        parts_count: how many there are; those without outcome were applied before.
    """

    alone = True

    def __init__(
        self, host: Host, name: bytes, digest: bytes, parts_count: int, plan: Planner, role: OperatorRole
    ) -> None:
        self._host = host
        self._name = name
        self._role = role
        self._plan = plan
        self.names = [part_name(name, digest, part) for part in range(parts_count)]
        self._number_of = {name: number for number, name in enumerate(self.names)}
        self.outcomes: dict[int, Outcome] = {}
        self.is_new = False
        self.parts_count = parts_count

    def parts(self) -> Sequence[Part]:
        """Return what shard 0 has not applied yet, at most what one frame holds.

        Raises:
            AdminRefusal: REQUEST_ID_REUSED: the name was claimed by another request.
        """
        claimed = self._host.answered(self._name, by_operator=True) is not None
        left = [number for number, name in enumerate(self.names) if not self._host.answered(name, by_operator=True)]
        if claimed and left[:1] == [0]:
            raise reused(self._name)
        claim = [] if claimed else [Part(self._role, (NOTHING,), self._name)]
        chosen = left[: FRAME_ACTIONS_MAX // OPERATION_ACTIONS_MAX]
        planned = zip(chosen, self._plan(self._host.view, chosen), strict=True)
        return [*claim, *(Part(self._role, tuple(actions), self.names[number]) for number, actions in planned)]

    def take(self, part: Part, outcome: Outcome) -> None:
        """Take what became of the claim or of a part.

        Raises:
            AdminRefusal: shard 0 refused it as a whole.
        """
        if outcome.reason == RejectReason.REQUEST_ID_REUSED:
            raise reused(self._name)
        if outcome.reason:
            raise refused_whole(outcome, CONTROL_SHARD)
        number = self._number_of.get(part.name)
        if number is None:
            return
        self.is_new = self.is_new or outcome.is_applied or outcome.reentered
        if outcome.is_applied:
            self.outcomes[number] = outcome


class MarketPlanner:
    """Plans the parts of a CreateMarkets request."""

    def __init__(self, markets: Sequence[Market]) -> None:
        """Cut the request into parts, which do not depend on what there is.

        Args:
            markets: as asked for: a number, a shard or a state of zero is to be chosen.
        """
        sizes = in_parts([DefineMarket(market) if len(market.symbol) <= 32 else _REFUSED_MARKET for market in markets])
        self.parts: list[Sequence[Market]] = []
        rest = iter(markets)
        for part in sizes:
            self.parts.append(list(islice(rest, len(part))))
        self._asked = {market.market for market in markets if market.market}

    def __call__(self, view: ControlView, parts: Sequence[int]) -> Iterator[list[OperatorAction]]:
        """Yield the actions of the parts."""
        numbers = Numbers(view.markets, self._asked)
        symbols = dict(view.market_by_symbol)
        symbol_of = {number: symbol for symbol, number in symbols.items()}
        shards = _Shards(view)
        for part in parts:
            actions: list[OperatorAction] = []
            for asked in self.parts[part]:
                market = msgspec.structs.replace(
                    asked,
                    market=asked.market or numbers.peek(),
                    shard=asked.shard or shards.least(),
                    state=asked.state or MarketState.OPEN,
                )
                if not market_is_valid(market) or max(market.market, market.base_asset, market.quote_asset) >= 1 << 32:
                    actions.append(_REFUSED_MARKET)
                    continue
                assets_known = market.base_asset in view.assets and market.quote_asset in view.assets
                if not assets_known or market.shard not in shards:
                    actions.append(DefineMarket(market))
                    continue
                if market.market in symbol_of:
                    # Entered as it is it would change the market that has the number. With a free number and that
                    # market's symbol it is refused, as ALREADY_DEFINED.
                    taken = symbol_of[market.market]
                    actions.append(DefineMarket(msgspec.structs.replace(market, market=numbers.peek(), symbol=taken)))
                    continue
                actions.append(DefineMarket(market))
                if market.symbol in symbols:
                    continue
                symbols[market.symbol] = market.market
                symbol_of[market.market] = market.symbol
                shards.count(market.shard)
                if not asked.market:
                    numbers.use(market.market)
            yield actions


class AssetPlanner:
    """Plans a DefineAssets request, which has one part."""

    def __init__(self, assets: Sequence[Asset]) -> None:
        self._assets = assets

    def __call__(self, view: ControlView, parts: Sequence[int]) -> Iterator[list[OperatorAction]]:
        """Yield the actions of the one part."""
        numbers = Numbers(view.assets, (asset.asset for asset in self._assets if asset.asset))
        symbols = set(view.asset_by_symbol)
        for _ in parts:
            actions: list[OperatorAction] = []
            for asked in self._assets:
                asset = asked if asked.asset else msgspec.structs.replace(asked, asset=numbers.peek())
                if not symbol_is_valid(asset.symbol):
                    actions.append(_REFUSED_ASSET)
                    continue
                actions.append(DefineAsset(asset))
                if not asked.asset and asset.symbol not in symbols and asset.decimals <= 18:
                    numbers.use(asset.asset)
                symbols.add(asset.symbol)
            yield actions


class _Shards:
    """The trading shards, by how many markets they have."""

    def __init__(self, view: ControlView) -> None:
        self._counts = dict.fromkeys(view.trading_shards(), 0)
        for market in view.markets.values():
            self._counts[market.shard] += 1
        self._heap = [(markets, shard) for shard, markets in self._counts.items()]
        heapq.heapify(self._heap)

    def __contains__(self, shard: int) -> bool:
        return shard in self._counts

    def least(self) -> int:
        """Return the shard with the fewest markets, the lowest of several; 1 where there is none at all."""
        while self._heap:
            markets, shard = self._heap[0]
            if self._counts[shard] == markets:
                return shard
            heapq.heapreplace(self._heap, (self._counts[shard], shard))
        return 1

    def count(self, shard: int) -> None:
        """Count another market of a shard."""
        self._counts[shard] += 1

"""Assets and markets: defining them, and what markets let traders do."""

from collections.abc import Sequence
from typing import Any

from clob.v1 import admin_service_pb2 as api
from clob.v1 import market_pb2
from exchange.admin.calls import Calls, Time, check_count, request_id_of, reused
from exchange.admin.executed import Outcome
from exchange.admin.listing import AssetPlanner, ClaimedJob, MarketPlanner, Planner
from exchange.admin.names import body_digest, part_name
from exchange.admin.port import NotInLogError
from exchange.admin.reconcile import ManyActions, Reconciler, run_all
from exchange.admin.refusals import explain, refuse_field
from exchange.domain.limits import OPERATION_ACTIONS_MAX
from exchange.domain.markets import Asset, LotRule, Market, MarketState, TickRule
from exchange.domain.operations import OperatorAction, OperatorRole, SetMarketState
from exchange.domain.record import known
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD

MARKETS_MAX = 32_768
ASSETS_MAX = 1_024


class MarketCalls:
    """DefineAssets, CreateMarkets and SetMarketState."""

    def __init__(self, calls: Calls, reconciler: Reconciler) -> None:
        self._calls = calls
        self._host = calls.host
        self._desk = calls.desk
        self._reconciler = reconciler

    async def define_assets(self, request: api.DefineAssetsRequest, time_: Time) -> api.DefineAssetsResponse:
        """Define assets."""
        request_id = request_id_of(request.request_id)
        check_count("assets", len(request.assets), ASSETS_MAX)
        assets = [Asset(asset.asset, asset.symbol, asset.decimals) for asset in request.assets]
        outcomes, repeated = await self._claimed(request_id, body_digest(request), 1, AssetPlanner(assets), time_)
        response = api.DefineAssetsResponse(control_n=outcomes[0].n, repeated=repeated)
        refusals = outcomes[0].refusals()
        defined = (
            event.asset_defined.asset.asset
            for event in outcomes[0].events
            if event.WhichOneof("event") == "asset_defined"
        )
        for place, asset in enumerate(assets, 1):
            reason = refusals.get(place)
            response.results.add(asset=asset.asset if reason else next(defined), reason=_wire(reason))
        explain(response)
        return response

    async def create_markets(self, request: api.CreateMarketsRequest, time_: Time) -> api.CreateMarketsResponse:
        """List markets in shard 0, then open their books in their shards."""
        request_id = request_id_of(request.request_id)
        check_count("markets", len(request.markets), MARKETS_MAX)
        markets = [_market(market) for market in request.markets]
        planner = MarketPlanner(markets)
        digest = body_digest(request)
        with self._reconciler.leave_new_alone():
            return await self._list_and_open(request_id, digest, planner, time_)

    async def _list_and_open(
        self, request_id: bytes, digest: bytes, planner: MarketPlanner, time_: Time
    ) -> api.CreateMarketsResponse:
        outcomes, repeated = await self._claimed(request_id, digest, len(planner.parts), planner, time_)
        response = api.CreateMarketsResponse(control_n=max(outcome.n for outcome in outcomes), repeated=repeated)
        listed: dict[int, int] = {}
        for part, outcome in zip(planner.parts, outcomes, strict=True):
            refusals = outcome.refusals()
            defined = (
                event.market_defined.market for event in outcome.events if event.WhichOneof("event") == "market_defined"
            )
            for place, asked in enumerate(part, 1):
                if reason := refusals.get(place):
                    response.results.add(market=asked.market, shard=asked.shard, reason=_wire(reason))
                else:
                    market = next(defined)
                    listed[market.market] = len(response.results)
                    response.results.add(market=market.market, shard=market.shard)
        refused = await self._reconciler.open_missing(listed, time_.left_s)
        for number, reason in refused.items():
            response.results[listed[number]].reason = _wire(reason)
        explain(response)
        return response

    async def set_market_state(self, request: api.SetMarketStateRequest, time_: Time) -> api.SetMarketStateResponse:
        """Change the state of markets in their shards, then in the listing, which keeps the answer."""
        request_id = request_id_of(request.request_id)
        check_count("markets", len(request.markets), MARKETS_MAX)
        if not known(MarketState, request.state):
            refuse_field("state", f"is {request.state}; a market is OPEN, POST_ONLY, CANCEL_ONLY or HALTED")
        if len(set(request.markets)) != len(request.markets):
            refuse_field("markets", "name a market twice; each is named once")
        answer = _StateAnswer(request)
        digest = body_digest(request)
        parts = len(answer.parts)
        self._calls.check_no_user(request_id)
        name, _ = await self._calls.answer_of(request_id)
        with self._reconciler.leave_alone(request.markets):
            if self._host.answered(part_name(name, digest, 0), by_operator=True) is None:
                if self._host.answered(name, by_operator=True) is not None:
                    raise reused(request_id)
                answer.refused = await self._change_states(request, time_)
            outcomes, repeated = await self._claimed(request_id, digest, parts, answer, time_)
        response = api.SetMarketStateResponse(repeated=repeated)
        reasons: list[RejectReason | None] = []
        for part, outcome in zip(answer.parts, outcomes, strict=True):
            refusals = outcome.refusals()
            reasons += [refusals.get(place) for place, _ in enumerate(part, 1)]
        for number, reason in zip(request.markets, reasons, strict=True):
            listed = self._host.view.markets.get(number)
            response.results.add(
                market=number, shard=listed.shard if listed else 0, reason=_wire(_StateAnswer.told(reason))
            )
        explain(response)
        return response

    async def _change_states(self, request: api.SetMarketStateRequest, time_: Time) -> dict[int, RejectReason]:
        """Change the states in the shards of the markets; return which were refused, and why."""
        listed = self._host.view.markets
        by_shard: dict[int, list[int]] = {}
        refused: dict[int, RejectReason] = {}
        for number in request.markets:
            if number in listed:
                by_shard.setdefault(listed[number].shard, []).append(number)
            else:
                refused[number] = RejectReason.UNKNOWN_MARKET

        async def change(shard: int, numbers: Sequence[int]) -> None:
            actions = [SetMarketState(number, request.state, request.effective_us) for number in numbers]
            job = ManyActions(OperatorRole.MARKET, actions)
            await self._desk.do(shard, job, time_.left_s)
            refused.update({numbers[index]: reason for index, reason in job.refusals.items()})

        await run_all(change(shard, numbers) for shard, numbers in by_shard.items())
        return refused

    async def _claimed(
        self, request_id: bytes, digest: bytes, parts_count: int, plan: Planner, time_: Time
    ) -> tuple[list[Outcome], bool]:
        """Have the parts of a request applied once in shard 0; return what became of each, and whether it had been.

        Raises:
            AdminRefusal: REQUEST_ID_REUSED; or UNAVAILABLE: not all of it is applied in time.
        """
        self._calls.check_no_user(request_id)
        name, _ = await self._calls.answer_of(request_id)
        job = ClaimedJob(self._host, name, digest, parts_count, plan, OperatorRole.MARKET)
        await self._desk.do(CONTROL_SHARD, job, time_.left_s)
        outcomes = dict(job.outcomes)
        entries: dict[int, dict[bytes, Any]] = {}
        for number, part in enumerate(job.names):
            if number in outcomes:
                continue
            answered = self._host.answered(part, by_operator=True)
            if answered is None:
                raise NotInLogError(
                    f"NOT_IN_LOG: shard 0 does not remember part {number} of request {request_id.hex()}"
                )
            if answered.n not in entries:
                entries[answered.n] = await self._calls.logged(answered.n)
            outcomes[number] = entries[answered.n][part].outcome
        return [outcomes[number] for number in range(parts_count)], not job.is_new


class _StateAnswer:
    """The listing's side of a SetMarketState request, which is also where the answer is kept.

    An action for each market, in order. Where the shard changed the state at once the listing does too. Where it is to
    come later, shard 0 refuses to schedule it, which is the record that the shard did not. Where the shard had no room
    for another timer the record is a state that does not exist.
    """

    def __init__(self, request: api.SetMarketStateRequest) -> None:
        self._state = request.state
        self._effective_us = request.effective_us
        markets = list(request.markets)
        size = OPERATION_ACTIONS_MAX
        self.parts = [markets[first : first + size] for first in range(0, len(markets), size)]
        self.refused: dict[int, RejectReason] = {}

    def __call__(self, view: object, parts: Sequence[int]) -> Any:
        """Yield the actions of the parts."""
        for part in parts:
            yield [self._action(number) for number in self.parts[part]]

    def _action(self, number: int) -> OperatorAction:
        reason = self.refused.get(number)
        if reason is None:
            return SetMarketState(number, self._state, self._effective_us)
        if reason is RejectReason.UNKNOWN_MARKET:
            return SetMarketState()
        return SetMarketState(number)

    @staticmethod
    def told(reason: RejectReason | None) -> RejectReason | None:
        """Return the reason that the caller is told, of the one that shard 0 recorded."""
        if reason is RejectReason.NOT_FOR_THIS_SHARD:
            return None
        return RejectReason.TOO_MANY_TIMERS if reason is RejectReason.INVALID_MARKET_STATE else reason


def _market(market: market_pb2.Market) -> Market:
    return Market(
        market.market,
        market.shard,
        market.symbol,
        market.base_asset,
        market.quote_asset,
        market.base_units_per_lot,
        market.quote_units_per_tick_lot,
        tuple(TickRule(row.from_price_ticks, row.multiple_ticks) for row in market.tick_table),
        tuple(LotRule(row.from_price_ticks, row.multiple_lots) for row in market.lot_table),
        market.band_low_ticks,
        market.band_high_ticks,
        market.band_ppm,
        market.maker_fee_ppm,
        market.taker_fee_ppm,
        market.state,
    )


def _wire(reason: RejectReason | None) -> Any:
    """Return a reason as the contracts' enum, whose numbers it has; none: 0."""
    return reason or 0

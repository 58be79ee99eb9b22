"""The playing of a scenario on an engine: each step is signed, framed, executed, shown and compared.

A step that sends something is one entry of the shard's log. Where a step lets time pass, the clock entries that are
then due come before it, as a matcher would send them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import msgspec
from msgspec import UNSET, UnsetType

from exchange.domain import commands as signed
from exchange.domain import operations
from exchange.domain.commands import OrderType, SelfTradePrevention, SignedBatch, TimeInForce
from exchange.domain.events import (
    ActionRejected,
    CommandRejected,
    Event,
    LinkResult,
    MarketDefined,
    MarketStateChanged,
    OrderAccepted,
    OrderCancelled,
    OrderReduced,
    OrderReplaced,
    Trade,
)
from exchange.domain.limits import LINK_TRANSFERS_MAX
from exchange.domain.markets import (
    DEFAULT_SETTINGS,
    LotRule,
    Market,
    MarketState,
    ShardSettings,
    TickRule,
    market_is_valid,
    settings_are_valid,
    with_state,
)
from exchange.domain.operations import OperatorAction, OperatorRole, SetMarketState, Transfer
from exchange.domain.state import ShardState
from exchange.domain.stops import EngineStop
from exchange.domain.units import AMOUNT_UNITS_MAX, COUNTER_BITS, TIME_US_MAX, name_of
from exchange.engine.port import EngineFactory
from exchange.local import scenario as spec
from exchange.local.drawing import EMPTY, NOTHING, Clause, draw, draw_balances, draw_book, draw_events, draw_orders
from exchange.local.expecting import Failure, Happened, check_expect, failures_of
from exchange.local.scenario import AMPLE_UNITS, Scenario, ScenarioError
from exchange.local.venue import VALIDITY_MS, Venue
from exchange.local.views import Names, view_book, view_event
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.errors import WireError

FIRST_FRESH_NONCE: Final = 2**32
"""Nonces of batches that name none go on from here, out of the way of those that a scenario names."""
_MARKETS_PER_OPERATION: Final = 128
_STATES: Final[dict[type[spec.StateStep], MarketState]] = {
    spec.Open: MarketState.OPEN,
    spec.PostOnly: MarketState.POST_ONLY,
    spec.CancelOnly: MarketState.CANCEL_ONLY,
    spec.Halt: MarketState.HALTED,
}


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a step.

    Attributes:
        step: index of the step in the scenario's commands, from 0.
        op: what kind of step it is.
        note: words of the scenario.
        time_us: when it was taken, microseconds after the start.
        entries: positions of the entries that it made in the shard's log.
        outcome: all of it, drawn in one line.
        events: what happened, as JSON.
        shown: what a step that shows something shows, as JSON; null in other steps.
    """

    step: int
    op: str
    note: str
    time_us: int
    entries: list[int]
    outcome: str
    events: list[dict[str, Any]]
    shown: Any = None


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario that was played to its end, or to where the engine stopped.

    Attributes:
        title: of the scenario.
        engine: name of the engine.
        ok: every expectation was met and the engine did not stop unexpectedly.
        failures: what was not as expected, in order.
        setup: events of the entries that made markets and funds before the first step.
        steps: what came of each.
        trades: all trades, each with the index of its step as `step`.
        books: by market: state, last price, levels best first, their orders in the order in which they trade.
        balances: by account and asset: free and locked units.
        fees: by asset: units that the exchange has collected and not sent to the treasury.
        entries: how many entries the shard's log has.
        state_hash, chain_hash: of the shard at the end, hex; the same on every engine.
        stopped: why the engine stopped; then books, balances, fees and state_hash are empty.
    """

    title: str
    engine: str
    ok: bool
    failures: list[Failure]
    setup: list[dict[str, Any]]
    steps: list[StepResult]
    trades: list[dict[str, Any]]
    books: dict[str, Any] = {}
    balances: dict[str, dict[str, dict[str, int]]] = {}
    fees: dict[str, int] = {}
    entries: int
    state_hash: str = ""
    chain_hash: str
    stopped: str | None


class Placed(NamedTuple):
    """An order as the scenario knows it: what an account sent under a name."""

    account: int
    order_id: int
    client_order_id: int


class SentBatch(NamedTuple):
    """A batch that can be sent again, with the names that its orders have, by place in the batch."""

    signed: SignedBatch
    names: dict[int, str]


class Outcome(NamedTuple):
    """What came of a step, still as values: its events, its clauses, what it shows, and how nothing at all is drawn."""

    events: tuple[Event, ...] = ()
    clauses: Sequence[Clause] = ()
    shown: Any = None
    none: str = NOTHING


def play_scenario(scenario: Scenario, factory: EngineFactory) -> Played:
    """Return what comes of a scenario on an engine made by the factory.

    Raises:
        ScenarioError: a step cannot be sent; the message names its index and field.
    """
    return Player(scenario, factory).play()


class Player:
    """A scenario under way on a venue of its own.

    Attributes:
        venue: the shard.
        names: what its numbers are called in the scenario.
        open_lots: by order_id, what is open of it; 0: it has ended.
    """

    def __init__(self, scenario: Scenario, factory: EngineFactory) -> None:
        self.scenario = scenario
        self.factory = factory
        self.names = Names()
        self.open_lots: dict[int, int] = {}
        self._assets = {name: number for number, name in enumerate(_assets_of(scenario), 1)}
        self.names.assets = {number: name for name, number in self._assets.items()}
        self._accounts: dict[str, int] = {}
        self._symbols: dict[str, int] = {}
        self._markets: dict[int, Market] = {}
        self._orders: dict[str, Placed] = {}
        self._batches: dict[str, SentBatch] = {}
        self._settings = self._starting_settings()
        self._deposited: dict[int, int] = {}
        self._last_link = 0
        self._fresh_nonce = FIRST_FRESH_NONCE
        self._names_sent: dict[int, str] = {}
        self._path = ""
        self.venue = Venue(factory, settings=self._settings)
        self.venue.now_us = scenario.start_us

    def play(self) -> Played:
        """Return what comes of all steps. Raises as `play_scenario` does."""
        for index, step in enumerate(self.scenario.commands):
            check_expect(f"commands[{index}]", step.expect)
        setup = self._set_up()
        steps: list[StepResult] = []
        trades: list[dict[str, Any]] = []
        failures: list[Failure] = []
        stopped = None
        for index, step in enumerate(self.scenario.commands):
            self._path = f"commands[{index}]"
            first = self.venue.engine.position + 1
            try:
                outcome = self._take(step)
            except EngineStop as stop:
                stopped = str(stop)
                outcome = Outcome(clauses=[(f"stopped {stop.reason}",)])
            views = [self._view(event) for event in outcome.events]
            happened = Happened(views, draw_events(views) + list(outcome.clauses), outcome.none)
            steps.append(
                StepResult(
                    step=index,
                    op=str(step.__struct_config__.tag),
                    note=step.note,
                    time_us=self.venue.now_us - self.scenario.start_us,
                    entries=list(range(first, self.venue.engine.position + 1)),
                    outcome=draw(happened.clauses, happened.none),
                    events=views,
                    shown=outcome.shown,
                )
            )
            trades += [{"step": index, **view} for view in views if view["event"] == "Trade"]
            if stopped is None:
                failures += failures_of(self, self._path, step.expect, happened)
                continue
            failures += self._failures_of_stop(step, happened, rest=len(self.scenario.commands) - index - 1)
            break
        return Played(
            title=self.scenario.title,
            engine=self.factory.name,
            ok=not failures,
            failures=failures,
            setup=setup,
            steps=steps,
            trades=trades,
            entries=self.venue.engine.position,
            chain_hash=self.venue.engine.chain_hash.hex(),
            stopped=stopped,
            **({} if stopped else self._final_state()),
        )

    def _final_state(self) -> dict[str, Any]:
        """Return the fields of Played that only a running engine can fill."""
        state = self.state()
        return {
            "books": {self.names.markets[book.market.market]: view_book(book, self.names) for book in state.books},
            "balances": {name: self.balances(number) for name, number in self._accounts.items()},
            "fees": {self.names.assets[fee.asset]: fee.amount_units for fee in state.fees},
            "state_hash": self.venue.engine.state_hash().hex(),
        }

    # --- what there is now ------------------------------------------------------------------------------------------

    def state(self) -> ShardState:
        """Return the state of the shard, by the one way that every engine has."""
        return read_shard_checkpoint(self.venue.engine.checkpoint())

    def book(self, market: int) -> dict[str, Any]:
        """Return a market's book as JSON."""
        return next(view_book(book, self.names) for book in self.state().books if book.market.market == market)

    def balances(self, account: int) -> dict[str, dict[str, int]]:
        """Return what the account has, by the name of each asset of the scenario."""
        known = self.venue.engine.balances(account)
        return {
            name: dict(zip(("free_units", "locked_units"), known.get(number, (0, 0)), strict=True))
            for name, number in self._assets.items()
        }

    def open_orders(self, account: int) -> list[dict[str, Any]]:
        """Return the account's open orders as JSON, oldest first."""
        return [
            {
                "order_id": order.order_id,
                "order_name": self.names.orders[order.order_id],
                "client_order_id": order.client_order_id,
                "market_symbol": self.names.markets[order.market],
                "side": signed.Side(order.side).name,
                "price_ticks": order.price_ticks,
                "open_lots": order.open_lots,
                "filled_lots": order.filled_lots,
            }
            for order in self.venue.engine.open_orders(account)
        ]

    def account_named(self, name: spec.Name, field: str) -> int:
        """Return the number of an account. Raises ScenarioError where the scenario has none of that name."""
        if str(name) not in self._accounts:
            self._fail(field, f"there is no account {name!r}; there are: {', '.join(self._accounts) or 'none'}")
        return self._accounts[str(name)]

    def market_named(self, name: str | int | None, field: str = "market") -> int:
        """Return the number of a market that the scenario has, or a bare number as it is."""
        if name is None:
            if len(self._symbols) != 1:
                self._fail(field, f"is missing, and there are several markets: {', '.join(self._symbols)}")
            return next(iter(self._symbols.values()))
        if isinstance(name, int):
            return name
        if name not in self._symbols:
            self._fail(field, f"there is no market {name!r}; there are: {', '.join(self._symbols)}")
        return self._symbols[name]

    def known_market(self, name: str | int | None, field: str = "market") -> int:
        """Return the number of a market that has a book."""
        market = self.market_named(name, field)
        if market not in self._markets:
            self._fail(field, f"market {name!r} has no book")
        return market

    def order_id_named(self, name: spec.Name, field: str) -> int:
        """Return the order_id of an order that a step sent; of one that was refused, an order_id that nothing has."""
        return self._order_named(name, field).order_id

    def _failures_of_stop(self, step: spec.Step, happened: Happened, rest: int) -> list[Failure]:
        """Return what is wrong about an engine that stopped: nothing if the last step draws it as expected."""
        if rest:
            return [Failure(field=self._path, message=f"the engine stopped and {rest} steps were not taken")]
        if isinstance(step.expect, str):
            return failures_of(self, self._path, step.expect, happened)
        return [Failure(field=self._path, message="the engine stopped")]

    def _order_named(self, name: spec.Name, field: str) -> Placed:
        if str(name) not in self._orders:
            self._fail(
                field,
                f"no earlier step places an order {name!r}; one that does not exist is named by order_id",
            )
        return self._orders[str(name)]

    def _fail(self, field: str, detail: str) -> NoReturn:
        raise ScenarioError(f"{self._path}.{field}" if self._path and field else self._path or field, detail)

    # --- before the first step --------------------------------------------------------------------------------------

    def _set_up(self) -> list[dict[str, Any]]:
        events: list[Event] = []
        markets = [self._new_market(index, market) for index, market in enumerate(self.scenario.markets)]
        for start in range(0, len(markets), _MARKETS_PER_OPERATION):
            events += self.venue.define_markets(*markets[start : start + _MARKETS_PER_OPERATION])
        transfers: list[Transfer] = []
        for index, account in enumerate(self.scenario.accounts):
            self._path = f"accounts[{index}]"
            name, number = str(account.name), index + 1
            if name in self._accounts:
                self._fail("name", f"{name!r} stands twice; keep one")
            self._accounts[name] = number
            self.names.accounts[number] = name
            funds = dict.fromkeys(self._assets, AMPLE_UNITS) if account.funds == "ample" else account.funds
            assert isinstance(funds, dict)
            transfers += self._transfers(number, funds)
        for start in range(0, len(transfers), LINK_TRANSFERS_MAX):
            self._last_link += 1
            link = self.venue.link(*transfers[start : start + LINK_TRANSFERS_MAX], sequence=self._last_link)
            events += self.venue.enter(links=(link,))
        self._learn(events)
        assert not any(isinstance(event, ActionRejected) for event in events)
        return [self._view(event) for event in events]

    def _starting_settings(self) -> ShardSettings:
        settings = ShardSettings(**_given(self.scenario.settings, DEFAULT_SETTINGS))
        if not settings_are_valid(settings):
            raise ScenarioError("settings", "a value is out of its bounds; the schema states them")
        return settings

    def _new_market(self, index: int, market: spec.MarketSpec) -> Market:
        self._path = f"markets[{index}]"
        if market.symbol in self._symbols:
            self._fail("symbol", f"{market.symbol!r} stands twice; keep one")
        number = self._number_market(market.symbol)
        made = Market(
            market=number,
            shard=self.venue.shard,
            base_asset=self._assets[market.base],
            quote_asset=self._assets[market.quote],
            tick_table=tuple(TickRule(row.from_price_ticks, row.multiple_ticks) for row in market.tick_table),
            lot_table=tuple(LotRule(row.from_price_ticks, row.multiple_lots) for row in market.lot_table),
            state=_state(market.state),
            **{name: getattr(market, name) for name in _PLAIN_SETTINGS},
        )
        if market.base == market.quote:
            self._fail("quote", f"{market.quote!r} is the base too; a market needs two assets")
        if not market_is_valid(made):
            self._fail("", "a table does not start at 1 or does not ascend, or the band's low edge is above its high")
        return made

    def _number_market(self, symbol: str) -> int:
        number = self._symbols[symbol] = len(self._symbols) + 1
        self.names.markets[number] = symbol
        return number

    def _transfers(self, account: int, funds: Mapping[str, int]) -> list[Transfer]:
        transfers = []
        for name, units in funds.items():
            asset = self._asset_named(name, "funds")
            self._deposited[asset] = self._deposited.get(asset, 0) + units
            if self._deposited[asset] > AMOUNT_UNITS_MAX:
                self._fail("funds", f"deposits of {name} together exceed 2^63-1 units; name smaller amounts")
            if units:
                transfers.append(Transfer(account, asset, units))
        return transfers

    def _asset_named(self, name: str | int, field: str) -> int:
        if isinstance(name, int):
            return name
        if name not in self._assets:
            self._fail(field, f"there is no asset {name!r}; there are: {', '.join(self._assets)}; add it to `assets`")
        return self._assets[name]

    # --- steps ------------------------------------------------------------------------------------------------------

    def _take(self, step: spec.Step) -> Outcome:
        """Let time pass as the step says, send what it sends, show what it shows."""
        self._names_sent = {}
        try:
            clock = self._pass_time(step)
            return self._act(step, clock)
        except WireError as error:
            field = error.field.rpartition(".")[2]
            raise ScenarioError(
                f"{self._path}.{field}" if field in step.__struct_fields__ else self._path, str(error)
            ) from None

    def _act(self, step: spec.Step, clock: tuple[Event, ...]) -> Outcome:
        match step:
            case spec.Batch():
                return Outcome(clock + self._send_batch(step))
            case spec.Resend():
                return Outcome(clock + self._resend(step))
            case spec.Place() | spec.Cancel() | spec.Reduce() | spec.Replace() | spec.CancelAll() | spec.Release():
                return Outcome(clock + self._send_command(step))
            case spec.Deposit():
                return Outcome(clock + self._deposit(step))
            case spec.Advance():
                return Outcome(clock)
            case spec.ShowBook():
                book = self.book(self.known_market(step.market))
                return Outcome(clock, draw_book(book), book, EMPTY)
            case spec.ShowBalances():
                balances = self.balances(self.account_named(step.account, "account"))
                return Outcome(clock, draw_balances(balances), balances, EMPTY)
            case spec.ShowOrders():
                orders = self.open_orders(self.account_named(step.account, "account"))
                return Outcome(clock, draw_orders(orders), orders, EMPTY)
            case spec.SweepFees():
                sweep = operations.SweepFees(self._asset_named(step.asset, "asset"))
                return Outcome(clock + self._operate(OperatorRole.TREASURY, sweep))
            case _:
                return Outcome(clock + self._operate(OperatorRole.MARKET, self._market_action(step)))

    def _enter(self, *batches: SignedBatch, **parts: Any) -> tuple[Event, ...]:
        events = self.venue.enter(*batches, **parts)
        self._learn(events)
        return events

    def _operate(self, role: OperatorRole, action: OperatorAction) -> tuple[Event, ...]:
        return self._enter(operations=(self.venue.operation(role, action),))

    def _pass_time(self, step: spec.Step) -> tuple[Event, ...]:
        now_us = self.venue.now_us - self.scenario.start_us
        until = self._moment(step, "at")
        if isinstance(step, spec.Advance):
            passes = self._moment(step, "by")
            if (passes is None) == (until is None):
                self._fail("", "`advance` says either how long, by_us or by_ms, or until when, at_us or at_ms")
            until = until if passes is None else now_us + passes
        if until is None:
            return ()
        if until < now_us:
            self._fail("at_us", f"{until} us after the start have passed; it is {now_us} us after the start already")
        if self.scenario.start_us + until > TIME_US_MAX:
            self._fail("at_us", f"{until} us after the start is beyond the last time there is, {TIME_US_MAX} us")
        self.venue.now_us = self.scenario.start_us + until
        events: tuple[Event, ...] = ()
        while self.venue.engine.has_due_work(self.venue.now_us):
            events += self._enter()
        return events

    def _moment(self, step: spec.Step, kind: str) -> int | None:
        """Return a time of the step in microseconds, whichever way it is written."""
        time_us: int | None = getattr(step, f"{kind}_us")
        time_ms: int | None = getattr(step, f"{kind}_ms")
        if time_us is not None and time_ms is not None:
            self._fail(f"{kind}_ms", f"stands beside {kind}_us; keep one")
        return time_us if time_ms is None else time_ms * 1000

    def _deposit(self, step: spec.Deposit) -> tuple[Event, ...]:
        sequence = self._last_link + 1 if step.sequence is None else step.sequence
        for asset, units in step.funds.items():
            if units == 0:
                self._fail(f"funds.{asset}", "0 is no deposit; name 1 unit or more")
        transfers = self._transfers(self.account_named(step.account, "account"), step.funds)
        return self._enter(links=(self.venue.link(*transfers, sequence=sequence),))

    # --- what traders sign ------------------------------------------------------------------------------------------

    def _send_command(self, step: spec.Command) -> tuple[Event, ...]:
        account = self._sender(step, None)
        sent = self._sign(account, [step], None, None)
        return self._send(sent)

    def _send_batch(self, step: spec.Batch) -> tuple[Event, ...]:
        account = self.account_named(step.account, "account")
        sent = self._sign(account, step.commands, step.nonce, step.valid_for_ms)
        if step.id is not None:
            self._batches[str(step.id)] = sent
        return self._send(sent)

    def _resend(self, step: spec.Resend) -> tuple[Event, ...]:
        if str(step.batch) not in self._batches:
            self._fail("batch", f"no earlier step sends a batch {step.batch!r}; `id` names a batch")
        return self._send(self._batches[str(step.batch)])

    def _send(self, sent: SentBatch) -> tuple[Event, ...]:
        self._names_sent = sent.names
        return self._enter(sent.signed)

    def _sign(
        self, account: int, steps: Sequence[spec.Command], nonce: int | None, valid_for_ms: int | None
    ) -> SentBatch:
        """Sign commands as one batch; the names of its orders stand for nothing until they are accepted."""
        if nonce is None:
            self._fresh_nonce += 1
            nonce = self._fresh_nonce
        outer = self._path
        names: dict[int, str] = {}
        placing: dict[str, Placed] = {}
        commands = []
        for number, step in enumerate(steps, 1):
            if valid_for_ms is not None:
                self._path = f"{outer}.commands[{number - 1}]"
                self._check_inner(step, account)
            commands.append(self._command(step, account, placing))
            if isinstance(step, spec.Place):
                name = self._new_name(step, placing)
                if name is not None:
                    names[number] = name
                    placing[name] = Placed(account, self._unknown_order_id, step.client_order_id)
            elif isinstance(step, spec.OrderStep) and step.order is not None:
                names[number] = str(step.order)
        self._path = outer
        batch = self.venue.batch(
            account,
            *commands,
            nonce=nonce,
            valid_for_ms=VALIDITY_MS if valid_for_ms is None else valid_for_ms,
        )
        self._orders |= placing
        return SentBatch(batch, names)

    @property
    def _unknown_order_id(self) -> int:
        """An order_id that no order ever has in a scenario: the last one of the shard."""
        return name_of(self.venue.shard, (1 << COUNTER_BITS) - 1)

    def _check_inner(self, step: spec.Command, account: int) -> None:
        for field in ("at_us", "at_ms", "expect"):
            if getattr(step, field) is not None:
                self._fail(field, "belongs to the batch, whose commands are executed together; move it there")
        if self._sender(step, account) != account:
            self._fail("account", "is not the account that signs the batch; leave it out")

    def _sender(self, step: spec.Command, batch_account: int | None) -> int:
        if step.account is not None:
            return self.account_named(step.account, "account")
        if batch_account is not None:
            return batch_account
        if isinstance(step, spec.OrderStep) and step.order is not None:
            return self._order_named(step.order, "order").account
        return self._fail("account", "is missing")

    def _new_name(self, step: spec.Place, placing: Mapping[str, Placed]) -> str | None:
        if step.id is None:
            return None
        name = str(step.id)
        open_already = name in self._orders and self.open_lots.get(self._orders[name].order_id, 0) > 0
        if open_already or name in placing:
            self._fail("id", f"{name!r} names an open order; a name is free again when its order has ended")
        return name

    def _command(self, step: spec.Command, account: int, placing: Mapping[str, Placed]) -> signed.Command:
        match step:
            case spec.Place():
                return signed.PlaceOrder(
                    market=self.market_named(step.market),
                    side=_side(step.side),
                    order_type=OrderType[step.order_type.upper()],
                    time_in_force=TimeInForce[step.time_in_force.upper()] if step.time_in_force else 0,
                    post_only=step.post_only,
                    self_trade_prevention=SelfTradePrevention[step.self_trade_prevention.upper()]
                    if step.self_trade_prevention
                    else 0,
                    price_ticks=step.price_ticks,
                    quantity_lots=step.quantity_lots,
                    client_order_id=step.client_order_id,
                )
            case spec.Cancel():
                return signed.CancelOrder(*self._reference(step, placing))
            case spec.Reduce():
                return signed.ReduceOrder(*self._reference(step, placing), step.quantity_lots)
            case spec.Replace():
                return signed.ReplaceOrder(*self._reference(step, placing), step.price_ticks, step.quantity_lots)
            case spec.CancelAll():
                return signed.CancelAllOrders(*self._scope(step))
            case spec.Release():
                return signed.ReleaseFunds(self._asset_named(step.asset, "asset"), step.amount_units)

    def _reference(self, step: spec.OrderStep, placing: Mapping[str, Placed]) -> tuple[int, int]:
        """Return order_id and client_order_id by which the step names an order."""
        if step.order is None:
            if step.order_id is None and step.client_order_id is None:
                self._fail("order", "is missing; name the order by `order`, `order_id` or `client_order_id`")
            return step.order_id or 0, step.client_order_id or 0
        if step.order_id is not None or step.client_order_id is not None:
            self._fail("order", "stands beside order_id or client_order_id; keep one")
        if str(step.order) in placing:
            if not placing[str(step.order)].client_order_id:
                self._fail("order", "is placed in the same batch, before it has an order_id; give it a client_order_id")
            return 0, placing[str(step.order)].client_order_id
        return self._order_named(step.order, "order").order_id, 0

    # --- what operators sign ----------------------------------------------------------------------------------------

    def _market_action(self, step: spec.Step) -> OperatorAction:
        match step:
            case spec.StateStep():
                state = _state(step.state) if isinstance(step, spec.SetState) else _STATES[type(step)]
                effective = self._moment(step, "effective")
                effective_us = 0 if effective is None else self.scenario.start_us + effective
                return SetMarketState(self.market_named(step.market), state, effective_us)
            case spec.CancelOrders():
                account = 0 if step.account is None else self.account_named(step.account, "account")
                return operations.CancelOrders(account, *self._scope(step))
            case spec.Settings():
                return operations.SetShardSettings(ShardSettings(**_given(step, self.state().core.settings)))
            case spec.DefineMarket():
                return operations.DefineMarket(self._defined(step))
            case _:
                raise AssertionError(f"{type(step).__name__} is no action of an operator")

    def _scope(self, step: spec.CancelAll | spec.CancelOrders) -> tuple[int, int]:
        return (
            0 if step.market is None else self.market_named(step.market),
            0 if step.side is None else _side(step.side),
        )

    def _defined(self, step: spec.DefineMarket) -> Market:
        number = self._symbols.get(step.symbol)
        known = self._markets.get(number) if number is not None else None
        if known is None:
            for field in ("base", "quote"):
                if getattr(step, field) is UNSET:
                    self._fail(field, f"is missing, and {step.symbol!r} is a new market")
            number = self._number_market(step.symbol) if number is None else number
            known = Market(
                market=number,
                shard=self.venue.shard,
                base_units_per_lot=1,
                quote_units_per_tick_lot=1,
                state=MarketState.OPEN,
            )
        changes: dict[str, Any] = {
            name: getattr(step, name) for name in _PLAIN_SETTINGS if getattr(step, name) is not UNSET
        }
        for field in ("base", "quote"):
            if (asset := getattr(step, field)) is not UNSET:
                changes[f"{field}_asset"] = self._assets[asset]
        if not isinstance(step.tick_table, UnsetType):
            changes["tick_table"] = tuple(TickRule(row.from_price_ticks, row.multiple_ticks) for row in step.tick_table)
        if not isinstance(step.lot_table, UnsetType):
            changes["lot_table"] = tuple(LotRule(row.from_price_ticks, row.multiple_lots) for row in step.lot_table)
        if not isinstance(step.state, UnsetType):
            changes["state"] = _state(step.state)
        return msgspec.structs.replace(known, **changes)

    # --- what events tell -------------------------------------------------------------------------------------------

    def _learn(self, events: Sequence[Event]) -> None:
        """Keep names, open quantities, market settings and links up with what happened."""
        for event in events:
            match event:
                case OrderAccepted():
                    counter = event.order_id & ((1 << COUNTER_BITS) - 1)
                    name = self._names_sent.get(event.command, f"#{counter}")
                    self.names.orders[event.order_id] = name
                    self._orders[name] = Placed(event.account, event.order_id, event.client_order_id)
                    self.open_lots[event.order_id] = event.quantity_lots
                case Trade():
                    for order_id in (event.maker_order_id, event.taker_order_id):
                        self.open_lots[order_id] -= event.quantity_lots
                case OrderReduced() | OrderReplaced():
                    self.open_lots[event.order_id] = event.open_lots
                case OrderCancelled():
                    self.open_lots[event.order_id] = 0
                case MarketDefined():
                    self._markets[event.market.market] = event.market
                case MarketStateChanged():
                    self._markets[event.market] = with_state(self._markets[event.market], event.state)
                case LinkResult() if not event.reason and not event.repeated:
                    self._last_link = event.sequence
                case _:
                    pass

    def _view(self, event: Event) -> dict[str, Any]:
        view = view_event(event, self.names)
        if isinstance(event, CommandRejected):
            view["order_name"] = self._names_sent.get(event.command)
        return view


_PLAIN_SETTINGS: Final = (
    "symbol",
    "base_units_per_lot",
    "quote_units_per_tick_lot",
    "band_low_ticks",
    "band_high_ticks",
    "band_ppm",
    "maker_fee_ppm",
    "taker_fee_ppm",
)


def _state(name: str) -> MarketState:
    return MarketState[name.upper()]


def _side(name: str) -> signed.Side:
    return signed.Side[name.upper()]


def _given(part: spec.SettingsSpec | spec.Settings, before: ShardSettings) -> dict[str, int]:
    """Return the shard's settings with what is given, and what was before for the rest."""
    given = {name: getattr(part, name) for name in ShardSettings.__struct_fields__}
    return {name: getattr(before, name) if value is UNSET else value for name, value in given.items()}


def _assets_of(scenario: Scenario) -> list[str]:
    """Return the assets of a scenario in the order of their numbers: as they are first named."""
    named: dict[str, None] = {}
    for market in scenario.markets:
        named |= {market.base: None, market.quote: None}
    named |= dict.fromkeys(scenario.assets)
    for step in scenario.commands:
        if isinstance(step, spec.DefineMarket):
            named |= {name: None for name in (step.base, step.quote) if not isinstance(name, UnsetType)}
    return list(named)

"""Makes executions.json: whole logs, which every engine of their rules answers with the same bytes for ever."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from exchange.domain.commands import (
    AllocateFunds,
    Batch,
    CancelAllOrders,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    RequestWithdrawal,
    SelfTradePrevention,
    Side,
    SignedBatch,
    TimeInForce,
)
from exchange.domain.control import ControlRequest, OpenAccount, RegisterKey, RevokeKey
from exchange.domain.frames import ExecutionFrame, OrderFrame
from exchange.domain.markets import Asset, LotRule, Market, MarketState, ShardSettings, TickRule
from exchange.domain.operations import (
    AllocationPolicy,
    CancelOrders,
    CloseWithdrawal,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    Link,
    Operation,
    OperatorRole,
    PayOutFees,
    RaiseControlFloor,
    RotateOperatorKey,
    SetMarketState,
    SetShardSettings,
    SignedLink,
    SweepFees,
    Transfer,
)
from exchange.domain.units import name_of
from exchange.engine.port import RawEntry
from exchange.engine.reference import ReferenceControl, ReferenceFactory
from exchange.local.control_venue import ControlVenue, signed_link
from exchange.local.venue import UNSIGNED, Venue, operator_seed, seed_of
from exchange.reference.signing import public_key_of
from exchange.wire.messages import decode, encode
from tests.support.markets import signed_operation
from tests.support.plain import ENCODING, to_plain

ENVIRONMENT: Final = "vectors"
BTC, USD = 1, 2
ALICE, BOB, CAROL = 7, 8, 9
BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
MARKET, TREASURY, RECOVERY = OperatorRole.MARKET, OperatorRole.TREASURY, OperatorRole.RECOVERY
SHOWN_EVENTS_MAX: Final = 64
SECOND_US: Final = 1_000_000


def vectors() -> dict[str, Any]:
    """Return the document."""
    return {
        "format": 1,
        "what": "Whole logs: genesis, entries, and the execution frames, state hash and checkpoint that answer them.",
        "rule": (
            "ARCHITECTURE.md, section 3: an engine that has loaded `genesis` answers each "
            "entry with `execution_frame`, byte for byte, and then has `state_hash`, `chain_hash` and `checkpoint`. "
            "Signatures of batches are real, except where a log is about bytes that nobody signed. `events` show what "
            f"is in a frame with up to {SHOWN_EVENTS_MAX} of them. Shard 0 is the control log."
        ),
        "encoding": ENCODING,
        "logs": [_log(make) for make in LOGS] + [_control_log()],
    }


def _log(make: Callable[[Venue], None]) -> dict[str, Any]:
    venue = Venue(ReferenceFactory(), environment=ENVIRONMENT, signed=make is not _long_commands)
    make(venue)
    return _document(make.__name__.strip("_"), make.__doc__ or "", venue, venue.engine.checkpoint())


def _document(name: str, what: str, venue: Venue | ControlVenue, checkpoint: bytes) -> dict[str, Any]:
    return {
        "name": name.replace("_", "-"),
        "what": what,
        "genesis": venue.genesis.hex(),
        "entries": [_entry(*answered) for answered in zip(venue.entries, venue.frames, strict=True)],
        "chain_hash": venue.engine.chain_hash.hex(),
        "state_hash": venue.engine.state_hash().hex(),
        "checkpoint": checkpoint.hex(),
    }


def _entry(entry: RawEntry, execution_frame: bytes) -> dict[str, Any]:
    events = decode(ExecutionFrame, execution_frame).events
    return {
        "n": str(entry.n),
        "t_us": str(entry.t_us),
        "order_frame": entry.order_frame.hex(),
        "execution_frame": execution_frame.hex(),
        "events": [{type(event).__name__: to_plain(event)} for event in events]
        if len(events) <= SHOWN_EVENTS_MAX
        else f"{len(events)} events",
    }


# --- trading shards -------------------------------------------------------------------------------------------------


def _market(**settings: Any) -> Market:
    plain: dict[str, Any] = {"market": 1, "shard": 1, "symbol": "BTC-USD", "base_asset": BTC, "quote_asset": USD}
    return Market(**(plain | {"base_units_per_lot": 10, "quote_units_per_tick_lot": 1, "state": 1} | settings))


def _open(venue: Venue, *markets: Market) -> None:
    """Define markets and fund Alice, Bob and Carol."""
    venue.define_markets(*(markets or (_market(),)))
    venue.credit(*(Transfer(account, asset, 1_000_000) for account in (ALICE, BOB, CAROL) for asset in (BTC, USD)))
    venue.now_us += SECOND_US


def _limit(side: Side, lots: int, price: int, time_in_force: TimeInForce = GTC, **others: Any) -> PlaceOrder:
    return PlaceOrder(
        market=others.pop("market", 1),
        side=side,
        order_type=OrderType.LIMIT,
        time_in_force=time_in_force,
        price_ticks=price,
        quantity_lots=lots,
        **others,
    )


def _at_market(side: Side, lots: int, price: int = 0) -> PlaceOrder:
    return PlaceOrder(market=1, side=side, order_type=OrderType.MARKET, price_ticks=price, quantity_lots=lots)


def _trade(venue: Venue, account: int, *commands: Command) -> None:
    venue.trade(account, *commands)
    venue.now_us += 1_000


def _limit_and_market_orders(venue: Venue) -> None:
    """Every order type and time in force, resting, trading, and refused."""
    _open(venue, _market(band_low_ticks=50, band_high_ticks=200))
    _trade(venue, ALICE, _limit(SELL, 5, 101), _limit(SELL, 5, 102, client_order_id=1), _limit(SELL, 5, 101))
    _trade(
        venue, BOB, _limit(BUY, 7, 101), _limit(BUY, 20, 101, IOC), _limit(BUY, 6, 102, FOK), _limit(BUY, 5, 102, FOK)
    )
    _trade(venue, BOB, _limit(BUY, 3, 99), _limit(BUY, 2, 98, client_order_id=1), _limit(BUY, 4, 99, post_only=True))
    _trade(venue, CAROL, _limit(SELL, 1, 99, post_only=True), _at_market(SELL, 4), _at_market(SELL, 100, 99))
    _trade(venue, CAROL, _at_market(BUY, 1), _limit(SELL, 1, 49), _at_market(SELL, 1, 201))
    odd = PlaceOrder(market=1, side=1, order_type=2, time_in_force=GTC, quantity_lots=1)
    _trade(venue, CAROL, odd, PlaceOrder(market=1, side=3), PlaceOrder(market=1, side=1, order_type=9), PlaceOrder())


def _cancel_reduce_replace(venue: Venue) -> None:
    """Open orders are named both ways; what keeps priority and what loses it shows in who trades."""
    _open(venue)
    _trade(venue, ALICE, *(_limit(SELL, 5, 100, client_order_id=number) for number in range(1, 6)))
    first = name_of(1, 1)
    _trade(
        venue,
        ALICE,
        CancelOrder(order_id=first),
        CancelOrder(client_order_id=1),
        ReduceOrder(client_order_id=2, quantity_lots=2),
        ReduceOrder(order_id=first + 2, quantity_lots=5),
        ReplaceOrder(client_order_id=4, quantity_lots=4),
        ReplaceOrder(client_order_id=2, quantity_lots=9),
        CancelOrder(order_id=first + 3, client_order_id=4),
        CancelOrder(),
    )
    _trade(venue, BOB, CancelOrder(order_id=first + 3), _limit(BUY, 6, 100))
    _trade(venue, ALICE, _limit(SELL, 1, 100, client_order_id=5), _limit(SELL, 1, 102, client_order_id=1))
    _trade(
        venue,
        ALICE,
        ReplaceOrder(client_order_id=5, quantity_lots=2),
        ReplaceOrder(client_order_id=5, quantity_lots=3, price_ticks=101),
        ReplaceOrder(client_order_id=2, price_ticks=99),
        ReplaceOrder(client_order_id=5, price_ticks=2**53),
    )
    _trade(venue, BOB, _limit(BUY, 1, 98, client_order_id=1), ReplaceOrder(client_order_id=1, price_ticks=101))


def _self_trade(mode: SelfTradePrevention) -> Callable[[Venue], None]:
    def make(venue: Venue) -> None:
        _open(venue)
        _trade(venue, ALICE, _limit(SELL, 5, 100), _limit(SELL, 2, 101))
        _trade(venue, BOB, _limit(SELL, 3, 100), _limit(SELL, 3, 101))
        _trade(venue, ALICE, _limit(BUY, 9, 101, self_trade_prevention=mode))
        _trade(venue, ALICE, _limit(BUY, 3, 101, IOC, self_trade_prevention=mode))
        _trade(venue, ALICE, _limit(BUY, 3, 101, FOK, self_trade_prevention=mode), CancelAllOrders())

    make.__name__ = f"_self_trade_{mode.name.lower()}"
    make.__doc__ = f"Alice meets her own orders with {mode.name}."
    return make


def _fees(venue: Venue) -> None:
    """Fees of both roles over many small fills, released price improvement, fees swept to the treasury."""
    _open(venue, _market(maker_fee_ppm=333, taker_fee_ppm=777))
    _trade(venue, ALICE, _limit(SELL, 9, 101))
    for lots in (1, 1, 2, 3, 1):
        _trade(venue, BOB, _limit(BUY, lots, 105))
    _trade(venue, ALICE, *(_limit(SELL, 1, price) for price in (101, 102, 103, 103)))
    _trade(venue, BOB, _limit(BUY, 9, 103), CancelAllOrders())
    venue.define_markets(_market(maker_fee_ppm=0, taker_fee_ppm=1_000_000))
    _trade(venue, CAROL, _limit(BUY, 2, 99))
    _trade(venue, ALICE, _limit(SELL, 1, 99))
    venue.operate(TREASURY, SweepFees(USD), SweepFees(USD), SweepFees(BTC))


def _tables_bands_and_funds(venue: Venue) -> None:
    """Tick and lot tables, static and moving bands, settings that cannot be, orders that cannot be paid."""
    tables = {"tick_table": (TickRule(1, 1), TickRule(100, 5)), "lot_table": (LotRule(1, 2), LotRule(100, 1))}
    _open(venue, _market(band_ppm=100_000, band_low_ticks=10, **tables))
    _trade(venue, ALICE, _limit(SELL, 2, 99), _limit(SELL, 1, 99), _limit(SELL, 1, 101), _limit(SELL, 1, 105))
    _trade(venue, BOB, _limit(BUY, 2, 99), _limit(BUY, 2, 89), _limit(BUY, 2, 90), _at_market(BUY, 2))
    _trade(venue, BOB, _at_market(SELL, 2), _limit(SELL, 2, 110), _limit(BUY, 100_000, 100), _limit(SELL, 200_000, 110))
    _trade(venue, BOB, _limit(BUY, 2**53 - 1, 90), _limit(BUY, 2**53, 90), _limit(BUY, 0, 90), _limit(BUY, 2, 0))
    venue.define_markets(
        _market(symbol="ETH-USD"),
        _market(market=2, symbol="btc"),
        _market(market=2, symbol="ETH-USD", shard=2),
        _market(tick_table=(TickRule(2, 1),)),
        _market(market=2, symbol="ETH-USD", state=MarketState.HALTED),
    )
    _trade(
        venue,
        BOB,
        _limit(BUY, 2, 2**40, market=3),
        _limit(BUY, 2, 90, market=2),
        CancelAllOrders(2),
        CancelAllOrders(3),
    )


def _market_states_and_timers(venue: Venue) -> None:
    """Four states, at once and by timers; timers fire before the entry's commands, unless a change withdrew them."""
    _open(venue, _market(), _market(market=2, symbol="ETH-USD"))
    _trade(venue, ALICE, _limit(SELL, 5, 101, client_order_id=1), _limit(SELL, 5, 101, market=2, client_order_id=2))
    for state in (MarketState.POST_ONLY, MarketState.CANCEL_ONLY, MarketState.HALTED, MarketState.OPEN):
        venue.operate(MARKET, SetMarketState(1, state))
        _trade(
            venue,
            ALICE,
            _limit(BUY, 1, 99),
            _limit(BUY, 1, 98, post_only=True),
            ReplaceOrder(client_order_id=1, price_ticks=102),
            ReduceOrder(client_order_id=1, quantity_lots=1),
            CancelAllOrders(side=BUY),
        )
    now = venue.now_us
    venue.operate(
        MARKET,
        SetMarketState(2, MarketState.POST_ONLY, now),
        SetMarketState(1, MarketState.HALTED, now + 3_000),
        SetMarketState(2, MarketState.HALTED, now + 2_000),
        SetMarketState(1, MarketState.CANCEL_ONLY, now + 2_000),
        SetMarketState(1, MarketState.OPEN, now + SECOND_US),
        SetMarketState(3, MarketState.OPEN),
        SetMarketState(1, 9),
    )
    venue.now_us = now + 1_999
    venue.enter()
    venue.now_us = now + 2_000
    _trade(venue, ALICE, _limit(BUY, 1, 99), _limit(BUY, 1, 99, market=2), CancelAllOrders())
    venue.now_us = now + 3_000
    venue.operate(MARKET, CancelOrders(market=1))
    _trade(venue, ALICE, CancelAllOrders(1), CancelOrder(client_order_id=2))
    venue.operate(MARKET, SetMarketState(1, MarketState.CANCEL_ONLY))
    venue.now_us = now + SECOND_US
    venue.enter()


def _links(venue: Venue) -> None:
    """Money comes by links, in order, once; and goes back by a release."""
    venue.credit(Transfer(ALICE, BTC, 100), Transfer(ALICE, USD, 2**62), Transfer(0, USD, 5))
    again = venue.link(Transfer(BOB, USD, 1))
    venue.enter(links=(again, again))
    venue.enter(
        links=(
            again,
            venue.link(Transfer(BOB, USD, 2), Transfer(BOB, USD, 3)),
            venue.link(Transfer(BOB, BTC, 1), sequence=5),
        )
    )
    forged = SignedLink(venue.link(Transfer(BOB, BTC, 1), sequence=4).payload, UNSIGNED)
    elsewhere = signed_link(ENVIRONMENT, Link(0, 2, 4, 4, (Transfer(BOB, BTC, 1),)))
    own = signed_link(ENVIRONMENT, Link(1, 1, 1, 4, (Transfer(BOB, BTC, 1),)))
    from_another = signed_link(ENVIRONMENT, Link(3, 1, 1, 4, (Transfer(CAROL, BTC, 1),)))
    venue.enter(links=(forged, elsewhere, own, SignedLink(b"\xff", UNSIGNED), from_another))
    _trade(venue, ALICE, ReleaseFunds(BTC, 40), ReleaseFunds(BTC, 61), ReleaseFunds(BTC, 60), ReleaseFunds(USD, 0))
    _trade(venue, BOB, ReleaseFunds(3, 1), AllocateFunds(USD, 1, 2), RequestWithdrawal(USD, 1, "x"), OpenAccount(1))
    venue.operate(TREASURY, SweepFees(USD))


def _operations(venue: Venue) -> None:
    """Sequence numbers, roles and signatures of operators; settings, floor and keys."""
    first = venue.operation(MARKET, DefineMarket(_market()))
    venue.enter(operations=(first, first))
    venue.enter(operations=(first, venue.operation(MARKET, RaiseControlFloor(5), SweepFees(USD))))
    for operation in (
        Operation(1, MARKET, 2, (RaiseControlFloor(6),)),
        Operation(1, MARKET, 4, (RaiseControlFloor(6),)),
        Operation(2, MARKET, 3, (RaiseControlFloor(6),)),
        Operation(1, 9, 1, (RaiseControlFloor(6),)),
    ):
        venue.enter(operations=(signed_operation(venue, operation, MARKET),))
    wrong_key = signed_operation(venue, Operation(1, MARKET, 3, (CancelOrders(),)), TREASURY)
    venue.enter(operations=(wrong_key,))
    venue.operate(TREASURY, RaiseControlFloor(5), RaiseControlFloor(4), RaiseControlFloor(5))
    venue.operate(MARKET, SetShardSettings(ShardSettings(1_000, 1, 1)), SetShardSettings(ShardSettings()))
    venue.operate(
        MARKET, CancelOrders(), CancelOrders(market=9), CancelOrders(ALICE, side=7), DefineAsset(Asset(1, "BTC"))
    )
    new_key = public_key_of(seed_of(ENVIRONMENT, "rotated"))
    venue.operate(RECOVERY, RotateOperatorKey(bytes(32)), RotateOperatorKey(new_key))
    venue.operate(RECOVERY, RotateOperatorKey(public_key_of(operator_seed(ENVIRONMENT, RECOVERY))))
    venue.credit(Transfer(ALICE, USD, 1_000))
    # The floor is 5 and frames of a venue were verified under position 0; batches are valid for 30 s, 1 s is allowed.
    venue.trade(ALICE, _limit(BUY, 1, 1))


def _frames(venue: Venue) -> None:
    """Frames that are malformed or empty, and good frames with malformed payloads in them."""
    _open(venue)
    venue.enter()
    for frame in (b"", b"\x08\x01", b"\xff\xff", encode(_frame(venue, ())) + b"\0"):
        venue.enter_raw(frame)
    good = venue.batch(ALICE, _limit(BUY, 1, 99))
    cut = SignedBatch(good.key_id, good.payload[:-1], good.signature)
    empty_command = SignedBatch(good.key_id, good.payload + b"\x2a\x00", good.signature)
    venue.enter_raw(encode(_frame(venue, (cut, good, empty_command, good))))
    many = encode(Batch(ALICE, 1, 99, venue.now_us // 1000 + 1, (CancelAllOrders(),) * 1_024))
    flood = tuple(SignedBatch(good.key_id, many, UNSIGNED) for _ in range(17))
    venue.enter_raw(encode(_frame(venue, flood)))
    action = RegisterKey()
    request = ControlRequest(bytes(16), action)
    raw = _frame(venue, ())
    registered = OrderFrame(
        raw.format, raw.ingress, raw.counter, raw.ingress_time_us, 9, requests=(_complete(request),)
    )
    venue.enter_raw(encode(registered))


def _complete(request: ControlRequest) -> ControlRequest:
    control = ControlVenue(environment=ENVIRONMENT)
    return ControlRequest(request.request_id, control.registration(control.key("alice")))


def _frame(venue: Venue, batches: Sequence[SignedBatch]) -> OrderFrame:
    return OrderFrame(1, bytes(range(16)), venue.engine.position + 1, venue.now_us, 0, tuple(batches))


def _long_commands(venue: Venue) -> None:
    """A taker reaches the most events of a command; a mass cancel does, and goes on in the next entries."""
    _open(venue)
    venue.credit(Transfer(ALICE, BTC, 1_000_000))
    ones = (_limit(SELL, 1, 100),) * 515
    for _ in range(2):
        _trade(venue, ALICE, *ones)
    _trade(venue, BOB, _limit(BUY, 1_030, 100), _limit(BUY, 1, 99))
    for _ in range(2):
        _trade(venue, ALICE, *ones)
    _trade(venue, ALICE, CancelAllOrders(), _limit(SELL, 1, 100))
    venue.enter()
    venue.enter()


# --- shard 0 --------------------------------------------------------------------------------------------------------


def _control_log() -> dict[str, Any]:
    control = ControlVenue(environment=ENVIRONMENT)
    _control(control)
    engine: ReferenceControl = control.engine
    return _document("control", _control.__doc__ or "", control, engine.checkpoint())


def _control(control: ControlVenue) -> None:
    """Shard 0: definitions, users, keys, deposits by each policy, allocations, links that come back, withdrawals."""
    control.operate(
        MARKET,
        DefineAsset(Asset(BTC, "BTC", 8)),
        DefineAsset(Asset(USD, "USD", 2)),
        DefineAsset(Asset(USD, "EUR", 2)),
        DefineShard(1),
        DefineShard(2, "two"),
        DefineShard(2),
        DefineMarket(_market()),
        DefineMarket(_market(market=2, symbol="BTC-USD")),
        SetShardSettings(ShardSettings(30_000, 100, 100)),
        Deposit(1, USD, 1, AllocationPolicy.NONE),
    )
    account, key = control.new_user("alice")
    control.ask(control.registration(key), bytes(16))
    control.ask(control.registration(control.key("bob")), bytes(15) + b"\1")
    control.ask(control.registration(control.key("bob")), bytes(15) + b"\1")
    control.ask(control.registration(control.key("carol")), bytes(15) + b"\1")
    name = bytes(15) + b"\2"
    deposit = control.operation(TREASURY, Deposit(account, USD, 101, AllocationPolicy.EVEN), request_id=name)
    control.enter(operations=(deposit, deposit))
    repeated = control.operation(
        TREASURY, Deposit(account, USD, 101, AllocationPolicy.EVEN), request_id=name, sequence=2
    )
    reused = control.operation(TREASURY, Deposit(account, USD, 102, AllocationPolicy.EVEN), request_id=name, sequence=2)
    control.enter(
        operations=(repeated, reused, control.operation(TREASURY, OpenAccount(1), request_id=b"", sequence=2))
    )
    control.operate(
        TREASURY,
        Deposit(account, USD, 1_000, AllocationPolicy.NONE),
        Deposit(account, BTC, 50, AllocationPolicy.ONE_SHARD, 2),
        Deposit(account, BTC, 50, AllocationPolicy.ONE_SHARD, 3),
        Deposit(99, BTC, 50, AllocationPolicy.NONE),
        Deposit(account, BTC, 2**63 - 1, AllocationPolicy.NONE),
        OpenAccount(1),
    )
    control.now_us += SECOND_US
    second = control.key("alice's second")
    control.command(
        key,
        account,
        AllocateFunds(USD, 300, 1),
        AllocateFunds(USD, 300, 9),
        AllocateFunds(USD, 10_000, 1),
        RequestWithdrawal(USD, 100, "Konto 1 · π"),
        RequestWithdrawal(USD, 200, "Konto 2"),
        RequestWithdrawal(USD, 200, ""),
        _limit(BUY, 1, 1),
        OpenAccount(1),
        control.registration(second, user=1, account=account),
        RevokeKey(key.key_id),
    )
    control.command(key, account, AllocateFunds(USD, 1, 1))
    control.command(second, account, AllocateFunds(USD, 1, 1))
    control.command(control.key("nobody"), account, AllocateFunds(USD, 1, 1))
    back = signed_link(ENVIRONMENT, Link(1, 0, 1, 5, (Transfer(account, USD, 30), Transfer(0, USD, 4))))
    gap = signed_link(ENVIRONMENT, Link(1, 0, 3, 6, (Transfer(account, USD, 1),)))
    control.enter(links=(back, back, gap))
    control.operate(TREASURY, PayOutFees(account, USD, 3), PayOutFees(account, USD, 2), PayOutFees(99, USD, 1))
    control.operate(MARKET, SetMarketState(1, MarketState.HALTED), SetMarketState(9, MarketState.HALTED))
    control.operate(TREASURY, CloseWithdrawal(1, True), CloseWithdrawal(2), CloseWithdrawal(2), CloseWithdrawal(9))
    control.operate(TREASURY, RevokeKey(second.key_id), RevokeKey(second.key_id))
    good = control.batch(second, account, AllocateFunds(USD, 1, 1))
    control.enter(batches=(good, SignedBatch(good.key_id, b"\xff", good.signature)))


LOGS: Final[tuple[Callable[[Venue], None], ...]] = (
    _limit_and_market_orders,
    _cancel_reduce_replace,
    *(_self_trade(mode) for mode in SelfTradePrevention),
    _fees,
    _tables_bands_and_funds,
    _market_states_and_timers,
    _links,
    _operations,
    _frames,
    _long_commands,
)

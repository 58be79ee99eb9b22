"""Episodes: a shard from its genesis on, under a theme; each entry is made from the answers to those before."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from exchange.domain.commands import (
    CancelAllOrders,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    SelfTradePrevention,
    SignedBatch,
    TimeInForce,
)
from exchange.domain.limits import (
    FRAME_BATCHES_MAX,
    FRAME_BYTES_MAX,
    FRAME_COMMANDS_MAX,
    FRAME_LINKS_MAX,
    FRAME_OPERATIONS_MAX,
    LINK_DIGESTS_MAX,
    LINK_TRANSFERS_MAX,
    OPERATION_ACTIONS_MAX,
)
from exchange.domain.markets import LotRule, Market, MarketState, ShardSettings, TickRule
from exchange.domain.operations import (
    CancelOrders,
    DefineMarket,
    OperatorRole,
    RaiseControlFloor,
    RaiseRules,
    SetMarketState,
    SignedLink,
    Transfer,
)
from exchange.domain.units import AMOUNT_UNITS_MAX, TIME_US_MAX
from exchange.wire.messages import encode
from tests.differential.damage import damaged
from tests.differential.draw import Draw
from tests.differential.making import COMMANDS, NO_SETTINGS, Made, Maker, Theme
from tests.differential.world import World
from tests.support.raw_wire import sized, varint

TREASURY, MARKET, RECOVERY = OperatorRole
HOUR_US: Final = 3_600_000_000

# --- markets ----------------------------------------------------------------------------------------------------------


def _market(number: int, shard: int, base: int, quote: int, middle: int, **others: Any) -> Market:
    plain = {"base_units_per_lot": 10, "quote_units_per_tick_lot": 1, "state": MarketState.OPEN}
    return Market(number, shard, f"M{number}-{middle}", base, quote, **(plain | others))


def few_markets(draw: Draw, shard: int) -> tuple[Market, ...]:
    """Return four markets: a plain one, one with fees, one the other way round, one with tables and bands."""
    rows = (TickRule(1, 1), TickRule(100, 5))
    return (
        _market(1, shard, 1, 2, 100, maker_fee_ppm=draw.pick([0, 333]), taker_fee_ppm=draw.pick([0, 777])),
        _market(2, shard, 2, 1, 100, maker_fee_ppm=draw.pick([999_999, 1]), taker_fee_ppm=draw.pick([1, 1_000_000])),
        _market(
            3,
            shard,
            3,
            2,
            100,
            tick_table=rows,
            lot_table=(LotRule(1, 1), LotRule(101, 2)),
            band_low_ticks=80,
            band_high_ticks=125,
            band_ppm=draw.pick([80_000, 20_000]),
            taker_fee_ppm=draw.pick([0, 2_500]),
        ),
        _market(70_000, shard, 1, 3, 1_000, base_units_per_lot=draw.bits(12), quote_units_per_tick_lot=draw.bits(8)),
    )


def one_market(draw: Draw, shard: int) -> tuple[Market, ...]:
    """Return a plain market with the fees of the day."""
    fees = {"maker_fee_ppm": draw.pick([0, 100]), "taker_fee_ppm": draw.pick([0, 250])}
    return (_market(1 + draw.below(3), shard, 1, 2, 100, **fees),)


def two_markets(draw: Draw, shard: int) -> tuple[Market, ...]:
    """Return two plain markets."""
    return (*one_market(draw, shard), _market(9, shard, 3, 2, 100, maker_fee_ppm=7))


def table_markets(draw: Draw, shard: int) -> tuple[Market, ...]:
    """Return markets with tables and bands of all kinds."""
    made = []
    for number in range(1, 6):
        middle = draw.pick([100, 1_000, 10_000_000])
        made.append(
            _market(
                number,
                shard,
                number + 1,
                1,
                middle,
                tick_table=(TickRule(1, 1), TickRule(middle, draw.pick([2, 5, 10])))[: draw.below(3)],
                lot_table=(LotRule(1, draw.pick([1, 2, 3])), LotRule(middle + 1, draw.pick([1, 4])))[: draw.below(3)],
                band_ppm=draw.pick([0, 1, 10_000, 100_000, 1_000_000]),
                band_low_ticks=draw.pick([0, middle * 8 // 10]),
                band_high_ticks=draw.pick([0, middle * 12 // 10]),
                maker_fee_ppm=draw.below(1_001),
                taker_fee_ppm=draw.below(1_001),
                state=draw.pick([*MarketState, 1, 1, 1]),
            )
        )
    return tuple(made)


def huge_markets(draw: Draw, shard: int) -> tuple[Market, ...]:
    """Return markets whose amounts come near 2^63 and beyond."""
    made = []
    for number in range(1, 5):
        base_units, quote_units = draw.pick([1, 2**20, 2**53 - 1]), draw.pick([1, 2**20, 2**40, 2**53 - 1])
        fees = draw.pick([0, 1, 1_000_000]), draw.pick([0, 999_999, 1_000_000])
        made.append(
            _market(
                number,
                shard,
                number % 3 + 1,
                (number + 1) % 3 + 1,
                draw.pick([10, 1_000_000]),
                base_units_per_lot=base_units,
                quote_units_per_tick_lot=quote_units,
                maker_fee_ppm=fees[0],
                taker_fee_ppm=fees[1],
                band_ppm=draw.pick([0, 1_000_000]),
            )
        )
    return tuple(made)


def many_markets(draw: Draw, shard: int) -> tuple[Market, ...]:
    """Return three dozen markets with numbers far apart, not in order."""
    return tuple(
        _market(1 + place * 7_919 % 10_007, shard, 1 + place % 5, 6 + place % 2, 100, maker_fee_ppm=draw.below(50))
        for place in range(36)
    )


# --- themes -----------------------------------------------------------------------------------------------------------

EVERYTHING: Final[Mapping[str, int]] = {
    "trade": 200,
    "many": 6,
    "clock": 10,
    "links": 10,
    "operations": 14,
    "mixed": 10,
    "damaged": 14,
    "garbage": 2,
    "stale": 4,
    "stop": 4,
}
TRADING: Final[Mapping[str, int]] = {"trade": 240, "many": 12, "clock": 6, "links": 6, "operations": 2, "mixed": 2}

THEMES: Final = (
    Theme("everything", few_markets, EVERYTHING),
    Theme("trading", few_markets, TRADING, commands_max=14, spoiled_one_in=60),
    Theme(
        "self-trade",
        two_markets,
        TRADING,
        accounts=2,
        spread=4,
        spoiled_one_in=60,
        commands_max=12,
        styles={"rest": 34, "cross": 34, "ioc": 12, "fok": 8, "market": 8, "sweep": 8},
    ),
    Theme("tables", table_markets, EVERYTHING, spread=7, commands={**COMMANDS, "replace": 220}),
    Theme("money", huge_markets, TRADING, funds_units=(2**50, 2**63 - 1), accounts=5, spread=3, commands_max=5),
    Theme("sparse", few_markets, TRADING, spread=0, accounts=9, funds_units=(2**40, 2**62)),
    Theme("wide", many_markets, EVERYTHING, accounts=24, batches_max=6),
    Theme(
        "operators",
        few_markets,
        {"trade": 60, "operations": 60, "links": 20, "clock": 30, "mixed": 30, "stop": 4, "stale": 4},
        steps_us=1_200_000,
    ),
    Theme("damage", few_markets, {"trade": 40, "damaged": 80, "garbage": 8, "operations": 8, "links": 8, "stop": 2}),
)
LIMITS: Final = Theme("limits", two_markets, TRADING, accounts=4, spoiled_one_in=60, funds_units=(10**11, 10**12))
FLOODS: Final = Theme("floods", two_markets, TRADING, accounts=4, funds_units=(10**11, 10**12))
BY_NAME: Final = {theme.name: theme for theme in (*THEMES, LIMITS, FLOODS)}


def entries_of(world: World, theme: Theme, draw: Draw) -> Iterator[Made]:
    """Yield entries for ever; what became of each must be observed before the next is asked for."""
    maker = Maker(world, theme, draw)
    yield from _opening(maker)
    if theme is LIMITS:
        yield from _limits(maker)
    elif theme is FLOODS:
        yield from _floods(maker)
    while True:
        _let_time_pass(maker)
        if draw.one_in(40):
            yield from _mass_cancels_around_a_halt(maker)
        yield _some_entry(maker)


def new_world(theme: Theme, draw: Draw) -> World:
    """Return what is known of a shard before its first entry."""
    settings = NO_SETTINGS if draw.below(4) else ShardSettings(draw.pick([8_000, 86_400_000]), 500, 400)
    return World(1 if theme is FLOODS else draw.pick([1, 2, 7, 4095]), settings)


def _opening(maker: Maker) -> Iterator[Made]:
    """Define the markets and give money to all accounts; one in six gets little."""
    draw, (low, high) = maker.draw, maker.theme.funds_units
    yield maker.made(
        maker.frame(operations=[maker.operation(MARKET, [DefineMarket(market) for market in maker.definitions])])
    )
    transfers = []
    for account in maker.accounts:
        poor = draw.one_in(6)
        for asset in maker.assets:
            units = draw.bits(18) if poor else draw.between(low, high)
            transfers.append(Transfer(account, asset, min(units, AMOUNT_UNITS_MAX)))
    yield maker.made(maker.frame(links=[maker.link(transfers)]))


def _mass_cancels_around_a_halt(maker: Maker) -> Iterator[Made]:
    """Halt a market, let two accounts cancel all that they have, end the halt, let them do it again."""
    draw = maker.draw
    market = draw.pick(list(maker.numbers))
    accounts = [draw.pick(list(maker.accounts)) for _ in range(2)]
    for state in (MarketState.HALTED, MarketState.OPEN):
        operation = maker.operation(MARKET, [SetMarketState(market, state)])
        commands = tuple(CancelAllOrders(0, draw.below(3)) for _ in range(2))
        batches = [maker.batch(account, commands) for account in accounts]
        yield maker.made(maker.frame(batches, operations=[operation]), len(batches) * len(commands))


def _let_time_pass(maker: Maker) -> None:
    draw, world = maker.draw, maker.world
    step = draw.below(maker.theme.steps_us)
    if draw.one_in(12):
        step = draw.pick([0, 0, 1, 999, 1_000])
    elif draw.one_in(90):
        step = draw.pick([5_000_000, 30_000_000, 60_000_000, HOUR_US])
    elif draw.one_in(900):
        step = 25 * HOUR_US
    if world.timers and draw.one_in(6):
        due_us = draw.pick(world.timers) + draw.below(3) - 1
        if 0 <= due_us - world.now_us < HOUR_US:
            step = due_us - world.now_us
    elif world.expiries_ms and draw.one_in(8):
        # Rules of time have an edge of one microsecond, where a batch expires.
        edge_us = draw.pick(world.expiries_ms) * 1_000 + draw.below(3) - 1
        if 0 <= edge_us - world.now_us < 10_000_000:
            step = edge_us - world.now_us
    elif draw.one_in(8):
        step = -world.now_us % 1_000
    world.now_us = min(world.now_us + step, TIME_US_MAX)


def _some_entry(maker: Maker) -> Made:
    draw, world = maker.draw, maker.world
    # What stops everybody would make the rest of an episode dull.
    is_still = world.settings.open_orders_per_account_max < 100 or world.settings.live_nonces_per_key_max < 100
    is_still |= any(
        world.markets[number].state != MarketState.OPEN for number in maker.numbers if number in world.markets
    )
    if is_still and draw.one_in(9):
        return maker.made(maker.frame(operations=[maker.operation(MARKET, maker.all_well())]))
    kind = draw.weighted(maker.theme.entries)
    made: Made = _KINDS[kind](maker)
    return made


# --- kinds of entries -------------------------------------------------------------------------------------------------


def _batches(maker: Maker, count: int) -> tuple[list[SignedBatch], int]:
    made = [maker.some_batch() for _ in range(count)]
    return [batch for batch, _ in made], sum(commands for _, commands in made)


def _trade(maker: Maker) -> Made:
    batches, commands = _batches(maker, 1 + maker.draw.below(maker.theme.batches_max))
    return maker.made(maker.frame(batches), commands)


def _many(maker: Maker) -> Made:
    batches, commands = _batches(maker, 8 + maker.draw.below(30))
    return maker.made(maker.frame(batches), commands)


def _clock(maker: Maker) -> Made:
    return maker.made(maker.frame())


def _links(maker: Maker) -> Made:
    return maker.made(maker.frame(links=maker.some_links()))


def _operations(maker: Maker) -> Made:
    return maker.made(maker.frame(operations=maker.some_operations()))


def _mixed(maker: Maker) -> Made:
    draw = maker.draw
    batches, commands = _batches(maker, draw.below(4))
    requests = [maker.request() for _ in range(draw.falling(2))]
    operations, links = maker.some_operations(), maker.some_links()
    frame = maker.frame(batches, operations=operations, links=links, requests=requests)
    return maker.made(frame, commands)


def _damaged(maker: Maker) -> Made:
    draw = maker.draw
    sound = draw.weighted({"trade": 6, "mixed": 3, "operations": 2, "links": 1} if draw.below(2) else _ONLY_TRADE)
    made = _KINDS[sound](maker)
    frame = damaged(draw, made.order_frame)
    return maker.made(frame, made.commands, may_stop=not _is_version_1(frame))


_ONLY_TRADE: Final[Mapping[str, int]] = {"trade": 1}


def _is_version_1(frame: bytes) -> bool:
    return frame[:1] != b"\x08" or frame[1:2] == b"\x01"


def _garbage(maker: Maker) -> Made:
    draw = maker.draw
    frame = draw.data(draw.below(80))
    if draw.below(2):
        frame = b"\x08\x01" + frame
    return maker.made(frame, may_stop=not _is_version_1(frame))


def _stale(maker: Maker) -> Made:
    """Return a frame that was verified under an old position of shard 0, or one far ahead."""
    draw, world = maker.draw, maker.world
    batches, commands = _batches(maker, 1 + draw.below(2))
    position = draw.edge() if draw.below(2) else max(0, world.control_floor - 1)
    return maker.made(maker.frame(batches, control_n=position), commands)


def _stop(maker: Maker) -> Made:
    """Return an entry that no shard can answer."""
    draw, world = maker.draw, maker.world
    frame = maker.frame()
    kind = draw.below(8)
    if kind == 0:
        return maker.made(frame, n=draw.pick([world.n, world.n + 2, 0, 2**63, 2**64 - 1]), may_stop=True)
    if kind == 1:
        return maker.made(frame, t_us=draw.pick([max(0, world.now_us - HOUR_US * 99), 0]), may_stop=True)
    if kind == 2:
        return maker.made(frame, t_us=draw.pick([TIME_US_MAX + 1, 2**63, 2**64 - 1]), may_stop=True)
    if kind == 3:
        number = draw.pick([2, 3, 127, 128, 2**32, 2**64 - 1])
        return maker.made(b"\x08" + varint(number) + draw.pick([b"", frame[2:], b"\xff"]), may_stop=True)
    if kind == 4:
        actions = [RaiseRules(draw.pick([2, 3, 2**32 - 1]))]
        return maker.made(maker.frame(operations=[maker.operation(RECOVERY, [RaiseRules(1), *actions])]), may_stop=True)
    if kind == 5:
        account = draw.pick([0, 1, maker.accounts[-1]])
        transfers = [Transfer(account, maker.assets[0], AMOUNT_UNITS_MAX)] * 2
        return maker.made(maker.frame(links=[maker.link(transfers)]), may_stop=True)
    link = maker.conflicting_link()
    batches, commands = _batches(maker, 1)
    return maker.made(maker.frame(batches, links=[link] if link else []), commands, may_stop=True)


_KINDS: Final[Mapping[str, Callable[[Maker], Made]]] = {
    "trade": _trade,
    "many": _many,
    "clock": _clock,
    "links": _links,
    "operations": _operations,
    "mixed": _mixed,
    "damaged": _damaged,
    "garbage": _garbage,
    "stale": _stale,
    "stop": _stop,
}

# --- limits -----------------------------------------------------------------------------------------------------------


def _limits(maker: Maker) -> Iterator[Made]:
    """Yield stacks of orders, and what reaches the most events of a command or the most work of an entry on them."""
    draw = maker.draw
    for _ in range(2):
        yield _one(maker, 4, *(_order(maker, 2, 3, 190 + place) for place in range(5)))
        yield from _stack(maker, 1_018 + draw.below(12), draw.pick([1, 2, 3]))
        for step in _shuffled(draw, [_exact, _through, _refused, _own_taker, _shallow]):
            yield from step(maker)
            if draw.below(2):
                yield from _stack(maker, 400 + draw.below(300), draw.pick([1, 5]))
        for _ in range(draw.below(6)):
            _let_time_pass(maker)
            yield _trade(maker)
        yield from _stack(maker, 1_500 + draw.below(800), draw.pick([1, 4]))
        yield from draw.pick([_mass_cancel, _operator_cancel, _both_cancel])(maker)
    yield from _refused_until_tired(maker)
    yield from _sent_in_two_links(maker)


def _shuffled(draw: Draw, steps: list[Any]) -> list[Any]:
    return [steps.pop(draw.below(len(steps))) for _ in range(len(steps))]


def _one(maker: Maker, account: int, *commands: Command) -> Made:
    maker.world.now_us += 1
    made = [commands[start : start + 1_024] for start in range(0, len(commands), 1_024)]
    return maker.made(maker.frame([maker.batch(account, part) for part in made]), len(commands))


def _order(maker: Maker, side: int, lots: int, price: int, **others: Any) -> PlaceOrder:
    return PlaceOrder(maker.numbers[0], side, OrderType.LIMIT, price_ticks=price, quantity_lots=lots, **others)


def _stack(maker: Maker, count: int, levels: int) -> Iterator[Made]:
    """Sell one lot `count` times at so many prices, by one account or by two in turn."""
    draw = maker.draw
    turns = draw.pick([1, 1, 2, 30])
    orders = [_order(maker, 2, 1 + draw.falling(2), 100 + place % levels) for place in range(count)]
    if turns == 1:
        yield _one(maker, 1, *orders)
        return
    length = min(1_024, max(1, count // turns))
    batches = [
        maker.batch(1 + start // length % 2, orders[start : start + length]) for start in range(0, count, length)
    ]
    maker.world.now_us += 1
    yield maker.made(maker.frame(batches), count)


def _exact(maker: Maker) -> Iterator[Made]:
    """Fill or kill what can just be met, and what cannot: as many orders as a command may meet, one less, one more."""
    draw, world = maker.draw, maker.world
    asks = sorted(
        (o for o in world.orders_in[maker.numbers[0]] if o.side == 2), key=lambda o: (o.price_ticks, o.order_id)
    )
    for orders in _shuffled(draw, [1_020, 1_021, 1_022]):
        lots = sum(order.open_lots for order in asks[:orders])
        if lots:
            yield _one(maker, 3, _order(maker, 1, lots, 200, time_in_force=TimeInForce.FOK))


def _through(maker: Maker) -> Iterator[Made]:
    time_in_force = maker.draw.pick([0, TimeInForce.IOC])
    yield _one(maker, 3, _order(maker, 1, 20_000, 150, time_in_force=time_in_force), CancelAllOrders())


def _refused(maker: Maker) -> Iterator[Made]:
    orders = [_order(maker, 1, 50_000, 150, time_in_force=TimeInForce.FOK)] * (2 + maker.draw.below(6))
    yield _one(maker, 3, *orders)


def _own_taker(maker: Maker) -> Iterator[Made]:
    """Let the stack's owner meet itself in each mode."""
    for mode in _shuffled(maker.draw, list(SelfTradePrevention)):
        lots = maker.draw.pick([1, 5, 700, 3_000])
        order = _order(maker, 1, lots, 150, time_in_force=TimeInForce.IOC, self_trade_prevention=mode)
        yield _one(maker, 1 + maker.draw.below(2), order)


def _shallow(maker: Maker) -> Iterator[Made]:
    """Change orders in the middle of the stack."""
    draw, world = maker.draw, maker.world
    commands: list[Command] = []
    there = world.orders_of.get(1)
    for _ in range(60):
        if there:
            order = there[draw.below(len(there))]
            changes: list[Command] = [
                CancelOrder(order.order_id),
                ReduceOrder(order.order_id, 0, 1),
                ReplaceOrder(order.order_id, 0, 100 + draw.below(4), 0),
                ReplaceOrder(order.order_id, 0, 0, order.open_lots + order.filled_lots + 1),
            ]
            commands.append(draw.pick(changes))
    if commands:
        yield _one(maker, 1, *commands)


def _mass_cancel(maker: Maker) -> Iterator[Made]:
    """Cancel more than one command may, while others go on; some of them end orders that wait for their cancel."""
    yield _one(maker, 1, CancelAllOrders(0, maker.draw.pick([0, 2])), _order(maker, 2, 3, 101))
    yield from _meanwhile(maker)


def _operator_cancel(maker: Maker) -> Iterator[Made]:
    draw = maker.draw
    action = draw.pick([CancelOrders(0, maker.numbers[0]), CancelOrders(1), CancelOrders(0, maker.numbers[0], 2)])
    operation = maker.operation(MARKET, [action, SetMarketState(maker.numbers[0], draw.pick([1, 4])), CancelOrders(2)])
    batch = maker.batch(1, [CancelAllOrders(), _order(maker, 2, 3, 101)])
    yield maker.made(maker.frame([batch], operations=[operation]), 2)
    yield from _meanwhile(maker)


def _both_cancel(maker: Maker) -> Iterator[Made]:
    yield _one(maker, 1, CancelAllOrders(), CancelAllOrders(maker.numbers[0]), *[CancelAllOrders()] * 3)
    yield from _operator_cancel(maker)


def _meanwhile(maker: Maker) -> Iterator[Made]:
    draw = maker.draw
    for _ in range(3):
        if draw.below(2):
            yield maker.made(maker.frame(operations=[maker.operation(MARKET, maker.all_well())]))
        yield _trade(maker) if draw.below(3) else _clock(maker)


def _refused_until_tired(maker: Maker) -> Iterator[Made]:
    """Refuse so many fill-or-kill orders on a stack that the entry has done enough."""
    yield maker.made(maker.frame(operations=[maker.operation(MARKET, maker.all_well())]))
    yield from _stack(maker, 1_024, 1)
    refused = [_order(maker, 1, 2**20, 150, time_in_force=TimeInForce.FOK)] * (66 + maker.draw.below(6))
    batches = [maker.batch(3, refused), maker.batch(4, [CancelAllOrders()])]
    yield maker.made(maker.frame(batches, links=maker.some_links()), len(refused) + 1)


def _sent_in_two_links(maker: Maker) -> Iterator[Made]:
    commands = [ReleaseFunds(maker.assets[0], 1)] * (LINK_TRANSFERS_MAX + 3)
    yield _one(maker, 1, *commands)
    yield _one(maker, 1, ReleaseFunds(maker.assets[0], 1))


# --- floods -----------------------------------------------------------------------------------------------------------


def _floods(maker: Maker) -> Iterator[Made]:
    """Yield what fills frames, timers and link digests to their limits, and frames beyond LIMITS. Seconds each."""
    world, market = maker.world, maker.numbers[0]
    yield from _frames_at_their_limits(maker)
    # One link more than digests are kept of: of the first only the number is known then, another body is no conflict.
    for start in range(0, LINK_DIGESTS_MAX + 1, FRAME_LINKS_MAX):
        count = min(FRAME_LINKS_MAX, LINK_DIGESTS_MAX + 1 - start)
        yield maker.made(
            maker.frame(links=[maker.link([Transfer(9, 1, 1)], from_shard=4, ahead=ahead) for ahead in range(count)])
        )
    forgotten = maker.link([Transfer(9, 1, 2)], from_shard=4, sequence=1)
    yield maker.made(maker.frame(links=[forgotten]))
    # As much as an operator may say at once: timers until there are too many, and until the entry has done enough.
    later = SetMarketState(market, MarketState.OPEN, world.now_us + HOUR_US)
    yield maker.made(maker.frame(operations=_full_operations(maker, later)))
    world.now_us += 1
    yield maker.made(maker.frame(operations=[maker.operation(MARKET, [later] * 70)]))
    world.now_us += HOUR_US
    yield maker.made(maker.frame(operations=_full_operations(maker, CancelOrders())))
    yield _clock(maker)
    yield maker.made(maker.frame(operations=[maker.operation(MARKET, [SetMarketState(market, MarketState.OPEN)])]))


def _full_operations(maker: Maker, action: Any) -> list[Any]:
    return [
        maker.operation(MARKET, [action] * OPERATION_ACTIONS_MAX, ahead=ahead) for ahead in range(FRAME_OPERATIONS_MAX)
    ]


def _frames_at_their_limits(maker: Maker) -> Iterator[Made]:
    """Yield frames with as many parts as are allowed, and with one more."""
    head = maker.frame()
    batch = sized(6, encode(SignedBatch(bytes(16), b"\x08", bytes(64)))).data
    link = sized(7, encode(SignedLink(b"\x08", bytes(64)))).data
    yield maker.made(head + batch * FRAME_BATCHES_MAX)
    yield maker.made(head + batch * (FRAME_BATCHES_MAX + 1))
    yield maker.made(head + link * FRAME_LINKS_MAX)
    yield maker.made(head + link * (FRAME_LINKS_MAX + 1))
    full = [CancelAllOrders(99_999)] * 1_024
    batches = [maker.batch(1, full) for _ in range(FRAME_COMMANDS_MAX // 1_024)]
    yield maker.made(maker.frame(batches), FRAME_COMMANDS_MAX)
    batches = [maker.batch(1, full) for _ in range(FRAME_COMMANDS_MAX // 1_024)]
    yield maker.made(maker.frame([*batches, maker.batch(1, [CancelAllOrders()])]), FRAME_COMMANDS_MAX + 1)
    yield maker.made(head + sized(9, bytes(FRAME_BYTES_MAX)).data)
    for length in (65_536, 65_537):
        yield maker.made(
            head + sized(6, sized(1, bytes(16)).data + sized(2, b"\1" * length).data + sized(3, bytes(64)).data).data
        )
    for length in (262_144, 262_145):
        yield maker.made(head + sized(8, sized(1, b"\1" * length).data + sized(2, bytes(64)).data).data)
    yield maker.made(maker.frame(operations=[maker.operation(TREASURY, [RaiseControlFloor(1)])]))
    yield from _one_by_one(maker)


def _one_by_one(maker: Maker) -> Iterator[Made]:
    """Yield a frame with a few hundred batches of one command each."""
    batches = [maker.batch(1 + place % 4, [_order(maker, 1 + place % 2, 1, 100)]) for place in range(400)]
    yield maker.made(maker.frame(batches), len(batches))

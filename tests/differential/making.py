"""What enters: commands, batches, links, operations and frames, right ones and every kind of wrong ones."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

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
    SignedBatch,
    TimeInForce,
)
from exchange.domain.control import (
    ControlRequest,
    OpenAccount,
    RegisterKey,
    Registration,
    RevokeKey,
    SignedRegistration,
)
from exchange.domain.frames import FORMAT, OrderFrame
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
    OperatorAction,
    OperatorRole,
    PayOutFees,
    RaiseControlFloor,
    RaiseRules,
    RotateOperatorKey,
    SetMarketState,
    SetShardSettings,
    SignedLink,
    SignedOperation,
    SweepFees,
    Transfer,
)
from exchange.domain.record import Record
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.domain.units import PPM, PRICE_TICKS_MAX, QUANTITY_LOTS_MAX, TIME_US_MAX
from exchange.reference.signing import SMALL_ORDER_POINTS, public_key_of, sign
from exchange.wire.codec import Field, MessageCodec
from exchange.wire.messages import CODECS, encode
from tests.differential.damage import damaged
from tests.differential.draw import Draw
from tests.differential.world import ENVIRONMENT, Known, World, key_id_for, spare_seeds

R = TypeVar("R", bound=Record)

INGRESS: Final = bytes(range(16))
TREASURY, MARKET, RECOVERY = OperatorRole
NO_SETTINGS: Final = ShardSettings(60_000, 65_536, 100_000)

COMMANDS: Final[Mapping[str, int]] = {
    "place": 560,
    "cancel": 110,
    "reduce": 60,
    "replace": 130,
    "cancel_all": 12,
    "release": 24,
    "foreign": 12,
}
STYLES: Final[Mapping[str, int]] = {
    "rest": 40,
    "cross": 20,
    "post_only": 8,
    "ioc": 9,
    "fok": 8,
    "market": 9,
    "sweep": 5,
}
MODES: Final = (0, 0, *SelfTradePrevention)
TARGETS: Final[Mapping[str, int]] = {"own": 78, "other": 8, "ended": 6, "edge": 4, "both": 2, "none": 2}


@dataclass(frozen=True)
class Theme:
    """What an episode is about.

    Attributes:
        name: of it.
        markets: makes the markets.
        entries: how often each kind of entry is made.
        accounts: how many trade; some more have odd numbers.
        funds_units: of each asset that an account gets, at least and at most; one account in six is poor.
        spoiled_one_in: commands of which one has a field that may be anything.
        spread: steps of price from the middle; 0: anywhere.
        steps_us: time between entries, at most; now and then it jumps.
        commands_max: of a batch.
        batches_max: of a frame.
    """

    name: str
    markets: "Callable[[Draw, int], tuple[Market, ...]]"
    entries: Mapping[str, int]
    accounts: int = 6
    funds_units: tuple[int, int] = (10**9, 10**12)
    spoiled_one_in: int = 14
    spread: int = 5
    steps_us: int = 400_000
    commands_max: int = 8
    batches_max: int = 3
    commands: Mapping[str, int] = field(default_factory=lambda: COMMANDS)
    styles: Mapping[str, int] = field(default_factory=lambda: STYLES)


@dataclass(frozen=True)
class Made:
    """An entry that is to be made: its frame, how many commands are in it, and whether the shard is to stop at it."""

    order_frame: bytes
    commands: int
    n: int
    t_us: int
    may_stop: bool = False


class Maker:
    """Makes what enters a shard, from what is known of it."""

    def __init__(self, world: World, theme: Theme, draw: Draw) -> None:
        self.world = world
        self.theme = theme
        self.draw = draw
        self.definitions = theme.markets(draw, world.shard)
        self.middles = {market.market: _middle(market) for market in self.definitions}
        self.numbers = tuple(market.market for market in self.definitions)
        self.assets = tuple(sorted({a for m in self.definitions for a in (m.base_asset, m.quote_asset)}))
        odd = (2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1)
        self.accounts = (*range(1, theme.accounts + 1), *odd[: max(1, theme.accounts // 3)])
        self.last_link: Link | None = None

    # --- commands ---------------------------------------------------------------------------------------------------

    def commands(self, account: int, count: int) -> tuple[Command, ...]:
        return tuple(self.command(account) for _ in range(count))

    def command(self, account: int) -> Command:
        kind = self.draw.weighted(self.theme.commands)
        command: Command = getattr(self, f"_{kind}")(account)
        return self.spoiled(command) if self.draw.one_in(self.theme.spoiled_one_in) else command

    def _market(self) -> int:
        draw = self.draw
        if draw.one_in(80):
            return draw.pick([0, 99_999, 2**32 - 1])
        return self.numbers[min(draw.falling(len(self.numbers)), draw.below(len(self.numbers)))]

    def _side(self) -> int:
        return 1 + self.draw.below(2)

    def _settings(self, market: int) -> Market:
        return self.world.markets.get(market) or self.definitions[0]

    def _price(self, market: int, side: int, crossing: bool) -> int:
        """Return a price: near the middle, or that of an order, or anywhere; mostly one that the table allows."""
        draw, settings = self.draw, self._settings(market)
        towards = 1 if (side == 1) == crossing else -1
        middle = self.middles.get(market, 100)
        there = self.world.orders_in.get(market)
        if there and draw.one_in(3):
            order = there[draw.below(len(there))]
            price = order.price_ticks + (towards if order.side != side and draw.one_in(3) else 0)
        elif settings.tick_table and draw.one_in(10):
            price = draw.pick(settings.tick_table).from_price_ticks + draw.below(3) - 1
        elif settings.lot_table and draw.one_in(10):
            price = draw.pick(settings.lot_table).from_price_ticks + draw.below(3) - 1
        elif self.theme.spread and draw.below(40):
            step = max(1, _multiple(settings, middle))
            price = middle + towards * step * draw.below(self.theme.spread)
        else:
            price = draw.bits(53)
        if draw.below(10):
            multiple = _multiple(settings, price)
            price -= price % multiple
        elif draw.below(2):
            price += 1
        return max(1, min(price, PRICE_TICKS_MAX))

    def _lots(self, market: int, price: int, large: bool) -> int:
        draw, settings = self.draw, self._settings(market)
        multiple = _lot_multiple(settings, price)
        there = self.world.orders_in.get(market)
        if there and draw.one_in(6):
            lots = there[draw.below(len(there))].open_lots
        else:
            lots = multiple * (1 + (draw.below(60) if large else draw.below(9)))
        if draw.one_in(40):
            lots = draw.bits(53)
        if draw.below(10):
            lots -= lots % multiple
        return max(1, min(lots, QUANTITY_LOTS_MAX))

    def _client_order_id(self) -> int:
        draw = self.draw
        if draw.below(3):
            return 0
        return draw.edge() if draw.one_in(12) else 1 + draw.below(12)

    def _place(self, account: int) -> PlaceOrder:
        draw = self.draw
        style = draw.weighted(self.theme.styles)
        market, side = self._market(), self._side()
        price = self._price(market, side, style not in ("rest", "post_only"))
        if style == "post_only" and draw.one_in(4):
            price = self._price(market, side, True)
        time_in_force, order_type = 0, OrderType.LIMIT
        if style in ("ioc", "sweep"):
            time_in_force = TimeInForce.IOC
        elif style == "fok":
            time_in_force = TimeInForce.FOK
        elif style == "market":
            order_type = OrderType.MARKET
            time_in_force = draw.pick([0, TimeInForce.IOC, TimeInForce.FOK])
        elif draw.one_in(3):
            time_in_force = TimeInForce.GTC
        lots = self._lots(market, price, style == "sweep" or draw.one_in(8))
        return PlaceOrder(
            market=market,
            side=side,
            order_type=order_type,
            time_in_force=time_in_force,
            post_only=style == "post_only",
            self_trade_prevention=draw.pick(MODES),
            price_ticks=0 if style == "market" and draw.below(3) else price,
            quantity_lots=lots,
            client_order_id=self._client_order_id(),
        )

    def _target(self, account: int) -> tuple[int, int, Known | None]:
        """Return order_id and client_order_id that name an order, and the order if it is open."""
        draw, world = self.draw, self.world
        target = draw.weighted(TARGETS)
        own = world.orders_of.get(account)
        if target == "own" and own:
            order = own[draw.below(len(own))]
        elif target in ("own", "other") and len(world.orders):
            order = world.orders[draw.below(len(world.orders))]
        elif target in ("own", "other", "ended") and world.ended:
            order = world.ended[draw.below(len(world.ended))]
        elif target == "both":
            return draw.edge(), 1 + draw.below(12), None
        elif target == "edge":
            return (draw.edge(), 0, None) if draw.below(2) else (0, draw.edge(), None)
        elif target == "none":
            return 0, 0, None
        else:
            return world.shard << 52 | 1 + draw.below(40), 0, None
        if order.client_order_id and draw.below(2):
            return 0, order.client_order_id, order
        return order.order_id, 0, order

    def _cancel(self, account: int) -> CancelOrder:
        order_id, client_order_id, _ = self._target(account)
        return CancelOrder(order_id, client_order_id)

    def _reduce(self, account: int) -> ReduceOrder:
        draw = self.draw
        order_id, client_order_id, order = self._target(account)
        lots = 1 + draw.below(9)
        if order is not None and order.open_lots > 1:
            multiple = _lot_multiple(self._settings(order.market), order.price_ticks)
            lots = draw.pick([multiple, max(1, order.open_lots // 2), order.open_lots - 1, order.open_lots, lots])
            lots = max(lots - lots % multiple, 1) if draw.below(4) else lots
        return ReduceOrder(order_id, client_order_id, lots)

    def _replace(self, account: int) -> ReplaceOrder:
        draw = self.draw
        order_id, client_order_id, order = self._target(account)
        if order is None:
            return ReplaceOrder(order_id, client_order_id, draw.below(200), draw.below(12))
        price, total = order.price_ticks, order.open_lots + order.filled_lots
        if draw.below(3):
            price = self._price(order.market, order.side, draw.one_in(3))
        multiple = _lot_multiple(self._settings(order.market), price)
        if draw.below(3):
            total += multiple * (draw.below(7) - 3)
        if draw.one_in(8):
            total = order.filled_lots + draw.below(2)
        if draw.below(8):
            total -= total % multiple
        return ReplaceOrder(
            order_id, client_order_id, 0 if draw.one_in(4) else max(0, price), 0 if draw.one_in(4) else max(0, total)
        )

    def _cancel_all(self, _: int) -> CancelAllOrders:
        draw = self.draw
        return CancelAllOrders(0 if draw.below(2) else self._market(), draw.pick([0, 0, 1, 2, 3]))

    def _release(self, _: int) -> ReleaseFunds:
        draw = self.draw
        asset = draw.pick([*self.assets, 99]) if draw.one_in(8) else draw.pick(self.assets)
        amount = draw.edge() if draw.one_in(8) else draw.bits(20 if draw.below(3) else 62)
        return ReleaseFunds(asset, amount)

    def _foreign(self, _: int) -> Command:
        """Return a command for shard 0."""
        draw = self.draw
        registration = RegisterKey(SignedRegistration(draw.data(3), bytes(64)))
        commands: list[Command] = [
            AllocateFunds(1, draw.edge(), 2),
            RequestWithdrawal(1, draw.edge(), draw.pick(["", "x", "Konto π", "z" * 128])),
            registration,
            RevokeKey(draw.data(16)),
            OpenAccount(draw.edge()),
        ]
        return draw.pick(commands)

    def spoiled(self, record: R) -> R:
        """Return a record with another number in one of its fields: one that may stand there on the wire."""
        numbers = _numbers_of(type(record).__name__)
        if not numbers:
            return record
        spec = self.draw.pick(numbers)
        if spec.is_bool:
            value: Any = not getattr(record, spec.name)
        elif spec.number_max == 2**31 - 1 and self.draw.below(4):
            value = self.draw.below(10)
        else:
            value = self.draw.edge(spec.high)
        return msgspec.structs.replace(record, **{spec.name: value}) if spec.low <= value or value == 0 else record

    # --- batches ----------------------------------------------------------------------------------------------------

    def batch(
        self, account: int, commands: Sequence[Command], *, nonce: int | None = None, valid_until_ms: int | None = None
    ) -> SignedBatch:
        """Return a batch that is executed, as far as its head goes."""
        world = self.world
        key_id = key_id_for(account)
        if nonce is None:
            nonce = world.next_nonce(key_id)
        if valid_until_ms is None:
            most = min(world.settings.max_validity_ms, 8_000)
            valid_until_ms = world.now_us // 1000 + 1 + self.draw.below(max(1, most - 1))
        world.expiries_ms.append(valid_until_ms)
        payload = encode(Batch(account, world.shard, nonce, min(valid_until_ms, TIME_US_MAX), tuple(commands)))
        return SignedBatch(key_id, payload, bytes(64))

    def odd_batch(self, account: int, commands: Sequence[Command]) -> SignedBatch:
        """Return a batch whose head is wrong or at an edge, or one that was sent before."""
        draw, world = self.draw, self.world
        now_ms, longest_ms = world.now_us // 1000, world.settings.max_validity_ms
        odd = draw.below(12)
        if odd < 3 and world.batches:
            return draw.pick(world.batches)
        if odd < 5:
            edges = (0, -1, 1, longest_ms, longest_ms + 1, longest_ms - 1, -60_000)
            until = draw.edge(TIME_US_MAX) if draw.one_in(6) else now_ms + draw.pick(edges)
            return self.batch(account, commands, valid_until_ms=max(1, until))
        if odd < 7:
            key_id = key_id_for(account)
            used = world.nonces.get(key_id, 0)
            return self.batch(account, commands, nonce=1 + draw.below(used + 2))
        if odd == 7:
            return self.batch(account, commands, nonce=draw.edge())
        if odd == 8:
            other = draw.pick([0, 1, world.shard - 1, world.shard + 1, 4095])
            payload = encode(Batch(account, min(other, 4095), draw.edge(), now_ms + 5_000, tuple(commands)))
            return SignedBatch(key_id_for(account), payload, draw.data(64))
        sound = self.batch(account, commands)
        if odd == 9:
            return SignedBatch(key_id_for(draw.below(3)), sound.payload, draw.data(64))
        return SignedBatch(sound.key_id, damaged(draw, sound.payload)[:65_536] or b"\0", sound.signature)

    def some_batch(self) -> tuple[SignedBatch, int]:
        """Return a batch of a random account, and how many commands are in it."""
        draw = self.draw
        account = draw.pick(self.accounts)
        count = 1 + draw.below(self.theme.commands_max)
        commands = self.commands(account, count)
        batch = self.odd_batch(account, commands) if draw.one_in(9) else self.batch(account, commands)
        self.world.batches.append(batch)
        return batch, count

    # --- links ------------------------------------------------------------------------------------------------------

    def link(
        self,
        transfers: Sequence[Transfer],
        *,
        from_shard: int = 0,
        to_shard: int | None = None,
        sequence: int | None = None,
        ahead: int = 0,
    ) -> SignedLink:
        """Return a link, signed by the treasury; the next one from that shard unless told otherwise."""
        world = self.world
        if sequence is None:
            sequence = world.link_sequences.get(from_shard, 0) + 1 + ahead
        source_n = min(sequence, TIME_US_MAX)
        link = Link(from_shard, world.shard if to_shard is None else to_shard, sequence, source_n, tuple(transfers))
        payload = encode(link)
        return SignedLink(payload, self._signature(TREASURY, SignedKind.LINK, payload))

    def _signature(self, role: OperatorRole, kind: SignedKind, payload: bytes) -> bytes:
        return sign(self.world.seeds[role], signed_bytes(kind, ENVIRONMENT, payload))

    def transfers(self, count: int) -> list[Transfer]:
        draw = self.draw
        low, high = self.theme.funds_units
        made = []
        for _ in range(count):
            account = 0 if draw.one_in(12) else draw.edge() if draw.one_in(30) else draw.pick(self.accounts)
            most = max(2, (high if draw.below(3) else low) // 50)
            made.append(Transfer(account, draw.pick(self.assets), 1 + draw.below(most)))
        return made

    def some_links(self) -> list[SignedLink]:
        """Return links: the next ones, old ones, early ones, and ones that are not for this shard or not signed."""
        draw, world = self.draw, self.world
        made: list[SignedLink] = []
        ahead: dict[int, int] = {}
        for _ in range(1 + draw.falling(3)):
            kind = draw.below(12)
            from_shard = draw.pick([0, 0, 0, 2 + world.shard % 3, 4095])
            if from_shard == world.shard:
                from_shard = 0
            transfers = self.transfers(1 + (draw.below(40) if draw.one_in(6) else draw.falling(3)))
            if kind < 6:
                link = self.link(transfers, from_shard=from_shard, ahead=ahead.get(from_shard, 0))
                ahead[from_shard] = ahead.get(from_shard, 0) + 1
                world.links.append(link)
            elif kind == 6 and world.links:
                link = draw.pick(world.links)
            elif kind == 7:
                link = self.link(transfers, from_shard=from_shard, ahead=2 + draw.below(3))
            elif kind == 8:
                link = self.link(transfers, to_shard=draw.pick([0, 4095, world.shard]), from_shard=world.shard)
            elif kind == 9:
                link = self.link(transfers, ahead=9)
                link = SignedLink(link.payload, draw.pick([bytes(64), draw.data(64), _flipped(draw, link.signature)]))
            elif kind == 10:
                sequence = max(1, draw.edge())
                link = self.link(transfers, from_shard=4000, sequence=sequence if sequence > 1 else 2)
            else:
                link = self.link(transfers, ahead=7)
                link = SignedLink(damaged(draw, link.payload)[:65_536] or b"\0", link.signature)
            made.append(link)
        return made

    def conflicting_link(self) -> SignedLink | None:
        """Return a link of a sequence number that was used, with another body."""
        draw, world = self.draw, self.world
        used = [shard for shard, sequence in world.link_sequences.items() if sequence]
        if not used:
            return None
        shard = draw.pick(used)
        sequence = 1 + draw.below(world.link_sequences[shard])
        return self.link([Transfer(1, 1, 2**40 + draw.below(2**40))], from_shard=shard, sequence=sequence)

    # --- operations -------------------------------------------------------------------------------------------------

    def operation(
        self,
        role: int,
        actions: Sequence[OperatorAction],
        *,
        ahead: int = 0,
        sequence: int | None = None,
        shard: int | None = None,
        seed: bytes | None = None,
    ) -> SignedOperation:
        """Return an operation, the role's next one unless told otherwise."""
        world = self.world
        if sequence is None:
            sequence = world.sequences.get(role, 0) + 1 + ahead  # type: ignore[call-overload]
        request_id = self.draw.data(16) if self.draw.one_in(8) else b""
        number = world.shard if shard is None else shard
        payload = encode(Operation(number, role, sequence, tuple(actions), request_id))
        signer = seed or world.seeds.get(role, world.seeds[MARKET])  # type: ignore[call-overload]
        return SignedOperation(payload, sign(signer, signed_bytes(SignedKind.OPERATOR, ENVIRONMENT, payload)))

    def some_operations(self) -> list[SignedOperation]:
        draw, world = self.draw, self.world
        made: list[SignedOperation] = []
        ahead: dict[int, int] = {}
        for _ in range(1 + draw.falling(2)):
            role = draw.pick([TREASURY, MARKET, MARKET, MARKET, MARKET, RECOVERY])
            actions = [self.action(role) for _ in range(1 + draw.falling(4))]
            kind = draw.below(14)
            if kind < 8:
                operation = self.operation(role, actions, ahead=ahead.get(role, 0))
                ahead[role] = ahead.get(role, 0) + 1
                world.operations.append(operation)
                if any(isinstance(action, RotateOperatorKey) for action in actions):
                    break
            elif kind == 8 and world.operations:
                operation = draw.pick(world.operations)
            elif kind == 9:
                operation = self.operation(role, actions, ahead=ahead.get(role, 0) + 1 + draw.below(2))
            elif kind == 10:
                operation = self.operation(role, actions, sequence=max(1, min(world.sequences[role], draw.edge())))
            elif kind == 11:
                operation = self.operation(draw.pick([0, 4, 9, 2**31 - 1]), actions)
            elif kind == 12:
                operation = self.operation(role, actions, shard=draw.pick([0, world.shard - 1, 4095]), ahead=1)
            else:
                sound = self.operation(role, actions, seed=draw.pick(spare_seeds()), ahead=ahead.get(role, 0))
                payload = damaged(draw, sound.payload)[:262_144] or b"\0"
                signature = draw.data(64) if draw.below(2) else sound.signature
                operation = SignedOperation(payload if draw.below(2) else sound.payload, signature)
            made.append(operation)
        return made

    def action(self, role: OperatorRole) -> OperatorAction:
        draw = self.draw
        if draw.one_in(12):
            role = draw.pick(tuple(OperatorRole))
        action: OperatorAction
        if role == MARKET:
            action = self._market_action()
        elif role == TREASURY:
            action = self._treasury_action()
        else:
            raised = RaiseRules(draw.below(2))
            action = self._rotation() if draw.below(2) else raised
        return self.spoiled(action) if draw.one_in(20) and not isinstance(action, RaiseRules) else action

    def _rotation(self) -> RotateOperatorKey:
        draw = self.draw
        if draw.below(3):
            return RotateOperatorKey(public_key_of(draw.pick(spare_seeds())))
        return RotateOperatorKey(draw.pick([*sorted(SMALL_ORDER_POINTS), b"\xff" * 32, draw.data(32)]))

    def _market_action(self) -> OperatorAction:
        draw, world = self.draw, self.world
        kind = draw.below(20)
        if kind < 5:
            state = draw.pick([*MarketState, 1, 1, 0, 5, 2**31 - 1])
            when = draw.pick(
                [0, 0, world.now_us, world.now_us + 1 + draw.below(3_000_000), world.now_us + 1, draw.edge(), 2**62]
            )
            return SetMarketState(self._market(), state, when)
        if kind < 10:
            return DefineMarket(self.redefined(draw.pick(self.definitions)))
        if kind < 14:
            account = draw.pick([0, 0, 77_777, *self.accounts])
            return CancelOrders(account, draw.pick([0, *self.numbers, 99_999]), draw.pick([0, 0, 1, 2, 3]))
        if kind < 17:
            return SetShardSettings(
                ShardSettings(
                    draw.pick([60_000, 10_000, 1, 86_400_000, 0, 86_400_001, 5_000]),
                    draw.pick([1_000, 65_536, 1, 3, 10, 1_048_576, 1_048_577, 0]),
                    draw.pick([1_000, 100_000, 1, 3, 10, 10_000_000, 10_000_001, 0]),
                )
            )
        if kind == 17:
            return DefineAsset(Asset(9, "XYZ", 2)) if draw.below(2) else DefineShard(2, "two")
        return self._rotation() if draw.one_in(4) else SetMarketState(self._market(), MarketState.OPEN)

    def _treasury_action(self) -> OperatorAction:
        draw, world = self.draw, self.world
        kind = draw.below(12)
        if kind < 5:
            return SweepFees(draw.pick([*self.assets, 99]))
        if kind < 9:
            position = draw.edge() if draw.one_in(60) else world.control_floor + draw.below(4) - 1
            return RaiseControlFloor(max(0, min(position, 2**64 - 1)))
        if kind == 9:
            return self._rotation()
        others: list[OperatorAction] = [
            Deposit(1, 1, draw.edge(), AllocationPolicy.NONE),
            CloseWithdrawal(1, True),
            PayOutFees(1, 1, 5),
            OpenAccount(1),
            RevokeKey(draw.data(16)),
            RegisterKey(SignedRegistration(b"x", bytes(64))),
        ]
        return draw.pick(others)

    def redefined(self, market: Market) -> Market:
        """Return a market with other settings, some of which it may not have."""
        draw = self.draw
        middle = self.middles[market.market]
        changes: dict[str, Any] = {}
        for _ in range(1 + draw.falling(2)):
            kind = draw.below(9)
            if kind == 0:
                changes["maker_fee_ppm"] = draw.pick([0, 0, 1, 333, 999_999, PPM, PPM + 1])
            elif kind == 1:
                changes["taker_fee_ppm"] = draw.pick([0, 0, 1, 777, 2_500, PPM, PPM + 1])
            elif kind == 2:
                changes["band_ppm"] = draw.pick([0, 0, 1, 20_000, 50_000, PPM, PPM + 1])
            elif kind == 3:
                low = draw.pick([0, 0, max(1, middle - 4), middle * 9 // 10, PRICE_TICKS_MAX])
                changes["band_low_ticks"] = low
            elif kind == 4:
                changes["band_high_ticks"] = draw.pick([0, 0, middle + 4, middle * 11 // 10, PRICE_TICKS_MAX, 1])
            elif kind == 5:
                rows = self._rows(middle)
                changes["tick_table"] = tuple(TickRule(*row) for row in rows)
            elif kind == 6:
                rows = self._rows(middle)
                changes["lot_table"] = tuple(LotRule(*row) for row in rows)
            elif kind == 7:
                name = draw.pick(
                    ["symbol", "base_asset", "quote_asset", "base_units_per_lot", "quote_units_per_tick_lot", "state"]
                )
                value: Any = draw.edge(2**31 - 1) if name in ("state", "base_asset", "quote_asset") else draw.edge()
                if name == "symbol":
                    value = draw.pick(["OTHER", "low-er", "", "A" * 33, "A" * 32, "É"])
                changes[name] = value
            else:
                changes["shard"] = draw.pick([0, 1, 4095, 4096, self.world.shard + 1])
        if draw.one_in(8):
            changes["market"] = draw.pick([0, 500 + draw.below(3), 2**32 - 1])
            changes["symbol"] = draw.pick(["NEW-1", "NEW-2", "NEW.3"])
        return msgspec.structs.replace(market, **changes)

    def _rows(self, middle: int) -> list[tuple[int, int]]:
        """Return rows of a table; one time in four they may be wrong."""
        draw = self.draw
        if draw.one_in(4):
            return []
        rows = [(1, draw.pick([1, 1, 2, 5]))]
        starts = (max(2, middle - 2), middle + 1, middle + 40)[: draw.below(4)]
        rows += [(start, draw.pick([1, 2, 3, 5, 10])) for start in starts]
        if draw.one_in(4):
            wrong = draw.below(5)
            if wrong == 0:
                rows.append((draw.edge(), draw.edge()))
            elif wrong == 1:
                rows[0] = (2, 1)
            elif wrong == 2:
                rows.reverse()
            elif wrong == 3:
                rows += [(rows[-1][0] + step, 1) for step in range(1, 33)]
            else:
                rows.append((PRICE_TICKS_MAX, PRICE_TICKS_MAX))
        return rows

    def all_well(self) -> list[OperatorAction]:
        """Return what lets everybody trade again."""
        return [
            SetShardSettings(NO_SETTINGS),
            *(SetMarketState(market, MarketState.OPEN) for market in sorted(self.world.markets)),
            *(DefineMarket(market) for market in self.definitions),
        ]

    def request(self) -> ControlRequest:
        draw = self.draw
        payload = encode(Registration(public_key_of(draw.pick(spare_seeds()))))
        return ControlRequest(draw.data(16), RegisterKey(SignedRegistration(payload, draw.data(64))))

    # --- frames -----------------------------------------------------------------------------------------------------

    def frame(
        self,
        batches: Sequence[SignedBatch] = (),
        *,
        links: Sequence[SignedLink] = (),
        operations: Sequence[SignedOperation] = (),
        requests: Sequence[ControlRequest] = (),
        control_n: int | None = None,
    ) -> bytes:
        world = self.world
        return encode(
            OrderFrame(
                format=FORMAT,
                ingress=INGRESS,
                counter=world.n + 1,
                ingress_time_us=max(1, world.now_us),
                control_n=world.control_floor if control_n is None else control_n,
                batches=tuple(batches),
                links=tuple(links),
                operations=tuple(operations),
                requests=tuple(requests),
            )
        )

    def made(
        self,
        order_frame: bytes,
        commands: int = 0,
        *,
        n: int | None = None,
        t_us: int | None = None,
        may_stop: bool = False,
    ) -> Made:
        """Return the next entry with this frame."""
        world = self.world
        n, t_us = (world.n + 1 if n is None else n), (world.now_us if t_us is None else t_us)
        return Made(order_frame, commands, n, t_us, may_stop)


@cache
def _numbers_of(message: str) -> tuple[Field, ...]:
    codec = CODECS[message]
    assert isinstance(codec, MessageCodec)
    return tuple(spec for spec in codec.fields if spec.is_number)


def _middle(market: Market) -> int:
    """Return the price around which a market trades: a power of ten that its symbol names."""
    return int(market.symbol.rpartition("-")[2] or 100)


def _multiple(market: Market, price: int) -> int:
    rows = market.tick_table
    place = bisect_right(rows, price, key=lambda row: row.from_price_ticks)
    return rows[place - 1].multiple_ticks if place else 1


def _lot_multiple(market: Market, price: int) -> int:
    rows = market.lot_table
    place = bisect_right(rows, price, key=lambda row: row.from_price_ticks)
    return rows[place - 1].multiple_lots if place else 1


def _flipped(draw: Draw, data: bytes) -> bytes:
    place = draw.below(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.below(8)]) + data[place + 1 :]

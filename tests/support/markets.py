"""A market, a book and a few accounts that many tests start from."""

from exchange.domain.commands import OrderType, PlaceOrder, Side, SignedBatch
from exchange.domain.events import (
    ActionRejected,
    BatchResult,
    CommandRejected,
    Event,
    FrameRefused,
    LinkResult,
    OperationResult,
    RequestResult,
)
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.markets import LotRule, Market, MarketState, TickRule
from exchange.domain.operations import Operation, OperatorRole, SignedOperation, Transfer
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.port import EngineFactory
from exchange.local.venue import Venue, operator_seed
from exchange.reference.signing import sign
from exchange.wire.messages import encode

BASE, QUOTE = 1, 2
ALICE, BOB = 1, 2
ALICES_BID, BOBS_ASK = 11, 22
"""Client order ids of the orders that rest in the book of `open_venue`."""
BOOK = Market(
    market=1,
    shard=1,
    symbol="BTC-USD",
    base_asset=BASE,
    quote_asset=QUOTE,
    base_units_per_lot=1,
    quote_units_per_tick_lot=10,
    tick_table=(TickRule(1, 5),),
    lot_table=(LotRule(1, 2),),
    band_low_ticks=50,
    band_high_ticks=200,
    state=MarketState.OPEN,
)
"""Ticks in fives, lots in twos, prices from 50 to 200."""
UNBANDED = Market(
    market=2,
    shard=1,
    symbol="ETH-USD",
    base_asset=BASE,
    quote_asset=QUOTE,
    base_units_per_lot=1,
    quote_units_per_tick_lot=10,
    state=MarketState.OPEN,
)
"""Any tick, any lot, any price."""
RICH = 10**12
SMALL_ORDER_KEY = bytes([1]) + bytes(31)
"""The neutral point, which no key may be."""


def limit(side: Side, quantity_lots: int, price_ticks: int, market: int = 1, client_order_id: int = 0) -> PlaceOrder:
    """Return a limit order with every default."""
    return PlaceOrder(
        market=market,
        side=side,
        order_type=OrderType.LIMIT,
        price_ticks=price_ticks,
        quantity_lots=quantity_lots,
        client_order_id=client_order_id,
    )


def funded_venue(factory: EngineFactory, *markets: Market, accounts: tuple[int, ...] = (ALICE, BOB)) -> Venue:
    """Return a venue with these markets, where each account has RICH units of both assets."""
    venue = Venue(factory, signed=False)
    venue.define_markets(*markets)
    venue.credit(*(Transfer(account, asset, RICH) for account in accounts for asset in (BASE, QUOTE)))
    return venue


def open_venue(factory: EngineFactory) -> Venue:
    """Return a venue with two markets and, in BOOK, Alice's bid of 4 lots at 90 and Bob's ask of 10 lots at 100."""
    venue = funded_venue(factory, BOOK, UNBANDED)
    venue.trade(ALICE, limit(Side.BUY, 4, 90, client_order_id=ALICES_BID))
    venue.trade(BOB, limit(Side.SELL, 10, 100, client_order_id=BOBS_ASK))
    return venue


def signed_operation(venue: Venue, operation: Operation, signer: OperatorRole) -> SignedOperation:
    """Return an operation that says whatever it says, signed with the key of a role."""
    payload = encode(operation)
    covered = signed_bytes(SignedKind.OPERATOR, venue.environment, payload)
    return SignedOperation(payload, sign(operator_seed(venue.environment, signer), covered))


def enter_under(venue: Venue, control_n: int, *batches: SignedBatch) -> tuple[Event, ...]:
    """Enter batches in a frame that was verified under a position of shard 0; return what happened."""
    n = venue.engine.position + 1
    frame = OrderFrame(FORMAT, bytes(16), n, venue.now_us, control_n, batches)
    return venue.enter_raw(encode(frame)).events


def refusals(events: tuple[Event, ...]) -> list[RejectReason]:
    """Return the reasons of everything that was refused, in order."""
    verdicts = (FrameRefused, BatchResult, CommandRejected, LinkResult, OperationResult, ActionRejected, RequestResult)
    return [RejectReason(event.reason) for event in events if isinstance(event, verdicts) and event.reason]

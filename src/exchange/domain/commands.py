"""What a trader signs: commands and batches of them (proto/clob/v1/batch.proto)."""

from enum import IntEnum

from exchange.domain.control import OpenAccount, RegisterKey, RevokeKey
from exchange.domain.record import Record


class Side(IntEnum):
    BUY = 1
    SELL = 2

    @property
    def opposite(self) -> "Side":
        """The side that this one trades with."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(IntEnum):
    LIMIT = 1
    MARKET = 2


class TimeInForce(IntEnum):
    GTC = 1
    IOC = 2
    FOK = 3


class SelfTradePrevention(IntEnum):
    CANCEL_TAKER = 1
    CANCEL_MAKER = 2
    CANCEL_BOTH = 3
    DECREMENT = 4
    NONE = 5


class PlaceOrder(Record, frozen=True):
    market: int = 0
    side: int = 0
    order_type: int = 0
    time_in_force: int = 0
    post_only: bool = False
    self_trade_prevention: int = 0
    price_ticks: int = 0
    quantity_lots: int = 0
    client_order_id: int = 0


class CancelOrder(Record, frozen=True):
    order_id: int = 0
    client_order_id: int = 0


class ReduceOrder(Record, frozen=True):
    order_id: int = 0
    client_order_id: int = 0
    quantity_lots: int = 0


class ReplaceOrder(Record, frozen=True):
    order_id: int = 0
    client_order_id: int = 0
    price_ticks: int = 0
    quantity_lots: int = 0


class CancelAllOrders(Record, frozen=True):
    market: int = 0
    side: int = 0


class ReleaseFunds(Record, frozen=True):
    asset: int = 0
    amount_units: int = 0


class AllocateFunds(Record, frozen=True):
    asset: int = 0
    amount_units: int = 0
    to_shard: int = 0


class RequestWithdrawal(Record, frozen=True):
    asset: int = 0
    amount_units: int = 0
    destination: str = ""


Command = (
    PlaceOrder
    | CancelOrder
    | ReduceOrder
    | ReplaceOrder
    | CancelAllOrders
    | ReleaseFunds
    | AllocateFunds
    | RequestWithdrawal
    | RegisterKey
    | RevokeKey
    | OpenAccount
)


class Batch(Record, frozen=True):
    account: int = 0
    shard: int = 0
    nonce: int = 0
    valid_until_ms: int = 0
    commands: tuple[Command, ...] = ()


class SignedBatch(Record, frozen=True):
    key_id: bytes = b""
    payload: bytes = b""
    signature: bytes = b""

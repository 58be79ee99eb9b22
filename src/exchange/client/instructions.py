"""What a trader wants done: commands that name their market by symbol or number, before anything is signed."""

from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from exchange.client.errors import ClientError
from exchange.client.keys import PrivateKey
from exchange.domain.commands import (
    AllocateFunds,
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
    TimeInForce,
)
from exchange.domain.control import OpenAccount, RegisterKey, RevokeKey
from exchange.domain.units import CONTROL_SHARD, COUNTER_BITS

E = TypeVar("E", Side, OrderType, TimeInForce, SelfTradePrevention)

MarketName = str | int
"""Symbol or number of a market. A text of digits is a symbol too."""

_CONTROL: Final = (AllocateFunds, RequestWithdrawal, RegisterKey, RevokeKey, OpenAccount)
_OF_AN_ORDER: Final = (CancelOrder, ReduceOrder, ReplaceOrder)


@dataclass(frozen=True, slots=True)
class Instruction:
    """A command and where it goes.

    Attributes:
        command: what is signed. Where `market` is a symbol, the number in it is filled in when the symbol is looked up.
        market: that decides the shard; None: the shard is `shard`.
        shard: that executes it; None: the market's, which is looked up.
    """

    command: Command
    market: MarketName | None = None
    shard: int | None = None


def place(
    market: MarketName,
    side: Side | str,
    quantity_lots: int,
    price_ticks: int = 0,
    *,
    order_type: OrderType | str | None = None,
    time_in_force: TimeInForce | str | None = None,
    post_only: bool = False,
    self_trade_prevention: SelfTradePrevention | str | None = None,
    client_order_id: int = 0,
) -> Instruction:
    """Return an order.

    Args:
        market: symbol or number.
        side: BUY or SELL.
        quantity_lots: 1 .. 2^53-1.
        price_ticks: limit; 0 makes it a market order that goes to the band's edge, where the market has a band.
        order_type: LIMIT or MARKET; None: a limit order where there is a price. A market order's price protects it.
        time_in_force: GTC, IOC or FOK; None: GTC for a limit order, IOC for a market order.
        post_only: refuse the order rather than let it take.
        self_trade_prevention: what to do about own resting orders; None: CANCEL_TAKER.
        client_order_id: own name of the order, unique among the account's open orders in the shard; 0: none.

    Raises:
        ClientError: INVALID_ARGUMENT, a word that is not known or a number that cannot be written.
    """
    kind = _word(OrderType, order_type) or (OrderType.LIMIT if price_ticks else OrderType.MARKET)
    command = PlaceOrder(
        market=market if isinstance(market, int) else 0,
        side=_word(Side, side),
        order_type=kind,
        time_in_force=_word(TimeInForce, time_in_force),
        post_only=post_only,
        self_trade_prevention=_word(SelfTradePrevention, self_trade_prevention),
        price_ticks=_number("price_ticks", price_ticks),
        quantity_lots=_number("quantity_lots", quantity_lots),
        client_order_id=_number("client_order_id", client_order_id),
    )
    return Instruction(command, market)


def cancel(order_id: int = 0, *, client_order_id: int = 0, market: MarketName | None = None) -> Instruction:
    """Return the cancel of an order, named by order_id, or by client_order_id and a market of its shard."""
    return _of_order(CancelOrder(_number("order_id", order_id), _number("client_order_id", client_order_id)), market)


def reduce(
    order_id: int = 0, *, quantity_lots: int, client_order_id: int = 0, market: MarketName | None = None
) -> Instruction:
    """Return the order to take lots off an open order, which keeps its place. Named as in `cancel`."""
    command = ReduceOrder(
        _number("order_id", order_id),
        _number("client_order_id", client_order_id),
        _number("quantity_lots", quantity_lots),
    )
    return _of_order(command, market)


def replace(
    order_id: int = 0,
    *,
    price_ticks: int = 0,
    quantity_lots: int = 0,
    client_order_id: int = 0,
    market: MarketName | None = None,
) -> Instruction:
    """Return a change of price, of total quantity (what was filled included), or of both; 0: as it is."""
    command = ReplaceOrder(
        _number("order_id", order_id),
        _number("client_order_id", client_order_id),
        _number("price_ticks", price_ticks),
        _number("quantity_lots", quantity_lots),
    )
    return _of_order(command, market)


def cancel_all(
    market: MarketName | None = None, side: Side | str | None = None, *, shard: int | None = None
) -> Instruction:
    """Return the cancel of all the account's open orders in a market, or in all markets of a shard."""
    if market is None and shard is None:
        raise ClientError("INVALID_ARGUMENT", "cancel_all: name a market, or a shard for all markets of it")
    number = market if isinstance(market, int) else 0
    return Instruction(CancelAllOrders(number, _word(Side, side)), market, None if market is not None else shard)


def release(shard: int, asset: int, amount_units: int) -> Instruction:
    """Return the move of free funds from a shard to the treasury."""
    return Instruction(ReleaseFunds(_number("asset", asset), _number("amount_units", amount_units)), shard=shard)


def allocate(asset: int, amount_units: int, to_shard: int) -> Instruction:
    """Return the move of funds from the treasury to a shard."""
    return Instruction(AllocateFunds(_number("asset", asset), _number("amount_units", amount_units), to_shard), shard=0)


def withdraw(asset: int, amount_units: int, destination: str) -> Instruction:
    """Return the request to be paid out of the treasury; `destination` is in words of the payment system."""
    command = RequestWithdrawal(_number("asset", asset), _number("amount_units", amount_units), destination)
    return Instruction(command, shard=CONTROL_SHARD)


def register_key(key: PrivateKey, environment: str, user: int, account: int = 0) -> Instruction:
    """Return the registration of another key of the user's own, for one account or for all (0)."""
    return Instruction(RegisterKey(key.registration(environment, user, account)), shard=CONTROL_SHARD)


def revoke_key(key_id: bytes) -> Instruction:
    """Return the revocation of a key of the user's own, for ever."""
    return Instruction(RevokeKey(key_id), shard=CONTROL_SHARD)


def open_account(user: int) -> Instruction:
    """Return the opening of another account of the user."""
    return Instruction(OpenAccount(user), shard=CONTROL_SHARD)


def instruction_of(given: Instruction | Command) -> Instruction:
    """Return where a bare command goes: by its market, its order's birth shard, or to shard 0.

    Raises:
        ClientError: SHARD_UNKNOWN, nothing in the command says it.
    """
    if isinstance(given, Instruction):
        return given
    if isinstance(given, PlaceOrder):
        return Instruction(given, given.market)
    if isinstance(given, CancelAllOrders) and given.market:
        return Instruction(given, given.market)
    if isinstance(given, _OF_AN_ORDER) and given.order_id:
        return Instruction(given, shard=given.order_id >> COUNTER_BITS)
    if isinstance(given, _CONTROL):
        return Instruction(given, shard=CONTROL_SHARD)
    raise ClientError(
        "SHARD_UNKNOWN",
        f"{type(given).__name__}: nothing in it says which shard it is for; wrap it as "
        "Instruction(command, market=...) or Instruction(command, shard=...)",
    )


def with_market(command: Command, market: int) -> Command:
    """Return the command with the number that a symbol stands for, where it has a market."""
    if isinstance(command, PlaceOrder | CancelAllOrders) and command.market != market:
        return msgspec.structs.replace(command, market=market)
    return command


def word_of(kind: type[E], value: E | str) -> E:
    """Return the member of an enum that a word names, in any case, with or without the contracts' prefix.

    Raises:
        ClientError: INVALID_ARGUMENT, there is none.
    """
    found = _word(kind, value)
    if not found:
        raise ClientError("INVALID_ARGUMENT", f"{kind.__name__}: say one of {', '.join(kind.__members__)}")
    return kind(found)


def _word(kind: type[E], value: E | str | int | None) -> int:
    """Return the number of an enum's member, 0 for None; numbers pass, an engine has the last word about them."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    name = value.upper().replace("-", "_")
    for known, member in kind.__members__.items():
        if name in {known, f"{_snake(kind.__name__)}_{known}"}:
            return member
    raise ClientError("INVALID_ARGUMENT", f"{kind.__name__} {value!r}: say one of {', '.join(kind.__members__)}")


def _snake(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name).lstrip("_")


def _of_order(command: CancelOrder | ReduceOrder | ReplaceOrder, market: MarketName | None) -> Instruction:
    if market is not None:
        return Instruction(command, market)
    if command.order_id:
        return Instruction(command, shard=command.order_id >> COUNTER_BITS)
    raise ClientError(
        "SHARD_UNKNOWN",
        f"{type(command).__name__}: a client_order_id is known in one shard only; name the order's market too",
    )


def _number(name: str, value: int) -> int:
    """Return a number that fits the wire; whether it makes sense the engine says."""
    if type(value) is not int or not 0 <= value < 2**64:
        raise ClientError("INVALID_ARGUMENT", f"{name} {value!r}: an integer from 0 to 2^64-1, in the unit of its name")
    return value

"""What an account may see of a frame: its own events, with the other side of its trades left out."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from clob.v1.account_service_pb2 import StreamExecutionsResponse
from clob.v1.event_pb2 import Event, Trade
from clob.v1.frame_pb2 import ExecutionFrame

MESSAGE_EVENTS_MAX: Final = 4_096
"""Most events of one message: below a mebibyte, whatever they are."""
ACCOUNT_EVENTS: Final = frozenset(
    field.name
    for field in Event.DESCRIPTOR.fields
    if field.message_type is not None
    and {"account", "account_seq"} <= {inner.name for inner in field.message_type.fields}
)
"""Events that are numbered for an account; trades, which are for two, come on top."""


def private_messages(shard: int, data: bytes, accounts: Sequence[int], after_place: int = 0) -> list[list[bytes]]:
    """Return encoded StreamExecutionsResponses of a frame for each of some accounts, in their order.

    Args:
        shard: number of the frame's shard.
        data: encoded execution frame.
        accounts: each once. One without events has no message.
        after_place: events up to this place, 1-based, are left out.
    """
    frame = ExecutionFrame.FromString(data)
    places = (places_of(frame, account, after_place) for account in accounts)
    return [
        list(messages_of(shard, frame, account, found)) if found else []
        for account, found in zip(accounts, places, strict=True)
    ]


def places_of(frame: ExecutionFrame, account: int, after_place: int = 0) -> list[int]:
    """Return the 1-based places of an account's events behind a place."""
    places = []
    for place, wrapped in enumerate(frame.events, 1):
        if place <= after_place:
            continue
        name = wrapped.WhichOneof("event")
        if name == "trade":
            if account in (wrapped.trade.maker_account, wrapped.trade.taker_account):
                places.append(place)
        elif name in ACCOUNT_EVENTS and getattr(wrapped, name).account == account:
            places.append(place)
    return places


def accounts_of(frame: ExecutionFrame) -> frozenset[int]:
    """Return the accounts that have events in a frame."""
    accounts: set[int] = set()
    for wrapped in frame.events:
        name = wrapped.WhichOneof("event")
        if name == "trade":
            accounts.update((wrapped.trade.maker_account, wrapped.trade.taker_account))
        elif name in ACCOUNT_EVENTS:
            accounts.add(getattr(wrapped, name).account)
    accounts.discard(0)
    return frozenset(accounts)


def messages_of(shard: int, frame: ExecutionFrame, account: int, places: Iterable[int]) -> Iterator[bytes]:
    """Yield encoded StreamExecutionsResponses with the events at these places, the cursor of each behind its events."""
    response = _response(shard, frame)
    events = frame.events
    last = 0
    for place in places:
        if len(response.events) >= MESSAGE_EVENTS_MAX:
            response.cursor.event = last
            yield response.SerializeToString()
            response = _response(shard, frame)
        event = response.events.add()
        event.CopyFrom(events[place - 1])
        if event.WhichOneof("event") == "trade":
            blank(event.trade, account)
        last = place
    yield response.SerializeToString()


def blank(trade: Trade, account: int) -> None:
    """Leave out the other side of a trade with another account: account, order, sequence number and fee."""
    if trade.maker_account == trade.taker_account:
        return
    if trade.maker_account == account:
        trade.ClearField("taker_account")
        trade.ClearField("taker_order_id")
        trade.ClearField("taker_account_seq")
        trade.ClearField("taker_fee_quote_units")
    else:
        trade.ClearField("maker_account")
        trade.ClearField("maker_order_id")
        trade.ClearField("maker_account_seq")
        trade.ClearField("maker_fee_quote_units")


def heartbeat(shard: int, n: int, t_us: int, event: int = 0) -> bytes:
    """Return an encoded StreamExecutionsResponse that says: nothing up to here."""
    response = StreamExecutionsResponse(t_us=t_us)
    # Set even where all of it is zero: the cursor before the first frame is a cursor too.
    response.cursor.SetInParent()
    response.cursor.shard, response.cursor.n, response.cursor.event = shard, n, event
    return response.SerializeToString()


def _response(shard: int, frame: ExecutionFrame) -> StreamExecutionsResponse:
    response = StreamExecutionsResponse(t_us=frame.t_us)
    response.cursor.shard, response.cursor.n = shard, frame.n
    return response

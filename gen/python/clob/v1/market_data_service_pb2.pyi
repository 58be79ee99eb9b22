from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import market_pb2 as _market_pb2
from clob.v1 import outcome_pb2 as _outcome_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetExchangeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShardInfo(_message.Message):
    __slots__ = ("shard", "max_validity_ms")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    MAX_VALIDITY_MS_FIELD_NUMBER: _ClassVar[int]
    shard: int
    max_validity_ms: int
    def __init__(self, shard: _Optional[int] = ..., max_validity_ms: _Optional[int] = ...) -> None: ...

class GetExchangeResponse(_message.Message):
    __slots__ = ("environment", "production", "durability", "server_time_us", "shards", "version")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PRODUCTION_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_US_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    environment: str
    production: bool
    durability: _outcome_pb2.Durability
    server_time_us: int
    shards: _containers.RepeatedCompositeFieldContainer[ShardInfo]
    version: str
    def __init__(self, environment: _Optional[str] = ..., production: _Optional[bool] = ..., durability: _Optional[_Union[_outcome_pb2.Durability, str]] = ..., server_time_us: _Optional[int] = ..., shards: _Optional[_Iterable[_Union[ShardInfo, _Mapping]]] = ..., version: _Optional[str] = ...) -> None: ...

class ListAssetsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetsResponse(_message.Message):
    __slots__ = ("assets", "next_page_token")
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    assets: _containers.RepeatedCompositeFieldContainer[_market_pb2.Asset]
    next_page_token: str
    def __init__(self, assets: _Optional[_Iterable[_Union[_market_pb2.Asset, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListMarketsRequest(_message.Message):
    __slots__ = ("shard", "symbol", "page_size", "page_token")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    shard: int
    symbol: str
    page_size: int
    page_token: str
    def __init__(self, shard: _Optional[int] = ..., symbol: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListMarketsResponse(_message.Message):
    __slots__ = ("markets", "next_page_token")
    MARKETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    markets: _containers.RepeatedCompositeFieldContainer[_market_pb2.Market]
    next_page_token: str
    def __init__(self, markets: _Optional[_Iterable[_Union[_market_pb2.Market, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PriceLevel(_message.Message):
    __slots__ = ("price_ticks", "quantity_lots", "orders")
    PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_LOTS_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    price_ticks: int
    quantity_lots: int
    orders: int
    def __init__(self, price_ticks: _Optional[int] = ..., quantity_lots: _Optional[int] = ..., orders: _Optional[int] = ...) -> None: ...

class BookSnapshot(_message.Message):
    __slots__ = ("market", "market_seq", "t_us", "state", "last_price_ticks", "bids", "asks", "more")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LAST_PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    market: int
    market_seq: int
    t_us: int
    state: _market_pb2.MarketState
    last_price_ticks: int
    bids: _containers.RepeatedCompositeFieldContainer[PriceLevel]
    asks: _containers.RepeatedCompositeFieldContainer[PriceLevel]
    more: bool
    def __init__(self, market: _Optional[int] = ..., market_seq: _Optional[int] = ..., t_us: _Optional[int] = ..., state: _Optional[_Union[_market_pb2.MarketState, str]] = ..., last_price_ticks: _Optional[int] = ..., bids: _Optional[_Iterable[_Union[PriceLevel, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[PriceLevel, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class BookDelta(_message.Message):
    __slots__ = ("market", "previous_market_seq", "market_seq", "t_us", "state", "last_price_ticks", "bids", "asks")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LAST_PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    market: int
    previous_market_seq: int
    market_seq: int
    t_us: int
    state: _market_pb2.MarketState
    last_price_ticks: int
    bids: _containers.RepeatedCompositeFieldContainer[PriceLevel]
    asks: _containers.RepeatedCompositeFieldContainer[PriceLevel]
    def __init__(self, market: _Optional[int] = ..., previous_market_seq: _Optional[int] = ..., market_seq: _Optional[int] = ..., t_us: _Optional[int] = ..., state: _Optional[_Union[_market_pb2.MarketState, str]] = ..., last_price_ticks: _Optional[int] = ..., bids: _Optional[_Iterable[_Union[PriceLevel, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[PriceLevel, _Mapping]]] = ...) -> None: ...

class GetBookRequest(_message.Message):
    __slots__ = ("market", "levels_max")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    LEVELS_MAX_FIELD_NUMBER: _ClassVar[int]
    market: int
    levels_max: int
    def __init__(self, market: _Optional[int] = ..., levels_max: _Optional[int] = ...) -> None: ...

class GetBookResponse(_message.Message):
    __slots__ = ("book",)
    BOOK_FIELD_NUMBER: _ClassVar[int]
    book: BookSnapshot
    def __init__(self, book: _Optional[_Union[BookSnapshot, _Mapping]] = ...) -> None: ...

class StreamBookRequest(_message.Message):
    __slots__ = ("markets", "every_command")
    MARKETS_FIELD_NUMBER: _ClassVar[int]
    EVERY_COMMAND_FIELD_NUMBER: _ClassVar[int]
    markets: _containers.RepeatedScalarFieldContainer[int]
    every_command: bool
    def __init__(self, markets: _Optional[_Iterable[int]] = ..., every_command: _Optional[bool] = ...) -> None: ...

class StreamBookResponse(_message.Message):
    __slots__ = ("snapshots", "deltas")
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[BookSnapshot]
    deltas: _containers.RepeatedCompositeFieldContainer[BookDelta]
    def __init__(self, snapshots: _Optional[_Iterable[_Union[BookSnapshot, _Mapping]]] = ..., deltas: _Optional[_Iterable[_Union[BookDelta, _Mapping]]] = ...) -> None: ...

class PublicTrade(_message.Message):
    __slots__ = ("market", "market_seq", "trade_id", "price_ticks", "quantity_lots", "taker_side", "t_us")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_LOTS_FIELD_NUMBER: _ClassVar[int]
    TAKER_SIDE_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    market: int
    market_seq: int
    trade_id: int
    price_ticks: int
    quantity_lots: int
    taker_side: _batch_pb2.Side
    t_us: int
    def __init__(self, market: _Optional[int] = ..., market_seq: _Optional[int] = ..., trade_id: _Optional[int] = ..., price_ticks: _Optional[int] = ..., quantity_lots: _Optional[int] = ..., taker_side: _Optional[_Union[_batch_pb2.Side, str]] = ..., t_us: _Optional[int] = ...) -> None: ...

class ListTradesRequest(_message.Message):
    __slots__ = ("market", "before_market_seq", "trades_max")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    BEFORE_MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRADES_MAX_FIELD_NUMBER: _ClassVar[int]
    market: int
    before_market_seq: int
    trades_max: int
    def __init__(self, market: _Optional[int] = ..., before_market_seq: _Optional[int] = ..., trades_max: _Optional[int] = ...) -> None: ...

class ListTradesResponse(_message.Message):
    __slots__ = ("trades", "market_seq")
    TRADES_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    trades: _containers.RepeatedCompositeFieldContainer[PublicTrade]
    market_seq: int
    def __init__(self, trades: _Optional[_Iterable[_Union[PublicTrade, _Mapping]]] = ..., market_seq: _Optional[int] = ...) -> None: ...

class TradeCursor(_message.Message):
    __slots__ = ("market", "after_market_seq")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    AFTER_MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    market: int
    after_market_seq: int
    def __init__(self, market: _Optional[int] = ..., after_market_seq: _Optional[int] = ...) -> None: ...

class StreamTradesRequest(_message.Message):
    __slots__ = ("cursors",)
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    cursors: _containers.RepeatedCompositeFieldContainer[TradeCursor]
    def __init__(self, cursors: _Optional[_Iterable[_Union[TradeCursor, _Mapping]]] = ...) -> None: ...

class StreamTradesResponse(_message.Message):
    __slots__ = ("trades", "cursors")
    TRADES_FIELD_NUMBER: _ClassVar[int]
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    trades: _containers.RepeatedCompositeFieldContainer[PublicTrade]
    cursors: _containers.RepeatedCompositeFieldContainer[TradeCursor]
    def __init__(self, trades: _Optional[_Iterable[_Union[PublicTrade, _Mapping]]] = ..., cursors: _Optional[_Iterable[_Union[TradeCursor, _Mapping]]] = ...) -> None: ...

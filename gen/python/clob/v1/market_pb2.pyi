from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MarketState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MARKET_STATE_UNSPECIFIED: _ClassVar[MarketState]
    MARKET_STATE_OPEN: _ClassVar[MarketState]
    MARKET_STATE_POST_ONLY: _ClassVar[MarketState]
    MARKET_STATE_CANCEL_ONLY: _ClassVar[MarketState]
    MARKET_STATE_HALTED: _ClassVar[MarketState]
MARKET_STATE_UNSPECIFIED: MarketState
MARKET_STATE_OPEN: MarketState
MARKET_STATE_POST_ONLY: MarketState
MARKET_STATE_CANCEL_ONLY: MarketState
MARKET_STATE_HALTED: MarketState

class TickRule(_message.Message):
    __slots__ = ("from_price_ticks", "multiple_ticks")
    FROM_PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    MULTIPLE_TICKS_FIELD_NUMBER: _ClassVar[int]
    from_price_ticks: int
    multiple_ticks: int
    def __init__(self, from_price_ticks: _Optional[int] = ..., multiple_ticks: _Optional[int] = ...) -> None: ...

class LotRule(_message.Message):
    __slots__ = ("from_price_ticks", "multiple_lots")
    FROM_PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    MULTIPLE_LOTS_FIELD_NUMBER: _ClassVar[int]
    from_price_ticks: int
    multiple_lots: int
    def __init__(self, from_price_ticks: _Optional[int] = ..., multiple_lots: _Optional[int] = ...) -> None: ...

class Market(_message.Message):
    __slots__ = ("market", "shard", "symbol", "base_asset", "quote_asset", "base_units_per_lot", "quote_units_per_tick_lot", "tick_table", "lot_table", "band_low_ticks", "band_high_ticks", "band_ppm", "maker_fee_ppm", "taker_fee_ppm", "state")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    BASE_ASSET_FIELD_NUMBER: _ClassVar[int]
    QUOTE_ASSET_FIELD_NUMBER: _ClassVar[int]
    BASE_UNITS_PER_LOT_FIELD_NUMBER: _ClassVar[int]
    QUOTE_UNITS_PER_TICK_LOT_FIELD_NUMBER: _ClassVar[int]
    TICK_TABLE_FIELD_NUMBER: _ClassVar[int]
    LOT_TABLE_FIELD_NUMBER: _ClassVar[int]
    BAND_LOW_TICKS_FIELD_NUMBER: _ClassVar[int]
    BAND_HIGH_TICKS_FIELD_NUMBER: _ClassVar[int]
    BAND_PPM_FIELD_NUMBER: _ClassVar[int]
    MAKER_FEE_PPM_FIELD_NUMBER: _ClassVar[int]
    TAKER_FEE_PPM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    market: int
    shard: int
    symbol: str
    base_asset: int
    quote_asset: int
    base_units_per_lot: int
    quote_units_per_tick_lot: int
    tick_table: _containers.RepeatedCompositeFieldContainer[TickRule]
    lot_table: _containers.RepeatedCompositeFieldContainer[LotRule]
    band_low_ticks: int
    band_high_ticks: int
    band_ppm: int
    maker_fee_ppm: int
    taker_fee_ppm: int
    state: MarketState
    def __init__(self, market: _Optional[int] = ..., shard: _Optional[int] = ..., symbol: _Optional[str] = ..., base_asset: _Optional[int] = ..., quote_asset: _Optional[int] = ..., base_units_per_lot: _Optional[int] = ..., quote_units_per_tick_lot: _Optional[int] = ..., tick_table: _Optional[_Iterable[_Union[TickRule, _Mapping]]] = ..., lot_table: _Optional[_Iterable[_Union[LotRule, _Mapping]]] = ..., band_low_ticks: _Optional[int] = ..., band_high_ticks: _Optional[int] = ..., band_ppm: _Optional[int] = ..., maker_fee_ppm: _Optional[int] = ..., taker_fee_ppm: _Optional[int] = ..., state: _Optional[_Union[MarketState, str]] = ...) -> None: ...

class Asset(_message.Message):
    __slots__ = ("asset", "symbol", "decimals")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    DECIMALS_FIELD_NUMBER: _ClassVar[int]
    asset: int
    symbol: str
    decimals: int
    def __init__(self, asset: _Optional[int] = ..., symbol: _Optional[str] = ..., decimals: _Optional[int] = ...) -> None: ...

class ShardSettings(_message.Message):
    __slots__ = ("max_validity_ms", "live_nonces_per_key_max", "open_orders_per_account_max")
    MAX_VALIDITY_MS_FIELD_NUMBER: _ClassVar[int]
    LIVE_NONCES_PER_KEY_MAX_FIELD_NUMBER: _ClassVar[int]
    OPEN_ORDERS_PER_ACCOUNT_MAX_FIELD_NUMBER: _ClassVar[int]
    max_validity_ms: int
    live_nonces_per_key_max: int
    open_orders_per_account_max: int
    def __init__(self, max_validity_ms: _Optional[int] = ..., live_nonces_per_key_max: _Optional[int] = ..., open_orders_per_account_max: _Optional[int] = ...) -> None: ...

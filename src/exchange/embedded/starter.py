"""The starter set: assets and markets that a new environment outside production begins with, to trade at once."""

from typing import Final

import grpc

from clob.v1 import admin_service_pb2, admin_service_pb2_grpc, market_pb2
from exchange.wire.hashing import digest_of

STARTING_FUNDS: Final = {"USD": 1_000_000_000_000, "BTC": 10_000_000_000, "ETH": 100_000_000_000}
"""For each new user in each shard: 1,000,000 USD, 100 BTC, 1,000 ETH, in their smallest units."""

ASSETS: Final = (
    market_pb2.Asset(asset=1, symbol="USD", decimals=6),
    market_pb2.Asset(asset=2, symbol="BTC", decimals=8),
    market_pb2.Asset(asset=3, symbol="ETH", decimals=8),
)
MARKETS: Final = (
    # A lot is 0.00001 BTC, a tick 0.10 USD a BTC: one lot costs 0.000001 USD a tick.
    market_pb2.Market(
        market=1,
        symbol="BTC-USD",
        base_asset=2,
        quote_asset=1,
        base_units_per_lot=1_000,
        quote_units_per_tick_lot=1,
        band_low_ticks=1_000,
        band_high_ticks=100_000_000,
        band_ppm=500_000,
        maker_fee_ppm=100,
        taker_fee_ppm=250,
    ),
    # A lot is 0.0001 ETH, a tick 0.01 USD an ETH.
    market_pb2.Market(
        market=2,
        symbol="ETH-USD",
        base_asset=3,
        quote_asset=1,
        base_units_per_lot=10_000,
        quote_units_per_tick_lot=1,
        band_low_ticks=100,
        band_high_ticks=10_000_000,
        band_ppm=500_000,
        maker_fee_ppm=100,
        taker_fee_ppm=250,
    ),
)
TIMEOUT_S: Final = 60


async def define_starter_set(admin: str) -> None:
    """Define the assets and markets, once: a repeat is answered with the first answer.

    Args:
        admin: host:port of the operators' port.

    Raises:
        grpc.RpcError: the exchange refused or did not answer.
    """
    async with grpc.aio.insecure_channel(admin) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        await stub.DefineAssets(
            admin_service_pb2.DefineAssetsRequest(request_id=_request_id("assets"), assets=ASSETS), timeout=TIMEOUT_S
        )
        await stub.CreateMarkets(
            admin_service_pb2.CreateMarketsRequest(request_id=_request_id("markets"), markets=MARKETS),
            timeout=TIMEOUT_S,
        )


def _request_id(what: str) -> bytes:
    """Return the request id of that part, the same at every start."""
    return digest_of(f"starter set: {what}".encode())[:16]

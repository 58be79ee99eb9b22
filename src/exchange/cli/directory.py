"""Names and numbers of assets and markets, as the exchange lists them, for commands that take either."""

from functools import cached_property

import click

from clob.v1.market_data_service_pb2 import ListAssetsRequest, ListMarketsRequest
from clob.v1.market_pb2 import Asset, Market
from exchange.cli.connection import Connection


class Directory:
    """Looks up assets and markets, each list once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def assets(self) -> dict[int, Asset]:
        """All assets, by number."""
        rows = self._connection.pages(self._connection.market_data.ListAssets, ListAssetsRequest(), "assets")
        return {asset.asset: asset for asset in rows}

    def asset(self, text: str) -> Asset:
        """Return the asset of a symbol or number.

        Raises:
            click.UsageError: there is none.
        """
        for asset in self.assets.values():
            if asset.symbol == text.upper():
                return asset
        if text.isdigit() and int(text) in self.assets:
            return self.assets[int(text)]
        known = ", ".join(asset.symbol for asset in list(self.assets.values())[:20]) or "none"
        raise click.UsageError(f"there is no asset {text}; there are: {known}")

    def market(self, text: str) -> Market:
        """Return the market of a symbol or number.

        Raises:
            click.UsageError: there is none.
        """
        found = self._by_symbol(text.upper())
        if found is None and text.isdigit():
            found = self._by_number(int(text))
        if found is None:
            raise click.UsageError(f"there is no market {text}; clob market list shows all")
        return found

    def market_number(self, text: str) -> int:
        """Return the number of a market that is given by number or symbol; a number is not looked up."""
        return int(text) if text.isdigit() else int(self.market(text).market)

    def _by_symbol(self, symbol: str) -> Market | None:
        request = ListMarketsRequest(symbol=symbol, page_size=1)
        response = self._connection.call(self._connection.market_data.ListMarkets, request)
        return response.markets[0] if response.markets else None

    def _by_number(self, number: int) -> Market | None:
        rows = self._connection.pages(self._connection.market_data.ListMarkets, ListMarketsRequest(), "markets")
        return next((market for market in rows if market.market == number), None)

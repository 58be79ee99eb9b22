"""`clob book`: the book of a market, by level or by order."""

import click

from clob.v1.market_data_service_pb2 import BookSnapshot, GetBookRequest
from clob.v1.market_pb2 import MarketState
from clob.v1.matching_service_pb2 import MatchingServiceGetBookRequest
from clob.v1.state_pb2 import RestingOrder
from exchange.cli.connection import Connection, operator_command
from exchange.cli.directory import Directory
from exchange.cli.tables import draw_table


@click.command()
@click.argument("name", metavar="SYMBOL|NUMBER")
@click.option("--levels", type=click.IntRange(1, 1_000), default=10, show_default=True, help="Most levels a side.")
@click.option("--orders", type=click.IntRange(1, 10_000), help="Show the engine's book, so many orders on each side.")
@operator_command
def book(connection: Connection, name: str, levels: int, orders: int | None) -> None:
    """Show the book of a market: levels as everybody sees them, or with --orders every order with its account."""
    number = Directory(connection).market_number(name)
    if orders is None:
        found = connection.call(connection.market_data.GetBook, GetBookRequest(market=number, levels_max=levels))
        connection.show(found, _draw_levels(name, found.book))
        return
    request = MatchingServiceGetBookRequest(market=number, orders_per_side_max=orders)
    book = connection.call(connection.matching.GetBook, request)
    rows = [("sell", *_order(order)) for order in reversed(book.book.asks)]
    rows += [("buy", *_order(order)) for order in book.book.bids]
    where = f"market {number}, shard {book.position.shard} at {book.position.n:,}"
    lines = [
        f"{where}: {book.bid_orders:,} buy and {book.ask_orders:,} sell orders",
        *draw_table(("SIDE", "PRICE", "OPEN", "FILLED", "ACCOUNT", "ORDER", "CLIENT'S ID"), rows, "lrrrrrr"),
    ]
    connection.show(book, lines)


def _draw_levels(name: str, book: BookSnapshot) -> list[str]:
    state = MarketState.Name(book.state).removeprefix("MARKET_STATE_").lower().replace("_", " ")
    last = f", last price {book.last_price_ticks:,}" if book.last_price_ticks else ""
    head = f"{name.upper()}, {state}{last}, sequence {book.market_seq:,}"
    rows: list[tuple[object, ...]] = [
        ("", f"{level.price_ticks:,}", f"{level.quantity_lots:,}", level.orders) for level in reversed(book.asks)
    ]
    rows += [(f"{level.quantity_lots:,}", f"{level.price_ticks:,}", "", level.orders) for level in book.bids]
    if not rows:
        return [head, "empty"]
    return [head, *draw_table(("BID LOTS", "PRICE TICKS", "ASK LOTS", "ORDERS"), rows, "rrrr")]


def _order(order: RestingOrder) -> tuple[object, ...]:
    return (
        f"{order.price_ticks:,}",
        f"{order.open_lots:,}",
        f"{order.filled_lots:,}",
        order.account,
        order.order_id,
        order.client_order_id or "",
    )

"""`clob order`: place, change and cancel orders and move one's funds, signed with a trader's key."""

import asyncio
import functools
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from clob.v1.market_pb2 import Asset
from exchange.cli.amounts import AmountError, draw_units, parse_amount
from exchange.cli.tables import draw_table
from exchange.client import instructions as instruct
from exchange.client.aio import VALID_FOR_MS, AsyncClient
from exchange.client.errors import ClientError
from exchange.client.instructions import Instruction, MarketName
from exchange.client.options import EXIT_NOT_DONE, EXIT_UNUSABLE, address_options, private_key, where_of
from exchange.client.results import Result
from exchange.domain.commands import OrderType, SelfTradePrevention, Side, TimeInForce
from exchange.domain.signing import EnvironmentNameError
from exchange.domain.units import CONTROL_SHARD, SHARD_MAX

Work = Callable[..., Awaitable[bool]]
"""What a command does with a client and its own arguments: prints, and returns whether all was accepted."""

_U64: Final = click.IntRange(1, 2**64 - 1)
_SHARD: Final = click.IntRange(0, SHARD_MAX)


@click.group()
def order() -> None:
    """Place, change and cancel orders, and move funds, with a trader's key.

    The key is in CLOB_PRIVATE_KEY, or --key says it. Prices count ticks, quantities count lots. A command ends with 0
    if it was accepted, with 1 if it was refused, and with 2 if it could not be sent.
    """


def _choice(kind: type[Any]) -> click.Choice[str]:
    return click.Choice([name.lower().replace("_", "-") for name in kind.__members__], case_sensitive=False)


def trader_command(work: Work) -> Callable[..., None]:
    """Return a command that runs `work` with a connected client; False from it ends with EXIT_NOT_DONE."""

    @address_options
    @click.option("--key", metavar="KEY", help="Private key, a file that holds it, or -.  [default: CLOB_PRIVATE_KEY]")
    @click.option("--account", type=_U64, default=None, help="Where the key may act for several.")
    @click.option("--valid-for", "valid_for_ms", type=click.IntRange(1), default=VALID_FOR_MS, show_default=True)
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @click.pass_context
    @functools.wraps(work)
    def command(
        context: click.Context,
        /,
        address: str,
        environment: str | None,
        tls: bool | None,
        ca: Path | None,
        cert: Path | None,
        cert_key: Path | None,
        key: str | None,
        account: int | None,
        valid_for_ms: int,
        as_json: bool,
        **arguments: Any,
    ) -> None:
        where = where_of(address, environment, tls, ca, cert, cert_key)
        private = private_key(key, address)
        context.meta[_AS_JSON] = as_json

        async def run() -> bool:
            connected = await where.connect(private, account=account or 0, valid_for_ms=valid_for_ms, patience_s=3.0)
            async with connected as client:
                return await work(client, **arguments)

        try:
            went_well = asyncio.run(run())
        except (ClientError, EnvironmentNameError, AmountError) as error:
            click.echo(str(error), err=True)
            sys.exit(EXIT_UNUSABLE)
        if not went_well:
            sys.exit(EXIT_NOT_DONE)

    return command


_AS_JSON: Final = "exchange.cli.order.as_json"
_market_option = click.option("--market", metavar="MARKET", help="Symbol or number of the order's market.")
_client_id_option = click.option(
    "--client-order-id", type=_U64, default=None, help="Own name of the order, instead of ORDER_ID; needs --market."
)


# --- orders ---------------------------------------------------------------------------------------------------------


@order.command()
@click.argument("market")
@click.argument("side", type=_choice(Side))
@click.argument("quantity_lots", metavar="LOTS", type=_U64)
@click.option("--price", "price_ticks", type=_U64, default=None, help="In ticks; without it, a market order.")
@click.option("--type", "order_type", type=_choice(OrderType), help="A market order with --price is protected by it.")
@click.option("--tif", "time_in_force", type=_choice(TimeInForce), help="[default: gtc, ioc for market orders]")
@click.option("--post-only", is_flag=True, help="Refuse the order rather than let it take.")
@click.option("--stp", "self_trade_prevention", type=_choice(SelfTradePrevention), help="[default: cancel-taker]")
@click.option("--client-order-id", type=_U64, default=None, help="Own name for the order.")
@trader_command
async def place(
    client: AsyncClient,
    market: str,
    side: str,
    quantity_lots: int,
    price_ticks: int | None,
    order_type: str | None,
    time_in_force: str | None,
    post_only: bool,
    self_trade_prevention: str | None,
    client_order_id: int | None,
) -> bool:
    """Place an order to buy or sell so many LOTS in MARKET."""
    return await _send(
        client,
        instruct.place(
            _market(market),
            side,
            quantity_lots,
            price_ticks or 0,
            order_type=order_type,
            time_in_force=time_in_force,
            post_only=post_only,
            self_trade_prevention=self_trade_prevention,
            client_order_id=client_order_id or 0,
        ),
    )


@order.command()
@click.argument("order_id", type=_U64, required=False)
@_client_id_option
@_market_option
@trader_command
async def cancel(client: AsyncClient, order_id: int | None, client_order_id: int | None, market: str | None) -> bool:
    """Cancel an open order."""
    return await _send(client, instruct.cancel(**_named(order_id, client_order_id, market)))


@order.command()
@click.argument("order_id", type=_U64, required=False)
@click.option("--by", "quantity_lots", metavar="LOTS", type=_U64, required=True, help="Lots to take off.")
@_client_id_option
@_market_option
@trader_command
async def reduce(
    client: AsyncClient, order_id: int | None, quantity_lots: int, client_order_id: int | None, market: str | None
) -> bool:
    """Take lots off an open order, which keeps its place."""
    named = _named(order_id, client_order_id, market)
    return await _send(client, instruct.reduce(quantity_lots=quantity_lots, **named))


@order.command()
@click.argument("order_id", type=_U64, required=False)
@click.option("--price", "price_ticks", type=_U64, default=None, help="New price in ticks.")
@click.option(
    "--quantity", "quantity_lots", metavar="LOTS", type=_U64, default=None, help="New total, filled included."
)
@_client_id_option
@_market_option
@trader_command
async def replace(
    client: AsyncClient,
    order_id: int | None,
    price_ticks: int | None,
    quantity_lots: int | None,
    client_order_id: int | None,
    market: str | None,
) -> bool:
    """Change price, total quantity or both of an open order."""
    named = _named(order_id, client_order_id, market)
    return await _send(
        client, instruct.replace(price_ticks=price_ticks or 0, quantity_lots=quantity_lots or 0, **named)
    )


@order.command("cancel-all")
@_market_option
@click.option("--shard", type=_SHARD, default=None, help="All markets of a shard, instead of one market.")
@click.option("--side", type=_choice(Side), help="Only this side.")
@trader_command
async def cancel_all(client: AsyncClient, market: str | None, shard: int | None, side: str | None) -> bool:
    """Cancel the account's open orders in a market or a shard."""
    if (market is None) == (shard is None):
        raise ClientError("INVALID_ARGUMENT", "say either --market or --shard")
    return await _send(client, instruct.cancel_all(_market(market) if market else None, side, shard=shard))


@order.command("list")
@_market_option
@trader_command
async def list_orders(client: AsyncClient, market: str | None) -> bool:
    """List the account's open orders."""
    found = (await client.open_orders(_market(market) if market else None)).orders
    symbols = {one.market: (await client.market(one.market)).symbol for one in found}
    rows = [
        (
            one.order_id,
            symbols[one.market],
            one.side.name.lower(),
            f"{one.price_ticks:,}",
            f"{one.open_lots:,}",
            f"{one.filled_lots:,}",
            one.client_order_id or None,
        )
        for one in found
    ]
    lines = draw_table(("order", "market", "side", "price", "open", "filled", "client id"), rows, "llrrrrr")
    _show([_plain(one) for one in found], lines if rows else ["no open orders"])
    return True


# --- funds ----------------------------------------------------------------------------------------------------------


@order.command()
@trader_command
async def balances(client: AsyncClient) -> bool:
    """Show the account's funds and where they lie."""
    found = await client.balances()
    assets = {
        one.asset: Asset(asset=one.asset, symbol=one.symbol, decimals=one.decimals) for one in await _assets(client)
    }
    rows = [
        (
            "treasury" if one.shard == CONTROL_SHARD else f"shard {one.shard}",
            draw_units(one.free_units, assets.get(one.asset)),
            draw_units(one.locked_units, assets.get(one.asset)) if one.locked_units else None,
        )
        for one in found.funds
    ]
    rows += [
        (f"on its way to {one.to_shard or 'treasury'}", draw_units(one.amount_units, assets.get(one.asset)), None)
        for one in found.transit
    ]
    rows += [
        (f"withdrawal {one.withdrawal}", draw_units(one.amount_units, assets.get(one.asset)), None)
        for one in found.withdrawals
    ]
    shown = {
        "account": str(found.account),
        "funds": [_plain(one) for one in found.funds],
        "transit": [_plain(one) for one in found.transit],
        "withdrawals": [_plain(one) for one in found.withdrawals],
    }
    lines = [f"account {found.account}", *draw_table(("", "free", "locked"), rows, "lrr")]
    _show(shown, lines if rows else [f"account {found.account} has no funds"])
    return True


@order.command()
@click.argument("asset")
@click.argument("amount")
@click.option("--from-shard", type=click.IntRange(1, SHARD_MAX), required=True)
@click.option("--units", is_flag=True, help="AMOUNT counts the asset's smallest units.")
@trader_command
async def release(client: AsyncClient, asset: str, amount: str, from_shard: int, units: bool) -> bool:
    """Move free funds from a shard to the treasury."""
    number, amount_units = await _amount(client, asset, amount, units)
    return await _send(client, instruct.release(from_shard, number, amount_units))


@order.command()
@click.argument("asset")
@click.argument("amount")
@click.option("--to-shard", type=click.IntRange(1, SHARD_MAX), required=True)
@click.option("--units", is_flag=True, help="AMOUNT counts the asset's smallest units.")
@trader_command
async def allocate(client: AsyncClient, asset: str, amount: str, to_shard: int, units: bool) -> bool:
    """Move funds from the treasury to a shard."""
    number, amount_units = await _amount(client, asset, amount, units)
    return await _send(client, instruct.allocate(number, amount_units, to_shard))


@order.command()
@click.argument("asset")
@click.argument("amount")
@click.argument("destination")
@click.option("--units", is_flag=True, help="AMOUNT counts the asset's smallest units.")
@trader_command
async def withdraw(client: AsyncClient, asset: str, amount: str, destination: str, units: bool) -> bool:
    """Ask for funds in the treasury to be paid out."""
    number, amount_units = await _amount(client, asset, amount, units)
    return await _send(client, instruct.withdraw(number, amount_units, destination))


# --- helpers --------------------------------------------------------------------------------------------------------


async def _send(client: AsyncClient, instruction: Instruction) -> bool:
    result = (await client.submit([instruction]))[0]
    _show(result_as_json(result), _result_lines(result))
    return result.accepted


def result_as_json(result: Result) -> dict[str, Any]:
    """Return a result for --json; numbers of 64 bits are strings, as in the services' JSON."""
    return {
        "command": type(result.command).__name__,
        "status": result.status,
        "reason": result.reason,
        "detail": result.detail,
        "shard": result.shard,
        "n": str(result.n),
        "t_us": str(result.t_us),
        "market": result.market,
        "order_id": str(result.order_id),
        "filled_lots": str(result.filled_lots),
        "open_lots": str(result.open_lots),
        "cancelled_lots": str(result.cancelled_lots),
        "fills": [_plain(fill) for fill in result.fills],
        "required_units": str(result.required_units),
        "available_units": str(result.available_units),
        "asset": result.asset,
        "funds_elsewhere": [_plain(one) for one in result.elsewhere],
        "repeated": result.repeated,
        "key_id": result.batch.key_id.hex(),
        "nonce": str(result.batch.nonce),
        "valid_until_ms": str(result.batch.valid_until_ms),
    }


def _result_lines(result: Result) -> list[str]:
    return [
        str(result),
        *(f"  {fill.quantity_lots:,} at {fill.price_ticks:,}, fee {fill.fee_quote_units:,}" for fill in result.fills),
    ]


_NARROW: Final = {"shard", "asset", "market", "from_shard", "to_shard"}


def _plain(row: Any) -> dict[str, Any]:
    """Return a named tuple for --json."""
    shown: dict[str, Any] = {}
    for name, value in row._asdict().items():
        if isinstance(value, bool) or name in _NARROW:
            shown[name] = value
        elif isinstance(value, Side):
            shown[name] = value.name
        else:
            shown[name] = str(value)
    return shown


def _show(value: Any, lines: Sequence[str]) -> None:
    if click.get_current_context().meta[_AS_JSON]:
        click.echo(json.dumps(value, indent=2))
    else:
        click.echo("\n".join(lines))


def _market(text: str) -> MarketName:
    """Return a market's number where the text is one; a symbol of digits is found by its number first."""
    return int(text) if text.isascii() and text.isdigit() else text


def _named(order_id: int | None, client_order_id: int | None, market: str | None) -> dict[str, Any]:
    if (order_id is None) == (client_order_id is None):
        raise ClientError("INVALID_ARGUMENT", "name the order by ORDER_ID, or by --client-order-id and --market")
    return {
        "order_id": order_id or 0,
        "client_order_id": client_order_id or 0,
        "market": _market(market) if market else None,
    }


async def _assets(client: AsyncClient) -> list[Any]:
    return list(await client.list_assets())


async def _amount(client: AsyncClient, asset: str, amount: str, units: bool) -> tuple[int, int]:
    """Return an asset's number and an amount of it in its smallest units."""
    assets = await _assets(client)
    for one in assets:
        if asset.upper() == one.symbol or asset == str(one.asset):
            if not units:
                wanted = Asset(asset=one.asset, symbol=one.symbol, decimals=one.decimals)
                return one.asset, parse_amount(amount, wanted)
            if not (amount.isascii() and amount.isdigit()):
                raise AmountError(f"{amount!r}: with --units an amount is a whole number")
            return one.asset, int(amount)
    known = ", ".join(one.symbol for one in assets[:20]) or "none"
    raise ClientError("UNKNOWN_ASSET", f"asset {asset!r}: the exchange has {known}")

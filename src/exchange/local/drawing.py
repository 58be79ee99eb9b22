"""The drawn form of what happens: `traded 4 @ 100, cancelled 2` for people, and to write expectations in.

An outcome is a list of clauses, one for each event that tells something. A clause is a head, such as `traded 4 @ 100`,
and details, such as `with a1`, that an expectation may leave out.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UnsetType

from exchange.local import scenario as spec
from exchange.local.venue import VALIDITY_MS

Clause = tuple[str, ...]
"""Head, then details."""
View = Mapping[str, Any]
"""An event, level, balance or order as the output shows it."""

ACCEPTED = "accepted"
NOTHING = "nothing"
EMPTY = "empty"


# --- what came of it ------------------------------------------------------------------------------------------------


def draw(clauses: Iterable[Clause], none: str = NOTHING) -> str:
    """Return the clauses in one line with all of their details, or `none` if there is no clause."""
    return ", ".join(" ".join(clause) for clause in clauses) or none


def is_drawn_as(clauses: list[Clause], expected: str, none: str = NOTHING) -> bool:
    """Return whether `expected` draws these clauses, all of them in their order.

    Details may be left out, and `accepted` may be left out throughout where there is more to tell.
    """
    wanted = [" ".join(part.split()) for part in expected.split(",")]
    if wanted == [none]:
        return not clauses
    if not any(part.startswith(ACCEPTED) for part in wanted) and any(clause[0] != ACCEPTED for clause in clauses):
        clauses = [clause for clause in clauses if clause[0] != ACCEPTED]
    return len(wanted) == len(clauses) and all(map(_is_clause, clauses, wanted))


def _is_clause(clause: Clause, wanted: str) -> bool:
    head, *details = (re.escape(part) for part in clause)
    return re.fullmatch(head + "".join(f"(?: {detail})?" for detail in details), wanted) is not None


def draw_events(events: Iterable[View]) -> list[Clause]:
    """Return the clauses of events; those that only say that something was taken have none."""
    return [clause for event in events if (clause := _draw_event(event)) is not None]


def draw_book(book: View) -> list[Clause]:
    """Return a clause for each level, bids then asks, the best first; the queue is a detail, oldest order first."""
    return [
        (
            f"{side} {level['quantity_lots']} @ {level['price_ticks']}",
            "= " + " + ".join(f"{order['order_name']} {order['open_lots']}" for order in level["orders"]),
        )
        for side, levels in (("bid", book["bids"]), ("ask", book["asks"]))
        for level in levels
    ]


def draw_balances(balances: Mapping[str, View]) -> list[Clause]:
    """Return a clause for each asset of which there is something; what is locked is a detail."""
    return [
        (f"{asset} {balance['free_units']} free", f"{balance['locked_units']} locked")
        if balance["locked_units"]
        else (f"{asset} {balance['free_units']} free",)
        for asset, balance in balances.items()
        if balance["free_units"] or balance["locked_units"]
    ]


def draw_orders(orders: Iterable[View]) -> list[Clause]:
    """Return a clause for each open order; what it has filled is a detail."""
    return [
        (
            f"{order['order_name']} {order['side'].lower()} {order['open_lots']} @ {order['price_ticks']}",
            *([f"filled {order['filled_lots']}"] if order["filled_lots"] else []),
        )
        for order in orders
    ]


def _draw_event(event: View) -> Clause | None:
    match event["event"]:
        case "BatchResult" | "LinkResult" | "OperationResult" | "FrameRefused":
            if event["reason"]:
                return (f"refused {event['reason']}",)
            return ("repeat",) if event.get("repeat_n") or event.get("repeated") else None
        case "CommandRejected":
            if not event["required_units"]:
                return (f"rejected {event['reason']}",)
            needs = f"needs {event['required_units']} has {event['available_units']} {_asset(event)}"
            return (f"rejected {event['reason']}", needs)
        case "ActionRejected":
            return (f"rejected {event['reason']}",)
        case "OrderAccepted":
            protection = [f"protected @ {event['price_ticks']}"] if event["order_type"] == "MARKET" else []
            return (ACCEPTED, *protection)
        case "CancelAllAccepted" | "CancelOrdersAccepted":
            return (ACCEPTED,)
        case "Trade":
            maker_fee, taker_fee = event["maker_fee_quote_units"], event["taker_fee_quote_units"]
            fees = [f"fees {maker_fee} + {taker_fee}"] if maker_fee or taker_fee else []
            traded = f"traded {event['quantity_lots']} @ {event['price_ticks']}"
            return (traded, f"with {event['maker_order_name']}", *fees)
        case "OrderCancelled":
            return (f"cancelled {event['cancelled_lots']}", f"of {event['order_name']}", event["reason"].lower())
        case "OrderReduced":
            reduced = f"reduced {event['reduced_lots']}"
            return (reduced, f"of {event['order_name']}", f"to {event['open_lots']}", event["reason"].lower())
        case "OrderReplaced":
            place = "priority kept" if event["priority_kept"] else "priority lost"
            return ("replaced", f"to {event['open_lots']} @ {event['price_ticks']}", place)
        case "CancelAllDone":
            return (f"done {event['cancelled_orders']}",)
        case "FundsCredited":
            return (f"credited {event['amount_units']} {_asset(event)}", f"to {event['account_name']}")
        case "FundsSent":
            return (f"sent {event['amount_units']} {_asset(event)}",)
        case "MarketDefined":
            return ("defined",)
        case "MarketStateChanged":
            return (f"state {event['state'].lower()}",)
        case "MarketStateScheduled":
            return (f"scheduled {event['state'].lower()}",)
        case "ShardSettingsChanged":
            return ("changed",)
        case other:
            return (str(other),)


def _asset(event: View) -> str:
    """Return the name of an event's asset, its number where it has none."""
    return str(event["asset_symbol"] or event["asset"])


# --- what was done --------------------------------------------------------------------------------------------------


def draw_step(step: spec.Step) -> str:
    """Return a step as a table has it (exchange.local.table)."""
    match step:
        case spec.Batch():
            words: list[object] = ["batch", step.account]
            words += [] if step.nonce is None else ["nonce", step.nonce]
            words += [] if step.valid_for_ms == VALIDITY_MS else ["valid", step.valid_for_ms]
            words += [] if step.id is None else ["as", step.id]
            inner = " ; ".join(draw_step(command) for command in step.commands)
            return _line(words) + " : " + inner
        case _:
            at_us = step.at_us if step.at_ms is None else step.at_ms * 1000
            at = [] if at_us is None else ["at", at_us, "us"]
            return _line([*_step_words(step), *at])


def _step_words(step: spec.Step) -> list[object]:
    op = str(step.__struct_config__.tag)
    match step:
        case spec.Place():
            return [op, *_place_words(step)]
        case spec.Reduce():
            return [op, *_order_words(step), "by", step.quantity_lots]
        case spec.Replace():
            quantity = [step.quantity_lots] if step.quantity_lots else []
            return [op, *_order_words(step), *quantity, *(["@", step.price_ticks] if step.price_ticks else [])]
        case spec.Cancel():
            return [op, *_order_words(step)]
        case spec.CancelAll():
            return [op, step.account, step.side, *_market_words(step.market)]
        case spec.CancelOrders():
            account = [] if step.account is None else ["of", step.account]
            return [op, *account, step.side, *_market_words(step.market)]
        case spec.Release():
            return [op, step.account, step.amount_units, step.asset]
        case spec.Deposit():
            funds = " ".join(f"{units} {asset}" for asset, units in step.funds.items())
            return [op, step.account, funds, *([] if step.sequence is None else ["link", step.sequence])]
        case spec.StateStep():
            after = step.effective_us if step.effective_ms is None else step.effective_ms * 1000
            state = step.state if isinstance(step, spec.SetState) else None
            return [op, state, *_market_words(step.market), *([] if after is None else ["from", after, "us"])]
        case spec.Advance():
            by_us = step.by_us if step.by_ms is None else step.by_ms * 1000
            return [op, *([] if by_us is None else [by_us, "us"])]
        case spec.ShowBook():
            return [op, step.market]
        case spec.ShowBalances() | spec.ShowOrders():
            return [op, step.account]
        case spec.Resend():
            return [op, step.batch]
        case spec.DefineMarket():
            return [op, step.symbol, *_setting_words(step, ("symbol",))]
        case spec.SweepFees():
            return [op, step.asset]
        case _:
            return [op, *_setting_words(step, ())]


def _place_words(step: spec.Place) -> list[object]:
    price: list[object] = ["@", step.price_ticks]
    if step.order_type.lower() == "market":
        price = ["market", *(price if step.price_ticks else [])]
    mode = step.self_trade_prevention
    return [
        step.account,
        step.side.lower(),
        step.quantity_lots,
        *price,
        step.time_in_force and step.time_in_force.lower(),
        "post_only" if step.post_only else None,
        *(["stp", mode.lower()] if mode else []),
        *(["client", step.client_order_id] if step.client_order_id else []),
        *_market_words(step.market),
        *(["as", step.id] if step.id is not None else []),
    ]


def _order_words(step: spec.OrderStep) -> list[object]:
    named: list[object] = [step.order]
    if step.order_id is not None:
        named = ["order_id", step.order_id]
    elif step.client_order_id is not None:
        named = ["client", step.client_order_id]
    return [*named, *(["of", step.account] if step.account is not None else [])]


def _market_words(market: str | int | None) -> list[object]:
    return [] if market is None else ["in", market]


def _setting_words(step: spec.Step, without: tuple[str, ...]) -> list[object]:
    fields = [name for name in step.__struct_fields__ if name not in (*spec.Step.__struct_fields__, *without)]
    given = {name: getattr(step, name) for name in fields if not isinstance(getattr(step, name), UnsetType)}
    return [f"{name}={_table(value) if isinstance(value, list) else value}" for name, value in given.items()]


def _table(rows: list[Any]) -> str:
    """Return a tick or lot table as `from:multiple` pairs."""
    return "/".join(":".join(str(number) for number in msgspec.structs.astuple(row)) for row in rows)


def _line(words: list[object]) -> str:
    return " ".join(str(word) for word in words if word is not None)

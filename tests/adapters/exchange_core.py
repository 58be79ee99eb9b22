"""The published features of exchange-core (Gherkin) as scenarios of ours.

Prices, sizes and balances of the features are integers already. Their symbols are these:

    ETH_XBT   an exchange pair: a lot is 100,000 units of ETH, a tick costs 10 units of XBT per lot
              (7 lots at 30,000 cost 2,100,000 XBT and 700,000 ETH; 500 at 18,500 leave 1,500,000 of 94,000,000)
    EUR_USD   a contract on margin: who sells it needs no EUR

A bid of exchange-core has a reserve price: its hold is taken there, and it may be moved up to there and no further. A
spot engine holds at the order's own price. `DEPARTURES` lists every line that means something else here, with what is
played in its place; a test wants each of them to occur. `reservePrice` and `bidderHoldPrice` are not compared. A
sentence that is not known is an error, never skipped.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

MARKETS: Final[list[dict[str, Any]]] = [
    {
        "symbol": "ETH_XBT",
        "base": "ETH",
        "quote": "XBT",
        "base_units_per_lot": 100_000,
        "quote_units_per_tick_lot": 10,
    },
    {"symbol": "EUR_USD", "base": "EUR", "quote": "USD"},
]
MARGIN_CONTRACT: Final = "EUR_USD"
MARGIN_FUNDS: Final = {"EUR": 1_000}
"""What every client has besides where a margin contract is traded, so that it can sell on the spot."""
REASONS: Final = {"RISK_NSF": "INSUFFICIENT_FUNDS"}
SIDES: Final = {"ASK": "sell", "BID": "buy"}


class Departure(NamedTuple):
    """A line of a feature that means something else here: where it stands, what it says, what is played, and why."""

    feature: str
    line: int
    text: str
    played: str
    why: str


DEPARTURES: Final = (
    Departure(
        "risk.feature",
        81,
        "When A client Bob could not place an BID order 203 at 18000@500 "
        "(type: GTC, symbol: ETH_XBT, reservePrice: 19000) due to RISK_NSF",
        "When A client Bob could not place an BID order 203 at 19000@500 "
        "(type: GTC, symbol: ETH_XBT, reservePrice: 19000) due to RISK_NSF",
        "the hold is taken at reservePrice there, at the price here: the bid is placed at 19000 for the same hold",
    ),
    Departure(
        "risk.feature",
        92,
        "| XBT | 1500000 |",
        "| XBT | 4000000 |",
        "the hold is taken at the price: 94,000,000 - 500 x 18,000 x 10 are free",
    ),
    Departure(
        "risk.feature",
        97,
        "When A client Bob could not move a price to 18501 of the order 203 "
        "due to MATCHING_MOVE_FAILED_PRICE_OVER_RISK_LIMIT",
        "When A client Bob could not move a price to 18801 of the order 203 due to RISK_NSF",
        "reservePrice limits a move there, funds do here: 94,000,000 pay for 500 lots up to 18,800",
    ),
    Departure(
        "risk.feature",
        99,
        "| XBT | 1500000 |",
        "| XBT | 4000000 |",
        "the hold is taken at the price, which the refused move left at 18,000",
    ),
    Departure(
        "risk.feature",
        116,
        "| XBT | 1500000 |",
        "| XBT | 6500000 |",
        "the hold falls with the price here: 94,000,000 - 500 x 17,500 x 10 are free",
    ),
)


@dataclass
class Sentence:
    """A step of a feature: its line, its words without Given, When, Then and And, and the rows of its table."""

    line: int
    text: str
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Outline:
    """A scenario of a feature before its examples are filled in."""

    name: str
    sentences: list[Sentence] = field(default_factory=list)
    examples: list[list[str]] = field(default_factory=list)


def scenarios_of(feature: str, text: str, departures: tuple[Departure, ...] = DEPARTURES) -> dict[str, dict[str, Any]]:
    """Return the scenarios of a feature as JSON by name, one for each row of examples.

    Raises:
        ValueError: a sentence is not known, or a departure does not stand where it says.
    """
    background, outlines = _parse(_with_departures(feature, text, departures))
    found: dict[str, dict[str, Any]] = {}
    for outline in outlines:
        header, *rows = outline.examples or [[], []]
        for row in rows:
            values = dict(zip(header, row, strict=True))
            name = " ".join([outline.name, *values.values()])
            sentences = [_filled(sentence, values) for sentence in [*background, *outline.sentences]]
            found[name] = _Conversion(sentences).scenario(f"{feature}: {name}")
    return found


def _with_departures(feature: str, text: str, departures: tuple[Departure, ...]) -> str:
    lines = text.splitlines()
    for departure in departures:
        if departure.feature == feature:
            line = lines[departure.line - 1]
            if line.strip() != departure.text:
                raise ValueError(f"{feature}:{departure.line} is {line.strip()!r}, not {departure.text!r}")
            lines[departure.line - 1] = line.replace(departure.text, departure.played)
    return "\n".join(lines)


def _parse(text: str) -> tuple[list[Sentence], list[Outline]]:
    background: list[Sentence] = []
    outlines: list[Outline] = []
    sentences, rows = background, [[""]]
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        keyword, _, rest = line.partition(" ")
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif line.startswith(("Scenario:", "Scenario Outline:")):
            outlines.append(Outline(line.partition(":")[2].strip()))
            sentences = outlines[-1].sentences
        elif line == "Examples:":
            rows = outlines[-1].examples
        elif keyword in ("Given", "When", "Then", "And"):
            sentences.append(Sentence(number, rest))
            rows = sentences[-1].rows
        elif line and not line.startswith(("@", "Feature:", "Background:")):
            raise ValueError(f"line {number} is not understood: {line!r}")
    return background, outlines


def _filled(sentence: Sentence, values: dict[str, str]) -> Sentence:
    text = sentence.text
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return Sentence(sentence.line, text, sentence.rows)


class _Conversion:
    """A scenario of a feature on its way to one of ours; expectations go to the command before them."""

    def __init__(self, sentences: list[Sentence]) -> None:
        self.sentences = sentences
        self.accounts: list[str] = []
        self.commands: list[dict[str, Any]] = []
        self.expect: dict[str, Any] = {}
        self.on_margin = any(MARGIN_CONTRACT in sentence.text for sentence in sentences)

    def scenario(self, title: str) -> dict[str, Any]:
        for sentence in self.sentences:
            self._convert(sentence)
        return {
            "title": title,
            "source": "exchange-core/exchange-core, src/test/resources/exchange/core2/tests/features",
            "markets": MARKETS,
            "accounts": [{"name": name, "funds": {}} for name in self.accounts],
            "commands": self.commands,
        }

    def _convert(self, sentence: Sentence) -> None:
        for pattern, handler in _SENTENCES.items():
            if match := re.fullmatch(pattern, sentence.text):
                handler(self, match, sentence.rows)
                return
        raise ValueError(f"line {sentence.line}: no sentence of this kind is known: {sentence.text!r}")

    def _command(self, **step: Any) -> None:
        self.expect = step["expect"] = {"accepted": True, **step.get("expect", {})}
        self.commands.append(step)

    def new_client(self, match: re.Match[str], rows: list[list[str]]) -> None:
        funds = {asset: int(units) for asset, units in rows} | (MARGIN_FUNDS if self.on_margin else {})
        self.accounts.append(match["client"])
        self._command(op="deposit", account=match["client"], funds=funds)

    def added(self, match: re.Match[str], _: list[list[str]]) -> None:
        self._command(op="deposit", account=match["client"], funds={match["asset"]: int(match["units"])})

    def place(self, match: re.Match[str], _: list[list[str]]) -> None:
        self._command(
            op="place",
            id=int(match["order"]),
            account=match["client"],
            market=match["symbol"],
            side=SIDES[match["side"]],
            price_ticks=int(match["price"]),
            quantity_lots=int(match["size"]),
            time_in_force=match["type"],
        )
        self._refused(match)

    def move(self, match: re.Match[str], _: list[list[str]]) -> None:
        order, price_ticks = int(match["order"]), int(match["price"])
        self._command(op="replace", account=match["client"], order=order, price_ticks=price_ticks)
        self._refused(match)

    def _refused(self, match: re.Match[str]) -> None:
        if match["reason"] is not None:
            if match["reason"] not in REASONS:
                raise ValueError(f"no reason here is what {match['reason']} is there")
            self.expect |= {"accepted": False, "rejected": REASONS[match["reason"]]}

    def cancel(self, match: re.Match[str], _: list[list[str]]) -> None:
        cancelled = {"event": "OrderCancelled", "cancelled_lots": int(match["size"]), "reason": "REQUESTED"}
        self._command(op="cancel", account=match["client"], order=int(match["order"]), expect={"events": [cancelled]})

    def no_trades(self, _: re.Match[str], __: list[list[str]]) -> None:
        self.expect["trades"] = []

    def matched(self, match: re.Match[str], _: list[list[str]]) -> None:
        trade = {"price_ticks": int(match["price"]), "quantity_lots": int(match["size"]), "maker": match["order"]}
        self.expect.setdefault("trades", []).append(trade)
        if match["how"] == "fully":
            self.expect.setdefault("open_lots", {})[match["order"]] = 0

    def book(self, match: re.Match[str], rows: list[list[str]]) -> None:
        levels = [row for row in rows if row != ["bid", "price", "ask"]]
        bids = [[int(price), int(bid)] for bid, price, _ in levels if bid]
        asks = [[int(price), int(ask)] for _, price, ask in reversed(levels) if ask]
        expect = {"book": {"market": match["symbol"], "bids": bids, "asks": asks}}
        self.commands.append({"op": "book", "market": match["symbol"], "expect": expect})

    def balance(self, match: re.Match[str], rows: list[list[str]]) -> None:
        expect = {"balances": {match["client"]: {asset: int(units) for asset, units in rows}}}
        self.commands.append({"op": "balances", "account": match["client"], "expect": expect})

    def orders(self, match: re.Match[str], rows: list[list[str]]) -> None:
        header, *lines = rows or [[]]
        orders = []
        for line in lines:
            row = dict(zip(header, line, strict=True))
            filled_lots = int(row["filled"])
            orders.append(
                {
                    "order": int(row["id"]),
                    "side": SIDES[row["side"]],
                    "price_ticks": int(row["price"]),
                    "open_lots": int(row["size"]) - filled_lots,
                    "filled_lots": filled_lots,
                }
            )
        expect = {"orders": {match["client"]: orders}}
        self.commands.append({"op": "orders", "account": match["client"], "expect": expect})


_CLIENT: Final = r"(?P<client>\w+)"
_ORDER: Final = r"(?P<order>\d+)"
_PRICE: Final = r"(?P<price>\d+)"
_DUE: Final = r"(?: due to (?P<reason>\w+))?"
_SENTENCES: Final[dict[str, Callable[[_Conversion, re.Match[str], list[list[str]]], None]]] = {
    rf"New client {_CLIENT} has a balance:": _Conversion.new_client,
    rf"(?P<units>\d+) (?P<asset>\w+) is added to the balance of a client {_CLIENT}": _Conversion.added,
    rf"A client {_CLIENT} (?:places|could not place) an (?P<side>ASK|BID) order {_ORDER} at {_PRICE}@(?P<size>\d+) "
    rf"\(type: (?P<type>GTC|IOC), symbol: (?P<symbol>\w+)(?:, reservePrice: \d+)?\){_DUE}": _Conversion.place,
    rf"A client {_CLIENT} (?:moves|could not move) a price to {_PRICE} of the order {_ORDER}{_DUE}": _Conversion.move,
    rf"A client {_CLIENT} cancels the remaining size (?P<size>\d+) of the order {_ORDER}": _Conversion.cancel,
    r"No trade events": _Conversion.no_trades,
    rf"The order {_ORDER} is (?P<how>fully|partially) matched\. LastPx: (?P<price>\d+), LastQty: (?P<size>\d+)"
    r"(?:, bidderHoldPrice: \d+)?": _Conversion.matched,
    r"An (?P<symbol>\w+) order book is:": _Conversion.book,
    rf"A balance of a client {_CLIENT}:": _Conversion.balance,
    rf"A client {_CLIENT} orders:": _Conversion.orders,
    rf"A client {_CLIENT} does not have active orders": _Conversion.orders,
}

"""A scenario: markets, accounts and commands as somebody writes them down in JSON (docs/scenarios.md).

Every field is described here, once; `scenario.schema.json` is made from these descriptions. Numbers are integers in the
units of the contracts. What the exchange would refuse can be written, so that the refusal can be played; what no
exchange ever sees, such as a misspelt field or a name that stands for nothing, is an error.
"""

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from exchange.domain.limits import BATCH_COMMANDS_MAX, TABLE_ROWS_MAX
from exchange.domain.markets import DEFAULT_SETTINGS
from exchange.domain.units import AMOUNT_UNITS_MAX, PPM, PRICE_TICKS_MAX, TIME_US_MAX
from exchange.local.venue import START_US, VALIDITY_MS

AMPLE_UNITS: Final = 10**16
"""What an account with ample funds has of every asset."""
_U64_MAX: Final = 2**64 - 1


class ScenarioError(ValueError):
    """A scenario cannot be played: `field` is the path of what is wrong, such as `commands[3].price_ticks`."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field = field
        self.detail = detail


# --- values ---------------------------------------------------------------------------------------------------------

WORD_PATTERN: Final = r"^[^\s,#][^\s,]*$"
SYMBOL_PATTERN: Final = r"^[A-Z0-9._-]{1,32}$"
Word = Annotated[str, Meta(pattern=WORD_PATTERN, description="A name without spaces and commas, not led by #.")]
Number = Annotated[int, Meta(ge=0, description='A number as a name; 7 and "7" are the same name.')]
Name = Word | Number
Symbol = Annotated[str, Meta(pattern=SYMBOL_PATTERN, description="1 to 32 of A-Z, 0-9, dot, _ and -.")]
Side = Literal["buy", "sell", "BUY", "SELL"]
State = Literal["open", "post_only", "cancel_only", "halted", "OPEN", "POST_ONLY", "CANCEL_ONLY", "HALTED"]
Amount = Annotated[int, Meta(ge=0, le=AMOUNT_UNITS_MAX, description="Smallest units of the asset; 0 .. 2^63-1.")]
Funds = dict[Symbol, Amount]
Unsigned = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": _U64_MAX})]
"""Whatever 64 bits hold, so that a number out of the contracts' bounds can be played; the wire checks the upper end."""

_Price = Annotated[int, Meta(ge=1, le=PRICE_TICKS_MAX)]
_Edge = Annotated[int, Meta(ge=0, le=PRICE_TICKS_MAX)]
_Rate = Annotated[int, Meta(ge=0, le=PPM)]
_Time = Annotated[int, Meta(ge=0, le=TIME_US_MAX)]

MarketName = Annotated[
    Symbol | Number | None,
    Meta(description="Symbol of a market, or a bare number; may be left out where the scenario has one market."),
]
AccountName = Annotated[
    Name | None,
    Meta(description="Name of the account that sends it; may be left out where `order` says whose it is."),
]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a scenario. Nothing in it is ignored: an unknown field is an error."""


# --- what there is at the start -------------------------------------------------------------------------------------


class TickRow(Part, frozen=True, kw_only=True):
    """One row of a tick table; the first row starts at 1, rows ascend."""

    from_price_ticks: Annotated[_Price, Meta(description="First price that the row covers, in ticks; 1 .. 2^53-1.")]
    multiple_ticks: Annotated[_Price, Meta(description="Prices are multiples of this many ticks; 1 .. 2^53-1.")]


class LotRow(Part, frozen=True, kw_only=True):
    """One row of a lot table; the first row starts at 1, rows ascend."""

    from_price_ticks: Annotated[_Price, Meta(description="First order price that the row covers; 1 .. 2^53-1.")]
    multiple_lots: Annotated[_Price, Meta(description="Quantities are multiples of this many lots; 1 .. 2^53-1.")]


TickTable = Annotated[
    list[TickRow], Meta(max_length=TABLE_ROWS_MAX, description="Rules for prices; none: every tick is a price.")
]
LotTable = Annotated[
    list[LotRow], Meta(max_length=TABLE_ROWS_MAX, description="Rules for quantities; none: every lot is a quantity.")
]
BandLow = Annotated[_Edge, Meta(description="Lowest price an order may name, in ticks; 0: no lower edge.")]
BandHigh = Annotated[_Edge, Meta(description="Highest price an order may name, in ticks; 0: no upper edge.")]
BandPpm = Annotated[
    _Rate, Meta(description="Largest distance from the last trade's price, in millionths of it; 0: no limit.")
]
MakerFee = Annotated[_Rate, Meta(description="Fee of the resting side, in millionths of the notional; 0 .. 1,000,000.")]
TakerFee = Annotated[
    _Rate, Meta(description="Fee of the aggressing side, in millionths of the notional; 0 .. 1,000,000.")
]
BaseUnits = Annotated[_Price, Meta(description="Smallest units of the base asset in one lot; 1 .. 2^53-1.")]
QuoteUnits = Annotated[
    _Price, Meta(description="Smallest units of the quote asset that one lot costs per tick of price; 1 .. 2^53-1.")
]


class MarketSpec(Part, frozen=True, kw_only=True):
    """A market of the scenario's shard. Markets are numbered from 1 in the order in which they stand here."""

    symbol: Annotated[Symbol, Meta(description="Name of the market, by which commands name it.")]
    base: Annotated[Symbol, Meta(description="Asset that is bought and sold.")]
    quote: Annotated[Symbol, Meta(description="Asset that it is paid with, another one.")]
    base_units_per_lot: BaseUnits = 1
    quote_units_per_tick_lot: QuoteUnits = 1
    tick_table: TickTable = []
    lot_table: LotTable = []
    band_low_ticks: BandLow = 0
    band_high_ticks: BandHigh = 0
    band_ppm: BandPpm = 0
    maker_fee_ppm: MakerFee = 0
    taker_fee_ppm: TakerFee = 0
    state: Annotated[State, Meta(description="What traders may do at the start.")] = "open"


class AccountSpec(Part, frozen=True, kw_only=True):
    """An account with a key of its own. Accounts are numbered from 1 in the order in which they stand here."""

    name: Annotated[Name, Meta(description="Name of the account, by which commands name it.")]
    funds: Annotated[
        Funds | Literal["ample"],
        Meta(description='Free units per asset at the start; {}: none; "ample": 10^16 units of every asset.'),
    ]


MaxValidity = Annotated[
    Unsigned | UnsetType, Meta(description="Longest validity of a batch, in milliseconds; 1 .. 86,400,000.")
]
NoncesMax = Annotated[Unsigned | UnsetType, Meta(description="Most live nonces of one key; 1 .. 1,048,576.")]
OpenOrdersMax = Annotated[Unsigned | UnsetType, Meta(description="Most open orders of an account; 1 .. 10,000,000.")]


class SettingsSpec(Part, frozen=True, kw_only=True):
    """Settings of the shard at the start; what is left out is the default."""

    max_validity_ms: MaxValidity = UNSET
    live_nonces_per_key_max: NoncesMax = UNSET
    open_orders_per_account_max: OpenOrdersMax = UNSET


# --- what is expected -----------------------------------------------------------------------------------------------


class ExpectedTrade(Part, frozen=True, kw_only=True):
    """A trade; what is left out is not compared."""

    price_ticks: Annotated[Unsigned | UnsetType, Meta(description="Price in ticks, always the maker's.")] = UNSET
    quantity_lots: Annotated[Unsigned | UnsetType, Meta(description="Quantity in lots.")] = UNSET
    maker: Annotated[Name | UnsetType, Meta(description="Name of the order that rested.")] = UNSET
    taker: Annotated[Name | UnsetType, Meta(description="Name of the order that came to it.")] = UNSET
    maker_fee_quote_units: Annotated[Unsigned | UnsetType, Meta(description="Fee of the maker in quote units.")] = UNSET
    taker_fee_quote_units: Annotated[Unsigned | UnsetType, Meta(description="Fee of the taker in quote units.")] = UNSET


Level = Annotated[
    tuple[Unsigned, Unsigned], Meta(description="[price_ticks, quantity_lots]: all that is open at one price, in lots.")
]


class ExpectedBook(Part, frozen=True, kw_only=True):
    """The whole book of a market after the step."""

    market: MarketName = None
    bids: Annotated[list[Level], Meta(description="Levels to buy, highest price first.")] = []
    asks: Annotated[list[Level], Meta(description="Levels to sell, lowest price first.")] = []


class ExpectedBalance(Part, frozen=True, kw_only=True):
    """What an account has of an asset; what is left out is not compared."""

    free_units: Annotated[Unsigned | UnsetType, Meta(description="Units that it can use.")] = UNSET
    locked_units: Annotated[Unsigned | UnsetType, Meta(description="Units held for open orders.")] = UNSET


class ExpectedOrder(Part, frozen=True, kw_only=True):
    """An open order; what is left out is not compared."""

    order: Annotated[Name, Meta(description="Name of the order.")]
    side: Annotated[Side | UnsetType, Meta(description="Side of the order.")] = UNSET
    price_ticks: Annotated[Unsigned | UnsetType, Meta(description="Its price in ticks.")] = UNSET
    open_lots: Annotated[Unsigned | UnsetType, Meta(description="Lots that are open.")] = UNSET
    filled_lots: Annotated[Unsigned | UnsetType, Meta(description="Lots that have traded.")] = UNSET


class Expect(Part, frozen=True, kw_only=True):
    """What must be so after a step; what is left out is not compared."""

    accepted: Annotated[
        bool | UnsetType, Meta(description="true: nothing in the step was refused; false: something was.")
    ] = UNSET
    rejected: Annotated[
        str | UnsetType, Meta(description="Reason of the first refusal in the step, such as INSUFFICIENT_FUNDS.")
    ] = UNSET
    trades: Annotated[
        list[ExpectedTrade] | UnsetType, Meta(description="All trades of the step, in order; []: there was none.")
    ] = UNSET
    events: Annotated[
        list[dict[str, Any]] | UnsetType,
        Meta(
            description="All events of the step, in order, but for results that only say that a batch, an operation "
            "or a link was taken: each with its type as `event`, and those of its fields that are to be compared."
        ),
    ] = UNSET
    book: Annotated[ExpectedBook | UnsetType, Meta(description="The whole book of a market after the step.")] = UNSET
    balances: Annotated[
        dict[str, dict[Symbol, Amount | ExpectedBalance]] | UnsetType,
        Meta(description="By account and asset: the free units, or free and locked units, after the step."),
    ] = UNSET
    orders: Annotated[
        dict[str, list[Name | ExpectedOrder]] | UnsetType,
        Meta(description="By account: all of its open orders after the step, oldest first."),
    ] = UNSET
    open_lots: Annotated[
        dict[str, Unsigned] | UnsetType,
        Meta(description="By order: lots that are open after the step; 0: the order has ended."),
    ] = UNSET


# --- steps ----------------------------------------------------------------------------------------------------------


class Step(Part, frozen=True, kw_only=True, tag_field="op"):
    """One step of a scenario."""

    note: Annotated[str, Meta(description="Words for the reader; they come back in the output.")] = ""
    at_us: Annotated[
        _Time | None,
        Meta(description="Let time pass until so many microseconds after the start, then take the step."),
    ] = None
    at_ms: Annotated[
        _Time | None,
        Meta(description="Let time pass until so many milliseconds after the start, then take the step."),
    ] = None
    expect: Annotated[
        Expect | str | None,
        Meta(description="What must come of the step: the outcome as it is drawn, or an object. Else the run fails."),
    ] = None


class Place(Step, frozen=True, kw_only=True, tag="place"):
    """Place an order, signed by its account as a batch of its own unless it stands in a batch."""

    id: Annotated[
        Name | None,
        Meta(description="Name of the order in later steps; free again when it has ended; left out: #1, #2, .."),
    ] = None
    account: AccountName = None
    market: MarketName = None
    side: Annotated[Side, Meta(description="Buy or sell base.")]
    order_type: Annotated[
        Literal["limit", "market", "LIMIT", "MARKET"],
        Meta(description="limit: at its price or better; market: takes up to its protection price, never rests."),
    ] = "limit"
    time_in_force: Annotated[
        Literal["gtc", "ioc", "fok", "GTC", "IOC", "FOK"] | None,
        Meta(description="Good till cancelled, immediate or cancel, fill or kill; left out: gtc or, for market, ioc."),
    ] = None
    post_only: Annotated[bool, Meta(description="Refuse the order rather than let it take.")] = False
    self_trade_prevention: Annotated[
        Literal[
            "cancel_taker",
            "cancel_maker",
            "cancel_both",
            "decrement",
            "none",
            "CANCEL_TAKER",
            "CANCEL_MAKER",
            "CANCEL_BOTH",
            "DECREMENT",
            "NONE",
        ]
        | None,
        Meta(description="What happens when it meets an order of its own account; left out: cancel_taker."),
    ] = None
    price_ticks: Annotated[
        Unsigned,
        Meta(description="Limit or protection price in ticks; 1 .. 2^53-1; 0, for market only: the band's edge."),
    ] = 0
    quantity_lots: Annotated[Unsigned, Meta(description="Quantity in lots; 1 .. 2^53-1.")]
    client_order_id: Annotated[
        Unsigned, Meta(description="The trader's own number for it, unique among the account's open orders; 0: none.")
    ] = 0


class OrderStep(Step, frozen=True, kw_only=True):
    """Names an order: by the name that a step gave it, by order_id, or by client_order_id."""

    account: AccountName = None
    order: Annotated[
        Name | None,
        Meta(
            description="Name that an earlier step gave the order; it is sent as its order_id, and as its "
            "client_order_id where the order stands in the same batch. One that was refused is sent as an unknown one."
        ),
    ] = None
    order_id: Annotated[Unsigned | None, Meta(description="The engine's number for it, sent as it stands.")] = None
    client_order_id: Annotated[
        Unsigned | None, Meta(description="The trader's own number for it, sent as it stands.")
    ] = None


class Cancel(OrderStep, frozen=True, kw_only=True, tag="cancel"):
    """Cancel an open order."""


class Reduce(OrderStep, frozen=True, kw_only=True, tag="reduce"):
    """Take lots off an open order, which keeps its place."""

    quantity_lots: Annotated[
        Unsigned, Meta(description="Lots to take off; 1 .. 2^53-1; as many as are open, or more, cancel it.")
    ]


class Replace(OrderStep, frozen=True, kw_only=True, tag="replace"):
    """Change price, quantity or both of an open order; a change of price or more quantity loses its place."""

    price_ticks: Annotated[Unsigned, Meta(description="New price in ticks; 1 .. 2^53-1; 0: as it is.")] = 0
    quantity_lots: Annotated[
        Unsigned, Meta(description="New total quantity in lots, what was filled included; 1 .. 2^53-1; 0: as it is.")
    ] = 0


class CancelAll(Step, frozen=True, kw_only=True, tag="cancel_all"):
    """Cancel the account's open orders, signed by the account."""

    account: AccountName = None
    market: Annotated[
        Symbol | Number | None, Meta(description="Only in this market, by symbol or bare number; left out: in all.")
    ] = None
    side: Annotated[Side | None, Meta(description="Only on this side; left out: on both.")] = None


class Release(Step, frozen=True, kw_only=True, tag="release"):
    """Send free funds of the account back to the treasury."""

    account: AccountName = None
    asset: Annotated[Symbol | Number, Meta(description="Asset by symbol or bare number.")]
    amount_units: Annotated[Unsigned, Meta(description="Smallest units of the asset; 1 .. 2^63-1.")]


Command = Place | Cancel | Reduce | Replace | CancelAll | Release


class Batch(Step, frozen=True, kw_only=True, tag="batch"):
    """Several commands of one account under one signature and one nonce."""

    id: Annotated[Name | None, Meta(description="Name of the batch, by which it can be sent again.")] = None
    account: Annotated[Name, Meta(description="Name of the account that signs it.")]
    nonce: Annotated[
        Unsigned | None,
        Meta(description="Number that the key has not used lately; left out: a fresh one."),
    ] = None
    valid_for_ms: Annotated[
        Annotated[int, Meta(ge=0, le=TIME_US_MAX // 1000)],
        Meta(description="Validity from now on in milliseconds; 0: it has expired when it arrives."),
    ] = VALIDITY_MS
    commands: Annotated[
        list[Command],
        Meta(
            min_length=1,
            max_length=BATCH_COMMANDS_MAX,
            description="Commands, executed in order; they have no time of their own.",
        ),
    ]


class Resend(Step, frozen=True, kw_only=True, tag="resend"):
    """Send the very bytes of an earlier batch again."""

    batch: Annotated[Name, Meta(description="Name of the batch.")]


class Deposit(Step, frozen=True, kw_only=True, tag="deposit"):
    """Send funds from the treasury to an account in the shard, as a link."""

    account: Annotated[Name, Meta(description="Name of the account that receives them.")]
    funds: Annotated[Funds, Meta(min_length=1, description="Units per asset; 1 .. 2^63-1 each.")]
    sequence: Annotated[
        Annotated[int, Meta(ge=1, extra_json_schema={"maximum": _U64_MAX})] | None,
        Meta(description="Number of the link, from 1, the start's included; left out: the next one."),
    ] = None


class StateStep(Step, frozen=True, kw_only=True):
    """Sets what traders may do in a market."""

    market: MarketName = None
    effective_us: Annotated[
        _Time | None, Meta(description="From this many microseconds after the start on; left out: now.")
    ] = None
    effective_ms: Annotated[
        _Time | None, Meta(description="From this many milliseconds after the start on; left out: now.")
    ] = None


class SetState(StateStep, frozen=True, kw_only=True, tag="set_state"):
    """Set the state of a market, now or at a time."""

    state: Annotated[State, Meta(description="What traders may do from then on.")]


class Open(StateStep, frozen=True, kw_only=True, tag="open"):
    """Open a market: every command is executed."""


class PostOnly(StateStep, frozen=True, kw_only=True, tag="post_only"):
    """Let a market take post-only orders, cancels and reductions."""


class CancelOnly(StateStep, frozen=True, kw_only=True, tag="cancel_only"):
    """Let a market take cancels and reductions only."""


class Halt(StateStep, frozen=True, kw_only=True, tag="halt"):
    """Halt a market: nothing of a trader's is executed in it."""


class DefineMarket(Step, frozen=True, kw_only=True, tag="define_market"):
    """Define another market, or change the settings of one; what is left out is as it was, in a new one the default."""

    symbol: Annotated[Symbol, Meta(description="Name of the market; one that the scenario does not know is a new one.")]
    base: Annotated[Symbol | UnsetType, Meta(description="Base asset; fixed once the market is defined.")] = UNSET
    quote: Annotated[Symbol | UnsetType, Meta(description="Quote asset; fixed once the market is defined.")] = UNSET
    base_units_per_lot: Annotated[
        Unsigned | UnsetType, Meta(description="Base units in one lot; 1 .. 2^53-1; fixed once the market is defined.")
    ] = UNSET
    quote_units_per_tick_lot: Annotated[
        Unsigned | UnsetType,
        Meta(description="Quote units per tick and lot; 1 .. 2^53-1; fixed once the market is defined."),
    ] = UNSET
    tick_table: TickTable | UnsetType = UNSET
    lot_table: LotTable | UnsetType = UNSET
    band_low_ticks: BandLow | UnsetType = UNSET
    band_high_ticks: BandHigh | UnsetType = UNSET
    band_ppm: Annotated[Unsigned | UnsetType, Meta(description="As in `markets`; 0 .. 1,000,000.")] = UNSET
    maker_fee_ppm: Annotated[Unsigned | UnsetType, Meta(description="As in `markets`; 0 .. 1,000,000.")] = UNSET
    taker_fee_ppm: Annotated[Unsigned | UnsetType, Meta(description="As in `markets`; 0 .. 1,000,000.")] = UNSET
    state: Annotated[State | UnsetType, Meta(description="What traders may do from now on.")] = UNSET


class CancelOrders(Step, frozen=True, kw_only=True, tag="cancel_orders"):
    """Cancel open orders as the operator, in halted markets too."""

    account: Annotated[Name | None, Meta(description="Only this account's orders; left out: every account's.")] = None
    market: Annotated[
        Symbol | Number | None, Meta(description="Only in this market, by symbol or bare number; left out: in all.")
    ] = None
    side: Annotated[Side | None, Meta(description="Only on this side; left out: on both.")] = None


class Settings(Step, frozen=True, kw_only=True, tag="settings"):
    """Change settings of the shard; what is left out is as it was."""

    max_validity_ms: MaxValidity = UNSET
    live_nonces_per_key_max: NoncesMax = UNSET
    open_orders_per_account_max: OpenOrdersMax = UNSET


class SweepFees(Step, frozen=True, kw_only=True, tag="sweep_fees"):
    """Send the fees that were collected in an asset to the treasury."""

    asset: Annotated[Symbol | Number, Meta(description="Asset by symbol or bare number.")]


class Advance(Step, frozen=True, kw_only=True, tag="advance"):
    """Let time pass: by so much, or with `at_us` or `at_ms` to a time. What is due by then happens."""

    by_us: Annotated[_Time | None, Meta(description="Microseconds that pass.")] = None
    by_ms: Annotated[_Time | None, Meta(description="Milliseconds that pass.")] = None


class ShowBook(Step, frozen=True, kw_only=True, tag="book"):
    """Show the book of a market as it is now; nothing is sent."""

    market: MarketName = None


class ShowBalances(Step, frozen=True, kw_only=True, tag="balances"):
    """Show what an account has free and locked now; nothing is sent."""

    account: Annotated[Name, Meta(description="Name of the account.")]


class ShowOrders(Step, frozen=True, kw_only=True, tag="orders"):
    """Show the open orders of an account as they are now; nothing is sent."""

    account: Annotated[Name, Meta(description="Name of the account.")]


AnyStep = (
    Place
    | Cancel
    | Reduce
    | Replace
    | CancelAll
    | Release
    | Batch
    | Resend
    | Deposit
    | SetState
    | Open
    | PostOnly
    | CancelOnly
    | Halt
    | DefineMarket
    | CancelOrders
    | Settings
    | SweepFees
    | Advance
    | ShowBook
    | ShowBalances
    | ShowOrders
)
STEPS: Final[dict[str, type[Step]]] = {str(step.__struct_config__.tag): step for step in get_args(AnyStep)}


class Scenario(Part, frozen=True, kw_only=True):
    """Markets and accounts of one shard, and what is done to them, step by step."""

    title: Annotated[str, Meta(description="What it shows, in a line.")] = ""
    description: Annotated[str, Meta(description="More words for the reader.")] = ""
    source: Annotated[str, Meta(description="Where it comes from, such as a published case.")] = ""
    start_us: Annotated[
        Annotated[int, Meta(ge=1, le=TIME_US_MAX)],
        Meta(description="Time of the first step in microseconds since 1970-01-01 UTC; times in steps count from it."),
    ] = START_US
    settings: Annotated[
        SettingsSpec,
        Meta(
            description="Settings of the shard; left out: "
            f"{DEFAULT_SETTINGS.max_validity_ms} ms, {DEFAULT_SETTINGS.live_nonces_per_key_max} nonces, "
            f"{DEFAULT_SETTINGS.open_orders_per_account_max} open orders."
        ),
    ] = SettingsSpec()
    assets: Annotated[
        list[Symbol], Meta(description="Assets beyond those of the markets; numbers go on after theirs.")
    ] = []
    markets: Annotated[list[MarketSpec], Meta(min_length=1, description="The markets.")]
    accounts: Annotated[list[AccountSpec], Meta(description="The accounts.")]
    commands: Annotated[list[AnyStep], Meta(description="The steps, one after another, counted from 0 in all output.")]

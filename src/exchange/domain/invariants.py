"""The invariants of the exchange: what holds after every entry, whatever traders, operators and the bus do.

`INVARIANTS` numbers them. The functions below check those that a state shows; the others speak about events or bytes
and are checked by the tests that name them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise

from exchange.domain.commands import SelfTradePrevention, Side
from exchange.domain.limits import DESTINATION_BYTES_MAX, LINK_DIGESTS_MAX, TIMERS_MAX
from exchange.domain.markets import (
    Market,
    MarketState,
    market_is_valid,
    settings_are_valid,
    symbol_is_valid,
    tag_is_valid,
)
from exchange.domain.money import resting_hold
from exchange.domain.operations import OperatorRole
from exchange.domain.record import known
from exchange.domain.signing import environment_is_valid, key_id_of
from exchange.domain.state import (
    AccountState,
    AssetAmount,
    BookState,
    ControlState,
    Genesis,
    LinkIn,
    RestingOrder,
    ShardCore,
    ShardState,
)
from exchange.domain.units import AMOUNT_UNITS_MAX, COUNTER_BITS, PPM, PRICE_TICKS_MAX, QUANTITY_LOTS_MAX, SHARD_MAX

INVARIANTS: dict[str, str] = {
    "I-01": "Per asset, treasury, open withdrawals, transit, shards and fees add up to deposits less payments.",
    "I-02": "No amount is negative, and none reaches 2^63.",
    "I-03": "What an account has locked of an asset is, to the unit, what filling its open orders as a maker costs.",
    "I-04": "No book is crossed when a command is done.",
    "I-05": "A taker meets the best price first, and at one price the order that came to it first.",
    "I-06": "A trade is at the maker's price, which is never worse than the taker's.",
    "I-07": "An order is never filled beyond its quantity, and an open one has something open.",
    "I-08": "An order_id and a trade_id are given once; of an account's open orders no two have one client_order_id.",
    "I-09": "The events of an account in a shard and those of a market are numbered densely from 1.",
    "I-10": "A batch is executed at most once: its nonce is kept while the batch could be executed, and no longer.",
    "I-11": "A link is applied once and in order; no receiver is ahead of its sender.",
    "I-12": "Verifying many signatures together gives each the verdict that it has alone.",
    "I-13": "A state is written in one way: every list sorted as state.proto says, nothing twice, nothing empty.",
    "I-14": "The same state and entries give the same bytes, also when a checkpoint was loaded in between.",
    "I-15": "No command causes more than 1,024 events, no pending work more than 1,024 in one entry.",
    "I-16": "Every command of an executed batch is answered by exactly one event, in the order of the commands.",
    "I-17": "A public key is registered once, for ever, and every account and key belongs to one user.",
    "I-18": "Fees of an order in a role add up to its notional times the rate, rounded up once.",
    "I-19": "What is refused changes nothing but event numbers and, where its rule says so, a nonce or sequence.",
    "I-20": "No counter reaches 2^51, of the 2^52 that an order_id and a trade_id have room for.",
}
"""Name and sentence of each invariant. Numbers are never reused."""

LIVE_NONCES_PER_KEY_BOUND = 1_048_576
"""Most live nonces of a key under any settings. The present settings may be lower than those that let them in."""
UINT64 = 2**64
COUNTER_BOUND = 1 << COUNTER_BITS - 1
"""No counter of a state comes this far: at 1,000,000 a second it takes 71 years. Half of what a name has room for."""


def broken_in_shard(state: ShardState) -> list[str]:
    """Return a line for every breach of an invariant in a trading shard, starting with its number; none: [].

    Args:
        state: as an engine exports it, between two entries.
    """
    return list(
        chain(
            _broken_counters(_counters_of_shard(state)),
            _broken_core(state.core),
            _broken_books(state),
            _broken_orders(state),
            _broken_accounts(state),
            _broken_holds(state),
            _broken_work(state),
        )
    )


def broken_in_control(state: ControlState) -> list[str]:
    """Return a line for every breach of an invariant in shard 0, starting with its number; none: []."""
    # What follows counts up to some of them.
    return list(_broken_counters(_counters_of_control(state))) or list(
        chain(_broken_core(state.core), _broken_owners(state), _broken_definitions(state), _broken_treasury(state))
    )


def broken_between(control: ControlState, shards: Sequence[ShardState]) -> list[str]:
    """Return a line for every breach of I-01 and I-11 between shards; none: [].

    Args:
        control: state of shard 0.
        shards: state of every other shard that has executed an entry. The states may be of different times, as long as
            no receiver is ahead of its sender: what was sent and has not arrived counts as transit.
    """
    broken: list[str] = []
    transit: Counter[int] = Counter()
    cores = {core.genesis.shard: core for core in (control.core, *(shard.core for shard in shards))}
    arrivals = {(link.from_shard, shard): link for shard, core in cores.items() for link in core.links_in}
    for shard, core in cores.items():
        for out in core.links_out:
            arrived = arrivals.pop((shard, out.to_shard), LinkIn())
            if arrived.last_sequence > out.last_sequence:
                broken.append(
                    f"I-11 shard {out.to_shard} received link {arrived.last_sequence} of shard {shard}, "
                    f"which has sent {out.last_sequence}"
                )
            sent, received = _units(out.sent), _units(arrived.received)
            for asset in sorted(sent.keys() | received.keys()):
                on_the_way = (sent[asset] - received[asset]) % UINT64
                if on_the_way > AMOUNT_UNITS_MAX:
                    broken.append(f"I-11 shard {out.to_shard} received more of asset {asset} than shard {shard} sent")
                transit[asset] += on_the_way
    broken += [
        f"I-11 shard {receiver} received link {arrived.last_sequence} of shard {sender}, which has sent none"
        for (sender, receiver), arrived in arrivals.items()
        if arrived.last_sequence
    ]
    kept = _kept(control, shards)
    totals = {total.asset: total.deposited_units - total.withdrawn_units for total in control.totals}
    for asset in sorted(kept.keys() | transit.keys() | totals.keys()):
        found, expected = kept[asset] + transit[asset], totals.get(asset, 0)
        if found != expected:
            broken.append(
                f"I-01 asset {asset}: {kept[asset]} units kept and {transit[asset]} in transit, "
                f"but deposits less payments are {expected}"
            )
    return broken


def _kept(control: ControlState, shards: Sequence[ShardState]) -> Counter[int]:
    """Return units per asset in the treasury, open withdrawals, accounts of shards, and fees that were not swept."""
    kept: Counter[int] = Counter()
    treasury = chain.from_iterable(owner.balances for owner in control.treasury)
    fees = chain.from_iterable(shard.fees for shard in shards)
    for amount in chain(treasury, fees):
        kept[amount.asset] += amount.amount_units
    for withdrawal in control.withdrawals:
        kept[withdrawal.asset] += withdrawal.amount_units
    for shard in shards:
        for owner in shard.accounts:
            for balance in owner.balances:
                kept[balance.asset] += balance.free_units + balance.locked_units
    return kept


# --- every shard ----------------------------------------------------------------------------------------------------


def _broken_counters(counters: Iterable[tuple[str, int]]) -> Iterator[str]:
    for name, counter in counters:
        if counter >= COUNTER_BOUND:
            yield f"I-20 {name} is {counter}"


def _counters_of_core(core: ShardCore) -> Iterator[tuple[str, int]]:
    yield "n", core.n
    for operator in core.operators:
        yield f"last_sequence of operator {operator.role}", operator.last_sequence
    for link in core.links_in:
        yield f"last_sequence of links_in {link.from_shard}", link.last_sequence
    for out in core.links_out:
        yield f"last_sequence of links_out {out.to_shard}", out.last_sequence


def _counters_of_shard(state: ShardState) -> Iterator[tuple[str, int]]:
    yield from _counters_of_core(state.core)
    yield "last_order", state.last_order
    yield "last_trade", state.last_trade
    yield "last_cancel_all", state.last_cancel_all
    yield "last_timer", state.last_timer
    for book in state.books:
        yield f"market_seq of market {book.market.market}", book.market_seq
    for owner in state.accounts:
        yield f"account_seq of account {owner.account}", owner.account_seq
    for pending in state.pending:
        yield f"cancelled_orders of cancel_all {pending.cancel_all_id}", pending.cancelled_orders


def _counters_of_control(state: ControlState) -> Iterator[tuple[str, int]]:
    yield from _counters_of_core(state.core)
    yield "last_user", state.last_user
    yield "last_account", state.last_account
    yield "last_withdrawal", state.last_withdrawal
    for owner in state.treasury:
        yield f"account_seq of account {owner.account}", owner.account_seq


def _broken_core(core: ShardCore) -> Iterator[str]:
    shard = core.genesis.shard
    yield from _broken_genesis(core.genesis)
    if [operator.role for operator in core.operators] != sorted(OperatorRole):
        yield "I-13 operators: not each role once, in order"
    if not settings_are_valid(core.settings) or not 1 <= core.genesis.rules <= core.rules:
        yield "I-13 settings or rules are out of bounds"
    yield from _not_ascending("nonces", [(live.key_id, live.nonce) for live in core.nonces])
    for key_id, count in Counter(live.key_id for live in core.nonces).items():
        if count > LIVE_NONCES_PER_KEY_BOUND:
            yield f"I-10 key {key_id.hex()} has {count} live nonces"
    for live in core.nonces:
        name = f"nonce {live.nonce} of key {live.key_id.hex()}"
        if live.valid_until_ms * 1000 <= core.t_us:
            yield f"I-10 {name} is kept although its batch expired"
        if not 1 <= live.n <= core.n or live.batch < 1:
            yield f"I-10 {name} points to no outcome"
    yield from _not_ascending("links_in", [link.from_shard for link in core.links_in])
    yield from _not_ascending("links_out", [link.to_shard for link in core.links_out])
    for link in core.links_in:
        yield from _broken_amounts(f"links_in {link.from_shard}", link.received, UINT64 - 1)
        if len(link.digests) != min(link.last_sequence, LINK_DIGESTS_MAX) or link.from_shard == shard:
            yield f"I-11 {len(link.digests)} digests of {link.last_sequence} links from shard {link.from_shard}"
    for out in core.links_out:
        yield from _broken_amounts(f"links_out {out.to_shard}", out.sent, UINT64 - 1)
        if out.last_sequence < 1 or out.to_shard == shard:
            yield f"I-11 {out.last_sequence} links go to shard {out.to_shard}"


def _broken_genesis(genesis: Genesis) -> Iterator[str]:
    """Check what no shard can have started from; what a curve says of the operators' keys, only an engine can check."""
    if not environment_is_valid(genesis.environment):
        yield f"I-13 genesis: environment {genesis.environment!r} is no name"
    if not settings_are_valid(genesis.settings):
        yield "I-13 genesis: settings are out of bounds"
    if any(operator.last_sequence or operator.last_digest for operator in genesis.operators):
        yield "I-13 genesis: an operator had signed something"
    if [operator.role for operator in genesis.operators] != sorted(OperatorRole):
        yield "I-13 genesis: operators: not each role once, in order"


def _broken_amounts(name: str, amounts: Sequence[AssetAmount], units_max: int = AMOUNT_UNITS_MAX) -> Iterator[str]:
    yield from _not_ascending(name, [amount.asset for amount in amounts])
    for amount in amounts:
        if amount.amount_units == 0:
            yield f"I-13 {name} lists asset {amount.asset} with nothing"
        if not 0 <= amount.amount_units <= units_max:
            yield f"I-02 {name} has {amount.amount_units} of asset {amount.asset}"


def _not_ascending(name: str, keys: Sequence[object]) -> Iterator[str]:
    if any(not before < after for before, after in pairwise(keys)):  # type: ignore[operator]
        yield f"I-13 {name}: not ascending, or something twice"


def _units(amounts: Iterable[AssetAmount]) -> Counter[int]:
    return Counter({amount.asset: amount.amount_units for amount in amounts})


# --- trading shards -------------------------------------------------------------------------------------------------


def _resting(state: ShardState) -> Iterator[tuple[Market, Side, RestingOrder]]:
    for book in state.books:
        for side, orders in ((Side.BUY, book.bids), (Side.SELL, book.asks)):
            for order in orders:
                yield book.market, side, order


def _broken_books(state: ShardState) -> Iterator[str]:
    yield from _not_ascending("books", [book.market.market for book in state.books])
    for book in state.books:
        market = book.market.market
        if not market_is_valid(book.market) or book.market.shard != state.core.genesis.shard:
            yield f"I-13 market {market} is not one of this shard"
        if book.last_price_ticks > PRICE_TICKS_MAX:
            yield f"I-06 market {market} traded at {book.last_price_ticks}"
        if book.market_seq < 1 + len(book.bids) + len(book.asks):
            yield f"I-09 market {market} has had fewer events than it has open orders"
        yield from _broken_priority(book)


def _broken_priority(book: BookState) -> Iterator[str]:
    """Check what a state shows of price-time priority; who came first at a price only the log can tell."""
    market = book.market.market
    if any(better.price_ticks < worse.price_ticks for better, worse in pairwise(book.bids)):
        yield f"I-05 market {market}: a bid stands before a higher one"
    if any(better.price_ticks > worse.price_ticks for better, worse in pairwise(book.asks)):
        yield f"I-05 market {market}: an ask stands before a lower one"
    if book.bids and book.asks:
        bid = max(order.price_ticks for order in book.bids)
        ask = min(order.price_ticks for order in book.asks)
        if bid >= ask:
            yield f"I-04 market {market} is crossed: bid {bid}, ask {ask}"


def _broken_orders(state: ShardState) -> Iterator[str]:
    names: set[int] = set()
    client_names: set[tuple[int, int]] = set()
    for _, _, order in _resting(state):
        name = f"order {order.order_id:x}"
        counter = order.order_id & (1 << COUNTER_BITS) - 1
        if order.order_id >> COUNTER_BITS != state.core.genesis.shard or not 1 <= counter <= state.last_order:
            yield f"I-08 {name} was never given"
        if order.order_id in names:
            yield f"I-08 {name} stands twice"
        names.add(order.order_id)
        if order.client_order_id and (order.account, order.client_order_id) in client_names:
            yield f"I-08 account {order.account} has two open orders {order.client_order_id}"
        client_names.add((order.account, order.client_order_id))
        if order.open_lots < 1 or order.filled_lots < 0 or order.open_lots + order.filled_lots > QUANTITY_LOTS_MAX:
            yield f"I-07 {name} has {order.open_lots} lots open and {order.filled_lots} filled"
        if not 1 <= order.price_ticks <= PRICE_TICKS_MAX or not known(SelfTradePrevention, order.self_trade_prevention):
            yield f"I-13 {name} has fields out of bounds"
        if max(order.maker_fee_ppm, order.taker_fee_ppm) > PPM:
            yield f"I-18 {name} pays more than everything"
        if not (0 <= order.maker_prepaid_ppm < PPM and 0 <= order.taker_prepaid_ppm < PPM):
            yield f"I-18 {name} has paid a whole unit ahead"


def _broken_accounts(state: ShardState) -> Iterator[str]:
    yield from _not_ascending("accounts", [0, *(owner.account for owner in state.accounts)])
    open_orders = Counter(order.account for _, _, order in _resting(state))
    for owner in state.accounts:
        if owner.account_seq < 1 + open_orders.pop(owner.account, 0):
            yield f"I-09 account {owner.account} has had fewer events than it needs for what it has"
        yield from _not_ascending(f"account {owner.account}", [balance.asset for balance in owner.balances])
        for balance in owner.balances:
            total = balance.free_units + balance.locked_units
            if min(balance.free_units, balance.locked_units) < 0 or total > AMOUNT_UNITS_MAX:
                yield f"I-02 account {owner.account}, asset {balance.asset}: {total} units"
            if total == 0:
                yield f"I-13 account {owner.account} lists asset {balance.asset} with nothing"
    for account in open_orders:
        yield f"I-09 account {account} has open orders but no events"
    yield from _broken_amounts("fees", state.fees)


def _broken_holds(state: ShardState) -> Iterator[str]:
    """Check that locked funds are what the open orders hold, for every account and asset."""
    needed: defaultdict[tuple[int, int], int] = defaultdict(int)
    for market, side, order in _resting(state):
        asset, units = resting_hold(
            market, side, order.price_ticks, order.open_lots, order.maker_fee_ppm, order.maker_prepaid_ppm
        )
        needed[order.account, asset] += units
    locked = _locked(state.accounts)
    for account, asset in sorted(needed.keys() | locked.keys()):
        there, need = locked.get((account, asset), 0), needed.get((account, asset), 0)
        if there != need:
            yield f"I-03 account {account}, asset {asset}: {there} units locked, its open orders need {need}"


def _locked(accounts: Iterable[AccountState]) -> dict[tuple[int, int], int]:
    return {(owner.account, balance.asset): balance.locked_units for owner in accounts for balance in owner.balances}


def _broken_work(state: ShardState) -> Iterator[str]:
    """Check timers and mass cancels: what the shard goes on with in later entries."""
    markets = {book.market.market for book in state.books}
    yield from _not_ascending("timers", [(timer.deadline_us, timer.timer_id) for timer in state.timers])
    timer_ids = [timer.timer_id for timer in state.timers]
    if len(set(timer_ids)) < len(timer_ids) or len(timer_ids) > TIMERS_MAX:
        yield "I-13 timers: one stands twice, or there are too many"
    for timer in state.timers:
        given = 1 <= timer.timer_id <= state.last_timer
        if not given or timer.market not in markets or not known(MarketState, timer.state):
            yield f"I-13 timer {timer.timer_id} cannot be set off"
    yield from _not_ascending("pending", [0, *(pending.cancel_all_id for pending in state.pending)])
    for pending in state.pending:
        given = pending.cancel_all_id <= state.last_cancel_all
        in_scope = pending.market == 0 or pending.market in markets
        by_somebody = bool(pending.account) or (pending.by_operator and bool(pending.market))
        if not (given and in_scope and by_somebody) or pending.side not in (0, *Side):
            yield f"I-13 mass cancel {pending.cancel_all_id} has no scope that could have been accepted"


# --- shard 0 --------------------------------------------------------------------------------------------------------


def _broken_owners(state: ControlState) -> Iterator[str]:
    accounts_of = {user.user: user.accounts for user in state.users}
    # The number of a state may be anything: it is compared before so much is counted.
    if len(state.users) != state.last_user or [user.user for user in state.users] != list(
        range(1, len(state.users) + 1)
    ):
        yield "I-17 users are not dense from 1"
    for user, accounts in accounts_of.items():
        yield from _not_ascending(f"accounts of user {user}", accounts)
        if not accounts:
            yield f"I-17 user {user} has no account"
    all_accounts = sorted(chain.from_iterable(accounts_of.values()))
    if len(all_accounts) != state.last_account or all_accounts != list(range(1, len(all_accounts) + 1)):
        yield "I-17 accounts are not dense from 1, each of one user"
    yield from _not_ascending("keys", [key.key_id for key in state.keys])
    for key in state.keys:
        if key.key_id != key_id_of(key.public_key):
            yield f"I-17 key {key.key_id.hex()} does not have the name of its public key"
        accounts = accounts_of.get(key.user, ())
        if not accounts or key.account not in (0, *accounts):
            yield f"I-17 key {key.key_id.hex()} is not for an account of its user"


def _broken_definitions(state: ControlState) -> Iterator[str]:
    yield from _not_ascending("assets", [0, *(asset.asset for asset in state.assets)])
    yield from _not_ascending("shards", [0, *(entry.shard for entry in state.shards)])
    yield from _not_ascending("markets", [0, *(market.market for market in state.markets)])
    yield from _twice("symbol of an asset", [asset.symbol for asset in state.assets])
    yield from _twice("symbol of a market", [market.symbol for market in state.markets])
    yield from _twice("tag of a shard", [entry.tag for entry in state.shards])
    assets = {asset.asset for asset in state.assets}
    shards = {entry.shard for entry in state.shards}
    yield from (f"I-13 asset {asset.asset} is invalid" for asset in state.assets if not symbol_is_valid(asset.symbol))
    for entry in state.shards:
        if entry.shard > SHARD_MAX or not tag_is_valid(entry.tag):
            yield f"I-13 shard {entry.shard} is invalid"
    for market in state.markets:
        traded = {market.base_asset, market.quote_asset}
        if not market_is_valid(market) or market.shard not in shards or not traded <= assets:
            yield f"I-13 market {market.market} is invalid, or names what is not there"


def _twice(name: str, values: Sequence[str]) -> Iterator[str]:
    yield from (f"I-13 {name} {value} is given twice" for value, count in Counter(values).items() if count > 1)


def _broken_treasury(state: ControlState) -> Iterator[str]:
    yield from _not_ascending("treasury", [owner.account for owner in state.treasury])
    for owner in state.treasury:
        yield from _broken_amounts(f"treasury of account {owner.account}", owner.balances)
        if bool(owner.account) != bool(owner.account_seq):
            yield f"I-09 account {owner.account} has had {owner.account_seq} events in shard 0"
    yield from _not_ascending("totals", [totals.asset for totals in state.totals])
    for totals in state.totals:
        if not 0 <= totals.withdrawn_units <= totals.deposited_units <= AMOUNT_UNITS_MAX:
            yield f"I-02 asset {totals.asset}: {totals.withdrawn_units} paid of {totals.deposited_units} deposited"
    yield from _not_ascending("withdrawals", [0, *(withdrawal.withdrawal for withdrawal in state.withdrawals)])
    for withdrawal in state.withdrawals:
        destination_bytes = len(withdrawal.destination.encode())
        if withdrawal.withdrawal > state.last_withdrawal or not 1 <= destination_bytes <= DESTINATION_BYTES_MAX:
            yield f"I-13 withdrawal {withdrawal.withdrawal} was never requested like this"
        if not 1 <= withdrawal.amount_units <= AMOUNT_UNITS_MAX:
            yield f"I-02 withdrawal {withdrawal.withdrawal} is of {withdrawal.amount_units} units"
    yield from _not_ascending("requests", [(request.request_id, request.by_operator) for request in state.requests])
    for request in state.requests:
        if not 1 <= request.n <= state.core.n:
            yield f"I-13 request {request.request_id.hex()} points to no answer"

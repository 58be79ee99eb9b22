"""What-if on the reference: as much of a shard's state as some batches can reach, and their execution on it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec
from sortedcontainers import SortedDict

from exchange.domain.commands import Batch, PlaceOrder, ReplaceOrder, Side, SignedBatch
from exchange.domain.frames import FORMAT, Entry, ExecutionFrame, ParsedBatch
from exchange.domain.limits import COMMAND_EVENTS_MAX, ENTRY_WORK_MAX, KEY_ID_BYTES, SIGNATURE_BYTES
from exchange.domain.state import AccountState, Balance, BookState, LinkOut, ShardCore, ShardState
from exchange.reference.book import Book, Order
from exchange.reference.core import amounts_out
from exchange.reference.shard import Shard, export_order
from exchange.wire.hashing import digest_of, input_hash
from exchange.wire.messages import decode, encode


class ReferenceWhatIf:
    """Batches, and the part of a shard that they can reach."""

    def __init__(self, part: ShardState, batches: Sequence[bytes], t_us: int) -> None:
        self._part = part
        self._batches = batches
        self._t_us = max(t_us, part.core.t_us)

    @property
    def position(self) -> tuple[int, int, bytes]:
        """Position, time and chain hash of the shard when the copy was taken."""
        core = self._part.core
        return core.n, core.t_us, core.chain_hash

    def run(self) -> bytes:
        """Execute the batches on the copy and return the encoded execution frame."""
        core = self._part.core
        # Valid for as short as can be, under nonces of a key that nobody has: no rule of replay protection can refuse.
        valid_until_ms = self._t_us // 1000 + 1
        asked = []
        for nonce, encoded in enumerate(self._batches, 1):
            batch = msgspec.structs.replace(
                decode(Batch, encoded), shard=core.genesis.shard, nonce=nonce, valid_until_ms=valid_until_ms
            )
            payload = encode(batch)
            signed = SignedBatch(bytes(KEY_ID_BYTES), payload, bytes(SIGNATURE_BYTES))
            asked.append(ParsedBatch(signed, batch, digest_of(payload)))
        entry = Entry(n=core.n + 1, t_us=self._t_us, control_n=core.control_floor, batches=tuple(asked))
        events = Shard(self._part).apply(entry)
        return encode(
            ExecutionFrame(
                format=FORMAT,
                n=entry.n,
                t_us=entry.t_us,
                rules=core.rules,
                previous_hash=core.chain_hash,
                # There is no entry: the hash of none stands for it.
                input_hash=input_hash(entry.n, entry.t_us, b""),
                events=events,
            )
        )


def part_for(shard: Shard, batches: Sequence[Batch]) -> ShardState:
    """Return as much of a shard's state as these batches can reach: they meet what they would meet in all of it.

    That is every order of their accounts, and of the books in which they can trade as many orders as all their commands
    together could end; with the funds that these orders hold. Live nonces and links that came in are left out. A shard
    that has a mass cancel under way is taken whole: it goes on first, through books that the batches do not name.
    """
    if shard.pending:
        return shard.export()
    floor = shard.floor
    accounts = {batch.account for batch in batches}
    takers = _takers(shard, batches)
    markets = set(takers) | {market for account in accounts for market, _ in floor.orders_of.get(account, {})}
    markets |= {
        market for batch in batches for command in batch.commands if (market := getattr(command, "market", 0))
    } & floor.books.keys()
    books: list[BookState] = []
    nothing: SortedDict[tuple[int, Side], SortedDict[int, Order]] = SortedDict()
    locked: Counter[tuple[int, int]] = Counter()
    owners = set(accounts)
    for market in sorted(markets):
        book = floor.books[market]
        # No entry ends more orders than it has work, and those of its last command.
        ended_max = min(takers[market] * COMMAND_EVENTS_MAX, ENTRY_WORK_MAX + COMMAND_EVENTS_MAX)
        sides: list[list[Order]] = []
        for side in Side:
            own = [
                order
                for account in sorted(accounts)
                for order in floor.orders_of.get(account, nothing).get((market, side), {}).values()
            ]
            orders = _reachable(book, side, ended_max, own)
            for order in orders:
                owners.add(order.account)
                asset = book.market.quote_asset if side is Side.BUY else book.market.base_asset
                locked[order.account, asset] += order.held_units
            sides.append(orders)
        bids, asks = (tuple(map(export_order, orders)) for orders in sides)
        books.append(BookState(book.market, book.market_seq, book.last_price_ticks, bids, asks))
    core = shard.core
    return ShardState(
        format=FORMAT,
        core=ShardCore(
            genesis=core.genesis,
            n=core.n,
            t_us=core.t_us,
            chain_hash=core.chain_hash,
            rules=core.rules,
            settings=core.settings,
            operators=tuple(core.operators[role] for role in sorted(core.operators)),
            control_floor=core.control_floor,
            links_out=tuple(
                LinkOut(to_shard, link.last_sequence, amounts_out(link.sent))
                for to_shard, link in core.links_out.items()
            ),
        ),
        last_order=floor.last_order,
        last_trade=floor.last_trade,
        last_cancel_all=shard.last_cancel_all,
        last_timer=shard.last_timer,
        books=tuple(books),
        accounts=tuple(_accounts(shard, owners, locked)),
        fees=amounts_out(floor.funds.fees),
        timers=tuple(timer for timer in shard.timers.values() if timer.market in markets),
    )


def _takers(shard: Shard, batches: Sequence[Batch]) -> Counter[int]:
    """Return, by market, how many of the commands may trade there."""
    floor = shard.floor
    takers: Counter[int] = Counter()
    of_any = 0
    for batch in batches:
        for command in batch.commands:
            if isinstance(command, PlaceOrder):
                takers[command.market] += 1
            elif isinstance(command, ReplaceOrder):
                order = (
                    floor.orders.get(command.order_id)
                    if command.order_id
                    else floor.by_client_order_id.get((batch.account, command.client_order_id))
                )
                if order is not None and order.account == batch.account:
                    takers[order.market] += 1
                else:
                    # It may name an order that the batches themselves place, in a market that they then name, too.
                    of_any += 1
    placed = {command.market for batch in batches for command in batch.commands if isinstance(command, PlaceOrder)}
    for market in placed:
        takers[market] += of_any
    return Counter({market: count for market, count in takers.items() if market in floor.books})


def _reachable(book: Book, side: Side, ended_max: int, own: Sequence[Order]) -> list[Order]:
    """Return the orders of a side that can be met before `ended_max` others are gone, and the accounts' own.

    Those of the accounts can be gone without having been met, so as many more are taken.
    """
    if not ended_max:
        return list(own)
    first = list(islice(book.orders(side), ended_max + len(own)))
    taken = {order.order_id for order in first}
    return first + [order for order in own if order.order_id not in taken]


def _accounts(shard: Shard, owners: set[int], locked: Counter[tuple[int, int]]) -> Iterable[AccountState]:
    for number in sorted(owners):
        account = shard.floor.funds.accounts.get(number)
        if account is not None:
            yield AccountState(
                account=number,
                account_seq=account.account_seq,
                balances=tuple(
                    Balance(asset, balance.free_units, locked[number, asset])
                    for asset, balance in sorted(account.balances.items())
                ),
            )

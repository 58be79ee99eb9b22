"""The ledger of a shard: a fold over its execution frames into what everybody has. Engines are not asked.

Double entry: money only ever moves from one holder to another, so that at every moment the units of all holders add up
to zero per asset. Holders are accounts (0: the exchange itself, which is where fees go), and where money comes from or
goes to: other shards, depositors, people who are paid. Those stand below zero by what they brought in.

Holds are not in the ledger: what an account has is what its free and locked units are together.

The ledger applies a frame only if it is the next one, carries the hash of the last one, and answers the entry that it
is shown, if it is shown one. On anything else it stops with a reason and stays as it was (ARCHITECTURE.md, "Never
guess").
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from exchange.domain.commands import Side
from exchange.domain.events import (
    Deposited,
    Event,
    FeesPaidOut,
    FundsCredited,
    FundsSent,
    LinkResult,
    MarketDefined,
    Trade,
    WithdrawalClosed,
    WithdrawalRequested,
)
from exchange.domain.frames import ExecutionFrame
from exchange.domain.markets import Market
from exchange.domain.money import notional_of
from exchange.domain.state import Genesis
from exchange.domain.units import AMOUNT_UNITS_MAX
from exchange.engine.port import RawEntry
from exchange.wire.entries import check_format
from exchange.wire.errors import WireError
from exchange.wire.hashing import chain_hash, genesis_hash, input_hash
from exchange.wire.messages import decode

RULES_MAX: Final = 1
"""Newest version of the rules whose events this ledger understands; it understands them from 1 on."""
EXCHANGE_ACCOUNT: Final = 0
"""The exchange's own: fees, in a trading shard until they are swept, in shard 0 afterwards."""


class LedgerReason(StrEnum):
    """Why the ledger stopped. Names are stable."""

    MALFORMED_FRAME = "MALFORMED_FRAME"
    """The bytes are not the canonical encoding of an execution frame."""
    FRAME_GAP = "FRAME_GAP"
    """The frame is not the next one."""
    CHAIN_BROKEN = "CHAIN_BROKEN"
    """The frame does not carry the hash of the one before it: one of the two is not what the engine wrote."""
    INPUT_MISMATCH = "INPUT_MISMATCH"
    """The frame does not answer the entry beside it."""
    TIME_BACKWARDS = "TIME_BACKWARDS"
    """The frame's time is before the last one's."""
    UNKNOWN_RULES = "UNKNOWN_RULES"
    """The frame was made under rules that this program does not know."""
    UNKNOWN_MARKET = "UNKNOWN_MARKET"
    """A trade is in a market that was never defined."""
    LINK_GAP = "LINK_GAP"
    """A link was sent or received out of order."""
    CREDIT_WITHOUT_LINK = "CREDIT_WITHOUT_LINK"
    """Funds were credited that no link of this frame brought."""
    OVERDRAWN = "OVERDRAWN"
    """An account, or the money set aside for withdrawals, is below zero."""
    AMOUNT_TOO_LARGE = "AMOUNT_TOO_LARGE"
    """Somebody has 2^63 units or more."""
    RECEIVER_AHEAD = "RECEIVER_AHEAD"
    """A shard received links that their sender never sent."""


class LedgerError(Exception):
    """The ledger cannot go on. Nothing of the call that raised it was applied; the frames are the evidence.

    Attributes:
        reason: the rule that is broken.
        shard, n: where: position of the frame.
    """

    def __init__(self, reason: LedgerReason, shard: int, n: int, detail: str) -> None:
        super().__init__(f"{reason}: frame {n} of shard {shard}: {detail}")
        self.reason = reason
        self.shard = shard
        self.n = n
        self.detail = detail


class HolderKind(StrEnum):
    ACCOUNT = "account"
    """`number` is the account; 0: the exchange."""
    OTHER_SHARD_IN = "links from shard"
    """What came from shard `number`; at or below zero."""
    OTHER_SHARD_OUT = "links to shard"
    """What went to shard `number`."""
    DEPOSITS = "deposits"
    """What was ever deposited; at or below zero. Shard 0 only, as are the next two."""
    OPEN_WITHDRAWALS = "open withdrawals"
    """What is set aside until it is paid or given back."""
    PAYMENTS = "payments"
    """What was ever paid out."""


class Holder(NamedTuple):
    """Who has money. `number` is 0 where the kind has no numbers."""

    kind: HolderKind
    number: int = 0


class Move(NamedTuple):
    """Money from one holder to another: two postings that cancel out. `units` is above zero."""

    asset: int
    units: int
    payer: Holder
    payee: Holder


DEPOSITS: Final = Holder(HolderKind.DEPOSITS)
OPEN_WITHDRAWALS: Final = Holder(HolderKind.OPEN_WITHDRAWALS)
PAYMENTS: Final = Holder(HolderKind.PAYMENTS)
EXCHANGE: Final = Holder(HolderKind.ACCOUNT, EXCHANGE_ACCOUNT)


def account_holder(account: int) -> Holder:
    """Return the account as a holder."""
    return Holder(HolderKind.ACCOUNT, account)


def moves_of(event: Event, markets: Mapping[int, Market]) -> Iterator[Move]:
    """Yield what an event moves; most events move nothing.

    Raises:
        KeyError: a trade is in a market that is not among `markets`.
    """
    match event:
        case Trade():
            yield from _moves_of_trade(event, markets[event.market])
        case FundsCredited():
            source = Holder(HolderKind.OTHER_SHARD_IN, event.from_shard)
            yield Move(event.asset, event.amount_units, source, account_holder(event.account))
        case FundsSent():
            target = Holder(HolderKind.OTHER_SHARD_OUT, event.to_shard)
            yield Move(event.asset, event.amount_units, account_holder(event.account), target)
        case Deposited():
            yield Move(event.asset, event.amount_units, DEPOSITS, account_holder(event.account))
        case WithdrawalRequested():
            yield Move(event.asset, event.amount_units, account_holder(event.account), OPEN_WITHDRAWALS)
        case WithdrawalClosed():
            target = PAYMENTS if event.paid else account_holder(event.account)
            yield Move(event.asset, event.amount_units, OPEN_WITHDRAWALS, target)
        case FeesPaidOut():
            yield Move(event.asset, event.amount_units, EXCHANGE, account_holder(event.account))
        case _:
            pass


def _moves_of_trade(trade: Trade, market: Market) -> Iterator[Move]:
    """Yield base from seller to buyer, the notional from buyer to seller, and a fee from each to the exchange."""
    maker, taker = account_holder(trade.maker_account), account_holder(trade.taker_account)
    buyer, seller = (taker, maker) if trade.taker_side == Side.BUY else (maker, taker)
    notional = notional_of(market, trade.price_ticks, trade.quantity_lots)
    yield Move(market.base_asset, trade.quantity_lots * market.base_units_per_lot, seller, buyer)
    yield Move(market.quote_asset, notional, buyer, seller)
    for payer, fee in ((maker, trade.maker_fee_quote_units), (taker, trade.taker_fee_quote_units)):
        if fee:
            yield Move(market.quote_asset, fee, payer, EXCHANGE)


@dataclass(slots=True)
class _Draft:
    """What a call to `apply` would change: the cursor, markets, links, and the new units by holder and asset."""

    n: int
    t_us: int
    chain_hash: bytes
    markets: dict[int, Market]
    links_in: dict[int, int]
    links_out: dict[int, int]
    sent: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)
    sent_at: dict[tuple[int, int], int] = field(default_factory=dict)
    units: dict[tuple[Holder, int], int] = field(default_factory=dict)


class Ledger:
    """What everybody has in one shard, after frame `n`.

    Attributes:
        shard: number of the shard.
        n, chain_hash: position and hash of the last frame that was applied; 0 and the genesis hash: none.
        t_us: time of that frame.
    """

    def __init__(self, genesis: bytes) -> None:
        """Open the ledger of a shard before its first frame; `genesis` is its encoded Genesis."""
        parsed = decode(Genesis, genesis)
        self.shard = parsed.shard
        self.n = 0
        self.t_us = 0
        self.chain_hash = genesis_hash(parsed.environment, parsed.shard, genesis)
        self._markets: dict[int, Market] = {}
        self._links_in: dict[int, int] = {}
        self._links_out: dict[int, int] = {}
        self._sent: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._units: dict[tuple[Holder, int], int] = {}

    # --- what it says -----------------------------------------------------------------------------------------------

    def units(self, holder: Holder, asset: int) -> int:
        """Return what a holder has of an asset; below zero: what it brought in."""
        return self._units.get((holder, asset), 0)

    def balances(self, account: int) -> dict[int, int]:
        """Return what an account has, free and locked together, by asset; assets that it has none of are left out."""
        return self.by_asset(account_holder(account))

    def by_asset(self, holder: Holder) -> dict[int, int]:
        """Return what a holder has, by asset; assets of which it has nothing are left out."""
        return dict(sorted((asset, units) for (who, asset), units in self._units.items() if who == holder and units))

    def holdings(self) -> dict[tuple[Holder, int], int]:
        """Return units by holder and asset, sorted; nothing that is zero. Per asset they add up to zero."""
        return {owner: units for owner, units in sorted(self._units.items()) if units}

    def last_link_from(self, shard: int) -> int:
        """Return the sequence number of the last link that was received from a shard; 0: none."""
        return self._links_in.get(shard, 0)

    def last_link_to(self, shard: int) -> int:
        """Return the sequence number of the last link that was sent to a shard; 0: none."""
        return self._links_out.get(shard, 0)

    def sent_after(self, shard: int, sequence: int) -> dict[int, int]:
        """Return by asset what links to a shard carry that come after one: on its way, if that one was received."""
        on_its_way: dict[int, int] = {}
        for later in range(sequence + 1, self.last_link_to(shard) + 1):
            for asset, units in self._sent[shard, later]:
                on_its_way[asset] = on_its_way.get(asset, 0) + units
        return on_its_way

    # --- frames -----------------------------------------------------------------------------------------------------

    def apply(self, frames: Sequence[bytes], entries: Sequence[RawEntry] | None = None) -> list[ExecutionFrame]:
        """Settle the next frames, all of them or none, and return what they say.

        Args:
            frames: encoded execution frames, consecutive, the first after `n`.
            entries: the entries that they answer, in the same order, whose hashes are then compared; None: not at hand.

        Raises:
            LedgerError: a frame does not fit. Nothing was applied.
            UnknownFormatError: a frame is of another version. Nothing was applied.
        """
        assert entries is None or len(entries) == len(frames)
        draft = _Draft(
            self.n, self.t_us, self.chain_hash, dict(self._markets), dict(self._links_in), dict(self._links_out)
        )
        applied = [
            self._apply_one(draft, frame, entries[place] if entries is not None else None)
            for place, frame in enumerate(frames)
        ]
        self._units.update(draft.units)
        self._sent.update(draft.sent)
        self._markets, self._links_in, self._links_out = draft.markets, draft.links_in, draft.links_out
        self.n, self.t_us, self.chain_hash = draft.n, draft.t_us, draft.chain_hash
        return applied

    def _apply_one(self, draft: _Draft, data: bytes, entry: RawEntry | None) -> ExecutionFrame:
        frame = self._read(draft, data, entry)
        touched: dict[tuple[Holder, int], int] = {}
        link_from = None
        for event in frame.events:
            if isinstance(event, MarketDefined):
                draft.markets[event.market.market] = event.market
            elif isinstance(event, LinkResult):
                link_from = self._receive(draft, frame.n, event)
            elif isinstance(event, FundsSent):
                self._send(draft, frame.n, event)
            elif isinstance(event, FundsCredited) and event.from_shard != link_from:
                self._stop(LedgerReason.CREDIT_WITHOUT_LINK, frame.n, f"from shard {event.from_shard}")
            elif isinstance(event, Trade) and event.market not in draft.markets:
                self._stop(LedgerReason.UNKNOWN_MARKET, frame.n, f"trade {event.trade_id} in market {event.market}")
            for asset, units, payer, payee in moves_of(event, draft.markets):
                touched[payer, asset] = touched.get((payer, asset), 0) - units
                touched[payee, asset] = touched.get((payee, asset), 0) + units
        for owner, change in touched.items():
            units = draft.units.get(owner, self._units.get(owner, 0)) + change
            self._check_units(frame.n, owner, units)
            draft.units[owner] = units
        draft.n, draft.t_us, draft.chain_hash = frame.n, frame.t_us, chain_hash(data)
        return frame

    def _read(self, draft: _Draft, data: bytes, entry: RawEntry | None) -> ExecutionFrame:
        """Return the frame if it is the one that comes next."""
        n = draft.n + 1
        check_format("execution frame", data)
        try:
            frame = decode(ExecutionFrame, data)
        except WireError as error:
            raise LedgerError(LedgerReason.MALFORMED_FRAME, self.shard, n, str(error)) from error
        if frame.n != n:
            self._stop(LedgerReason.FRAME_GAP, n, f"the frame has position {frame.n}")
        if frame.previous_hash != draft.chain_hash:
            found, known = frame.previous_hash.hex(), draft.chain_hash.hex()
            self._stop(LedgerReason.CHAIN_BROKEN, n, f"it follows {found}, the last frame has {known}")
        if entry is not None and frame.input_hash != input_hash(*entry):
            self._stop(LedgerReason.INPUT_MISMATCH, n, f"it answers an entry of hash {frame.input_hash.hex()}")
        if frame.t_us < draft.t_us:
            self._stop(LedgerReason.TIME_BACKWARDS, n, f"time {frame.t_us} comes after {draft.t_us}")
        if not 1 <= frame.rules <= RULES_MAX:
            self._stop(LedgerReason.UNKNOWN_RULES, n, f"rules {frame.rules}; this program knows 1 .. {RULES_MAX}")
        return frame

    def _receive(self, draft: _Draft, n: int, link: LinkResult) -> int | None:
        """Count a link that was applied; return the shard whose credits follow, None where none do."""
        if link.reason or link.repeated:
            return None
        last = draft.links_in.get(link.from_shard, 0)
        if link.sequence != last + 1:
            self._stop(LedgerReason.LINK_GAP, n, f"link {link.sequence} from shard {link.from_shard} after {last}")
        draft.links_in[link.from_shard] = link.sequence
        return link.from_shard

    def _send(self, draft: _Draft, n: int, sent: FundsSent) -> None:
        """Put a transfer into its link: a new one, or the one that this entry has begun."""
        link, last = (sent.to_shard, sent.link_sequence), draft.links_out.get(sent.to_shard, 0)
        begun_here = draft.sent_at.get(link) == n
        if sent.link_sequence != last + 1 and not (begun_here and sent.link_sequence == last):
            self._stop(LedgerReason.LINK_GAP, n, f"link {sent.link_sequence} to shard {sent.to_shard} after {last}")
        draft.links_out[sent.to_shard] = sent.link_sequence
        draft.sent_at[link] = n
        draft.sent.setdefault(link, []).append((sent.asset, sent.amount_units))

    def _check_units(self, n: int, owner: tuple[Holder, int], units: int) -> None:
        holder, asset = owner
        if holder.kind in (HolderKind.ACCOUNT, HolderKind.OPEN_WITHDRAWALS):
            if units < 0:
                self._stop(LedgerReason.OVERDRAWN, n, f"{holder.kind} {holder.number} has {units} of asset {asset}")
            if units > AMOUNT_UNITS_MAX:
                detail = f"{holder.kind} {holder.number} has {units} of asset {asset}, 2^63 or more"
                self._stop(LedgerReason.AMOUNT_TOO_LARGE, n, detail)

    def _stop(self, reason: LedgerReason, n: int, detail: str) -> None:
        raise LedgerError(reason, self.shard, n, detail)

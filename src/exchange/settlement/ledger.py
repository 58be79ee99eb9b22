"""The ledger of a shard: a fold over its execution frames into what everybody has. Engines are not asked.

Double entry: money only ever moves from one holder to another, so that at every moment the units of all holders add up
to zero per asset. Holders are accounts (0: the exchange itself, which is where fees go), and where money comes from or
goes to: other shards, depositors, people who are paid. Those stand below zero by what they brought in.

Holds are not in the ledger: what an account has is what its free and locked units are together.

The ledger applies a frame only if it is the next one, carries the hash of the last one, and answers the entry that it
is shown, if it is shown one. On anything else it stops with a reason and stays as it was (ARCHITECTURE.md, "Never
guess"). What a call would change is first a draft, which a database can write before the ledger adopts it; a draft
costs what its frames move, however much there is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from exchange.domain.commands import Side
from exchange.domain.events import (
    Deposited,
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
from exchange.domain.operations import Transfer
from exchange.domain.state import Genesis
from exchange.domain.units import AMOUNT_UNITS_MAX
from exchange.engine.port import RawEntry
from exchange.settlement.frames import ReadFrame, read_frame
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
    INVARIANT = "INVARIANT"
    """A rule that can never be broken was: the program is wrong."""


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


DEPOSITS: Final = Holder(HolderKind.DEPOSITS)
OPEN_WITHDRAWALS: Final = Holder(HolderKind.OPEN_WITHDRAWALS)
PAYMENTS: Final = Holder(HolderKind.PAYMENTS)
EXCHANGE: Final = Holder(HolderKind.ACCOUNT, EXCHANGE_ACCOUNT)

# Kinds as small integers: a dictionary finds a tuple of integers four times as fast as one with a name of an enum.
KINDS: Final = tuple(HolderKind)
_ACCOUNT, _IN, _OUT, _DEPOSITS, _OPEN_WITHDRAWALS, _PAYMENTS = range(len(KINDS))
_NUMBER_OF_KIND: Final = {kind: number for number, kind in enumerate(KINDS)}

Owner = tuple[int, int, int]
"""Whose units: place of the kind in KINDS, the holder's number, the asset."""


def account_holder(account: int) -> Holder:
    """Return the account as a holder."""
    return Holder(HolderKind.ACCOUNT, account)


def owner_of(holder: Holder, asset: int) -> Owner:
    """Return a holder and an asset as the ledger keeps them."""
    return _NUMBER_OF_KIND[holder.kind], holder.number, asset


class MarketUnits(NamedTuple):
    """What a trade in a market moves per lot, and per tick and lot."""

    base_asset: int
    quote_asset: int
    base_units_per_lot: int
    quote_units_per_tick_lot: int


class SentLink(NamedTuple):
    """Money that the shard has debited, in one link: the position and time of the entry that did it, and for whom."""

    to_shard: int
    sequence: int
    source_n: int
    debited_us: int
    transfers: tuple[Transfer, ...]


class WithdrawalChange(NamedTuple):
    """A withdrawal that was asked for or closed. `destination` is empty when it was closed."""

    withdrawal: int
    account: int
    asset: int
    amount_units: int
    destination: str
    is_open: bool
    paid: bool
    n: int
    t_us: int


class LinkAnswer(NamedTuple):
    """What a frame says about a link: `reason` 0: it is, or had been, applied."""

    from_shard: int
    sequence: int
    reason: int


@dataclass(slots=True)
class Draft:
    """What some frames change, before it is so: the cursor, and what is new of everything else.

    Attributes:
        after_n, after_hash: the ledger's cursor when the draft was begun.
        n, t_us, chain_hash: cursor after the frames.
        units: new units of those whose units change.
        markets: markets that were defined.
        links_in, links_out: new last sequence numbers by shard.
        sent: links that were sent, transfers still being gathered while frames are read.
        answers: what frames say about links that came in.
        withdrawals: what became of withdrawals, in order.
    """

    after_n: int
    after_hash: bytes
    n: int
    t_us: int
    chain_hash: bytes
    units: dict[Owner, int] = field(default_factory=dict)
    markets: dict[int, MarketUnits] = field(default_factory=dict)
    links_in: dict[int, int] = field(default_factory=dict)
    links_out: dict[int, int] = field(default_factory=dict)
    sent: dict[tuple[int, int], SentLink] = field(default_factory=dict)
    answers: list[LinkAnswer] = field(default_factory=list)
    withdrawals: list[WithdrawalChange] = field(default_factory=list)
    link_from: int | None = None
    """Shard whose link was applied last in the frame that is being read."""


@dataclass(slots=True)
class LedgerRows:
    """A ledger as rows, which is how a database keeps it."""

    n: int = 0
    t_us: int = 0
    chain_hash: bytes = b""
    units: dict[Owner, int] = field(default_factory=dict)
    markets: dict[int, MarketUnits] = field(default_factory=dict)
    links_in: dict[int, int] = field(default_factory=dict)
    links_out: dict[int, int] = field(default_factory=dict)
    sent: list[SentLink] = field(default_factory=list)


class Ledger:
    """What everybody has in one shard, after frame `n`.

    Attributes:
        shard: number of the shard.
        n, chain_hash: position and hash of the last frame that was applied; 0 and the genesis hash: none.
        t_us: time of that frame.
    """

    def __init__(self, genesis: bytes, rows: LedgerRows | None = None) -> None:
        """Open the ledger of a shard, before its first frame or as rows say.

        Args:
            genesis: encoded Genesis of the shard.
            rows: what a database has; None, or at position 0: nothing yet.
        """
        parsed = decode(Genesis, genesis)
        kept = rows or LedgerRows()
        self.shard = parsed.shard
        self.n = kept.n
        self.t_us = kept.t_us
        self.chain_hash = kept.chain_hash if kept.n else genesis_hash(parsed.environment, parsed.shard, genesis)
        self._markets = dict(kept.markets)
        self._links_in = dict(kept.links_in)
        self._links_out = dict(kept.links_out)
        self._sent = {(link.to_shard, link.sequence): link for link in kept.sent}
        self._units = dict(kept.units)
        # The same fold over records and over messages of the protobuf library: their fields have the same names.
        self._folds: dict[type | str, Callable[[Draft, dict[Owner, int], Any], None]] = {}
        for record, name, fold in (
            (Trade, "trade", self._fold_trade),
            (FundsCredited, "funds_credited", self._fold_credited),
            (FundsSent, "funds_sent", self._fold_sent),
            (LinkResult, "link_result", self._fold_link),
            (MarketDefined, "market_defined", self._fold_market),
            (Deposited, "deposited", self._fold_deposited),
            (WithdrawalRequested, "withdrawal_requested", self._fold_requested),
            (WithdrawalClosed, "withdrawal_closed", self._fold_closed),
            (FeesPaidOut, "fees_paid_out", self._fold_paid_out),
        ):
            self._folds[record] = self._folds[name] = fold

    # --- what it says -----------------------------------------------------------------------------------------------

    def units(self, holder: Holder, asset: int) -> int:
        """Return what a holder has of an asset; below zero: what it brought in."""
        return self._units.get(owner_of(holder, asset), 0)

    def balances(self, account: int) -> dict[int, int]:
        """Return what an account has, free and locked together, by asset; assets that it has none of are left out."""
        return self.by_asset(account_holder(account))

    def by_asset(self, holder: Holder) -> dict[int, int]:
        """Return what a holder has, by asset; assets of which it has nothing are left out."""
        wanted = owner_of(holder, 0)[:2]
        return dict(sorted((owner[2], units) for owner, units in self._units.items() if owner[:2] == wanted and units))

    def holdings(self) -> dict[tuple[Holder, int], int]:
        """Return units by holder and asset, sorted; nothing that is zero. Per asset they add up to zero."""
        named = (
            ((Holder(KINDS[kind], number), asset), units)
            for (kind, number, asset), units in self._units.items()
            if units
        )
        return dict(sorted(named))

    def last_link_from(self, shard: int) -> int:
        """Return the sequence number of the last link that was received from a shard; 0: none."""
        return self._links_in.get(shard, 0)

    def last_link_to(self, shard: int) -> int:
        """Return the sequence number of the last link that was sent to a shard; 0: none."""
        return self._links_out.get(shard, 0)

    def partners(self) -> set[int]:
        """Return the shards that a link ever came from or went to."""
        return {*self._links_in, *self._links_out}

    def sent_after(self, shard: int, sequence: int) -> dict[int, int]:
        """Return by asset what links to a shard carry that come after one: on its way, if that one was received."""
        on_its_way: dict[int, int] = {}
        for later in range(sequence + 1, self.last_link_to(shard) + 1):
            for transfer in self._sent[shard, later].transfers:
                on_its_way[transfer.asset] = on_its_way.get(transfer.asset, 0) + transfer.amount_units
        return on_its_way

    def outstanding(self) -> list[SentLink]:
        """Return the links that were sent and not yet forgotten, by receiver and sequence number."""
        return [self._sent[name] for name in sorted(self._sent)]

    def forget_sent(self, to_shard: int, sequence: int) -> None:
        """Forget what a link carried: its receiver has it."""
        self._sent.pop((to_shard, sequence), None)

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
        draft = self.draft()
        applied = []
        for place, data in enumerate(frames):
            frame = self._read(draft, data, entries[place] if entries is not None else None)
            self._fold(draft, frame.n, frame.t_us, ((type(event), event) for event in frame.events))
            draft.chain_hash = chain_hash(data)
            applied.append(frame)
        self.adopt(draft)
        return applied

    def draft(self) -> Draft:
        """Return a draft that changes nothing yet."""
        return Draft(self.n, self.chain_hash, self.n, self.t_us, self.chain_hash)

    def fold_proven(self, frames: Sequence[bytes], after_hash: bytes) -> tuple[Draft, list[ReadFrame]]:
        """Return what frames change that re-execution has proven, and what else settlement needs of them.

        Their bytes are those that the engine itself wrote: they are canonical, chained, and answers to their entries,
        and the protobuf library may read them.

        Args:
            frames: consecutive, the first after `n`.
            after_hash: chain hash after the last of them.

        Raises:
            LedgerError: a frame is not the next one, or its events break a rule of the ledger.
        """
        draft = self.draft()
        read = [read_frame(frame) for frame in frames]
        for frame in read:
            if frame.n != draft.n + 1:
                self._stop(LedgerReason.FRAME_GAP, draft.n + 1, f"the frame has position {frame.n}")
            self._fold(draft, frame.n, frame.t_us, frame.moving)
        draft.chain_hash = after_hash
        return draft, read

    def adopt(self, draft: Draft) -> None:
        """Make it so. The draft is of this ledger as it stands."""
        assert (draft.after_n, draft.after_hash) == (self.n, self.chain_hash), "the draft is of another position"
        self._units.update(draft.units)
        self._sent.update(draft.sent)
        self._markets.update(draft.markets)
        self._links_in.update(draft.links_in)
        self._links_out.update(draft.links_out)
        self.n, self.t_us, self.chain_hash = draft.n, draft.t_us, draft.chain_hash

    def _fold(self, draft: Draft, n: int, t_us: int, events: Iterable[tuple[Any, Any]]) -> None:
        """Take in what one frame says, event by event; units are judged when its last event was read."""
        draft.n, draft.t_us, draft.link_from = n, t_us, None
        changes: dict[Owner, int] = {}
        folds = self._folds
        for kind, event in events:
            fold = folds.get(kind)
            if fold is not None:
                fold(draft, changes, event)
        settled, drafted = self._units, draft.units
        for owner, change in changes.items():
            units = drafted.get(owner)
            if units is None:
                units = settled.get(owner, 0)
            units += change
            if not 0 <= units <= AMOUNT_UNITS_MAX:
                self._check_units(n, owner, units)
            drafted[owner] = units

    def _read(self, draft: Draft, data: bytes, entry: RawEntry | None) -> ExecutionFrame:
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

    # --- events -----------------------------------------------------------------------------------------------------
    # What an event moves, as two postings that cancel out: from a payer to a payee.

    def _fold_trade(self, draft: Draft, changes: dict[Owner, int], trade: Any) -> None:
        """Base from seller to buyer, the notional from buyer to seller, and a fee from each to the exchange."""
        number = trade.market
        market = self._markets.get(number) or draft.markets.get(number)
        if market is None:
            self._stop(LedgerReason.UNKNOWN_MARKET, draft.n, f"trade {trade.trade_id} in market {number}")
            return
        base_asset, quote_asset, base_units_per_lot, quote_units_per_tick_lot = market
        maker, taker, lots = trade.maker_account, trade.taker_account, trade.quantity_lots
        base = lots * base_units_per_lot
        notional = trade.price_ticks * lots * quote_units_per_tick_lot
        maker_fee, taker_fee = trade.maker_fee_quote_units, trade.taker_fee_quote_units
        if trade.taker_side == Side.SELL:
            base, notional = -base, -notional
        get = changes.get
        for account, base_change, quote_change in (
            (maker, -base, notional - maker_fee),
            (taker, base, -notional - taker_fee),
        ):
            owner = (_ACCOUNT, account, base_asset)
            changes[owner] = get(owner, 0) + base_change
            owner = (_ACCOUNT, account, quote_asset)
            changes[owner] = get(owner, 0) + quote_change
        if maker_fee or taker_fee:
            owner = (_ACCOUNT, EXCHANGE_ACCOUNT, quote_asset)
            changes[owner] = get(owner, 0) + maker_fee + taker_fee

    def _fold_credited(self, draft: Draft, changes: dict[Owner, int], credited: Any) -> None:
        if credited.from_shard != draft.link_from:
            self._stop(LedgerReason.CREDIT_WITHOUT_LINK, draft.n, f"from shard {credited.from_shard}")
        _move(changes, credited, (_IN, credited.from_shard), (_ACCOUNT, credited.account))

    def _fold_sent(self, draft: Draft, changes: dict[Owner, int], sent: Any) -> None:
        """Put a transfer into its link: a new one, or the one that this entry has begun."""
        to_shard, sequence = sent.to_shard, sent.link_sequence
        last = draft.links_out.get(to_shard, self._links_out.get(to_shard, 0))
        link = draft.sent.get((to_shard, sequence))
        begun_here = link is not None and link.source_n == draft.n
        if sequence != last + 1 and not (begun_here and sequence == last):
            self._stop(LedgerReason.LINK_GAP, draft.n, f"link {sequence} to shard {to_shard} after {last}")
        before = link.transfers if link is not None else ()
        transfer = Transfer(sent.account, sent.asset, sent.amount_units)
        draft.sent[to_shard, sequence] = SentLink(to_shard, sequence, draft.n, draft.t_us, (*before, transfer))
        draft.links_out[to_shard] = sequence
        _move(changes, sent, (_ACCOUNT, sent.account), (_OUT, to_shard))

    def _fold_link(self, draft: Draft, changes: dict[Owner, int], link: Any) -> None:
        """Count a link that was applied; credits follow it."""
        draft.link_from = None
        if link.sequence:
            draft.answers.append(LinkAnswer(link.from_shard, link.sequence, link.reason))
        if link.reason or link.repeated:
            return
        last = draft.links_in.get(link.from_shard, self._links_in.get(link.from_shard, 0))
        if link.sequence != last + 1:
            detail = f"link {link.sequence} from shard {link.from_shard} after {last}"
            self._stop(LedgerReason.LINK_GAP, draft.n, detail)
        draft.links_in[link.from_shard] = link.sequence
        draft.link_from = link.from_shard

    def _fold_market(self, draft: Draft, changes: dict[Owner, int], defined: Any) -> None:
        market = defined.market
        draft.markets[market.market] = MarketUnits(
            market.base_asset, market.quote_asset, market.base_units_per_lot, market.quote_units_per_tick_lot
        )

    def _fold_deposited(self, draft: Draft, changes: dict[Owner, int], deposited: Any) -> None:
        _move(changes, deposited, (_DEPOSITS, 0), (_ACCOUNT, deposited.account))

    def _fold_requested(self, draft: Draft, changes: dict[Owner, int], asked: Any) -> None:
        _move(changes, asked, (_ACCOUNT, asked.account), (_OPEN_WITHDRAWALS, 0))
        draft.withdrawals.append(_withdrawal(draft, asked, asked.destination, is_open=True, paid=False))

    def _fold_closed(self, draft: Draft, changes: dict[Owner, int], closed: Any) -> None:
        payee = (_PAYMENTS, 0) if closed.paid else (_ACCOUNT, closed.account)
        _move(changes, closed, (_OPEN_WITHDRAWALS, 0), payee)
        draft.withdrawals.append(_withdrawal(draft, closed, "", is_open=False, paid=closed.paid))

    def _fold_paid_out(self, draft: Draft, changes: dict[Owner, int], paid: Any) -> None:
        _move(changes, paid, (_ACCOUNT, EXCHANGE_ACCOUNT), (_ACCOUNT, paid.account))

    def _check_units(self, n: int, owner: Owner, units: int) -> None:
        kind, number, asset = owner
        if kind in (_ACCOUNT, _OPEN_WITHDRAWALS):
            whose = f"{KINDS[kind]} {number} has {units} of asset {asset}"
            if units < 0:
                self._stop(LedgerReason.OVERDRAWN, n, whose)
            self._stop(LedgerReason.AMOUNT_TOO_LARGE, n, f"{whose}, 2^63 or more")

    def _stop(self, reason: LedgerReason, n: int, detail: str) -> None:
        raise LedgerError(reason, self.shard, n, detail)


def _move(changes: dict[Owner, int], event: Any, payer: tuple[int, int], payee: tuple[int, int]) -> None:
    asset, units = event.asset, event.amount_units
    for (kind, number), change in ((payer, -units), (payee, units)):
        owner = (kind, number, asset)
        changes[owner] = changes.get(owner, 0) + change


def _withdrawal(draft: Draft, event: Any, destination: str, *, is_open: bool, paid: bool) -> WithdrawalChange:
    return WithdrawalChange(
        event.withdrawal,
        event.account,
        event.asset,
        event.amount_units,
        destination,
        is_open,
        paid,
        draft.n,
        draft.t_us,
    )

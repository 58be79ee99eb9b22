"""The loops of the exchange that run once per order, compiled (`src/exchange-core`).

Bytes and plain numbers only; `exchange.engine.core` makes the engines' port of them. A call takes a whole batch and
releases the GIL while it works. An argument of another type raises TypeError, a tuple of another length ValueError, a
number that does not fit its field OverflowError. A panic in the core, which no input causes, raises Stop with the
reason INVARIANT; one while a Shard, a Ledger, a ShardFold or an IngressDesk was changed is raised again by whatever is
asked of it.
"""

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Final, Self, final

__all__ = [
    "FOLD_REASONS",
    "LEDGER_REASONS",
    "LIMITS",
    "MESSAGES",
    "RULES_MAX",
    "UNITS",
    "AccountSet",
    "Applied",
    "BatchNames",
    "FoldStop",
    "FrameFormError",
    "IngressDesk",
    "KeyRates",
    "Ledger",
    "LedgerDraft",
    "LedgerStop",
    "LoadError",
    "NameIndex",
    "Shard",
    "ShardFold",
    "Stop",
    "SubmitMessage",
    "UnknownFormat",
    "Verifier",
    "WhatIf",
    "WireError",
    "__version__",
    "accounts_of",
    "batch_head",
    "check",
    "key_refusal",
    "name_batches",
    "private_messages",
    "recode",
    "signature_refusal",
]

__version__: Final[str]

RULES_MAX: Final[int]
"""Newest version of the rules that this module executes; it executes them from 1 on."""
LIMITS: Final[dict[str, int]]
"""The constants of `exchange.domain.limits` that a trading shard needs, by name."""
UNITS: Final[dict[str, int]]
"""The constants of `exchange.domain.units`, by name."""
MESSAGES: Final[tuple[str, ...]]
"""The messages that `recode` takes."""

class Stop(Exception):
    """An engine cannot answer an entry, nor a later one. `args`: reason of a StopReason, detail for people."""

class UnknownFormat(ValueError):
    """Bytes are of a version that this module does not know. `args`: what they hold, the format that was found."""

class WireError(ValueError):
    """Bytes break a rule of the wire. `args`: reason of a WireReason, path of the field, offset in bytes, detail."""

LEDGER_REASONS: Final[tuple[str, ...]]
"""Why a ledger stops: `exchange.settlement.ledger.LedgerReason` but for RECEIVER_AHEAD, which the audit finds,
and INVARIANT, which is a Stop."""
FOLD_REASONS: Final[tuple[str, ...]]
"""Why a ShardFold stops: `exchange.marketdata.chain.FoldReason` but for what only shard 0 knows, and
INVARIANT, which is a Stop."""

class LoadError(ValueError):
    """Bytes are no genesis or no intact checkpoint of a trading shard. `args`: a sentence with a stable first word."""

class LedgerStop(Exception):
    """A ledger cannot go on. `args`: one of LEDGER_REASONS, position of the frame, detail for people."""

class FoldStop(Exception):
    """A frame of the past is none. `args`: one of FOLD_REASONS, position of the fold, detail for people."""

@final
class Shard:
    """A trading shard: a pure function from (state, entry) to (state, execution frame), with the state inside.

    Not for two threads at once: the second call raises RuntimeError. After Stop or UnknownFormat from `apply` the shard
    executes nothing more; `exchange.engine.core` then raises the same again from every call. After a panic in `apply`
    all but `shard`, `position`, `chain_hash` and `events_written` raise it again here.
    """

    @staticmethod
    def from_genesis(genesis: bytes) -> Shard:
        """Return a shard before its first entry; `genesis` is an encoded Genesis.

        Raises:
            UnknownFormat, WireError, LoadError: the bytes are of another version, not canonical, or no shard's that
                trades.
            Stop: they name rules that this module does not know.
        """

    @staticmethod
    def from_checkpoint(checkpoint: bytes) -> Shard:
        """Return a shard in the state of a checkpoint.

        Raises:
            UnknownFormat, WireError, LoadError: the bytes are of another version, not canonical, or damaged.
            Stop: the state is under rules that this module does not know.
        """

    def apply(self, entries: Sequence[tuple[int, int, bytes]]) -> list[bytes]:
        """Execute the next entries and return their encoded execution frames, in order.

        Args:
            entries: position, sequenced time in microseconds, and encoded order frame of each.

        Raises:
            UnknownFormat: an order frame is of another version.
            Stop: an entry cannot be answered. In both cases the answers to the entries before it are lost.
        """

    @property
    def shard(self) -> int:
        """Number of the shard."""

    @property
    def position(self) -> int:
        """Position of the last entry that was executed; 0: none."""

    @property
    def chain_hash(self) -> bytes:
        """Chain hash after that entry; 32 bytes."""

    @property
    def events_written(self) -> int:
        """Events in all frames that this shard has written since it was made."""

    def has_due_work(self, t_us: int) -> bool:
        """Return whether an empty entry of time t_us would do something."""

    def next_due_us(self) -> int | None:
        """Return the earliest time in microseconds at which there is due work; 0: at any; None: nothing waits."""

    def state(self) -> bytes:
        """Return the encoded ShardState."""

    def state_hash(self) -> bytes:
        """Return its hash; 32 bytes."""

    def checkpoint(self) -> bytes:
        """Return the encoded Checkpoint with it."""

    def summary(self) -> tuple[int, int, bytes, int, int, int, bytes, int, int, int, int, int, int]:
        """Return the fields of `exchange.engine.port.Summary` in its order."""

    def facts(self) -> tuple[int, int, list[tuple[int, int]], int, list[tuple[int, int]]]:
        """Return the fields of `exchange.engine.port.ShardFacts` in its order, mappings as pairs by ascending key."""

    def markets(self) -> list[bytes]:
        """Return the encoded Market of each market, by number."""

    def depth(self, market: int, levels_max: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]] | None:
        """Return price in ticks and quantity in lots of the best bids and asks, best first; None: no such market."""

    def balances(self, account: int) -> list[tuple[int, int, int]]:
        """Return asset, free and locked units of an account, by asset; nothing of those that it has nothing of."""

    def open_orders(self, account: int) -> list[tuple[int, int, int, int, int, int, int]]:
        """Return the fields of `exchange.engine.port.OpenOrder` in its order, by order_id."""

    def book(self, market: int, orders_per_side_max: int) -> tuple[bytes, int, int] | None:
        """Return an encoded BookState with the best orders, and how many bids and asks there are in all.

        None: no such market.
        """

    def what_if(self, batches: Sequence[bytes], t_us: int) -> WhatIf:
        """Return a copy on which these batches can be executed as the next entry.

        Args:
            batches: encoded Batch each; their shard, nonce and valid_until_ms are not looked at.
            t_us: time of the entry, or of the last one's if that is later.

        Raises:
            WireError: a batch is not canonical.
        """

@final
class WhatIf:
    """A copy of as much of a shard as some batches can reach; it may go to another thread."""

    @property
    def position(self) -> tuple[int, int, bytes]:
        """Position, time in microseconds and chain hash of the shard when the copy was taken."""

    def run(self) -> bytes:
        """Execute the batches on the copy, once, and return the encoded execution frame.

        Raises:
            RuntimeError: it was run before.
        """

@final
class Ledger:
    """What everybody has in one shard, 0 included, as `exchange.settlement.ledger.Ledger`.

    Kinds of holders are their places in its KINDS. Not for two threads at once.
    """

    def __new__(
        cls,
        genesis: bytes,
        n: int = 0,
        t_us: int = 0,
        chain_hash: bytes | None = None,
        units: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]] | None = None,
        markets: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int], Sequence[int]] | None = None,
        links_in: tuple[Sequence[int], Sequence[int]] | None = None,
        links_out: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> Self:
        """Return the ledger of a shard, before its first frame or as rows say.

        Args:
            genesis: encoded Genesis of the shard.
            n: position of the last frame that is in the rows; 0: none.
            t_us: its time in microseconds.
            chain_hash: its hash; does not count where n is 0.
            units: columns kind, holder, asset, units: a row for each of the first three.
            markets: columns market, base_asset, quote_asset, base_units_per_lot, quote_units_per_tick_lot: a row for
                each market.
            links_in: columns shard, last sequence number: a row for each shard.
            links_out: the same.

        Raises:
            WireError: the genesis is not canonical.
            ValueError: a hash does not have 32 bytes or is missing, or columns have different lengths (SHAPE); a row is
                of the same as another (ROW_TWICE); or there is no such kind (HOLDER_KIND).
        """

    def fold(self, frames: Sequence[bytes], entries: Sequence[tuple[int, int, bytes]] | None = None) -> LedgerDraft:
        """Return what the next frames change, strictly decoded; the ledger stays as it is.

        Args:
            frames: encoded execution frames, consecutive, the first after `n`.
            entries: position, time and encoded order frame of the entries that they answer, as many in the same order;
                None: not at hand.

        Raises:
            ValueError: there are not as many entries as frames (SHAPE).
            LedgerStop: a frame does not fit.
            UnknownFormat: a frame is of another version.
        """

    def fold_proven(self, frames: Sequence[bytes], after_hash: bytes) -> LedgerDraft:
        """Return what frames change that re-execution has proven; `after_hash`: chain hash after the last of them.

        Raises:
            LedgerStop: a frame is not the next one, or its events break a rule of the ledger.
        """

    def adopt(self, draft: LedgerDraft) -> None:
        """Make a draft so.

        Raises:
            ValueError: the ledger is not where the draft was made.
        """

    @property
    def shard(self) -> int:
        """Number of the shard."""

    @property
    def n(self) -> int:
        """Position of the last frame that was adopted; 0: none."""

    @property
    def t_us(self) -> int:
        """Time of that frame in microseconds."""

    @property
    def chain_hash(self) -> bytes:
        """Hash of that frame, or the genesis hash; 32 bytes."""

    def units(self, kind: int, holder: int, asset: int) -> int:
        """Return what a holder has of an asset; below zero: what it brought in.

        Raises:
            ValueError: there is no such kind (HOLDER_KIND).
        """

    def by_asset(self, kind: int, holder: int) -> list[tuple[int, int]]:
        """Return asset and units of what a holder has, by asset; nothing that is zero.

        Raises:
            ValueError: there is no such kind (HOLDER_KIND).
        """

    def holdings(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Return columns kind, holder, asset, units of all units that are not zero, sorted."""

    def last_link_from(self, shard: int) -> int:
        """Return the sequence number of the last link from a shard; 0: none."""

    def last_link_to(self, shard: int) -> int:
        """Return the sequence number of the last link to a shard; 0: none."""

    def partners(self) -> list[int]:
        """Return the shards that a link ever came from or went to, ascending."""

@final
class LedgerDraft:
    """What some frames change, as columns: one row for what stands after them, none for an event."""

    @property
    def after_n(self) -> int:
        """Position of the ledger when the draft was made."""

    @property
    def after_hash(self) -> bytes:
        """Hash of the frame there; 32 bytes."""

    @property
    def n(self) -> int:
        """Position after the frames."""

    @property
    def t_us(self) -> int:
        """Time of the last of them in microseconds."""

    @property
    def chain_hash(self) -> bytes:
        """Hash of the last of them; 32 bytes."""

    @property
    def units(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Columns kind, holder, asset and new units of those whose units change, sorted."""

    @property
    def markets(self) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
        """Columns market, base_asset, quote_asset, base_units_per_lot, quote_units_per_tick_lot of those defined."""

    @property
    def links_in(self) -> tuple[list[int], list[int]]:
        """Columns shard and new last sequence number of links from it."""

    @property
    def links_out(self) -> tuple[list[int], list[int]]:
        """Columns shard and new last sequence number of links to it."""

    @property
    def sent(self) -> list[tuple[int, int, int, int, list[tuple[int, int, int]]]]:
        """Links that were sent: to_shard, sequence, source_n, debited_us; of each part account, asset, amount_units."""

    @property
    def answers(self) -> tuple[list[int], list[int], list[int]]:
        """Columns from_shard, sequence, reason of what the frames say about links that came in."""

    @property
    def withdrawals(self) -> list[tuple[int, int, int, int, str, bool, bool, int, int]]:
        """Rows of `exchange.settlement.ledger.WithdrawalChange`."""

    @property
    def frames(self) -> tuple[list[int], list[int], list[int], list[bool]]:
        """Columns n, t_us, number of events, and whether it changes markets."""

@final
class ShardFold:
    """Market data's fold of a trading shard, as `exchange.marketdata.fold.ShardFold`; canonical frames only.

    What names a market that there is not raises KeyError. Not for two threads at once.
    """

    @staticmethod
    def from_genesis(genesis: bytes) -> ShardFold:
        """Return the fold before the first frame; `genesis` is the encoded Genesis of the shard.

        Raises:
            UnknownFormat, WireError: it is of another version, or not canonical.
        """

    @staticmethod
    def from_state(state: bytes) -> ShardFold:
        """Return the fold at a checkpoint; `state` is the encoded ShardState in it, which its reader has checked.

        Raises:
            UnknownFormat, WireError: it is of another version, or not canonical.
            ValueError: it contradicts itself.
        """

    @staticmethod
    def from_checkpoint(checkpoint: bytes) -> ShardFold:
        """Return the fold at an encoded Checkpoint.

        Raises:
            UnknownFormat, WireError, LoadError: it is of another version, not canonical, or damaged.
        """

    def apply(self, frames: Sequence[bytes]) -> Applied:
        """Take in the next frames and return what they did.

        Where one does not follow, those before it were applied, `stop` of what is returned says why, and the fold
        applies nothing more: it must be thrown away.
        """

    def take_in_the_past(self, frame: bytes) -> None:
        """Put onto tapes and into transit what a frame before the fold's first one says.

        Raises:
            FoldStop: it is no frame, or names a market that there is not.
        """

    @property
    def shard(self) -> int:
        """Number of the shard."""

    @property
    def n(self) -> int:
        """Position of the last frame; 0: none."""

    @property
    def t_us(self) -> int:
        """Time of that frame in microseconds."""

    @property
    def chain_hash(self) -> bytes:
        """Hash of that frame, or the genesis hash; 32 bytes."""

    @property
    def settings(self) -> tuple[int, int, int]:
        """The fields of ShardSettings in its order."""

    @property
    def links_in(self) -> dict[int, int]:
        """Last sequence number of links that were applied, by sender."""

    @property
    def links_out(self) -> dict[int, int]:
        """Last sequence number of links that were sent, by receiver."""

    @property
    def sent(self) -> list[tuple[int, int, list[tuple[int, int, int, int]]]]:
        """Links on their way: to_shard, sequence, and account, asset, amount_units, debited_us of each part."""

    def forget_sent(self, to_shard: int, up_to_sequence: int) -> None:
        """Forget what links to a shard carry that it has applied."""

    def markets(self) -> list[int]:
        """Return the markets, ascending."""

    def accounts(self) -> list[int]:
        """Return the accounts that ever had an event, ascending."""

    def market(self, market: int) -> tuple[bytes, int]:
        """Return the encoded Market as it was defined last, and the state that it is in."""

    def last_of(self, market: int) -> tuple[int, int]:
        """Return the market's last sequence number, and the price of its last trade in ticks; 0: none."""

    def depth(
        self, market: int, levels_max: int | None = None
    ) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Return price_ticks, quantity_lots and orders of the best bids and asks, best first; None: all of them."""

    def level_at(self, market: int, side: int, price_ticks: int) -> tuple[int, int, int]:
        """Return the level of a price as it is now; side 1: buy, 2: sell.

        Raises:
            ValueError: there is no such side (SIDE).
        """

    def watch(self, market: int, watch: int) -> None:
        """Write down what changes in a book from now on: 0 nothing, 1 frame by frame, 2 command by command."""

    def trades_after(
        self, market: int, market_seq: int, trades_max: int
    ) -> tuple[list[tuple[int, int, int, int, int, int]], int]:
        """Return the first trades with a higher sequence number, oldest first, and the tape's complete_after.

        A trade is market_seq, trade_id, price_ticks, quantity_lots, taker_side, t_us.
        """

    def trades_before(
        self, market: int, market_seq: int, trades_max: int
    ) -> tuple[list[tuple[int, int, int, int, int, int]], int]:
        """Return the last trades with a lower one, newest first; 0: of all."""

    def balances(self, account: int) -> list[tuple[int, int, int]]:
        """Return asset, free and locked units of what an account has, by asset."""

    def account_seq(self, account: int) -> int:
        """Return the sequence number of the account's last event; 0: it had none."""

    def open_orders(
        self, account: int
    ) -> list[
        tuple[
            tuple[int, int, int, int, int, int, int, int],
            tuple[bool, int, int, int, int, int],
            tuple[int, int, int],
        ]
    ]:
        """Return the account's open orders by order_id.

        Each is order_id, client_order_id, account, market, side, price_ticks, open_lots, filled_lots; post_only,
        self_trade_prevention (0: unknown), maker_fee_ppm, taker_fee_ppm, maker_prepaid_ppm, taker_prepaid_ppm; and
        origin_n, origin_batch, origin_command.
        """

    def order(
        self, order_id: int
    ) -> (
        tuple[
            tuple[int, int, int, int, int, int, int, int],
            tuple[bool, int, int, int, int, int],
            tuple[int, int, int],
        ]
        | None
    ):
        """Return an open order as `open_orders` does; None: it is not open."""

    def order_ids(self) -> list[int]:
        """Return the open orders' order_id, in no order."""

    @property
    def markets_len(self) -> int:
        """How many markets there are; they never go."""

    @property
    def open_orders_len(self) -> int:
        """How many orders are open."""

    def set_self_trade_prevention(self, order_id: int, mode: int) -> bool:
        """Keep what the command says that placed an order; False: it is not open any more."""

@final
class Applied:
    """What frames did, as columns; what belongs to a frame ends where its row says."""

    @property
    def stop(self) -> tuple[str, int, str] | None:
        """One of FOLD_REASONS, position and detail of the frame that did not follow; None: all were applied."""

    @property
    def frames(self) -> tuple[list[int], list[int], list[int], list[int], list[int], list[int]]:
        """Columns n, t_us, number of events, and where the rows of accounts, trades and changes end."""

    @property
    def accounts(self) -> tuple[list[int], list[int], list[int]]:
        """Columns account and where its places end, by frame in the order of their first events; and the places."""

    @property
    def places(self) -> list[dict[int, list[int]]]:
        """By frame, the same as mappings: the 1-based places of the events of each account."""

    @property
    def traded(self) -> list[set[int]]:
        """By frame, the markets with trades."""

    @property
    def trades(self) -> tuple[list[int], list[int], list[int], list[int], list[int], list[int]]:
        """Columns market, market_seq, trade_id, price_ticks, quantity_lots, taker_side."""

    @property
    def changes(
        self,
    ) -> list[tuple[int, int, int, int, int, list[tuple[int, int, int]], list[tuple[int, int, int]]]]:
        """Changes of watched books.

        Each is market, previous_market_seq, market_seq, state, last_price_ticks, and the bids and asks that are new,
        different or gone, as they are now, ascending by price: price_ticks, quantity_lots, orders.
        """

def check(message: str, data: bytes) -> None:
    """Check that `data` is the canonical encoding of a message of this name, one of MESSAGES or Batch.

    Raises:
        WireError: it is not.
        ValueError: there is no such message here.
    """

def recode(message: str, data: bytes) -> bytes:
    """Decode `data` as a message of this name and return its canonical encoding, which is `data` again.

    Raises:
        WireError: it is not the canonical encoding of any.
        ValueError: MESSAGES has no such name.
    """

def batch_head(payload: bytes) -> tuple[int, int, int, int, int, bool]:
    """Return account, shard, nonce, valid_until_ms and number of commands of an encoded Batch, all of it checked, and
    whether all of them cancel or reduce orders.

    Raises:
        WireError: it is not the canonical encoding of any.
    """

def key_refusal(public_key: bytes) -> str | None:
    """Return why the key may not be registered, by the name of a KeyRefusal; None: it may.

    The services leave this to the engine; here it is to be compared with the reference, as `signature_refusal` is.
    """

def signature_refusal(public_key: bytes, message: bytes, signature: bytes) -> str | None:
    """Return why the signature is not one of the message, by the name of a SignatureRefusal; None: it is.

    Args:
        public_key: 32 bytes, registered, that is `key_refusal` is None. Not checked again.
        message: as hashed, of any length.
        signature: of any length.

    Raises:
        ValueError: the key does not have 32 bytes.
    """

@final
class Verifier:
    """Verifies whole batches and remembers keys. Threads may share it; they take turns.

    Memory is bounded by `known_keys_max`: 2.8 KB a key on the fast path, 0.4 KB a key besides. What is remembered
    changes the cost, never an answer.
    """

    def __new__(cls, known_keys_max: int, library: str | PathLike[str] | None = None) -> Verifier:
        """Return one that takes the library's fast path where the processor has AVX-512 IFMA: eight signatures at once.

        Without a library, on another processor, and where the library fails its trial it takes the portable path, and
        `why_portable` says why.

        Args:
            known_keys_max: how many keys it remembers.
            library: the file of `ifma/`, which comes in the module's wheel on Linux x86-64.

        Raises:
            ValueError: the path is empty, the file is no such library, or it has another interface or no memory; the
                message has a stable first word.
        """

    @property
    def path(self) -> str:
        """Which arithmetic verifies now: `ifma` or `dalek`. The former becomes the latter if the library ever fails."""

    @property
    def why_portable(self) -> str:
        """Why `path` is not `ifma`, starting with a stable word; empty where it is."""

    def verify_batch(self, messages: Sequence[bytes], signatures: bytes, keys: bytes) -> list[bool]:
        """Return for each of n signatures whether it has no `signature_refusal`.

        Args:
            messages: n signed payloads, lengths may differ.
            signatures: 64 * n bytes; row i signs messages[i].
            keys: 32 * n bytes, registered, in the same order.

        Returns:
            n booleans in the order of the rows. Batching changes the cost, never an answer (invariant I-12).

        Raises:
            ValueError: the numbers of rows differ, or there are more than 32,768. No signature was checked.
        """

class FrameFormError(ValueError):
    """Bytes do not have the form of an execution frame, so no engine of ours has written them."""

@final
class KeyRates:
    """Token buckets of keys, one for each, full at first: `exchange.ingress.rates.TokenBuckets` for key_ids.

    While more than `senders_max` keys have less than a full bucket, new ones share one.
    """

    def __new__(cls, per_second: float, burst: float, senders_max: int = 65_536) -> KeyRates:
        """Return buckets that hold `burst` tokens and gain `per_second`; a rate of 0 means no limit at all.

        Raises:
            ValueError: the rate is negative, the burst is not positive, or one of them is no finite number.
        """

    @property
    def per_second(self) -> float:
        """Tokens that a bucket gains."""

    def take(self, sender: bytes, tokens: float, now_s: float) -> float:
        """Take tokens of a key_id and return 0; or take none and return the seconds after which they will be there."""

    def has_more_than(self, tokens: float, sender: bytes, now_s: float) -> bool:
        """Return whether one more token could be taken after so many, one by one; takes none."""

    def give_back(self, sender: bytes, tokens: float) -> None:
        """Undo a take: what it was for turned out not to be the key's doing."""

    def __len__(self) -> int:
        """Return how many keys have less than a full bucket."""

@final
class SubmitMessage:
    """A SubmitRequest on its way: its bytes, and what is known of each of its batches.

    An index is the place of a batch, from 0; one that there is not raises ValueError. A batch has one outcome, the
    first that is settled. What settles returns whether nothing is waited for any more, from then on: once.
    """

    @staticmethod
    def read(request: bytes) -> SubmitMessage | None:
        """Return the message of a canonically encoded SubmitRequest; None: its encoding is another, or it is none."""

    @staticmethod
    def read_streamed(request: bytes) -> tuple[int, SubmitMessage] | None:
        """Return tag and message of a canonically encoded SubmitStreamRequest; None: another encoding, or none."""

    @property
    def batches(self) -> int:
        """How many batches it has."""

    @property
    def environment(self) -> str:
        """Environment that it names; empty: none."""

    @property
    def wait(self) -> int:
        """What it waits for, a WaitLevel perhaps."""

    @property
    def wait_ms_max(self) -> int:
        """Longest wait in milliseconds; 0: not said."""

    @property
    def with_stages(self) -> bool:
        """Whether it asks for stages."""

    @property
    def is_open(self) -> bool:
        """Whether something is still waited for."""

    @property
    def number(self) -> int:
        """What the desk calls it; set by its owner."""

    @number.setter
    def number(self, value: int) -> None: ...
    @property
    def size(self) -> int:
        """How many bytes it has."""

    def read_batches(self) -> tuple[int, bool]:
        """Decode every batch strictly; return how many commands there are, and whether all cancel or reduce orders.

        Batches whose bytes are not in order have none.
        """

    def fields(self, index: int) -> tuple[bytes, bytes, bytes]:
        """Return key_id, payload and signature of a batch as they came."""

    def head(self, index: int) -> tuple[int, int, int, int, int, bool] | None:
        """Return what `batch_head` does; None: its bytes are not in order, or not read yet."""

    def attempts(self, index: int) -> int:
        """Return how often a batch was handed on."""

    def lacks(self, index: int) -> bool:
        """Return whether a batch has no outcome yet and one is waited for."""

    def settle(self, index: int, outcome: bytes) -> bool:
        """Take an encoded BatchOutcome."""

    def refuse(self, indexes: Sequence[int] | None, before: bytes, after: bytes, is_final: bool) -> tuple[int, bool]:
        """Settle that batches, or all of them, were refused for one reason and reached no shard.

        Returns:
            how many had no outcome before, and what everything returns that settles.

        Args:
            indexes: which; None: all.
            before: encoded fields of BatchOutcome that come before `executable_until_ms`.
            after: those that come after it.
            is_final: they can never be executed, so that the time is left out.
        """

    def unanswered(self, index: int) -> bool:
        """Settle that nothing more is known of a batch than its position, SEQUENCED, or not even that, UNKNOWN."""

    def release(self) -> None:
        """Let go of everything that it holds: nobody asks any more. It has no batch then, and is not open."""

    def give_up(self) -> bool:
        """Settle so every batch that was handed on and has no outcome."""

    def note(self, rejected: Sequence[int], short: Sequence[tuple[int, int, int]]) -> None:
        """Add to the reject reasons that occur, and to account, asset and shard of commands refused for funds."""

    def answer(
        self,
    ) -> tuple[bytes, list[int], list[tuple[int, int, int]], list[tuple[int, int, int, int, int, int, int, int]]]:
        """Return what its sender is told now.

        Returns:
            SubmitResponse.outcomes, encoded; the reject reasons that occur, ascending; account, asset and shard of
            commands refused for funds; and by entry, where stages are asked for, shard, n, framed_us, sequenced_us,
            taken_us, executed_us, durable_us, answered_us.
        """

@final
class IngressDesk:
    """Batches on their way through a worker: judged by the door's rules, gathered by shard, told what became of them.

    Threads may share it; they take turns. Times are microseconds since 1970-01-01 UTC, or seconds of a clock that never
    goes back.
    """

    def __new__(cls, signed_prefix: bytes, verifier: Verifier, key_rates: KeyRates, commands_max: int) -> IngressDesk:
        """Return a desk that knows no key yet.

        Args:
            signed_prefix: what stands before a payload where it is signed.
            verifier: what verifies; may be shared.
            key_rates: buckets of the keys; may be shared.
            commands_max: most commands under way; an eighth more of them in batches that have only cancels.
        """

    @property
    def commands(self) -> int:
        """Commands that were handed on and are awaited."""

    @property
    def has_some(self) -> bool:
        """Whether batches wait in chunks that are not full."""

    @property
    def awaited(self) -> list[int]:
        """Numbers of the chunks that are awaited, ascending."""

    @property
    def is_lost(self) -> bool:
        """Whether there is nobody to hand batches to; set by its owner."""

    @is_lost.setter
    def is_lost(self, value: bool) -> None: ...
    @property
    def is_draining(self) -> bool:
        """Whether only what was handed on before is handed on; set by its owner."""

    @is_draining.setter
    def is_draining(self, value: bool) -> None: ...
    def forget_view(self) -> None:
        """Forget keys, accounts and shards."""

    def set_keys(self, keys: Sequence[tuple[bytes, bytes, int, int, bool]]) -> None:
        """Know keys: key_id, public key, user, the one account that it signs for or 0, revoked.

        Raises:
            ValueError: a key_id does not have 16 bytes, or a public key 32.
        """

    def set_accounts(self, accounts: Sequence[tuple[int, int]]) -> None:
        """Know accounts and their users."""

    def set_shards(self, shards: Sequence[int]) -> None:
        """Know that shards are in the map."""

    def set_validity(self, allowed_ms: Sequence[tuple[int, int]]) -> None:
        """Know the longest validity that shards allow, in milliseconds, of no others."""

    def admit(
        self,
        message: SubmitMessage,
        start: int,
        stop: int,
        stops: bool,
        now_us: int,
        now_s: float,
        control_n: int,
    ) -> tuple[int, list[tuple[str, float, int, int, list[int]]]]:
        """Verify and judge batches of a message in order, and put those that are let in into chunks of their shards.

        Args:
            message: whose batches were read.
            start: the first of them.
            stop: the one behind the last of them.
            stops: go no further than the first one that may be let in when more is known of shard 0.
            now_us: clock of the ingress.
            now_s: a clock that never goes back, for the rates.
            control_n: position of what is known of shard 0.

        Returns:
            the first batch that was not looked at, and of each that was not let in: index, why, seconds to wait
            (TOO_FAST), and two numbers: shard_us (BATCH_EXPIRED), too_early_ms and allowed_ms (VALIDITY_TOO_LONG),
            commands under way (OVERLOADED).

        Raises:
            ValueError: there are no such batches.
        """

    def hand_over(self, everything: bool) -> list[tuple[int, int, int, int, int, bytes]]:
        """Return the chunks that are full, and with `everything` the others.

        Returns:
            of each: number, shard, control_n, batches, commands, elements of OrderFrame.batches.
        """

    def sequenced(self, shard: int, n: int, t_us: int, framed_us: int, parts: Sequence[tuple[int, int]]) -> list[int]:
        """Take that chunks have a position, each from a place in the frame on; return messages that wait no longer."""

    def executed(
        self, shard: int, frame: bytes, stamps: tuple[int, int, int, int], parts: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[tuple[int, int, int]], int]:
        """Take an execution frame that has chunks in it, each from a place in the frame on.

        Args:
            shard: of the frame.
            frame: of our own log.
            stamps: when the matcher took it, had executed it, and the framer and this process had it.
            parts: chunks and their places.

        Returns:
            messages that wait no longer; batches of which more must be found out, as message, index and place in the
            frame; and how many others have their outcome now.

        Raises:
            FrameFormError: it is none. The chunks are still awaited.
        """

    def forget(self, chunk: int) -> list[tuple[int, int, list[int]]]:
        """Await a chunk no longer; return message, attempts and indexes of its batches."""

def name_batches(order_frames: Sequence[bytes], frames: Sequence[bytes]) -> BatchNames:
    """Return the names of the batches in entries, as `exchange.settlement.names.name_batches`.

    Args:
        order_frames: encoded order frame of each.
        frames: encoded execution frame of each, which re-execution has proven.

    Raises:
        ValueError: the numbers of frames differ, or they are no such frames.
    """

@final
class BatchNames:
    """The batches of some entries that were executed or refused; repetitions are left out."""

    def __len__(self) -> int:
        """Return how many there are, those without a name among them."""

    @property
    def rows(self) -> bytes:
        """Rows of an archive's index of those with a name, in the order of the log."""

    def executed(self, chosen: Sequence[int]) -> list[tuple[int, int, int, bytes, int, bytes, bytes]]:
        """Return those of some batches that were executed, 0-based, as `exchange.settlement.signatures.Sample` has it.

        Raises:
            ValueError: there is no such batch.
        """

@final
class NameIndex:
    """Rows of an archive's index, searched while more come. Threads may share it."""

    def __new__(cls) -> Self:
        """Return an index without rows."""

    def __len__(self) -> int:
        """Return how many rows there are."""

    def add(self, rows: bytes) -> None:
        """Take in rows, in any order.

        Raises:
            ValueError: they do not end with a whole row.
        """

    def places(self, name: bytes) -> list[tuple[int, int]]:
        """Return position and 1-based place of the batches of a name, key_id and nonce, in the order of the log.

        Raises:
            ValueError: the name does not have 24 bytes.
        """

    def sorted_rows(self) -> bytes:
        """Return all rows, sorted."""

def accounts_of(applied: Applied) -> list[AccountSet]:
    """Return by frame the accounts that have events in it; 0 is none."""

@final
class AccountSet:
    """Accounts, eight bytes each."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __contains__(self, account: object, /) -> bool:
        """Return whether an account is one of them."""

    def __iter__(self) -> Iterator[int]:
        """Yield them, ascending."""

def private_messages(shard: int, frame: bytes, accounts: Sequence[int], after_place: int = 0) -> list[list[bytes]]:
    """Return encoded StreamExecutionsResponses of a frame for each of some accounts, in their order.

    Args:
        shard: number of the frame's shard.
        frame: encoded execution frame.
        accounts: each once.
        after_place: events up to this place, 1-based, are left out.

    Raises:
        ValueError: the bytes are no execution frame.
    """

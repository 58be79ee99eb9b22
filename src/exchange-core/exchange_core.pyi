"""The loops of the exchange that run once per order, compiled (`src/exchange-core`).

Bytes and plain numbers only; `exchange.engine.core` makes the engines' port of them. A call takes a whole batch and
releases the GIL while it works. An argument of another type raises TypeError, a number that does not fit its field
OverflowError. A panic in the core, which no input causes, raises Stop with the reason INVARIANT.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Final, final

__all__ = [
    "LIMITS",
    "MESSAGES",
    "RULES_MAX",
    "UNITS",
    "LoadError",
    "Shard",
    "Stop",
    "UnknownFormat",
    "Verifier",
    "WhatIf",
    "WireError",
    "__version__",
    "check",
    "key_refusal",
    "recode",
    "signature_refusal",
    "verify_batch",
]

__version__: Final[str]

RULES_MAX: Final[int]
"""Newest version of the rules that this module executes; it executes them from 1 on."""
LIMITS: Final[dict[str, int]]
"""The constants of `exchange.domain.limits` that a trading shard needs, by name."""
UNITS: Final[dict[str, int]]
"""The constants of `exchange.domain.units`, by name."""
MESSAGES: Final[tuple[str, ...]]
"""The messages that `check` and `recode` take."""

class Stop(Exception):
    """An engine cannot answer an entry, nor a later one. `args`: reason of a StopReason, detail for people."""

class UnknownFormat(ValueError):
    """Bytes are of a version that this module does not know. `args`: what they hold, the format that was found."""

class WireError(ValueError):
    """Bytes break a rule of the wire. `args`: reason of a WireReason, path of the field, offset in bytes, detail."""

class LoadError(ValueError):
    """Bytes are no genesis or no intact checkpoint of a trading shard. `args`: a sentence with a stable first word."""

@final
class Shard:
    """A trading shard: a pure function from (state, entry) to (state, execution frame), with the state inside.

    Not for two threads at once: the second call raises RuntimeError. After Stop or UnknownFormat from `apply` the shard
    executes nothing more; `exchange.engine.core` then raises the same again from every call.
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

def check(message: str, data: bytes) -> None:
    """Check that `data` is the canonical encoding of a message of this name.

    Raises:
        WireError: it is not.
        ValueError: MESSAGES has no such name.
    """

def recode(message: str, data: bytes) -> bytes:
    """Decode `data` as a message of this name and return its canonical encoding, which is `data` again.

    Raises:
        WireError, ValueError: as `check`.
    """

def key_refusal(public_key: bytes) -> str | None:
    """Return why the key may not be registered, by the name of a KeyRefusal; None: it may."""

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

    def __new__(cls, known_keys_max: int) -> Verifier:
        """Return the fastest that there is here.

        That is eight signatures at once by AVX-512 IFMA, where the processor has it and the library that
        EXCHANGE_IFMA_LIBRARY names, or else the one in the module's wheel, can be loaded; else `portable`.
        """

    @staticmethod
    def portable(known_keys_max: int) -> Verifier:
        """Return the one that every processor has."""

    @staticmethod
    def with_library(library: str | PathLike[str], known_keys_max: int) -> Verifier:
        """Return the one on the fast path, whose library is that file.

        Raises:
            ValueError: the processor lacks what the library was built for, or the file is no such library; the message
                has a stable first word.
        """

    @property
    def path(self) -> str:
        """Which arithmetic verifies: `ifma` or `dalek`."""

    def verify_batch(self, messages: Sequence[bytes], signatures: bytes, keys: bytes) -> list[bool]:
        """Return what the function `verify_batch` returns. Raises as it does."""

def verify_batch(messages: Sequence[bytes], signatures: bytes, keys: bytes) -> list[bool]:
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

"""The settlement database: balances, links, withdrawals and, per shard, the cursor that says as of which frame.

One code path for SQLite and, later, PostgreSQL: plain SQL with INSERT ... ON CONFLICT. A transaction applies what some
consecutive frames of one or more shards change, and moves each cursor by compare-and-set on position and hash: whoever
comes second, after a crash or by mistake, changes nothing. There is a row for what stands, never one per order or fill.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, NamedTuple

from exchange.domain.operations import Link
from exchange.domain.units import CONTROL_SHARD
from exchange.settlement.ledger import Draft, LedgerRows, LinkAnswer, MarketUnits, Owner, SentLink
from exchange.wire.messages import decode, encode

SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT_MS: Final = 10_000

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS about (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    )""",
    # Position and chain hash of the last frame that is in the other tables.
    """CREATE TABLE IF NOT EXISTS cursors (
        shard INTEGER PRIMARY KEY,
        n BIGINT NOT NULL,
        hash BLOB NOT NULL,
        t_us BIGINT NOT NULL
    )""",
    # Units as decimal text: what went over links is a sum without a bound.
    """CREATE TABLE IF NOT EXISTS balances (
        shard INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        holder BIGINT NOT NULL,
        asset BIGINT NOT NULL,
        units TEXT NOT NULL,
        PRIMARY KEY (shard, kind, holder, asset)
    )""",
    """CREATE TABLE IF NOT EXISTS markets (
        shard INTEGER NOT NULL,
        market BIGINT NOT NULL,
        base_asset BIGINT NOT NULL,
        quote_asset BIGINT NOT NULL,
        base_units_per_lot BIGINT NOT NULL,
        quote_units_per_tick_lot BIGINT NOT NULL,
        PRIMARY KEY (shard, market)
    )""",
    # Last sequence numbers as a shard's own log shows them; direction 0: from the other shard, 1: to it.
    """CREATE TABLE IF NOT EXISTS link_ends (
        shard INTEGER NOT NULL,
        other INTEGER NOT NULL,
        direction INTEGER NOT NULL,
        last_sequence BIGINT NOT NULL,
        PRIMARY KEY (shard, other, direction)
    )""",
    # Links that were debited and whose receiver has not yet shown them.
    """CREATE TABLE IF NOT EXISTS links (
        from_shard INTEGER NOT NULL,
        to_shard INTEGER NOT NULL,
        sequence BIGINT NOT NULL,
        debited_us BIGINT NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (from_shard, to_shard, sequence)
    )""",
    # State as WithdrawalState has it: 1 open, 2 paid, 3 given back.
    """CREATE TABLE IF NOT EXISTS withdrawals (
        withdrawal BIGINT PRIMARY KEY,
        account BIGINT NOT NULL,
        asset BIGINT NOT NULL,
        amount_units BIGINT NOT NULL,
        destination TEXT NOT NULL,
        state INTEGER NOT NULL,
        requested_n BIGINT NOT NULL,
        requested_us BIGINT NOT NULL,
        closed_us BIGINT NOT NULL
    )""",
)
WITHDRAWAL_OPEN: Final = 1
WITHDRAWAL_PAID: Final = 2
WITHDRAWAL_GIVEN_BACK: Final = 3
_DIRECTION_IN: Final = 0
_DIRECTION_OUT: Final = 1

# A statement with many rows costs a third less per row than one for each.
_BALANCES_AT_ONCE: Final = 64
_BALANCE_COLUMNS: Final = 5


def _balances_statement(rows: int) -> str:
    parts = (
        "INSERT INTO balances (shard, kind, holder, asset, units) VALUES",
        ", ".join(["(?, ?, ?, ?, ?)"] * rows),
        "ON CONFLICT (shard, kind, holder, asset) DO UPDATE SET units = excluded.units",
    )
    return " ".join(parts)


_WRITE_BALANCES: Final = _balances_statement(_BALANCES_AT_ONCE)
_WRITE_BALANCE: Final = _balances_statement(1)


class DatabaseError(Exception):
    """The database is not what it should be. Nothing of the call was written; the message says what to do."""


class WithdrawalRow(NamedTuple):
    """A withdrawal, open or closed; `closed_us` 0: open."""

    withdrawal: int
    account: int
    asset: int
    amount_units: int
    destination: str
    state: int
    requested_n: int
    requested_us: int
    closed_us: int


class LinkRow(NamedTuple):
    """A link on its way."""

    debited_us: int
    link: Link


class Database:
    """The database, opened by one thread that writes. Readers open it once more, with `read_only`.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, environment: str, *, is_durable: bool, read_only: bool = False) -> None:
        """Open the database; make it where there is none.

        Args:
            path: of the SQLite file.
            environment: name that it must have been made for.
            is_durable: a transaction that returned survives the host; else it survives our processes.
            read_only: for questions; may be used by any one thread at a time.

        Raises:
            DatabaseError: it is of another environment or version, damaged, or cannot be opened.
        """
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=not read_only)
            self._db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            if read_only:
                self._db.execute("PRAGMA query_only = 1")
                return
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            self._db.execute("PRAGMA temp_store = MEMORY")
            self._in_transaction(lambda: [self._db.execute(table) for table in _TABLES])
            self._claim("environment", environment)
            self._claim("schema", str(SCHEMA_VERSION))
        except sqlite3.Error as error:
            raise DatabaseError(
                f"DATABASE: {path}: {error}; if the file is lost or damaged move it away: it is made again from the "
                "log where the log is complete"
            ) from error

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def check(self) -> str:
        """Return what is wrong with the file; empty: nothing that a quick check finds."""
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA quick_check(10)")]
        except sqlite3.Error as error:
            return str(error)
        return "" if found == ["ok"] else "; ".join(found)

    # --- reading ----------------------------------------------------------------------------------------------------

    def cursors(self) -> dict[int, tuple[int, bytes]]:
        """Return position and hash of the last settled frame, by shard that has one."""
        return {shard: (n, digest) for shard, n, digest in self._db.execute("SELECT shard, n, hash FROM cursors")}

    def rows(self, shard: int) -> LedgerRows:
        """Return the ledger of a shard."""
        found = LedgerRows()
        for n, digest, t_us in self._select("SELECT n, hash, t_us FROM cursors WHERE shard = ?", shard):
            found.n, found.chain_hash, found.t_us = n, digest, t_us
        for kind, holder, asset, units in self._select(
            "SELECT kind, holder, asset, units FROM balances WHERE shard = ?", shard
        ):
            found.units[kind, holder, asset] = int(units)
        for market, *units in self._select(
            "SELECT market, base_asset, quote_asset, base_units_per_lot, quote_units_per_tick_lot FROM markets"
            " WHERE shard = ?",
            shard,
        ):
            found.markets[market] = MarketUnits(*units)
        for other, direction, last_sequence in self._select(
            "SELECT other, direction, last_sequence FROM link_ends WHERE shard = ?", shard
        ):
            ends = found.links_in if direction == _DIRECTION_IN else found.links_out
            ends[other] = last_sequence
        found.sent = [
            SentLink(row.link.to_shard, row.link.sequence, row.link.source_n, row.debited_us, row.link.transfers)
            for row in self.links()
            if row.link.from_shard == shard
        ]
        return found

    def links(self) -> list[LinkRow]:
        """Return the links on their way, oldest first, then by sender, receiver and sequence number."""
        found = self._db.execute(
            "SELECT debited_us, payload FROM links ORDER BY debited_us, from_shard, to_shard, sequence"
        )
        return [LinkRow(debited_us, decode(Link, payload)) for debited_us, payload in found]

    def withdrawals(self, account: int, state: int, after: int, count: int) -> list[WithdrawalRow]:
        """Return at most `count` withdrawals above number `after`, by number; account or state 0: of all."""
        found = self._select(
            "SELECT withdrawal, account, asset, amount_units, destination, state, requested_n, requested_us, closed_us"
            " FROM withdrawals WHERE withdrawal > ? AND (? = 0 OR account = ?) AND (? = 0 OR state = ?)"
            " ORDER BY withdrawal LIMIT ?",
            after,
            account,
            account,
            state,
            state,
            count,
        )
        return [WithdrawalRow(*row) for row in found]

    # --- writing ----------------------------------------------------------------------------------------------------

    def settle(self, drafts: Sequence[tuple[int, Draft]]) -> None:
        """Write what frames change, all of it or nothing, in one transaction.

        Args:
            drafts: by shard, each shard once.

        Raises:
            DatabaseError: a cursor is not where a draft begins: somebody else settles the shard, or the database is an
                older copy. Nothing was written.
        """

        def settle_all() -> None:
            for shard, draft in drafts:
                self._settle_one(shard, draft)

        self._in_transaction(settle_all)

    def _settle_one(self, shard: int, draft: Draft) -> None:
        self._move_cursor(shard, draft)
        db = self._db
        if draft.units:
            self._write_balances(shard, draft.units)
        if draft.markets:
            db.executemany(
                "INSERT INTO markets (shard, market, base_asset, quote_asset, base_units_per_lot,"
                " quote_units_per_tick_lot) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (shard, market) DO NOTHING",
                [(shard, market, *units) for market, units in draft.markets.items()],
            )
        ends = [(shard, other, _DIRECTION_IN, last) for other, last in draft.links_in.items()]
        ends += [(shard, other, _DIRECTION_OUT, last) for other, last in draft.links_out.items()]
        if ends:
            db.executemany(
                "INSERT INTO link_ends (shard, other, direction, last_sequence) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (shard, other, direction) DO UPDATE SET last_sequence = excluded.last_sequence",
                ends,
            )
        if draft.sent:
            db.executemany(
                "INSERT INTO links (from_shard, to_shard, sequence, debited_us, payload) VALUES (?, ?, ?, ?, ?)",
                [
                    (shard, sent.to_shard, sent.sequence, sent.debited_us, encode(link_of(shard, sent)))
                    for sent in draft.sent.values()
                ],
            )
        answered = applied(draft.answers)
        if answered:
            db.executemany(
                "DELETE FROM links WHERE from_shard = ? AND to_shard = ? AND sequence = ?",
                [(answer.from_shard, shard, answer.sequence) for answer in answered],
            )
        for change in draft.withdrawals:
            self._change_withdrawal(shard, change)

    def _write_balances(self, shard: int, units: Mapping[Owner, int]) -> None:
        """Write rows with no statement of Python each: as many as go into full statements, and the others singly."""
        rows = zip(repeat(shard), *zip(*units, strict=True), map(str, units.values()), strict=False)
        values = list(chain.from_iterable(rows))
        rest = len(values) % (_BALANCES_AT_ONCE * _BALANCE_COLUMNS)
        full, rest_values = iter(values[: len(values) - rest]), iter(values[len(values) - rest :])
        self._db.executemany(_WRITE_BALANCES, zip(*[full] * (_BALANCES_AT_ONCE * _BALANCE_COLUMNS), strict=True))
        self._db.executemany(_WRITE_BALANCE, zip(*[rest_values] * _BALANCE_COLUMNS, strict=True))

    def _move_cursor(self, shard: int, draft: Draft) -> None:
        """Compare and set; the first frames of a shard have no row to compare with."""
        if draft.after_n == 0:
            moved = self._db.execute(
                "INSERT INTO cursors (shard, n, hash, t_us) VALUES (?, ?, ?, ?) ON CONFLICT (shard) DO NOTHING",
                (shard, draft.n, draft.chain_hash, draft.t_us),
            )
        else:
            moved = self._db.execute(
                "UPDATE cursors SET n = ?, hash = ?, t_us = ? WHERE shard = ? AND n = ? AND hash = ?",
                (draft.n, draft.chain_hash, draft.t_us, shard, draft.after_n, draft.after_hash),
            )
        if moved.rowcount != 1:
            found = self.cursors().get(shard)
            where = f"{found[0]} with hash {found[1].hex()}" if found else "at the beginning"
            raise DatabaseError(
                f"CURSOR_MOVED: {self.path}: the cursor of shard {shard} is {where}, frames {draft.after_n + 1} .. "
                f"{draft.n} follow {draft.after_n} with hash {draft.after_hash.hex()}: another settlement-plane "
                "settles the shard, or the file was replaced; stop the other one, then start again"
            )

    def _change_withdrawal(self, shard: int, change: Any) -> None:
        assert shard == CONTROL_SHARD, "withdrawals are of shard 0"
        if change.is_open:
            self._db.execute(
                "INSERT INTO withdrawals (withdrawal, account, asset, amount_units, destination, state, requested_n,"
                " requested_us, closed_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    change.withdrawal,
                    change.account,
                    change.asset,
                    change.amount_units,
                    change.destination,
                    WITHDRAWAL_OPEN,
                    change.n,
                    change.t_us,
                ),
            )
        else:
            state = WITHDRAWAL_PAID if change.paid else WITHDRAWAL_GIVEN_BACK
            self._db.execute(
                "UPDATE withdrawals SET state = ?, closed_us = ? WHERE withdrawal = ?",
                (state, change.t_us, change.withdrawal),
            )

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _select(self, query: str, *values: int) -> Iterable[Any]:
        return self._db.execute(query, values)

    def _claim(self, name: str, value: str) -> None:
        """Write what the database is for when it is new; refuse one that is for something else."""
        self._db.execute("INSERT INTO about (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, value))
        ((found,),) = self._db.execute("SELECT value FROM about WHERE name = ?", (name,))
        if found != value:
            raise DatabaseError(
                f"DATABASE: {self.path} has {name} {found!r}, this program runs {name} {value!r}; give --database the "
                "right file"
            )

    def _in_transaction(self, work: Callable[[], object]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            work()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def link_of(from_shard: int, sent: SentLink) -> Link:
    """Return the link that carries what a shard has debited; it has one body for ever."""
    return Link(from_shard, sent.to_shard, sent.sequence, sent.source_n, sent.transfers)


def applied(answers: Iterable[LinkAnswer]) -> list[LinkAnswer]:
    """Return the answers that say that the receiver has the link."""
    return [answer for answer in answers if not answer.reason]

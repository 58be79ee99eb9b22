"""A folder of prepared load: users, and payloads that are signed ahead and handed out once.

plan.json       what is in it; written last, so that a folder without it is not complete
users.json      private: accounts and the keys that sign for them
session.json    private: metadata of calls that need a session, as ghz takes it
stock/NAME.bin  requests, each after its length as a varint, as ghz and protobuf's own delimited readers take them
taken.json      how many messages of each stock were handed out
NAME.bin        those that were handed out last: what loadtest/ghz/NAME.toml sends

Payload files hold requests of signed batches and nothing else: who has them can send them, once, and sign nothing.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

FORMAT: Final = 1
SECRET_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
REMEDY: Final = "make a new folder with `clob loadtest prepare`"
_VARINT_BYTES_MAX: Final = 10
_T = TypeVar("_T")


class PreparedError(ValueError):
    """The folder cannot be used. The message has a stable reason, says what is wrong and what to do."""


class Stock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of payloads.

    Attributes:
        call: full name of the gRPC method that the messages are requests of.
        messages: in the file.
        batches_per_message, commands_per_batch: of each message; zero: the message has no batches.
        sha256: of the file, hex.
        reads: the call changes nothing and the one message may be sent again and again.
        session: the call needs the session.
    """

    call: str
    messages: int
    batches_per_message: int
    commands_per_batch: int
    sha256: str
    reads: bool = False
    session: bool = False


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a folder has.

    Attributes:
        environment: that everything is signed for.
        market, shard: that the orders are for.
        valid_until_ms: first moment at which no payload can be executed, in milliseconds since 1970-01-01 UTC.
        session_until_ms: first moment at which the session has ended.
        stocks: by name.
    """

    format: int
    environment: str
    market: int
    symbol: str
    shard: int
    valid_until_ms: int
    session_until_ms: int
    stocks: dict[str, Stock]


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user of the load, as users.json has it; the private key is the secret itself."""

    user: int
    account: int
    key_id: str
    private_key: str

    def __repr__(self) -> str:
        return f"User(user={self.user}, account={self.account}, key_id={self.key_id})"


class PreparedFolder:
    """A folder of prepared load.

    Attributes:
        root: the folder.
        session_file: metadata for calls that need a session.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plan_file = root / "plan.json"
        self.users_file = root / "users.json"
        self.session_file = root / "session.json"
        self.taken_file = root / "taken.json"
        self.stocks = root / "stock"

    # --- making -----------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            PreparedError: PREPARED_EXISTS, there is something: keys are never written over others.
        """
        try:
            self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            if any(self.root.iterdir()):
                raise PreparedError(
                    f"PREPARED_EXISTS: {self.root} is not empty, and keys are never written over others; name another "
                    "folder, or remove this one"
                )
            self.stocks.mkdir()
        except OSError as error:
            raise PreparedError(
                f"PREPARED_FOLDER: {self.root} cannot be made ({error.strerror}); name another folder"
            ) from None

    def write_users(self, users: list[User]) -> None:
        """Write the users with their private keys, readable to the owner alone."""
        _write_secret(self.users_file, msgspec.json.format(msgspec.json.encode(users)) + b"\n")

    def write_session(self, token: str) -> None:
        """Write the metadata of a session, readable to the owner alone."""
        _write_secret(self.session_file, msgspec.json.encode({"authorization": f"Bearer {token}"}) + b"\n")

    def write_stock(
        self,
        name: str,
        call: str,
        messages: Iterator[bytes],
        *,
        batches_per_message: int = 0,
        commands_per_batch: int = 0,
        session: bool = False,
    ) -> Stock:
        """Write requests, each after its length; return what the plan says of them."""
        digest, count = hashlib.sha256(), 0
        with self.stock_file(name).open("xb") as file:
            for message in messages:
                part = delimited(message)
                file.write(part)
                digest.update(part)
                count += 1
        reads = not batches_per_message
        stock = Stock(call, count, batches_per_message, commands_per_batch, digest.hexdigest(), reads, session)
        if reads:
            self.part_file(name).write_bytes(self.stock_file(name).read_bytes())
        return stock

    def write_plan(self, plan: Plan) -> None:
        """Write the plan, after everything else."""
        self.plan_file.write_bytes(msgspec.json.format(msgspec.json.encode(plan)) + b"\n")

    # --- using ------------------------------------------------------------------------------------------------------

    def stock_file(self, name: str) -> Path:
        """Return the file of all messages of a name."""
        return self.stocks / f"{name}.bin"

    def part_file(self, name: str) -> Path:
        """Return the file of the messages of a name that were handed out last."""
        return self.root / f"{name}.bin"

    def plan(self) -> Plan:
        """Return what the folder has.

        Raises:
            PreparedError: PREPARED_MISSING or PREPARED_FORMAT.
        """
        try:
            plan = msgspec.json.decode(self.plan_file.read_bytes(), type=Plan)
        except OSError:
            raise PreparedError(
                f"PREPARED_MISSING: {self.root} has no plan.json: it is no folder of prepared load, or was not made to "
                f"its end; {REMEDY}"
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PreparedError(f"PREPARED_FORMAT: {self.plan_file}: {error}; {REMEDY}") from None
        if plan.format != FORMAT:
            raise PreparedError(
                f"PREPARED_FORMAT: {self.plan_file} has format {plan.format}, and this clob reads {FORMAT}; {REMEDY}"
            )
        return plan

    def users(self) -> list[User]:
        """Return the users with their private keys."""
        return msgspec.json.decode(self.users_file.read_bytes(), type=list[User])

    def taken(self) -> dict[str, int]:
        """Return how many messages of each stock were handed out."""
        return _json(self.taken_file, dict[str, int]) if self.taken_file.exists() else {}

    def check(self, environment: str, now_ms: int, name: str, calls: int) -> Stock:
        """Return the stock of a name of which so many messages can be sent to an environment now.

        Raises:
            PreparedError: PREPARED_MISSING, PREPARED_FORMAT, PREPARED_NAME, PREPARED_ENVIRONMENT, PREPARED_EXPIRED or
                PREPARED_EXHAUSTED. Nothing was handed out.
        """
        plan = self.plan()
        stock = plan.stocks.get(name)
        if stock is None:
            raise PreparedError(
                f"PREPARED_NAME: {self.root} has no payloads named {name!r}; it has {', '.join(sorted(plan.stocks))}"
            )
        if environment != plan.environment:
            raise PreparedError(
                f"PREPARED_ENVIRONMENT: {self.root} is signed for environment {plan.environment!r} and "
                f"{environment!r} answers, which would refuse it all; name the right --address, or prepare for this one"
            )
        # A book can be read for ever.
        ends = ([] if stock.reads else [("payloads", plan.valid_until_ms)]) + (
            [("session", plan.session_until_ms)] if stock.session else []
        )
        for what, ends_ms in ends:
            if now_ms >= ends_ms:
                raise PreparedError(
                    f"PREPARED_EXPIRED: the {what} of {self.root} ended {(now_ms - ends_ms) // 1000:,} s ago; {REMEDY}"
                )
        left = stock.messages - self.taken().get(name, 0)
        if not stock.reads and calls > left:
            raise PreparedError(
                f"PREPARED_EXHAUSTED: {calls:,} messages of {name} are wanted and {left:,} of {stock.messages:,} were "
                f"not handed out yet; a nonce is good for one call: ask for fewer --calls, or {REMEDY}"
            )
        return stock

    def take(self, environment: str, now_ms: int, name: str, calls: int) -> Path:
        """Hand out messages that nobody got before; return the file that has them, `part_file(name)`.

        Raises:
            PreparedError: as `check`, or PREPARED_DAMAGED; nothing was handed out.
        """
        assert calls > 0
        self.plan()
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stock = self.check(environment, now_ms, name, calls)
            if stock.reads:
                return self.part_file(name)
            data = self.stock_file(name).read_bytes()
            if hashlib.sha256(data).hexdigest() != stock.sha256:
                raise PreparedError(f"PREPARED_DAMAGED: {self.stock_file(name)} is not what was written; {REMEDY}")
            taken = self.taken()
            first = taken.get(name, 0)
            bounds = list(_bounds(data))
            part = data[bounds[first][0] : bounds[first + calls - 1][2]]
            # First that they are taken, then they themselves: what a crash between the two loses is not sent twice.
            _replace(self.taken_file, msgspec.json.encode({**taken, name: first + calls}))
            _replace(self.part_file(name), part)
        return self.part_file(name)


# --- delimited messages ---------------------------------------------------------------------------------------------


def delimited(message: bytes) -> bytes:
    """Return a message after its length as a varint."""
    size, prefix = len(message), bytearray()
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + message


def read_delimited(data: bytes) -> Iterator[bytes]:
    """Yield the messages of a file.

    Raises:
        PreparedError: PREPARED_DAMAGED, it ends within a message.
    """
    for _, start, end in _bounds(data):
        yield data[start:end]


def _bounds(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield, for each message, where its length begins, where itself, and where it ends."""
    at = 0
    while at < len(data):
        first, size = at, 0
        for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
            if at >= len(data):
                raise PreparedError(f"PREPARED_DAMAGED: the file ends within a length, at byte {at:,}; {REMEDY}")
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        if at + size > len(data):
            raise PreparedError(f"PREPARED_DAMAGED: the file ends within the message at byte {first:,}; {REMEDY}")
        yield first, at, at + size
        at += size


# --- files ----------------------------------------------------------------------------------------------------------


def now_ms() -> int:
    """Return the time of this machine, in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def _json(path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PreparedError(f"PREPARED_FORMAT: {path}: {error}; {REMEDY}") from None


def _write_secret(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE), "wb") as file:
        file.write(content)


def _replace(path: Path, content: bytes) -> None:
    made = path.with_suffix(".new")
    made.write_bytes(content)
    made.replace(path)

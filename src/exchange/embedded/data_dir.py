"""The data folder of an embedded exchange: environment, keys, and where each service keeps its things.

environment.json      name, production, durability, settings, operators' public keys, starting funds
keys/                 private: treasury.key, market.key, bus.keys, session.secret; offline/recovery.key
bus/                  the bus server's files
checkpoints/          written by settlement-plane, read by all
settlement/           database and archive
logs/                 one file a process
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from exchange.config.environment import Durability, Environment
from exchange.domain.markets import ShardSettings
from exchange.domain.operations import OperatorRole
from exchange.domain.signing import format_private_key
from exchange.reference.signing import public_key_of

BUS_KEY_NAMES: Final = ("ingress", "matcher", "settlement")
"""Whoever writes entries has a bus key of its own."""


class DataDirError(ValueError):
    """The folder cannot be used. The message says why and what to do."""


class DataDir:
    """A data folder that exists and is complete."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.environment_file = self.root / "environment.json"
        self.keys = self.root / "keys"
        self.bus_keys = self.keys / "bus.keys"
        self.session_secret = self.keys / "session.secret"
        self.admin_tokens = self.keys / "tokens.json"
        self.bus = self.root / "bus"
        self.checkpoints = self.root / "checkpoints"
        self.database = self.root / "settlement" / "settlement.db"
        self.archive = self.root / "settlement" / "archive"
        self.logs = self.root / "logs"

    @property
    def environment(self) -> Environment:
        """The environment, read from its file."""
        return Environment.load(self.environment_file)

    def bus_key_file(self, name: str) -> Path:
        """Return the file that holds one bus key alone: an ingress has its own and nobody else's."""
        return self.keys / f"bus-{name}.key"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second exchange out of the folder.

        Raises:
            DataDirError: another one runs in it.
        """
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataDirError(
                    f"DATA_DIR_IN_USE: another exchange runs in {self.root}; stop it, or name another --data-dir"
                ) from None
            yield


def open_data_dir(
    root: Path,
    *,
    environment: str,
    durability: Durability,
    production: bool = False,
    starting_funds: dict[str, int] | None = None,
    settings: ShardSettings | None = None,
) -> DataDir:
    """Return the data folder, made and filled if it is new.

    Args:
        root: the folder.
        environment: name for a new one; one that exists must have it.
        durability: of a new one; of one that exists it must be the same.
        production: of a new one.
        starting_funds: of a new one.
        settings: of a new one's shards, which one that exists must have too; None: the default, or what it has.

    Raises:
        DataDirError: what exists has another name, durability or settings.
    """
    data = DataDir(root)
    for folder in (data.root, data.bus, data.checkpoints, data.archive, data.logs):
        folder.mkdir(parents=True, exist_ok=True)
    if not data.environment_file.exists():
        operators = _make_keys(data)
        made = Environment(environment, operators, production, durability, starting_funds=starting_funds or {})
        if settings is not None:
            made = Environment(environment, operators, production, durability, settings, starting_funds or {})
        made.check()
        made.save(data.environment_file)
    found = data.environment
    if (found.name, found.durability) != (environment, durability):
        raise DataDirError(
            f"DATA_DIR_ENVIRONMENT: {data.root} is of environment {found.name} with durability {found.durability}, not "
            f"{environment} with {durability}; name another --data-dir, or ask for what it is"
        )
    if settings is not None and found.settings != settings:
        raise DataDirError(
            f"DATA_DIR_SETTINGS: the shards of {data.root} start with {found.settings}, not with {settings}, and what "
            "a shard starts with never changes; name another --data-dir"
        )
    return data


def _make_keys(data: DataDir) -> dict[str, str]:
    """Write fresh keys; return the operators' public keys, hex, by role."""
    (data.keys / "offline").mkdir(parents=True, mode=0o700, exist_ok=True)
    data.keys.chmod(0o700)
    operators = {}
    for role in OperatorRole:
        seed, name = secrets.token_bytes(32), role.name.lower()
        # The recovery key belongs offline; here it is only kept apart.
        folder = data.keys / "offline" if role is OperatorRole.RECOVERY else data.keys
        write_secret(folder / f"{name}.key", format_private_key(seed) + "\n")
        operators[name] = public_key_of(seed).hex()
    lines = {name: f"{name} {secrets.token_hex(32)}\n" for name in BUS_KEY_NAMES}
    write_secret(data.bus_keys, "".join(lines.values()))
    for name, line in lines.items():
        write_secret(data.bus_key_file(name), line)
    write_secret(data.session_secret, secrets.token_hex(32) + "\n")
    return operators


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it must not exist."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)

"""The environment: what all processes of one exchange must agree on, in one file that holds no secret.

Its name is part of everything that is signed, and its settings are hashed into the genesis of every shard: a process
with another file has another genesis hash, and the bus does not let it write.
"""

from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from exchange.domain.frames import FORMAT
from exchange.domain.markets import DEFAULT_SETTINGS, ShardSettings, settings_are_valid
from exchange.domain.operations import OperatorRole
from exchange.domain.signing import check_environment
from exchange.domain.state import Genesis, OperatorKey
from exchange.domain.units import AMOUNT_UNITS_MAX, CONTROL_SHARD
from exchange.wire.hashing import genesis_hash
from exchange.wire.messages import encode

RULES: Final = 1
"""Version of the rules that a new environment starts with."""
LOAD_TEST_SETTINGS: Final = ShardSettings(
    max_validity_ms=3_600_000, live_nonces_per_key_max=1_048_576, open_orders_per_account_max=1_000_000
)
"""What load tests need: batches that are signed ahead must stay valid, and be remembered, through the whole run."""


class EnvironmentFileError(ValueError):
    """The file does not describe an environment. The message names the file, the field and what it must be."""


class Durability(StrEnum):
    """What an answer survives (Durability in outcome.proto, whose numbers `number` gives)."""

    MEMORY = "memory"
    """The exchange's own processes."""
    FSYNC = "fsync"
    """Also the process and the host of the bus, with its disk."""

    @property
    def number(self) -> int:
        """Number of the value in the contracts."""
        return list(Durability).index(self) + 1


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An environment, as `environment.json` has it.

    Attributes:
        name: [a-z0-9-]{1,32}, part of every signed byte string.
        operators: public keys, hex, by role in lower case.
        production: no starting funds, and nobody may ask for them.
        durability: what answers stand for.
        settings: that every shard starts with.
        starting_funds: units by symbol of an asset, given to every new user in each trading shard; none in production.
    """

    name: str
    operators: dict[str, str]
    production: bool = False
    durability: Durability = Durability.MEMORY
    settings: ShardSettings = DEFAULT_SETTINGS
    starting_funds: dict[str, int] = {}

    @staticmethod
    def load(path: Path) -> "Environment":
        """Return the environment that a file describes.

        Raises:
            EnvironmentFileError: the file cannot be read, or says something that an environment cannot be.
        """
        try:
            environment = msgspec.json.decode(path.read_bytes(), type=Environment)
            environment.check()
        except (OSError, ValueError) as error:
            raise EnvironmentFileError(f"ENVIRONMENT_FILE: {path}: {error}") from error
        return environment

    def check(self) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: a field is out of bounds; the message says which.
        """
        check_environment(self.name)
        if not settings_are_valid(self.settings):
            raise ValueError(f"settings: {self.settings} exceed the bounds of ShardSettings in market.proto")
        roles = {role.name.lower() for role in OperatorRole}
        if set(self.operators) != roles:
            raise ValueError(f"operators: has {sorted(self.operators)}, needs the public keys of {sorted(roles)}")
        for role, key in self.operators.items():
            if len(key) != 64 or bytes.fromhex(key).hex() != key:
                raise ValueError(f"operators.{role}: a public key is 64 lowercase hex digits")
        if self.production and self.starting_funds:
            raise ValueError("starting_funds: a production environment has none; leave it out")
        if any(not 0 < units <= AMOUNT_UNITS_MAX for units in self.starting_funds.values()):
            raise ValueError(f"starting_funds: amounts are 1 .. {AMOUNT_UNITS_MAX}")

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")

    def genesis(self, shard: int) -> bytes:
        """Return the encoded Genesis of a shard, 0 .. 4095."""
        assert shard >= CONTROL_SHARD
        operators = tuple(OperatorKey(role, bytes.fromhex(self.operators[role.name.lower()])) for role in OperatorRole)
        return encode(Genesis(FORMAT, self.name, shard, RULES, self.settings, operators))

    def genesis_hash(self, shard: int) -> bytes:
        """Return the chain hash that a shard starts from; 32 bytes."""
        return genesis_hash(self.name, shard, self.genesis(shard))

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

"""Settings of the settlement plane."""

from pathlib import Path
from typing import ClassVar

from exchange.bus.entries import Limits
from exchange.config.environment import Durability
from exchange.config.service import ServiceSettings
from exchange.config.settings import setting
from exchange.domain.units import SHARD_MAX
from exchange.engine.choice import DEFAULT_ENGINE
from exchange.settlement.checkpointing import CheckpointPolicy
from exchange.settlement.settler import SettlerSettings

_MIB = 1024 * 1024
_LIMITS = Limits()
_POLICY = CheckpointPolicy()
MEMORY_RETENTION_HOURS = 25


class PlaneSettings(ServiceSettings):
    """What settlement-plane is told."""

    COMMAND: ClassVar[str] = "settlement-plane"

    operator_keys: Path = setting(..., "Folder with treasury.key and market.key.")
    database: Path = setting(..., "SQLite file of the settlement database; made if it is not there.")
    archive: Path = setting(..., "Folder of the archive of both streams.")
    shards: int = setting(2, "Trading shards that the shard map has at least, numbered from 1.", low=0, high=SHARD_MAX)
    engine: str = setting(DEFAULT_ENGINE, "Engine that re-executes trading shards.")
    verify_one_in: int = setting(
        64, "One executed batch in so many has its signature verified again; 0: none.", low=0, high=1_000_000
    )
    settle_interval_ms: int = setting(
        10, "Least time between transactions while there is work, in milliseconds.", low=0, high=10_000
    )
    tail_entries: int = setting(
        1_024,
        "Settled entries that stay on the bus for readers, per shard, up to a quarter of --mib-untrimmed-max.",
        low=0,
        high=1_000_000,
    )
    checkpoint_entries: int = setting(_POLICY.entries, "Entries of a shard after which it gets a checkpoint.", low=1)
    checkpoint_mib: int = setting(
        _POLICY.stream_bytes // _MIB, "MiB of both streams of a shard after which it gets a checkpoint.", low=1
    )
    checkpoint_seconds: int = setting(
        _POLICY.seconds, "Seconds after which a shard that had an entry gets a checkpoint.", low=1
    )
    archive_retention_hours: int | None = setting(
        None,
        "Hours that the archive keeps entries of trading shards, 0: for ever; else 25 in durability memory, for ever "
        "in fsync. Shard 0 is kept for ever.",
        low=0,
    )
    approval_wait_ms: int = setting(
        2_500,
        "Time that processes have to register again after the bus was started again, in milliseconds.",
        low=0,
        high=600_000,
    )
    commands_unprocessed_max: int = setting(
        _LIMITS.commands_unprocessed_max, "Most commands of a shard that wait to be executed.", low=1
    )
    mib_unprocessed_max: int = setting(
        _LIMITS.bytes_unprocessed_max // _MIB, "Most MiB of a shard that wait to be executed.", low=1
    )
    mib_untrimmed_max: int = setting(
        _LIMITS.bytes_untrimmed_max // _MIB, "Most MiB of both streams of a shard on the bus.", low=1
    )
    frames_per_second_max: int = setting(
        _LIMITS.frames_per_second_max, "Frames a second of a shard near which ingresses gather longer.", low=1
    )

    def limits(self) -> Limits:
        """Return how much of a shard may be on the bus."""
        return Limits(
            self.commands_unprocessed_max,
            self.mib_unprocessed_max * _MIB,
            self.mib_untrimmed_max * _MIB,
            self.frames_per_second_max,
        )

    def settler(self, durability: Durability) -> SettlerSettings:
        """Return what the settler is told."""
        hours = self.archive_retention_hours
        if hours is None:
            hours = MEMORY_RETENTION_HOURS if durability is Durability.MEMORY else 0
        return SettlerSettings(
            verify_one_in=self.verify_one_in,
            interval_s=self.settle_interval_ms / 1000,
            tail_entries=self.tail_entries,
            # Tail and what is behind a checkpoint leave half of what ingest lets the streams have to new entries.
            tail_bytes=self.mib_untrimmed_max * _MIB // 4,
            archive_retention_s=hours * 3_600,
            checkpoints=CheckpointPolicy(
                self.checkpoint_entries,
                min(self.checkpoint_mib * _MIB, self.mib_untrimmed_max * _MIB // 4),
                self.checkpoint_seconds,
            ),
        )

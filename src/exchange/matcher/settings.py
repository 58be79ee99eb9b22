"""Settings of market-matcher."""

from typing import ClassVar

from exchange.config.service import ServiceSettings
from exchange.config.settings import setting
from exchange.engine.choice import DEFAULT_ENGINE


class MatcherSettings(ServiceSettings):
    """What a market-matcher is told, beside its markets."""

    COMMAND: ClassVar[str] = "market-matcher"

    shard: int | None = setting(None, "Shard to serve, instead of naming its markets.", low=1, high=4095)
    engine: str = setting(DEFAULT_ENGINE, "Engine that executes the shard.")

"""Which folds of a trading shard there are, by the name of the engine that comes with each. They say the same."""

from exchange.engine.choice import DEFAULT_ENGINE, ENGINES
from exchange.engine.reference import ReferenceFactory
from exchange.marketdata.fold import ShardFold

FOLDS: dict[str, type[ShardFold]] = {ReferenceFactory.name: ShardFold}

if "core" in ENGINES:
    from exchange.marketdata.core_fold import CoreShardFold

    FOLDS["core"] = CoreShardFold

DEFAULT_FOLD = FOLDS[DEFAULT_ENGINE]

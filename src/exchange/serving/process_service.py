"""ProcessService: what a process tells the other processes about itself."""

from collections.abc import Callable, Iterable
from typing import Any

from clob.v1 import admin_service_pb2, process_service_pb2, process_service_pb2_grpc
from exchange.bus.registry import ProcessRecord
from exchange.config.settings import Settings, settings_with_origins
from exchange.domain.units import SHARD_MAX
from exchange.serving.bounds import Bounds, check_bounds

Evidence = Callable[[], Iterable[process_service_pb2.ShardEvidence]]


def process_message(record: ProcessRecord) -> admin_service_pb2.Process:
    """Return a registry's record as the contracts have it; a state that we do not know is not told."""
    name = f"PROCESS_STATE_{record.state}"
    known = admin_service_pb2.ProcessState.keys()
    return admin_service_pb2.Process(
        kind=record.kind,
        address=record.address,
        state=admin_service_pb2.ProcessState.Value(name) if name in known else 0,  # type: ignore[arg-type]
        shards=sorted(record.shards),
        pid=record.pid,
        started_us=record.started_us,
        seen_us=record.seen_us,
        version=record.version,
        message=record.message,
    )


def setting_messages(settings: Settings) -> list[admin_service_pb2.Setting]:
    """Return settings as the contracts have them, by name; secrets without their value."""
    return [
        admin_service_pb2.Setting(name=row.name, value=row.value, origin=row.origin, secret=row.secret)
        for row in settings_with_origins(settings)
    ]


class ProcessServicer(process_service_pb2_grpc.ProcessServiceServicer):
    """Answers for one process.

    Args:
        record: returns its record in the registry, as of now.
        settings: of the process.
        evidence: returns what it knows of the logs.
    """

    def __init__(self, record: Callable[[], ProcessRecord], settings: Settings, evidence: Evidence) -> None:
        self._record = record
        self._settings = settings
        self._evidence = evidence

    async def GetProcess(  # noqa: N802 - named by the contract
        self, request: process_service_pb2.GetProcessRequest, context: Any
    ) -> process_service_pb2.GetProcessResponse:
        """Return how the process is doing and how it is set up."""
        return process_service_pb2.GetProcessResponse(
            process=process_message(self._record()), settings=setting_messages(self._settings)
        )

    async def GetEvidence(  # noqa: N802
        self, request: process_service_pb2.GetEvidenceRequest, context: Any
    ) -> process_service_pb2.GetEvidenceResponse:
        """Return what the process knows of the logs of the shards that are asked for."""
        check_bounds(request, {"shards": Bounds(0, SHARD_MAX + 1, each=Bounds(0, SHARD_MAX), unique=True)})
        asked = set(request.shards)
        found = {item.shard: item for item in self._evidence() if not asked or item.shard in asked}
        return process_service_pb2.GetEvidenceResponse(shards=[found[shard] for shard in sorted(found)])

"""A service for the tests of `serving`: it does what the environment in a VerifyRequest says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import click

from clob.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    verification_service_pb2,
    verification_service_pb2_grpc,
)
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.position_pb2 import Cursor, ShardPosition
from clob.v1.process_service_pb2 import ShardEvidence
from exchange.config.service import ServiceSettings
from exchange.config.settings import setting, with_settings
from exchange.config.values import Endpoint
from exchange.serving.bounds import Bounds, check_bounds
from exchange.serving.callers import caller_of
from exchange.serving.errors import refused
from exchange.serving.process import Runtime, Service, run_service


class SampleSettings(ServiceSettings):
    COMMAND = "market-data"

    listen_public: Endpoint = setting(Endpoint("127.0.0.1", 0), "Another port.")
    drain_waits: bool = setting(False, "Never end draining.")
    colour: str = setting("green", "Something secret.", secret=True)


class Verification(verification_service_pb2_grpc.VerificationServiceServicer):
    async def Verify(  # noqa: N802 - named by the contract
        self, request: Any, context: Any
    ) -> verification_service_pb2.VerifyResponse:
        check_bounds(request, {"environment": Bounds(1, 32, or_zero=True), "batches": Bounds(0, 2)})
        match request.environment:
            case "refuse":
                raise refused(DoorReason.DOOR_REASON_TOO_FAST, "slowly", retry_after_ms=1500)
            case "crash":
                raise RuntimeError("a mistake of ours with clobsk_" + "ab" * 32)
            case "wait":
                await asyncio.sleep(60)
            case "caller":
                caller = caller_of(context)
                name = caller.certificate.common_name if caller.certificate else ""
                verdict = verification_service_pb2.Verdict(detail=f"{caller.host} {caller.is_tls} {name}")
                return verification_service_pb2.VerifyResponse(verdicts=[verdict])
            case "headers":
                seen = sorted(f"{key}={value}" for key, value in context.invocation_metadata() if "clob" in key)
                return verification_service_pb2.VerifyResponse(
                    verdicts=[verification_service_pb2.Verdict(detail=" ".join(seen))]
                )
        return verification_service_pb2.VerifyResponse(control_n=7)


class Account(account_service_pb2_grpc.AccountServiceServicer):
    async def StreamExecutions(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        for n in range(1, 4):
            yield account_service_pb2.StreamExecutionsResponse(cursor=Cursor(shard=1, n=n))
        if request.account == 13:
            raise refused(DoorReason.DOOR_REASON_CURSOR_AHEAD, "the cursor is ahead of the log")
        if request.account != 1:
            await asyncio.sleep(60)


class Sample(Service):
    def __init__(self, runtime: Runtime[SampleSettings]) -> None:
        self._runtime = runtime

    async def start(self) -> None:
        self._runtime.set_shards([3, 1])
        self._runtime.evidence = lambda: (
            ShardEvidence(shard=3, ingested_n=9),
            ShardEvidence(shard=1, executed=ShardPosition(shard=1, n=4)),
        )

    async def drain(self) -> None:
        if self._runtime.settings.drain_waits:
            await asyncio.Event().wait()


async def build(runtime: Runtime[SampleSettings]) -> Sample:
    public = runtime.add_port("public", runtime.settings.listen_public)
    for port in (runtime.own, public):
        port.add(verification_service_pb2_grpc.add_VerificationServiceServicer_to_server, Verification())
        port.add(account_service_pb2_grpc.add_AccountServiceServicer_to_server, Account())
    return Sample(runtime)


@click.command()
@with_settings(SampleSettings)
def main(settings: SampleSettings) -> None:
    run_service("market-data", settings, build)


if __name__ == "__main__":
    main()

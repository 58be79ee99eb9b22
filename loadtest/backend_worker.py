"""A worker of ingress-verifier whose traders' port a gRPC server of choice answers, for `loadtest.bench_backend`.

    python -m loadtest.backend_worker BACKEND ARGUMENTS-OF-A-WORKER

Guard, servicers and everything else of the worker are those of the exchange. Only the measurement starts it: what
pygrpc-native does not bound, nothing here does.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any, Final

from grpc_health.v1 import health_pb2_grpc

from exchange.ingress import child
from exchange.serving import process
from exchange.serving.ports import SERVER_OPTIONS, Port

NATIVE: Final = "pygrpc-native"
UNSUPPORTED: Final = ("grpc.max_connection_idle_ms",)
"""Options that pygrpc-native refuses; it refuses maximum_concurrent_rpcs, too."""


class DirectPort(Port):
    """grpcio listens itself: no relay before it, no HTTP/1.1, no count of connections."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{**named, "direct": True})


class NativePort(DirectPort):
    """pygrpc-native listens itself.

    It cannot stand behind the relay: it gives connections on a Unix socket names of its own, and nobody would know who
    calls. Methods with a stream of requests go to a grpcio server behind it, which knows no caller either, so that the
    guard refuses them.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # `from pygrpc_native import aio`, in 0.5.0, recurses until Python stops it.
        native = importlib.import_module("pygrpc_native.aio")
        options = [(name, value) for name, value in SERVER_OPTIONS.items() if name not in UNSUPPORTED]
        self._server = native.server(interceptors=[self.guard], options=[*options, ("grpc.so_reuseport", 1)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def add_handler(self, service: str, handlers: Mapping[str, Any]) -> "NativePort":
        """Serve methods, and by the names that pygrpc-native looks for: it leaves generic handlers to grpcio."""
        self._server.add_registered_method_handlers(service, dict(handlers))
        super().add_handler(service, handlers)
        return self


BACKENDS: Final[Mapping[str, type[Port]]] = {"grpcio": Port, "grpcio-direct": DirectPort, NATIVE: NativePort}


def main() -> None:
    """Run a worker with a backend."""
    kind = BACKENDS[sys.argv.pop(1)]

    def port_of(name: str, *arguments: Any, **named: Any) -> Port:
        return (kind if name == "traders" else Port)(name, *arguments, **named)

    vars(process)["Port"] = port_of
    sys.argv[1:1] = ["worker"]
    child.main()


if __name__ == "__main__":
    main()

"""Metrics of a process, for Prometheus. Labels are bounded: none names an order or an account."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What every process counts; services add their own to `registry`."""

    def __init__(self, kind: str, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        info = Gauge("clob_process", "1, with kind and version.", ["kind", "version"], registry=self.registry)
        info.labels(kind, version).set(1)
        self.serving = Gauge("clob_serving", "1: it serves; 0: it does not.", registry=self.registry)
        self.calls = Counter(
            "clob_calls", "Calls that ended, by method, gRPC code and reason.", ["method", "code", "reason"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "clob_call_seconds", "Time of calls, streams left out.", ["method"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.calls_open = Gauge("clob_calls_open", "Calls and streams that are open.", registry=self.registry)
        self.connections = Gauge("clob_connections", "Open connections, by port.", ["port"], registry=self.registry)
        self.refused = Gauge(
            "clob_connections_refused", "Connections that were one too many, by port.", ["port"],
            registry=self.registry,
        )  # fmt: skip
        self.loop_lag = Gauge(
            "clob_loop_lag_seconds", "How late the event loop ran its last heartbeat.", registry=self.registry
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

"""Settings that every service has."""

from enum import StrEnum
from pathlib import Path

from exchange.config.settings import Settings, setting
from exchange.config.values import Endpoint, RedisAddress


class LogLevel(StrEnum):
    """Least important lines that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ClientAuth(StrEnum):
    """Whether clients show a certificate. Without a list of issuers (--tls-client-ca) none is asked for."""

    OPTIONAL = "optional"
    REQUIRED = "required"


class ServiceSettings(Settings):
    """What all services are told."""

    redis_addr: RedisAddress = setting(
        RedisAddress.parse("redis://127.0.0.1:6379"),
        "Redis or Valkey that carries the streams: URL or host:port.",
        env="REDIS_ADDR",
    )
    environment_file: Path = setting(..., "File that describes the environment.")
    checkpoints: Path = setting(..., "Folder of the shards' checkpoints, shared by all services.")
    bus_keys: Path = setting(..., "File with the keys that entries of the bus are sealed with: lines of name and hex.")
    bus_key_name: str = setting(..., "Which of them this process seals with.")
    listen: Endpoint = setting(
        Endpoint("127.0.0.1", 0), "Where this process' own health and admin port is; port 0: a free one."
    )
    advertise: Endpoint | None = setting(
        None, "Address by which other machines reach that port, where it is not the one listened on; port 0: the same."
    )
    log_level: LogLevel = setting(LogLevel.INFO, "Least important lines that are logged.")
    tls_cert: Path | None = setting(None, "PEM chain that ports show, the port's own certificate first.")
    tls_key: Path | None = setting(None, "PEM file with its private key, unencrypted.")
    tls_client_ca: Path | None = setting(None, "PEM file with the issuers of clients' certificates.")
    tls_client_auth: ClientAuth = setting(ClientAuth.OPTIONAL, "Whether clients must show a certificate.")
    insecure: bool = setting(False, "Listen beyond loopback without TLS.")
    internal_token_file: Path | None = setting(
        None, "File with the secret that processes on different machines know one another by; at least 32 characters."
    )
    internal_ca: Path | None = setting(
        None, "PEM file with the issuers of other processes' certificates; else --tls-cert itself is trusted."
    )
    drain_ms_max: int = setting(20_000, "Longest time that ending takes, in milliseconds.", low=100, high=600_000)
    connections_max: int = setting(4_096, "Most connections per port.", low=1, high=1_000_000)
    connections_per_host_max: int = setting(
        256, "Most connections per port from one address; loopback is not counted.", low=1, high=1_000_000
    )
    calls_max: int = setting(4_096, "Most calls and streams at once per port.", low=1, high=1_000_000)
    calls_per_host_max: int = setting(
        512, "Most calls and streams at once from one address; loopback is not counted.", low=1, high=1_000_000
    )

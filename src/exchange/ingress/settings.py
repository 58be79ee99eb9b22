"""Settings of ingress-verifier."""

from pathlib import Path
from typing import ClassVar, Final

from exchange.config.service import ServiceSettings
from exchange.config.settings import setting
from exchange.config.values import Endpoint

SECRET_BYTES_MIN: Final = 32


class IngressSettings(ServiceSettings):
    """What ingress-verifier is told. Rates are of each worker process."""

    COMMAND: ClassVar[str] = "ingress-verifier"

    workers: int = setting(1, "Processes that verify signatures and speak with traders.", low=1, high=256)
    listen_traders: Endpoint = setting("127.0.0.1:8080", "Where traders connect.")
    listen_admin: Endpoint = setting("127.0.0.1:9090", "Where operators connect, with gRPC or HTTP.")
    session_secret: Path | None = setting(
        None, "File with the secret that sessions are made with; the same for all ingresses."
    )
    address_per_second: int = setting(
        20_000, "Batches and calls per second from one address; 0: no limit.", low=0, high=100_000_000
    )
    address_burst: int = setting(40_000, "How many of them at once.", low=4_097, high=100_000_000)
    key_per_second: int = setting(10_000, "Batches per second under one key; 0: no limit.", low=0, high=100_000_000)
    key_burst: int = setting(20_000, "How many of them at once.", low=1, high=100_000_000)
    session_per_second: int = setting(500, "Private reads per second of one user; 0: no limit.", low=0, high=1_000_000)
    session_burst: int = setting(1_000, "How many of them at once.", low=1, high=1_000_000)
    commands_under_way_max: int = setting(
        65_536, "Commands that a worker has handed on and has no answer to, at most.", low=4_096, high=10_000_000
    )
    stream_messages_max: int = setting(
        256, "Messages of one SubmitStream that are not answered, at most; then it is not read on.", low=1, high=65_536
    )
    child_framer: Path | None = setting(None, "Socket of the framer, for a worker.", hidden=True)
    child_number: int = setting(0, "Number of a child.", hidden=True)
    admin_tokens: Path | None = setting(None, "File with the hashes of operators' tokens, written by `clob token`.")
    admin_loopback_trusted: bool = setting(True, "Operators on this machine need no token.")
    admin_hosts: tuple[str, ...] = setting((), "Names that a Host header may have, besides localhost and addresses.")
    admin_origins: tuple[str, ...] = setting((), "Origins whose pages may call, such as https://console.example.")
    admin_calls_per_second: int = setting(
        2_000, "Calls per second of one operator; 0: no limit.", low=0, high=1_000_000
    )
    admin_calls_burst: int = setting(4_000, "How many of them at once.", low=1, high=1_000_000)
    admin_body_bytes_max: int = setting(
        32 * 1024 * 1024, "Largest body of an HTTP request of operators, in bytes.", low=1_024, high=1 << 30
    )

    def read_session_secret(self) -> bytes | None:
        """Return the secret of sessions; None: no file is named.

        Raises:
            ValueError: the file has less than 32 bytes of secret. None of it is in the message.
            OSError: the file cannot be read.
        """
        if self.session_secret is None:
            return None
        secret = self.session_secret.read_bytes().strip()
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(
                f"SESSION_SECRET: {self.session_secret} has {len(secret)} bytes and needs {SECRET_BYTES_MIN}; "
                "make one with `openssl rand -hex 32`"
            )
        return secret

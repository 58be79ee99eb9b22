"""Logs: lines of JSON on standard error, never one per order, never a secret."""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from aiohttp.http_exceptions import HttpProcessingError
from pythonjsonlogger.json import JsonFormatter

# What must not be there in the first place. This is the net below: private keys, operators' tokens, passwords in URLs,
# bearer tokens. A password may have / and @ in it, and \" in a line of JSON. One in a query goes first: an @ in it
# would look like the end of a login.
_SECRETS: Final = (
    (re.compile(r"(clob[st]k_)[0-9a-fA-F]+"), r"\1***"),
    (re.compile(r"""(?i)([?&]password=)(?:\\.|[^\s"\\&])+"""), r"\1***"),
    (re.compile(r"""(\w://[^/\s:@]*):(?:\\.|[^\s"\\])+@"""), r"\1:***@"),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]+"), r"\1***"),
)


def without_secrets(text: str) -> str:
    """Return a text in which what looks like a secret is replaced by ***."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether a record is about us. aiohttp writes an error for every request that is no HTTP: a scanner's."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class LineFormatter(JsonFormatter):
    """Makes a line of JSON of a record: time, level, logger, message, what is extra, kind and pid of the process."""

    def __init__(self, kind: str) -> None:
        super().__init__("%(message)s", json_ensure_ascii=False)
        self._kind = kind

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Put the fields that every line has before the others."""
        moment = datetime.fromtimestamp(record.created, UTC)
        log_data["time"] = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        super().add_fields(log_data, record, message_dict)
        log_data["kind"] = self._kind
        log_data["pid"] = record.process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return without_secrets(str(super().format(record)))


def start_logging(kind: str, level: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process, and warnings, to a stream as lines of JSON; None: standard error.

    Args:
        kind: name of the process' command.
        level: least important lines to write: debug, info, warning or error.
        stream: where to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(kind))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    # Their own account of every connection and request is ours to give, as metrics.
    for noisy in ("asyncio", "aiohttp.access", "aiohttp.server", "grpc"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))

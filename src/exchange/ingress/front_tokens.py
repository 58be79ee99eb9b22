"""The tokens of operators: a file of hashes, never of tokens.

    {"tokens": [{"name": "night-desk", "roles": ["read", "trade-ops"], "sha256": "...", "expires_ms": 0}],
     "certificates": [{"name": "payments", "roles": ["money"], "fingerprint": "..."}]}

A token is `clobtk_` and 64 hex digits, 256 random bits, so that one round of SHA-256 hides it; `clob token create`
makes one and tells it once. A client certificate that an issuer of --tls-client-ca has signed is named by the SHA-256
of its DER form. The file is read again when it has changed, so that a token that was taken out ends at once.
"""

import hashlib
import hmac
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from exchange.ingress.front_methods import Role

_log = logging.getLogger(__name__)

TOKEN_PREFIX: Final = "clobtk_"
_LOOK_EVERY_S: Final = 1.0
_ALL_READABLE: Final = 0o077
_HEX_DIGITS: Final = frozenset("0123456789abcdef")


class TokenFileError(ValueError):
    """The file of tokens cannot be used; the message says why."""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token; `expires_ms` is the first moment at which it has ended, since 1970-01-01 UTC; 0: never."""

    name: str
    roles: tuple[Role, ...]
    sha256: str
    expires_ms: int = 0


class CertificateRoles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the owner of a client certificate may do."""

    name: str
    roles: tuple[Role, ...]
    fingerprint: str


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that the file says."""

    tokens: tuple[Token, ...] = ()
    certificates: tuple[CertificateRoles, ...] = ()


class Principal(NamedTuple):
    """Somebody who calls.

    Attributes:
        name: by which calls are counted and logged.
        roles: what it may do.
        host: address that it calls from.
    """

    name: str
    roles: frozenset[Role]
    host: str = ""


def hash_token(token: str) -> str:
    """Return the hash by which a token is known, in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_tokens(path: Path) -> Tokens:
    """Return what a file says; a file that does not exist has nobody in it.

    Raises:
        TokenFileError: it cannot be read, others than its owner can read it, or it is no such file.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()
    except FileNotFoundError:
        return Tokens()
    except OSError as error:
        raise TokenFileError(f"TOKENS_FILE: {path}: {error}") from error
    if os.name == "posix" and mode & _ALL_READABLE:
        raise TokenFileError(f"TOKENS_FILE: {path} is open to others than its owner; chmod 600 it")
    try:
        found = msgspec.json.decode(text, type=Tokens)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TokenFileError(f"TOKENS_FILE: {path}: {error}") from error
    _check(path, found)
    return found


def _check(path: Path, tokens: Tokens) -> None:
    """Raise TokenFileError where the file of these tokens could not be read again."""
    for digest in [*(token.sha256 for token in tokens.tokens), *(owner.fingerprint for owner in tokens.certificates)]:
        if len(digest) != 64 or not _HEX_DIGITS.issuperset(digest):
            raise TokenFileError(
                f"TOKENS_FILE: {path}: {digest[:80]!r}: a hash or fingerprint is 64 hex digits, as openssl x509 -noout "
                "-fingerprint -sha256 prints one; nothing was written"
            )
    names = _names(tokens)
    if len(set(names)) != len(names):
        raise TokenFileError(f"TOKENS_FILE: {path}: a name would stand in it twice; names tell callers apart")


def _names(tokens: Tokens) -> list[str]:
    return [*(token.name for token in tokens.tokens), *(owner.name for owner in tokens.certificates)]


def write_tokens(path: Path, tokens: Tokens) -> None:
    """Replace the file by one that only its owner may read.

    Raises:
        TokenFileError: a hash is none, or a name comes twice. The file is as it was.
    """
    _check(path, tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(tokens), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise


def create_token(path: Path, name: str, roles: tuple[Role, ...], expires_ms: int = 0) -> str:
    """Add a token to the file and return it: the only time that it is told.

    Raises:
        TokenFileError: the name is taken, or the file cannot be used.
    """
    found = read_tokens(path)
    if name in _names(found):
        raise TokenFileError(f"TOKENS_FILE: {path} has {name!r} already; revoke it or choose another name")
    token = TOKEN_PREFIX + secrets.token_hex(32)
    made = Token(name, roles, hash_token(token), expires_ms)
    write_tokens(path, Tokens((*found.tokens, made), found.certificates))
    return token


class TokenStore:
    """The file as a running process sees it. Where it cannot be read nobody is known: fails closed."""

    def __init__(self, path: Path | None, now_ms: Callable[[], int] | None = None) -> None:
        self._path = path
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._tokens = Tokens()
        self._stamp: tuple[int, int, int] | None = None
        self._next_look_s = 0.0

    def by_token(self, token: str) -> Principal | None:
        """Return whose token it is; None: nobody's, or it has ended. Takes as long for each."""
        self._refresh()
        given = hash_token(token)
        found: Token | None = None
        for entry in self._tokens.tokens:
            if hmac.compare_digest(entry.sha256, given):
                found = entry
        if found is None or 0 < found.expires_ms <= self._now_ms():
            return None
        return Principal(f"token {found.name}", frozenset(found.roles))

    def by_certificate(self, fingerprint: str) -> Principal | None:
        """Return whose certificate it is; None: nobody's that is known here."""
        self._refresh()
        for entry in self._tokens.certificates:
            if hmac.compare_digest(entry.fingerprint, fingerprint):
                return Principal(f"certificate {entry.name}", frozenset(entry.roles))
        return None

    def _refresh(self) -> None:
        now_s = time.monotonic()
        if self._path is None or now_s < self._next_look_s:
            return
        self._next_look_s = now_s + _LOOK_EVERY_S
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            stamp = None
        if stamp == self._stamp and stamp is not None:
            return
        try:
            self._tokens, self._stamp = read_tokens(self._path), stamp
        except TokenFileError as error:
            _log.error("%s; nobody beyond this machine is let in until it is mended", error)
            self._tokens, self._stamp = Tokens(), stamp

"""TLS of a port: its certificate, whom it trusts, and who called."""

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from exchange.config.service import ClientAuth

# A client that offers both gets HTTP/1.1: curl and browsers offer h2 too, and the only HTTP/2 that is spoken here is
# gRPC; its clients offer nothing but h2 (`buf curl` does with --http2-prior-knowledge).
ALPN: Final = ("http/1.1", "h2")


class TlsError(ValueError):
    """Settings of TLS that cannot be used; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client's certificate that its issuer, one of ours, has signed.

    Attributes:
        common_name: of its subject; empty: it has none.
        names: DNS names, addresses and URIs that it is for.
        fingerprint: SHA-256 of its DER form, in lower-case hex digits.
    """

    common_name: str
    names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def parse(cls, der: bytes) -> Self:
        """Return what a certificate in DER form says. Raises ValueError when it is none."""
        parsed = x509.load_der_x509_certificate(der)
        common = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        try:
            extension = parsed.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
            names = tuple(str(name.value) for name in extension.value)  # type: ignore[attr-defined]
        except x509.ExtensionNotFound:
            names = ()
        return cls(str(common[0].value) if common else "", names, hashlib.sha256(der).hexdigest())


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files that a port's TLS is made of, all PEM.

    Attributes:
        certificate: the chain, the port's own certificate first.
        key: its private key.
        client_ca: issuers of clients' certificates; None: clients are not asked for one.
        client_auth: whether they have to show one, when asked.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_auth: ClientAuth = ClientAuth.OPTIONAL

    def server_context(self) -> ssl.SSLContext:
        """Return a context for the server's side: TLS 1.2 or later, HTTP/1.1 before h2.

        Raises:
            TlsError: a file cannot be read, is no PEM, or key and certificate do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(list(ALPN))
        try:
            # An encrypted key would ask for its password on the terminal; a service has none.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise TlsError(
                f"TLS_FILES: certificate {self.certificate} with key {self.key} cannot be used ({error}); "
                "give --tls-cert a PEM chain and --tls-key its private key, unencrypted"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ssl.SSLError) as error:
                raise TlsError(
                    f"TLS_FILES: issuers {self.client_ca} cannot be used ({error}); "
                    "give --tls-client-ca a PEM file of certificates"
                ) from error
            required = self.client_auth is ClientAuth.REQUIRED
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        elif self.client_auth is ClientAuth.REQUIRED:
            raise TlsError(
                "TLS_FILES: client certificates are required, and no issuer is trusted; name them with --tls-client-ca"
            )
        return context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return the same for a gRPC server that ends TLS itself; it asks for certificates only if they are required.

        Raises:
            TlsError: as `server_context`.
        """
        # Says what is wrong with the files; gRPC would only fail to listen.
        self.server_context()
        issuers = self.client_ca.read_bytes() if self.client_ca is not None else None
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            issuers,
            require_client_auth=issuers is not None and self.client_auth is ClientAuth.REQUIRED,
        )


def peer_certificate(ssl_object: Any) -> Certificate | None:
    """Return the verified certificate of the other side of a TLS connection; None: it showed none."""
    der = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
    return Certificate.parse(der) if der else None


def grpc_certificate(auth_context: Mapping[str, Any]) -> Certificate | None:
    """Return the verified certificate in the authentication context of a gRPC call; None: the caller showed none."""
    pem = auth_context.get("x509_pem_cert")
    if not pem:
        return None
    first = pem[0] if isinstance(pem, (list, tuple)) else pem
    der = x509.load_pem_x509_certificate(bytes(first)).public_bytes(Encoding.DER)
    return Certificate.parse(der)

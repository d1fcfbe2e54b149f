"""The proxy's TLS contexts: one per protocol of our own, and those of the web port.

Our own protocols show the host certificate and ask for a certificate of the right authority. The web shows
the configured files, or the host certificate when there are none. Files are taken up again all or none: a
pair that does not fit leaves everything as it was.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from pkgs.common.errors import AccessError, InputError
from pkgs.common.membership.identity import HostIdentity
from pkgs.common.net.tls import server_context
from pkgs.common.pki.trust import Trust
from pkgs.common.runtime.config import KeyPair

ALPN_TUNNEL: Final = "teleport-reversetunnel"
ALPN_DATA: Final = "teleport-reversetunnel-data"
ALPN_DIAL: Final = "teleport-dial"
ALPN_SSH: Final = "teleport-proxy-ssh"
ALPN_MYSQL: Final = "teleport-mysql"
ALPN_AUTH: Final = "teleport-auth@"
ALPN_WEB: Final = ("http/1.1", "h2")
_FILE_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class OwnContexts:
    """For the protocols between our own parts."""

    tunnel: ssl.SSLContext
    data: ssl.SSLContext
    dial: ssl.SSLContext
    ssh: ssl.SSLContext
    mysql: ssl.SSLContext
    """For clients that are only told why they are not passed on."""

    @classmethod
    def of(cls, identity: HostIdentity, trust: Trust) -> OwnContexts:
        def context(alpn: str, roots_pem: str | None) -> ssl.SSLContext:
            return server_context(
                cert_pem=identity.tls_cert,
                key_pem=identity.tls_private_pem,
                client_roots_pem=roots_pem,
                require_client_cert=roots_pem is not None,
                alpn=(alpn,),
            )

        hosts, users = trust.tls_roots_pem("host"), trust.tls_roots_pem("user")
        return cls(
            tunnel=context(ALPN_TUNNEL, hosts),
            data=context(ALPN_DATA, hosts),
            dial=context(ALPN_DIAL, users),
            ssh=context(ALPN_SSH, None),
            mysql=context(ALPN_MYSQL, None),
        )


@dataclass(frozen=True, slots=True)
class _WebPair:
    names: frozenset[str]
    context: ssl.SSLContext

    def serves(self, name: str) -> bool:
        _, _, parent = name.partition(".")
        return name in self.names or (bool(parent) and f"*.{parent}" in self.names)


class WebCertificates:
    """Which certificate a browser is shown, by the name it asks for."""

    def __init__(self, keypairs: tuple[KeyPair, ...], log: logging.Logger) -> None:
        self._keypairs = keypairs
        self._log = log
        self._pairs: tuple[_WebPair, ...] = ()
        self._seen: tuple[bytes, ...] = ()

    @property
    def from_files(self) -> bool:
        return bool(self._keypairs)

    def use_identity(self, identity: HostIdentity) -> None:
        """Without configured files, show the host certificate."""
        if not self._keypairs:
            self._pairs = (_pair(identity.tls_cert.encode(), identity.tls_private_pem),)

    def reload(self) -> bool:
        """Read the configured files; whether anything changed. Raises InputError, leaving all as it was."""
        contents = tuple(_read(path) for pair in self._keypairs for path in (pair.cert_file, pair.key_file))
        if not contents or contents == self._seen:
            return False
        pairs = []
        for index, keypair in enumerate(self._keypairs):
            try:
                pairs.append(_pair(contents[2 * index], contents[2 * index + 1]))
            except (AccessError, ValueError) as exc:
                raise InputError(
                    f"{keypair.cert_file} and {keypair.key_file} are not a certificate and its key",
                    hint="PEM files, the certificate of the server first",
                    detail=str(exc),
                ) from exc
            self._warn_of_expiry(keypair.cert_file, contents[2 * index])
        self._pairs, self._seen = tuple(pairs), contents
        return True

    def _warn_of_expiry(self, path: str, cert_pem: bytes) -> None:
        ends = x509.load_pem_x509_certificate(cert_pem).not_valid_after_utc
        if ends <= datetime.now(UTC):
            self._log.warning(
                "the web certificate has expired", extra={"file": path, "ended": ends.isoformat()}
            )

    def context_for(self, name: str) -> ssl.SSLContext:
        """The context for a server name; the first pair where none fits."""
        return next((pair for pair in self._pairs if pair.serves(name)), self._pairs[0]).context


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_FILE_MAX + 1)
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror}") from exc
    if len(content) > _FILE_MAX:
        raise InputError(f"{path}: too long for a certificate or key")
    return content


def _pair(cert_pem: bytes, key_pem: bytes) -> _WebPair:
    context = server_context(cert_pem=cert_pem, key_pem=key_pem, alpn=("http/1.1",), tls12=True)
    cert = x509.load_pem_x509_certificate(cert_pem)
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return _WebPair(frozenset(), context)
    return _WebPair(frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName)), context)

"""TLS contexts from PEM in memory: TLS 1.3 between our parts, 1.2 as well for browsers.

Key material goes to OpenSSL through an anonymous memory file, never through the file system.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from pkgs.common.errors import TrustError


def _as_bytes(pem: str | bytes) -> bytes:
    return pem.encode("ascii") if isinstance(pem, str) else pem


def load_chain(context: ssl.SSLContext, cert_pem: str | bytes, key_pem: str | bytes) -> None:
    """Give the context a certificate (chain) and its key. Raises TrustError when they don't fit."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as memory:
            memory.write(_as_bytes(key_pem) + b"\n" + _as_bytes(cert_pem))
        # An empty password keeps OpenSSL from asking a terminal when the key is encrypted.
        context.load_cert_chain(f"/proc/self/fd/{fd}", password="")
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise TrustError("the certificate and the key do not belong together", detail=str(exc)) from exc
    finally:
        os.close(fd)


def _load_roots(context: ssl.SSLContext, roots_pem: str) -> None:
    if not roots_pem.strip():
        return
    try:
        context.load_verify_locations(cadata=roots_pem)
    except ssl.SSLError as exc:
        raise TrustError("the authority certificates do not parse", detail=str(exc)) from exc


def server_context(
    *,
    cert_pem: str | bytes,
    key_pem: str | bytes,
    client_roots_pem: str | None = None,
    require_client_cert: bool = False,
    alpn: Sequence[str] = (),
    tls12: bool = False,
) -> ssl.SSLContext:
    """A server's context. With `client_roots_pem` a client certificate is asked for, and demanded when
    `require_client_cert`; which authority signed it, and for what, is still for `pki` to decide."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if tls12 else ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls12:
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    else:
        # Each connection proves itself anew: no tickets, so no restriction outlives its certificate.
        context.num_tickets = 0
    load_chain(context, cert_pem, key_pem)
    if client_roots_pem is not None:
        _load_roots(context, client_roots_pem)
        context.verify_mode = ssl.CERT_REQUIRED if require_client_cert else ssl.CERT_OPTIONAL
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_context(
    *,
    roots_pem: str | None,
    cert_pem: str | bytes | None = None,
    key_pem: str | bytes | None = None,
    alpn: Sequence[str] = (),
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """A client's context that trusts `roots_pem` and nothing else. None verifies nothing at all: only for
    the first step of a join by CA pin, and where the user said --insecure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION
    if roots_pem is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        if not roots_pem.strip():
            raise TrustError("there is no authority certificate to trust")
        context.check_hostname = check_hostname
        _load_roots(context, roots_pem)
    if cert_pem is not None and key_pem is not None:
        load_chain(context, cert_pem, key_pem)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def peer_der(connection: ssl.SSLObject | ssl.SSLSocket | None) -> bytes | None:
    """The peer's certificate as sent, or None when it sent none."""
    return None if connection is None else connection.getpeercert(binary_form=True)

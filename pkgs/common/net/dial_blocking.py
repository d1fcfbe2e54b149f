"""Dialling for command lines: sockets and TLS, no event loop and nothing heavy to import.

The certificate and key of a profile are files already, so they are loaded from there.
"""

from __future__ import annotations

import socket
import ssl

from pkgs.common.errors import ProtocolError, TrustError, UnavailableError

DIAL_S = 10.0
"""As in `limits`, which a lean start does not import."""


def dial_tcp(addr: str, *, deadline_s: float = DIAL_S) -> socket.socket:
    """A connected blocking socket to `host:port` (or `[v6]:port`), time-out set to the deadline."""
    host, _, port = addr.removeprefix("tcp://").rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise UnavailableError(f"{addr!r} is not an address", hint="write host:port")
    try:
        sock = socket.create_connection((host, int(port)), timeout=deadline_s)
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or "no answer in time"
        raise UnavailableError(f"cannot connect to {addr}: {reason}") from exc
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def client_context(
    *, roots_pem: str | None, cert_file: str = "", key_file: str = "", alpn: str = "", insecure: bool = False
) -> ssl.SSLContext:
    """Trusts `roots_pem`, or with None the system's roots; `insecure` verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif roots_pem is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=roots_pem)
        except (ssl.SSLError, ValueError) as exc:
            raise TrustError("the stored authority certificates do not parse", hint="log in again") from exc
    if cert_file:
        try:
            context.load_cert_chain(cert_file, key_file or None, password="")
        except (OSError, ValueError) as exc:
            raise TrustError("the stored certificate can't be used", hint="log in again") from exc
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


def dial_tls(
    addr: str,
    *,
    roots_pem: str | None,
    cert_file: str = "",
    key_file: str = "",
    alpn: str = "",
    server_hostname: str = "",
    insecure: bool = False,
    deadline_s: float = DIAL_S,
) -> ssl.SSLSocket:
    """A connected TLS 1.3 socket. Raises UnavailableError, or TrustError when the server isn't trusted."""
    context = client_context(
        roots_pem=roots_pem, cert_file=cert_file, key_file=key_file, alpn=alpn, insecure=insecure
    )
    sock = dial_tcp(addr, deadline_s=deadline_s)
    name = server_hostname or addr.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return context.wrap_socket(sock, server_hostname=name)
    except ssl.SSLCertVerificationError as exc:
        sock.close()
        raise TrustError(f"the certificate of {addr} is not to be trusted: {exc.verify_message}") from exc
    except ssl.SSLError as exc:
        sock.close()
        raise ProtocolError(f"the TLS handshake with {addr} failed", detail=str(exc)) from exc
    except OSError as exc:
        sock.close()
        raise UnavailableError(f"cannot connect to {addr}", detail=str(exc)) from exc

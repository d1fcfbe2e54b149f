"""A throw-away authority and certificates for the network tests."""

from __future__ import annotations

import datetime
import ssl
import threading
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pkgs.common.net.tls import client_context, server_context

SERVER_NAME = "server.test"


@dataclass(frozen=True)
class Pair:
    cert: str
    key: bytes


_making = threading.Lock()


def authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """One for all threads: two that were first at the same time would not trust each other."""
    with _making:
        return _authority()


@cache
def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    return _build(name, name, key, key, ca=True), key


def _build(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    dns: tuple[str, ...] = (),
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if dns:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


@cache
def pair(name: str) -> Pair:
    ca_cert, ca_key = authority()
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    cert = _build(subject, ca_cert.subject, key, ca_key, dns=(name,))
    return Pair(
        cert.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def roots() -> str:
    return authority()[0].public_bytes(serialization.Encoding.PEM).decode()


def strangers() -> str:
    """Roots of another authority."""
    return _authority.__wrapped__()[0].public_bytes(serialization.Encoding.PEM).decode()


def server(*, alpn: tuple[str, ...] = (), mutual: bool = False) -> ssl.SSLContext:
    mine = pair(SERVER_NAME)
    return server_context(
        cert_pem=mine.cert,
        key_pem=mine.key,
        client_roots_pem=roots() if mutual else None,
        require_client_cert=mutual,
        alpn=alpn,
    )


def client(*, alpn: tuple[str, ...] = (), name: str = "") -> ssl.SSLContext:
    if not name:
        return client_context(roots_pem=roots(), alpn=alpn)
    mine = pair(name)
    return client_context(roots_pem=roots(), cert_pem=mine.cert, key_pem=mine.key, alpn=alpn)

"""Verifies the signature that proves possession of a certificate's key (RFC 4252 section 7).

Run by the service, not by the process that faces the peer: the session id it checks against is the
exchange hash the service itself signed, so only somebody who holds the key can become its owner
(attacks A08, A09, A16).
"""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from pkgs.common.ssh import wire
from pkgs.common.ssh.limits import MIN_RSA_BITS

_CERT = "-cert-v01@openssh.com"
_USERAUTH_REQUEST = b"\x32"
_CURVES: dict[str, tuple[type[ec.EllipticCurve], hashes.HashAlgorithm]] = {
    "ecdsa-sha2-nistp256": (ec.SECP256R1, hashes.SHA256()),
    "ecdsa-sha2-nistp384": (ec.SECP384R1, hashes.SHA384()),
    "ecdsa-sha2-nistp521": (ec.SECP521R1, hashes.SHA512()),
}
_RSA: dict[str, hashes.HashAlgorithm] = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}

PLAIN_ALGORITHMS = ("ssh-ed25519", *_CURVES, *reversed(_RSA))
"""Signature algorithms accepted from users, best first. No SHA-1, no DSA."""
CERT_ALGORITHMS = tuple(name + _CERT for name in PLAIN_ALGORITHMS)


def is_certificate_offer(algorithm: str, blob: bytes) -> bool:
    """Whether the offered blob is a certificate of the kind its algorithm name says."""
    if algorithm not in CERT_ALGORITHMS:
        return False
    try:
        inside = wire.Reader(blob).text()
    except wire.WireError:
        return False
    return inside == ("ssh-rsa" + _CERT if algorithm.removesuffix(_CERT) in _RSA else algorithm)


def verify_login(session_id: bytes, user: str, algorithm: str, blob: bytes, signature: bytes) -> bool:
    """Whether `signature` proves possession of the key in certificate `blob` for this very login."""
    if not session_id or not is_certificate_offer(algorithm, blob):
        return False
    plain = algorithm.removesuffix(_CERT)
    data = b"".join(
        (
            wire.string(session_id),
            _USERAUTH_REQUEST,
            wire.string(user),
            wire.string("ssh-connection"),
            wire.string("publickey"),
            wire.boolean(True),
            wire.string(algorithm),
            wire.string(blob),
        )
    )
    try:
        reader = wire.Reader(signature)
        if reader.text() != plain:
            return False
        raw = reader.string()
        if not reader.at_end():
            return False
        text = wire.Reader(blob).string() + b" " + base64.b64encode(blob)
        certificate = load_ssh_public_identity(text)
        if not isinstance(certificate, SSHCertificate):
            return False
        _verify(certificate.public_key(), plain, raw, data)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, wire.WireError):
        return False
    return True


def _verify(key: object, plain: str, raw: bytes, data: bytes) -> None:
    if isinstance(key, ed25519.Ed25519PublicKey) and plain == "ssh-ed25519":
        key.verify(raw, data)
    elif isinstance(key, ec.EllipticCurvePublicKey) and plain in _CURVES:
        curve, digest = _CURVES[plain]
        if not isinstance(key.curve, curve):
            raise ValueError("another curve")
        parts = wire.Reader(raw)
        r, s = (int.from_bytes(parts.string(), "big") for _ in range(2))
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
    elif isinstance(key, rsa.RSAPublicKey) and plain in _RSA:
        if key.key_size < MIN_RSA_BITS:
            raise ValueError("RSA key is too short")
        key.verify(raw, data, padding.PKCS1v15(), _RSA[plain])
    else:
        raise ValueError("key and algorithm do not belong together")

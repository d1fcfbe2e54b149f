"""Plain SSH public keys and signatures by them: which kinds count, how strong, and whether a signature holds.

Kinds not listed here do not exist for us: no DSA, no SHA-1 signatures, no RSA under 2048 bits (attack A16).
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from pkgs.common.errors import InputError
from pkgs.common.pki import limits
from pkgs.common.pki.ssh import wire as sshwire
from pkgs.common.pki.ssh.wire import Reader, WireError

PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

ED25519 = "ssh-ed25519"
RSA = "ssh-rsa"
CERT_SUFFIX = "-cert-v01@openssh.com"

_CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_ECDSA = {f"ecdsa-sha2-{curve}": curve for curve in _CURVES}
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "rsa-sha2-256": hashes.SHA256(),
    "rsa-sha2-512": hashes.SHA512(),
}
KEY_TYPES = frozenset({ED25519, RSA, *_ECDSA})


def read_public_fields(key_type: str, reader: Reader) -> PublicKey:
    """The key of kind `key_type` whose fields come next; refuses weak and malformed ones."""
    if key_type == ED25519:
        raw = reader.string()
        if len(raw) != 32:
            raise WireError("ed25519 key has a wrong length")
        return ed25519.Ed25519PublicKey.from_public_bytes(raw)
    if key_type == RSA:
        exponent, modulus = reader.mpint(), reader.mpint()
        if not limits.MIN_RSA_BITS <= modulus.bit_length() <= limits.MAX_RSA_BITS:
            raise WireError(f"RSA key of {modulus.bit_length()} bits")
        if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > 32 or modulus % 2 == 0:
            raise WireError("RSA key with a bad exponent or modulus")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    curve_name = _ECDSA.get(key_type)
    if curve_name is None:
        raise WireError("key type is not accepted")
    if reader.string() != curve_name.encode():
        raise WireError("curve does not fit the key type")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve_name][0], reader.string())
    except ValueError as error:
        raise WireError("point is not on the curve") from error


def parse_public_blob(blob: bytes) -> tuple[str, PublicKey]:
    """A plain public key and its type; a certificate is not one (attack A01)."""
    reader = Reader(blob)
    key_type = reader.text()
    if key_type.endswith(CERT_SUFFIX):
        raise WireError("a certificate where a plain key must be")
    key = read_public_fields(key_type, reader)
    reader.end()
    return key_type, key


def public_fields(key: PublicKey) -> tuple[str, bytes]:
    """Type and encoded fields of a key: what follows the nonce in a certificate."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ED25519, sshwire.string(key.public_bytes_raw())
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return RSA, sshwire.mpint(numbers.e) + sshwire.mpint(numbers.n)
    point = key.public_numbers()
    for name, (curve, _) in _CURVES.items():
        if curve.name == key.curve.name:
            size = (curve.key_size + 7) // 8
            encoded = b"\x04" + point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")
            return f"ecdsa-sha2-{name}", sshwire.text(name) + sshwire.string(encoded)
    raise InputError(f"curve {key.curve.name} is not accepted")


def public_blob(key: PublicKey) -> bytes:
    key_type, fields = public_fields(key)
    return sshwire.text(key_type) + fields


def line_to_blob(line: str) -> bytes:
    """The wire form in an `authorized_keys` line; raises InputError unless both types agree."""
    parts = line.split(None, 2)
    if len(parts) < 2:
        raise InputError("not an SSH public key: expected `type base64`")
    try:
        blob = base64.b64decode(parts[1], validate=True)
        named = Reader(blob).text()
    except (binascii.Error, ValueError) as error:
        raise InputError("not an SSH public key: the base64 part does not decode") from error
    if named != parts[0]:
        raise InputError("not an SSH public key: the line names another type than the key itself")
    return blob


def blob_to_line(blob: bytes) -> str:
    """`type base64` of a plain key or a certificate, without a comment."""
    return f"{Reader(blob).text()} {base64.b64encode(blob).decode()}"


def fingerprint(blob: bytes) -> str:
    """`SHA256:...` as OpenSSH prints it."""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def verify_signature(key_type: str, key: PublicKey, signature: bytes, data: bytes) -> str:
    """The algorithm of a signature over `data` by `key`; raises WireError unless it holds.

    Refuses SHA-1 (`ssh-rsa`) and any algorithm that does not belong to the key."""
    reader = Reader(signature)
    algorithm = reader.text()
    raw = reader.string()
    reader.end()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            digest = _RSA_HASHES.get(algorithm)
            if digest is None:
                raise WireError(f"signature algorithm is not accepted for {key_type}")
            if len(raw) != (key.key_size + 7) // 8:
                raise WireError("signature has a wrong length")
            key.verify(raw, data, padding.PKCS1v15(), digest)
            return algorithm
        if algorithm != key_type:
            raise WireError(f"signature algorithm is not accepted for {key_type}")
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(raw, data)
        else:
            inner = Reader(raw)
            encoded = encode_dss_signature(inner.mpint(), inner.mpint())
            inner.end()
            key.verify(encoded, data, ec.ECDSA(_CURVES[_ECDSA[key_type]][1]))
    except InvalidSignature as error:
        raise WireError("signature does not verify") from error
    return algorithm


def sign(key: PrivateKey, data: bytes) -> bytes:
    """A signature blob over `data`; RSA signs with SHA-512."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return sshwire.text(ED25519) + sshwire.string(key.sign(data))
    if isinstance(key, rsa.RSAPrivateKey):
        raw = key.sign(data, padding.PKCS1v15(), hashes.SHA512())
        return sshwire.text("rsa-sha2-512") + sshwire.string(raw)
    key_type, _ = public_fields(key.public_key())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_CURVES[_ECDSA[key_type]][1])))
    return sshwire.text(key_type) + sshwire.string(sshwire.mpint(r) + sshwire.mpint(s))

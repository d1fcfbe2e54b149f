"""Making and reading keys. SSH keys are Ed25519, TLS keys are ECDSA P-256 (docs/adr/0031)."""

from __future__ import annotations

from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pkgs.common.errors import InputError
from pkgs.common.pki import limits
from pkgs.common.pki.ssh import key as sshkey
from pkgs.common.pki.ssh.key import PrivateKey, PublicKey
from pkgs.common.pki.ssh.wire import WireError


class SshKey(NamedTuple):
    private_pem: bytes
    """OpenSSH private key format, not encrypted."""
    public_line: str
    """`authorized_keys` form."""


class TlsKey(NamedTuple):
    private_pem: bytes
    """PKCS#8, not encrypted."""
    public_pem: str
    """SubjectPublicKeyInfo."""


def new_ssh_key(comment: str = "") -> SshKey:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    line = sshkey.blob_to_line(sshkey.public_blob(key.public_key()))
    return SshKey(pem, f"{line} {comment}".rstrip())


def new_tls_key() -> TlsKey:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return TlsKey(pem, public_pem_of(pem))


def load_private_key(pem: bytes) -> PrivateKey:
    """An unencrypted private key in OpenSSH or PKCS#8 form; raises InputError, never showing the key."""
    try:
        if b"OPENSSH PRIVATE KEY" in pem:
            key: object = serialization.load_ssh_private_key(pem, None)
        else:
            key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError("not an unencrypted private key", detail=type(error).__name__) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InputError("private key of a kind that is not accepted")
    return key


def public_line_of(private_pem: bytes) -> str:
    """`type base64` of the public half."""
    return sshkey.blob_to_line(sshkey.public_blob(load_private_key(private_pem).public_key()))


def public_pem_of(private_pem: bytes) -> str:
    """SubjectPublicKeyInfo of the public half."""
    return _spki_pem(load_private_key(private_pem).public_key())


def _spki_pem(key: PublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def load_public_pem(pem: str) -> PublicKey:
    """A public key to put in a TLS certificate; refuses weak ones and kinds we do not know."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("not a PEM public key", detail=type(error).__name__) from None
    if isinstance(key, rsa.RSAPublicKey):
        if not limits.MIN_RSA_BITS <= key.key_size <= limits.MAX_RSA_BITS:
            raise InputError(f"RSA key of {key.key_size} bits", hint=f"use {limits.MIN_RSA_BITS} or more")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        sshkey.public_fields(key)
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise InputError("public key of a kind that is not accepted", hint="use ECDSA P-256, Ed25519 or RSA")


def load_public_line(line: str) -> PublicKey:
    """A plain SSH public key to put in a certificate; refuses certificates and weak keys."""
    try:
        return sshkey.parse_public_blob(sshkey.line_to_blob(line))[1]
    except WireError as error:
        raise InputError(f"SSH public key is not accepted: {error}") from error


def check_public_line(line: str) -> str:
    """The line in canonical form `type base64`, without options and comment."""
    return sshkey.blob_to_line(sshkey.public_blob(load_public_line(line)))


def check_public_pem(pem: str) -> str:
    """The PEM in canonical form."""
    return _spki_pem(load_public_pem(pem))


def ssh_fingerprint(line: str) -> str:
    """`SHA256:...` of a key or certificate line."""
    return sshkey.fingerprint(sshkey.line_to_blob(line))

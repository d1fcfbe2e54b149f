"""Loaded authority keys: the one place where signing happens, so that a key store can replace it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from pkgs.common.errors import InputError
from pkgs.common.pki import keys
from pkgs.common.pki.ssh import key as sshkey
from pkgs.common.pki.ssh.key import PrivateKey

if TYPE_CHECKING:
    from pkgs.common.resources.kinds import CertAuthority  # not in the process of every SSH connection


@dataclass(frozen=True, slots=True, repr=False)
class SshSigner:
    """Signs SSH certificates. Load once, keep."""

    _key: PrivateKey
    public_blob: bytes
    public_line: str

    @classmethod
    def load(cls, private_pem: bytes) -> SshSigner:
        key = keys.load_private_key(private_pem)
        blob = sshkey.public_blob(key.public_key())
        return cls(key, blob, sshkey.blob_to_line(blob))

    def sign(self, data: bytes) -> bytes:
        return sshkey.sign(self._key, data)


@dataclass(frozen=True, slots=True, repr=False)
class TlsSigner:
    """Signs X.509 certificates. Load once, keep."""

    _key: PrivateKey
    cert: x509.Certificate
    cert_pem: str
    key_identifier: x509.AuthorityKeyIdentifier

    @classmethod
    def load(cls, cert_pem: str, private_pem: bytes) -> TlsSigner:
        """Raises InputError unless key and certificate belong together."""
        key = keys.load_private_key(private_pem)
        try:
            cert = x509.load_pem_x509_certificate(cert_pem.encode())
        except ValueError as error:
            raise InputError("not a PEM certificate") from error
        public = key.public_key()
        if cert.public_key() != public:
            raise InputError("authority certificate and private key do not belong together")
        return cls(key, cert, cert_pem, x509.AuthorityKeyIdentifier.from_issuer_public_key(public))

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, digest_for(self._key))


def digest_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()


class CaSigners(NamedTuple):
    """What an authority signs with; None where the purpose has no such key."""

    ssh: SshSigner | None
    tls: TlsSigner | None


def signers_of(ca: CertAuthority) -> CaSigners:
    """The signers of an authority read with its secrets: the first active key of each protocol."""
    active = ca.spec.active_keys
    ssh = next((SshSigner.load(pair.private_key) for pair in active.ssh if pair.private_key), None)
    tls = next((TlsSigner.load(pair.cert, pair.key) for pair in active.tls if pair.key), None)
    return CaSigners(ssh, tls)

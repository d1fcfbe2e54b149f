"""Who this host is: its id, and per system role its keys and certificates, kept in the data dir.

An identity is one file, written whole or not at all: keys and certificates never disagree. Certificates
are believed only after they were verified against the authorities that came with them.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pkgs.common.api.join import HostCerts
from pkgs.common.errors import InputError, TrustError
from pkgs.common.membership.limits import MAX_IDENTITY_FILE, RENEW_EVERY_S
from pkgs.common.pki import keys, sshcert, x509
from pkgs.common.pki.identity import PeerKind, SystemRole
from pkgs.common.pki.keys import SshKey, TlsKey
from pkgs.common.pki.ssh.key import line_to_blob
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import CertAuthority
from pkgs.common.resources.names import valid_host_id
from pkgs.common.runtime import paths
from pkgs.common.runtime.atomicfile import make_private_dir, write_atomic

_FILE = "identity.json"
_VERSION = 1


class HostIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """A host in one system role: what it shows others, and whom it believes."""

    role: SystemRole
    host_id: str
    node_name: str
    cluster_name: str
    ssh_private_pem: bytes
    ssh_cert: str
    """authorized_keys form."""
    tls_private_pem: bytes
    tls_cert: str
    """PEM."""
    authorities: list[CertAuthority]
    additional_principals: list[str] = []
    """As asked for; when the configuration asks for others, the certificates are renewed."""
    valid_after: float
    expires_at: float | None = None
    """Unix seconds; None: it does not expire."""
    version: int = _VERSION

    def __repr__(self) -> str:
        return f"HostIdentity({self.role.value} {self.host_id} of {self.cluster_name})"

    @property
    def trust(self) -> Trust:
        """The authorities that came with the certificates; a running service has newer ones in its cache."""
        return Trust.from_authorities(self.authorities, self.cluster_name)

    @property
    def renew_at(self) -> float:
        """Half its life, at most RENEW_EVERY_S after it was issued."""
        life = math.inf if self.expires_at is None else self.expires_at - self.valid_after
        return self.valid_after + min(life / 2, RENEW_EVERY_S)


class HostKeys(msgspec.Struct, frozen=True):
    """Fresh keys for a join or a renewal."""

    ssh: SshKey
    tls: TlsKey

    @classmethod
    def new(cls) -> HostKeys:
        return cls(keys.new_ssh_key(), keys.new_tls_key())


def verify_host_certs(
    certs: HostCerts,
    host_keys: HostKeys,
    *,
    role: SystemRole,
    host_id: str,
    node_name: str,
    additional_principals: Sequence[str],
    now: float,
) -> HostIdentity:
    """The identity that an answer to a join or renewal makes, or TrustError: for this host, this role, these
    keys, and signed by the authorities in the same answer."""
    try:
        trust = Trust.from_authorities(certs.authorities, certs.cluster_name)
        leaf = cx509.load_pem_x509_certificate(certs.tls_cert.encode())
        blob = line_to_blob(certs.ssh_cert)
    except (InputError, ValueError) as error:
        raise TrustError("the certificates in the answer do not parse", detail=str(error)) from error
    tls = x509.verify_peer(leaf.public_bytes(Encoding.DER), trust=trust, now=now)
    ssh = sshcert.verify_host_cert(blob, trust=trust, names=[host_id], now=now)
    ours = keys.load_private_key(host_keys.tls.private_pem).public_key()
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fits = (
        certs.host_id == host_id
        and tls.kind is PeerKind.HOST
        and tls.name == host_id
        and role in tls.system_roles
        and tls.cluster == ssh.cluster == certs.cluster_name
        and leaf.public_key().public_bytes(*spki) == ours.public_bytes(*spki)
        and sshcert.unverified_facts(blob).public_blob == line_to_blob(host_keys.ssh.public_line)
    )
    if not fits:
        raise TrustError("the certificates in the answer are not for this host, this service and its keys")
    expires = min(tls.expires_at, ssh.expires_at)
    return HostIdentity(
        role=role,
        host_id=host_id,
        node_name=node_name,
        cluster_name=certs.cluster_name,
        ssh_private_pem=host_keys.ssh.private_pem,
        ssh_cert=certs.ssh_cert,
        tls_private_pem=host_keys.tls.private_pem,
        tls_cert=certs.tls_cert,
        authorities=certs.authorities,
        additional_principals=list(additional_principals),
        valid_after=max(tls.valid_after, ssh.valid_after),
        expires_at=None if math.isinf(expires) else expires,
    )


def host_uuid(data_dir: Path) -> str:
    """This host's id, made once per data dir; the same for all its services, whoever asks first."""
    path = paths.host_uuid_file(data_dir)
    with contextlib.suppress(FileNotFoundError):
        return _read_host_uuid(path)
    make_private_dir(data_dir)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    write_atomic(temporary, f"{uuid.uuid4()}\n".encode())
    try:
        # A link fails when another service was quicker; a rename would replace its id.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
    return _read_host_uuid(path)


def _read_host_uuid(path: Path) -> str:
    with path.open("rb") as file:
        text = file.read(100).decode("ascii", "replace").strip()
    if not valid_host_id(text):
        raise InputError(
            f"{path} does not hold a host id", hint="restore it, or empty the data directory and join again"
        )
    return text


def store_identity(data_dir: Path, identity: HostIdentity) -> None:
    """Replace the identity of this role; 0600 from its first byte."""
    folder = paths.identity_dir(data_dir, identity.role.value)
    make_private_dir(folder.parent)
    make_private_dir(folder)
    write_atomic(folder / _FILE, msgspec.json.encode(identity))


def load_identity(data_dir: Path, role: SystemRole) -> HostIdentity | None:
    """The stored identity of this role; None before the first join. InputError when the file is damaged."""
    path = paths.identity_dir(data_dir, role.value) / _FILE
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_IDENTITY_FILE + 1)
    except FileNotFoundError:
        return None
    try:
        identity = msgspec.json.decode(raw, type=HostIdentity)
    except msgspec.DecodeError as error:
        raise InputError(
            f"{path} is not a host identity: {error}",
            hint="remove the data directory's proc folder and join again",
        ) from None
    if identity.version != _VERSION or identity.role is not role:
        raise InputError(f"{path} is of another version or service", hint="remove it and join again")
    return identity


def other_identity(data_dir: Path, role: SystemRole) -> HostIdentity | None:
    """An identity that another service of this host already has: it vouches for the host id in a join."""
    for other in SystemRole:
        if other is not role and (found := load_identity(data_dir, other)) is not None:
            return found
    return None

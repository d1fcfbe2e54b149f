"""Which authorities count: the public keys of the clusters we trust, by purpose. Immutable; replaced whole.

Active and additional keys are trusted alike (rotation). Every key remembers its cluster, because the
cluster is part of an identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cryptography import x509

from pkgs.common.errors import InputError
from pkgs.common.pki import pins
from pkgs.common.pki.ssh import key as sshkey
from pkgs.common.pki.ssh.key import PublicKey
from pkgs.common.pki.ssh.wire import WireError
from pkgs.common.resources.kinds import CaKeySet, CaType, CertAuthority


@dataclass(frozen=True, slots=True)
class TrustedSshKey:
    """A plain key that may sign SSH certificates of one purpose for one cluster."""

    cluster: str
    line: str
    key_type: str
    key: PublicKey


@dataclass(frozen=True, slots=True)
class TrustedTlsCa:
    """A CA certificate of one purpose for one cluster."""

    cluster: str
    pem: str
    cert: x509.Certificate


class Trust:
    """The authorities we trust, indexed for verification."""

    __slots__ = ("_ssh", "_tls", "cluster_name")

    def __init__(
        self,
        cluster_name: str,
        ssh: Mapping[CaType, Mapping[bytes, TrustedSshKey]],
        tls: Mapping[CaType, Sequence[TrustedTlsCa]],
    ) -> None:
        self.cluster_name = cluster_name
        """Our own cluster; others may be trusted beside it."""
        self._ssh = ssh
        self._tls = tls

    @classmethod
    def from_authorities(cls, authorities: Iterable[CertAuthority], cluster_name: str = "") -> Trust:
        """Index the public parts; private ones are not kept.

        `cluster_name` says which cluster is ours; it may be left out while there is only one."""
        authorities = list(authorities)
        clusters = dict.fromkeys(ca.spec.cluster_name for ca in authorities)
        if not cluster_name:
            if len(clusters) > 1:
                raise InputError("authorities of several clusters: say which is ours")
            cluster_name = next(iter(clusters), "")
        ssh: dict[CaType, dict[bytes, TrustedSshKey]] = {}
        tls: dict[CaType, list[TrustedTlsCa]] = {}
        for ca in authorities:
            for key_set in (ca.spec.active_keys, ca.spec.additional_trusted_keys):
                _add_ssh(ssh.setdefault(ca.spec.type, {}), key_set, ca.spec.cluster_name)
                _add_tls(tls.setdefault(ca.spec.type, []), key_set, ca.spec.cluster_name)
        return cls(
            cluster_name,
            MappingProxyType({kind: MappingProxyType(keys) for kind, keys in ssh.items()}),
            MappingProxyType({kind: tuple(cas) for kind, cas in tls.items()}),
        )

    def ssh_keys(self, ca_type: CaType) -> Mapping[bytes, TrustedSshKey]:
        """Wire form of each key to the key."""
        return self._ssh.get(ca_type, MappingProxyType({}))

    def is_authority_key(self, blob: bytes) -> bool:
        """Whether this plain key is one that signs certificates, of whatever purpose."""
        return any(blob in keys for keys in self._ssh.values())

    def tls_cas(self, ca_type: CaType) -> Sequence[TrustedTlsCa]:
        return self._tls.get(ca_type, ())

    def tls_roots_pem(self, *ca_types: CaType) -> str:
        """CA certificates of these purposes, concatenated."""
        return "".join(ca.pem for kind in ca_types for ca in self.tls_cas(kind))

    def ssh_ca_lines(self, ca_type: CaType) -> list[str]:
        """CA public keys, `type base64` each."""
        return [key.line for key in self.ssh_keys(ca_type).values()]

    def known_hosts_lines(self, patterns: Sequence[str] = ()) -> list[str]:
        """`@cert-authority` lines for an OpenSSH known_hosts file; by default for `*.<cluster>`."""
        return [
            f"@cert-authority {','.join(patterns or (f'*.{key.cluster}', key.cluster))} {key.line} type=host"
            for key in self.ssh_keys("host").values()
        ]

    def pins(self) -> list[str]:
        """CA pins of our own cluster's host authority."""
        return [pins.pin_of(ca.cert) for ca in self.tls_cas("host") if ca.cluster == self.cluster_name]


def _add_ssh(into: dict[bytes, TrustedSshKey], keys: CaKeySet, cluster: str) -> None:
    for pair in keys.ssh:
        blob = sshkey.line_to_blob(pair.public_key)
        try:
            key_type, key = sshkey.parse_public_blob(blob)
        except WireError as error:
            raise InputError(f"authority of cluster {cluster} has an unusable SSH key: {error}") from error
        known = into.setdefault(blob, TrustedSshKey(cluster, sshkey.blob_to_line(blob), key_type, key))
        if known.cluster != cluster:
            raise InputError(f"clusters {known.cluster} and {cluster} share an SSH authority key")


def _add_tls(into: list[TrustedTlsCa], keys: CaKeySet, cluster: str) -> None:
    for pair in keys.tls:
        try:
            cert = x509.load_pem_x509_certificate(pair.cert.encode())
        except ValueError as error:
            raise InputError(f"authority of cluster {cluster} has an unusable certificate") from error
        pem = pair.cert if pair.cert.endswith("\n") else pair.cert + "\n"
        if all(known.cert != cert for known in into):
            into.append(TrustedTlsCa(cluster, pem, cert))

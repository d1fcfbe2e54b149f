"""Calls about the cluster as a whole: ping, status, trust anchors."""

from __future__ import annotations

from cryptography.x509 import load_pem_x509_certificate

from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.permissions import Permissions
from pkgs.common.api.system import (
    CaStatus,
    ClusterStatus,
    GetClusterStatus,
    GetHostCa,
    GetTrustAnchors,
    HostCa,
    Ping,
    Pong,
    TrustAnchors,
)
from pkgs.common.pki.keys import load_public_line, load_public_pem
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import CertAuthority
from pkgs.common.rpc.calls import Caller
from pkgs.common.runtime.version import VERSION


class StatusHandlers:
    def __init__(self, authorities: Authorities, permissions: Permissions) -> None:
        self._authorities = authorities
        self._permissions = permissions

    async def ping(self, caller: Caller, request: Ping) -> Pong:
        preference = self._permissions.auth_preference().spec
        return Pong(
            cluster_name=self._authorities.cluster_name,
            server_version=VERSION,
            second_factor=preference.second_factor,
            default_session_ttl_s=int(parse_duration(preference.default_session_ttl)),
            has_motd=bool(preference.message_of_the_day),
        )

    async def status(self, caller: Caller, request: GetClusterStatus) -> ClusterStatus:
        rows = [row for ca in self._authorities.all() for row in _rows(ca)]
        return ClusterStatus(
            cluster_name=self._authorities.cluster_name,
            server_version=VERSION,
            ca_pins=self._authorities.trust.pins(),
            authorities=rows,
        )

    async def trust_anchors(self, caller: Caller, request: GetTrustAnchors) -> TrustAnchors:
        return TrustAnchors(authorities=self._authorities.all())

    async def host_ca(self, caller: Caller, request: GetHostCa) -> HostCa:
        return HostCa(
            cluster_name=self._authorities.cluster_name,
            host_ca_pems=[ca.pem for ca in self._authorities.trust.tls_cas("host")],
        )


def _rows(ca: CertAuthority) -> list[CaStatus]:
    """One row per key, active ones first."""
    rotation = "standby (never rotated)" if ca.spec.rotation.state == "standby" else ca.spec.rotation.phase
    rows: list[CaStatus] = []
    for keys, status in ((ca.spec.active_keys, "active"), (ca.spec.additional_trusted_keys, "trusted")):
        found = [("ssh", _ssh_algorithm(pair.public_key)) for pair in keys.ssh]
        found += [("tls", _cert_algorithm(pair.cert)) for pair in keys.tls]
        found += [("jwt", _pem_algorithm(pair.public_key)) for pair in keys.jwt]
        rows += [
            CaStatus(
                type=ca.spec.type, rotation=rotation, protocol=protocol, status=status, algorithm=algorithm
            )
            for protocol, algorithm in found
        ]
    return rows


def _ssh_algorithm(line: str) -> str:
    return _named(load_public_line(line))


def _cert_algorithm(pem: str) -> str:
    return _named(load_pem_x509_certificate(pem.encode()).public_key())


def _pem_algorithm(pem: str) -> str:
    return _named(load_public_pem(pem))


def _named(key: object) -> str:
    name = type(key).__name__
    if "Ed25519" in name or "ed25519" in name:
        return "Ed25519"
    if "EllipticCurve" in name or "EC" in name:
        return f"ECDSA P-{getattr(key, 'key_size', 256)}"
    return f"RSA {getattr(key, 'key_size', '')}".strip()

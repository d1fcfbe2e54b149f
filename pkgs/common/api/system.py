"""Ping, cluster status, certificate authorities."""

from __future__ import annotations

import msgspec

from pkgs.common.resources.kinds import CertAuthority
from pkgs.common.rpc.calls import Request


class Pong(msgspec.Struct, frozen=True, kw_only=True):
    cluster_name: str
    server_version: str
    second_factor: str
    """off, otp, on or optional: what a login will be asked for."""
    default_session_ttl_s: int
    has_motd: bool = False


class Ping(Request[Pong], frozen=True, kw_only=True):
    """Anybody may ask; the answer holds nothing secret."""


class CaStatus(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    rotation: str
    protocol: str
    status: str
    algorithm: str
    storage: str = "software"


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    cluster_name: str
    server_version: str
    ca_pins: list[str]
    authorities: list[CaStatus]


class GetClusterStatus(Request[ClusterStatus], frozen=True, kw_only=True):
    """For `tctl status`."""


class TrustAnchors(msgspec.Struct, frozen=True, kw_only=True):
    """Public parts of all certificate authorities."""

    authorities: list[CertAuthority]


class GetTrustAnchors(Request[TrustAnchors], frozen=True, kw_only=True):
    """Public keys only; for any authenticated caller."""


class HostCa(msgspec.Struct, frozen=True, kw_only=True):
    cluster_name: str
    host_ca_pems: list[str]
    """Certificates of the host authority. Worth nothing until checked against a CA pin."""


class GetHostCa(Request[HostCa], frozen=True, kw_only=True):
    """First step of a join over an unverified connection: the caller checks the pin and dials again."""

"""Joining the cluster as a host, and renewing a host's certificates."""

from __future__ import annotations

import msgspec

from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import CertAuthority
from pkgs.common.rpc.calls import Request


class HostCerts(msgspec.Struct, frozen=True, kw_only=True):
    host_id: str
    cluster_name: str
    ssh_cert: str
    """authorized_keys form."""
    tls_cert: str
    """PEM."""
    authorities: list[CertAuthority]


class Join(Request[HostCerts], frozen=True, kw_only=True):
    """A token against host certificates. One winner per one-time token; the name is the secret."""

    token: str
    role: SystemRole
    host_id: str
    """UUID chosen by the joiner, made once per data dir. One that exists already is refused."""
    node_name: str
    ssh_public_key: str
    tls_public_key: str
    additional_principals: list[str] = []
    client_addr: str = ""
    """Honoured only from a proxy."""


class RenewHostCerts(Request[HostCerts], frozen=True, kw_only=True):
    """New certificates for the calling host, same host id and system roles."""

    node_name: str
    ssh_public_key: str
    tls_public_key: str
    additional_principals: list[str] = []

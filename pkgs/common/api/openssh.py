"""Servers that run OpenSSH and no agent: how they are made known, and what a proxy needs to end a user's SSH
and to connect on."""

from __future__ import annotations

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.rpc.calls import Request


class LoginProof(msgspec.Struct, frozen=True, kw_only=True):
    """What a user signed when they logged in to the proxy (RFC 4252 section 7)."""

    session_id: bytes
    login: str
    algorithm: str
    certificate: bytes
    """The user's SSH certificate, in wire form."""
    signature: bytes


class OpensshCert(msgspec.Struct, frozen=True, kw_only=True):
    ssh_cert: str
    """authorized_keys form."""
    expires_at: float


class OpensshLogin(OpensshCert, frozen=True, kw_only=True):
    server_names: list[str]
    """The server must show a host certificate for one of these."""


class IssueOpensshUserCert(Request[OpensshLogin], frozen=True, kw_only=True):
    """By a proxy, for one connection of a user who has just logged in to it: a certificate of the `openssh`
    authority for a key of the proxy's. The proof is good once."""

    node: str
    """Host id of a server of sub-kind openssh."""
    proof: LoginProof
    client_addr: str
    """`ip:port` of the user."""
    ssh_public_key: str


class IssueRelayCert(Request[OpensshLogin], frozen=True, kw_only=True):
    """By a proxy, while the cluster has proxies record: a certificate by which it logs in to an agent for a
    user who has just logged in to it. For that agent alone; the proof is good once."""

    node: str
    """Host id of a server with an agent."""
    proof: LoginProof
    client_addr: str
    ssh_public_key: str


class IssueOpensshHostCert(Request[OpensshCert], frozen=True, kw_only=True):
    """By a proxy: the certificate that it shows to users in the place of such a server, or of one with an
    agent while proxies record."""

    node: str
    ssh_public_key: str


class PutOpensshServer(Request[Done], frozen=True, kw_only=True):
    """By a host that has joined as a node and runs no agent: make it known under its own host id, or change
    what is known of it. It stays in the inventory until the certificate that the host calls with expires."""

    hostname: str
    addr: str
    """`host:port` of its sshd, for proxies to dial."""
    labels: dict[str, str] = {}

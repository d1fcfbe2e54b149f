"""The other kinds that exist so far, and the union `Resource` that decodes any of them by `kind`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from pkgs.common.resources.metadata import Base, Spec
from pkgs.common.resources.role import Role


class UserStatus(Spec, frozen=True, kw_only=True):
    is_locked: bool = False
    locked_message: str = ""
    lock_expires: datetime | None = None


class UserSpec(Spec, frozen=True, kw_only=True):
    roles: list[str] = []
    traits: dict[str, list[str]] = {}
    status: UserStatus = UserStatus()


class User(Base, frozen=True, kw_only=True, tag="user"):
    """A local user. Password hash and second factors are kept apart and are never part of this."""

    version: str = "v2"
    spec: UserSpec = msgspec.field(default_factory=UserSpec)


class CommandLabel(Spec, frozen=True, kw_only=True):
    command: list[str]
    period: str = "1m0s"
    result: str = ""


class ServerSpec(Spec, frozen=True, kw_only=True):
    hostname: str
    addr: str = ""
    """`host:port` to dial directly; empty for an agent reached through a tunnel."""
    public_addrs: list[str] = []
    cmd_labels: dict[str, CommandLabel] = {}
    use_tunnel: bool = False
    proxy_ids: list[str] = []
    """Host ids of the proxies this agent holds tunnels to."""
    version: str = ""


class Node(Base, frozen=True, kw_only=True, tag="node"):
    """An SSH server; `metadata.name` is the host id. Presence with a TTL, kept by heartbeats."""

    version: str = "v2"
    spec: ServerSpec


class Proxy(Base, frozen=True, kw_only=True, tag="proxy"):
    version: str = "v2"
    spec: ServerSpec


class AuthServer(Base, frozen=True, kw_only=True, tag="auth_server"):
    version: str = "v2"
    spec: ServerSpec


class TokenSpec(Spec, frozen=True, kw_only=True):
    roles: list[str]
    """System role names: Node, Proxy, ..."""
    join_method: Literal["token"] = "token"
    suggested_labels: dict[str, list[str]] = {}


class Token(Base, frozen=True, kw_only=True, tag="token"):
    """A join token. Its name is the secret."""

    version: str = "v2"
    spec: TokenSpec


class SshKeyPair(Spec, frozen=True, kw_only=True):
    public_key: str
    """authorized_keys form."""
    private_key: bytes = b""
    """PEM; only with secrets."""


class TlsKeyPair(Spec, frozen=True, kw_only=True):
    cert: str
    """PEM certificate."""
    key: bytes = b""
    """PEM; only with secrets."""


class JwtKeyPair(Spec, frozen=True, kw_only=True):
    public_key: str
    private_key: bytes = b""


class CaKeySet(Spec, frozen=True, kw_only=True):
    ssh: list[SshKeyPair] = []
    tls: list[TlsKeyPair] = []
    jwt: list[JwtKeyPair] = []


class Rotation(Spec, frozen=True, kw_only=True):
    state: Literal["standby", "in_progress"] = "standby"
    phase: str = "standby"
    last_rotated: datetime | None = None


CaType = Literal[
    "user",
    "host",
    "db",
    "db_client",
    "openssh",
    "jwt",
    "saml_idp",
    "oidc_idp",
    "spiffe",
    "okta",
    "awsra",
    "bound_keypair",
]


class CertAuthoritySpec(Spec, frozen=True, kw_only=True):
    type: CaType
    cluster_name: str
    active_keys: CaKeySet = CaKeySet()
    additional_trusted_keys: CaKeySet = CaKeySet()
    rotation: Rotation = Rotation()


class CertAuthority(Base, frozen=True, kw_only=True, tag="cert_authority"):
    """`sub_kind` is the CA type, `metadata.name` the cluster name."""

    version: str = "v2"
    spec: CertAuthoritySpec


class ClusterNameSpec(Spec, frozen=True, kw_only=True):
    cluster_name: str
    cluster_id: str = ""


class ClusterName(Base, frozen=True, kw_only=True, tag="cluster_name"):
    version: str = "v2"
    spec: ClusterNameSpec


class AuthPreferenceSpec(Spec, frozen=True, kw_only=True):
    type: Literal["local"] = "local"
    second_factor: Literal["off", "otp", "on", "optional"] = "otp"
    local_auth: bool = msgspec.field(default=True, name="allow_local_auth")
    locking_mode: Literal["strict", "best_effort"] = "best_effort"
    default_session_ttl: str = "12h0m0s"
    disconnect_expired_cert: bool = False
    require_session_mfa: bool | str = False
    message_of_the_day: str = ""


class AuthPreference(Base, frozen=True, kw_only=True, tag="cluster_auth_preference"):
    version: str = "v2"
    spec: AuthPreferenceSpec = msgspec.field(default_factory=AuthPreferenceSpec)


class NetworkingSpec(Spec, frozen=True, kw_only=True):
    client_idle_timeout: str = "0s"
    client_idle_timeout_message: str = msgspec.field(default="", name="idle_timeout_message")
    keep_alive_interval: str = "5m0s"
    keep_alive_count_max: int = 3
    proxy_listener_mode: Literal["multiplex", "separate"] = "multiplex"
    routing_strategy: Literal["unambiguous_match", "most_recent"] = "unambiguous_match"
    case_insensitive_routing: bool = False


class NetworkingConfig(Base, frozen=True, kw_only=True, tag="cluster_networking_config"):
    version: str = "v2"
    spec: NetworkingSpec = msgspec.field(default_factory=NetworkingSpec)


class RecordingSpec(Spec, frozen=True, kw_only=True):
    mode: Literal["node", "node-sync", "proxy", "proxy-sync", "off"] = "node"
    proxy_checks_host_keys: bool = True


class RecordingConfig(Base, frozen=True, kw_only=True, tag="session_recording_config"):
    version: str = "v2"
    spec: RecordingSpec = msgspec.field(default_factory=RecordingSpec)


class LockTarget(Spec, frozen=True, kw_only=True):
    """What is locked: all the set fields must match."""

    user: str = ""
    role: str = ""
    login: str = ""
    server_id: str = ""
    mfa_device: str = ""


class LockSpec(Spec, frozen=True, kw_only=True):
    target: LockTarget
    message: str = ""
    expires: datetime | None = None
    created_at: datetime | None = None
    created_by: str = ""


class Lock(Base, frozen=True, kw_only=True, tag="lock"):
    version: str = "v2"
    spec: LockSpec


Resource = (
    Role
    | User
    | Node
    | Proxy
    | AuthServer
    | Token
    | CertAuthority
    | ClusterName
    | AuthPreference
    | NetworkingConfig
    | RecordingConfig
    | Lock
)

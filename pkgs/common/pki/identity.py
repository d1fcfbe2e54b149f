"""Who a certificate says somebody is: the one typed value that every decision starts from.

Only `verify_*` functions of this room make an `Identity`; a parsed but unverified certificate never
becomes one. Restrictions (source address, expiry, allowed resources, flags) only ever shrink.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class PeerKind(StrEnum):
    USER = "user"
    HOST = "host"


class SystemRole(StrEnum):
    """What a host certificate lets its holder be."""

    AUTH = "Auth"
    PROXY = "Proxy"
    NODE = "Node"
    DB = "Db"
    APP = "App"
    KUBE = "Kube"
    WINDOWS_DESKTOP = "WindowsDesktop"
    DISCOVERY = "Discovery"
    BOT = "Bot"
    MDM = "MDM"


class RouteToDatabase(msgspec.Struct, frozen=True, kw_only=True):
    """The one database that a certificate is for."""

    service: str
    """Name of the database as the cluster knows it."""
    protocol: str
    user: str = ""
    """Database user where the client names none; empty: it must name one."""
    database: str = ""
    """Inside the server, where the client names none."""
    roles: tuple[str, ...] | None = None
    """Database roles wanted for a user that is made on demand; None: all that are granted."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A verified holder of a certificate of this cluster (or of a trusted one)."""

    kind: PeerKind
    name: str
    """User name, or the host id for a host."""
    cluster: str
    """Cluster whose authority signed the certificate: part of the identity, never dropped."""
    roles: tuple[str, ...] = ()
    """Role names for a user; empty for a host."""
    system_roles: tuple[SystemRole, ...] = ()
    """System roles for a host; empty for a user."""
    traits: dict[str, tuple[str, ...]] = {}
    logins: tuple[str, ...] = ()
    """OS logins (SSH principals) the certificate was issued for."""
    valid_after: float = 0.0
    """Unix seconds."""
    expires_at: float = 0.0
    """Unix seconds; always finite for users, `inf` for a host certificate without expiry."""
    source_addr: str = ""
    """When set, the one client address this certificate may be used from."""
    login_ip: str = ""
    """Where the login came from; a fact for the audit log, no restriction."""
    route_to_cluster: str = ""
    route_to_database: RouteToDatabase | None = None
    """When set, the certificate is good for connecting to this database and for nothing else."""
    previous_expires_at: float = 0.0
    """Expiry of the certificate that an MFA-verified one was derived from; 0: none."""
    mfa_device: str = ""
    impersonator: str = ""
    disallow_reissue: bool = False
    active_requests: tuple[str, ...] = ()
    allowed_resources: tuple[str, ...] | None = None
    """Resource ids (`/cluster/kind/name`) this certificate is restricted to; None: no restriction."""
    device_id: str = ""
    """The enrolled device that the holder proved to be on; empty: none was proved."""
    device_asset_tag: str = ""
    bot_name: str = ""
    """Set for a machine: the bot whose credentials these are."""
    bot_instance_id: str = ""
    join_token: str = ""
    """Name of the token that the machine joined with, where that is no secret."""
    renewable: bool = False
    """A machine's own certificates, which it renews; what it makes from them is not renewable."""
    generation: int = 0
    """Counts renewals, so that a stolen copy shows; 0: no machine."""
    extensions: tuple[str, ...] = ()
    """Flag extensions of an SSH certificate: permit-pty, permit-agent-forwarding, ..."""
    force_command: str = ""
    relayed_by: str = ""
    """Host id of the proxy that logs in for the user and keeps the session's record; empty: themselves."""
    serial: int = 0

    @property
    def host_id(self) -> str:
        """The host id of a host; a user has none."""
        if self.kind is not PeerKind.HOST:
            raise ValueError("a user identity has no host id")
        return self.name

    @property
    def session_mfa(self) -> str:
        """The second factor that counts where each session demands one; empty: none does. A certificate for a
        database has one only if a code was given to make it (docs/adr/0133); that of the login is old."""
        if self.route_to_database is not None and not self.previous_expires_at:
            return ""
        return self.mfa_device

    def is_host(self, role: SystemRole) -> bool:
        return self.kind is PeerKind.HOST and role in self.system_roles

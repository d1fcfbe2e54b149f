"""What is to be written into certificates, before they exist. One spec serves the SSH and the TLS form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from pkgs.common.errors import InputError
from pkgs.common.pki import limits
from pkgs.common.pki.identity import Identity, PeerKind, RouteToDatabase, SystemRole
from pkgs.common.resources.names import (
    valid_extension_name,
    valid_extension_value,
    valid_host_id,
    valid_host_name,
    valid_login,
    valid_user_name,
)

DEFAULT_EXTENSIONS = ("permit-pty",)
NO_LOGIN_PREFIX = "no-login-"


class UserCertSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A user's certificates. Fields as in `Identity`; times in Unix seconds, and expiry is finite."""

    user: str
    cluster: str
    roles: tuple[str, ...] = ()
    traits: dict[str, tuple[str, ...]] = {}
    logins: tuple[str, ...]
    """SSH principals; at least one (`no-login-<uuid>` for somebody without logins)."""
    valid_after: float
    valid_before: float
    source_addr: str = ""
    login_ip: str = ""
    route_to_cluster: str = ""
    route_to_database: RouteToDatabase | None = None
    """TLS only: such a certificate has no SSH form."""
    previous_expires_at: float = 0.0
    mfa_device: str = ""
    impersonator: str = ""
    disallow_reissue: bool = False
    active_requests: tuple[str, ...] = ()
    allowed_resources: tuple[str, ...] | None = None
    device_id: str = ""
    device_asset_tag: str = ""
    bot_name: str = ""
    bot_instance_id: str = ""
    join_token: str = ""
    renewable: bool = False
    generation: int = 0
    extensions: tuple[str, ...] = DEFAULT_EXTENSIONS
    """Flag extensions of the SSH certificate."""
    custom_extensions: dict[str, str] = {}
    """Name to value of what the roles add to the SSH certificate for others to read; never for ourselves."""
    force_command: str = ""
    relayed_to: str = ""
    """SSH only: the one host that takes the certificate, from the proxy `relayed_by`. Both or neither."""
    relayed_by: str = ""
    oldssh: bool = False
    """Leave out the extensions that old servers choke on (role option `cert_format: oldssh`)."""
    serial: int = 0
    """0: a random one."""


class HostCertSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A host's certificates."""

    host_id: str
    node_name: str = ""
    cluster: str
    system_roles: tuple[SystemRole, ...]
    additional_principals: tuple[str, ...] = ()
    valid_after: float
    valid_before: float = math.inf
    serial: int = 0

    def principals(self) -> list[str]:
        """Names the host answers to, as the field has them."""
        names = [f"{self.host_id}.{self.cluster}", self.host_id]
        if self.node_name:
            names += [f"{self.node_name}.{self.cluster}", self.node_name]
        names += ["localhost", "127.0.0.1", "::1", *self.additional_principals]
        return list(dict.fromkeys(names))


def check_user_spec(spec: UserCertSpec) -> None:
    """Refuses what must never be signed, whoever asked."""
    if not valid_user_name(spec.user):
        raise InputError("user name is not fit for a certificate", hint="letters, digits, '.', '_', '-', '@'")
    if not spec.logins:
        raise InputError("a user certificate needs at least one principal")
    if len(spec.logins) > limits.MAX_PRINCIPALS:
        raise InputError(f"more than {limits.MAX_PRINCIPALS} logins in one certificate")
    for login in spec.logins:
        if not valid_login(login) and not login.startswith((NO_LOGIN_PREFIX, "-teleport-")):
            raise InputError(f"login {login!r} is not a valid OS user name")
    _check_extensions(spec)
    check_times(spec.valid_after, spec.valid_before)
    if math.isinf(spec.valid_before):
        raise InputError("a user certificate must expire")
    if spec.route_to_database is not None:
        _check_route(spec.route_to_database)
    for host in (spec.relayed_to, spec.relayed_by):
        if (spec.relayed_to or spec.relayed_by) and not valid_host_id(host):
            raise InputError("a relayed certificate names its server and its proxy")


def _check_route(route: RouteToDatabase) -> None:
    texts = (route.service, route.protocol, route.user, route.database, *(route.roles or ()))
    if not route.service or not route.protocol:
        raise InputError("a certificate for a database names the database and its protocol")
    if len(route.roles or ()) > limits.MAX_DATABASE_ROLES:
        raise InputError(f"more than {limits.MAX_DATABASE_ROLES} database roles in one certificate")
    for text in texts:
        if len(text) > limits.MAX_DATABASE_TEXT or not text.isprintable():
            raise InputError(f"{text[:100]!r} is not fit for a certificate", hint="a printable, shorter name")


def _check_extensions(spec: UserCertSpec) -> None:
    if len(spec.custom_extensions) > limits.MAX_CUSTOM_EXTENSIONS:
        raise InputError(f"more than {limits.MAX_CUSTOM_EXTENSIONS} custom extensions in one certificate")
    for name, value in spec.custom_extensions.items():
        if not valid_extension_name(name) or not valid_extension_value(value):
            raise InputError(f"{name[:100]!r} is no extension that a role may add")


def check_host_spec(spec: HostCertSpec) -> None:
    """Refuses what must never be signed, whoever asked."""
    if not valid_host_id(spec.host_id):
        raise InputError("host id is not a UUID")
    if not spec.system_roles:
        raise InputError("a host certificate needs a system role")
    check_host_principals([spec.node_name] if spec.node_name else [])
    check_host_principals(spec.additional_principals)
    check_times(spec.valid_after, spec.valid_before)


def check_host_principals(names: Sequence[str]) -> None:
    """Refuses names with other syntax than a host's, and those that stand for a system role."""
    if len(names) > limits.MAX_PRINCIPALS:
        raise InputError(f"more than {limits.MAX_PRINCIPALS} principals in one certificate")
    for name in names:
        if not valid_host_name(name):
            raise InputError(f"{name!r} is not a host name or IP address")
        lowered = name.lower().rstrip(".")
        if lowered == "teleport.cluster.local" or lowered.endswith(".teleport.cluster.local"):
            raise InputError(f"{name!r} is reserved for the cluster's own services")


def check_times(valid_after: float, valid_before: float) -> None:
    if not 0 <= valid_after < valid_before:
        raise InputError("a certificate must expire after it begins")


def spec_from_identity(identity: Identity, *, valid_after: float, **changes: Any) -> UserCertSpec:
    """The spec that repeats a user's identity with all its restrictions; `changes` narrow it further.

    Expiry may only come earlier (attack A34): a later one raises InputError."""
    if identity.kind is not PeerKind.USER:
        raise InputError("only a user's certificates can be reissued")
    if identity.relayed_by:
        raise InputError("a certificate for passing a user on is not reissued")
    if identity.route_to_database is not None:
        raise InputError("a certificate for one database is not reissued", hint="use that of your login")
    spec = UserCertSpec(
        user=identity.name,
        cluster=identity.cluster,
        roles=identity.roles,
        traits=identity.traits,
        logins=identity.logins,
        valid_after=valid_after,
        valid_before=identity.expires_at,
        source_addr=identity.source_addr,
        login_ip=identity.login_ip,
        route_to_cluster=identity.route_to_cluster,
        previous_expires_at=identity.previous_expires_at,
        mfa_device=identity.mfa_device,
        impersonator=identity.impersonator,
        disallow_reissue=identity.disallow_reissue,
        active_requests=identity.active_requests,
        allowed_resources=identity.allowed_resources,
        device_id=identity.device_id,
        device_asset_tag=identity.device_asset_tag,
        bot_name=identity.bot_name,
        bot_instance_id=identity.bot_instance_id,
        join_token=identity.join_token,
        renewable=identity.renewable,
        generation=identity.generation,
        extensions=identity.extensions or DEFAULT_EXTENSIONS,
        force_command=identity.force_command,
    )
    narrowed = msgspec.structs.replace(spec, **changes)
    if narrowed.valid_before > spec.valid_before:
        raise InputError("a reissued certificate cannot live longer than the one it comes from")
    if (spec.user, spec.cluster) != (narrowed.user, narrowed.cluster):
        raise InputError("a reissued certificate is for the same user of the same cluster")
    for pinned in ("source_addr", "mfa_device", "impersonator", "force_command", "device_id", "bot_name"):
        before = getattr(spec, pinned)
        if before and getattr(narrowed, pinned) != before:
            raise InputError(f"a reissued certificate keeps its {pinned}")
    return narrowed

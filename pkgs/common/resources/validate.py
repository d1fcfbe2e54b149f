"""What a resource's fields may hold, beyond their types: names, durations, labels, references.

The languages inside roles (templates, selectors, conditions) are checked where they live, in the access
room, whose `validate` calls this one first.
"""

from __future__ import annotations

import re

from pkgs.common.errors import InputError
from pkgs.common.resources.codec import to_json
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import (
    AuthPreference,
    CertAuthority,
    ClusterName,
    Lock,
    NetworkingConfig,
    Node,
    Proxy,
    Resource,
    Token,
    User,
)
from pkgs.common.resources.names import valid_cluster_name, valid_host_id, valid_user_name
from pkgs.common.resources.registry import SINGLETONS
from pkgs.common.resources.role import Conditions, Labels, Role
from pkgs.common.resources.yamlnodes import MAX_RESOURCE_BYTES

ROLE_VERSIONS = ("v3", "v4", "v5", "v6", "v7", "v8")
SYSTEM_ROLES = (
    "Auth",
    "Proxy",
    "Node",
    "Db",
    "App",
    "Kube",
    "WindowsDesktop",
    "Discovery",
    "Bot",
    "MDM",
)
MAX_NAME_LENGTH = 255
MAX_LABELS = 1000
MAX_LABEL_LENGTH = 1000
_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]+")
_LABEL_KEY = re.compile(r"[A-Za-z0-9/.:_*+-]+", re.ASCII)


def check_fields(resource: Resource) -> None:
    """Raises InputError naming kind, name and field of the first problem."""
    where = f"{resource.kind}/{_short(resource.name)}"
    _check_metadata(resource, where)
    if resource.sub_kind and not isinstance(resource, CertAuthority | Node):
        # It would be stored beside the resource of the same name and stand in for it.
        raise InputError(f"{where}: sub_kind: a {resource.kind} has none", hint="leave it out")
    expected = SINGLETONS.get(resource.kind)
    if expected is not None and resource.name != expected:
        raise InputError(f"{where}: metadata.name: there is only one, named {expected}")
    if isinstance(resource, Role):
        _check_role(resource, where)
    elif resource.version not in {"v1", "v2", "v3"}:
        raise InputError(f"{where}: version: found {resource.version!r}, expected v2")
    elif isinstance(resource, User):
        _check_user(resource, where)
    elif isinstance(resource, Token):
        _check_token(resource, where)
    elif isinstance(resource, Lock):
        if resource.spec.target == type(resource.spec.target)():
            raise InputError(f"{where}: spec.target: nothing is locked", hint="set user, role, login, ...")
    elif isinstance(resource, ClusterName):
        _check_cluster(resource.spec.cluster_name, where)
    elif isinstance(resource, CertAuthority):
        _check_authority(resource, where)
    elif isinstance(resource, AuthPreference):
        parse_duration(resource.spec.default_session_ttl, f"{where}: spec.default_session_ttl")
    elif isinstance(resource, NetworkingConfig):
        parse_duration(resource.spec.client_idle_timeout, f"{where}: spec.client_idle_timeout")
        parse_duration(resource.spec.keep_alive_interval, f"{where}: spec.keep_alive_interval")
    elif isinstance(resource, Node | Proxy):
        if not valid_host_id(resource.name):
            raise InputError(f"{where}: metadata.name: expected a host id (a UUID)")
        if not resource.spec.hostname:
            raise InputError(f"{where}: spec.hostname: missing")
    if len(to_json(resource, with_secrets=True)) > MAX_RESOURCE_BYTES:
        raise InputError(f"{where}: larger than {MAX_RESOURCE_BYTES} bytes")


def _short(name: str) -> str:
    return name if len(name) <= 60 else name[:60] + "..."


def _check_metadata(resource: Resource, where: str) -> None:
    name = resource.name
    if not name or len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name) or name in {".", ".."}:
        raise InputError(
            f"{where}: metadata.name: not a valid name",
            hint=f"1 to {MAX_NAME_LENGTH} printable characters without slashes",
        )
    labels = resource.metadata.labels
    if len(labels) > MAX_LABELS:
        raise InputError(f"{where}: metadata.labels: more than {MAX_LABELS} labels")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or len(key) > MAX_LABEL_LENGTH:
            raise InputError(
                f"{where}: metadata.labels: {_short(key)!r} is not a valid label name",
                hint="letters, digits and / . : _ * + -",
            )
        if len(value) > MAX_LABEL_LENGTH:
            raise InputError(f"{where}: metadata.labels.{key}: longer than {MAX_LABEL_LENGTH} characters")
    expires = resource.metadata.expires
    if expires is not None and expires.tzinfo is None:
        raise InputError(f"{where}: metadata.expires: expected a time with its zone")


def _check_role(role: Role, where: str) -> None:
    if role.version not in ROLE_VERSIONS:
        allowed = ", ".join(ROLE_VERSIONS)
        raise InputError(f"{where}: version: found {_short(role.version)!r}, expected one of {allowed}")
    if role.name in {*SYSTEM_ROLES, "default-implicit-role"}:
        raise InputError(f"{where}: metadata.name: reserved for the system")
    options = role.spec.options
    for name in ("max_session_ttl", "client_idle_timeout", "mfa_verification_interval"):
        parse_duration(getattr(options, name), f"{where}: spec.options.{name}")
    if options.max_sessions < 0 or options.max_connections < 0:
        raise InputError(f"{where}: spec.options: a limit below 0")
    if "*" in role.spec.allow.logins:
        raise InputError(
            f"{where}: spec.allow.logins: '*' is not allowed", hint="name the logins, or {{internal.logins}}"
        )
    for side, conditions in (("allow", role.spec.allow), ("deny", role.spec.deny)):
        for field, labels in _selectors(conditions):
            _check_selector(labels, f"{where}: spec.{side}.{field}")


def _selectors(conditions: Conditions) -> list[tuple[str, Labels]]:
    return [
        (name, getattr(conditions, name)) for name in conditions.__struct_fields__ if name.endswith("_labels")
    ]


def _check_selector(labels: Labels, where: str) -> None:
    for key, value in labels.items():
        values = [value] if isinstance(value, str) else value
        if key == "*" and values != ["*"]:
            raise InputError(f"{where}: the key '*' may only have the value '*'")
        if not values:
            raise InputError(f"{where}.{key}: no values", hint="'*' stands for any value")


def _check_user(user: User, where: str) -> None:
    if not valid_user_name(user.name):
        raise InputError(
            f"{where}: metadata.name: not a valid user name",
            hint="up to 64 letters, digits, '.', '_', '-', '@', '+'",
        )
    if not user.spec.roles:
        raise InputError(f"{where}: spec.roles: a user needs at least one role")
    lowered = {role.lower() for role in SYSTEM_ROLES}
    for role in user.spec.roles:
        if not role or role.lower() in lowered:
            raise InputError(f"{where}: spec.roles: {_short(role)!r} is reserved for the system")


def _check_token(token: Token, where: str) -> None:
    known = {role.lower() for role in SYSTEM_ROLES}
    if not token.spec.roles:
        raise InputError("token: spec.roles: missing", hint=f"allowed: {', '.join(SYSTEM_ROLES)}")
    for role in token.spec.roles:
        if role.lower() not in known:
            raise InputError(
                f"token: spec.roles: {_short(role)!r} is no system role",
                hint=f"allowed: {', '.join(SYSTEM_ROLES)}",
            )


def _check_cluster(name: str, where: str) -> None:
    if not valid_cluster_name(name):
        raise InputError(f"{where}: spec.cluster_name: not a DNS name")


def _check_authority(ca: CertAuthority, where: str) -> None:
    _check_cluster(ca.spec.cluster_name, where)
    if ca.sub_kind != ca.spec.type:
        raise InputError(f"{where}: sub_kind: expected the authority's type, {ca.spec.type}")
    if ca.name != ca.spec.cluster_name:
        raise InputError(f"{where}: metadata.name: expected the cluster's name")

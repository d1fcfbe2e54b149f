"""The lists of names that certificates carry: OS logins, Kubernetes groups, database users, ..."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pkgs.common.access.matching.traits import Traits, expand
from pkgs.common.access.options.merge import InForce, always
from pkgs.common.access.protocols import app, db, desktop, kube, ssh
from pkgs.common.access.protocols.grants import Principal, applies_here, matchers
from pkgs.common.errors import DeniedError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.names import valid_login
from pkgs.common.resources.role import Role

PrincipalKind = Literal[
    "logins",
    "windows_desktop_logins",
    "linux_desktop_logins",
    "kubernetes_users",
    "kubernetes_groups",
    "db_users",
    "db_names",
    "aws_role_arns",
    "azure_identities",
    "gcp_service_accounts",
]
"""Each is a field of `allow` and of `deny`."""
WILDCARD = "*"
_RULES: dict[str, Principal] = {
    principal.field: principal
    for protocol in (ssh.PROTOCOL, db.PROTOCOL, app.PROTOCOL, kube.PROTOCOL, desktop.PROTOCOL)
    for principal in (*protocol.principals, Principal("linux_desktop_logins", valid=valid_login))
}


def logins_for(
    roles: Sequence[Role],
    traits: Traits,
    ttl_s: float,
    in_force: InForce = always,
    refusing: InForce = always,
) -> tuple[str, ...]:
    """OS logins for a certificate of this life. Empty when no role gives any; DeniedError when some would,
    but not for so long. Raises InputError."""
    found = principals_for("logins", roles, traits, ttl_s, in_force, refusing)
    if not found and principals_for("logins", roles, traits, 0.0, in_force, refusing):
        raise _too_long()
    return found


def principals_for(
    kind: PrincipalKind,
    roles: Sequence[Role],
    traits: Traits,
    ttl_s: float,
    in_force: InForce = always,
    refusing: InForce = always,
) -> tuple[str, ...]:
    """Names of one kind for a certificate of this life: union of the allows of roles that permit the life and
    are `in_force`, minus every deny of those that are `refusing`. Empty: the certificate has nothing of this
    kind. DeniedError when no role permits so long a life and one would give something for a shorter. Raises
    InputError."""
    covering = [role for role in roles if _covers(role, ttl_s)]
    denying = [role for role in roles if refusing(role)]
    found = _collected(kind, covering, denying, traits, in_force)
    if not covering and _collected(kind, roles, denying, traits, in_force):
        raise _too_long()
    return found


def _collected(
    kind: PrincipalKind, allowing: Sequence[Role], denying: Sequence[Role], traits: Traits, in_force: InForce
) -> tuple[str, ...]:
    principal = _RULES[kind]
    allowed = {value for role in allowing if in_force(role) for value in _allowed(principal, role, traits)}
    denied = [matchers(role, principal, traits)[1] for role in denying]
    kept = {
        principal.comparable(value): value
        for value in sorted(allowed, reverse=True)
        if not any(deny.matches(principal.comparable(value)) for deny in denied)
    }
    return tuple(sorted(kept.values()))


def _allowed(principal: Principal, role: Role, traits: Traits) -> Iterator[str]:
    """What one role allows, as it is written. A `*` counts only where the role itself writes it and the kind
    knows it: in a list of names one out of a trait would be taken for everything (attack A25)."""
    if not applies_here(role.spec.allow):
        return
    for entry in principal.entries(role.spec.allow):
        expanded = expand(entry, traits)
        for value in expanded.values:
            if value == WILDCARD:
                if principal.allow_any and not expanded.from_trait:
                    yield value
            elif value.isprintable() and (principal.valid is None or principal.valid(value)):
                yield value


def _covers(role: Role, ttl_s: float) -> bool:
    longest = parse_duration(role.spec.options.max_session_ttl)
    return not longest or longest >= ttl_s


def _too_long() -> DeniedError:
    return DeniedError("no role allows certificates that live so long", hint="ask for a shorter --ttl")

"""The lists of names that certificates carry: OS logins, Kubernetes groups, database users, ..."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pkgs.common.access.options.merge import InForce, always
from pkgs.common.access.roleset import applies_here, compile_role
from pkgs.common.access.traits import Traits, expand
from pkgs.common.errors import DeniedError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.names import valid_login, valid_windows_login
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


@dataclass(frozen=True, slots=True)
class _Rules:
    fit: Callable[[str], bool]
    wildcard: bool = False
    """A role may write `*` in allow."""
    fold: bool = False
    """Upper and lower case are the same."""


def _plain(name: str) -> bool:
    return bool(name) and name.isprintable()


_RULES: dict[PrincipalKind, _Rules] = {
    "logins": _Rules(valid_login),
    "windows_desktop_logins": _Rules(valid_windows_login),
    "linux_desktop_logins": _Rules(valid_login),
    "kubernetes_users": _Rules(_plain),
    "kubernetes_groups": _Rules(_plain),
    "db_users": _Rules(_plain, wildcard=True),
    "db_names": _Rules(_plain, wildcard=True),
    "aws_role_arns": _Rules(_plain),
    "azure_identities": _Rules(_plain, fold=True),
    "gcp_service_accounts": _Rules(_plain),
}


def logins_for(
    roles: Sequence[Role], traits: Traits, ttl_s: float, in_force: InForce = always
) -> tuple[str, ...]:
    """OS logins for a certificate of this life. Empty when no role gives any; DeniedError when some would,
    but not for so long. Raises InputError for a role that is not understood, whatever it is about."""
    for role in roles:
        compile_role(role, traits)
    found = principals_for("logins", roles, traits, ttl_s, in_force)
    if not found and principals_for("logins", roles, traits, 0.0, in_force):
        raise _too_long()
    return found


def principals_for(
    kind: PrincipalKind, roles: Sequence[Role], traits: Traits, ttl_s: float, in_force: InForce = always
) -> tuple[str, ...]:
    """Names of one kind for a certificate of this life: union of the allows of roles that permit the life,
    minus every deny. Empty: the certificate has nothing of this kind. DeniedError when no role permits so
    long a life and one would give something for a shorter. Raises InputError."""
    covering = [role for role in roles if _covers(role, ttl_s)]
    found = _collected(kind, covering, roles, traits, in_force)
    if not covering and _collected(kind, roles, roles, traits, in_force):
        raise _too_long()
    return found


def allowed_values(kind: PrincipalKind, role: Role, traits: Traits) -> frozenset[str]:
    """What one role allows. A `*` counts only where the role itself writes it and the kind knows it: none
    comes from a trait (attack A25)."""
    rules = _RULES[kind]
    found: set[str] = set()
    for entry in getattr(role.spec.allow, kind) if applies_here(role.spec.allow) else ():
        expanded = expand(entry, traits)
        for value in expanded.values:
            if value == WILDCARD:
                if rules.wildcard and not expanded.from_trait:
                    found.add(value)
            elif rules.fit(value):
                found.add(value)
    return frozenset(found)


def denied_values(kind: PrincipalKind, role: Role, traits: Traits) -> frozenset[str]:
    """What one role denies; `*`, wherever it comes from, is everything."""
    return frozenset(
        value for entry in getattr(role.spec.deny, kind) for value in expand(entry, traits).values
    )


def _collected(
    kind: PrincipalKind, allowing: Sequence[Role], roles: Sequence[Role], traits: Traits, in_force: InForce
) -> tuple[str, ...]:
    denied = {value for role in roles for value in denied_values(kind, role, traits)}
    allowed = {value for role in allowing if in_force(role) for value in allowed_values(kind, role, traits)}
    if WILDCARD in denied:
        return ()
    if not _RULES[kind].fold:
        return tuple(sorted(allowed - denied))
    folded = {value.casefold() for value in denied}
    found = {value.casefold(): value for value in sorted(allowed, reverse=True)}
    return tuple(sorted(value for key, value in found.items() if key not in folded))


def _covers(role: Role, ttl_s: float) -> bool:
    longest = parse_duration(role.spec.options.max_session_ttl)
    return not longest or longest >= ttl_s


def _too_long() -> DeniedError:
    return DeniedError("no role allows certificates that live so long", hint="ask for a shorter --ttl")

"""Databases: seeing one, and opening a session as a database user, which may be made on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pkgs.common.access.dbobjects import compile_permissions
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.protocols.grants import Demand, Grant, Grants, Principal, Protocol
from pkgs.common.access.types import ConnectDatabase, Decision, Environment
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.role import Role

USERS, NAMES, ROLES = 0, 1, 2
PROTOCOL = Protocol(
    "database",
    "db_labels",
    (
        Principal("db_users", allow_any=True),
        Principal("db_names", allow_any=True),
        Principal("db_roles"),
    ),
)
WITH_NAMES = frozenset({"postgres", "cockroachdb", "mongodb", "spanner"})
"""Protocols in which a connection names a database that roles must allow."""
_MODES = {"": 0, "off": 1, "keep": 2, "best_effort_drop": 3}
NO_USER = Decision(False, ("no database user is named",))
BOTH = Decision(
    False, ("db_roles and db_permissions exclude each other, and roles give the user made on demand both",)
)
NO_OBJECTS = Decision(False, ("object permissions (db_permissions) are granted in PostgreSQL only",))
OWN_NAME = Decision(False, ("database users are made on demand here, and yours has your own name",))


@dataclass(frozen=True, slots=True)
class AutoUser:
    """How a database user is made on demand."""

    mode: str
    """`keep` or `best_effort_drop`; `off`: users exist already."""
    roles: tuple[str, ...]
    """Database roles it may get."""


def auto_user(grants: Grants, labels: Mapping[str, str], env: Environment) -> AutoUser:
    """Over the roles that select the database by its labels; the highest mode wins, roles are united, and
    what a role with the mode denies is taken away."""
    selecting = [grant for grant in grants.every if grant.selects(labels) and grant.in_force(env)]
    mode = max((provisioning(grant.source) for grant in selecting), key=lambda name: _MODES[name], default="")
    if _MODES[mode] <= _MODES["off"]:
        return AutoUser("off", ())
    granted = {role for grant in _making(grants, labels, env) for role in grant.allowed[ROLES].exact}
    denied = list(_denying(grants, labels, env))
    kept = [role for role in granted if not any(grant.denies((ROLES, role)) for grant in denied)]
    return AutoUser(mode, tuple(sorted(kept)))


def _making(grants: Grants, labels: Mapping[str, str], env: Environment) -> Iterator[Grant]:
    """Those that have a user made in a database with these labels."""
    for grant in grants.every:
        makes = _MODES[provisioning(grant.source)] > _MODES["off"]
        if makes and grant.selects(labels) and grant.in_force(env):
            yield grant


def _denying(grants: Grants, labels: Mapping[str, str], env: Environment) -> Iterator[Grant]:
    """Those whose deny of what a made user gets counts there."""
    return (grant for grant in grants.every if _denies_roles(grant, labels) and grant.deny_in_force(env))


def _denies_roles(grant: Grant, labels: Mapping[str, str]) -> bool:
    """A deny of database roles counts everywhere, or where the role's deny labels match."""
    deny = grant.source.spec.deny
    return not (deny.db_labels or deny.db_labels_expression) or bool(grant.refusal(labels))


def provisioning(role: Role) -> str:
    """The role's mode; the older switch counts where the mode is not set."""
    options = role.spec.options
    if options.create_db_user_mode:
        return options.create_db_user_mode
    return {True: "keep", False: "off", None: ""}[options.create_db_user]


def named(target: ConnectDatabase, identity: Identity, auto: AutoUser) -> ConnectDatabase | Decision:
    """The question with the user whom it is about; a made user has the name of its owner."""
    if auto.mode == "off":
        return target if target.user else NO_USER
    if target.user not in ("", identity.name):
        return OWN_NAME
    return ConnectDatabase(target.db, identity.name, target.name, target.roles)


def demands(target: ConnectDatabase, auto: AutoUser) -> tuple[Demand, ...]:
    """A made user needs no `db_users`; a name counts where the protocol has such (attack A26: compared as it
    is, letter by letter)."""
    wanted: list[Demand] = [] if auto.mode != "off" else [(USERS, target.user)]
    if target.db.spec.protocol in WITH_NAMES:
        wanted.append((NAMES, target.name))
    return tuple(wanted)


def with_roles(decision: Decision, target: ConnectDatabase, auto: AutoUser) -> Decision:
    """A yes with the database roles that the made user gets; asking for others is refused."""
    if not decision or auto.mode == "off":
        if decision and target.roles:
            return Decision(False, ("database roles are for users made on demand only",))
        return decision
    wanted = auto.roles if target.roles is None else target.roles
    for role in wanted:
        if role not in auto.roles:
            return Decision(False, (f"no role allows the database role {role} for a user made on demand",))
    found = {"db_roles": tuple(wanted), "create_db_user_mode": (auto.mode,)}
    return Decision(True, decision.reasons, principals=found)


def with_objects(
    decision: Decision, target: ConnectDatabase, grants: Grants, env: Environment, traits: Traits
) -> Decision:
    """A yes to a made user with what it gets on the objects inside; that and database roles exclude each
    other. Raises InputError."""
    if not decision or "create_db_user_mode" not in decision.principals:
        return decision
    labels = labels_of(target.db)
    permissions = compile_permissions(
        [one for grant in _making(grants, labels, env) for one in grant.source.spec.allow.db_permissions],
        [one for grant in _denying(grants, labels, env) for one in grant.source.spec.deny.db_permissions],
        traits,
    )
    if not permissions.allowed:
        return decision
    if decision.principals["db_roles"]:
        return BOTH
    if target.db.spec.protocol != "postgres":
        return NO_OBJECTS
    found = {**decision.principals, "db_permissions": permissions.texts}
    return Decision(True, decision.reasons, principals=found, objects=permissions)

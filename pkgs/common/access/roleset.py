"""A user's roles compiled for their traits: what `decide` asks, prepared once.

Compilation refuses (InputError) whatever it does not understand; a role set that does not compile
decides nothing but no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pkgs.common.access import rules
from pkgs.common.access.joining import KINDS, Kind, needs_company
from pkgs.common.access.matching.circumstances import Circumstances, compile_circumstances
from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.protocols import app, cluster, db, desktop, kube, ssh
from pkgs.common.access.protocols.grants import Grants, Protocol, applies_here, compile_grant, compile_grants
from pkgs.common.access.rules import CompiledRule
from pkgs.common.access.types import Environment, Subject
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.role import Role, Rule

PROTOCOLS: dict[str, Protocol] = {
    "node": ssh.PROTOCOL,
    "app": app.PROTOCOL,
    "app_server": app.PROTOCOL,
    "db": db.PROTOCOL,
    "db_server": db.PROTOCOL,
    "db_service": Protocol("database service", "db_service_labels"),
    "kube_cluster": kube.PROTOCOL,
    "kube_server": kube.PROTOCOL,
    "windows_desktop": desktop.PROTOCOL,
    "dynamic_windows_desktop": desktop.PROTOCOL,
    "remote_cluster": cluster.PROTOCOL,
    "user_group": Protocol("user group", "group_labels"),
    "workload_identity": Protocol("workload identity", "workload_identity_labels"),
}
"""Kinds whose every object roles select by labels."""
_CACHE_SIZE = 512
Key = TypeVar("Key", bound=tuple[object, ...])


@dataclass(frozen=True, slots=True)
class CompiledRole:
    """What a role says about the API, and when its sides count."""

    name: str
    allow_rules: tuple[CompiledRule, ...]
    deny_rules: tuple[CompiledRule, ...]
    allow_when: Circumstances | None
    deny_when: Circumstances | None

    def in_force(self, env: Environment) -> bool:
        """Whether the allow side counts now and from here."""
        return self.allow_when is None or self.allow_when.hold(env.now, env.source_addr, unknown=False)

    def lacking(self, env: Environment) -> tuple[tuple[str, str], ...]:
        """Field and wanted value of each condition of the allow side that does not hold."""
        return () if self.allow_when is None else self.allow_when.lacking(env.now, env.source_addr)

    def deny_in_force(self, env: Environment) -> bool:
        return self.deny_when is None or self.deny_when.hold(env.now, env.source_addr, unknown=True)


@dataclass(frozen=True, slots=True)
class RoleSet:
    """All roles of a subject, the implicit one at the end."""

    compiled: tuple[CompiledRole, ...]
    plain: tuple[Role, ...]
    traits: Traits
    needs_company: frozenset[Kind]
    """Kinds of sessions that some role lets run only while others watch."""
    _grants: dict[str, Grants | InputError] = field(default_factory=dict)

    def grants(self, protocol: Protocol) -> Grants:
        """The set for one protocol, compiled when it is first asked for. Raises InputError."""
        found = self._grants.get(protocol.labels)
        if found is None:
            try:
                found = compile_grants(
                    protocol,
                    [
                        compile_grant(role, protocol, self.traits, compiled.allow_when, compiled.deny_when)
                        for role, compiled in zip(self.plain, self.compiled, strict=True)
                    ],
                )
            except InputError as error:
                found = error
            self._grants[protocol.labels] = found
        if isinstance(found, InputError):
            raise found.with_traceback(None)
        return found


def compile_role(role: Role) -> CompiledRole:
    """The parts that no trait changes. Raises InputError."""
    allow, deny = role.spec.allow, role.spec.deny
    # Compiled even where it gives nothing: what is not understood refuses.
    allow_rules = _rules(role, "allow", allow.rules)
    return CompiledRole(
        name=role.name,
        allow_rules=allow_rules if applies_here(allow) else (),
        deny_rules=_rules(role, "deny", deny.rules),
        allow_when=_circumstances(role, "allow"),
        deny_when=_circumstances(role, "deny"),
    )


def _circumstances(role: Role, side: str) -> Circumstances | None:
    try:
        return compile_circumstances(role.spec.allow if side == "allow" else role.spec.deny, side)
    except InputError as error:
        raise InputError(f"role {role.name}: {error.message}", hint=error.hint) from None


def _rules(role: Role, side: str, found: Sequence[Rule]) -> tuple[CompiledRule, ...]:
    try:
        return rules.compile_rules(found, side)
    except InputError as error:
        raise InputError(f"role {role.name}: {error.message}", hint=error.hint) from None


def compile_roles(roles: Sequence[Role], traits: Mapping[str, Sequence[str]]) -> RoleSet:
    """Compiles without a cache; raises InputError naming the role that is not understood."""
    every = (*roles, IMPLICIT_ROLE)
    accompanied = frozenset(kind for kind in KINDS if needs_company(kind, every))
    return RoleSet(tuple(map(compile_role, every)), every, traits, accompanied)


class _Entry:
    __slots__ = ("held", "result")

    def __init__(self, held: tuple[object, ...], result: RoleSet | InputError) -> None:
        self.held = held
        self.result = result


_by_subject: dict[int, tuple[Subject, RoleSet]] = {}
"""Holds its subjects, so that an id is never taken over; only those whose roles cannot be changed."""
_by_identity: dict[tuple[int, ...], _Entry] = {}
_by_content: dict[tuple[object, ...], _Entry] = {}


def roles_of(subject: Subject) -> RoleSet:
    """The compiled roles of a subject, found at once while the same subject asks again and again. Raises
    InputError."""
    found = _by_subject.get(id(subject))
    if found is None:
        found = (subject, role_set(subject.identity, subject.roles))
        if isinstance(subject.roles, tuple):
            if len(_by_subject) >= _CACHE_SIZE:
                _by_subject.clear()
            _by_subject[id(subject)] = found
    return found[1]


def role_set(identity: Identity, roles: Sequence[Role]) -> RoleSet:
    """The compiled roles of an identity, remembered while these very objects are in use.

    Every connection makes an identity of its own, so what was compiled is shared by all that have the
    same roles and traits. Entries hold the objects they were made from, so an id is never taken over by
    another object; roles and identities are immutable, so an entry never goes stale."""
    key = (id(identity), *map(id, roles))
    entry = _by_identity.get(key)
    if entry is None:
        shared = _shared(identity.traits, roles)
        entry = _remember(_by_identity, key, _Entry((identity, *roles), shared.result))
    if isinstance(entry.result, InputError):
        raise entry.result.with_traceback(None)
    return entry.result


def _shared(traits: Traits, roles: Sequence[Role]) -> _Entry:
    key = (*map(id, roles), *((name, tuple(traits[name])) for name in sorted(traits)))
    entry = _by_content.get(key)
    if entry is None:
        result: RoleSet | InputError
        try:
            result = compile_roles(roles, traits)
        except InputError as error:
            result = error
        entry = _remember(_by_content, key, _Entry(tuple(roles), result))
    return entry


def _remember(cache: dict[Key, _Entry], key: Key, entry: _Entry) -> _Entry:
    if len(cache) >= _CACHE_SIZE:
        cache.clear()
    cache[key] = entry
    return entry

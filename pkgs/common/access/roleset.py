"""A user's roles compiled for their traits: what `decide` asks, prepared once.

Compilation refuses (InputError) whatever it does not understand; a role set that does not compile
decides nothing but no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pkgs.common.access import labels, rules
from pkgs.common.access.contexts.labelexpr import LabelTest, compile_label_expression
from pkgs.common.access.labels import LabelSelector
from pkgs.common.access.rules import CompiledRule
from pkgs.common.access.traits import Traits, expand
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.names import valid_login
from pkgs.common.resources.role import Conditions, Role, Rule

_NO_MFA = frozenset({"", "no", "off", "false", "0"})
_CACHE_SIZE = 512
Key = TypeVar("Key", bound=tuple[object, ...])


@dataclass(frozen=True, slots=True)
class CompiledRole:
    name: str
    allow_logins: frozenset[str]
    deny_logins: frozenset[str]
    allow_nodes: LabelSelector
    """Everything where only an expression is set."""
    deny_nodes: LabelSelector
    allow_expression: LabelTest | None
    """Further demand on a server's labels."""
    deny_expression: LabelTest | None
    """Further ground to refuse a server."""
    allow_rules: tuple[CompiledRule, ...]
    deny_rules: tuple[CompiledRule, ...]
    max_session_ttl_s: float
    requires_mfa: bool
    requires_device: bool

    @property
    def may_deny_nodes(self) -> bool:
        return bool(
            self.deny_nodes.everything or self.deny_nodes.keys or self.deny_expression or self.deny_logins
        )

    def allows_node(self, labels: Mapping[str, str]) -> bool:
        """Selector and expression, each where it is set, must hold."""
        return self.allow_nodes.matches(labels) and (
            self.allow_expression is None or self.allow_expression(labels)
        )

    def node_refusal(self, labels: Mapping[str, str]) -> str:
        """The field that refuses a server with these labels; empty: none. Either one is enough."""
        if self.deny_nodes.matches(labels):
            return "deny.node_labels"
        if self.deny_expression is not None and self.deny_expression(labels):
            return "deny.node_labels_expression"
        return ""


@dataclass(frozen=True, slots=True)
class RoleSet:
    """All roles of a subject, the implicit one at the end."""

    compiled: tuple[CompiledRole, ...]
    plain: tuple[Role, ...]
    denying: tuple[CompiledRole, ...]
    """Those that could refuse a server."""
    allowing: tuple[CompiledRole, ...]
    """Those that could allow a server."""


def requires_mfa(value: bool | str) -> bool:
    """Whether a `require_session_mfa` value asks for anything; what is not known to be off, does."""
    return value if isinstance(value, bool) else value.lower() not in _NO_MFA


def compile_role(role: Role, traits: Traits) -> CompiledRole:
    allow, deny, options = role.spec.allow, role.spec.deny, role.spec.options
    applies = applies_here(allow)
    # Compiled even where it gives nothing: what is not understood refuses.
    allow_rules = _rules(role, "allow", allow.rules)
    return CompiledRole(
        name=role.name,
        allow_logins=_logins(allow.logins, traits) if applies else frozenset(),
        deny_logins=_denied_logins(deny.logins, traits),
        allow_nodes=_allowed_nodes(allow, traits) if applies else labels.NOTHING,
        deny_nodes=labels.compile_selector(deny.node_labels, traits, deny=True),
        allow_expression=_expression(role, "allow", allow.node_labels_expression, traits),
        deny_expression=_expression(role, "deny", deny.node_labels_expression, traits),
        allow_rules=allow_rules if applies else (),
        deny_rules=_rules(role, "deny", deny.rules),
        max_session_ttl_s=parse_duration(options.max_session_ttl),
        requires_mfa=requires_mfa(options.require_session_mfa),
        requires_device=options.device_trust_mode == "required",
    )


def _allowed_nodes(allow: Conditions, traits: Traits) -> LabelSelector:
    if not allow.node_labels and allow.node_labels_expression:
        return labels.EVERYTHING
    return labels.compile_selector(allow.node_labels, traits)


def _expression(role: Role, side: str, text: str, traits: Traits) -> LabelTest | None:
    if not text:
        return None
    try:
        return compile_label_expression(text, traits, deny=side == "deny")
    except InputError as error:
        raise InputError(f"role {role.name}: {side}.node_labels_expression: {error.message}") from None


def _rules(role: Role, side: str, found: Sequence[Rule]) -> tuple[CompiledRule, ...]:
    try:
        return rules.compile_rules(found, side)
    except InputError as error:
        raise InputError(f"role {role.name}: {error.message}", hint=error.hint) from None


def applies_here(conditions: Conditions) -> bool:
    """Namespaces are a relic with one value; an allow for another one allows nothing."""
    return not conditions.namespaces or any(name in {"default", "*"} for name in conditions.namespaces)


def _logins(entries: Sequence[str], traits: Traits) -> frozenset[str]:
    """Expanded logins; what is no valid OS user name (a wildcard, say) is dropped (attacks A05, A25)."""
    return frozenset(
        value for entry in entries for value in expand(entry, traits).values if valid_login(value)
    )


def _denied_logins(entries: Sequence[str], traits: Traits) -> frozenset[str]:
    return frozenset(value for entry in entries for value in expand(entry, traits).values)


def compile_roles(roles: Sequence[Role], traits: Mapping[str, Sequence[str]]) -> RoleSet:
    """Compiles without a cache; raises InputError naming the role that is not understood."""
    every = (*roles, IMPLICIT_ROLE)
    compiled = tuple(compile_role(role, traits) for role in every)
    return RoleSet(
        compiled,
        every,
        tuple(role for role in compiled if role.may_deny_nodes),
        tuple(role for role in compiled if role.allow_nodes != labels.NOTHING),
    )


class _Entry:
    __slots__ = ("held", "result")

    def __init__(self, held: tuple[object, ...], result: RoleSet | InputError) -> None:
        self.held = held
        self.result = result


_by_identity: dict[tuple[int, ...], _Entry] = {}
_by_content: dict[tuple[object, ...], _Entry] = {}


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

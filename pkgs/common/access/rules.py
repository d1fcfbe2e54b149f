"""Rules on the API's resources: kind, verb and a `where` of the few forms that are understood."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pkgs.common.access.types import UseRule
from pkgs.common.errors import InputError
from pkgs.common.resources.registry import ALIASES, GROUPS
from pkgs.common.resources.role import Rule

VERBS = (
    "list",
    "read",
    "readnosecrets",
    "create",
    "update",
    "delete",
    "rotate",
    "use",
    "enroll",
    "create_enroll_token",
    "*",
)
_ALL_CONNECTORS = frozenset({"auth_connector", *GROUPS})
"""A rule on these is a rule on every kind of connector, in allow and in deny."""
_OWN_SESSION = "contains(session.participants,user.metadata.name)"


@dataclass(frozen=True, slots=True)
class CompiledRule:
    kinds: frozenset[str]
    verbs: frozenset[str]
    own_session_only: bool

    def matches(self, target: UseRule, user: str) -> bool:
        if target.kind not in self.kinds and "*" not in self.kinds:
            return False
        if target.verb not in self.verbs and "*" not in self.verbs:
            return False
        return not self.own_session_only or user in target.participants or user == target.owner


def compile_rules(rules: Iterable[Rule]) -> tuple[CompiledRule, ...]:
    """Raises InputError for a rule that asks for more than is understood: it is never ignored."""
    return tuple(_compile(rule) for rule in rules)


def _compile(rule: Rule) -> CompiledRule:
    if not rule.resources or not rule.verbs:
        raise InputError("a rule needs resources and verbs")
    unknown = [verb for verb in rule.verbs if verb not in VERBS]
    if unknown:
        raise InputError(f"verb {unknown[0]!r} does not exist", hint=f"allowed: {', '.join(VERBS)}")
    if rule.actions:
        raise InputError("rule actions are not supported", hint="remove `actions` from the rule")
    verbs = set(rule.verbs)
    if "read" in verbs:
        verbs.add("readnosecrets")
    kinds = frozenset(ALIASES.get(kind, kind) for kind in rule.resources)
    if not kinds.isdisjoint(_ALL_CONNECTORS):
        kinds |= {*GROUPS["connectors"]}
    return CompiledRule(kinds, frozenset(verbs), _is_own_session(rule, kinds))


def _is_own_session(rule: Rule, kinds: frozenset[str]) -> bool:
    where = "".join(rule.where.split())
    if not where:
        return False
    if where == _OWN_SESSION and kinds <= {"session", "session_tracker"}:
        return True
    raise InputError(
        f"`where: {rule.where}` is not supported yet",
        hint="the only condition so far is contains(session.participants, user.metadata.name) on `session`",
    )

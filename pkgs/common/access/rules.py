"""Rules on the API's resources: kind, verb, and the condition they may carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pkgs.common.access.contexts.ruleactions import LogAction, compile_action
from pkgs.common.access.contexts.where import Answer, Condition, compile_where
from pkgs.common.access.types import UseRule
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity
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


@dataclass(frozen=True, slots=True)
class CompiledRule:
    kinds: frozenset[str]
    verbs: frozenset[str]
    where: Condition | None
    actions: tuple[LogAction, ...] = ()

    def lines(self, target: UseRule, identity: Identity) -> tuple[tuple[str, str], ...]:
        """What the actions have to say, once the rule has matched."""
        return tuple(action.line(identity, target) for action in self.actions)

    def covers(self, target: UseRule) -> bool:
        """Kind and verb match, whatever the condition says."""
        return (target.kind in self.kinds or "*" in self.kinds) and (
            target.verb in self.verbs or "*" in self.verbs
        )

    def allows(self, target: UseRule, identity: Identity) -> bool:
        """For an allow: a condition that cannot be answered does not grant."""
        if not self.covers(target):
            return False
        if self.where is None:
            return True
        if target.any_object:
            return not self.where.own_session
        return self.where.ask(identity, target) is Answer.YES

    def denies(self, target: UseRule, identity: Identity) -> bool:
        """For a deny: a condition that cannot be answered refuses."""
        if not self.covers(target):
            return False
        if self.where is None:
            return True
        return not target.any_object and self.where.ask(identity, target) is not Answer.NO


def compile_rules(rules: Iterable[Rule], side: str) -> tuple[CompiledRule, ...]:
    """Raises InputError for a rule that asks for more than is understood: it is never ignored."""
    return tuple(_compile(rule, f"{side}.rules[{number}]") for number, rule in enumerate(rules))


def _compile(rule: Rule, place: str) -> CompiledRule:
    if not rule.resources or not rule.verbs:
        raise InputError("a rule needs resources and verbs")
    unknown = [verb for verb in rule.verbs if verb not in VERBS]
    if unknown:
        raise InputError(f"verb {unknown[0]!r} does not exist", hint=f"allowed: {', '.join(VERBS)}")
    verbs = set(rule.verbs)
    if "read" in verbs:
        verbs.add("readnosecrets")
    # A deny is meant however it is written; an allow is taken by the letter.
    written = (
        [kind.strip().lower() for kind in rule.resources] if place.startswith("deny.") else rule.resources
    )
    kinds = frozenset(ALIASES.get(kind, kind) for kind in written)
    if not kinds.isdisjoint(_ALL_CONNECTORS):
        kinds |= {*GROUPS["connectors"]}
    try:
        field = "where"
        where = compile_where(rule.where, kinds)
        actions = []
        for number, action in enumerate(rule.actions):
            field = f"actions[{number}]"
            actions.append(compile_action(action, kinds))
    except InputError as error:
        raise InputError(f"{place}.{field}: {error.message}") from None
    return CompiledRule(kinds, frozenset(verbs), where, tuple(actions))

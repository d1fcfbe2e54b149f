"""The `where` of rules, and their `actions`: compiled when a role is, asked with every call.

What a condition asks about may not be part of the question: then it cannot be answered, an allow does not
grant and a deny refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from pkgs.common.access.contexts.fields import resource_variables
from pkgs.common.access.predicate import parser
from pkgs.common.access.predicate.evaluate import compile_expression
from pkgs.common.access.predicate.faults import EvaluationError, fault
from pkgs.common.access.predicate.functions import RULES
from pkgs.common.access.predicate.typecheck import check
from pkgs.common.access.predicate.vocabulary import Function, Type, Variable, Vocabulary
from pkgs.common.access.types import UseRule
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import CertAuthority, Resource
from pkgs.common.resources.registry import TYPES

SESSION_KINDS = frozenset({"session", "session_tracker", "ssh_session"})
_OWN_SESSION = parser.parse("contains(session.participants, user.metadata.name)")
_LOG_LEVELS = ("debug", "info", "warning", "error")


class Scope(NamedTuple):
    """What a condition is asked about."""

    identity: Identity
    target: UseRule


class Answer(Enum):
    YES = "true"
    NO = "false"
    UNKNOWN = "cannot be answered here"


@dataclass(frozen=True, slots=True)
class Condition:
    text: str
    run: Callable[[Scope], bool]
    asks_resource: bool
    asks_session: bool
    own_session: bool
    """It is just 'took part in the session'."""

    def ask(self, identity: Identity, target: UseRule) -> Answer:
        """Never raises: what fails cannot be answered."""
        if self.asks_session and not target.knows_session:
            return Answer.UNKNOWN
        if self.asks_resource and target.resource is None:
            return Answer.UNKNOWN
        try:
            return Answer.YES if self.run(Scope(identity, target)) else Answer.NO
        except EvaluationError:
            return Answer.UNKNOWN


def compile_where(text: str, kinds: frozenset[str]) -> Condition | None:
    """The condition of a rule on these kinds, None for an empty one; InputError points at the character."""
    if not text.strip():
        return None
    return _compiled(text, kinds)


@lru_cache(maxsize=1024)
def _compiled(text: str, kinds: frozenset[str]) -> Condition:
    expression = compile_expression(text, _vocabulary(kinds))
    names = {name.partition(".")[0] for name in expression.names - {"resource.kind"}}
    return Condition(
        text=text,
        run=expression.bind(),
        asks_resource=bool(names & {"resource", "labels", "name"}),
        asks_session="session" in names or "session_tracker" in names,
        own_session=_same(expression.tree, _OWN_SESSION),
    )


def check_action(text: str, kinds: frozenset[str]) -> None:
    """Raises InputError unless the action is a `log("level", "format", args...)`."""
    tree = parser.parse(text)
    if not isinstance(tree, parser.Call) or tree.name != "log":
        raise fault(text, tree.at, 'an action is log("level", "format", ...)')
    if len(tree.args) < 2:
        raise fault(text, tree.at, f"log takes 2 or more arguments, found {len(tree.args)}")
    level = tree.args[0]
    if not isinstance(level, parser.Text) or level.value.lower() not in _LOG_LEVELS:
        raise fault(text, level.at, f"log takes a level here: {', '.join(_LOG_LEVELS)}")
    for arg in tree.args[1:]:
        check(text, arg, _vocabulary(kinds), wanted=Type.TEXT)


@lru_cache(maxsize=256)
def _vocabulary(kinds: frozenset[str]) -> Vocabulary:
    every = frozenset(TYPES) if "*" in kinds else kinds
    variables = dict(resource_variables(every, _resource))
    variables["resource.kind"] = Variable(Type.TEXT, lambda scope: scope.target.kind)
    variables["user.metadata.name"] = Variable(Type.TEXT, lambda scope: scope.identity.name)
    variables["user.spec.roles"] = Variable(Type.LIST, lambda scope: scope.identity.roles)
    variables["user.spec.traits"] = Variable(Type.LISTS, lambda scope: scope.identity.traits)
    elsewhere = {}
    if "*" in kinds or kinds & SESSION_KINDS:
        for root in ("session", "session_tracker"):
            variables |= {f"{root}.{name}": variable for name, variable in _SESSION.items()}
    else:
        elsewhere = dict.fromkeys(
            ("session", "session_tracker"),
            f"only rules for {', '.join(sorted(SESSION_KINDS))} know a session",
        )
    catype = Function((), Type.TEXT, _catype, needs="resource")
    return Vocabulary(variables, {**RULES, "system.catype": catype}, elsewhere)


_SESSION: dict[str, Variable] = {
    "participants": Variable(Type.LIST, lambda scope: scope.target.everyone),
    "user": Variable(Type.TEXT, lambda scope: scope.target.owner),
    "login": Variable(Type.TEXT, lambda scope: scope.target.login),
    "server_hostname": Variable(Type.TEXT, lambda scope: scope.target.server_hostname),
}


def _resource(scope: Scope) -> Resource | None:
    return scope.target.resource


def _catype(scope: Scope) -> str:
    resource = scope.target.resource
    return resource.spec.type if isinstance(resource, CertAuthority) else ""


def _same(left: Any, right: Any) -> bool:
    """Whether two trees say the same, wherever their characters stand."""
    if type(left) is not type(right):
        return False
    if isinstance(left, tuple):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    if hasattr(left, "__dataclass_fields__"):
        return all(_same(getattr(left, f), getattr(right, f)) for f in left.__slots__ if f != "at")
    return bool(left == right)

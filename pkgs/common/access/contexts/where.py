"""The `where` of rules: compiled when a role is, asked with every call.

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
from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.functions import RULES
from pkgs.common.access.predicate.vocabulary import Function, Type, Variable, Vocabulary
from pkgs.common.access.types import UseRule
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import CertAuthority, Resource
from pkgs.common.resources.registry import TYPES

SESSION_KINDS = frozenset({"session", "session_tracker", "ssh_session"})
_OWN_SESSION = parser.parse("contains(session.participants, user.metadata.name)")


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
    asks_host_cert: bool
    own_session: bool
    """It is just 'took part in the session'."""

    def ask(self, identity: Identity, target: UseRule) -> Answer:
        """Never raises: what fails cannot be answered."""
        if self.asks_session and not target.knows_session:
            return Answer.UNKNOWN
        if self.asks_host_cert and target.host_cert is None:
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
    expression = compile_expression(text, vocabulary_of(kinds))
    names = {name.partition(".")[0] for name in expression.names - {"resource.kind"}}
    return Condition(
        text=text,
        run=expression.bind(),
        asks_resource=bool(names & {"resource", "labels", "name"}),
        asks_session="session" in names or "session_tracker" in names,
        asks_host_cert="host_cert" in names,
        own_session=_same(expression.tree, _OWN_SESSION),
    )


@lru_cache(maxsize=256)
def vocabulary_of(kinds: frozenset[str]) -> Vocabulary:
    """What conditions and actions of rules on these kinds may speak of."""
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
    if "*" in kinds or HOST_CERT in kinds:
        variables |= {f"host_cert.{name}": _of_host_cert(name, type_) for name, type_ in _HOST_CERT.items()}
    else:
        elsewhere["host_cert"] = "only rules for host_cert know the certificate that is asked for"
    catype = Function((), Type.TEXT, _catype, needs="resource")
    return Vocabulary(variables, {**RULES, "system.catype": catype}, elsewhere)


_SESSION: dict[str, Variable] = {
    "participants": Variable(Type.LIST, lambda scope: scope.target.everyone),
    "user": Variable(Type.TEXT, lambda scope: scope.target.owner),
    "login": Variable(Type.TEXT, lambda scope: scope.target.login),
    "server_hostname": Variable(Type.TEXT, lambda scope: scope.target.server_hostname),
}


HOST_CERT = "host_cert"
_HOST_CERT = {
    "principals": Type.LIST,
    "cluster_name": Type.TEXT,
    "ttl": Type.TEXT,
    "host_id": Type.TEXT,
    "node_name": Type.TEXT,
    "role": Type.TEXT,
}


def _of_host_cert(name: str, type_: Type) -> Variable:
    return Variable(type_, lambda scope: getattr(scope.target.host_cert, name))


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

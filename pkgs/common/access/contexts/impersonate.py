"""The `where` of `impersonate`: a test of whom, and of each role, somebody wants to take on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from pkgs.common.access.contexts.fields import resource_variables
from pkgs.common.access.predicate.evaluate import compile_expression
from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.functions import RULES
from pkgs.common.access.predicate.vocabulary import Type, Variable, Vocabulary
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import User
from pkgs.common.resources.role import Role

_USER, _ROLE = "impersonate_user", "impersonate_role"
_HELP = "impersonate.where knows user.*, impersonate_user.* and impersonate_role.*, as in role documents"


class Scope(NamedTuple):
    """What the condition is asked about: once for every role."""

    identity: Identity
    user: User | None
    """None: only roles are taken on."""
    role: Role


@dataclass(frozen=True, slots=True)
class ImpersonateCondition:
    run: Callable[[Scope], bool]
    asks_user: bool

    def holds(self, scope: Scope) -> bool:
        """Never raises: what cannot be answered does not hold."""
        if self.asks_user and scope.user is None:
            return False
        try:
            return self.run(scope)
        except EvaluationError:
            return False


@lru_cache(maxsize=256)
def compile_impersonate_where(text: str) -> ImpersonateCondition | None:
    """None for an empty one; InputError points at the character."""
    if not text.strip():
        return None
    expression = compile_expression(text, _vocabulary())
    return ImpersonateCondition(
        expression.bind(), any(name.partition(".")[0] == _USER for name in expression.names)
    )


@lru_cache(maxsize=1)
def _vocabulary() -> Vocabulary:
    variables: dict[str, Variable] = {
        "user.metadata.name": Variable(Type.TEXT, lambda scope: scope.identity.name),
        "user.spec.roles": Variable(Type.LIST, lambda scope: scope.identity.roles),
        "user.spec.traits": Variable(Type.LISTS, lambda scope: scope.identity.traits),
        **_named(_USER, resource_variables(frozenset({"user"}), _target_user)),
        **_named(_ROLE, resource_variables(frozenset({"role"}), _target_role)),
    }
    return Vocabulary(variables, RULES, dict.fromkeys(("resource", "labels", "name", "session"), _HELP))


def _named(prefix: str, variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """`resource.metadata.name` under the name that it has here."""
    start = "resource."
    return {
        f"{prefix}.{name.removeprefix(start)}": variable
        for name, variable in variables.items()
        if name.startswith(start)
    }


def _target_user(scope: Any) -> User | None:
    found: User | None = scope.user
    return found


def _target_role(scope: Any) -> Role:
    found: Role = scope.role
    return found

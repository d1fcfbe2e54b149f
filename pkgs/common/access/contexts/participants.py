"""`filter` of a policy that demands company: a test of one participant of a session."""

from __future__ import annotations

from functools import lru_cache

from pkgs.common.access.predicate.evaluate import Expression, compile_expression
from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.functions import RULES
from pkgs.common.access.predicate.vocabulary import Type, Variable, Vocabulary
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity

_NAME = Variable(Type.TEXT, lambda identity: identity.name)
_ROLES = Variable(Type.LIST, lambda identity: identity.roles)
_TRAITS = Variable(Type.LISTS, lambda identity: identity.traits)
_VOCABULARY = Vocabulary(
    {
        "user.name": _NAME,
        "user.spec.name": _NAME,
        "user.metadata.name": _NAME,
        "user.roles": _ROLES,
        "user.spec.roles": _ROLES,
        "user.spec.traits": _TRAITS,
    },
    RULES,
    {
        "session": "a filter knows the participant only, not the session",
        "resource": "a filter knows the participant only, no resource",
    },
)


@lru_cache(maxsize=256)
def parse_filter(text: str) -> Expression:
    """Raises InputError that points at the character."""
    return compile_expression(text, _VOCABULARY)


def passes(text: str, participant: Identity) -> bool:
    """Whether the filter holds for this participant: an empty one does, one that fails does not."""
    if not text.strip():
        return True
    try:
        return parse_filter(text).bind()(participant)
    except (EvaluationError, InputError):
        return False

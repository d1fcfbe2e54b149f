"""Conditions about access requests: the `where` of `review_requests`, and the `filter` of a threshold.

Both know `reviewer.roles`, `reviewer.traits["k"]`, `request.roles`, `request.reason` and
`request.system_annotations["k"]`; a filter also `review.reason` and `review.annotations["k"]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pkgs.common.access.predicate.evaluate import Expression, compile_expression
from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.functions import RULES
from pkgs.common.access.predicate.vocabulary import Type, Variable, Vocabulary


class ReviewScope(NamedTuple):
    """What a condition is asked about."""

    reviewer_roles: Sequence[str]
    reviewer_traits: Mapping[str, Sequence[str]]
    roles: Sequence[str]
    reason: str
    system_annotations: Mapping[str, Sequence[str]]
    review_reason: str = ""
    review_annotations: Mapping[str, Sequence[str]] = {}


_REQUEST = {
    "reviewer.roles": Variable(Type.LIST, lambda scope: scope.reviewer_roles),
    "reviewer.traits": Variable(Type.LISTS, lambda scope: scope.reviewer_traits),
    "request.roles": Variable(Type.LIST, lambda scope: scope.roles),
    "request.reason": Variable(Type.TEXT, lambda scope: scope.reason),
    "request.system_annotations": Variable(Type.LISTS, lambda scope: scope.system_annotations),
}
_REVIEW = {
    "review.reason": Variable(Type.TEXT, lambda scope: scope.review_reason),
    "review.annotations": Variable(Type.LISTS, lambda scope: scope.review_annotations),
}
_ELSEWHERE = {
    "user": "write reviewer.roles and reviewer.traits for whoever reviews",
    "resource": "a review knows the request, not its resources",
}
_WHERE = Vocabulary(
    _REQUEST, RULES, {**_ELSEWHERE, "review": "only the filter of a threshold knows the review"}
)
_FILTER = Vocabulary({**_REQUEST, **_REVIEW}, RULES, _ELSEWHERE)


@lru_cache(maxsize=1024)
def parse_review_where(text: str) -> Expression:
    """Raises InputError that points at the character."""
    return compile_expression(text, _WHERE)


@lru_cache(maxsize=1024)
def parse_threshold_filter(text: str) -> Expression:
    """Raises InputError that points at the character."""
    return compile_expression(text, _FILTER)


def answer(expression: Expression, scope: ReviewScope) -> bool | None:
    """What the condition says; None when it cannot be answered."""
    try:
        return expression.bind()(scope)
    except EvaluationError:
        return None

"""`node_labels_expression`: a test of labels that may read the user's traits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.predicate.evaluate import Expression, compile_expression
from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.functions import LISTABLE
from pkgs.common.access.predicate.vocabulary import Function, Param, Type, Variable, Vocabulary

LabelTest = Callable[[Mapping[str, str]], bool]
_TRAITS = "user.spec.traits"


def _itself(scope: Mapping[str, str]) -> Mapping[str, str]:
    return scope


def _labels_matching(scope: Mapping[str, str], pattern: Any) -> tuple[str, ...]:
    """Values of all keys that match."""
    return tuple(value for key, value in scope.items() if pattern.search(key))


_VOCABULARY = Vocabulary(
    {
        "labels": Variable(Type.TEXTS, _itself),
        # Always bound beforehand, to the traits of whoever asks.
        _TRAITS: Variable(Type.LISTS, _itself),
    },
    {
        **LISTABLE,
        "labels_matching": Function((Param.PATTERN,), Type.LIST, _labels_matching, needs="labels"),
    },
    {
        "resource": 'a label expression knows labels["key"] and user.spec.traits["key"]',
        "name": 'a label expression knows labels["key"] and user.spec.traits["key"]',
    },
)


@lru_cache(maxsize=1024)
def parse_label_expression(text: str) -> Expression:
    """Raises InputError that points at the character."""
    return compile_expression(text, _VOCABULARY)


def compile_label_expression(text: str, traits: Traits, *, deny: bool) -> LabelTest:
    """The test for these traits. A function that refuses a value makes an allow fail and a deny match."""
    run = parse_label_expression(text).bind({_TRAITS: traits})

    def holds(labels: Mapping[str, str]) -> bool:
        try:
            return run(labels)
        except EvaluationError:
            return deny

    return holds

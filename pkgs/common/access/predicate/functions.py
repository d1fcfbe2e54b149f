"""The functions of the language. Each is total and linear, or refuses with EvaluationError.

Lists are compared as sets. What asks about *all* of an empty list is false: nothing is granted by a list
that should have been there. The empty string, which a missing key gives, is in no list: an empty trait
does not open what lacks the label (attack A25). A likeness to it is asked of nothing and cannot be answered:
neither a yes nor, negated, a no.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pkgs.common.access.matching.traits import email_local, regexp_replace
from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.vocabulary import Function, Param, Type
from pkgs.common.errors import InputError

_MAX_ITEMS = 10_000
"""Most items that splitting a text gives."""
List = Sequence[str]


def _contains(_: Any, values: List, item: str) -> bool:
    return item != "" and item in values


def _contains_any(_: Any, values: List, items: List) -> bool:
    return not set(values).isdisjoint(item for item in items if item)


def _contains_all(_: Any, values: List, items: List) -> bool:
    return bool(values) and bool(items) and "" not in items and set(values) >= set(items)


def _set(_: Any, *items: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _union(_: Any, *lists: List) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for items in lists for item in items))


def _all_end_with(_: Any, values: List, suffix: str) -> bool:
    _demand("all_end_with", suffix)
    return bool(values) and all(value.endswith(suffix) for value in values)


def _all_equal(_: Any, values: List, wanted: str) -> bool:
    _demand("all_equal", wanted)
    return bool(values) and all(value == wanted for value in values)


def _is_subset(_: Any, values: List, *items: str) -> bool:
    return bool(values) and set(values) <= {item for item in items if item}


def _has_prefix(_: Any, value: str, prefix: str) -> bool:
    _demand("has_prefix", prefix)
    return value.startswith(prefix)


def _demand(function: str, text: str) -> None:
    """Everything begins and ends with nothing."""
    if not text:
        raise EvaluationError(f"{function}: there is nothing to compare with")


def _exists(_: Any, value: str | List) -> bool:
    return bool(value)


def _is_empty(_: Any, value: str | List) -> bool:
    return not value


def _split(_: Any, value: str, separator: str) -> tuple[str, ...]:
    if not separator:
        raise EvaluationError("split: the separator is empty")
    return tuple(value.split(separator, _MAX_ITEMS)) if value else ()


def _regexp_match(_: Any, values: List, pattern: Any) -> bool:
    return any(pattern.search(value) for value in values)


def _each(change: Callable[[str], str]) -> Callable[[Any, str | List], str | tuple[str, ...]]:
    """A function of one text, for a text or for every item of a list."""

    def run(_: Any, value: str | List) -> str | tuple[str, ...]:
        if isinstance(value, str):
            return change(value) if value else ""
        return tuple(change(item) for item in value)

    return run


def _email_local(value: str) -> str:
    local = email_local(value)
    if local is None:
        raise EvaluationError(f"email.local: {value[:80]!r} is not an e-mail address")
    return local


def _regexp_replace(_: Any, value: str | List, pattern: Any, replacement: str) -> str | tuple[str, ...]:
    """What does not match is dropped."""
    try:
        if isinstance(value, str):
            return next(iter(regexp_replace([value], pattern, replacement)), "")
        return tuple(regexp_replace(value, pattern, replacement))
    except InputError as error:
        raise EvaluationError(error.message) from None


_T, _L, _LT, _V = Param.TEXT, Param.LIST, Param.LISTABLE, Param.VALUE

COMMON: dict[str, Function] = {
    "set": Function((), Type.LIST, _set, rest=_T),
    "union": Function((_LT,), Type.LIST, _union, rest=_LT),
    "contains_any": Function((_LT, _LT), Type.BOOL, _contains_any),
    "contains_all": Function((_LT, _LT), Type.BOOL, _contains_all),
    "exists": Function((_V,), Type.BOOL, _exists),
    "is_empty": Function((_V,), Type.BOOL, _is_empty),
    "has_prefix": Function((_T, _T), Type.BOOL, _has_prefix),
    "hasPrefix": Function((_T, _T), Type.BOOL, _has_prefix),
    "split": Function((_T, _T), Type.LIST, _split),
    "regexp.match": Function((_LT, Param.PATTERN), Type.BOOL, _regexp_match),
    "regexp.replace": Function((_V, Param.PATTERN, Param.LITERAL), None, _regexp_replace),
    "strings.upper": Function((_V,), None, _each(str.upper)),
    "strings.lower": Function((_V,), None, _each(str.lower)),
    "email.local": Function((_V,), None, _each(_email_local)),
}
"""In every context. `equals` and `contains` are added by kind of context."""

STRICT: dict[str, Function] = {**COMMON, "contains": Function((_L, _T), Type.BOOL, _contains)}
"""`contains` wants a list: on a text it would be taken for a search of a part."""

LISTABLE: dict[str, Function] = {**COMMON, "contains": Function((_LT, _T), Type.BOOL, _contains)}
"""For label expressions, where a label may stand for a list."""

RULES: dict[str, Function] = {
    **STRICT,
    "all_end_with": Function((_LT, _T), Type.BOOL, _all_end_with),
    "all_equal": Function((_LT, _T), Type.BOOL, _all_equal),
    "is_subset": Function((_LT, _T), Type.BOOL, _is_subset, rest=_T),
}

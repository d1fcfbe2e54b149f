"""A typed tree into a function of the scope. What is known beforehand is worked out once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.parser import Tree, parse
from pkgs.common.access.predicate.typecheck import (
    Apply,
    AsList,
    Constant,
    Equal,
    Logic,
    Read,
    Typed,
    absent,
    check,
)
from pkgs.common.access.predicate.vocabulary import Type, Vocabulary

Run = Callable[[Any], Any]
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression, not yet bound to anything."""

    text: str
    tree: Tree
    typed: Typed
    names: frozenset[str]
    """Variables it reads."""

    def bind(self, known: Mapping[str, Any] = _NOTHING) -> Callable[[Any], bool]:
        """The test; variables in `known` have that value for good. The test may raise EvaluationError."""
        return _bind(self.typed, known).run


def compile_expression(text: str, vocabulary: Vocabulary) -> Expression:
    """Parses and checks; raises InputError that points at the character."""
    tree = parse(text)
    typed = check(text, tree, vocabulary)
    return Expression(text, tree, typed, frozenset(_names(typed)))


def value_of(typed: Typed) -> Callable[[Any], Any]:
    """A function of the scope for a checked part of an expression; it may raise EvaluationError."""
    return _bind(typed, _NOTHING).run


def _names(typed: Typed) -> Iterator[str]:
    if isinstance(typed, Read):
        yield typed.name
    elif isinstance(typed, Apply):
        if typed.function.needs:
            yield typed.function.needs
        for arg in typed.args:
            yield from _names(arg)
    elif isinstance(typed, AsList):
        yield from _names(typed.inner)
    elif isinstance(typed, Equal):
        yield from _names(typed.left)
        yield from _names(typed.right)
    elif isinstance(typed, Logic):
        for part in typed.parts:
            yield from _names(part)


class _Bound(NamedTuple):
    run: Run
    fixed: bool
    """The scope does not matter."""
    known: bool = False
    """It has been worked out: asking it again refuses nothing."""


def _bind(typed: Typed, known: Mapping[str, Any]) -> _Bound:
    bound = _bind_one(typed, known)
    if not bound.fixed:
        return bound
    try:
        value = bound.run(None)
    except EvaluationError:
        # It refuses whenever it is asked, but only then.
        return bound
    return _Bound(lambda scope: value, True, True)


def _bind_one(typed: Typed, known: Mapping[str, Any]) -> _Bound:
    if isinstance(typed, Constant):
        value = typed.value
        return _Bound(lambda scope: value, True)
    if isinstance(typed, Read):
        return _read(typed, known)
    if isinstance(typed, Apply):
        return _apply(typed, known)
    if isinstance(typed, AsList):
        inner = _bind(typed.inner, known)
        run = inner.run

        def as_list(scope: Any) -> tuple[str, ...]:
            value = run(scope)
            return (value,) if value else ()

        return _Bound(as_list, inner.fixed)
    if isinstance(typed, Equal):
        return _equal(typed, known)
    return _logic(typed, known)


def _read(typed: Read, known: Mapping[str, Any]) -> _Bound:
    key, empty = typed.key, absent(typed.type) if typed.key is not None or typed.type in _SIMPLE else None
    read = typed.variable.read
    fixed = typed.name in known
    if fixed:
        given = known[typed.name]
        read = lambda scope: given  # noqa: E731
    if key is None:

        def whole(scope: Any) -> Any:
            value = read(scope)
            return empty if value is None else value

        return _Bound(whole, fixed)

    def one(scope: Any) -> Any:
        held = read(scope)
        return empty if held is None else held.get(key, empty)

    return _Bound(one, fixed)


_SIMPLE = (Type.BOOL, Type.TEXT, Type.LIST)


def _apply(typed: Apply, known: Mapping[str, Any]) -> _Bound:
    function = typed.function.run
    args = [_bind(arg, known) for arg in typed.args]
    fixed = not typed.function.needs and all(arg.fixed for arg in args)
    runs = [arg.run for arg in args]
    if len(runs) == 1:
        first = runs[0]
        return _Bound(lambda scope: function(scope, first(scope)), fixed)
    if len(runs) == 2:
        first, second = runs
        return _Bound(lambda scope: function(scope, first(scope), second(scope)), fixed)
    return _Bound(lambda scope: function(scope, *(run(scope) for run in runs)), fixed)


def _equal(typed: Equal, known: Mapping[str, Any]) -> _Bound:
    left, right = _bind(typed.left, known), _bind(typed.right, known)
    first, second = left.run, right.run
    fixed = left.fixed and right.fixed
    if typed.left.type is Type.LIST:
        wanted = typed.equal
        written = _written_out(typed.left) or _written_out(typed.right)

        def alike(scope: Any) -> bool:
            one, other = first(scope), second(scope)
            if not one and not other and not written:
                # Two lists that do not exist: that is no likeness, and no difference.
                raise EvaluationError("both lists are empty")
            return (set(one) == set(other)) is wanted

        return _Bound(alike, fixed)
    same = operator.eq if typed.equal else operator.ne
    if right.known and not fixed:
        value = second(None)
        if typed.equal:
            return _Bound(lambda scope: first(scope) == value, False)
        return _Bound(lambda scope: first(scope) != value, False)
    written = isinstance(typed.left, Constant) or isinstance(typed.right, Constant)
    if written or typed.absent_alike or typed.left.type is not Type.TEXT:
        return _Bound(lambda scope: same(first(scope), second(scope)), fixed)

    def compared(scope: Any) -> bool:
        one, other = first(scope), second(scope)
        if not one and not other:
            # Two labels that do not exist, or what could not be made of a name: no likeness either.
            raise EvaluationError("both strings are empty")
        return bool(same(one, other))

    return _Bound(compared, fixed)


def _written_out(typed: Typed) -> bool:
    """A list of which the author has named every item."""
    return (
        isinstance(typed, Apply)
        and not typed.function.needs
        and all(isinstance(arg, Constant) for arg in typed.args)
    )


def _logic(typed: Logic, known: Mapping[str, Any]) -> _Bound:
    parts = [_bind(part, known) for part in typed.parts]
    fixed = all(part.fixed for part in parts)
    runs = tuple(part.run for part in parts)
    if typed.operator == "!":
        inner = runs[0]
        return _Bound(lambda scope: not inner(scope), fixed)
    if len(runs) == 2:
        first, second = runs
        if typed.operator == "&&":
            return _Bound(lambda scope: first(scope) and second(scope), fixed)
        return _Bound(lambda scope: first(scope) or second(scope), fixed)
    if typed.operator == "&&":
        return _Bound(lambda scope: all(run(scope) for run in runs), fixed)
    return _Bound(lambda scope: any(run(scope) for run in runs), fixed)

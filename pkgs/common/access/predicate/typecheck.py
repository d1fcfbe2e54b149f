"""A tree into a typed one: every name known, every argument of the type its function takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pkgs.common.access.matching import patterns
from pkgs.common.access.predicate import parser
from pkgs.common.access.predicate.faults import did_you_mean, fault
from pkgs.common.access.predicate.parser import Tree
from pkgs.common.access.predicate.vocabulary import EMPTY, Function, Param, Type, Variable, Vocabulary
from pkgs.common.errors import InputError


@dataclass(frozen=True, slots=True)
class Constant:
    type: Type
    value: Any


@dataclass(frozen=True, slots=True)
class Read:
    """A variable, or one key of it."""

    type: Type
    name: str
    variable: Variable
    key: str | None


@dataclass(frozen=True, slots=True)
class Apply:
    type: Type
    function: Function
    args: tuple[Typed, ...]


@dataclass(frozen=True, slots=True)
class AsList:
    """A text where a list is expected."""

    type: Type
    inner: Typed


@dataclass(frozen=True, slots=True)
class Equal:
    type: Type
    left: Typed
    right: Typed
    equal: bool
    absent_alike: bool
    """Two strings that do not exist are equal."""


@dataclass(frozen=True, slots=True)
class Logic:
    """`!`, `&&` or `||`."""

    type: Type
    operator: str
    parts: tuple[Typed, ...]


Typed = Constant | Read | Apply | AsList | Equal | Logic
_INNER = {Type.TEXTS: Type.TEXT, Type.LISTS: Type.LIST}
_EQUALS = "equals"


def check(text: str, tree: Tree, vocabulary: Vocabulary, *, wanted: Type = Type.BOOL) -> Typed:
    """The typed tree of a whole expression; raises InputError that points at the character."""
    checker = _Checker(text, vocabulary)
    typed = checker.check(tree)
    if typed.type is not wanted:
        raise fault(text, tree.at, f"this is {typed.type.value}, expected {wanted.value}")
    return typed


class _Checker:
    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self._text = text
        self._vocabulary = vocabulary

    def _refuse(self, tree: Tree, what: str) -> InputError:
        return fault(self._text, tree.at, what)

    def check(self, tree: Tree) -> Typed:
        if isinstance(tree, parser.Text):
            return Constant(Type.TEXT, tree.value)
        if isinstance(tree, parser.Path):
            return self._path(tree)
        if isinstance(tree, parser.Call):
            return self._call(tree)
        if isinstance(tree, parser.Listing):
            items = tuple(self._argument(item, Param.TEXT, "a list") for item in tree.items)
            return Apply(Type.LIST, Function((), Type.LIST, _listed, rest=Param.TEXT), items)
        if isinstance(tree, parser.Compare):
            return self._compare(tree, tree.left, tree.right, equal=tree.equal)
        if isinstance(tree, parser.Not):
            return Logic(Type.BOOL, "!", (self._bool(tree.inner, "!"),))
        operator = "&&" if isinstance(tree, parser.Every) else "||"
        return Logic(Type.BOOL, operator, tuple(self._bool(part, operator) for part in tree.parts))

    def _bool(self, tree: Tree, operator: str) -> Typed:
        typed = self.check(tree)
        if typed.type is not Type.BOOL:
            raise self._refuse(tree, f"{operator} takes true or false, this is {typed.type.value}")
        return typed

    def _compare(self, tree: Tree, left: Tree, right: Tree, *, equal: bool) -> Typed:
        first, second = self.check(left), self.check(right)
        for side, typed in ((left, first), (right, second)):
            if typed.type in _INNER:
                raise self._refuse(side, f"{typed.type.value} cannot be compared, name one key in brackets")
        if first.type is not second.type:
            what = f"{first.type.value} cannot be equal to {second.type.value}"
            if Type.LIST in (first.type, second.type):
                what += ", use contains(list, string)"
            raise self._refuse(tree, what)
        return Equal(Type.BOOL, first, second, equal, self._vocabulary.absent_alike)

    def _path(self, tree: parser.Path) -> Typed:
        whole = ".".join(tree.parts)
        variable = self._vocabulary.variables.get(whole)
        if variable is not None:
            if tree.key is None:
                return Read(variable.type, whole, variable, None)
            return self._key(tree, whole, variable, tree.key)
        # `labels.env` is another way to write labels["env"].
        front, last = ".".join(tree.parts[:-1]), tree.parts[-1]
        variable = self._vocabulary.variables.get(front)
        if variable is not None and tree.key is None and variable.type in _INNER:
            return self._key(tree, front, variable, last)
        elsewhere = self._vocabulary.elsewhere.get(tree.parts[0])
        if elsewhere:
            raise self._refuse(tree, elsewhere)
        if whole in self._vocabulary.functions:
            raise self._refuse(tree, f"{whole} is a function, write {whole}(...)")
        hint = did_you_mean(whole, self._vocabulary.variables)
        raise self._refuse(tree, f"unknown name {whole[:80]!r}, {hint}")

    def _key(self, tree: parser.Path, name: str, variable: Variable, key: str) -> Typed:
        inner = _INNER.get(variable.type)
        if inner is None:
            raise self._refuse(tree, f"{name} is {variable.type.value} and has no keys")
        return Read(inner, name, variable, key)

    def _call(self, tree: parser.Call) -> Typed:
        if tree.name == _EQUALS:
            if len(tree.args) != 2:
                raise self._refuse(tree, f"equals takes 2 arguments, found {len(tree.args)}")
            return self._compare(tree, *tree.args, equal=True)
        function = self._vocabulary.functions.get(tree.name)
        if function is None:
            known = {*self._vocabulary.functions, _EQUALS}
            raise self._refuse(tree, f"unknown function {tree.name[:80]!r}, {did_you_mean(tree.name, known)}")
        least = len(function.params)
        if len(tree.args) < least or (function.rest is None and len(tree.args) > least):
            many = f"{least} or more" if function.rest is not None else str(least)
            raise self._refuse(tree, f"{tree.name} takes {many} arguments, found {len(tree.args)}")
        params = (*function.params, *[function.rest or Param.TEXT] * (len(tree.args) - least))
        args = tuple(
            self._argument(arg, param, tree.name) for arg, param in zip(tree.args, params, strict=True)
        )
        return Apply(function.result or args[0].type, function, args)

    def _argument(self, tree: Tree, param: Param, function: str) -> Typed:
        if param in (Param.PATTERN, Param.LITERAL):
            return self._literal(tree, param, function)
        typed = self.check(tree)
        if typed.type is Type.LIST and param in (Param.LIST, Param.LISTABLE, Param.VALUE):
            return typed
        if typed.type is Type.TEXT and param in (Param.TEXT, Param.VALUE):
            return typed
        if typed.type is Type.TEXT and param is Param.LISTABLE:
            return AsList(Type.LIST, typed)
        raise self._refuse(tree, f"{function} takes {param.value} here, this is {typed.type.value}")

    def _literal(self, tree: Tree, param: Param, function: str) -> Typed:
        if not isinstance(tree, parser.Text):
            raise self._refuse(tree, f"{function} takes {param.value} here")
        if param is Param.LITERAL:
            return Constant(Type.TEXT, tree.value)
        try:
            return Constant(Type.TEXT, patterns.compile_pattern(tree.value))
        except InputError as error:
            raise self._refuse(tree, error.message) from None


def _listed(_: Any, *items: str) -> tuple[str, ...]:
    return items


def absent(type: Type) -> Any:
    """The value of what does not exist."""
    return EMPTY[type]

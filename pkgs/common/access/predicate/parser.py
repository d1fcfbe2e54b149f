"""Tokens into a tree. Names and types are checked afterwards, by `typecheck`.

or      = and { "||" and }
and     = not { "&&" not }
not     = { "!" } compare
compare = value [ ("==" | "!=") value ]
value   = string | "(" or ")" | "[" items "]" | path [ "(" items ")" | "[" string "]" ]
items   = [ or { "," or } ]
path    = name { "." name }
"""

from __future__ import annotations

from dataclasses import dataclass

from pkgs.common.access.predicate.faults import MAX_DEPTH, fault
from pkgs.common.access.predicate.lexer import Kind, Token, tokens
from pkgs.common.errors import InputError


@dataclass(frozen=True, slots=True)
class Text:
    at: int
    value: str


@dataclass(frozen=True, slots=True)
class Path:
    """`user.spec.traits["x"]`; `key` is None without brackets."""

    at: int
    parts: tuple[str, ...]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    at: int
    name: str
    args: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """`["a", "b"]`."""

    at: int
    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    at: int
    left: Tree
    right: Tree
    equal: bool


@dataclass(frozen=True, slots=True)
class Not:
    at: int
    inner: Tree


@dataclass(frozen=True, slots=True)
class Every:
    """`a && b && c`."""

    at: int
    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """`a || b || c`."""

    at: int
    parts: tuple[Tree, ...]


Tree = Text | Path | Call | Listing | Compare | Not | Every | Either


def parse(text: str) -> Tree:
    """The tree of one expression; raises InputError that points at the first wrong character."""
    parser = _Parser(text)
    tree = parser.either(0)
    parser.finish()
    return tree


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _refuse(self, what: str) -> InputError:
        return fault(self._text, self._token.at, what)

    def _is(self, operator: str) -> bool:
        return self._token.kind is Kind.OPERATOR and self._token.value == operator

    def _take(self, operator: str) -> bool:
        if self._is(operator):
            self._next += 1
            return True
        return False

    def _need(self, operator: str) -> None:
        if not self._take(operator):
            raise self._refuse(f"expected {operator!r}, found {self._found()}")

    def _found(self) -> str:
        token = self._token
        return repr(token.value[:40]) if token.kind in (Kind.NAME, Kind.OPERATOR) else token.kind.value

    def finish(self) -> None:
        if self._token.kind is not Kind.END:
            raise self._refuse(f"expected '&&', '||' or the end, found {self._found()}")

    def either(self, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise self._refuse(f"nested more than {MAX_DEPTH} deep")
        at = self._token.at
        parts = [self._every(depth)]
        while self._take("||"):
            parts.append(self._every(depth))
        return parts[0] if len(parts) == 1 else Either(at, tuple(parts))

    def _every(self, depth: int) -> Tree:
        at = self._token.at
        parts = [self._negated(depth)]
        while self._take("&&"):
            parts.append(self._negated(depth))
        return parts[0] if len(parts) == 1 else Every(at, tuple(parts))

    def _negated(self, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise self._refuse(f"nested more than {MAX_DEPTH} deep")
        at = self._token.at
        if self._take("!"):
            return Not(at, self._negated(depth + 1))
        left = self._value(depth)
        at = self._token.at
        for operator in ("==", "!="):
            if self._take(operator):
                return Compare(at, left, self._value(depth), operator == "==")
        return left

    def _value(self, depth: int) -> Tree:
        token = self._token
        if token.kind is Kind.STRING:
            self._next += 1
            return Text(token.at, token.value)
        if self._take("("):
            inner = self.either(depth + 1)
            self._need(")")
            return inner
        if self._take("["):
            return Listing(token.at, self._items("]", depth))
        if token.kind is not Kind.NAME:
            raise self._refuse(f"expected a name, a string or '(', found {self._found()}")
        return self._path(depth)

    def _path(self, depth: int) -> Tree:
        at = self._token.at
        parts = [self._name()]
        while self._take("."):
            parts.append(self._name())
        if self._take("("):
            return Call(at, ".".join(parts), self._items(")", depth))
        if not self._take("["):
            return Path(at, tuple(parts))
        key = self._token
        if key.kind is not Kind.STRING:
            raise self._refuse(f'expected a key in quotes, as in {parts[-1]}["key"], found {self._found()}')
        self._next += 1
        self._need("]")
        return Path(at, tuple(parts), key.value)

    def _name(self) -> str:
        token = self._token
        if token.kind is not Kind.NAME:
            raise self._refuse(f"expected a name, found {self._found()}")
        self._next += 1
        return token.value

    def _items(self, closing: str, depth: int) -> tuple[Tree, ...]:
        if self._take(closing):
            return ()
        items = [self.either(depth + 1)]
        while self._take(","):
            items.append(self.either(depth + 1))
        self._need(closing)
        return tuple(items)

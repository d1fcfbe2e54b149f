"""`--query`: the part of the predicate language that listings need, over names and labels.

labels["env"] == "prod" && (hasPrefix(name, "web") || !exists(labels["canary"]))
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pkgs.common.errors import InputError

Subject = tuple[str, dict[str, str]]
Test = Callable[[Subject], bool]
Value = Callable[[Subject], "str | None"]

MAX_QUERY_CHARS = 4000
MAX_DEPTH = 50
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<name>[A-Za-z_][\w.-]*)"""
    r"""|(?P<op>==|!=|&&|\|\||[!()\[\],]))"""
)


def compile_query(text: str) -> Callable[[str, dict[str, str]], bool]:
    """A test over a name and labels; InputError that points at what is not understood."""
    if len(text) > MAX_QUERY_CHARS:
        raise InputError("--query is too long")
    parser = _Parser(text)
    test = parser.either(0)
    parser.finish()
    return lambda name, labels: test((name, labels))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error(at)
            kind = str(match.lastgroup)
            self._tokens.append((kind, match.group(kind), match.start(kind)))
            at = match.end()
        self._next = 0

    def _error(self, at: int) -> InputError:
        return InputError(
            f"--query: not understood from {self._text[at : at + 40]!r} on",
            hint='this version knows name, labels["k"], ==, !=, &&, ||, !, exists, equals, hasPrefix, '
            "contains, split and search",
        )

    def _peek(self, value: str) -> bool:
        return self._next < len(self._tokens) and self._tokens[self._next][:2] == ("op", value)

    def _take(self, value: str) -> bool:
        if self._peek(value):
            self._next += 1
            return True
        return False

    def _need(self, value: str) -> None:
        if not self._take(value):
            raise self._here()

    def _here(self) -> InputError:
        at = self._tokens[self._next][2] if self._next < len(self._tokens) else len(self._text)
        return self._error(at)

    def finish(self) -> None:
        if self._next != len(self._tokens) or not self._tokens:
            raise self._here()

    def either(self, depth: int) -> Test:
        left = self._both(depth)
        while self._take("||"):
            left = _or(left, self._both(depth))
        return left

    def _both(self, depth: int) -> Test:
        left = self._single(depth)
        while self._take("&&"):
            left = _and(left, self._single(depth))
        return left

    def _single(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise self._here()
        if self._take("!"):
            inner = self._single(depth + 1)
            return lambda subject: not inner(subject)
        if self._take("("):
            inner = self.either(depth + 1)
            self._need(")")
            return inner
        kind, word, _ = self._tokens[self._next] if self._next < len(self._tokens) else ("", "", 0)
        if kind == "name" and word in ("exists", "equals", "hasPrefix", "contains", "search"):
            self._next += 1
            return self._call(word)
        left = self._value()
        if self._take("=="):
            right = self._value()
            return lambda subject: left(subject) == right(subject)
        self._need("!=")
        right = self._value()
        return lambda subject: left(subject) != right(subject)

    def _call(self, word: str) -> Test:
        self._need("(")
        if word == "contains":
            return self._contains()
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._need(")")
        wanted = {"exists": 1, "equals": 2, "hasPrefix": 2}.get(word)
        if wanted is not None and len(values) != wanted:
            raise self._here()
        first, second = values[0], values[-1]
        if word == "exists":
            return lambda subject: first(subject) is not None
        if word == "equals":
            return lambda subject: first(subject) == second(subject)
        if word == "hasPrefix":
            return lambda subject: (first(subject) or "").startswith(second(subject) or "")
        return lambda subject: all(_found(value(subject) or "", subject) for value in values)

    def _contains(self) -> Test:
        kind, word, _ = self._tokens[self._next] if self._next < len(self._tokens) else ("", "", 0)
        if (kind, word) != ("name", "split"):
            raise self._here()
        self._next += 1
        self._need("(")
        text = self._value()
        self._need(",")
        separator = self._value()
        self._need(")")
        self._need(",")
        item = self._value()
        self._need(")")
        return lambda subject: item(subject) in (text(subject) or "").split(separator(subject) or ",")

    def _value(self) -> Value:
        if self._next >= len(self._tokens):
            raise self._here()
        kind, word, _ = self._tokens[self._next]
        self._next += 1
        if kind == "string":
            text = word[1:-1] if word[0] == "`" else re.sub(r"\\(.)", r"\1", word[1:-1])
            return lambda subject: text
        if word in ("name", "resource.spec.hostname"):
            return lambda subject: subject[0]
        for prefix in ("labels", "resource.metadata.labels"):
            if word == prefix and self._take("["):
                key_kind, key, _ = self._tokens[self._next] if self._next < len(self._tokens) else ("", "", 0)
                if key_kind != "string":
                    raise self._here()
                self._next += 1
                self._need("]")
                name = key[1:-1]
                return lambda subject: subject[1].get(name)
            if word.startswith(prefix + "."):
                name = word[len(prefix) + 1 :]
                return lambda subject: subject[1].get(name)
        self._next -= 1
        raise self._here()


def _or(left: Test, right: Test) -> Test:
    return lambda subject: left(subject) or right(subject)


def _and(left: Test, right: Test) -> Test:
    return lambda subject: left(subject) and right(subject)


def _found(word: str, subject: Subject) -> bool:
    name, labels = subject
    low = word.lower()
    return low in name.lower() or any(low in k.lower() or low in v.lower() for k, v in labels.items())

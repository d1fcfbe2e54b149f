"""Text into tokens, in one pass."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from pkgs.common.access.predicate.faults import MAX_LENGTH, fault
from pkgs.common.errors import InputError


class Kind(Enum):
    NAME = "a name"
    STRING = "a string"
    OPERATOR = "an operator"
    END = "the end"


class Token(NamedTuple):
    kind: Kind
    value: str
    """The name, the operator, or the string without quotes and escapes."""
    at: int


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"""
    r"""|(?P<operator>==|!=|&&|\|\||[!()\[\],.])"""
    r"""|"(?P<quoted>(?:[^"\\\n]|\\[^\n])*)"|`(?P<raw>[^`]*)`"""
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def tokens(text: str) -> list[Token]:
    """All tokens and an END; raises InputError at the first character that belongs to none."""
    if len(text) > MAX_LENGTH:
        raise InputError(f"the expression is longer than {MAX_LENGTH} characters")
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise fault(text, at, _wrong(text, at))
        group = match.lastgroup
        if group == "name":
            found.append(Token(Kind.NAME, match[0], at))
        elif group == "operator":
            found.append(Token(Kind.OPERATOR, match[0], at))
        elif group == "quoted":
            found.append(Token(Kind.STRING, _unescaped(match["quoted"]), at))
        elif group == "raw":
            found.append(Token(Kind.STRING, match["raw"], at))
        at = match.end()
    found.append(Token(Kind.END, "", len(text)))
    return found


def _unescaped(inner: str) -> str:
    """A backslash before anything but n, t, a quote and itself stays: patterns are full of them."""
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[0]), inner)


def _wrong(text: str, at: int) -> str:
    char = text[at]
    if char in '"`':
        return "the string does not end"
    if char == "'":
        return 'strings are written in "double quotes" or `backquotes`'
    if char == "=":
        return "= is not an operator, write == to compare"
    if char in "&|":
        return f"{char} is not an operator, write {char}{char}"
    return f"{char!r} means nothing here"

"""Errors of an expression: at compile time they point at the character, at run time they refuse."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pkgs.common.errors import InputError

MAX_LENGTH = 4096
MAX_DEPTH = 40
_BEFORE = 40
_AFTER = 30


class EvaluationError(Exception):
    """A function refused a value. Whoever asked decides what that means; it is never a yes."""


def fault(text: str, at: int, what: str) -> InputError:
    """An error at the character `at` (from 0) of an expression, with the place and a caret under it."""
    start = max(0, at - _BEFORE)
    excerpt = "".join(char if char.isprintable() else "?" for char in text[start : at + _AFTER])
    head = "..." if start else ""
    tail = "..." if at + _AFTER < len(text) else ""
    caret = " " * (len(head) + at - start) + "^"
    return InputError(f"at character {at + 1}: {what}\n    {head}{excerpt}{tail}\n    {caret}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion for an unknown name, or what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:100], names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(names)}" if len(names) <= 12 else "it is not known here"

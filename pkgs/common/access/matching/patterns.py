"""Plain values, globs and `^regex$` of role fields. Regular expressions run on RE2: linear time, whatever the
pattern and the text (attack A24).

In a glob `*` is any run of characters and all else is literal; it is compared with the whole text. A regular
expression is used as it is written, so that in `^test|staging$` the anchors hold one branch each: it matches
`testing` and `prestaging`. Write `^(test|staging)$`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

from pkgs.common.errors import InputError

MAX_PATTERN_LENGTH = 1000
_MAX_REGEX_BYTES = 1 << 20

_options = re2.Options()
_options.log_errors = False
_options.max_mem = _MAX_REGEX_BYTES


def is_pattern(value: str) -> bool:
    """Whether a value is a glob or a regular expression rather than plain text."""
    return "*" in value or _is_regex(value)


def checked(value: str) -> str:
    """The same; raises InputError when it is too long."""
    if len(value) > MAX_PATTERN_LENGTH:
        raise InputError(f"pattern is longer than {MAX_PATTERN_LENGTH} characters")
    return value


@lru_cache(maxsize=4096)
def compile_pattern(value: str) -> Any:
    """An RE2 object whose `search` says whether a text matches; raises InputError for a bad pattern."""
    checked(value)
    return _compiled(value, value if _is_regex(value) else _of_glob(value, ".*"))


@lru_cache(maxsize=1024)
def compile_regex(value: str) -> Any:
    """A regular expression as it is, with or without anchors; as `compile_pattern`."""
    return _compiled(checked(value), value)


@lru_cache(maxsize=1024)
def compile_capturing(value: str) -> Any:
    """As `compile_pattern`, and each `*` of a glob is a capture; for `fullmatch`."""
    checked(value)
    return _compiled(value, value if _is_regex(value) else _of_glob(value, "(.*)"))


@lru_cache(maxsize=1024)
def compile_glob(value: str, star: str) -> Any:
    """A glob whose `*` is what the expression `star` says; for `fullmatch`."""
    return _compiled(value, _of_glob(checked(value), star))


def is_regex(value: str) -> bool:
    """Whether a value is written as a regular expression."""
    return _is_regex(value)


def _is_regex(value: str) -> bool:
    return value.startswith("^") and value.endswith("$")


def _of_glob(value: str, star: str) -> str:
    return r"(?s)\A" + star.join(re2.escape(part) for part in value.split("*")) + r"\z"


def _compiled(value: str, source: str) -> Any:
    try:
        return re2.compile(source, _options)
    except re2.error as error:
        raise InputError(f"regular expression {value!r} is not valid", detail=str(error)) from error

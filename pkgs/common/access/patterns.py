"""Plain values, globs and `^regex$` of role fields. Regular expressions run on RE2: linear time, whatever the
pattern and the text (attack A24)."""

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
    return "*" in value or (value.startswith("^") and value.endswith("$"))


def checked(value: str) -> str:
    """The same; raises InputError when it is too long."""
    if len(value) > MAX_PATTERN_LENGTH:
        raise InputError(f"pattern is longer than {MAX_PATTERN_LENGTH} characters")
    return value


@lru_cache(maxsize=4096)
def compile_pattern(value: str) -> Any:
    """An RE2 object whose `search` says whether a text matches; raises InputError for a bad pattern."""
    checked(value)
    if value.startswith("^") and value.endswith("$"):
        source = value
    else:
        source = r"(?s)\A" + ".*".join(re2.escape(part) for part in value.split("*")) + r"\z"
    try:
        return re2.compile(source, _options)
    except re2.error as error:
        raise InputError(f"regular expression {value!r} is not valid", detail=str(error)) from error

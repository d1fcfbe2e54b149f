"""The syntax of a session id: a UUID in its usual form and nothing else, so it is safe as a file name."""

from __future__ import annotations

import re

from pkgs.common.errors import InputError

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_LENGTH = 36
_SHOWN = 40


def is_session_id(text: str) -> bool:
    """Whether this is a lower-case UUID with hyphens."""
    return len(text) == _LENGTH and _UUID.fullmatch(text) is not None


def require_session_id(text: str) -> str:
    """The id itself, or InputError. Whatever makes a path or a lookup of one calls this (attack A60)."""
    if not is_session_id(text):
        shown = repr(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
        raise InputError(
            f"{shown} is not a session id",
            hint="a session id looks like 4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77; see `tsh recordings ls`",
        )
    return text

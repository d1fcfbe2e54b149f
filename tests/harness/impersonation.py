"""The reference's table of impersonation, read with nothing of ours: a second opinion for property tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from pkgs.common.resources.role import Impersonate

Blocks = tuple[Impersonate | None, Impersonate | None]
"""Allow and deny of one role; literals and globs only, no conditions."""


def second_opinion(held: Iterable[Blocks], user: str | None, roles: Sequence[str]) -> bool:
    """Whether whoever holds these blocks may take on `user` with all of `roles`, or (None) roles alone."""
    blocks = list(held)
    for _, deny in blocks:
        if deny is None:
            continue
        if user is not None and _any(deny.users, user):
            return False
        if any(_any(deny.roles, role) for role in roles):
            return False
    for allow, _ in blocks:
        if allow is None or bool(allow.users) is (user is None):
            continue
        if user is not None and not _any(allow.users, user):
            continue
        if roles and all(_any(allow.roles, role) for role in roles):
            return True
    return False


def _any(entries: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, entry) for entry in entries)

"""What the verbs share: the words that name an action, and their flags."""

from __future__ import annotations

from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag

WITH_MFA = Flag("with-mfa", "As if the session were verified by a second factor", is_bool=True)
ROLES = Flag("roles", "As if the user had these roles, comma separated", metavar="ROLES")
USER = Flag("user", "The user (required)", metavar="USER")
DEADLINE_S = 120.0


def login_and_node(text: str) -> tuple[str, str]:
    """`root@web1`; a login may hold an @, a host may not."""
    login, at, node = text.rpartition("@")
    if not at or not login or not node:
        raise InputError(f"{text[:80]!r} names no login and server", hint="write for example ssh root@web1")
    return login, node

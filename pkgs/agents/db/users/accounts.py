"""What a protocol has to do for users that are made on demand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

from pkgs.agents.db.servers import Servers
from pkgs.common.errors import DeniedError
from pkgs.common.resources.kinds import Database
from pkgs.common.resources.kinds.infrastructure import DbAdmin

MARK = "teleport-auto-user"
"""The role at the server whose members are ours. Another user is never touched, whatever its name is."""


class Finished(Enum):
    """What deactivating a user came to."""

    ABSENT = "absent"
    """There is no such user, or it is none of ours."""
    IN_USE = "in use"
    """The server knows sessions of it: nothing was done."""
    LOCKED = "locked"
    DROPPED = "dropped"


class OtherRolesError(DeniedError):
    """The user has sessions with other roles at this moment; they may be about to end."""


class Accounts(Protocol):
    """The users of one server, seen by its admin user."""

    async def activate(self, user: str, roles: tuple[str, ...]) -> None:
        """It exists, is marked, may log in by certificate, and has exactly these roles. All or nothing.
        Raises DeniedError for a user of that name that is none of ours, OtherRolesError, UnavailableError."""

    async def deactivate(self, user: str, *, drop: bool) -> Finished:
        """It may not log in and has no roles; `drop`: it is gone, unless something at the server depends on
        it. Raises UnavailableError."""


Administer = Callable[[Servers, Database, DbAdmin], AbstractAsyncContextManager[Accounts]]
"""Log in as the admin user, on a connection of its own."""

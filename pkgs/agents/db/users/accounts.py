"""What a protocol has to do for users that are made on demand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from pkgs.agents.db.upstream.servers import Servers
from pkgs.common.access.dbobjects import ImportRules, ObjectPermissions
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
    """The user has sessions with other roles or permissions at this moment; they may be about to end."""

    def __init__(self) -> None:
        super().__init__(
            "the user has sessions with other database roles or permissions now",
            hint="end them, or connect with the same roles",
        )


@dataclass(frozen=True, slots=True)
class Objects:
    """Permissions on the objects of one database inside the server."""

    database: str
    permissions: ObjectPermissions
    rules: ImportRules


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user is to have, and nothing else."""

    roles: tuple[str, ...] = ()
    objects: Objects | None = None

    @property
    def terms(self) -> tuple[frozenset[str], tuple[str, ...]]:
        """Equal for sessions that may share the user."""
        return frozenset(self.roles), self.objects.permissions.texts if self.objects else ()


@dataclass(frozen=True, slots=True)
class Given:
    """What a user got on objects."""

    objects: dict[str, int] = field(default_factory=dict)
    """How many of each kind."""
    permissions: dict[str, dict[str, int]] = field(default_factory=dict)
    """How many of each kind, by permission."""


class Accounts(Protocol):
    """The users of one server, seen by its admin user."""

    async def activate(self, user: str, wanted: Wanted) -> Given:
        """It exists, is marked, may log in by certificate, and has exactly what is wanted. All or nothing.
        Raises DeniedError for a user of that name that is none of ours, OtherRolesError, UnavailableError,
        LimitExceededError."""

    async def deactivate(self, user: str, *, drop: bool) -> Finished:
        """It may not log in and has no roles, nor permissions that the admin user can take; `drop`: it is
        gone, unless something at the server depends on it. Raises UnavailableError."""


Administer = Callable[[Servers, Database, DbAdmin], AbstractAsyncContextManager[Accounts]]
"""Log in as the admin user, on a connection of its own."""

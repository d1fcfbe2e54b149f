"""What the generic verbs (`tctl create`, `edit`, `rm`, `users add`) have to ask about access lists.

Members have no rules of their own: whoever may `update` a list may change its members, and a condition of
that rule is about the list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pkgs.auth.accesslists.authority import KIND, ListAuthority
from pkgs.auth.accesslists.events import leftover_events
from pkgs.auth.accesslists.reviews import ReviewLog
from pkgs.auth.accesslists.writing import Leftovers, ListWriter, fitting
from pkgs.auth.audit.journal import Journal
from pkgs.auth.backend.interface import Operation
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store
from pkgs.common.events import codes
from pkgs.common.events.types import Event
from pkgs.common.resources.kinds import AccessList, AccessListMember, Resource
from pkgs.common.rpc.calls import Caller

MEMBER = "access_list_member"


class Cleared(NamedTuple):
    """What goes into the same commit as a creation or a deletion, and what the audit log is told of it."""

    operations: list[Operation]
    events: list[Event]


NOTHING_CLEARED = Cleared([], [])


class GenericLists:
    def __init__(self, store: Store, permissions: Permissions, journal: Journal) -> None:
        self._store = store
        self._permissions = permissions
        self._journal = journal
        self._lists = permissions.lists
        self._writer = ListWriter(store, permissions.lists)
        self._authority = ListAuthority(store, permissions)
        self._reviews = ReviewLog(store.backend)

    # Which rule decides.

    def rule_of(self, kind: str, verbs: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The kind and the verbs that a rule must name for a change."""
        return (KIND, ("update",)) if kind == MEMBER else (kind, verbs)

    def ruled(self, kind: str, resource: Resource | None, list_name: str = "") -> tuple[str, Resource | None]:
        """The kind that a rule must name, and the object that its condition is about. There is none for the
        member of a list that does not exist: a condition then does not grant."""
        if kind != MEMBER:
            return kind, resource
        name = resource.spec.access_list if isinstance(resource, AccessListMember) else list_name
        return KIND, self._store.get(KIND, name)

    def may(self, rule: Callable[[Resource], bool], resource: Resource) -> bool:
        """Whether a listing shows it; a member where its list is shown."""
        ruled = self.ruled(resource.kind, resource)[1]
        return ruled is not None and rule(ruled)

    # Writing.

    def checked(
        self,
        caller: Caller,
        resource: Resource,
        before: Resource | None,
        actor: str,
        now: float,
        store: Store,
    ) -> Resource:
        """The form to store, on the view of `store`. Raises InputError, or DeniedError for who would let
        themselves in."""
        if isinstance(resource, AccessListMember):
            self._authority.check_not_themselves(caller, resource)
        writer = ListWriter(store, self._lists)
        return writer.checked(resource, before, actor, now, restoring=caller.admin)

    async def before_creating(self, resource: Resource, actor: str) -> Cleared:
        """Clears what an earlier user or list of this name has left."""
        found = self._writer.before_creating(resource)
        also = await self._reviews.removal(resource.name) if isinstance(resource, AccessList) else []
        return await self._cleared(found, also, actor)

    async def before_deleting(self, resource: Resource, actor: str) -> Cleared:
        """Clears what goes with it; raises InputError for a list that is a part of another."""
        found = self._writer.before_deleting(resource)
        if not isinstance(resource, AccessList):
            return await self._cleared(found, [], actor)
        cleared = await self._cleared(
            Leftovers(), found.operations() + await self._reviews.removal(resource.name), actor
        )
        if found.members:
            gone = self._journal.event(
                codes.ACCESS_LIST_MEMBERS_DELETE_ALL,
                access_list_name=resource.name,
                access_list_title=resource.spec.title,
                members=[member.name for member in found.members],
                user=actor,
                updated_by=actor,
                success=True,
            )
            cleared.events.append(gone)
        return cleared

    async def _cleared(self, found: Leftovers, also: list[Operation], actor: str) -> Cleared:
        operations = found.operations() + also
        if not operations:
            return Cleared([], [])
        events = leftover_events(self._journal, actor, found, self._store.backend.clock())
        return Cleared(await fitting(self._store.backend, operations), events)

    def check_role_unused(self, caller: Caller, role: str, leaving: set[str]) -> None:
        """Raises InputError for a role that a list names, but for those that are about to go."""
        may_read = self._permissions.rule_filter(caller, KIND, "read")
        self._writer.check_role_unused(role, leaving, may_read)

"""Lists and members made fit for storing, what has to be cleared away with them, and what is refused.

Every path that writes one goes through here: the calls of this room and the generic verbs alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from pkgs.auth.accesslists import limits
from pkgs.auth.backend.interface import Backend, Operation
from pkgs.auth.state.accesslists import AccessLists
from pkgs.auth.state.store import Store, delete_operation, update_operation
from pkgs.common.access.lists.membership import LIST_KIND, USER_KIND, Node, is_current, node_of
from pkgs.common.access.lists.reviews import is_reviewed, next_audit
from pkgs.common.errors import InputError, LimitExceededError
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.kinds import AccessList, AccessListMember, Resource, User
from pkgs.common.resources.kinds.requests import ListOwner

May = Callable[[Resource], bool]


class Leftovers(NamedTuple):
    """What would come to life again, or stay without effect: memberships, and lists that lose an owner."""

    members: tuple[AccessListMember, ...] = ()
    owned: tuple[AccessList, ...] = ()
    """As they are to be."""

    def operations(self) -> list[Operation]:
        return [
            *(delete_operation(member) for member in self.members),
            *(update_operation(access_list) for access_list in self.owned),
        ]


class ListWriter:
    def __init__(self, store: Store, lists: AccessLists) -> None:
        self._store = store
        self._lists = lists

    def checked(
        self, resource: Resource, before: Resource | None, actor: str, now: float, *, restoring: bool = False
    ) -> Resource:
        """The form to store; other kinds are returned as they are. Only who may restore a dump says who let a
        member in and when; for others it is themselves, now."""
        if isinstance(resource, AccessList):
            return self._list(resource, before if isinstance(before, AccessList) else None, now)
        if isinstance(resource, AccessListMember):
            known = before if isinstance(before, AccessListMember) else None
            return self._member(resource, known, actor, now, restoring=restoring)
        return resource

    # Lists.

    def _list(self, wanted: AccessList, before: AccessList | None, now: float) -> AccessList:
        spec, where = wanted.spec, f"access_list/{wanted.name}"
        if before is None and len(self._store.all("access_list")) >= limits.LISTS_MAX:
            raise LimitExceededError(f"a cluster may have {limits.LISTS_MAX} access lists")
        known = {node_of(owner) for owner in before.spec.owners} if before is not None else set()
        owners = []
        for owner in spec.owners:
            node = node_of(owner)
            if node not in known:
                self._check_exists(node, f"{where}: spec.owners", now)
                self._check_few(self._lists.graph.lists_with_owner(node), owner.name, "owns")
            if node[0]:
                self._check_nesting(wanted.name, owner.name)
            # What the cluster says about an owner is not for the author to say.
            owners.append(
                ListOwner(
                    name=owner.name,
                    description=owner.description,
                    membership_kind=LIST_KIND if node[0] else USER_KIND,
                )
            )
        for field, roles in (
            ("grants", spec.grants.roles),
            ("owner_grants", spec.owner_grants.roles),
            ("membership_requires", spec.membership_requires.roles),
            ("ownership_requires", spec.ownership_requires.roles),
        ):
            for role in roles:
                found = self._store.get("role", role)
                if found is None:
                    raise InputError(
                        f'{where}: spec.{field}.roles: role "{role}" does not exist',
                        hint="`tctl get roles` lists those that do",
                    )
                if bot_of(found):  # attack A36
                    raise InputError(
                        f'{where}: spec.{field}.roles: role "{role}" belongs to a bot and goes with it',
                        hint="give its roles instead",
                    )
        audit = spec.audit
        if not is_reviewed(wanted):
            audit = msgspec.structs.replace(audit, next_audit_date=None)
        elif audit.next_audit_date is None:
            due = next_audit(audit.recurrence, moment(now))
            held = before.spec.audit.next_audit_date if before is not None else None
            # To leave the date out is no way to put a review off.
            audit = msgspec.structs.replace(audit, next_audit_date=due if held is None else min(held, due))
        return msgspec.structs.replace(wanted, spec=msgspec.structs.replace(spec, owners=owners, audit=audit))

    # Members.

    def _member(
        self,
        wanted: AccessListMember,
        before: AccessListMember | None,
        actor: str,
        now: float,
        *,
        restoring: bool,
    ) -> AccessListMember:
        spec, graph = wanted.spec, self._lists.graph
        where = f"access_list_member/{spec.access_list}/{wanted.name}"
        is_planned = self._store.assumes("access_list", spec.access_list)
        if graph.get(spec.access_list, now) is None and not is_planned:
            raise InputError(
                f'{where}: there is no access list "{spec.access_list}"', hint="`tctl acl ls` lists them"
            )
        node = node_of(wanted)
        self._check_exists(node, where, now)
        if node[0]:
            self._check_nesting(spec.access_list, wanted.name)
        if len(spec.reason) > limits.REASON_MAX:
            raise InputError(f"{where}: spec.reason: longer than {limits.REASON_MAX} characters")
        if not is_current(wanted, now) and not restoring:
            raise InputError(f"{where}: spec.expires: this time is over")
        if before is None:
            if graph.count(spec.access_list) >= limits.MEMBERS_MAX:
                raise LimitExceededError(f"an access list may have {limits.MEMBERS_MAX} members")
            self._check_few(graph.lists_with_member(node), wanted.name, "is a member of")
        joined, added_by = spec.joined, spec.added_by
        if not restoring:
            joined, added_by = (before.spec.joined, before.spec.added_by) if before else (None, "")
        return msgspec.structs.replace(
            wanted,
            spec=msgspec.structs.replace(
                spec,
                joined=joined or moment(now),
                added_by=added_by or actor,
                membership_kind=LIST_KIND if node[0] else USER_KIND,
                ineligible_status="",
            ),
        )

    def _check_exists(self, node: Node, where: str, now: float) -> None:
        nested, name = node
        if self._store.assumes("access_list" if nested else "user", name):
            return
        if nested:
            if self._lists.graph.get(name, now) is None:
                raise InputError(f'{where}: there is no access list "{name}"', hint="create it first")
        elif self._lists.user(name) is None:
            if self._store.get("user", name) is not None:
                raise InputError(f'{where}: "{name}" is a machine', hint="give its bot the roles instead")
            raise InputError(
                f'{where}: there is no user "{name}"',
                hint="`tctl users ls` lists them; a list within it is of the kind MEMBERSHIP_KIND_LIST",
            )

    def _check_nesting(self, outer: str, inner: str) -> None:
        problem = self._lists.graph.nesting_problem(outer, inner)
        if problem:
            raise InputError(f'access list "{inner}" cannot be part of "{outer}": {problem}')

    def _check_few(self, names: Sequence[str], name: str, verb: str) -> None:
        if len(names) >= limits.MEMBERSHIPS_MAX:
            raise LimitExceededError(
                f'"{name}" {verb} {limits.MEMBERSHIPS_MAX} access lists, the most there may be'
            )

    # Going away, and coming again.

    def before_creating(self, resource: Resource) -> Leftovers:
        """What an earlier user or list of this name has left (one that expired, say): nobody inherits it."""
        if isinstance(resource, User):
            return self._leftovers((False, resource.name))
        if isinstance(resource, AccessList):
            found = self._leftovers((True, resource.name))
            return found._replace(members=(*found.members, *self._lists.graph.every_member(resource.name)))
        return Leftovers()

    def before_deleting(self, resource: Resource) -> Leftovers:
        """What goes with it; raises InputError for a list that is a part of another."""
        if isinstance(resource, User):
            return self._leftovers((False, resource.name))
        if isinstance(resource, AccessList):
            self._check_alone(resource.name)
            return Leftovers(tuple(self._lists.graph.every_member(resource.name)))
        return Leftovers()

    def _check_alone(self, name: str) -> None:
        graph, now = self._lists.graph, self._store.backend.clock()
        inside = [n for n in graph.lists_with_member((True, name)) if graph.get(n, now) is not None]
        owned = [n for n in graph.lists_with_owner((True, name)) if graph.get(n, now) is not None]
        if inside:
            raise InputError(
                f'access list "{name}" is a member of {_some(inside)}',
                hint=f"take it out first: tctl acl users rm {inside[0]} {name}",
            )
        if owned:
            raise InputError(
                f'access list "{name}" owns {_some(owned)}',
                hint=f"give that list other owners first: tctl acl update {owned[0]} --owners=...",
            )

    def check_role_unused(self, role: str, leaving: Collection[str], may_read: May) -> None:
        """A role that a list grants or requires stays: without it the list would give nothing. Lists that
        may not be read are neither named nor assumed away (attack A33)."""
        using = [
            found
            for found in self._store.all("access_list")
            if isinstance(found, AccessList)
            and any(
                role in part.roles
                for part in (
                    found.spec.grants,
                    found.spec.owner_grants,
                    found.spec.membership_requires,
                    found.spec.ownership_requires,
                )
            )
        ]
        named = [found.name for found in using if may_read(found)]
        if len(named) < len(using):
            raise InputError(
                f'role "{role}" is named by access lists that you may not read',
                hint="ask somebody who may to take it out of them",
            )
        named = [name for name in named if name not in leaving]
        if named:
            raise InputError(
                f'role "{role}" is named by access list {_some(named)}', hint="take it out of the list first"
            )

    def _leftovers(self, node: Node) -> Leftovers:
        graph = self._lists.graph
        members = (graph.member(name, node[1]) for name in graph.lists_with_member(node))
        owned = (self._store.get("access_list", name) for name in graph.lists_with_owner(node))
        return Leftovers(
            tuple(member for member in members if member is not None),
            tuple(_without_owner(found, node) for found in owned if isinstance(found, AccessList)),
        )


def _without_owner(access_list: AccessList, node: Node) -> AccessList:
    owners = [owner for owner in access_list.spec.owners if node_of(owner) != node]
    return msgspec.structs.replace(access_list, spec=msgspec.structs.replace(access_list.spec, owners=owners))


def _some(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:5]) + (", ..." if len(names) > 5 else "")


async def fitting(backend: Backend, operations: list[Operation]) -> list[Operation]:
    """The operations that still fit into the commit they belong to; the others are done here, first."""
    while len(operations) > limits.OPERATIONS_AT_ONCE:
        first, operations = operations[: limits.OPERATIONS_AT_ONCE], operations[limits.OPERATIONS_AT_ONCE :]
        await backend.commit(first)
    return operations


def moment(now: float) -> datetime:
    """Whole seconds, UTC, as resources hold times."""
    return datetime.fromtimestamp(int(now), UTC)

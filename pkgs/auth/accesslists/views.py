"""Lists, members and reviews as they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pkgs.auth.accesslists.reviews import ReviewLog
from pkgs.auth.accesslists.writing import moment
from pkgs.auth.state.accesslists import AccessLists, is_machine
from pkgs.auth.state.store import Store
from pkgs.common.access.lists.membership import Standing, Status, aware, is_list, node_of
from pkgs.common.access.lists.reviews import days_left
from pkgs.common.api.accesslists import GrantedBy, ListsOfUser, ListSummary
from pkgs.common.events.format import rfc3339
from pkgs.common.resources.kinds import AccessList, AccessListMember, User
from pkgs.common.resources.kinds.requests import AccessListStatus

STATUS: dict[Status, str] = {
    "eligible": "INELIGIBLE_STATUS_ELIGIBLE",
    "expired": "INELIGIBLE_STATUS_EXPIRED",
    "does not exist": "INELIGIBLE_STATUS_USER_NOT_EXIST",
    "requirements not met": "INELIGIBLE_STATUS_MISSING_REQUIREMENTS",
}
"""As the field writes it into `ineligible_status`."""


class ListViews:
    def __init__(self, store: Store, lists: AccessLists, reviews: ReviewLog) -> None:
        self._store = store
        self._lists = lists
        self._reviews = reviews

    def _now(self) -> float:
        return self._store.backend.clock()

    def shown(self, access_list: AccessList, sees: Callable[[str], bool]) -> AccessList:
        """With what the cluster says about it: counts, and the lists that it is a part of, of those that the
        reader sees (attack A33)."""
        graph = self._lists.graph
        members = graph.members(access_list.name, self._now())
        nested = sum(is_list(member.spec.membership_kind) for member in members)
        status = AccessListStatus(
            member_count=len(members) - nested,
            member_list_count=nested,
            owner_of=list(filter(sees, graph.lists_with_owner((True, access_list.name)))),
            member_of=list(filter(sees, graph.lists_with_member((True, access_list.name)))),
        )
        return msgspec.structs.replace(access_list, status=status)

    def members(self, list_name: str) -> list[AccessListMember]:
        """With whether each counts now."""
        return [
            msgspec.structs.replace(
                member,
                spec=msgspec.structs.replace(member.spec, ineligible_status=STATUS[self._status(member)]),
            )
            for member in self._lists.graph.members(list_name, self._now())
        ]

    def _status(self, member: AccessListMember) -> Status:
        person = None if node_of(member)[0] else self._lists.person(member.name)
        return self._lists.graph.status(member, person, self._now())

    async def summary(self, access_list: AccessList) -> ListSummary:
        members = self._lists.graph.members(access_list.name, self._now())
        nested = sum(is_list(member.spec.membership_kind) for member in members)
        due = access_list.spec.audit.next_audit_date
        reviews = await self._reviews.of(access_list.name)
        return ListSummary(
            name=access_list.name,
            title=access_list.spec.title,
            type=access_list.spec.type,
            owners=[
                f"list/{owner.name}" if is_list(owner.membership_kind) else owner.name
                for owner in access_list.spec.owners
            ],
            members=len(members) - nested,
            member_lists=nested,
            ineligible_members=sum(self._status(member) != "eligible" for member in members),
            granted_roles=list(access_list.spec.grants.roles),
            granted_traits=dict(access_list.spec.grants.traits),
            next_audit_date=rfc3339(aware(due).timestamp()) if due is not None else "",
            days_left=days_left(access_list, moment(self._now())),
            last_review=reviews[0].review_date if reviews else "",
            last_reviewer=reviews[0].author if reviews else "",
        )


def explained(
    lists: AccessLists, user: User, standing: Standing, roles: Sequence[str], now: float
) -> ListsOfUser:
    """Each thing that lists give, by each way; and the lists that name the user without effect."""
    granted = [
        GrantedBy(what="role", name=role, path=list(way.path), as_owner=way.as_owner)
        for role, ways in standing.roles.items()
        for way in ways
    ]
    granted += [
        GrantedBy(what="trait", name=trait, value=value, path=list(way.path), as_owner=way.as_owner)
        for trait, values in standing.traits.items()
        for value, ways in values.items()
        for way in ways
    ]
    return ListsOfUser(
        user=user.name,
        roles=list(roles),
        granted=granted,
        without_effect=_without_effect(lists, user, standing, now),
    )


def _without_effect(lists: AccessLists, user: User, standing: Standing, now: float) -> dict[str, str]:
    graph, person = lists.graph, lists.person(user.name)
    found: dict[str, str] = {}
    for name in graph.lists_with_member((False, user.name)):
        member = graph.member(name, user.name)
        if is_machine(user):
            found[name] = "machines receive nothing from lists"
        elif graph.get(name, now) is None:
            found[name] = "there is no such list"
        elif member is not None and (status := graph.status(member, person, now)) != "eligible":
            found[name] = f"membership: {status}"
    for name in graph.lists_with_owner((False, user.name)):
        if person is not None and name not in graph.ownerships(person, now):
            found.setdefault(name, "ownership: requirements not met")
    for broken in standing.broken:
        missing = ", ".join(broken.missing_roles)
        found[broken.name] = f"a role of the list does not exist: {missing}"
    return found

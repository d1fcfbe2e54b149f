"""Who may do what to a list: by a rule for `access_list`, or as one of its owners.

Owners look at their list, change its members and review it. What it grants, who owns it and what it requires
is for those whose rules allow it. Nobody lets themselves in, not by way of another list either, except the
owners: their lists are theirs to join.
"""

from __future__ import annotations

from typing import NamedTuple

from pkgs.auth.permissions import Permissions
from pkgs.auth.state.accesslists import AccessLists
from pkgs.auth.state.store import Store
from pkgs.common.access.lists.membership import Person, node_of
from pkgs.common.access.lists.reviews import is_reviewed
from pkgs.common.access.types import UseRule
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.pki.identity import PeerKind
from pkgs.common.resources.kinds import AccessList, AccessListMember
from pkgs.common.rpc.calls import Caller

KIND = "access_list"


class Place(NamedTuple):
    """A list as this caller may act on it."""

    access_list: AccessList
    by_rule: bool
    as_owner: bool


class ListAuthority:
    def __init__(self, store: Store, permissions: Permissions) -> None:
        self._store = store
        self._permissions = permissions
        self._lists: AccessLists = permissions.lists

    def place(self, caller: Caller, name: str, *verbs: str) -> Place:
        """The list, for one who may do all of the verbs to it or owns it. Others do not learn whether it
        exists."""
        found = self._lists.graph.get(name, self._store.backend.clock())
        if found is None:
            self._permissions.require(caller, KIND, *verbs)
            raise NotFoundError(f'access list "{name[:80]}" not found', hint="`tctl acl ls` lists them")
        place = self._place(caller, found, *verbs)
        if not place.by_rule and not place.as_owner:
            # With the words for a list that does not exist, and the same story to those who are told one.
            self._permissions.require(caller, KIND, *verbs)
            raise DeniedError(f'access denied to perform action "{verbs[0]}" on "{KIND}"')
        return place

    def may_see(self, caller: Caller, name: str) -> bool:
        found = self._lists.graph.get(name, self._store.backend.clock())
        if found is None:
            return False
        place = self._place(caller, found, "read")
        return place.by_rule or place.as_owner

    def _place(self, caller: Caller, found: AccessList, *verbs: str) -> Place:
        by_rule = all(self._permissions.decide(caller, UseRule(KIND, verb, resource=found)) for verb in verbs)
        return Place(found, by_rule, self.owns(caller, found, *verbs))

    def visible(self, caller: Caller) -> list[Place]:
        """All lists that this caller may read or owns, by name."""
        may = self._permissions.rule_filter(caller, KIND, "list", "read")
        owned = self._owned(caller)
        found = [
            Place(r, may(r), r.name in owned) for r in self._store.all(KIND) if isinstance(r, AccessList)
        ]
        places = [
            place
            for place in found
            if place.by_rule
            or (place.as_owner and not self._forbids(caller, place.access_list, "list", "read"))
        ]
        if not places:
            self._permissions.require(caller, KIND, "list", "read", any_object=True)
        return places

    def owns(self, caller: Caller, access_list: AccessList, *verbs: str) -> bool:
        """Whether it is the caller's own list, and no deny rule refuses them the verbs."""
        return access_list.name in self._owned(caller) and not self._forbids(caller, access_list, *verbs)

    def _forbids(self, caller: Caller, access_list: AccessList, *verbs: str) -> bool:
        return any(
            self._permissions.forbidden(caller, UseRule(KIND, verb, resource=access_list)) for verb in verbs
        )

    def _owned(self, caller: Caller) -> frozenset[str]:
        """The lists of a user who is here in person: no machine, nobody in another's name, no certificate
        that is restricted to resources."""
        identity = caller.identity
        now = self._store.backend.clock()
        if identity is None or identity.kind is not PeerKind.USER or now >= identity.expires_at:
            return frozenset()
        if identity.impersonator or identity.bot_name or identity.allowed_resources is not None:
            return frozenset()
        person = self._lists.person(identity.name)
        return frozenset(self._lists.graph.ownerships(person, now)) if person is not None else frozenset()

    def check_members_editable(self, place: Place) -> None:
        """Lists that a program manages are not for their owners to change."""
        if not place.by_rule and not is_reviewed(place.access_list):
            raise DeniedError(
                f'the members of access list "{place.access_list.name}" are managed by a program',
                hint=f"it is of type {place.access_list.spec.type}: ask who runs the program",
            )

    def check_not_themselves(self, caller: Caller, member: AccessListMember) -> None:
        """A rule lets others in, not oneself, by which list and in whose name whatever (attack A32)."""
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return
        access_list = self._lists.graph.get(member.spec.access_list, self._store.backend.clock())
        if access_list is not None and self.owns(caller, access_list, "update"):
            return
        for name in filter(None, (identity.name, identity.impersonator)):
            if self._is_within(name, member):
                raise DeniedError(
                    "nobody adds themselves to an access list that they do not own",
                    hint="ask one of its owners",
                )

    def _is_within(self, name: str, member: AccessListMember) -> bool:
        nested, inner = node_of(member)
        if not nested:
            return inner == name
        person: Person | None = self._lists.person(name)
        if person is None:
            return False
        return inner in self._lists.graph.memberships(person, self._store.backend.clock())


def check_reviewed(access_list: AccessList) -> None:
    if not is_reviewed(access_list):
        raise InputError(
            f'access list "{access_list.name}" has no reviews',
            hint=f"it is of type {access_list.spec.type}: a program manages it",
        )

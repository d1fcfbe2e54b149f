"""The graph of all lists, kept beside the store: every change of a list or a member costs that one object."""

from __future__ import annotations

from urllib.parse import unquote

from pkgs.auth import limits
from pkgs.auth.backend.fanout import Change
from pkgs.auth.state.store import PREFIX, Store, decode, expires_of
from pkgs.common.access.lists.membership import NOTHING, ListGraph, Person, Standing
from pkgs.common.errors import DeniedError
from pkgs.common.resources.bots import BOT_LABEL
from pkgs.common.resources.kinds import AccessList, AccessListMember, User

LISTS = f"{PREFIX}access_list/"
MEMBERS = f"{PREFIX}access_list_member/"


class AccessLists:
    """Never older than an acknowledged write: the backend tells of a change before it acknowledges it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.graph = ListGraph()
        for resource in (*store.all("access_list"), *store.all("access_list_member")):
            self._set(resource, expires_of(resource))
        self._stop = [store.backend.subscribe(prefix, self._changed) for prefix in (LISTS, MEMBERS)]

    def close(self) -> None:
        for stop in self._stop:
            stop()

    def _changed(self, change: Change) -> None:
        if change.item is not None:
            self._set(decode(change.item), change.item.expires)
        elif change.key.startswith(LISTS):
            self.graph.drop_list(unquote(change.key.removeprefix(LISTS)))
        else:
            list_name, _, name = change.key.removeprefix(MEMBERS).partition("/")
            self.graph.drop_member(unquote(list_name), unquote(name))

    def _set(self, resource: object, until: float | None) -> None:
        if isinstance(resource, AccessList):
            self.graph.put_list(resource, until)
        elif isinstance(resource, AccessListMember):
            self.graph.put_member(resource, until)

    def user(self, name: str) -> User | None:
        """A user who may be in lists: one who exists and is no machine."""
        found = self._store.get("user", name)
        return found if isinstance(found, User) and not is_machine(found) else None

    def person(self, name: str) -> Person | None:
        user = self.user(name)
        return person_of(user) if user is not None else None

    def standing(self, user: User, now: float) -> Standing:
        """What lists give a user now."""
        if is_machine(user):
            return NOTHING
        return self.graph.standing(person_of(user), now, self._role_exists)

    def _role_exists(self, name: str) -> bool:
        return self._store.get("role", name) is not None


def is_machine(user: User) -> bool:
    return BOT_LABEL in user.metadata.labels


def person_of(user: User) -> Person:
    return Person(user.name, frozenset(user.spec.roles), user.spec.traits)


def together(user: User, standing: Standing) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Roles and traits of a user's own, followed by those that lists give. Too many refuse: to leave some out
    might leave out the one that denies."""
    roles = tuple(dict.fromkeys((*user.spec.roles, *standing.roles)))
    traits = {name: tuple(values) for name, values in user.spec.traits.items()}
    if not standing.roles and not standing.traits:
        return roles, traits
    for name, values in standing.traits.items():
        traits[name] = tuple(dict.fromkeys((*traits.get(name, ()), *values)))
    if len(roles) > limits.HELD_ROLES_MAX:
        raise DeniedError(
            f"a user may hold {limits.HELD_ROLES_MAX} roles, their own and those of access lists together",
            hint=f"`tctl acl explain {user.name}` shows which list gives what",
        )
    if sum(map(len, traits.values())) > limits.HELD_TRAIT_VALUES_MAX:
        raise DeniedError(
            f"a user may hold {limits.HELD_TRAIT_VALUES_MAX} values of traits where access lists give some",
            hint=f"`tctl acl explain {user.name}` shows which list gives what",
        )
    return roles, traits

"""Which resources roles would open: to choose the roles of a request, to search, and to show names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from pkgs.auth.requests.standing import Standing
from pkgs.auth.state.store import Store
from pkgs.common.access.decide import decide
from pkgs.common.access.explain import as_if
from pkgs.common.access.infrastructure import SELECTORS, sees
from pkgs.common.access.requests.planning import Gives
from pkgs.common.access.resource_ids import format_id
from pkgs.common.access.roleset import compile_role
from pkgs.common.access.types import Environment, SeeNode, Subject
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import Node, Resource
from pkgs.common.resources.kinds.requests import ResourceId
from pkgs.common.resources.role import Role

REQUESTABLE = ("node", "app", "db", "kube_cluster", "windows_desktop")
"""Kinds whose services hold a certificate to its resources. Objects inside a Kubernetes cluster are not among
them: nothing would keep the holder to the object."""


class Reach:
    def __init__(self, store: Store, cluster: str) -> None:
        self._store = store
        self._cluster = cluster

    def sees(self, user: Standing, roles: Sequence[Role], kind: str) -> Callable[[Resource], bool]:
        """A test for resources of a kind, for this user with these roles."""
        if kind == "node":
            now = self._store.backend.clock()
            identity = as_if(user.name, roles, user.traits, self._cluster, now)
            subject, env = Subject(identity, roles), Environment(now=now)
            return lambda resource: (
                isinstance(resource, Node) and bool(decide(subject, SeeNode(resource), env))
            )
        return sees(kind, roles, user.traits) if kind in SELECTORS else lambda resource: False

    def gives(self, user: Standing, roles: Mapping[str, Role], login: str) -> Gives:
        """Whether a role by itself opens a resource, and nothing that the user has closes it; for servers
        with the wanted login, or with any."""

        @cache
        def tests(name: str, kind: str) -> tuple[Callable[[Resource], bool], ...]:
            role = roles[name]
            if kind == "node" and not _login(role, (role, *user.roles), user, login):
                return (lambda resource: False,)
            return self.sees(user, (role,), kind), self.sees(user, (role, *user.roles), kind)

        def test(name: str, wanted: ResourceId) -> bool:
            resource = self.find(wanted)
            return resource is not None and all(holds(resource) for holds in tests(name, wanted.kind))

        return test

    def find(self, wanted: ResourceId) -> Resource | None:
        if wanted.cluster != self._cluster or wanted.kind not in REQUESTABLE:
            return None
        return self._store.get(wanted.kind, wanted.name)

    def names(self, ids: Sequence[ResourceId], user: Standing, roles: Sequence[Role]) -> dict[str, str]:
        """What people call those of the resources that the user may look at as these roles."""
        found = {}
        for wanted in ids:
            resource = self.find(wanted)
            if resource is not None and self.sees(user, roles, wanted.kind)(resource):
                found[format_id(wanted)] = friendly(resource)
        return found


def friendly(resource: Resource) -> str:
    return resource.spec.hostname if isinstance(resource, Node) else resource.name


def _login(role: Role, every: Sequence[Role], user: Standing, login: str) -> bool:
    try:
        denied = {name for held in every for name in compile_role(held, user.traits).deny_logins}
        allowed = compile_role(role, user.traits).allow_logins - denied
    except InputError:
        return False
    if "*" in denied:
        return False
    return login in allowed if login else bool(allowed)

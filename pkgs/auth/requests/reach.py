"""Which resources roles would open: to choose the roles of a request, to search, and to show names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from pkgs.auth.requests.standing import Standing
from pkgs.auth.state.described import described
from pkgs.auth.state.store import Store
from pkgs.common.access.contexts.fields import name_of
from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import as_if
from pkgs.common.access.matching.resource_ids import format_id
from pkgs.common.access.requests.planning import Gives
from pkgs.common.access.types import Environment, See, SshLogin, Subject
from pkgs.common.resources.kinds import Node, Resource
from pkgs.common.resources.kinds.requests import ResourceId
from pkgs.common.resources.role import Role

REQUESTABLE = ("node", "app", "db", "kube_cluster", "windows_desktop")
"""Kinds that certificates are restricted to as a whole. Objects inside a Kubernetes cluster are not among
them: nothing would keep the holder to the object."""


class Reach:
    """Questions about users as if they had other roles, in the circumstances of whoever asks."""

    def __init__(self, store: Store, cluster: str) -> None:
        self._store = store
        self._cluster = cluster

    def sees(self, user: Standing, roles: Sequence[Role], env: Environment) -> Callable[[Resource], bool]:
        """A test for resources of every kind, for this user with these roles."""
        subject = self._subject(user, roles, env)
        return lambda resource: bool(decide(subject, See(resource), env))

    def gives(self, user: Standing, roles: Mapping[str, Role], login: str, env: Environment) -> Gives:
        """Whether a role by itself opens a resource, and nothing that the user has closes it; for servers
        with the wanted login, or with any."""

        @cache
        def subjects(name: str) -> tuple[Subject, Subject]:
            role = roles[name]
            return self._subject(user, (role,), env), self._subject(user, (role, *user.roles), env)

        def test(name: str, wanted: ResourceId) -> bool:
            resource = self.find(wanted)
            if resource is None:
                return False
            alone, together = subjects(name)
            if not all(decide(subject, See(resource), env) for subject in (alone, together)):
                return False
            if not isinstance(resource, Node):
                return True
            logins = [each for each in alone.identity.logins if login in ("", each)]
            return any(
                all(decide(subject, SshLogin(resource, each), env) for subject in (alone, together))
                for each in logins
            )

        return test

    def _subject(self, user: Standing, roles: Sequence[Role], env: Environment) -> Subject:
        """A second factor or a device that is still to be shown does not matter here."""
        held = tuple(roles)
        return Subject(as_if(user.name, held, user.traits, self._cluster, env, mfa=True, device=True), held)

    def find(self, wanted: ResourceId) -> Resource | None:
        if wanted.cluster != self._cluster or wanted.kind not in REQUESTABLE:
            return None
        return described(self._store, wanted.kind, wanted.name)

    def names(
        self, ids: Sequence[ResourceId], user: Standing, roles: Sequence[Role], env: Environment
    ) -> dict[str, str]:
        """What people call those of the resources that the user may look at as these roles."""
        sees = self.sees(user, roles, env)
        found = {}
        for wanted in ids:
            resource = self.find(wanted)
            if resource is not None and sees(resource):
                found[format_id(wanted)] = name_of(resource)
        return found

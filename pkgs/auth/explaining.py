"""`tctl access`: why a user may or may not, who may, and what a user may. Decides nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pkgs.auth import limits
from pkgs.auth.chunks import chunked
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store
from pkgs.common.access.decide import decide
from pkgs.common.access.explain import Explanation, as_if, explain
from pkgs.common.access.types import Environment, SshLogin, Subject, Target, UseRule
from pkgs.common.api.access import (
    AccessStep,
    ExplainAccess,
    Explained,
    Grant,
    Grants,
    RoleFinding,
    WhatCan,
    WhoCan,
)
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.resources.kinds import Node, User
from pkgs.common.resources.registry import ALIASES, SINGLETONS
from pkgs.common.rpc.calls import Caller

_ENTITLED = (("role", "read"), ("user", "read"))


class ExplainHandlers:
    def __init__(self, store: Store, permissions: Permissions, cluster: str) -> None:
        self._store = store
        self._permissions = permissions
        self._cluster = cluster

    async def explain(self, caller: Caller, request: ExplainAccess) -> Explained:
        self._require(caller)
        subject, env = self._subject(request.user, request.roles, request.with_mfa)
        target: Target
        if request.action == "ssh":
            found = self._nodes(request.node)
            if len(found) > 1:
                raise InputError(
                    f"{len(found)} servers are called {request.node[:80]!r}",
                    hint=f"name one by its id: {', '.join(node.name for node in found[:5])}",
                )
            node = found[0]
            target = SshLogin(node, request.login)
            return _told(
                explain(subject, target, env), subject, f"ssh {request.login}@{node.spec.hostname}", node.name
            )
        target = self._rule(caller, request)
        action = f"resource {target.kind} {target.verb}" + (f" {request.name}" if request.name else "")
        return _told(explain(subject, target, env), subject, action, "")

    def _rule(self, caller: Caller, request: ExplainAccess) -> UseRule:
        kind = ALIASES.get(request.kind.lower(), request.kind.lower())
        if not kind or not request.verb:
            raise InputError("a kind and a verb are needed", hint="for example: resource role update")
        if not request.name:
            return UseRule(kind, request.verb)
        resource = self._store.get(kind, SINGLETONS.get(kind, request.name))
        # Whether there is such an object (a join token's name is its secret) is for those who may read it.
        verb = "readnosecrets" if kind == "cert_authority" else "read"
        self._permissions.require(caller, kind, verb, resource=resource)
        if resource is None:
            raise NotFoundError(f'{kind} "{request.name[:80]}" not found')
        return UseRule(kind, request.verb, resource=resource)

    async def who(self, caller: Caller, request: WhoCan) -> AsyncIterator[Grants]:
        self._require(caller)
        nodes = self._nodes(request.node)
        grants: list[Grant] = []
        users = [user for user in self._store.all("user") if isinstance(user, User)]
        for number, user in enumerate(sorted(users, key=lambda user: user.name)):
            await _breathe(number)
            try:
                subject, env = self._as_if(user, [], request.with_mfa)
            except DeniedError:
                # One of their roles is gone: they cannot log in.
                continue
            for count, node in enumerate(nodes, 1):
                grants += _grant(subject, node, (request.login,), env)
                await _breathe(count)
        for part in chunked(grants):
            yield Grants(part)

    async def what(self, caller: Caller, request: WhatCan) -> AsyncIterator[Grants]:
        self._require(caller)
        subject, env = self._subject(request.user, request.roles, request.with_mfa)
        grants: list[Grant] = []
        # As many as a certificate has, so that neither does more work nor says more than there is.
        logins = subject.identity.logins[: limits.MAX_PRINCIPALS]
        nodes = [node for node in self._store.all("node") if isinstance(node, Node)]
        nodes.sort(key=lambda node: (node.spec.hostname, node.name))
        for number, node in enumerate(nodes):
            await _breathe(number * len(logins), len(logins))
            grants += _grant(subject, node, logins, env)
        for part in chunked(grants):
            yield Grants(part)

    def _require(self, caller: Caller) -> None:
        for kind, verb in _ENTITLED:
            self._permissions.require(caller, kind, verb)

    def _subject(self, name: str, roles: list[str], mfa: bool) -> tuple[Subject, Environment]:
        user = self._store.get("user", name)
        if not isinstance(user, User):
            raise NotFoundError(f'user "{name[:80]}" not found')
        return self._as_if(user, roles, mfa)

    def _as_if(self, user: User, roles: list[str], mfa: bool) -> tuple[Subject, Environment]:
        if len(roles) > limits.MAX_USER_ROLES:
            raise InputError(f"a user may have {limits.MAX_USER_ROLES} roles")
        holding = self._permissions.holding(user)
        held = self._permissions.roles(roles or holding.roles)
        now = self._store.backend.clock()
        env = Environment(
            now=now, locks=self._permissions.locks(), auth_preference=self._permissions.auth_preference()
        )
        identity = as_if(user.name, held, holding.traits, self._cluster, now, mfa=mfa)
        return Subject(identity, held), env

    def _nodes(self, name: str) -> list[Node]:
        """By id, or all of that host name."""
        found = self._store.get("node", name)
        if isinstance(found, Node):
            return [found]
        nodes = [node for node in self._store.all("node") if isinstance(node, Node)]
        named = [node for node in nodes if node.spec.hostname == name]
        if not named:
            raise NotFoundError(f"no server is called {name[:80]!r}", hint="`tctl nodes ls` lists them")
        return named


async def _breathe(done: int, step: int = 1) -> None:
    """Let other calls in between; `done` decisions so far, `step` at a time."""
    if done % limits.DECISIONS_AT_ONCE < step:
        await asyncio.sleep(0)


def _grant(subject: Subject, node: Node, logins: tuple[str, ...], env: Environment) -> list[Grant]:
    decisions = [(login, decide(subject, SshLogin(node, login), env)) for login in logins]
    allowed = [(login, decision.reasons) for login, decision in decisions if decision]
    if not allowed:
        return []
    return [
        Grant(
            user=subject.identity.name,
            node=node.spec.hostname,
            node_id=node.name,
            logins=[login for login, _ in allowed],
            reasons=["; ".join(reasons) for _, reasons in allowed],
        )
    ]


def _told(found: Explanation, subject: Subject, action: str, node_id: str) -> Explained:
    return Explained(
        allowed=found.allowed,
        user=subject.identity.name,
        roles=[role.name for role in subject.roles],
        action=action,
        node_id=node_id,
        reasons=list(found.decision.reasons),
        findings=[RoleFinding(role=f.role, effect=f.effect, text=f.text) for f in found.findings],
        conditions=list(found.conditions),
        missing=[
            AccessStep(change=step.change, role=step.role, field=step.field, value=step.value)
            for step in found.missing
        ],
    )

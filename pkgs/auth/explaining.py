"""`tctl access`: why a user may or may not, who may, and what a user may. Decides nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from pkgs.auth import limits
from pkgs.auth.chunks import chunked
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.described import all_described, described
from pkgs.auth.state.store import Store
from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.actions import KINDS, REQUEST_USAGE, RULE_USAGE, Action, parse_action
from pkgs.common.access.explaining.explain import Explained, as_if, explain, told
from pkgs.common.access.explaining.reach import uses
from pkgs.common.access.explaining.requests import explain_request
from pkgs.common.access.requests.requester import Requester
from pkgs.common.access.roleset import roles_of
from pkgs.common.access.rules import VERBS
from pkgs.common.access.types import Environment, Subject, UseRule
from pkgs.common.api.access import (
    ExplainAccess,
    Grant,
    Grants,
    Somebody,
    WhatCan,
    WhoCan,
)
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.resources.kinds import Node, Resource, User
from pkgs.common.resources.registry import ALIASES, SINGLETONS
from pkgs.common.resources.validate.rulekinds import known, nearest
from pkgs.common.rpc.calls import Caller


class ExplainHandlers:
    def __init__(self, store: Store, permissions: Permissions, cluster: str) -> None:
        self._store = store
        self._permissions = permissions
        self._cluster = cluster

    async def explain(self, caller: Caller, request: ExplainAccess) -> Explained:
        self._permissions.require_insight(caller)
        subject, env = self._subject(request.who)
        if request.words[:1] == ["resource"]:
            target = self._rule(caller, request.words[1:])
            named = " ".join(request.words[3:])
            text = f"resource {target.kind} {target.verb}" + (f" {named}" if named else "")
            return told(explain(subject, target, env), subject, text, "")
        if request.words[:1] == ["request"]:
            return self._request(subject, env, request.words[1:])
        action = parse_action(request.words)
        found = self._resources(action)
        if len(found) > 1:
            raise InputError(
                f"{len(found)} servers are called {action.name[:80]!r}",
                hint=f"name one by its id: {', '.join(node.name for node in found[:5])}",
            )
        return told(explain(subject, action.on(found[0]), env), subject, action.text, found[0].name)

    def _request(self, subject: Subject, env: Environment, words: list[str]) -> Explained:
        if len(words) != 1 or not words[0]:
            raise InputError("request: this is not how it is written", hint=f"write {REQUEST_USAGE}")
        wanted, identity = words[0], subject.identity
        requester = Requester.of(identity.name, subject.roles, identity.traits, env)
        exists = self._store.get("role", wanted) is not None
        found = explain_request(requester, subject.roles, wanted, exists=exists)
        return told(found, subject, f"request {wanted}")

    def _rule(self, caller: Caller, words: list[str]) -> UseRule:
        if len(words) not in (2, 3) or not all(words):
            raise InputError("resource: this is not how it is written", hint=f"write {RULE_USAGE}")
        kind = ALIASES.get(words[0].lower(), words[0].lower())
        if not known(kind) and nearest(kind):
            raise InputError(
                f"no rule is about a kind {words[0][:80]!r}", hint=f"did you mean {nearest(kind)}?"
            )
        if words[1] not in VERBS or words[1] == "*":
            raise InputError(f"{words[1][:80]!r} is no verb", hint=f"one of {', '.join(VERBS[:-1])}")
        if len(words) == 2:
            return UseRule(kind, words[1])
        resource = self._store.get(kind, SINGLETONS.get(kind, words[2]))
        # Whether there is such an object (a join token's name is its secret) is for those who may read it.
        verb = "readnosecrets" if kind in ("cert_authority", "recording_encryption") else "read"
        self._permissions.require(caller, kind, verb, resource=resource)
        if resource is None:
            raise NotFoundError(f'{kind} "{words[2][:80]}" not found')
        return UseRule(kind, words[1], resource=resource)

    async def who(self, caller: Caller, request: WhoCan) -> AsyncIterator[Grants]:
        self._permissions.require_insight(caller)
        action = parse_action(request.words)
        found = self._resources(action)
        grants: list[Grant] = []
        users = [user for user in self._store.all("user") if isinstance(user, User)]
        for number, user in enumerate(sorted(users, key=lambda user: user.name)):
            await _breathe(number)
            try:
                subject, env = self._as_if(
                    user,
                    Somebody(
                        user=user.name,
                        with_mfa=request.with_mfa,
                        with_device=request.with_device,
                        at=request.at,
                        source_addr=request.source_addr,
                    ),
                )
            except DeniedError:
                # One of their roles is gone: they cannot log in.
                continue
            for count, resource in enumerate(found, 1):
                grants += _grants(subject, action, resource, env)
                await _breathe(count)
        for part in chunked(grants):
            yield Grants(part)

    async def what(self, caller: Caller, request: WhatCan) -> AsyncIterator[Grants]:
        self._permissions.require_insight(caller)
        subject, env = self._subject(request.who)
        unknown = [word for word in request.actions if word not in KINDS]
        if unknown:
            raise InputError(f"{unknown[0][:40]!r} is no action", hint=f"one of {', '.join(KINDS)}")
        asked = 0
        grants: list[Grant] = []
        for word in request.actions or KINDS:
            for resource in sorted(all_described(self._store, KINDS[word]), key=_order):
                allowed = []
                for text, target in uses(subject.identity, roles_of(subject), resource, env):
                    asked += 1
                    await _breathe(asked)
                    decision = decide(subject, target, env)
                    if decision:
                        allowed.append((text, decision.reasons))
                if allowed:
                    grants.append(_grant(subject, word, resource, allowed))
        for part in chunked(grants):
            yield Grants(part)

    def _subject(self, who: Somebody) -> tuple[Subject, Environment]:
        user = self._store.get("user", who.user)
        if not isinstance(user, User):
            raise NotFoundError(f'user "{who.user[:80]}" not found')
        return self._as_if(user, who)

    def _as_if(self, user: User, who: Somebody) -> tuple[Subject, Environment]:
        if len(who.roles) > limits.MAX_USER_ROLES:
            raise InputError(f"a user may have {limits.MAX_USER_ROLES} roles")
        if not 0 <= who.at < limits.LATEST_TIME_S:
            raise InputError("the time is not one that a certificate could have")
        holding = self._permissions.holding(user)
        held = self._permissions.roles(who.roles or holding.roles)
        now = who.at or self._store.backend.clock()
        env = Environment(
            now=now,
            source_addr=who.source_addr,
            locks=self._permissions.locks(),
            auth_preference=self._permissions.auth_preference(),
        )
        identity = as_if(
            user.name, held, holding.traits, self._cluster, env, mfa=who.with_mfa, device=who.with_device
        )
        return Subject(identity, held), env

    def _resources(self, action: Action) -> list[Resource]:
        """By name; servers by id, or all of that host name; desktops also where they are dynamic."""
        kinds = [action.kind]
        if action.word == "desktop":
            kinds.append("dynamic_windows_desktop")
        for kind in kinds:
            found = described(self._store, kind, action.name)
            if found is not None:
                return [found]
        named: list[Resource] = []
        if action.word == "ssh":
            nodes = self._store.all("node")
            named = [node for node in nodes if isinstance(node, Node) and node.spec.hostname == action.name]
        if not named:
            what = "server" if action.word == "ssh" else action.kind
            raise NotFoundError(
                f"no {what} is called {action.name[:80]!r}", hint=f"`tctl get {action.kind}` lists them"
            )
        return named


async def _breathe(done: int) -> None:
    """Let other calls in between; `done` decisions so far."""
    if done % limits.DECISIONS_AT_ONCE == 0:
        await asyncio.sleep(0)


def _order(resource: Resource) -> tuple[str, str]:
    return (resource.spec.hostname if isinstance(resource, Node) else resource.name, resource.name)


def _grants(subject: Subject, action: Action, resource: Resource, env: Environment) -> Iterator[Grant]:
    decision = decide(subject, action.on(resource), env)
    if decision:
        text = "/".join(part for part in (action.login, action.database) if part)
        yield _grant(subject, action.word, resource, [(text, decision.reasons)])


def _grant(
    subject: Subject, word: str, resource: Resource, allowed: list[tuple[str, tuple[str, ...]]]
) -> Grant:
    return Grant(
        user=subject.identity.name,
        action=word,
        resource=resource.spec.hostname if isinstance(resource, Node) else resource.name,
        resource_id=resource.name,
        principals=[text for text, _ in allowed],
        reasons=["; ".join(reasons) for _, reasons in allowed],
    )

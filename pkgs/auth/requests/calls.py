"""Making, showing, searching and deleting access requests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.chunks import chunked
from pkgs.auth.permissions import Permissions
from pkgs.auth.requests.reach import REQUESTABLE, Reach
from pkgs.auth.requests.standing import (
    Standing,
    not_found,
    require_person,
    standing_of,
    stored_request,
)
from pkgs.auth.resources.search import matcher
from pkgs.auth.state.described import all_described
from pkgs.auth.state.store import Store
from pkgs.common.access.matching.resource_ids import format_id, parse
from pkgs.common.access.options.login import MAX_CERT_TTL_S
from pkgs.common.access.requests.lifetimes import Asked
from pkgs.common.access.requests.limits import MAX_RESOURCES
from pkgs.common.access.requests.planning import Wish, plan
from pkgs.common.access.types import UseRule
from pkgs.common.api.login import Done
from pkgs.common.api.requests import (
    CreateAccessRequest,
    DeleteAccessRequest,
    GetAccessRequest,
    GetRequestCapabilities,
    ListAccessRequests,
    RequestableChunk,
    RequestCapabilities,
    RequestChunk,
    RequestShown,
    SearchRequestable,
)
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, NotFoundError
from pkgs.common.events import codes
from pkgs.common.events.format import rfc3339
from pkgs.common.pki.identity import PeerKind
from pkgs.common.resources.kinds import AccessRequest, Resource
from pkgs.common.resources.kinds.requests import AccessRequestSpec, ResourceId
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.registry import ALIASES
from pkgs.common.resources.role import Role
from pkgs.common.resources.secrets import without_secrets
from pkgs.common.rpc.calls import Caller

KIND = "access_request"


class RequestHandlers:
    def __init__(self, store: Store, permissions: Permissions, journal: Journal, cluster: str) -> None:
        self._store = store
        self._permissions = permissions
        self._journal = journal
        self._cluster = cluster
        self._reach = Reach(store, cluster)
        self._creating = asyncio.Lock()

    # Asking.

    async def create(self, caller: Caller, request: CreateAccessRequest) -> RequestShown:
        if request.dry_run:
            return self._shown(caller, self._made(caller, request))
        # One at a time, so that the count holds; and with everything looked at in its turn: who waits may be
        # somebody else by then (attack A32).
        async with self._creating:
            self._permissions.admit(caller)
            made = self._made(caller, request)
            self._check_room(made.spec.user)
            stored = await self._store.create(made)
        spec = stored.spec
        await self._journal.write(
            self._journal.event(
                codes.ACCESS_REQUEST_CREATE,
                id=stored.name,
                user=spec.user,
                updated_by=self._journal.actor(caller),
                roles=list(spec.roles),
                state=spec.state,
                reason=spec.request_reason,
                resource_ids=[format_id(found) for found in spec.resource_ids],
                max_duration=_time(spec, "max_duration"),
                expires=_time(spec, "expires"),
            )
        )
        return self._shown(caller, stored)

    def _made(self, caller: Caller, request: CreateAccessRequest) -> AccessRequest:
        """The request as it would be stored; nothing is awaited in here."""
        user, remaining_s = self._asker(caller, request.user)
        wish = self._wish(request)
        existing = self._roles()
        env = self._permissions.environment(caller)
        spec = plan(
            wish,
            user.requester(env),
            {role.name for role in user.roles},
            existing,
            self._reach.gives(user, existing, request.login_hint, env),
            now=env.now,
            remaining_s=remaining_s,
        )
        made = AccessRequest(metadata=Metadata(name=str(uuid.uuid4()), expires=spec.expires), spec=spec)
        # One's own needs no rule, but a deny is one.
        if self._permissions.forbidden(caller, UseRule(KIND, "create", resource=made)):
            raise DeniedError(f'access denied to perform action "create" on "{KIND}"')
        return made

    def _asker(self, caller: Caller, name: str) -> tuple[Standing, float]:
        """For whom it is, and what is left of their certificate."""
        identity = caller.identity
        if identity is not None and name in ("", identity.name):
            require_person(identity)
            user = standing_of(self._store, self._permissions, identity.name)
            return user, identity.expires_at - self._store.backend.clock()
        if not name:
            raise InputError("for whom is the request?", hint="name the user")
        self._permissions.require(caller, KIND, "create")
        return standing_of(self._store, self._permissions, name), MAX_CERT_TTL_S

    def _wish(self, request: CreateAccessRequest) -> Wish:
        if len(request.resource_ids) > MAX_RESOURCES:
            raise LimitExceededError(f"a request may name {MAX_RESOURCES} resources")
        return Wish(
            roles=request.roles,
            resources=[self._resource_id(text) for text in request.resource_ids],
            reason=request.reason,
            reviewers=request.suggested_reviewers,
            asked=Asked(
                pending_s=request.request_ttl_s,
                session_s=request.session_ttl_s,
                duration_s=request.max_duration_s,
                start=request.assume_start_time,
            ),
            login_hint=request.login_hint,
            dry_run=request.dry_run,
        )

    def _resource_id(self, text: str) -> ResourceId:
        found = parse(text)
        if found.cluster != self._cluster:
            raise InputError(
                f"cluster {found.cluster[:80]!r} is not known", hint=f"this one is {self._cluster}"
            )
        if found.kind not in REQUESTABLE:
            raise InputError(
                f"resources of kind {found.kind[:40]!r} cannot be requested",
                hint=f"those that can: {', '.join(REQUESTABLE)}",
            )
        return found

    def _roles(self) -> dict[str, Role]:
        return {role.name: role for role in self._store.all("role") if isinstance(role, Role)}

    def _all(self) -> list[AccessRequest]:
        return [found for found in self._store.all(KIND) if isinstance(found, AccessRequest)]

    def _check_room(self, user: str) -> None:
        every = self._all()
        own = [found for found in every if found.spec.user == user]
        pending = sum(found.spec.state == "PENDING" for found in own)
        if len(own) >= limits.REQUESTS_PER_USER:
            raise LimitExceededError(
                f"a user may have {limits.REQUESTS_PER_USER} access requests that have not expired",
                hint="an administrator can delete some",
            )
        if pending >= limits.PENDING_REQUESTS_PER_USER:
            raise LimitExceededError(
                f"a user may have {limits.PENDING_REQUESTS_PER_USER} pending access requests",
                hint="wait until some are decided or expire",
            )
        if len(every) >= limits.REQUESTS_KEPT:
            raise LimitExceededError(f"the cluster holds {limits.REQUESTS_KEPT} access requests")

    # Showing.

    async def get(self, caller: Caller, request: GetAccessRequest) -> RequestShown:
        found = stored_request(self._store, request.id)
        if not self._visible(caller)(found):
            raise not_found(request.id)
        return self._shown(caller, found)

    async def list(self, caller: Caller, request: ListAccessRequests) -> AsyncIterator[RequestChunk]:
        visible = self._visible(caller)
        wanted = self._which(caller, request.which)
        found = [each for each in self._all() if wanted(each) and visible(each)]
        found.sort(key=lambda each: each.spec.created.timestamp() if each.spec.created else 0.0, reverse=True)
        for part in chunked([self._shown(caller, each) for each in found]):
            yield RequestChunk(part)

    def _which(self, caller: Caller, which: str) -> Callable[[AccessRequest], bool]:
        name = caller.identity.name if caller.identity is not None else ""
        if which == "mine":
            return lambda found: found.spec.user == name
        if which == "suggested":
            return lambda found: name in found.spec.suggested_reviewers
        if which == "reviewable":
            may_review = self._may_review(caller)
            return lambda found: (
                found.spec.state == "PENDING"
                and may_review(found)
                and all(review.author != name for review in found.spec.reviews)
            )
        return lambda found: True

    def _visible(self, caller: Caller) -> Callable[[AccessRequest], bool]:
        """One's own, those that one may review, and with a rule on requests all."""
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return lambda found: caller.admin
        own = identity.name
        may_review = self._may_review(caller)
        by_rule = self._permissions.rule_filter(caller, KIND, "read")
        return lambda found: found.spec.user == own or may_review(found) or by_rule(found)

    def _may_review(self, caller: Caller) -> Callable[[AccessRequest], bool]:
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return lambda found: False
        try:
            require_person(identity)
            env = self._permissions.environment(caller)
            reviewer = standing_of(self._store, self._permissions, identity.name).reviewer(env)
        except DeniedError:
            return lambda found: False
        return lambda found: not reviewer.refusal(found.spec)

    def _shown(self, caller: Caller, found: AccessRequest) -> RequestShown:
        """With the names of resources that the reader may look at: as requester or as reviewer."""
        ids = self._namable(caller, found.spec.resource_ids)
        if not ids:
            return RequestShown(request=found)
        reader = found.spec.user if caller.identity is None else caller.identity.name
        env = self._permissions.environment(caller)
        try:
            user = standing_of(self._store, self._permissions, reader)
            more = found.spec.roles if reader == found.spec.user else user.reviewer(env).previews
        except (NotFoundError, DeniedError):
            # The user or one of their roles is gone: the request is shown without names.
            return RequestShown(request=found)
        existing = self._roles()
        roles = (*user.roles, *(existing[name] for name in more if name in existing))
        return RequestShown(request=found, names=self._reach.names(ids, user, roles, env))

    def _namable(self, caller: Caller, ids: Sequence[ResourceId]) -> Sequence[ResourceId]:
        """Without those that a deny rule hides from the caller (attack A33)."""
        hides: dict[str, Callable[[Resource], bool] | None] = {}
        for kind in {wanted.kind for wanted in ids}:
            try:
                hides[kind] = self._permissions.denials(caller, kind, "read")
            except DeniedError:
                hides[kind] = lambda _: False
        found = []
        for wanted in ids:
            may, resource = hides[wanted.kind], self._reach.find(wanted)
            if resource is not None and (may is None or may(resource)):
                found.append(wanted)
        return found

    # Looking for what could be asked for.

    async def search(self, caller: Caller, request: SearchRequestable) -> AsyncIterator[RequestableChunk]:
        identity = caller.user()
        require_person(identity)
        kind = ALIASES.get(request.kind.lower(), request.kind.lower())
        if kind not in REQUESTABLE:
            raise InputError(
                f"resources of kind {request.kind[:40]!r} cannot be requested",
                hint=f"those that can: {', '.join(REQUESTABLE)}",
            )
        user = standing_of(self._store, self._permissions, identity.name)
        existing = self._roles()
        env = self._permissions.environment(caller)
        as_roles = [name for name in user.requester(env).search_roles() if name in existing]
        wanted = matcher(request.labels, request.search)
        may = self._permissions.denials(caller, kind, "list", "read")
        visible = self._reach.sees(user, (*user.roles, *(existing[name] for name in as_roles)), env)
        found = [
            without_secrets(resource)
            for resource in all_described(self._store, kind)
            if visible(resource) and (may is None or may(resource)) and (wanted is None or wanted(resource))
        ]
        await self._journal.write(
            self._journal.event(
                codes.ACCESS_REQUEST_SEARCH,
                user=user.name,
                resource_type=kind,
                search_as_roles=as_roles,
                labels=dict(request.labels),
                search_keywords=list(request.search),
            )
        )
        for part in chunked(found):
            yield RequestableChunk(part)

    async def capabilities(self, caller: Caller, request: GetRequestCapabilities) -> RequestCapabilities:
        own = caller.identity.name if caller.identity is not None else ""
        if request.user not in ("", own):
            self._permissions.require(caller, "user", "read")
        user = standing_of(self._store, self._permissions, request.user or own)
        requester = user.requester(self._permissions.environment(caller))
        held = {role.name for role in user.roles}
        existing = self._roles()
        requestable = [n for n in sorted(existing) if n not in held and requester.may_request(n)]
        return RequestCapabilities(
            requestable_roles=requestable,
            search_as_roles=[name for name in requester.search_roles() if name in existing],
            suggested_reviewers=requester.reviewers(),
            strategy=requester.strategy,
            reason_required=requester.needs_reason(requestable),
            prompts=list(requester.prompts(requestable)),
        )

    # Taking away.

    async def delete(self, caller: Caller, request: DeleteAccessRequest) -> Done:
        """What it gave is over at once."""
        self._permissions.require(caller, KIND, "delete", any_object=True)
        found = stored_request(self._store, request.id)
        self._permissions.require(caller, KIND, "delete", resource=found)
        await self._store.delete(KIND, found.name)
        await self._journal.write(
            self._journal.event(
                codes.ACCESS_REQUEST_DELETE,
                id=found.name,
                user=found.spec.user,
                updated_by=self._journal.actor(caller),
            )
        )
        return Done()


def _time(spec: AccessRequestSpec, field: str) -> str | None:
    when = getattr(spec, field)
    return rfc3339(when.timestamp()) if when is not None else None

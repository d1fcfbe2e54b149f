"""Reviews, and the decisions of administrators."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.permissions import Permissions
from pkgs.auth.requests.standing import not_found, require_person, standing_of, stored_request
from pkgs.auth.state.store import Store
from pkgs.common.access.requests.limits import (
    MAX_ANNOTATION_CHARS,
    MAX_ANNOTATION_VALUES,
    MAX_ANNOTATIONS,
)
from pkgs.common.access.requests.planning import check_reason, moment
from pkgs.common.access.requests.resolving import reviewed
from pkgs.common.api.requests import RequestShown, ReviewAccessRequest, SetAccessRequestState
from pkgs.common.errors import ConflictError, DeniedError, InputError, LimitExceededError, UnavailableError
from pkgs.common.events import codes
from pkgs.common.resources.kinds import AccessRequest
from pkgs.common.resources.kinds.requests import AccessRequestSpec, Review
from pkgs.common.resources.role import Role
from pkgs.common.rpc.calls import Caller

KIND = "access_request"
MAX_DELEGATOR_CHARS = 256


class DecidingHandlers:
    def __init__(self, store: Store, permissions: Permissions, journal: Journal) -> None:
        self._store = store
        self._permissions = permissions
        self._journal = journal

    async def review(self, caller: Caller, request: ReviewAccessRequest) -> RequestShown:
        """In one's own name; the administrator on the Auth host passes on what an author says, who must be
        entitled to it all the same."""
        check_reason(request.reason)
        author = self._author(caller, request.author)
        for _ in range(limits.REVIEW_TRIES):
            found = stored_request(self._store, request.id)
            env = self._permissions.environment(caller)
            reviewer = standing_of(self._store, self._permissions, author).reviewer(env)
            own = found.spec.user == author
            if not own and reviewer.refusal(found.spec):
                # Answers like a request that does not exist to those who may not see it.
                self._hide_unless_readable(caller, found)
            now = self._store.backend.clock()
            review = Review(
                author=author,
                proposed_state=request.proposed_state,
                reason=request.reason.strip(),
                created=moment(int(now)),
                assume_start_time=self._start(request.assume_start_time, found),
            )
            after = self._placed(found, reviewed(found.spec, review, reviewer))
            try:
                stored = await self._store.update(after)
            except ConflictError:
                # Another review came in between: this one is counted after it.
                continue
            await self._journal.write(
                self._journal.event(
                    codes.ACCESS_REQUEST_REVIEW,
                    id=stored.name,
                    user=stored.spec.user,
                    reviewer=author,
                    updated_by=self._journal.actor(caller),
                    proposed_state=review.proposed_state,
                    state=stored.spec.state,
                    reason=review.reason,
                )
            )
            return RequestShown(request=stored)
        raise UnavailableError("many reviews come in at once", hint="try again in a moment")

    def _author(self, caller: Caller, author: str) -> str:
        identity = caller.identity
        if identity is None:
            if not author:
                raise InputError("a review needs an author", hint="give --author")
            return author
        require_person(identity)
        if author not in ("", identity.name):  # attack A32
            raise DeniedError("a review is written in one's own name")
        return identity.name

    def _hide_unless_readable(self, caller: Caller, found: AccessRequest) -> None:
        if not caller.admin and not self._permissions.rule_filter(caller, KIND, "read")(found):
            raise not_found(found.name)

    async def set_state(self, caller: Caller, request: SetAccessRequestState) -> RequestShown:
        self._permissions.require(caller, KIND, "update", any_object=True)
        check_reason(request.reason)
        _check_notes(request)
        found = stored_request(self._store, request.id)
        self._permissions.require(caller, KIND, "update", resource=found)
        self._refuse_own(caller, found)
        stored = await self._store.update(self._placed(found, self._decided(found, request)))
        await self._journal.write(
            self._journal.event(
                codes.ACCESS_REQUEST_UPDATE,
                id=stored.name,
                user=stored.spec.user,
                state=stored.spec.state,
                updated_by=self._journal.actor(caller),
                delegator=request.delegator or None,
                reason=stored.spec.resolve_reason,
                annotations={name: list(values) for name, values in request.annotations.items()} or None,
                roles=list(stored.spec.roles),
            )
        )
        return RequestShown(request=stored)

    def _refuse_own(self, caller: Caller, found: AccessRequest) -> None:
        """Attack A32: neither oneself, nor whoever one acts as."""
        identity = caller.identity
        if identity is not None and found.spec.user in (identity.name, identity.impersonator):
            raise DeniedError("nobody decides about their own request")

    def _decided(self, found: AccessRequest, request: SetAccessRequestState) -> AccessRequestSpec:
        spec = found.spec
        if spec.state == "PROMOTED":
            raise DeniedError("the request was promoted to an access list already")
        if spec.state in ("DENIED", request.state):
            # A denial is final (attack A32): certificates of an earlier approval must not come to life again.
            raise DeniedError(
                f"the request is {spec.state} already", hint="what is needed still is asked anew"
            )
        changes: dict[str, object] = {
            "state": request.state,
            "resolve_reason": request.reason.strip(),
            "resolve_annotations": {name: list(values) for name, values in request.annotations.items()},
        }
        start = self._start(request.assume_start_time, found)
        if start is not None:
            changes["assume_start_time"] = start
        if request.roles:
            if request.state != "APPROVED":
                raise InputError("only an approval may name roles")
            foreign = [name for name in request.roles if name not in spec.roles]
            if foreign:  # attack A32
                raise InputError(
                    f"role {foreign[0][:80]!r} was not requested", hint=f"requested: {', '.join(spec.roles)}"
                )
            changes["roles"] = [name for name in spec.roles if name in request.roles]
        return msgspec.structs.replace(spec, **changes)

    def _start(self, when: float, found: AccessRequest) -> datetime | None:
        """A later beginning, which may only narrow what was asked for."""
        if not when:
            return None
        wanted = found.spec.assume_start_time
        begins = max(when, wanted.timestamp() if wanted is not None else 0.0)
        ends = found.spec.max_duration
        if ends is None or not 0 < begins < ends.timestamp():
            raise InputError("the access would begin after its end")
        return datetime.fromtimestamp(int(begins), UTC)

    def _placed(self, found: AccessRequest, spec: AccessRequestSpec) -> AccessRequest:
        """An approved request stays until what it gives is over."""
        after = msgspec.structs.replace(found, spec=spec)
        if spec.state != "APPROVED" or found.spec.state == "APPROVED":
            return after
        for name in spec.roles:
            if not isinstance(self._store.get("role", name), Role):
                raise DeniedError(f'role "{name}" does not exist any more')
        ends = spec.max_duration
        if ends is None or ends.timestamp() <= self._store.backend.clock():
            raise DeniedError("what was asked for would be over already")
        metadata = msgspec.structs.replace(found.metadata, expires=ends)
        return msgspec.structs.replace(after, metadata=metadata)


def _check_notes(request: SetAccessRequestState) -> None:
    texts = [request.delegator[: MAX_DELEGATOR_CHARS + 1]]
    if len(texts[0]) > MAX_DELEGATOR_CHARS:
        raise LimitExceededError(f"a delegator may have {MAX_DELEGATOR_CHARS} characters")
    if len(request.annotations) > MAX_ANNOTATIONS:
        raise LimitExceededError(f"a request may have {MAX_ANNOTATIONS} annotations")
    for name, values in request.annotations.items():
        if len(values) > MAX_ANNOTATION_VALUES:
            raise LimitExceededError(f"an annotation may have {MAX_ANNOTATION_VALUES} values")
        if any(len(text) > MAX_ANNOTATION_CHARS for text in (name, *values)):
            raise LimitExceededError(f"an annotation may have {MAX_ANNOTATION_CHARS} characters")

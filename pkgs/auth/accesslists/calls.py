"""The calls about access lists. Changes are durable with their audit event before they are answered."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from pkgs.auth.accesslists import limits
from pkgs.auth.accesslists.authority import KIND, ListAuthority, check_reviewed
from pkgs.auth.accesslists.events import member_event
from pkgs.auth.accesslists.reviews import ReviewLog
from pkgs.auth.accesslists.views import ListViews, explained
from pkgs.auth.accesslists.writing import ListWriter, moment
from pkgs.auth.audit.journal import Journal
from pkgs.auth.chunks import chunked
from pkgs.auth.limits import LATEST_TIME_S
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.accesslists import together
from pkgs.auth.state.store import Store, delete_operation, update_operation
from pkgs.common.access.lists.membership import LIST_KIND, USER_KIND
from pkgs.common.access.lists.reviews import after_review, needs_review
from pkgs.common.access.validate import validate
from pkgs.common.api.accesslists import (
    AddMember,
    ExplainLists,
    GetAccessList,
    GotList,
    ListAccessLists,
    ListMembers,
    ListReview,
    ListReviews,
    Lists,
    ListsOfUser,
    Members,
    RemoveMember,
    Reviewed,
    ReviewList,
    Reviews,
    Summaries,
    SummarizeLists,
)
from pkgs.common.api.login import Done
from pkgs.common.errors import AccessError, AlreadyExistsError, ConflictError, InputError, NotFoundError
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import rfc3339
from pkgs.common.resources.kinds import AccessListMember, User
from pkgs.common.resources.kinds.requests import ListMemberSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller

_FAILURE_TEXT_MAX = 500


class AccessListHandlers:
    def __init__(self, store: Store, permissions: Permissions, journal: Journal) -> None:
        self._store = store
        self._permissions = permissions
        self._journal = journal
        self._lists = permissions.lists
        self._writer = ListWriter(store, permissions.lists)
        self._reviews = ReviewLog(store.backend)
        self._authority = ListAuthority(store, permissions)
        self._views = ListViews(store, permissions.lists, self._reviews)

    def _now(self) -> float:
        return self._store.backend.clock()

    # Looking.

    async def list(self, caller: Caller, request: ListAccessLists) -> AsyncIterator[Lists]:
        found = [place.access_list for place in self._authority.visible(caller)]
        seen = {access_list.name for access_list in found}
        if request.review_only:
            found = [a for a in found if needs_review(a, moment(self._now()))]
        for part in chunked([self._views.shown(access_list, seen.__contains__) for access_list in found]):
            yield Lists(part)

    async def get(self, caller: Caller, request: GetAccessList) -> GotList:
        place = self._authority.place(caller, request.name, "read")
        return GotList(
            self._views.shown(place.access_list, lambda name: self._authority.may_see(caller, name))
        )

    async def summarize(self, caller: Caller, request: SummarizeLists) -> AsyncIterator[Summaries]:
        if request.name:
            found = [self._authority.place(caller, request.name, "read").access_list]
        else:
            found = [place.access_list for place in self._authority.visible(caller)]
        if request.review_only:
            found = [a for a in found if needs_review(a, moment(self._now()))]
        for part in chunked(found):
            yield Summaries([await self._views.summary(access_list) for access_list in part])

    async def members(self, caller: Caller, request: ListMembers) -> AsyncIterator[Members]:
        place = self._authority.place(caller, request.access_list, "read")
        for part in chunked(self._views.members(place.access_list.name)):
            yield Members(part)

    async def reviews(self, caller: Caller, request: ListReviews) -> AsyncIterator[Reviews]:
        place = self._authority.place(caller, request.access_list, "read")
        for part in chunked(await self._reviews.of(place.access_list.name)):
            yield Reviews(part)

    async def explain(self, caller: Caller, request: ExplainLists) -> ListsOfUser:
        """For those who may read all lists and the user."""
        self._permissions.require(caller, KIND, "list", "read")
        user = self._store.get("user", request.user)
        self._permissions.require(caller, "user", "read", resource=user)
        if not isinstance(user, User):
            raise NotFoundError(f'user "{request.user[:80]}" not found')
        standing = self._lists.standing(user, self._now())
        roles, _ = together(user, standing)
        return explained(self._lists, user, standing, roles, self._now())

    # Members.

    async def add_member(self, caller: Caller, request: AddMember) -> Done:
        now, actor = self._now(), self._journal.actor(caller)
        async with self._failures(
            caller, codes.ACCESS_LIST_MEMBER_CREATE_FAIL, request.access_list, request.name
        ):
            place = self._authority.place(caller, request.access_list, "update")
            self._authority.check_members_editable(place)
            if not 0 <= request.expires_at < LATEST_TIME_S:
                raise InputError("the membership cannot end at a time that is none", hint="give Unix seconds")
            wanted = AccessListMember(
                metadata=Metadata(name=request.name),
                sub_kind=place.access_list.name,
                spec=ListMemberSpec(
                    access_list=place.access_list.name,
                    name=request.name,
                    expires=moment(request.expires_at) if request.expires_at else None,
                    reason=request.reason,
                    membership_kind=LIST_KIND if request.kind == "list" else USER_KIND,
                ),
            )
            validate(wanted)
            self._authority.check_not_themselves(caller, wanted)
            checked = self._writer.checked(wanted, None, actor, now)
            assert isinstance(checked, AccessListMember)
            try:
                stored = await self._store.create(checked)
            except AlreadyExistsError:
                raise AlreadyExistsError(
                    f'"{request.name}" is already a member of access list "{place.access_list.name}"',
                    hint="take the member out first, to add it anew",
                ) from None
        title = place.access_list.spec.title
        await self._journal.write(
            member_event(self._journal, codes.ACCESS_LIST_MEMBER_CREATE, actor, stored, title)
        )
        return Done()

    async def remove_member(self, caller: Caller, request: RemoveMember) -> Done:
        now, actor = self._now(), self._journal.actor(caller)
        async with self._failures(
            caller, codes.ACCESS_LIST_MEMBER_DELETE_FAIL, request.access_list, request.name
        ):
            place = self._authority.place(caller, request.access_list, "update")
            self._authority.check_members_editable(place)
            member = self._member(place.access_list.name, request.name)
            await self._store.delete("access_list_member", member.name, member.sub_kind)
        title = place.access_list.spec.title
        await self._journal.write(
            member_event(self._journal, codes.ACCESS_LIST_MEMBER_DELETE, actor, member, title, now)
        )
        return Done()

    def _member(self, list_name: str, name: str) -> AccessListMember:
        member = self._lists.graph.member(list_name, name)
        if member is None:
            raise NotFoundError(
                f'"{name[:80]}" is no member of access list "{list_name}"',
                hint=f"`tctl acl users ls {list_name}` lists them",
            )
        return member

    # Reviews.

    async def review(self, caller: Caller, request: ReviewList) -> Reviewed:
        now, actor = self._now(), self._journal.actor(caller)
        async with self._failures(caller, codes.ACCESS_LIST_REVIEW_FAIL, request.access_list):
            place = self._authority.place(caller, request.access_list, "update")
            access_list = place.access_list
            check_reviewed(access_list)
            names = list(dict.fromkeys(request.remove_members))
            if len(names) > limits.REMOVED_AT_ONCE:
                raise InputError(f"one review removes at most {limits.REMOVED_AT_ONCE} members")
            if len(request.notes) > limits.NOTES_MAX:
                raise InputError(f"the notes may have {limits.NOTES_MAX} characters")
            removed = [self._member(access_list.name, name) for name in names]
            due = after_review(access_list, moment(now))
            review = ListReview(
                id=str(uuid.uuid4()),
                access_list=access_list.name,
                review_date=rfc3339(now),
                author=actor,
                notes=request.notes,
                removed_members=names,
                next_audit_date=rfc3339(due.timestamp()),
            )
            audit = msgspec.structs.replace(access_list.spec.audit, next_audit_date=due)
            spec = msgspec.structs.replace(access_list.spec, audit=audit)
            operations = [
                update_operation(msgspec.structs.replace(access_list, spec=spec)),
                *(delete_operation(member) for member in removed),
                *await self._reviews.recording(review, now),
            ]
            try:
                await self._store.backend.commit(operations)
            except (ConflictError, NotFoundError):
                raise ConflictError(
                    f'access list "{access_list.name}" was changed by somebody else in the meantime',
                    hint="look at it again, and review again",
                ) from None
        title = access_list.spec.title
        event = self._journal.event(
            codes.ACCESS_LIST_REVIEW,
            name=access_list.name,
            access_list_title=title,
            review_id=review.id,
            notes=request.notes or None,
            removed_members=names,
            next_audit_date=review.next_audit_date,
            user=actor,
            updated_by=actor,
            success=True,
        )
        gone = [
            member_event(self._journal, codes.ACCESS_LIST_MEMBER_DELETE, actor, member, title, now)
            for member in removed
        ]
        await self._journal.write(event, *gone)
        return Reviewed(id=review.id, next_audit_date=review.next_audit_date)

    @asynccontextmanager
    async def _failures(
        self, caller: Caller, kind: Kind, list_name: str, member: str = ""
    ) -> AsyncIterator[None]:
        """A change that is refused leaves its event, too."""
        try:
            yield
        except AccessError as error:
            actor = self._journal.actor(caller)
            await self._journal.write(
                self._journal.event(
                    kind,
                    access_list_name=list_name[:_FAILURE_TEXT_MAX],
                    members=[member[:_FAILURE_TEXT_MAX]] if member else None,
                    user=actor,
                    updated_by=actor,
                    success=False,
                    error=error.message[:_FAILURE_TEXT_MAX],
                )
            )
            raise

"""Access lists: looking at them, letting members in and out, reviewing. Lists themselves are made, changed
and deleted by the generic verbs; these calls are also for the owners of a list, who need no rule for them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.resources.kinds import AccessList, AccessListMember
from pkgs.common.rpc.calls import Request, StreamRequest


class Lists(msgspec.Struct, frozen=True):
    """Part of a listing; with what the cluster says about each in `status`."""

    lists: list[AccessList]


class ListAccessLists(StreamRequest[Lists], frozen=True, kw_only=True):
    """Those that the caller may read or owns."""

    review_only: bool = False
    """Only those whose review is due, or so near that owners are told."""


class GotList(msgspec.Struct, frozen=True):
    access_list: AccessList


class GetAccessList(Request[GotList], frozen=True, kw_only=True):
    name: str


class ListSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a reviewer looks at first."""

    name: str
    title: str
    type: str
    owners: list[str]
    """Lists among them as `list/NAME`."""
    members: int
    member_lists: int
    ineligible_members: int
    """Users and lists that are recorded as members and have no effect."""
    granted_roles: list[str]
    granted_traits: dict[str, list[str]]
    next_audit_date: str
    """RFC 3339; empty: no reviews."""
    days_left: int | None = None
    """Until the review; negative: overdue."""
    last_review: str = ""
    last_reviewer: str = ""


class Summaries(msgspec.Struct, frozen=True):
    summaries: list[ListSummary]


class SummarizeLists(StreamRequest[Summaries], frozen=True, kw_only=True):
    name: str = ""
    """Empty: all that the caller may read or owns."""
    review_only: bool = False


class Members(msgspec.Struct, frozen=True):
    """Part of a listing; `spec.ineligible_status` says of each whether it counts now."""

    members: list[AccessListMember]


class ListMembers(StreamRequest[Members], frozen=True, kw_only=True):
    access_list: str


class AddMember(Request[Done], frozen=True, kw_only=True):
    access_list: str
    name: str
    kind: Literal["user", "list"] = "user"
    expires_at: float = 0.0
    """Unix seconds; 0: never."""
    reason: str = ""


class RemoveMember(Request[Done], frozen=True, kw_only=True):
    access_list: str
    name: str


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    next_audit_date: str
    """RFC 3339."""


class ReviewList(Request[Reviewed], frozen=True, kw_only=True):
    """A person has looked at the members; some go. The next review is due one interval later."""

    access_list: str
    notes: str = ""
    remove_members: list[str] = []


class ListReview(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    access_list: str
    review_date: str
    """RFC 3339."""
    author: str
    notes: str = ""
    removed_members: list[str] = []
    next_audit_date: str = ""


class Reviews(msgspec.Struct, frozen=True):
    reviews: list[ListReview]


class ListReviews(StreamRequest[Reviews], frozen=True, kw_only=True):
    """Newest first."""

    access_list: str


class GrantedBy(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that lists give a user, by one way."""

    what: Literal["role", "trait"]
    name: str
    value: str = ""
    """Of the trait."""
    path: list[str]
    """The list they are in themselves, the one around it, ... up to the one that gives it."""
    as_owner: bool = False


class ListsOfUser(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    roles: list[str]
    """What a login gives now: their own, then those of lists."""
    granted: list[GrantedBy]
    without_effect: dict[str, str]
    """Lists that name the user and give them nothing, and why."""


class ExplainLists(Request[ListsOfUser], frozen=True, kw_only=True):
    """Which lists give a user what, by which way."""

    user: str

"""Access requests: asking for roles or resources, reviewing, deciding.

What an approved request gives is taken out with `ReissueUserCerts`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.resources.kinds import AccessRequest, Resource
from pkgs.common.rpc.calls import Request, StreamRequest

Decided = Literal["APPROVED", "DENIED"]


class RequestShown(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its reader may see it."""

    request: AccessRequest
    names: dict[str, str] = {}
    """Of the resources that the reader may look at: id to the name that people know."""


class CreateAccessRequest(Request[RequestShown], frozen=True, kw_only=True):
    user: str = ""
    """Empty: the caller. For somebody else an administrator asks."""
    roles: list[str] = []
    """`*`: every role that the user lacks and may request."""
    resource_ids: list[str] = []
    reason: str = ""
    suggested_reviewers: list[str] = []
    request_ttl_s: int = 0
    """How long it waits; 0: the usual."""
    session_ttl_s: int = 0
    max_duration_s: int = 0
    assume_start_time: float = 0.0
    """Unix seconds; 0: at once."""
    login_hint: str = ""
    dry_run: bool = False
    """Only say what the request would be."""


class GetAccessRequest(Request[RequestShown], frozen=True, kw_only=True):
    id: str


class RequestChunk(msgspec.Struct, frozen=True):
    """Part of a listing."""

    requests: list[RequestShown]


class ListAccessRequests(StreamRequest[RequestChunk], frozen=True, kw_only=True):
    """The newest first, of those that the caller may see."""

    which: Literal["all", "mine", "reviewable", "suggested"] = "all"


class ReviewAccessRequest(Request[RequestShown], frozen=True, kw_only=True):
    id: str
    proposed_state: Decided
    reason: str = ""
    author: str = ""
    """Only from the administrator on the Auth host; everybody else reviews in their own name."""
    assume_start_time: float = 0.0


class SetAccessRequestState(Request[RequestShown], frozen=True, kw_only=True):
    """An administrator decides, whatever the reviews say."""

    id: str
    state: Decided
    reason: str = ""
    delegator: str = ""
    """On whose behalf, for the audit log."""
    annotations: dict[str, list[str]] = {}
    roles: list[str] = []
    """Approve these of the requested roles only; empty: all."""
    assume_start_time: float = 0.0


class DeleteAccessRequest(Request[Done], frozen=True, kw_only=True):
    id: str


class RequestableChunk(msgspec.Struct, frozen=True):
    """Part of a listing."""

    resources: list[Resource]


class SearchRequestable(StreamRequest[RequestableChunk], frozen=True, kw_only=True):
    """What the caller could reach by a request for resources."""

    kind: str
    labels: dict[str, str] = {}
    search: list[str] = []


class RequestCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may ask for."""

    requestable_roles: list[str]
    search_as_roles: list[str]
    suggested_reviewers: list[str]
    strategy: str
    """At login: `optional`; `always`: ask for every role; `reason`: the same, with a reason."""
    reason_required: bool
    """For a request of every requestable role."""
    prompts: list[str]


class GetRequestCapabilities(Request[RequestCapabilities], frozen=True, kw_only=True):
    user: str = ""
    """Empty: the caller."""

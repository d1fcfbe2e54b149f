"""A wish made into a request, or refused: everything that is fixed when a request is created."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pkgs.common.access.matching.resource_ids import format_id
from pkgs.common.access.requests import limits
from pkgs.common.access.requests.lifetimes import Asked, lives
from pkgs.common.access.requests.requester import Requester
from pkgs.common.errors import DeniedError, InputError, LimitExceededError
from pkgs.common.resources.kinds.requests import AccessRequestSpec, ResourceId
from pkgs.common.resources.names import valid_login, valid_user_name
from pkgs.common.resources.role import Role

EVERY_ROLE = "*"
Gives = Callable[[str, ResourceId], bool]
"""Whether a role gives access to a resource."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for, as it came."""

    roles: Sequence[str] = ()
    resources: Sequence[ResourceId] = ()
    reason: str = ""
    reviewers: Sequence[str] = ()
    asked: Asked = field(default_factory=Asked)
    login_hint: str = ""
    dry_run: bool = False


def plan(
    wish: Wish,
    requester: Requester,
    held: Collection[str],
    existing: Mapping[str, Role],
    gives: Gives,
    *,
    now: float,
    remaining_s: float,
) -> AccessRequestSpec:
    """The request as it will wait for its reviewers. `held` are the roles the requester has by standing,
    `existing` all roles there are."""
    _check_sizes(wish)
    roles = _roles(wish, requester, held, existing, gives)
    if len(roles) > limits.MAX_ROLES:
        raise LimitExceededError(f"a request may name {limits.MAX_ROLES} roles, this one is for {len(roles)}")
    reason = wish.reason.strip()
    if not reason and not wish.dry_run and requester.needs_reason(roles):
        prompts = requester.prompts(roles)
        raise InputError("this request needs a reason", hint="; ".join(prompts) or "give --reason")
    terms = requester.terms(roles)
    ends = lives(
        wish.asked,
        [existing[name] for name in roles],
        created=now,
        remaining_s=remaining_s,
        longest_s=requester.longest_s(roles),
    )
    return AccessRequestSpec(
        user=requester.user,
        roles=list(roles),
        resource_ids=list(dict.fromkeys(wish.resources)),
        created=moment(int(now)),
        expires=moment(ends.pending_until),
        session_ttl=moment(ends.session_until),
        max_duration=moment(ends.access_until),
        assume_start_time=moment(ends.start) if ends.start else None,
        request_reason=reason,
        suggested_reviewers=list(dict.fromkeys(wish.reviewers)) or requester.reviewers(),
        thresholds=terms.thresholds,
        rtm=terms.by_role,
        system_annotations=requester.annotations(),
        login_hint=wish.login_hint,
        dry_run=wish.dry_run,
    )


def moment(when: float) -> datetime:
    return datetime.fromtimestamp(when, UTC)


def check_reason(reason: str) -> None:
    """Attack A32: a reason is shown in every list and kept in the audit log."""
    if len(reason) > limits.MAX_REASON_CHARS:
        raise LimitExceededError(
            f"a reason may have {limits.MAX_REASON_CHARS} characters, this one has {len(reason)}"
        )


def _check_sizes(wish: Wish) -> None:
    check_reason(wish.reason)
    for what, count, most in (
        ("roles", len(wish.roles), limits.MAX_ROLES),
        ("resources", len(wish.resources), limits.MAX_RESOURCES),
        ("reviewers", len(wish.reviewers), limits.MAX_REVIEWERS),
    ):
        if count > most:
            raise LimitExceededError(f"a request may name {most} {what}, this one names {count}")
    written = sum(len(format_id(resource)) for resource in wish.resources)
    if written > limits.MAX_RESOURCE_CHARS:
        raise LimitExceededError(
            f"the resource ids of a request may have {limits.MAX_RESOURCE_CHARS} characters, not {written}"
        )
    if not all(valid_user_name(name) for name in wish.reviewers):
        raise InputError("a suggested reviewer is not the name of a user")
    if wish.login_hint and not valid_login(wish.login_hint):
        raise InputError("the login is not a valid OS user name")


def _roles(
    wish: Wish, requester: Requester, held: Collection[str], existing: Mapping[str, Role], gives: Gives
) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(wish.roles))
    if wish.resources:
        return _roles_for(wish.resources, wanted, requester, existing, gives)
    if wanted == (EVERY_ROLE,):
        found = tuple(name for name in sorted(existing) if name not in held and requester.may_request(name))
        if not found:
            raise DeniedError(f'there is no role that user "{requester.user}" can request')
        return found
    if not wanted:
        raise InputError("a request needs roles or resources", hint="give --roles or --resource")
    for name in wanted:
        if name not in existing or not requester.may_request(name):  # attack A32
            raise requester.refusal(name)
    return wanted


def _roles_for(
    resources: Sequence[ResourceId],
    wanted: tuple[str, ...],
    requester: Requester,
    existing: Mapping[str, Role],
    gives: Gives,
) -> tuple[str, ...]:
    """The roles named, or of those to search as the ones that open some of the resources; every resource
    must be opened by one of them."""
    for name in wanted:
        if name not in existing or not requester.may_search_as(name):
            raise DeniedError(
                f'user "{requester.user}" can not request resources as role "{name}"',
                hint="roles beside resources are those of `search_as_roles`; without --roles they are found",
            )
    candidates = wanted or tuple(name for name in requester.search_roles() if name in existing)
    chosen: dict[str, None] = {}
    for resource in resources:
        opening = [name for name in candidates if gives(name, resource)]
        if not opening:
            # The same for a resource that does not exist.
            raise DeniedError(
                f'user "{requester.user}" can not request {resource.kind} "{resource.name}"',
                hint="`tsh request search` lists what can be requested",
            )
        chosen |= dict.fromkeys(opening)
    return wanted or tuple(chosen)

"""The audit events of this room that no generic change makes."""

from __future__ import annotations

from pkgs.auth.accesslists import limits
from pkgs.auth.accesslists.writing import Leftovers
from pkgs.auth.audit.journal import Journal
from pkgs.common.access.lists.membership import Standing
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Event, FieldValue
from pkgs.common.resources.kinds import AccessListMember


def member_event(
    journal: Journal, kind: Kind, actor: str, member: AccessListMember, title: str, removed_at: float = 0.0
) -> Event:
    """A member came, changed or went (then with when)."""
    spec = member.spec
    fields: dict[str, FieldValue] = {
        "access_list_name": spec.access_list,
        "access_list_title": title,
        "members": [member.name],
        "membership_kind": spec.membership_kind,
        "user": actor,
        "updated_by": actor,
        "success": True,
    }
    if spec.joined is not None:
        fields["joined_on"] = rfc3339(spec.joined.timestamp())
    if spec.expires is not None:
        fields["expires"] = rfc3339(spec.expires.timestamp())
    if spec.reason:
        fields["reason"] = spec.reason
    if removed_at:
        fields["removed_on"] = rfc3339(removed_at)
    return journal.event(kind, **fields)


def leftover_events(journal: Journal, actor: str, leftovers: Leftovers, now: float) -> list[Event]:
    """Memberships and ownerships that went with a user or a list."""
    return [
        *(
            member_event(journal, codes.ACCESS_LIST_MEMBER_DELETE, actor, member, "", now)
            for member in leftovers.members
        ),
        *(
            journal.event(
                codes.ACCESS_LIST_UPDATE,
                name=access_list.name,
                access_list_title=access_list.spec.title,
                user=actor,
                updated_by=actor,
                success=True,
            )
            for access_list in leftovers.owned
        ),
    ]


def broken_events(journal: Journal, user: str, standing: Standing) -> list[Event]:
    """A login finds lists that give nothing, because a role of theirs is missing."""
    return [
        journal.event(
            codes.INVALID_ACCESS_LIST,
            access_list_name=broken.name,
            user=user,
            missing_roles=list(broken.missing_roles),
        )
        for broken in standing.broken
    ]


async def write_all(journal: Journal, events: list[Event]) -> None:
    for start in range(0, len(events), limits.EVENTS_AT_ONCE):
        await journal.write(*events[start : start + limits.EVENTS_AT_ONCE])

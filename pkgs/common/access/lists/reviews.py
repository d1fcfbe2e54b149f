"""When an access list has to be reviewed."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime

from pkgs.common.access.lists.membership import aware
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import AccessList
from pkgs.common.resources.kinds.requests import AuditRecurrence

_MONTHS = {"1": 1, "3": 3, "6": 6, "12": 12, "1 month": 1, "3 months": 3, "6 months": 6, "1 year": 12}


def is_reviewed(access_list: AccessList) -> bool:
    """Whether a list has reviews: those that a program manages (`static`, `scim`) have none."""
    return access_list.spec.type == ""


def frequency_months(recurrence: AuditRecurrence) -> int:
    return _MONTHS[recurrence.frequency]


def day_in(year: int, month: int, day_of_month: str) -> int:
    """The day of that month on which reviews are due: 1, 15, or the last one."""
    if day_of_month in ("last", "31"):
        return calendar.monthrange(year, month)[1]
    return int(day_of_month)


def next_audit(recurrence: AuditRecurrence, after: datetime) -> datetime:
    """The due day one interval after the month of `after`, at midnight UTC."""
    after = aware(after)
    months = after.year * 12 + after.month - 1 + frequency_months(recurrence)
    year, month = divmod(months, 12)
    month += 1
    return datetime(year, month, day_in(year, month, recurrence.day_of_month), tzinfo=UTC)


def after_review(access_list: AccessList, now: datetime) -> datetime:
    """The due day after a review that is made now. One made early counts for the day that was due; one made
    late does not leave a day that is over already."""
    due = access_list.spec.audit.next_audit_date
    return next_audit(access_list.spec.audit.recurrence, max(aware(due), now) if due is not None else now)


def days_left(access_list: AccessList, now: datetime) -> int | None:
    """Whole days until the review; negative when it is overdue. None: there is none."""
    due = access_list.spec.audit.next_audit_date
    if due is None or not is_reviewed(access_list):
        return None
    return (aware(due) - now).days


def needs_review(access_list: AccessList, now: datetime) -> bool:
    """Whether the review is due, or so near that owners are told (`audit.notifications.start`)."""
    due = access_list.spec.audit.next_audit_date
    if due is None or not is_reviewed(access_list):
        return False
    ahead = parse_duration(access_list.spec.audit.notifications.start)
    return aware(due).timestamp() - ahead <= now.timestamp()

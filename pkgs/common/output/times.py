"""Times as command lines show and read them. The wire and files carry unix seconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pkgs.common.errors import InputError


def short(when: float) -> str:
    """`02 Jan 06 15:04 UTC`."""
    return time.strftime("%d %b %y %H:%M UTC", time.gmtime(when))


def rfc3339(when: float) -> str:
    """`2026-01-02T15:04:05Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def remaining(seconds: float) -> str:
    """`11h59m` from now on; `expired` when nothing is left."""
    if seconds <= 0:
        return "expired"
    hours, rest = divmod(int(seconds), 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m" if minutes else f"{secs}s"


def parse(text: str, *, flag: str) -> float:
    """A day (`2026-01-02`, UTC) or an RFC 3339 time as unix seconds."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(
            f"{flag}: {text[:60]!r} is no time", hint="write 2026-01-02 or 2026-01-02T15:04:05Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()

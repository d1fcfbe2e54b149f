"""How long a request waits, and how long what it gives lasts. All times are whole Unix seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkgs.common.access.options.login import MAX_CERT_TTL_S, max_session_ttl
from pkgs.common.access.requests import limits
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.resources.durations import format_duration
from pkgs.common.resources.role import Role


@dataclass(frozen=True, slots=True)
class Asked:
    """What the requester wants, in seconds; 0: the usual."""

    pending_s: float = 0.0
    session_s: float = 0.0
    duration_s: float = 0.0
    start: float = 0.0
    """Not before this time; 0: at once."""


@dataclass(frozen=True, slots=True)
class Lives:
    pending_until: float
    session_until: float
    """End of a certificate taken out at once."""
    access_until: float
    """After this time nobody can use the request any more."""
    start: float


def lives(
    asked: Asked, roles: Sequence[Role], *, created: float, remaining_s: float, longest_s: float
) -> Lives:
    """`remaining_s`: what is left of the requester's certificate; `longest_s`: what roles allow beyond it."""
    if min(asked.pending_s, asked.session_s, asked.duration_s, asked.start) < 0:
        raise InputError("a duration must be positive")
    if remaining_s < 1:
        raise DeniedError("your certificate has expired", hint="log in again")
    most_s = min(remaining_s, max_session_ttl(roles, 0.0), MAX_CERT_TTL_S)
    if asked.pending_s > most_s:
        raise _too_long("wait for its reviewers", most_s)
    session_s = min(asked.session_s or most_s, most_s)
    access_s = session_s
    if asked.duration_s:
        allowed_s = min(max(longest_s, session_s), limits.MAX_DURATION_S)
        if asked.duration_s > allowed_s:  # attack A32
            raise _too_long("give access", allowed_s)
        access_s = asked.duration_s
        session_s = min(session_s, access_s)
    begin = int(created)
    access_until = begin + int(access_s)
    if asked.start > created and asked.start >= access_until:
        raise InputError(
            "the access would begin after its end",
            hint="ask for an earlier --assume-start-time, or a longer --max-duration",
        )
    return Lives(
        pending_until=min(begin + int(asked.pending_s or min(limits.PENDING_S, most_s)), access_until),
        session_until=begin + int(session_s),
        access_until=access_until,
        start=float(int(asked.start)) if asked.start > created else 0.0,
    )


def _too_long(what: str, most_s: float) -> InputError:
    return InputError(f"the request may {what} for at most {format_duration(int(most_s))}")

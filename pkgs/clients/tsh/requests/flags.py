"""Flags of requests and what they stand for."""

from __future__ import annotations

from pkgs.common.access.requests.limits import MAX_REASON_CHARS
from pkgs.common.errors import InputError
from pkgs.common.output import times
from pkgs.common.output.argv import Flag, Parsed

LOGIN_FLAGS = (
    Flag("request-roles", "Ask for these roles at once: role,role", metavar="ROLES"),
    Flag("request-reason", "Why they are needed", metavar="TEXT"),
    Flag("request-reviewers", "Who is asked to decide: user,user", metavar="USERS"),
    Flag("request-nowait", "Do not wait for the decision", is_bool=True),
    Flag("request-id", "Use an access request that was made before, once it is approved", metavar="ID"),
)


def reason(args: Parsed, name: str) -> str:
    """Refused here already when it is too long: it need not be sent for that."""
    text = args.text(name)
    if len(text) > MAX_REASON_CHARS:
        raise InputError(f"--{name}: at most {MAX_REASON_CHARS} characters, not {len(text)}")
    return text


def seconds(args: Parsed, name: str) -> int:
    """Whole seconds of a duration flag; empty: 0."""
    if not args.text(name):
        return 0
    from pkgs.common.resources.durations import parse_duration

    found = parse_duration(args.text(name), f"--{name}")
    if found < 1:
        raise InputError(f"--{name}: at least 1s", hint="write for example 30m, 8h or 2d")
    return int(found)


def moment(args: Parsed, name: str) -> float:
    return times.parse(args.text(name), flag=f"--{name}") if args.text(name) else 0.0


def one_of(args: Parsed, *names: str) -> str:
    """The one of these flags that is set."""
    given = [name for name in names if args.on(name)]
    if len(given) != 1:
        raise InputError(f"use one of --{', --'.join(names)}")
    return given[0]

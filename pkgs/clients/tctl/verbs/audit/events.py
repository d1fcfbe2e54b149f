"""Events for people and programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from pkgs.common.api.audit import StoredEvent
from pkgs.common.errors import InputError
from pkgs.common.events.format import flatten, unix_time
from pkgs.common.output import formats, jsonout, times
from pkgs.common.output.argv import Flag, Parsed
from pkgs.common.output.sanitize import inert
from pkgs.common.output.table import render
from pkgs.common.resources.durations import parse_duration

FILTER_FLAGS = (
    Flag("type", "Only events of these types, comma separated, such as user.login", metavar="TYPES"),
    Flag("user", "Only events of this user", metavar="NAME"),
    Flag("session", "Only events of this session", metavar="ID"),
)
HIDDEN_FIELDS = frozenset({"event", "code", "time", "uid", "ei", "cluster_name", "user"})
MAX_DETAIL_CHARS = 160


def window(args: Parsed) -> tuple[float, float]:
    """Since and until in unix seconds; 0 is open."""
    if args.text("last"):
        if args.text("since"):
            raise InputError("use either --last or --since")
        since = time.time() - parse_duration(args.text("last"), "--last")
    else:
        since = times.parse(args.text("since"), flag="--since") if args.text("since") else 0.0
    return since, times.parse(args.text("until"), flag="--until") if args.text("until") else 0.0


def write(events: Sequence[StoredEvent], format: str) -> None:
    """Print a whole answer."""
    if format != "text":
        formats.write_list([flatten(stored.event) for stored in events], format)
        return
    sys.stdout.write(render(("Time", "Type", "Code", "User", "Details"), [row(stored) for stored in events]))


def row(stored: StoredEvent) -> tuple[str, str, str, str, str]:
    """Cells of one event."""
    event = stored.event
    user = event.fields.get("user", "")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_time(event)))
    return when, event.event, event.code, user if isinstance(user, str) else "", details(flatten(event))


def details(fields: dict[str, Any]) -> str:
    """The remaining fields in one bounded line."""
    shown = []
    for key, value in fields.items():
        if key in HIDDEN_FIELDS or value in ("", None, [], {}):
            continue
        shown.append(f"{key}={_scalar(value)}")
    text = " ".join(shown)
    return text if len(text) <= MAX_DETAIL_CHARS else text[: MAX_DETAIL_CHARS - 3] + "..."


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return msgspec.json.encode(value).decode()


def write_line(stored: StoredEvent, format: str) -> None:
    """Print one event of a stream."""
    if format == "json":
        sys.stdout.write(jsonout.line(flatten(stored.event)))
    else:
        when, kind, code, user, rest = row(stored)
        sys.stdout.write(inert(f"{when} {code} {kind} {user or '-'} {rest}") + "\n")
    sys.stdout.flush()

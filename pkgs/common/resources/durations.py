"""Durations as the field writes them: `30m`, `8h`, `1h30m`, `12h0m0s`, `7d`."""

from __future__ import annotations

import re
from typing import Final

from pkgs.common.errors import InputError

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h|d|w)", re.ASCII)
_LONGEST_TEXT = 64
_LONGEST_S = 100 * 365 * 86400.0


def parse_duration(text: str, field: str = "duration") -> float:
    """Seconds; `0`, the empty text and `never` are 0. Raises InputError naming `field`."""
    stripped = text.strip()
    if stripped in {"", "0", "never"}:
        return 0.0
    total, at = 0.0, 0
    for part in _PART.finditer(stripped if len(stripped) <= _LONGEST_TEXT else ""):
        if part.start() != at:
            break
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at != len(stripped) or total > _LONGEST_S:
        shown = stripped if len(stripped) <= _LONGEST_TEXT else stripped[:_LONGEST_TEXT] + "..."
        raise InputError(f"{field}: {shown!r} is not a duration", hint="write for example 30m, 8h or 1h30m")
    return total


def format_duration(seconds: float) -> str:
    """The canonical form: `12h0m0s`, `30m0s`, `45s`, `1.5s`; `0s` for nothing."""
    whole = int(seconds)
    fraction = seconds - whole
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    tail = f"{secs + fraction:.9f}".rstrip("0").rstrip(".") if fraction else str(secs)
    if hours:
        return f"{hours}h{minutes}m{tail}s"
    return f"{minutes}m{tail}s" if minutes else f"{tail}s"

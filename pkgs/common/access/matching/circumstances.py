"""`when` and `from` of a role: the hours and the networks in which one side of it counts.

What is not known for certain, such as the client's address, never lets an allow count and never keeps a deny
from counting.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from pkgs.common.errors import InputError
from pkgs.common.pki.source import IpNetwork, address_in, parse_address
from pkgs.common.resources.role import Conditions, TimeWindow

_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS = {name: day for day, full in enumerate(_WEEK) for name in (full, full[:3])}
MAX_WINDOWS = 50
MAX_NETWORKS = 200
_DAY_MINUTES = 24 * 60
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_HORIZON_DAYS = 8
"""Every window begins and ends again within a week; one day more for those that pass midnight."""


class Window(NamedTuple):
    """A compiled `TimeWindow`; minutes of the day, `end` at or before `begin` lies on the next day."""

    days: frozenset[int]
    begin: int
    end: int
    zone: tzinfo
    text: str

    def holds(self, now: float) -> bool:
        local = datetime.fromtimestamp(now, self.zone)
        minute = local.hour * 60 + local.minute
        today, yesterday = local.weekday() in self.days, (local.weekday() - 1) % 7 in self.days
        if self.begin < self.end:
            return today and self.begin <= minute < self.end
        return (today and minute >= self.begin) or (yesterday and minute < self.end)

    def edges(self, now: float) -> Iterator[float]:
        """Moments of the next week at which it may begin or end."""
        midnight = datetime.fromtimestamp(now, self.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        for day in range(-1, _HORIZON_DAYS):
            # Wall clock arithmetic: the hour is an hour of the zone, whatever the day's length.
            start = midnight + timedelta(days=day)
            for minute in (0, self.begin, self.end):
                wall = start + timedelta(minutes=minute)
                for fold in (0, 1):  # an hour that the zone has twice has every edge twice
                    yield wall.replace(fold=fold).astimezone(UTC).timestamp()
            if start.utcoffset() != (start + timedelta(days=1)).utcoffset():
                yield _clock_change(start)


def _clock_change(start: datetime) -> float:
    """The second at which the clock of the zone is put forward or back on the day after `start`. It may step
    over the beginning and the end of a window, or back into one."""
    zone, before = start.tzinfo, start.utcoffset()
    low, high = int(start.timestamp()), int((start + timedelta(days=1)).timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return float(high)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """When and where one side of a role counts."""

    windows: tuple[Window, ...]
    networks: tuple[IpNetwork, ...]

    def hold(self, now: float, source_addr: str, *, unknown: bool) -> bool:
        """Whether the side counts now; `unknown` is the answer where the address is not known."""
        if self.windows and not any(window.holds(now) for window in self.windows):
            return False
        if not self.networks:
            return True
        if parse_address(source_addr) is None:
            return unknown
        return address_in(source_addr, self.networks)

    def lacking(self, now: float, source_addr: str) -> tuple[tuple[str, str], ...]:
        """Field and wanted value of each that does not hold for an allow; none when it counts."""
        missing: list[tuple[str, str]] = []
        if self.windows and not any(window.holds(now) for window in self.windows):
            missing.append(("when", " or ".join(window.text for window in self.windows[:5])))
        if self.networks and not address_in(source_addr, self.networks):
            missing.append(("from", ", ".join(map(str, self.networks[:5]))))
        return tuple(missing)

    def until(self, now: float) -> float:
        """The first moment after `now` at which the hours change their answer; infinity: never."""
        if not self.windows:
            return float("inf")
        current = any(window.holds(now) for window in self.windows)
        moments = sorted({moment for window in self.windows for moment in window.edges(now) if moment > now})
        for moment in moments:
            if any(window.holds(moment) for window in self.windows) is not current:
                return moment
        return float("inf")


def compile_circumstances(conditions: Conditions, where: str) -> Circumstances | None:
    """None for a side that always counts. Raises InputError that names the field and what is allowed."""
    if not conditions.when and not conditions.source:
        return None
    if len(conditions.when) > MAX_WINDOWS:
        raise InputError(f"{where}.when: at most {MAX_WINDOWS} windows")
    if len(conditions.source) > MAX_NETWORKS:
        raise InputError(f"{where}.from: at most {MAX_NETWORKS} networks")
    return Circumstances(
        tuple(_window(window, f"{where}.when[{n}]") for n, window in enumerate(conditions.when)),
        tuple(_network(text, f"{where}.from[{n}]") for n, text in enumerate(conditions.source)),
    )


def _window(window: TimeWindow, where: str) -> Window:
    days = frozenset(day for text in window.days for day in _days(text, f"{where}.days"))
    begin, end = _hours(window.hours, f"{where}.hours")
    text = " ".join(part for part in (",".join(window.days), window.hours, window.timezone) if part)
    return Window(days or frozenset(range(7)), begin, end, _zone(window.timezone, where), text)


def _days(text: str, where: str) -> Sequence[int]:
    names = [name.strip().lower() for name in text.split("-")]
    if len(names) > 2 or not all(name in _DAYS for name in names):
        raise InputError(f"{where}: {text[:40]!r} is no day", hint="write mon to sun, or a range: mon-fri")
    first, last = _DAYS[names[0]], _DAYS[names[-1]]
    return [day % 7 for day in range(first, last + (1 if last >= first else 8))]


def _hours(text: str, where: str) -> tuple[int, int]:
    if not text:
        return 0, _DAY_MINUTES
    match = _HOURS.fullmatch(text.strip())
    numbers = [int(group) for group in match.groups()] if match else []
    if not numbers or not _is_time(numbers[0], numbers[1]) or not _is_time(numbers[2], numbers[3], end=True):
        raise InputError(
            f"{where}: {text[:40]!r} are no hours", hint="write 08:00-18:00, or 22:00-06:00 into the next day"
        )
    begin, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if begin == end:
        raise InputError(f"{where}: {text!r} begins when it ends", hint="leave hours out for the whole day")
    return begin, end


def _is_time(hour: int, minute: int, *, end: bool = False) -> bool:
    return minute < 60 and (hour < 24 or (end and hour == 24 and minute == 0))


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    import zoneinfo  # only whoever has hours in a role pays for it

    # Not what stands for the zone of this machine: a role means the same everywhere.
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


@lru_cache(maxsize=256)
def _zone(name: str, where: str) -> tzinfo:
    if name not in _zones():
        near = difflib.get_close_matches(name[:80], _zones(), n=1)
        hint = f"did you mean {near[0]}?" if near else "a name such as Europe/Berlin or UTC"
        raise InputError(f"{where}.timezone: {name[:80]!r} is no time zone", hint=hint)
    import zoneinfo

    return zoneinfo.ZoneInfo(name)


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def _network(text: str, where: str) -> IpNetwork:
    """IPv4 written inside IPv6 is unwrapped, as the addresses are: a deny of it would never be met."""
    try:
        found = ipaddress.ip_network(text.strip())
        if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
            mapped = found.network_address.packed[-4:]
            return ipaddress.IPv4Network((mapped, found.prefixlen - _MAPPED.prefixlen))
        return found
    except ValueError as error:
        bits = "has bits set right of its prefix" if "host bits" in str(error) else "is no network"
        raise InputError(
            f"{where}: {text[:80]!r} {bits}",
            hint="write for example 10.0.0.0/8, 2001:db8::/32 or one address",
        ) from None

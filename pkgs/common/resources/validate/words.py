"""What several kinds check alike. Each raises InputError naming the resource and the field."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds.servers import CommandLabel
from pkgs.common.resources.limits import MAX_MESSAGE
from pkgs.common.resources.role import Labels, LabelValues

_LABEL_KEY = re.compile(r"[A-Za-z0-9/.:_*+-]+", re.ASCII)
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAYS = frozenset(
    {*map(str.lower, WEEKDAYS), "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
)


def short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


def valid_label_key(key: str) -> bool:
    return _LABEL_KEY.fullmatch(key) is not None


def selector(labels: Labels, where: str) -> None:
    for key, value in labels.items():
        values = [value] if isinstance(value, str) else value
        if key == "*" and values != ["*"]:
            raise InputError(f"{where}: the key '*' may only have the value '*'")
        if not values:
            raise InputError(f"{where}.{key}: no values", hint="'*' stands for any value")


def label_list(labels: Sequence[LabelValues], where: str) -> None:
    """The newer form of a selector: a list of names and values."""
    for index, label in enumerate(labels):
        selector({label.name: label.values}, f"{where}[{index}]")


def durations(spec: object, names: Iterable[str], where: str) -> None:
    for name in names:
        parse_duration(getattr(spec, name), f"{where}: spec.{name}")


def prose(text: str, where: str) -> None:
    """What one person writes for another to read."""
    if len(text) > MAX_MESSAGE:
        raise InputError(f"{where}: {len(text):,} characters, at most {MAX_MESSAGE:,}")


def at_least(value: int, least: int, where: str) -> None:
    if value < least:
        raise InputError(f"{where}: found {value}, expected {least} or more")


def between(value: int, least: int, most: int, where: str) -> None:
    if not least <= value <= most:
        raise InputError(f"{where}: found {value}, expected {least} to {most}")


def filled(value: object, where: str, hint: str = "") -> None:
    if not value:
        raise InputError(f"{where}: missing", hint=hint)


def exactly_one(given: dict[str, object], where: str) -> None:
    found = [name for name, value in given.items() if value]
    if len(found) != 1:
        stated = ", ".join(found) or "none"
        raise InputError(f"{where}: found {stated}, expected exactly one of {', '.join(given)}")


def url(text: str, schemes: Sequence[str], where: str) -> None:
    try:
        parts = urlsplit(text)
        good = parts.scheme in schemes and bool(parts.netloc) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(c.isspace() or not c.isprintable() for c in text):
        raise InputError(
            f"{where}: {short(text)!r} is not an address",
            hint="starts with " + " or ".join(f"{s}://" for s in schemes),
        )


def host_port(text: str, where: str) -> None:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not port.isascii() or not 0 < int(port[:6]) < 65536:
        raise InputError(f"{where}: {short(text)!r} is not an address", hint="write host:port")


def network(text: str, where: str) -> None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InputError(f"{where}: {short(text)!r} is no network", hint="for example 10.0.0.0/8") from None


def days(names: Sequence[str], where: str) -> None:
    for name in names:
        if name.lower() not in _DAYS and name != "*":
            raise InputError(
                f"{where}: {short(name)!r} is no day of the week", hint=f"allowed: {', '.join(WEEKDAYS)}"
            )


def commands(labels: dict[str, CommandLabel], where: str) -> None:
    for key, label in labels.items():
        if not valid_label_key(key):
            raise InputError(f"{where}: {short(key)!r} is not a valid label name")
        filled(label.command, f"{where}.{key}.command")
        parse_duration(label.period, f"{where}.{key}.period")


def pattern(text: str, where: str) -> None:
    """A glob, or a regular expression between ^ and $."""
    if not text or "\n" in text or "\0" in text:
        raise InputError(f"{where}: {short(text)!r} is not a pattern")

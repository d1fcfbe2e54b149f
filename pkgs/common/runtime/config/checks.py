"""What a value must look like beyond its type. Each check yields a `Problem`, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.runtime.config.values import Problem

SERVICE_ROLES: Final = ("node", "proxy", "auth", "app", "db", "kube", "windowsdesktop", "discovery", "bot")
"""What a join token may be for."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_PIN = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_PORT = 65535


def host_port(path: str, value: str, *, port_needed: bool = True) -> Iterator[Problem]:
    """An address as `host:port`, `[::1]:port` or, for listeners, `:port`."""
    host, colon, port = value.rpartition(":")
    if not port_needed and (not colon or host.count(":") > 1):
        host, port = value, "1"
    good_port = port.isascii() and port.isdigit() and int(port) <= _MAX_PORT
    bracketed = host.startswith("[") and host.endswith("]")
    good_host = not re.search(r"[\s/@\x00-\x1f\x7f]", host) and (
        bracketed or ":" not in host or not port_needed
    )
    if not (good_port and good_host and (colon or not port_needed)):
        yield Problem(
            path, repr(value), "an address such as 0.0.0.0:3025, host.example.com:443 or [::1]:3022"
        )


def maybe_host_port(path: str, value: str) -> Iterator[Problem]:
    """As `host_port`; empty means not set."""
    if value:
        yield from host_port(path, value)


def duration(path: str, value: str, *, least_s: float = 0.0, never: bool = False) -> Iterator[Problem]:
    """A duration such as `30s` or `1h30m`."""
    if never and value == "never":
        return
    try:
        seconds = parse_duration(value)
    except InputError:
        yield Problem(path, repr(value), "a duration such as 30s, 5m or 1h30m")
        return
    if seconds < least_s:
        yield Problem(path, repr(value), f"at least {least_s:g}s")


def cluster_name(path: str, value: str) -> Iterator[Problem]:
    """A cluster's name is a DNS name, because it becomes part of certificates."""
    if value and not _NAME.fullmatch(value):
        yield Problem(
            path, repr(value), "letters, digits, dots and hyphens, beginning with a letter or digit"
        )


def is_node_name(value: str) -> bool:
    """Whether the name may be shown as a node's name."""
    return bool(_NAME.fullmatch(value))


def pins(path: str, values: tuple[str, ...]) -> Iterator[Problem]:
    """CA pins, or the absolute path of a file with pins."""
    for value in values:
        if not value.startswith("/") and not _PIN.fullmatch(value):
            yield Problem(
                path, repr(value), "sha256:<64 hex digits>, or the absolute path of a file with such lines"
            )


def static_token(path: str, value: str) -> Iterator[Problem]:
    """`role,role:secret`. The message repeats nothing: what stands for a role may be the secret."""
    roles, colon, secret = value.partition(":")
    unknown = [role for role in roles.split(",") if role.strip().lower() not in SERVICE_ROLES]
    if not colon or not secret.strip():
        yield Problem(path, "a value without ':secret'", "role,role:secret or role:/absolute/path/of/a/file")
    elif unknown:
        yield Problem(path, "an unknown role", f"roles {', '.join(SERVICE_ROLES)}")


def positive(path: str, value: int) -> Iterator[Problem]:
    """A count of at least one."""
    if value < 1:
        yield Problem(path, str(value), "a number of at least 1")


def not_built(path: str, *, found: object, allowed: str) -> Iterator[Problem]:
    """A setting of the field that this build does not offer."""
    yield Problem(path, f"{found}, which this version does not offer", allowed)


def each(
    path: str, values: tuple[str, ...] | list[str], check: Callable[[str, str], Iterator[Problem]]
) -> Iterator[Problem]:
    """The check on every entry of a list."""
    for index, value in enumerate(values):
        yield from check(f"{path}[{index}]", value)


def existing_absolute(path: str, value: str) -> Iterator[Problem]:
    """An absolute path, or empty."""
    if value and not Path(value).is_absolute():
        yield Problem(path, repr(value), "an absolute path")

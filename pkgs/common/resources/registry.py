"""Kinds by name: aliases, types, singletons, and references like `role/access`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple, get_args

from pkgs.common.errors import InputError
from pkgs.common.resources import kinds
from pkgs.common.resources.metadata import Base

TYPES: dict[str, type[Base]] = {str(cls.__struct_config__.tag): cls for cls in get_args(kinds.Resource)}
"""Canonical kind to its type."""

SINGLETONS: dict[str, str] = {
    "cluster_name": "cluster-name",
    "cluster_auth_preference": "cluster-auth-preference",
    "cluster_networking_config": "cluster-networking-config",
    "session_recording_config": "session-recording-config",
}
"""Kinds of which a cluster has exactly one, and its name."""

ALIASES: dict[str, str] = {
    "roles": "role",
    "users": "user",
    "nodes": "node",
    "proxies": "proxy",
    "auth_servers": "auth_server",
    "auth": "auth_server",
    "tokens": "token",
    "cert_authorities": "cert_authority",
    "cas": "cert_authority",
    "cap": "cluster_auth_preference",
    "cluster_auth_preferences": "cluster_auth_preference",
    "cluster_authentication_preferences": "cluster_auth_preference",
    "networking_config": "cluster_networking_config",
    "networking": "cluster_networking_config",
    "net_config": "cluster_networking_config",
    "netconfig": "cluster_networking_config",
    "recording_config": "session_recording_config",
    "session_recording": "session_recording_config",
    "rec_config": "session_recording_config",
    "recconfig": "session_recording_config",
    "locks": "lock",
}
ALL = "all"


class Ref(NamedTuple):
    """`kind`, `kind/name` or `kind/subkind/name`; an empty part was not given."""

    kind: str
    sub_kind: str = ""
    name: str = ""


def canonical_kind(kind: str) -> str:
    """The canonical name of a kind or alias, in any letter case; raises InputError with a suggestion."""
    lowered = kind.strip().lower()
    found = ALIASES.get(lowered, lowered)
    if found in TYPES:
        return found
    close = difflib.get_close_matches(lowered, [*TYPES, *ALIASES], n=1)
    hint = f"did you mean {close[0]}?" if close else f"known kinds: {', '.join(sorted(TYPES))}"
    raise InputError(f"unknown kind {kind!r}", hint=hint)


def type_of(kind: str) -> type[Base]:
    """The type of a kind or alias."""
    return TYPES[canonical_kind(kind)]


def parse_ref(text: str) -> Ref:
    """A reference; parts may be divided by slash, space or tab."""
    parts = [part for part in text.replace(" ", "/").replace("\t", "/").split("/") if part]
    if not parts or len(parts) > 3:
        raise InputError(f"{text!r} is not a reference to a resource", hint="write kind, kind/name or `all`")
    kind = canonical_kind(parts[0])
    if len(parts) == 1:
        return Ref(kind)
    return Ref(kind, "", parts[1]) if len(parts) == 2 else Ref(kind, parts[1], parts[2])


def parse_refs(text: str) -> list[Ref]:
    """References divided by commas; a comma inside a name is written `\\,`; `all` is every kind."""
    found: list[Ref] = []
    for item in _split(text):
        if item.strip().lower() == ALL:
            found += [Ref(kind) for kind in sorted(TYPES)]
        else:
            found.append(parse_ref(item))
    return list(dict.fromkeys(found))


def _split(text: str) -> Iterable[str]:
    current: list[str] = []
    chars = iter(text)
    for char in chars:
        if char == "\\":
            current.append(next(chars, ""))
        elif char == ",":
            yield "".join(current)
            current = []
        else:
            current.append(char)
    yield "".join(current)

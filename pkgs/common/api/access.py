"""Asking why: is this user allowed that, who is, and what is a user allowed. For those who may read roles
and users; the answers speak of every resource, also of those that the caller may not see.
"""

from __future__ import annotations

import msgspec

from pkgs.common.access.explaining.story import Explained
from pkgs.common.rpc.calls import Request, StreamRequest


class Somebody(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a question is about, and when and from where they would ask."""

    user: str
    roles: list[str] = []
    """Instead of the roles that the user has."""
    with_mfa: bool = False
    """As if the session were verified by a second factor."""
    with_device: bool = False
    """As if it came from a trusted device."""
    at: float = 0.0
    """Unix seconds; 0: now."""
    source_addr: str = ""
    """The address it comes from; empty: not known."""


class ExplainAccess(Request[Explained], frozen=True, kw_only=True):
    """The decision about a user as if they had just logged in, with its whole story."""

    who: Somebody
    words: list[str]
    """The action: `ssh root@web1`, `kube prod get pods`, `resource role update [NAME]`."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One user and one resource."""

    user: str
    action: str
    """The word of the protocol: `ssh`, `db`, ..."""
    resource: str
    """Its name; of a server the host name."""
    resource_id: str
    principals: list[str]
    """As whom: logins, database users and names; empty text where there is no such thing."""
    reasons: list[str]
    """By which roles, one per principal."""


class Grants(msgspec.Struct, frozen=True):
    """Part of a listing."""

    grants: list[Grant]


class WhoCan(StreamRequest[Grants], frozen=True, kw_only=True):
    """The users who may do that, now."""

    words: list[str]
    with_mfa: bool = False
    with_device: bool = False
    at: float = 0.0
    source_addr: str = ""


class WhatCan(StreamRequest[Grants], frozen=True, kw_only=True):
    """What a user may reach, and as whom."""

    who: Somebody
    actions: list[str] = []
    """`ssh`, `db`, ...; none: all."""

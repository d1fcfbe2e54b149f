"""Asking why: is this user allowed that, who is, and what is a user allowed. For those who may read roles
and users; the answers speak of every server, also of those that the caller may not see.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.rpc.calls import Request, StreamRequest


class AccessStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step towards a yes."""

    change: Literal["add", "remove", "meet"]
    """Add to an allow, remove from a deny, or meet a condition that no role can lift."""
    role: str = ""
    """Empty: any role, a new one for example; or no matter of roles."""
    field: str = ""
    value: str = ""


class RoleFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What one role says."""

    role: str
    effect: Literal["allows", "denies", "lacks"]
    text: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    allowed: bool
    user: str
    roles: list[str]
    action: str
    """`ssh root@web1`, `resource role update`."""
    node_id: str = ""
    reasons: list[str]
    """By which role and field it was decided."""
    findings: list[RoleFinding]
    conditions: list[str]
    missing: list[AccessStep]
    """The smallest set of steps to a yes; empty when allowed."""


class ExplainAccess(Request[Explained], frozen=True, kw_only=True):
    """The decision about a user as if they had just logged in, with its whole story."""

    user: str
    roles: list[str] = []
    """Instead of the roles that the user has."""
    action: Literal["ssh", "resource"]
    login: str = ""
    node: str = ""
    """Host name or id; for `ssh`."""
    kind: str = ""
    verb: str = ""
    """For `resource`."""
    name: str = ""
    """The very object, for rules with a condition; empty: none in particular."""
    with_mfa: bool = False
    """As if the session were verified by a second factor."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    node: str
    node_id: str
    logins: list[str]
    reasons: list[str]
    """By which roles, one per login."""


class Grants(msgspec.Struct, frozen=True):
    """Part of a listing."""

    grants: list[Grant]


class WhoCan(StreamRequest[Grants], frozen=True, kw_only=True):
    """The users who may log in there, now."""

    login: str
    node: str
    with_mfa: bool = False


class WhatCan(StreamRequest[Grants], frozen=True, kw_only=True):
    """The servers a user may log in to, now, and as whom."""

    user: str
    roles: list[str] = []
    with_mfa: bool = False

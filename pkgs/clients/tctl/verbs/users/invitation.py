"""Showing an invitation or reset link."""

from __future__ import annotations

import shlex
import sys
import time
from urllib.parse import urlsplit

from pkgs.common.api.login import Invitation
from pkgs.common.output import formats, times
from pkgs.common.output.sanitize import inert


def show(invitation: Invitation, head: str, format: str) -> None:
    """Print the link, for a person with both ways of using it."""
    if format == "json":
        formats.write(
            {
                "user": invitation.user,
                "kind": invitation.kind,
                "token": invitation.token,
                "url": invitation.url,
                "expires": times.rfc3339(invitation.expires_at),
            },
            "json",
        )
        return
    left = _rounded(invitation.expires_at - time.time())
    host = urlsplit(invitation.url).netloc
    sys.stdout.write(
        f"{inert(head)}, link is valid for {left}:\n{inert(invitation.url)}\n\n"
        f"Or from the command line:\ntsh signup {shlex.quote(inert(invitation.url))}\n\n"
        f"NOTE: Make sure {inert(host)} points at a proxy which users can access.\n"
    )


def _rounded(seconds: float) -> str:
    """`1h` rather than `59m59s`."""
    if seconds < 60:
        return f"{max(0, round(seconds))}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")

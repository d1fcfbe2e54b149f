"""Renewing an expired login on the way, when a person is there to type the password."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.profile.login import Expired, Login, current
from pkgs.common.output.argv import Parsed
from pkgs.common.output.sanitize import inert


def current_or_relogin(args: Parsed) -> Login:
    """The current login. One that has expired is renewed once at a terminal, unless --no-relogin; else
    the error says how to renew it."""
    try:
        return current(args)
    except Expired as expired:
        if (
            not args.on("relogin")
            or args.text("identity")
            or not (sys.stdin.isatty() and sys.stderr.isatty())
        ):
            raise
        sys.stderr.write(f"{inert(expired.message)}.\n")
        from pkgs.clients.tsh.login.flow import relogin

        relogin(args)
        return current(args)

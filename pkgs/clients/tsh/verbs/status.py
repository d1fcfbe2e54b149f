"""`tsh status`."""

from __future__ import annotations

import sys
import time

from pkgs.clients.tsh.flags import FORMAT, VERBOSE
from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.describe import as_data, as_text
from pkgs.clients.tsh.profile.login import Expired, Login, of_profile, stored
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Show who is logged in to which cluster, as what, and until when. Fails when the active login has"
    " expired.",
    FORMAT,
    VERBOSE,
    Flag("client", "Accepted for compatibility; no server is asked", is_bool=True),
)


def run(args: Parsed) -> int:
    """Show the active login first, then the others."""
    active = stored(args)
    others = [] if active.identity_file else _others(active)
    if args.text("format") == "text":
        sys.stdout.write(as_text(active, active=True))
        for login in others:
            sys.stdout.write("\n" + as_text(login, active=False))
    else:
        from pkgs.common.output import formats

        formats.write(
            {"active": as_data(active), "profiles": [as_data(login) for login in others]}, args.text("format")
        )
    if active.expires_at <= time.time():
        raise Expired(f"your login to {active.cluster} has expired", hint=active.renew_hint())
    return 0


def _others(active: Login) -> list[Login]:
    found = []
    for name in home.profile_names(active.home):
        if name == active.profile_name:
            continue
        try:
            found.append(of_profile(active.home, home.load(active.home, name)))
        except (NotFoundError, InputError):
            # A profile without usable keys is no login.
            continue
    return found

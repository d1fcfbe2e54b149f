"""Flags of `tsh ssh` for sessions of several people: why, who is asked to come, who is waited for.

They travel as environment variables that the server reads and passes to no program.
"""

from __future__ import annotations

import os

from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed

FLAGS = (
    Flag("reason", "Why, for those who are asked to join the session", metavar="TEXT"),
    Flag("invite", "Ask these users to join the session: alice,bob", is_list=True, metavar="USERS"),
    Flag("participant-req", "While the session waits for others, show for whom", is_bool=True),
)
MAX_VALUE = 4096
"""Characters of one variable that a server takes."""


def options(args: Parsed) -> list[str]:
    """Words for OpenSSH; sets the variables that it is told to send."""
    invited = [name.strip() for text in args.texts("invite") for name in text.split(",") if name.strip()]
    values = {
        "TELEPORT_SESSION_REASON": args.text("reason"),
        "TELEPORT_SESSION_INVITED_USERS": ",".join(invited),
        "TELEPORT_SESSION_PARTICIPANT_REQUIREMENTS": "true" if args.on("participant-req") else "",
    }
    words: list[str] = []
    for name, value in values.items():
        if not value:
            continue
        if len(value) > MAX_VALUE or not value.isprintable():
            raise InputError(f"a reason or a list of users is one printable line of {MAX_VALUE} characters")
        os.environ[name] = value
        words += ["-o", f"SendEnv={name}"]
    return words

"""`tctl users ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.resources import write_list
from pkgs.common.output.table import render, terminal_width
from pkgs.common.resources.kinds import User

SPEC = Spec("List users and their roles.", FORMAT)


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        users = [user for user in fetch_all(client, "user") if isinstance(user, User)]
    if args.text("format") != "text":
        write_list(users, args.text("format"))
    elif not users:
        sys.stdout.write("No users found\n")
    else:
        rows = [
            (user.name, ",".join(user.spec.roles) + (" (locked)" if user.spec.status.is_locked else ""))
            for user in users
        ]
        sys.stdout.write(render(("User", "Roles"), rows, width=terminal_width()))
    return 0

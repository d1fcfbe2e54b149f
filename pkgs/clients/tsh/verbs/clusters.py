"""`tsh clusters`."""

from __future__ import annotations

import sys
import time

from pkgs.clients.tsh.flags import FORMAT, VERBOSE
from pkgs.clients.tsh.profile.login import current
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.table import render

SPEC = Spec(
    "List the clusters that the current login reaches.",
    FORMAT,
    VERBOSE,
    Flag("quiet", "No headers", short="q", is_bool=True),
)


def run(args: Parsed) -> int:
    """The root cluster; there are no others yet."""
    login = current(args)
    rows = [(login.cluster, "online" if login.expires_at > time.time() else "offline", "root", "*")]
    if args.text("format") != "text":
        from pkgs.common.output import formats

        formats.write_list(
            [
                {"cluster_name": name, "status": status, "cluster_type": kind, "selected": True}
                for name, status, kind, _ in rows
            ],
            args.text("format"),
        )
    elif args.on("quiet"):
        from pkgs.common.output.sanitize import inert

        sys.stdout.writelines("\t".join(map(inert, row)) + "\n" for row in rows)
    else:
        sys.stdout.write(render(("Cluster Name", "Status", "Cluster Type", "Selected"), rows))
    return 0

"""`tsh env`."""

from __future__ import annotations

import shlex
import sys

from pkgs.clients.tsh.flags import FORMAT
from pkgs.clients.tsh.profile.login import current
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Print shell commands that select the current cluster, for eval $(tsh env).",
    FORMAT,
    Flag("unset", "Print the commands that undo it", is_bool=True),
)
NAMES = ("TELEPORT_PROXY", "TELEPORT_CLUSTER")


def run(args: Parsed) -> int:
    """Print the lines."""
    if args.on("unset"):
        sys.stdout.writelines(f"unset {name}\n" for name in NAMES)
        return 0
    login = current(args)
    values = dict(zip(NAMES, (login.proxy_addr, login.cluster), strict=True))
    if args.text("format") != "text":
        from pkgs.common.output import formats

        formats.write(values, args.text("format"))
        return 0
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    return 0

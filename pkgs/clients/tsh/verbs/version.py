"""`tsh version`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.flags import FORMAT
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.runtime.version import VERSION

SPEC = Spec(
    "Print the version of this program.",
    FORMAT,
    Flag("client", "Accepted for compatibility; no server is asked", is_bool=True),
)


def run(args: Parsed) -> int:
    """Print the version."""
    if args.text("format") == "text":
        sys.stdout.write(f"tsh v{VERSION}\n")
        return 0
    from pkgs.common.output import formats

    formats.write({"version": VERSION}, args.text("format"))
    return 0

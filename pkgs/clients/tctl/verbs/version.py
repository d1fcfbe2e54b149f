"""`tctl version`."""

from __future__ import annotations

import sys

from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.runtime.version import VERSION

SPEC = Spec(
    "Print the version of this program.",
    Flag("client", "Accepted for compatibility; no server is asked", is_bool=True),
)


def run(args: Parsed) -> int:
    """Print the version."""
    sys.stdout.write(f"tctl v{VERSION}\n")
    return 0

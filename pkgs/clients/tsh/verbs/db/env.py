"""`tsh db env`."""

from __future__ import annotations

import shlex
import sys

from pkgs.clients.tsh.databases import listing
from pkgs.clients.tsh.flags import CLUSTER, FORMAT
from pkgs.clients.tsh.profile.login import current
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Print variables for native clients that do their own TLS, for eval $(tsh db env DATABASE).",
    *listing.AS_WHOM,
    *listing.SELECTORS,
    FORMAT,
    CLUSTER,
    usage="[DATABASE]",
    most=1,
)
offer = listing.offer


def run(args: Parsed) -> int:
    """Print the lines."""
    from pkgs.clients.tsh.databases import direct
    from pkgs.clients.tsh.databases.clients import environment

    found = direct.of_args(current(args), args)
    held = found.held
    values = environment(
        held.protocol,
        host=found.host,
        port=found.port,
        user=held.user,
        database=held.database,
        ca=found.ca,
        cert=str(held.cert),
        key=str(held.key),
    )
    if args.text("format") != "text":
        from pkgs.common.output import formats

        formats.write(values, args.text("format"))
        return 0
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    return 0

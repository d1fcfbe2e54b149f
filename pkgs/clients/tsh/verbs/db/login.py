"""`tsh db login`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.databases import listing
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.profile.login import current
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Get a certificate for one database. It opens that database and nothing else, and ends with your login.",
    *listing.AS_WHOM,
    *listing.SELECTORS,
    CLUSTER,
    usage="[DATABASE]",
    most=1,
)
offer = listing.offer


def run(args: Parsed) -> int:
    """Have it made, keep it, say how to go on."""
    from pkgs.clients.tsh.databases.certificates import obtain, prepare, whom

    login = current(args)
    database = listing.the_one(login, args)
    held = obtain(login, database, whom(args))
    name = inert(database.name)
    sys.stdout.write(
        f"You hold a certificate for database {name} ({inert(held.protocol)}).\n\n"
        f"  tsh db connect {name}           open it with its own client\n"
        f"  tsh proxy db --tunnel {name}    a local port for any client\n"
        f"  tsh db config {name}            files and addresses for TLS of your own\n"
    )
    needed = prepare(login, held)
    if needed.needs_user:
        sys.stdout.write("\nThe database user is still to be said: --db-user, here or with the first two.\n")
    if needed.needs_code:
        sys.stdout.write("\nEach session needs a one-time code, which the first two ask for.\n")
    return 0

"""`tsh db connect`."""

from __future__ import annotations

from pkgs.clients.tsh.databases import listing
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.profile.login import current
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Open a database with its own client (psql, mariadb or mysql, redis-cli) through a port that exists as"
    " long as the client runs.",
    *listing.AS_WHOM,
    Flag("execute", "Run one statement and end", short="e", metavar="STATEMENT"),
    *listing.SELECTORS,
    CLUSTER,
    usage="[DATABASE]",
    most=1,
)


def run(args: Parsed) -> int:
    """The client's own exit status."""
    import asyncio

    from pkgs.clients.tsh.databases.certificates import held_or_obtained, whom
    from pkgs.clients.tsh.databases.running import run_client

    login = current(args)
    database = listing.the_one(login, args)
    held = held_or_obtained(login, database, whom(args))
    return asyncio.run(run_client(login, held, args.text("execute")))

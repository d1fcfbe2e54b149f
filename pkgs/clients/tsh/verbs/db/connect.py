"""`tsh db connect`."""

from __future__ import annotations

from pkgs.clients.tsh.databases import listing
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.login.ask import OTP_STDIN
from pkgs.clients.tsh.profile.login import current
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Open a database with its own client (psql, mariadb or mysql, redis-cli) through a port that exists as"
    " long as the client runs. Where each session needs a one-time code, it is asked for.",
    *listing.AS_WHOM,
    Flag("execute", "Run one statement and end", short="e", metavar="STATEMENT"),
    OTP_STDIN,
    *listing.SELECTORS,
    CLUSTER,
    usage="[DATABASE]",
    most=1,
)
offer = listing.offer


def run(args: Parsed) -> int:
    """The client's own exit status."""
    import asyncio

    from pkgs.clients.tsh.databases.certificates import for_session, held_or_obtained, whom
    from pkgs.clients.tsh.databases.limits import SESSION_CERT_S
    from pkgs.clients.tsh.databases.running import run_client

    if args.on("otp-stdin") and not args.text("execute"):
        raise InputError("--otp-stdin reads what the client would", hint="use it with --execute")
    login = current(args)
    database = listing.the_one(login, args)
    held = held_or_obtained(login, database, whom(args))
    held = for_session(login, held, args, ttl_s=SESSION_CERT_S)
    return asyncio.run(run_client(login, held, args.text("execute")))

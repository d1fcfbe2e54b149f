"""`tsh db logout`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.databases import files, listing
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.profile.login import is_headless, stored
from pkgs.common.errors import NotFoundError
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Delete your certificate for a database, or for all of them.",
    *listing.SELECTORS,
    CLUSTER,
    usage="[DATABASE]",
    most=1,
)


def offer(args: Parsed, typed: str) -> list[str]:
    """Those for which a certificate is held."""
    return [] if is_headless(args) else files.names(stored(args))


def run(args: Parsed) -> int:
    """Delete; the certificates themselves end with the login they were made from."""
    login = stored(args)
    names = files.names(login)
    if args.words:
        if args.words[0] not in names:
            raise NotFoundError(f"you hold no certificate for database {args.words[0][:80]!r}")
        names = [args.words[0]]
    elif args.text("labels") or args.text("query"):
        selected = {database.name for database in listing.of_args(login, args)}
        names = [name for name in names if name in selected]
    for name in names:
        if files.forget(login, name):
            sys.stdout.write(f"Logged out of database {inert(name)}.\n")
    if not names:
        sys.stdout.write("No certificate for a database is held.\n")
    return 0

"""The databases a login may see, and the one that is meant."""

from __future__ import annotations

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.databases import files
from pkgs.clients.tsh.databases.limits import LIST_DEADLINE_S
from pkgs.clients.tsh.profile.login import Login, current, is_headless
from pkgs.clients.tsh.servers.nodes import parse_labels, split_commas
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.common.resources.kinds import Database

FILTERS = (
    Flag("search", "Words that must all appear in a name, description or label: foo,bar", metavar="WORDS"),
    Flag("query", 'Predicate, such as labels["env"] == "prod"', metavar="QUERY"),
)
SELECTORS = (
    Flag("labels", "Labels of the database instead of its name: env=prod,team=web", metavar="LABELS"),
    FILTERS[1],
)
AS_WHOM = (
    Flag("db-user", "Database user to connect as", short="u", metavar="NAME"),
    Flag("db-name", "Database inside the server", short="n", metavar="NAME"),
    Flag("db-roles", "Database roles, for users that are made on demand; default: all granted", short="r",
         metavar="ROLE,..."),
)  # fmt: skip


def fetch(login: Login, labels: dict[str, str], search: list[str], query: str = "") -> list[Database]:
    """All databases with these labels and words that the login may see and an agent serves, by name."""
    client = auth_client(login)
    from pkgs.common.api.resources import ListResources
    from pkgs.common.resources.kinds import DatabaseServer

    wanted = None
    if query:
        from pkgs.common.access.contexts.query import compile_query

        wanted = compile_query(query, "db")
    found: dict[str, Database] = {}
    try:
        request = ListResources(kind="db_server", labels=labels, search=search)
        for chunk in client.stream(request, deadline_s=LIST_DEADLINE_S):
            for resource in chunk.resources:
                if isinstance(resource, DatabaseServer):
                    # Several agents may serve databases of one name.
                    found.setdefault(resource.name, resource.spec.database)
    finally:
        client.close()
    return [found[name] for name in sorted(found) if wanted is None or wanted(found[name])]


def of_args(login: Login, args: Parsed) -> list[Database]:
    """All databases that the flags of a verb select."""
    labels = parse_labels(args.text("labels")) if "labels" in args.values else {}
    search = split_commas(args.text("search")) if "search" in args.values else []
    return fetch(login, labels, search, args.text("query"))


def the_one(login: Login, args: Parsed) -> Database:
    """The one database that a name or selectors mean; where there are none, the only one for which a
    certificate is held. Raises NotFoundError, InputError."""
    selecting = bool(args.text("labels") or args.text("query"))
    wanted = args.words or ([] if selecting else files.names(login))
    if (args.words and selecting) or (not selecting and len(wanted) != 1):
        raise InputError("name one database, or select it by --labels or --query")
    found = of_args(login, args)
    if wanted:
        found = [named(found, wanted[0])]
    if not found:
        raise NotFoundError("no database is selected by that", hint="'tsh db ls' lists yours")
    if len(found) > 1:
        names = ", ".join(database.name for database in found[:5])
        raise InputError(f"{len(found)} databases are selected by that: {names}", hint="name one of them")
    return found[0]


def named(found: list[Database], name: str) -> Database:
    """The one of this name. Raises NotFoundError."""
    for database in found:
        if database.name == name:
            return database
    raise NotFoundError(f"no database {name[:80]!r}, or you may not use it", hint="'tsh db ls' lists yours")


def offer(args: Parsed, typed: str) -> list[str]:
    """Names for the shell's completion, of databases that the login may see."""
    if is_headless(args):
        return []
    return [database.name for database in fetch(current(args), {}, [typed] if typed else [])]

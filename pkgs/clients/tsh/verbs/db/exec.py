"""`tsh db exec`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.databases import listing
from pkgs.clients.tsh.databases.limits import STATEMENTS_AT_ONCE
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.servers.nodes import split_commas
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.clients.tsh.profile.login import Login
    from pkgs.common.resources.kinds import Database

SPEC = Spec(
    "Run one statement on several databases with their own clients, in parallel if asked for.",
    Flag("dbs", "Databases by name; excludes --search, --labels and --query", metavar="NAME,..."),
    Flag("labels", "Labels of the databases: env=prod,team=web", metavar="LABELS"),
    *listing.FILTERS,
    *listing.AS_WHOM,
    Flag("parallel", f"Databases at a time, up to {STATEMENTS_AT_ONCE}", default="1", metavar="COUNT"),
    Flag("confirm", "Ask before it is run", is_bool=True, default="true"),
    Flag("output-dir", "Write what each database says to files there, and summary.json", metavar="DIR"),
    CLUSTER,
    usage="STATEMENT",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """The status of the first database that failed, or 0."""
    from pkgs.clients.tsh.connections.openssh import tsh_path
    from pkgs.clients.tsh.databases.certificates import held_or_obtained, prepare, whom
    from pkgs.clients.tsh.many import fanout

    parallel = args.whole("parallel", least=1)
    if parallel > STATEMENTS_AT_ONCE:
        raise InputError(f"--parallel: found {parallel}", hint=f"1 to {STATEMENTS_AT_ONCE}")
    login = current(args)
    found = _selected(login, args)
    if args.on("confirm") and not _confirmed(found, args.words[0]):
        sys.stderr.write("\nNothing was run.\n")
        return 1
    for database in found:
        # One after the other, before anything runs: no statement runs on half of them for want of access.
        needed = prepare(login, held_or_obtained(login, database, whom(args)))
        if needed.needs_user:
            raise InputError(f"no database user is named for {database.name}", hint="add --db-user")
        if needed.needs_code:
            raise DeniedError(
                f"each session with {database.name} needs a one-time code", hint="use 'tsh db connect'"
            )
    program = [sys.executable, "-I", tsh_path(), "db", "connect", f"--proxy={login.proxy_addr}"]
    jobs = [
        fanout.Job(database.name, [*program, f"--execute={args.words[0]}", database.name])
        for database in found
    ]
    statuses = fanout.run_each(jobs, parallel=parallel, log_dir=args.text("output-dir"), what="databases")
    if args.text("output-dir"):
        _summarise(args.text("output-dir"), [job.name for job in jobs], args.words[0], statuses)
    return fanout.first_failure(statuses)


def _selected(login: Login, args: Parsed) -> list[Database]:
    names = split_commas(args.text("dbs"))
    selecting = any(args.text(flag) for flag in ("labels", "search", "query"))
    if bool(names) == selecting:
        raise InputError("name databases by --dbs, or select them by --labels, --search or --query")
    found = listing.of_args(login, args)
    if names:
        found = [listing.named(found, name) for name in sorted(set(names))]
    if not found:
        raise NotFoundError("no database is selected by that", hint="'tsh db ls' lists yours")
    return found


def _confirmed(found: list[Database], statement: str) -> bool:
    listed = "".join(f"  {inert(database.name)}\n" for database in found)
    sys.stderr.write(f"{inert(statement)}\n\nruns on {len(found)} databases:\n{listed}\nGo on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _summarise(folder: str, names: list[str], statement: str, statuses: list[int]) -> None:
    import json
    from pathlib import Path

    summary = {
        "statement": statement,
        "databases": [{"name": name, "status": status} for name, status in zip(names, statuses, strict=True)],
        "success": not any(statuses),
    }
    (Path(folder) / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")

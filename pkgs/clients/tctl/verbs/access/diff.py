"""`tctl access diff`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pkgs.clients.tctl.flags import TEXT_OR_JSON, commas
from pkgs.clients.tctl.verbs.access.diffworlds import Worlds, of_cluster, of_files
from pkgs.clients.tctl.verbs.access.policyfiles import Documents
from pkgs.clients.tctl.verbs.access.words import AT, FROM, moment, source
from pkgs.common.access.policydiff.compare import KINDS, Circumstance, Comparison
from pkgs.common.access.policydiff.summary import Change, summarised
from pkgs.common.access.types import Environment
from pkgs.common.errors import AccessError, InputError
from pkgs.common.output import jsonout, times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.errors import EXIT_FAILED, EXIT_OK, fail
from pkgs.common.output.progress import Progress
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.strict import suggest

SPEC = Spec(
    "Show who would gain (+) or lose (-) what, or have it otherwise (~), if the roles, users and access"
    " lists of a file or folder were applied. Compares with the cluster, or without one with the documents of"
    " --base and --with. What no document names stays as it is. The exit status is 0 when nothing changes,"
    " 2 when something would, 1 on errors.",
    Flag("filename", "File or folder with the new documents (required)", short="f", metavar="FILE|DIR"),
    Flag("base", "Compare with these documents instead of a cluster", metavar="FILE|DIR"),
    Flag("with", "Users and resources to compare for: documents, or a policy test", metavar="FILE|DIR"),
    Flag("user", "Only these users, comma separated", metavar="USERS"),
    Flag("kind", f"Only these, comma separated: {', '.join(KINDS)}", metavar="KINDS"),
    AT,
    FROM,
    TEXT_OR_JSON,
    usage_status=EXIT_FAILED,
)  # fmt: skip
EXIT_DIFFERENT = 2
MAX_LINES = 200
MAX_NOTES = 20


def run(args: Parsed) -> int:
    """Compare and tell. Whatever is wrong with the input is 1 here: 2 says that something would change."""
    try:
        return _run(args)
    except AccessError as error:
        fail(str(error))
        return EXIT_FAILED


def _run(args: Parsed) -> int:
    if not args.text("filename"):
        raise InputError("-f is required", hint="name the file or folder with the new roles")
    kinds = commas(args.text("kind")) or list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"--kind: {kind[:40]!r} is not known", hint=suggest(kind, KINDS))
    address = source(args)
    now = moment(args.text("at")) or time.time()
    documents = Documents()
    new = documents.below(Path(args.text("filename")))
    if args.text("base") or args.text("with"):
        worlds = of_files(documents, new, args.text("base"), args.text("with"))
    else:
        worlds = of_cluster(args, new)
    comparison = Comparison(worlds.before, worlds.after, Environment(now=now, source_addr=address))
    users = _users(args, worlds, comparison)
    with Progress("Comparing") as progress:
        changes = summarised(comparison.differences(users, kinds, progress.update))
    circumstances = list(comparison.circumstances(users))
    notes = [*worlds.notes, *comparison.notes, *_timed(worlds, users, now, address)]
    if args.text("format") == "json":
        sys.stdout.write(_json(changes, circumstances, notes))
    else:
        _text(changes, circumstances, notes)
    return EXIT_DIFFERENT if changes or circumstances else EXIT_OK


def _users(args: Parsed, worlds: Worlds, comparison: Comparison) -> list[str]:
    affected = comparison.affected()
    wanted = commas(args.text("user"))
    known = worlds.before.people.keys() | worlds.after.people.keys()
    for name in wanted:
        if name not in known:
            raise InputError(
                f"--user: there is no user {name[:80]!r}", hint=suggest(name, sorted(known)[:1000])
            )
    return [name for name in affected if not wanted or name in wanted]


def _timed(worlds: Worlds, users: list[str], now: float, address: str) -> list[str]:
    """Roles that do not always count: the answer is for one moment and one place."""
    found = {
        role.name
        for world in worlds.both
        for user in users
        if user in world.people
        for role in map(world.roles.get, world.holding(world.people[user], now).roles)
        if role is not None and any(side.when or side.source for side in (role.spec.allow, role.spec.deny))
    }
    if not found:
        return []
    timed = sorted(found)
    where = f"from {address}" if address else "from an address that is not known"
    return [
        f"decided for {times.rfc3339(now)} and {where} (--at, --from-addr), which matters to"
        f" {_several('role', timed)}"
    ]


def _several(noun: str, names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names[:5])}{more}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _text(changes: list[Change], circumstances: list[Circumstance], notes: list[str]) -> None:
    shown = [str(change) for change in changes]
    shown += [
        f"~ {c.user} role {c.role} (counts at other hours or from other networks)" for c in circumstances
    ]
    for line in shown[:MAX_LINES]:
        sys.stdout.write(f"{inert(line)}\n")
    if len(shown) > MAX_LINES:
        sys.stdout.write(f"... and {len(shown) - MAX_LINES} more: --user, --kind, or --format=json for all\n")
    users = {change.user for change in changes} | {circumstance.user for circumstance in circumstances}
    if shown:
        sys.stdout.write(f"{_count(len(shown), 'change')} for {_count(len(users), 'user')}\n")
    else:
        sys.stdout.write("Nobody gains or loses anything.\n")
    for note in notes[:MAX_NOTES]:
        sys.stderr.write(f"note: {inert(note)}\n")
    if len(notes) > MAX_NOTES:
        sys.stderr.write(f"note: and {len(notes) - MAX_NOTES} more notes; --format=json has all\n")


def _json(changes: list[Change], circumstances: list[Circumstance], notes: list[str]) -> str:
    words = {"+": "gained", "-": "lost", "~": "changed"}
    return jsonout.dumps(
        {
            "changes": [
                {
                    "user": change.user,
                    "change": words[change.sign],
                    "action": change.action,
                    "resources": change.names,
                    "count": change.count,
                    "before": change.before,
                    "after": change.after,
                }
                for change in changes
            ],
            "circumstances": [{"user": c.user, "role": c.role} for c in circumstances],
            "notes": notes,
        }
    )

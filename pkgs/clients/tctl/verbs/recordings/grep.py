"""`tctl recordings grep`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tsh.recordings import remote
from pkgs.common.api.recordings import FoundLine, SearchRecordings
from pkgs.common.output import formats, times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.errors import EXIT_FAILED, EXIT_OK
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Find words on the screens of recorded sessions, whatever their case: one line for each line that was"
    " shown, with its session and the time since its start. Of the last day unless told otherwise. The exit"
    " status is 1 when nothing is found.",
    Flag("user", "Only sessions of this user", metavar="USER"),
    *remote.WINDOW_FLAGS,
    FORMAT,
    usage="PATTERN",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    since, until = remote.window(args)
    request = SearchRecordings(
        pattern=args.words[0],
        user=args.text("user"),
        since=since,
        until=until,
        limit=args.whole("limit", least=1),
    )
    found: list[FoundLine] = []
    with connect(args) as client:
        for part in client.stream(request, deadline_s=remote.DEADLINE_S):
            found += part.lines
    if args.text("format") == "text":
        for line in found:
            who = f"{line.user} as {line.login} on {line.hostname}"
            sys.stdout.write(inert(f"{line.session_id}  {_clock(line.ms)}  {who}: {line.text}") + "\n")
    else:
        formats.write_list([_document(line) for line in found], args.text("format"))
    return EXIT_OK if found else EXIT_FAILED


def _clock(ms: int) -> str:
    minutes, seconds = divmod(ms // 1000, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _document(line: FoundLine) -> dict[str, object]:
    return {
        "session_id": line.session_id,
        "ms": line.ms,
        "text": line.text,
        "user": line.user,
        "login": line.login,
        "server_hostname": line.hostname,
        "started": times.rfc3339(line.started),
    }

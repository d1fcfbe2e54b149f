"""`tctl audit ls`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT, commas
from pkgs.clients.tctl.verbs.audit import events
from pkgs.common.api.audit import SearchEvents, StoredEvent
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Search the audit log. Shows the newest events that match, oldest of them first.",
    *events.FILTER_FLAGS,
    Flag("since", "Not before this time (2026-01-31 or 2026-01-31T15:00:00Z)", metavar="TIME"),
    Flag("until", "Before this time", metavar="TIME"),
    Flag("last", "The last so long, such as 2h", metavar="DURATION"),
    Flag("limit", "Most events shown", default="500", metavar="N"),
    FORMAT,
)
DEADLINE_S = 120.0


def run(args: Parsed) -> int:
    """Ask and print."""
    since, until = events.window(args)
    request = SearchEvents(
        since=since,
        until=until,
        types=commas(args.text("type")),
        user=args.text("user"),
        session_id=args.text("session"),
        limit=args.whole("limit", least=1),
        order="desc",
    )
    found: list[StoredEvent] = []
    with connect(args) as client:
        for chunk in client.stream(request, deadline_s=DEADLINE_S):
            found += chunk.events
    found.reverse()
    events.write(found, args.text("format"))
    return 0

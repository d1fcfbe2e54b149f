"""`tctl audit tail`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import TEXT_OR_JSON, commas
from pkgs.clients.tctl.verbs.audit import events
from pkgs.common.api.audit import SearchEvents, StoredEvent
from pkgs.common.events.format import unix_time
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Show the newest events of the audit log; with --follow go on with new ones until interrupted.",
    *events.FILTER_FLAGS,
    Flag("follow", "Go on with new events as they are stored", short="f", is_bool=True),
    Flag("lines", "How many events to begin with", short="n", default="10", metavar="N"),
    TEXT_OR_JSON,
)
DEADLINE_S = 60.0


def run(args: Parsed) -> int:
    """Print the newest, then follow."""
    types, user = commas(args.text("type")), args.text("user")
    session = args.text("session")
    newest: list[StoredEvent] = []
    with connect(args) as client:
        request = SearchEvents(
            types=types, user=user, session_id=session, limit=max(args.whole("lines"), 1), order="desc"
        )
        for chunk in client.stream(request, deadline_s=DEADLINE_S):
            newest += chunk.events
        newest.reverse()
        if args.whole("lines"):
            for stored in newest:
                events.write_line(stored, args.text("format"))
        if not args.on("follow"):
            return 0
        last_seq = newest[-1].seq if newest else 0
        # From the last one on, that one included: what came in between must not be missed.
        since = unix_time(newest[-1].event) if newest else 0.0
        follow = SearchEvents(since=since, types=types, user=user, session_id=session, follow=True)
        for chunk in client.stream(follow):
            for stored in chunk.events:
                if stored.seq > last_seq:
                    last_seq = stored.seq
                    events.write_line(stored, args.text("format"))
    return 0

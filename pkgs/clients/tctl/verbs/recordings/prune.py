"""`tctl recordings prune`."""

from __future__ import annotations

import sys
import time

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tsh.recordings import remote
from pkgs.common.api.recordings import PruneRecordings, RecordingInfo
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.progress import Progress
from pkgs.common.resources.durations import parse_duration

SPEC = Spec(
    "Delete recordings of sessions that ended long ago; the audit log keeps the sessions, and says who"
    " deleted what. The cluster does it by itself where session_recording_config has a retention.",
    Flag("older-than", "Age, such as 90d or 2160h (required)", metavar="DURATION"),
    Flag("dry-run", "Show what would be deleted and delete nothing", is_bool=True),
    FORMAT,
)


def run(args: Parsed) -> int:
    """Delete, a bounded number at a time."""
    age_s = parse_duration(args.text("older-than"), "--older-than")
    if age_s <= 0:
        raise InputError("--older-than is required", hint="for example --older-than 90d")
    request = PruneRecordings(ended_before=time.time() - age_s, dry_run=args.on("dry-run"))
    found: list[RecordingInfo] = []
    with connect(args) as client, Progress("Deleting recordings") as progress:
        while True:
            answer = client.call(request, deadline_s=remote.DEADLINE_S)
            found += answer.recordings
            progress.update(f"{len(found):,}")
            if request.dry_run or not answer.more:
                break
    if args.text("format") != "text" or request.dry_run:
        remote.show(found, args.text("format"))
    if args.text("format") == "text":
        size = sum(one.size for one in found) / 1048576
        more = " and more" if request.dry_run and answer.more else ""
        verb = "would be" if request.dry_run else "were"
        sys.stdout.write(f"{len(found):,}{more} recordings ({size:.1f} MiB) {verb} deleted\n")
    return 0

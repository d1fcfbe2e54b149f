"""`tctl recordings verify`."""

from __future__ import annotations

import sys
from pathlib import Path

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tsh.recordings.remote import download
from pkgs.common.api.system import GetTrustAnchors
from pkgs.common.errors import InputError, NotFoundError, TrustError
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.errors import EXIT_FAILED, EXIT_OK
from pkgs.common.output.sanitize import inert
from pkgs.common.output.times import short
from pkgs.common.pki.trust import Trust
from pkgs.common.recording.ids import is_session_id
from pkgs.common.recording.reader import chunks_of
from pkgs.common.recording.verify import Verdict, verify
from pkgs.common.rpc.calls import BlockingClient

SPEC = Spec(
    "Check that recordings are what their hosts wrote: every frame follows from the one before, and the end"
    " is signed by a host of this cluster. The exit status is 0 only if all of them are verified.",
    FORMAT,
    usage="SESSION_ID|FILE...",
    least=1,
    most=1000,
)


def run(args: Parsed) -> int:
    """Go through each; nothing is kept."""
    words = args.words
    for word in words:
        if not is_session_id(word.lower()) and not Path(word).is_file():
            if "/" in word:
                raise NotFoundError(f"there is no recording file {word}")
            raise InputError(
                f"{word[:80]!r} is neither a session id nor a file", hint="see 'tctl recordings ls'"
            )
    with connect(args) as client:
        trust = Trust.from_authorities(client.call(GetTrustAnchors()).authorities)
        found = [(word, _judge(client, word, trust)) for word in words]
    if args.text("format") == "text":
        for word, verdict in found:
            sys.stdout.write(f"{inert(word)}: {_story(verdict)}\n")
    else:
        formats.write([verdict for _, verdict in found], args.text("format"))
    return EXIT_OK if all(verdict.state == "verified" for _, verdict in found) else EXIT_FAILED


def _judge(client: BlockingClient, word: str, trust: Trust) -> Verdict:
    """One that cannot be read keeps nobody from the verdict about the next."""
    sid = word.lower() if is_session_id(word.lower()) else ""
    try:
        if sid:
            return verify(download(client, sid), trust, session_id=sid)
        with Path(word).open("rb") as file:
            return verify(chunks_of(file), trust)
    except (NotFoundError, TrustError) as problem:
        return Verdict(state="unreadable", problem=str(problem), session_id=sid)
    except OSError as problem:
        return Verdict(state="unreadable", problem=problem.strerror or "it cannot be read")


def _story(verdict: Verdict) -> str:
    if verdict.state == "verified":
        who = f"session {verdict.session_id} of {verdict.user} on host {verdict.host_id}"
        return inert(f"verified, {verdict.frames} frames: {who}, ended {short(verdict.ended)}")
    what = {
        "unsigned": f"whole ({verdict.frames} frames), but not signed",
        "cut": f"cut after {verdict.frames} whole frames",
        "damaged": f"DAMAGED after {verdict.frames} whole frames",
        "forged": "FORGED",
        "unreadable": "UNREADABLE",
    }[verdict.state]
    return inert(f"{what}: {verdict.problem}")

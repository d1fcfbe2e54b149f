"""`tctl audit verify`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.common.api.audit import VerifyAudit
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.errors import EXIT_FAILED, EXIT_OK, fail
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Walk the whole audit log and check that no event was changed, removed or added. Note the head down: a"
    " later run that does not pass through it means a rewritten history.",
    FORMAT,
)
DEADLINE_S = 300.0


def run(args: Parsed) -> int:
    """Ask; the exit status is the verdict."""
    with connect(args) as client:
        verdict = client.call(VerifyAudit(), deadline_s=DEADLINE_S)
    if args.text("format") != "text":
        formats.write(verdict, args.text("format"))
    elif verdict.ok:
        sys.stdout.write(f"The audit log is whole: {verdict.events} events.\nHead: {inert(verdict.head)}\n")
    if not verdict.ok:
        fail(f"the audit log is damaged at event {verdict.first_bad_seq}: {verdict.problem}")
    return EXIT_OK if verdict.ok else EXIT_FAILED

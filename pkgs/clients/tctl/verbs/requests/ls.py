"""`tctl requests ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.requests.show import metadata
from pkgs.clients.tsh.requests.calls import listed
from pkgs.common.output import times
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.resources import write_list
from pkgs.common.output.table import render, terminal_width

SPEC = Spec("List the access requests that have not expired, the newest first.", FORMAT)
REASON_CHARS = 75
FOOTNOTE = "[*]"


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        found = listed(client)
    if args.text("format") != "text":
        write_list([shown.request for shown in found], args.text("format"))
        return 0
    rows = []
    for shown in found:
        spec = shown.request.spec
        rows.append(
            (
                shown.request.name,
                spec.user,
                metadata(shown),
                times.short(spec.created.timestamp()) if spec.created else "",
                spec.state,
                _cut(spec.request_reason),
                _cut(spec.resolve_reason),
            )
        )
    headers = (
        *("Token", "Requestor", "Metadata", "Created At (UTC)", "Status", "Request Reason"),
        "Resolve Reason",
    )
    sys.stdout.write(render(headers, rows, width=terminal_width()))
    if any(FOOTNOTE in cell for row in rows for cell in row[-2:]):
        sys.stdout.write(f"\n{FOOTNOTE} Full reason was cut, use the `tctl requests get` subcommand\n")
    return 0


def _cut(reason: str) -> str:
    return reason if len(reason) <= REASON_CHARS else f"{reason[:REASON_CHARS]}... {FOOTNOTE}"

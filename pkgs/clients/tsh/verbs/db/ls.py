"""`tsh db ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.databases import files, listing
from pkgs.clients.tsh.flags import CLUSTER, FORMAT, VERBOSE
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.servers.nodes import label_text, parse_labels, split_commas
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "List the databases you may reach, perhaps only those with some labels: tsh db ls env=prod. A > stands"
    " before those that you hold a certificate for.",
    *listing.FILTERS,
    FORMAT,
    VERBOSE,
    CLUSTER,
    usage="[LABELS]",
    most=1,
)


def run(args: Parsed) -> int:
    """Fetch, filter, print."""
    login = current(args)
    labels = parse_labels(args.words[0]) if args.words else {}
    found = listing.fetch(login, labels, split_commas(args.text("search")), args.text("query"))
    if args.text("format") != "text":
        from pkgs.common.output import resources

        resources.write_list(found, args.text("format"))
        return 0
    from pkgs.common.access.matching.labels import labels_of
    from pkgs.common.output.table import render, terminal_width

    held = set(files.names(login))
    headers = ["Name", "Description", "Protocol", "Labels", "Connect"]
    if args.on("verbose"):
        headers.insert(3, "URI")
    rows = []
    for database in found:
        name = database.name
        row = [
            f"> {name}" if name in held else name,
            database.metadata.description,
            database.spec.protocol,
            label_text(dict(labels_of(database))),
            f"tsh db connect {name}",
        ]
        if args.on("verbose"):
            row.insert(3, database.spec.uri)
        rows.append(row)
    sys.stdout.write(render(headers, rows, width=None if args.on("verbose") else terminal_width()))
    return 0

"""`tctl db ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.clients.tctl.verbs.resources.tables import table_of
from pkgs.clients.tsh.databases.listing import FILTERS
from pkgs.clients.tsh.servers.nodes import parse_labels, split_commas
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.resources import write_list
from pkgs.common.output.table import terminal_width
from pkgs.common.resources.kinds import DatabaseServer

SPEC = Spec(
    "List the databases that agents serve, perhaps only those with some labels.",
    *FILTERS,
    Flag("verbose", "Do not cut labels", short="v", is_bool=True),
    FORMAT,
    usage="[LABELS]",
    most=1,
)


def run(args: Parsed) -> int:
    """Ask, filter, print."""
    labels = parse_labels(args.words[0]) if args.words else {}
    wanted = None
    if args.text("query"):
        from pkgs.common.access.contexts.query import compile_query

        wanted = compile_query(args.text("query"), "db")
    with connect(args) as client:
        found = fetch_all(client, "db_server", labels=labels, search=split_commas(args.text("search")))
    servers = [
        server
        for server in found
        if isinstance(server, DatabaseServer) and (wanted is None or wanted(server.spec.database))
    ]
    servers.sort(key=lambda server: (server.name, server.spec.hostname))
    if args.text("format") != "text":
        write_list(servers, args.text("format"))
        return 0
    width = None if args.on("verbose") else terminal_width()
    sys.stdout.write(table_of("db_server", servers, width=width))
    return 0

"""`tctl nodes ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.clients.tsh.servers.nodes import (
    FILTERS,
    all_labels,
    label_text,
    parse_labels,
    query_test,
    split_commas,
)
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.resources import write_list
from pkgs.common.output.table import render, terminal_width
from pkgs.common.resources.kinds import Node

SPEC = Spec(
    "List the nodes of the cluster, perhaps only those with some labels.",
    *FILTERS,
    Flag("verbose", "Do not cut labels", short="v", is_bool=True),
    FORMAT,
    usage="[LABELS]",
    most=1,
)


def run(args: Parsed) -> int:
    """Ask, filter, print."""
    labels = parse_labels(args.words[0]) if args.words else {}
    wanted = query_test(args.text("query"))
    with connect(args) as client:
        found = fetch_all(client, "node", labels=labels, search=split_commas(args.text("search")))
    nodes = [node for node in found if isinstance(node, Node) and wanted(node)]
    nodes.sort(key=lambda node: (node.spec.hostname, node.name))
    if args.text("format") != "text":
        write_list(nodes, args.text("format"))
        return 0
    rows = [
        (
            node.spec.hostname,
            node.name,
            node.spec.addr or ",".join(node.spec.public_addrs) or "-",
            label_text(all_labels(node)),
            node.spec.version,
        )
        for node in nodes
    ]
    headers = ("Host", "UUID", "Public Address", "Labels", "Version")
    sys.stdout.write(render(headers, rows, width=None if args.on("verbose") else terminal_width()))
    return 0

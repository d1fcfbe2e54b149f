"""`tsh ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.flags import CLUSTER, VERBOSE
from pkgs.clients.tsh.profile.login import Login, alive, current
from pkgs.clients.tsh.servers import nodes
from pkgs.common.output.argv import Flag, Parsed, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.common.resources.kinds import Node

SPEC = Spec(
    "List the servers you may reach, perhaps only those with some labels: tsh ls env=prod,team=web.",
    *nodes.FILTERS,
    Flag("format", "Output format", short="f", default="text", choices=("text", "json", "yaml", "names"),
         metavar="FORMAT"),
    VERBOSE,
    Flag("all", "List every cluster you are logged in to", short="R", is_bool=True),
    CLUSTER,
    usage="[LABELS]",
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Fetch, filter, print."""
    logins = alive() if args.on("all") else [current(args)]
    labels = nodes.parse_labels(args.words[0]) if args.words else {}
    search = nodes.split_commas(args.text("search"))
    wanted = nodes.query_test(args.text("query"))
    found: list[tuple[Login, Node]] = []
    for login in logins:
        found += [(login, node) for node in nodes.fetch(login, labels, search) if wanted(node)]
    if args.text("format") == "names":
        from pkgs.common.output.sanitize import inert

        sys.stdout.writelines(inert(node.spec.hostname) + "\n" for _, node in found)
    elif args.text("format") == "text":
        _table(found, several=args.on("all"), verbose=args.on("verbose"))
    else:
        from pkgs.common.output import resources

        resources.write_list([node for _, node in found], args.text("format"))
    return 0


def _table(found: list[tuple[Login, Node]], *, several: bool, verbose: bool) -> None:
    from pkgs.common.output.table import render, terminal_width

    headers = ["Node Name"]
    if several:
        headers = ["Proxy", "Cluster", *headers]
    if verbose:
        headers.append("Node ID")
    headers += ["Address", "Labels"]
    rows = []
    for login, node in found:
        row = [node.spec.hostname]
        if several:
            row = [login.proxy_addr, login.cluster, *row]
        if verbose:
            row.append(node.metadata.name)
        rows.append([*row, nodes.address(node), nodes.label_text(nodes.all_labels(node))])
    sys.stdout.write(render(headers, rows, width=None if verbose else terminal_width()))

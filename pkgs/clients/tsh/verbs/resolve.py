"""`tsh resolve`."""

from __future__ import annotations

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.flags import CLUSTER, FORMAT
from pkgs.clients.tsh.profile.login import current
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Show the one server that a name, an id, an address or labels (env=prod) mean. Exits with 1 when there is"
    " none, with 2 when there are several.",
    FORMAT,
    Flag("quiet", "Print nothing when there is one", short="q", is_bool=True),
    CLUSTER,
    usage="HOST",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Ask the cluster; the errors say what else there is."""
    login = current(args)
    from pkgs.clients.tsh.servers import nodes, targets

    target = openssh.strip_cluster(login, args.words[0].rpartition("@")[2])
    node = targets.the_one(target, targets.matching(login, target))
    if args.on("quiet"):
        return 0
    if args.text("format") == "text":
        import sys

        from pkgs.common.output.table import render

        labels = nodes.label_text(nodes.all_labels(node))
        row = (node.spec.hostname, node.metadata.name, nodes.address(node), labels)
        sys.stdout.write(render(("Node Name", "Node ID", "Address", "Labels"), [row]))
    else:
        from pkgs.common.output import resources

        resources.write_list([node], args.text("format"))
    return 0

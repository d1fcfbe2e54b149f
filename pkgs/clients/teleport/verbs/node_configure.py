"""`teleport node configure`."""

from __future__ import annotations

from pkgs.clients.teleport.verbs import configure
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Print the configuration of an agent that joins a cluster, by default through the proxy: it then needs no"
    " open port of its own.",
    configure.OUTPUT,
    configure.VERSION_FLAG,
    configure.DATA_DIR,
    configure.TOKEN,
    configure.JOIN_METHOD,
    configure.AUTH_SERVER,
    configure.PROXY,
    Flag("ca-pin", "Pin of the host authority (repeatable)", is_list=True, metavar="PIN"),
    Flag("labels", "Labels of this host", metavar="K=V,..."),
    configure.NODE_NAME,
)


def run(args: Parsed) -> int:
    """Print it."""
    from pkgs.clients.teleport.sample import Wishes
    from pkgs.common.runtime.flags import parse_labels

    wishes = Wishes(
        version=args.text("version"),
        data_dir=args.text("data-dir"),
        node_name=args.text("node-name"),
        node_labels=parse_labels(args.text("labels")),
        roles=frozenset({"node"}),
        auth_server=args.text("auth-server"),
        proxy_server=args.text("proxy"),
        token=args.text("token"),
        ca_pins=tuple(args.texts("ca-pin")),
    )
    return configure.write(args, wishes)

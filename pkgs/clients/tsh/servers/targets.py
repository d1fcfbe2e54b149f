"""Finding the node that labels or an address mean, for `tsh ssh`."""

from __future__ import annotations

from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.servers import nodes
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.table import render

MAX_SHOWN = 20


def node_ids(login: Login, target: str, *, one: bool) -> list[str]:
    """Host ids of the nodes with these labels (`k=v,...`) or at this address. With `one` several are an
    error that lists them."""
    if "=" in target:
        found = nodes.fetch(login, nodes.parse_labels(target), [])
    else:
        host = target.rpartition(":")[0] if target.count(":") == 1 else target
        found = [
            node
            for node in nodes.fetch(login, {}, [host.strip("[]")])
            if target in (node.spec.addr, node.spec.addr.rpartition(":")[0].strip("[]"), node.spec.hostname)
            or target in node.spec.public_addrs
        ]
    if not found:
        raise NotFoundError(f"no server matches {target[:120]!r}", hint="see 'tsh ls'")
    if one and len(found) > 1:
        rows = [(n.spec.hostname, n.metadata.name, nodes.label_text(nodes.all_labels(n))) for n in found]
        listing = render(("Node Name", "Node ID", "Labels"), rows[:MAX_SHOWN])
        raise InputError(
            f"{target[:120]!r} matches {len(found)} servers, a shell needs one:\n{listing.rstrip()}\n"
            "name one by its id: tsh ssh user@<node id>"
        )
    return [node.metadata.name for node in found]

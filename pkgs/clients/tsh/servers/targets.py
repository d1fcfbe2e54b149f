"""Finding the node that labels or an address mean, for `tsh ssh` and `tsh resolve`."""

from __future__ import annotations

from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.servers import nodes
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.table import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.common.resources.kinds import Node

MAX_SHOWN = 20


def matching(login: Login, target: str) -> list[Node]:
    """The nodes with these labels (`k=v,...`), or of this name, id or address. NotFoundError for none."""
    if "=" in target:
        found = nodes.fetch(login, nodes.parse_labels(target), [])
    else:
        host = target.rpartition(":")[0] if target.count(":") == 1 else target
        found = [node for node in nodes.fetch(login, {}, [host.strip("[]")]) if _is_called(node, target)]
    if not found:
        raise NotFoundError(f"no server matches {target[:120]!r}", hint="see 'tsh ls'")
    return found


def the_one(target: str, found: list[Node]) -> Node:
    """The only node found; several are an error that lists them with their ids."""
    if len(found) > 1:
        rows = [(n.spec.hostname, n.metadata.name, nodes.label_text(nodes.all_labels(n))) for n in found]
        listing = render(("Node Name", "Node ID", "Labels"), rows[:MAX_SHOWN])
        raise InputError(
            f"{target[:120]!r} is ambiguous, it matches {len(found)} servers:\n{listing.rstrip()}\n"
            "name one by its id: tsh ssh user@<node id>"
        )
    return found[0]


def _is_called(node: Node, target: str) -> bool:
    spec = node.spec
    names = (node.metadata.name, spec.hostname, spec.addr, spec.addr.rpartition(":")[0].strip("[]"))
    return target in names or target in spec.public_addrs

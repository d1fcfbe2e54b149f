"""The servers a login may see: asked of the cluster, filtered, shown."""

from __future__ import annotations

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.profile.login import Login, current, is_headless
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from collections.abc import Callable

    from pkgs.common.resources.kinds import Node

FILTERS = (
    Flag("search", "Words that must all appear in a name, address or label: foo,bar", metavar="WORDS"),
    Flag("query", 'Predicate, such as labels["env"] == "prod" && name != "db1"', metavar="QUERY"),
)
LIST_DEADLINE_S = 60.0
TUNNEL_MARK = "⟵ Tunnel"


def fetch(login: Login, labels: dict[str, str], search: list[str]) -> list[Node]:
    """All nodes with these labels and words that the login may see, by host name."""
    client = auth_client(login)
    from pkgs.common.api.resources import ListResources
    from pkgs.common.resources.kinds import Node

    request = ListResources(kind="node", labels=labels, search=search)
    found: list[Node] = []
    try:
        for chunk in client.stream(request, deadline_s=LIST_DEADLINE_S):
            found += [resource for resource in chunk.resources if isinstance(resource, Node)]
    finally:
        client.close()
    found.sort(key=lambda node: (node.spec.hostname, node.metadata.name))
    return found


def all_labels(node: Node) -> dict[str, str]:
    """Static labels and the results of command labels."""
    dynamic = {key: label.result for key, label in node.spec.cmd_labels.items()}
    return {**node.metadata.labels, **dynamic}


def parse_labels(text: str) -> dict[str, str]:
    """`k1=v1,k2=v2`; a value may be quoted to hold a comma."""
    labels: dict[str, str] = {}
    for pair in split_commas(text):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{pair[:80]!r} is no label", hint="write key=value[,key2=value2]")
        labels[key.strip()] = value.strip()
    return labels


def split_commas(text: str) -> list[str]:
    """Parts between commas; a comma inside double quotes belongs to its part."""
    parts, part, quoted = [], "", False
    for char in text:
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            parts.append(part)
            part = ""
        else:
            part += char
    return [p for p in (piece.strip() for piece in [*parts, part]) if p]


def query_test(query: str) -> Callable[[Node], bool]:
    """The test that a `--query` stands for; an empty one holds for all. Made before anything is fetched, so
    that a mistake is told at once."""
    if not query:
        return lambda node: True
    from pkgs.common.access.contexts.query import compile_query

    return compile_query(query)


def address(node: Node) -> str:
    """What the table shows as the way to a node."""
    return TUNNEL_MARK if node.spec.use_tunnel or not node.spec.addr else node.spec.addr


def label_text(labels: dict[str, str]) -> str:
    """`a=1,b=2`, sorted."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def offer(args: Parsed, typed: str) -> list[str]:
    """Names for the shell's completion, of servers that the login may see; a login before it stays."""
    if is_headless(args) or args.text("jumphost"):
        return []
    login, at, host = typed.rpartition("@")
    found = fetch(current(args), {}, [host] if host else [])
    return sorted({f"{login}{at}{node.spec.hostname}" for node in found})

"""From what a user typed to the one server that is meant. Pure.

A target is a host id, a host name (also with the cluster's name behind it), a registered address, each with
or without a port, or labels `name=value[,name=value]`. Only registered servers are ever found, and only
those the user may see: a forbidden one reads like one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.net.sockets import split_host_port
from pkgs.common.resources.kinds import NetworkingSpec, Node
from pkgs.proxy import limits

_ANY_PORT = frozenset({0, 22, 3022})
"""Ports that clients put in by themselves: they mean whatever port the server has."""
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Target:
    """What was asked for, taken apart."""

    text: str
    host: str = ""
    port: int = 0
    labels: tuple[tuple[str, str], ...] = ()


def parse_target(text: str, cluster: str) -> Target:
    """Raises InputError for what can't name a server."""
    if not text or len(text) > limits.TARGET_MAX or not text.isprintable():
        raise InputError("the server's name is empty, too long or not printable")
    if "=" in text:
        return Target(text, labels=tuple(_label(part) for part in text.split(",")))
    host, port = split_host_port(text)
    if not host:
        raise InputError(f"{text!r} names no server", hint="give a name, an id, an address or name=value")
    return Target(text, host.removesuffix(f".{cluster}") or host, port)


def _label(part: str) -> tuple[str, str]:
    name, equals, value = part.strip().partition("=")
    if not name or not equals:
        raise InputError(f"{part!r} is not a label", hint="write name=value, several with commas between")
    return name.strip(), value.strip()


def find(target: Target, nodes: Iterable[Node], networking: NetworkingSpec) -> list[Node]:
    """All servers that the target may mean. A host id is exact and ends the search."""
    if target.labels:
        return [node for node in nodes if _has_labels(node, target.labels)]
    same = _same_ignoring_case if networking.case_insensitive_routing else str.__eq__
    found = []
    for node in nodes:
        if node.metadata.name == target.host:
            return [node]
        if _is_named(node, target, same):
            found.append(node)
    return found


def _same_ignoring_case(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _is_named(node: Node, target: Target, same: Callable[[str, str], bool]) -> bool:
    spec = node.spec
    if same(spec.hostname, target.host):
        return spec.use_tunnel or target.port in _ANY_PORT or target.port == _port(spec.addr)
    if not spec.addr and not spec.public_addrs:
        return False
    for addr in (spec.addr, *spec.public_addrs):
        try:
            host, port = split_host_port(addr)
        except InputError:
            continue
        if host and same(host, target.host) and target.port in (*_ANY_PORT, port):
            return True
    return False


def _port(addr: str) -> int:
    try:
        return split_host_port(addr)[1]
    except InputError:
        return 0


def _has_labels(node: Node, labels: tuple[tuple[str, str], ...]) -> bool:
    for name, value in labels:
        dynamic = node.spec.cmd_labels.get(name)
        have = node.metadata.labels.get(name, dynamic.result if dynamic is not None else None)
        if have != value:
            return False
    return True


def choose(target: Target, visible: list[Node], networking: NetworkingSpec, cluster: str) -> Node:
    """The one server of those found and visible. Raises NotFoundError, or InputError listing the matches."""
    if not visible:
        raise NotFoundError(
            f"no server {target.text!r} in cluster {cluster!r}, or you may not connect to it",
            hint="`tsh ls` lists the servers you can reach",
        )
    if len(visible) == 1:
        return visible[0]
    if networking.routing_strategy == "most_recent":
        return max(visible, key=lambda node: (node.metadata.expires or _NEVER, node.metadata.name))
    shown = sorted(visible, key=lambda node: (node.spec.hostname, node.metadata.name))[: limits.MATCHES_SHOWN]
    listed = ", ".join(f"{node.spec.hostname} {node.metadata.name}" for node in shown)
    more = f" and {len(visible) - len(shown)} more" if len(visible) > len(shown) else ""
    raise InputError(
        f"{target.text!r} matches {len(visible)} servers: {listed}{more}",
        hint="use the host id of the one you mean",
    )

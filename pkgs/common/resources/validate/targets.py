"""What applications, databases, Kubernetes clusters and desktops may look like."""

from __future__ import annotations

import base64
import binascii
import re

from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import (
    App,
    Database,
    DatabaseServer,
    DynamicWindowsDesktop,
    HealthCheckConfig,
    KubeCluster,
    Node,
    WindowsDesktop,
)
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.names import valid_host_id, valid_host_name
from pkgs.common.resources.validate import words

_APP_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_DB_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
"""A label of a host name: clients connect to `<name>.db.<anything>`."""
_KUBE_NAME = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)
_PROTOCOL = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
_APP_SCHEMES = ("http", "https", "tcp", "cloud", "mcp+stdio", "mcp+http", "mcp+https", "mcp+sse+http",
                "mcp+sse+https")  # fmt: skip
_MOST_PIXELS = 8192


def check_node(node: Node, where: str) -> None:
    """A server without an agent is described by hand, so that it can be reached and named."""
    if node.sub_kind not in ("", OPENSSH):
        raise InputError(
            f"{where}: sub_kind: found {words.short(node.sub_kind)!r}", hint=f"empty, or {OPENSSH}"
        )
    if node.sub_kind != OPENSSH:
        return
    spec = node.spec
    if not valid_host_name(spec.hostname):
        raise InputError(f"{where}: spec.hostname: not a name of a host")
    words.filled(spec.addr, f"{where}: spec.addr", "for example 10.0.0.9:22")
    words.host_port(spec.addr, f"{where}: spec.addr")
    if spec.use_tunnel or spec.proxy_ids or spec.cmd_labels or spec.public_addrs:
        raise InputError(f"{where}: spec: a server without an agent has a hostname and an addr, no more")


def check_app(app: App, where: str) -> None:
    spec = app.spec
    if not _APP_NAME.fullmatch(app.name):
        raise InputError(
            f"{where}: metadata.name: not fit for a host name", hint="lower case, digits, hyphens"
        )
    if not spec.uri and not spec.cloud and spec.mcp is None:
        raise InputError(f"{where}: spec.uri: missing", hint="for example http://localhost:8080")
    scheme = spec.uri.partition("://")[0]
    if spec.uri and scheme != "mcp+stdio":
        words.url(spec.uri, _APP_SCHEMES, f"{where}: spec.uri")
    if spec.public_addr and ("//" in spec.public_addr or "/" in spec.public_addr):
        raise InputError(f"{where}: spec.public_addr: a host name, without http:// and path")
    if spec.tcp_ports:
        if scheme != "tcp" or spec.uri.rpartition(":")[2].isdecimal():
            raise InputError(f"{where}: spec.tcp_ports: needs a tcp:// address without a port")
        for index, ports in enumerate(spec.tcp_ports):
            at = f"{where}: spec.tcp_ports[{index}]"
            words.between(ports.port, 1, 65535, f"{at}.port")
            if ports.end_port:
                words.between(ports.end_port, ports.port + 1, 65535, f"{at}.end_port")
    if spec.cors is not None:
        words.at_least(spec.cors.max_age, 0, f"{where}: spec.cors.max_age")
    for index, header in enumerate(spec.rewrite.headers if spec.rewrite is not None else ()):
        if not header.name or any(c in header.name + header.value for c in "\r\n\0"):
            raise InputError(f"{where}: spec.rewrite.headers[{index}]: not a header")
    words.commands(spec.dynamic_labels, f"{where}: spec.dynamic_labels")


def check_database(database: Database, where: str) -> None:
    spec = database.spec
    if not _DB_NAME.fullmatch(database.name):
        raise InputError(
            f"{where}: metadata.name: not the name of a database",
            hint="up to 63 letters, digits and hyphens, a letter first",
        )
    if not _PROTOCOL.fullmatch(spec.protocol):
        raise InputError(
            f"{where}: spec.protocol: found {words.short(spec.protocol)!r}", hint="postgres, ..."
        )
    words.filled(spec.uri, f"{where}: spec.uri", "for example db.example:5432")
    if any(c.isspace() or not c.isprintable() for c in spec.uri):
        raise InputError(f"{where}: spec.uri: {words.short(spec.uri)!r} is not an address")
    words.commands(spec.dynamic_labels, f"{where}: spec.dynamic_labels")


def check_database_server(server: DatabaseServer, where: str) -> None:
    """The database inside is as a dynamic one would be, and the agent's own id leads to it."""
    database = server.spec.database
    check_database(database, f"{where}: spec.database")
    if server.name != database.name:
        raise InputError(f"{where}: metadata.name: expected the name of its database")
    if not valid_host_id(server.spec.host_id) or server.sub_kind != server.spec.host_id:
        raise InputError(f"{where}: sub_kind: expected the agent's host id (a UUID)")


def check_kube(cluster: KubeCluster, where: str) -> None:
    if not _KUBE_NAME.fullmatch(cluster.name):
        raise InputError(f"{where}: metadata.name: not the name of a Kubernetes cluster")
    try:
        base64.b64decode(cluster.spec.kubeconfig, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{where}: spec.kubeconfig: not base64") from None
    words.commands(cluster.spec.dynamic_labels, f"{where}: spec.dynamic_labels")


def check_desktop(desktop: WindowsDesktop | DynamicWindowsDesktop, where: str) -> None:
    words.host_port(desktop.spec.addr, f"{where}: spec.addr")
    size = desktop.spec.screen_size
    if size is not None:
        words.between(size.width, 1, _MOST_PIXELS, f"{where}: spec.screen_size.width")
        words.between(size.height, 1, _MOST_PIXELS, f"{where}: spec.screen_size.height")


def check_health(config: HealthCheckConfig, where: str) -> None:
    spec = config.spec
    interval = parse_duration(spec.interval, f"{where}: spec.interval")
    timeout = parse_duration(spec.timeout, f"{where}: spec.timeout")
    if timeout > interval:
        raise InputError(f"{where}: spec.timeout: longer than the interval")
    words.at_least(spec.healthy_threshold, 1, f"{where}: spec.healthy_threshold")
    words.at_least(spec.unhealthy_threshold, 1, f"{where}: spec.unhealthy_threshold")
    words.label_list(spec.match.db_labels, f"{where}: spec.match.db_labels")
    words.label_list(spec.match.kubernetes_labels, f"{where}: spec.match.kubernetes_labels")

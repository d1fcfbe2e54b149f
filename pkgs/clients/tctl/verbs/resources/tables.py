"""Resources as text tables: a few columns that say what a person looks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pkgs.clients.tsh.servers.nodes import all_labels, label_text
from pkgs.common.access.locks import set_fields
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.output import times
from pkgs.common.output.table import render
from pkgs.common.resources.kinds import (
    AuthServer,
    CertAuthority,
    DatabaseServer,
    Lock,
    Node,
    Proxy,
    Resource,
    Token,
    User,
)
from pkgs.common.resources.role import Role

Row = Sequence[str]


def table_of(kind: str, resources: Sequence[Resource], *, width: int | None) -> str:
    """All resources of one kind as a table."""
    headers, row = _COLUMNS.get(kind, (("Name", "Labels", "Description"), _any))
    return render(headers, [row(resource) for resource in resources], width=width)


def _any(resource: Resource) -> Row:
    return (resource.name, label_text(resource.metadata.labels), resource.metadata.description)


def _role(resource: Resource) -> Row:
    assert isinstance(resource, Role)
    allow = resource.spec.allow
    labels = ",".join(f"{key}={value}" for key, value in sorted(allow.node_labels.items()))
    return (resource.name, ",".join(allow.logins), labels, resource.metadata.description)


def _user(resource: Resource) -> Row:
    assert isinstance(resource, User)
    locked = "locked" if resource.spec.status.is_locked else ""
    return (resource.name, ",".join(resource.spec.roles), locked)


def _server(resource: Resource) -> Row:
    assert isinstance(resource, Node | Proxy | AuthServer)
    spec = resource.spec
    labels = label_text(all_labels(resource)) if isinstance(resource, Node) else ""
    address = spec.addr or ",".join(spec.public_addrs) or "-"
    return (spec.hostname, resource.name, address, labels, spec.version)


def _token(resource: Resource) -> Row:
    assert isinstance(resource, Token)
    expires = resource.metadata.expires
    return (
        resource.name,
        ",".join(resource.spec.roles),
        label_text(resource.metadata.labels),
        times.short(expires.timestamp()) if expires else "never",
    )


def _authority(resource: Resource) -> Row:
    assert isinstance(resource, CertAuthority)
    keys = resource.spec.active_keys
    kinds = [name for name, pairs in (("SSH", keys.ssh), ("TLS", keys.tls), ("JWT", keys.jwt)) if pairs]
    return (resource.spec.cluster_name, resource.spec.type, ",".join(kinds), resource.spec.rotation.state)


def _database(resource: Resource) -> Row:
    assert isinstance(resource, DatabaseServer)
    spec = resource.spec
    database = spec.database
    labels = label_text(dict(labels_of(database)))
    health = spec.target_health.status or "unknown"
    return (
        spec.hostname,
        resource.name,
        database.spec.protocol,
        database.spec.uri,
        labels,
        health,
        spec.version,
    )


def _lock(resource: Resource) -> Row:
    assert isinstance(resource, Lock)
    target = resource.spec.target
    fields = {name: getattr(target, name) for name in set_fields(target)}
    expires = resource.spec.expires
    return (
        resource.name,
        label_text(fields),
        resource.spec.message,
        times.short(expires.timestamp()) if expires else "never",
        resource.spec.created_by,
    )


_SERVER = ("Host", "UUID", "Public Address", "Labels", "Version")

_COLUMNS: dict[str, tuple[Sequence[str], Callable[[Resource], Row]]] = {
    "role": (("Role", "Allowed to login as", "Node Labels", "Description"), _role),
    "user": (("User", "Roles", "Status"), _user),
    "node": (_SERVER, _server),
    "proxy": (_SERVER, _server),
    "auth_server": (_SERVER, _server),
    "token": (("Token", "Type", "Labels", "Expiry Time (UTC)"), _token),
    "cert_authority": (("Cluster Name", "CA Type", "Keys", "Rotation"), _authority),
    "db_server": (("Host", "Name", "Protocol", "URI", "Labels", "Health", "Version"), _database),
    "lock": (("ID", "Target", "Message", "Expires", "Created By"), _lock),
}

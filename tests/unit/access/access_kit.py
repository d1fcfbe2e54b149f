"""Roles, people and resources for tests of decisions."""

from __future__ import annotations

from typing import Any

from pkgs.common.access.decide import decide
from pkgs.common.access.types import Decision, Environment, Subject, Target
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import (
    App,
    Database,
    KubeCluster,
    Node,
    RemoteCluster,
    Resource,
    ServerSpec,
    WindowsDesktop,
)
from pkgs.common.resources.kinds.infrastructure import AppSpec, DatabaseSpec, WindowsDesktopSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec

NOW = 1_800_000_000.0
"""A Friday, 08:00 UTC."""
HOST_ID = "11111111-2222-4333-8444-555555555555"
ENV = Environment(now=NOW, source_addr="10.0.0.5")
STAR = {"*": "*"}


def alice(**changes: Any) -> Identity:
    fields: dict[str, Any] = {
        "kind": PeerKind.USER,
        "name": "alice",
        "cluster": "demo",
        "roles": ("r",),
        "traits": {},
        "logins": ("root", "deploy"),
        "expires_at": NOW + 30 * 86400,
    }
    return Identity(**{**fields, **changes})


def role(name: str = "r", allow: Any = None, deny: Any = None, version: str = "v7", **options: Any) -> Role:
    return Role(
        metadata=Metadata(name=name),
        version=version,
        spec=RoleSpec(
            options=RoleOptions(**options),
            allow=Conditions(**(allow or {})),
            deny=Conditions(**(deny or {})),
        ),
    )


def role_text(spec: str, name: str = "r", version: str = "v7") -> Role:
    """A role as a person writes it."""
    (found,) = load_documents(f"kind: role\nversion: {version}\nmetadata: {{name: {name}}}\nspec: {spec}")
    assert isinstance(found, Role)
    return found


def named(labels: dict[str, str] | None, name: str) -> Metadata:
    return Metadata(name=name, labels=labels or {})


def server(labels: dict[str, str] | None = None) -> Node:
    return Node(metadata=named(labels, HOST_ID), spec=ServerSpec(hostname="web1"))


def database(labels: dict[str, str] | None = None, protocol: str = "postgres") -> Database:
    return Database(metadata=named(labels, "orders"), spec=DatabaseSpec(protocol=protocol, uri="db:5432"))


def app(labels: dict[str, str] | None = None) -> App:
    return App(metadata=named(labels, "wiki"), spec=AppSpec(uri="http://127.0.0.1:1"))


def kube(labels: dict[str, str] | None = None) -> KubeCluster:
    return KubeCluster(metadata=named(labels, "prod"))


def desktop(labels: dict[str, str] | None = None) -> WindowsDesktop:
    return WindowsDesktop(metadata=named(labels, "win1"), spec=WindowsDesktopSpec(addr="win1:3389"))


def leaf(labels: dict[str, str] | None = None) -> RemoteCluster:
    return RemoteCluster(metadata=named(labels, "leaf"))


EVERY: dict[str, Resource] = {
    "node": server(),
    "db": database(),
    "app": app(),
    "kube_cluster": kube(),
    "windows_desktop": desktop(),
    "remote_cluster": leaf({"a": "b"}),
}


def ask(roles: list[Role], target: Target, env: Environment = ENV, **changes: Any) -> Decision:
    return decide(Subject(alice(**changes), tuple(roles)), target, env)

"""Certificates for one database: what `decide` lets them do, and with which names."""

from __future__ import annotations

from typing import Any

import pytest

from pkgs.common.access.decide import decide
from pkgs.common.access.types import (
    ConnectApp,
    ConnectDatabase,
    Environment,
    See,
    SshLogin,
    Subject,
    Target,
    UseKube,
    UseRule,
)
from pkgs.common.pki.identity import RouteToDatabase
from pkgs.common.resources.kinds import (
    App,
    Database,
    DatabaseServer,
    DatabaseServerSpec,
    DatabaseSpec,
    KubeCluster,
    Node,
    ServerSpec,
)
from pkgs.common.resources.kinds.infrastructure import AppSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Rule
from tests.unit.access.test_access_decide import HOST_ID, NOW, identity, role

ENV = Environment(now=NOW, source_addr="10.0.0.5")
ALL = {"*": "*"}
EVERYTHING = role(
    "r",
    {
        "node_labels": ALL,
        "db_labels": ALL,
        "app_labels": ALL,
        "kubernetes_labels": ALL,
        "logins": ["root"],
        "db_users": ["alice", "*"],
        "db_names": ["*"],
        "kubernetes_groups": ["admins"],
        "rules": [Rule(resources=["*"], verbs=["*"])],
    },
)


def database(name: str = "orders", protocol: str = "postgres") -> Database:
    return Database(metadata=Metadata(name=name), spec=DatabaseSpec(protocol=protocol, uri="db:1"))


ROUTE = RouteToDatabase(service="orders", protocol="postgres", user="alice")
SERVER = DatabaseServer(
    metadata=Metadata(name="orders"),
    sub_kind=HOST_ID,
    spec=DatabaseServerSpec(host_id=HOST_ID, database=database()),
)
NODE = Node(metadata=Metadata(name=HOST_ID), spec=ServerSpec(hostname="n"))
ELSEWHERE: list[Target] = [
    SshLogin(NODE, "root"),
    See(NODE),
    See(SERVER),
    See(database()),
    ConnectApp(App(metadata=Metadata(name="orders"), spec=AppSpec(uri="http://x"))),
    UseKube(KubeCluster(metadata=Metadata(name="orders")), groups=("admins",)),
    UseRule("role", "list"),
    UseRule("db", "read"),
    ConnectDatabase(database("other"), "alice", "app"),
    ConnectDatabase(database("Orders"), "alice", "app"),
    ConnectDatabase(database("orders", "mysql"), "alice", "app"),
]


@pytest.mark.parametrize("target", ELSEWHERE, ids=lambda target: type(target).__name__)
def test_a22_a_certificate_for_one_database_opens_nothing_else(target: Target) -> None:
    routed = decide(Subject(identity(route_to_database=ROUTE), [EVERYTHING]), target, ENV)
    assert not routed
    assert routed.reasons == ("the certificate is for one database only",)
    if target.__class__ is not ConnectDatabase:
        assert decide(Subject(identity(), [EVERYTHING]), target, ENV)


def test_it_opens_its_own_as_far_as_the_roles_go() -> None:
    subject = Subject(identity(route_to_database=ROUTE), [EVERYTHING])
    assert decide(subject, ConnectDatabase(database(), "alice", "app"), ENV)
    nobody = Subject(identity(route_to_database=ROUTE), [role("r", {"node_labels": ALL})])
    assert not decide(nobody, ConnectDatabase(database(), "alice", "app"), ENV)


USERS = [
    ("root", True),
    ("Root", False),
    ("ROOT", False),
    ("root ", False),
    (" root", False),
    ('"root"', False),
    ("root\0", False),
    ("ro\u00f6t", False),
    ("\uff52oot", False),
    ("root;drop", False),
    ("", False),
]


@pytest.mark.parametrize(("user", "allowed"), USERS)
def test_a26_names_are_compared_letter_by_letter(user: str, allowed: bool) -> None:
    roles = [role("r", {"db_labels": ALL, "db_users": ["root"], "db_names": ["app"]})]
    subject: Any = Subject(identity(route_to_database=ROUTE), roles)
    assert bool(decide(subject, ConnectDatabase(database(), user, "app"), ENV)) is allowed
    if user != "root":
        return
    for name in ("App", "app ", "app host=evil sslmode=disable", "app\0", "", "postgres"):
        assert not decide(subject, ConnectDatabase(database(), user, name), ENV)

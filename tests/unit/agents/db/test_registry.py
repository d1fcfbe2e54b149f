"""Which databases an agent serves, by whom they are announced healthy, and where they are."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pkgs.agents.db import limits
from pkgs.agents.db.upstream.health import Plan, _State, plan_for
from pkgs.agents.db.upstream.registry import Registry, address_of
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import CommandLabel, Database, DatabaseSpec, HealthCheckConfig
from pkgs.common.resources.kinds.infrastructure import HealthCheckSpec, HealthMatch
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import LabelValues
from pkgs.common.runtime.config import parse_config


def database(name: str = "orders", uri: str = "db:1", protocol: str = "postgres", **labels: str) -> Database:
    return Database(
        metadata=Metadata(name=name, labels=labels), spec=DatabaseSpec(protocol=protocol, uri=uri)
    )


@pytest.mark.parametrize(
    ("uri", "protocol", "found"),
    [
        ("db.example:5433", "postgres", ("db.example", 5433)),
        ("db.example", "postgres", ("db.example", 5432)),
        ("postgres://db.example:5433/app?x=y", "postgres", ("db.example", 5433)),
        ("postgres://user:pw@db.example/app", "postgres", ("db.example", 5432)),
        ("rediss://db.example?mode=cluster", "redis", ("db.example", 6379)),
        ("[::1]:5432", "postgres", ("::1", 5432)),
        ("[::1]", "mysql", ("::1", 3306)),
        ("10.0.0.9:1", "echo", ("10.0.0.9", 1)),
    ],
)
def test_where_a_database_is(uri: str, protocol: str, found: tuple[str, int]) -> None:
    assert address_of(database(uri=uri, protocol=protocol)) == found


@pytest.mark.parametrize(
    "uri", ["", ":5432", "db:0", "db:70000", "db:x", "://", "db:\u0664\u0665", "db:1:1x"]
)
def test_what_is_no_address(uri: str) -> None:
    with pytest.raises(InputError):
        address_of(database(uri=uri))


@example("[")
@pytest.mark.fuzz
@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(uri: str) -> None:
    try:
        host, port = address_of(database(uri=uri))
    except InputError:
        return
    assert host and 0 < port < 65536


class Cluster:
    def __init__(self) -> None:
        self.databases: list[Database] = []

    def resources(self, kind: str) -> list[Database]:
        assert kind == "db"
        return self.databases


FILE = """
version: v3
teleport: {proxy_server: "p:1"}
auth_service: {enabled: no}
proxy_service: {enabled: no}
ssh_service: {enabled: no}
db_service:
  enabled: yes
  databases:
  - {name: orders, protocol: postgres, uri: "db:5432", static_labels: {env: prod}}
  - {name: odd, protocol: gopher, uri: "db:70"}
  resources:
  - labels: {env: [dev, test]}
"""


def test_those_of_the_file_and_those_that_labels_select() -> None:
    cluster, changes = Cluster(), []
    section = parse_config(FILE).db_service
    registry = Registry(
        section,
        {"postgres"},
        cluster,
        lambda: changes.append(1),
        logging.getLogger("test"),  # type: ignore[arg-type]
    )
    registry.changed("")
    assert set(registry.all) == {"orders"}
    command = {"who": CommandLabel(command=["id"])}
    chosen = database("dyn", env="dev")
    spec = msgspec.structs.replace(chosen.spec, dynamic_labels=command)
    chosen = msgspec.structs.replace(chosen, spec=spec)
    cluster.databases = [
        chosen,
        database("other", env="prod"),
        database("none"),
        database("orders", uri="evil:1", env="dev"),
        database("spoken", protocol="gopher", env="dev"),
    ]
    registry.changed("role")
    assert set(registry.all) == {"orders"}
    registry.changed("db")
    assert set(registry.all) == {"orders", "dyn"}
    # The file's own stays what it is, and nothing of the cluster runs commands here.
    assert registry.all["orders"].spec.uri == "db:5432"
    assert registry.all["dyn"].spec.dynamic_labels == {}
    before = len(changes)
    registry.changed("db")
    assert len(changes) == before
    cluster.databases = []
    registry.changed("db")
    assert set(registry.all) == {"orders"}


def test_health_changes_after_enough_answers() -> None:
    state = _State()
    told: list[Any] = []
    for problem in ("", "", "down", "", "", ""):
        if state.take(problem, Plan()):
            told.append(state.shown.status)
    assert told == ["healthy", "unhealthy", "healthy"]
    assert (limits.HEALTHY_AFTER, limits.UNHEALTHY_AFTER) == (2, 1)


def test_a_configuration_of_the_cluster_says_how_health_is_looked_after() -> None:
    def config(name: str, interval: str = "1m", **match: Any) -> HealthCheckConfig:
        spec = HealthCheckSpec(match=HealthMatch(**match), interval=interval, unhealthy_threshold=3)
        return HealthCheckConfig(metadata=Metadata(name=name), spec=spec)

    prod = config("b", db_labels=[LabelValues(name="env", values=["prod"])])
    dev = config("c", "2m", db_labels_expression='labels["env"] == "dev"')
    off = config("d", db_labels=[LabelValues(name="env", values=["off"])], disabled=True)
    broken = config("a", db_labels_expression="labels[")
    every = [off, dev, prod, broken, config("e")]
    assert plan_for(database(env="prod"), every) == Plan(60.0, 5.0, 2, 3)
    assert plan_for(database(env="dev"), every).every_s == 120.0
    assert plan_for(database(env="off"), every).off
    assert plan_for(database(env="test"), every) == Plan()


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ("{name: 1a, protocol: postgres, uri: 'db:1'}", "db_service.databases[0]"),
        ("{name: a, protocol: 'a b', uri: 'db:1'}", "db_service.databases[0]"),
        ("{name: a, protocol: postgres, uri: ''}", "db_service.databases[0]"),
        ("{name: a, protocol: postgres, uri: 'db:1', aws: {region: x}}", "db_service.databases[0].aws"),
        ("{name: a, protocol: postgres, uri: 'db:1', tls: {ca_cert_file: x.pem}}", "tls.ca_cert_file"),
        (
            "{name: a, protocol: postgres, uri: 'db:1', dynamic_labels: [{name: x, command: []}]}",
            "dynamic_labels[0]",
        ),
        (
            "{name: a, protocol: postgres, uri: 'db:1', tls: {mode: maybe}}",
            "db_service.databases[0].tls.mode",
        ),
        ("{name: a, protocol: postgres, uri: 'db:1', labels: {}}", "db_service.databases[0].labels"),
        ("{name: a, protocol: p, uri: 'd:1'}\n  - {name: a, protocol: p, uri: 'd:1'}", "databases[1].name"),
    ],
)
def test_what_a_file_may_not_say_is_told_with_its_place(entry: str, where: str) -> None:
    head, _, _ = FILE.partition("  - {name: orders")
    with pytest.raises(InputError) as caught:
        parse_config(f"{head}  - {entry}\n")
    assert where in str(caught.value)

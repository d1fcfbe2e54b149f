"""curl through the engine, against a real ClickHouse that takes certificates only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from pkgs.agents.db.clickhouse.engine import ClickhouseEngine
from pkgs.agents.db.engine import Failed, Statement
from tests.integration.db_kit import Policy, serving
from tests.integration.db_servers import Server, clickhouse

pytestmark = pytest.mark.needs("clickhouse-server", "curl")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with clickhouse(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture
def service(server: Server) -> Iterator[tuple[int, Policy]]:
    with serving(ClickhouseEngine(), server.uri, users=frozenset(("alice", "bill"))) as running:
        yield running


def curl(port: int, *arguments: str, path: str = "/", said: bytes = b"") -> bytes:
    command = ("curl", "-sS", *arguments, f"http://127.0.0.1:{port}{path}")
    return subprocess.run(command, input=said, capture_output=True, timeout=60, check=True).stdout


def test_statements_run_as_the_user_of_the_decision(service: tuple[int, Policy]) -> None:
    port, policy = service
    whoami = "select user from system.processes"
    assert curl(port, "-d", whoami) == b"alice\n"
    assert curl(port, "-u", "bill:ignored", "-d", whoami) == b"bill\n"
    assert curl(port, "-d", whoami, path="/?user=bill&password=ignored") == b"bill\n"
    assert b"Code: 516" in curl(port, "-u", "mallory:x", "-d", whoami)
    policy.settle()
    assert [asked.user for asked in policy.asked] == ["", "bill", "bill", "mallory"]
    assert policy.facts == [Statement(whoami)] * 3


def test_large_bodies_both_ways_and_errors(service: tuple[int, Policy]) -> None:
    port, policy = service
    curl(port, "-d", "create table numbers (n UInt32) engine = Memory")
    values = b"".join(b"%d\n" % number for number in range(500_000))
    curl(port, "--data-binary", "@-", path="/?query=insert%20into%20numbers%20format%20TSV", said=values)
    assert curl(port, "-d", "select n from numbers order by n") == values
    # Several requests in one connection: one session.
    begun = policy.begun
    two = curl(port, f"http://127.0.0.1:{port}/?query=select%201", path="/?query=selec")
    assert two.startswith(b"1\nCode: 62")
    assert policy.begun == begun + 1
    policy.settle()
    inserted = next(fact for fact in policy.facts if isinstance(fact, Statement) and "insert" in fact.text)
    assert inserted.cut
    assert isinstance(policy.facts[-1], Failed)
    assert policy.facts[-1].code == "62"

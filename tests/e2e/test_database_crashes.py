"""A killed agent leaves no users behind at the server: kill -9 at several points, and then the next start."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.harness.cluster import BIN, Cluster, Person
from tests.harness.databases import certificate, write_config
from tests.harness.wait import wait_for
from tests.integration.db_users_kit import ADMIN, pg_setup, pg_state
from tests.integration.postgres_kit import Server, postgres

pytestmark = pytest.mark.needs("psql")
ROLES = """
kind: role
version: v7
metadata: {name: dropped}
spec:
  options: {create_db_user_mode: best_effort_drop}
  allow:
    db_labels: {env: prod}
    db_names: [shop]
    db_permissions: [{match: {name: customers}, permissions: [SELECT]}]
---
kind: role
version: v7
metadata: {name: kept}
spec:
  options: {create_db_user_mode: keep}
  allow: {db_labels: {env: prod}, db_names: [shop], db_roles: [reader]}
"""
PEOPLE = (("ann", "dropped"), ("bob", "dropped"), ("kim", "kept"))
ACTIVE = 't|"teleport-auto-user"'
LOCKED = 'f|"teleport-auto-user"'


@dataclass
class Gate:
    """Between the agent and the server: it can be shut, and hold connections as they come."""

    server: Server
    shut: bool = False
    holds: Callable[[], bool] = lambda: False
    held: int = 0
    _open: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self._open.append(client)
                if self.shut:
                    client.close()
                elif self.holds():
                    self.held += 1
                else:
                    server = socket.create_connection(("127.0.0.1", self.server.port))
                    self._open.append(server)
                    for pair in ((client, server), (server, client)):
                        thread = threading.Thread(target=_copy, args=pair, daemon=True)
                        self._threads.append(thread)
                        thread.start()

    def cut(self) -> None:
        """Every connection there is."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._threads[0].join(20)
        self.cut()
        for thread in self._threads:
            thread.join(20)


def _copy(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)


@dataclass
class World:
    cluster: Cluster
    server: Server
    gate: Gate
    config: Path
    ann: Person
    bob: Person
    kim: Person

    def state(self, person: Person) -> str:
        return pg_state(self.server, person.name)

    def is_in_state(self, person: Person, wanted: str) -> bool:
        return self.state(person) == wanted

    @contextlib.contextmanager
    def session(self, person: Person, database: str) -> Iterator[None]:
        """Somebody's psql, who then says nothing."""
        argv = (BIN / "tsh", "db", "connect", database, "--db-name=shop")
        process = subprocess.Popen(
            argv, env=person.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.terminate()
            process.wait(30)

    def serves(self, database: str) -> bool:
        asked = ("db", "connect", database, "--db-name=shop", "--execute=select 1")
        return self.kim.tsh(*asked).code == 0

    def in_use(self, person: Person) -> None:
        sql = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{person.name}'"
        wait_for(lambda: self.server.admin(sql, "postgres").strip() == "1", what=f"{person.name}'s session")

    def listed(self) -> set[str]:
        return {server["metadata"]["name"] for server in self.cluster.get("db_server")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster.running(services=("auth", "proxy")))
        server = stack.enter_context(postgres(files=certificate(cluster, "postgres")))
        server.admin(pg_setup() + f'GRANT alice TO "{ADMIN}";', "postgres")
        gate = Gate(server)
        stack.callback(gate.close)
        entry = {"protocol": "postgres", "uri": f"127.0.0.1:{gate.port}", "admin_user": {"name": ADMIN}}
        labels = {"env": "prod", "kind": "dynamic"}
        static = {**entry, "name": "pg1", "static_labels": {"env": "prod"}}
        config = write_config(cluster, static, resources=[{"labels": {"kind": "dynamic"}}])
        cluster.tctl("create", stdin=ROLES).ok()
        dynamic = {"kind": "db", "metadata": {"name": "pg2", "labels": labels}, "spec": entry}
        cluster.tctl("create", stdin=yaml.safe_dump(dynamic)).ok()
        people = [cluster.login(name, role) for name, role in PEOPLE]
        yield World(cluster, server, gate, config, *people)


def test_whatever_a_killed_agent_was_at(world: World) -> None:
    """Sessions are open, one is between the making of its user and its login; the server is down when the
    agent starts again, and one of the databases has left the cluster."""
    agent = world.cluster.daemon("db", BIN / "teleport-db", "-c", world.config)
    try:
        wait_for(lambda: world.serves("pg1") and world.serves("pg2"), what="the agent", deadline_s=60)
        with contextlib.ExitStack() as sessions:
            sessions.enter_context(world.session(world.ann, "pg1"))
            sessions.enter_context(world.session(world.kim, "pg2"))
            world.in_use(world.ann)
            world.in_use(world.kim)
            world.gate.holds = lambda: world.state(world.bob) != ""
            sessions.enter_context(world.session(world.bob, "pg1"))
            wait_for(lambda: world.gate.held, what="bob's login to begin", deadline_s=40)
            agent.kill()
        world.gate.holds, world.gate.shut = lambda: False, True
        world.gate.cut()
        world.cluster.tctl("rm", "db/pg2").ok()
        agent.start()
        for name in ("ann", "kim", "bob"):
            world.cluster.wait_event("db.session.user.deactivate", code="TDB09W", username=name)
        assert (world.state(world.ann), world.state(world.kim)) == (ACTIVE, f"{ACTIVE} reader")
        assert world.state(world.bob) == ACTIVE
        world.gate.shut = False
        for person, left in ((world.ann, ""), (world.bob, ""), (world.kim, LOCKED)):
            wait_for(partial(world.is_in_state, person, left), what=f"{person.name}'s end", deadline_s=90)
        world.cluster.wait_event("db.session.user.deactivate", code="TDB09I", username="ann", delete=True)
        wait_for(lambda: world.listed() == {"pg1"}, what="pg2 to be forgotten", every_s=0.3, deadline_s=60)
    finally:
        agent.stop()

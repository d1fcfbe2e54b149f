"""A Database Service before real servers of each protocol, joined to an Auth Service; local ports to it like
those of `tsh proxy db --tunnel`, for the real clients. All of it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from pkgs.agents.db.engines import built_in
from pkgs.common.api.resources import DeleteResource, PutResource
from pkgs.common.dbwire.mysql import handshake
from pkgs.common.dbwire.mysql.flags import OFFERED
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.dbwire.postgres.startup import VERSION_3_0, Startup
from pkgs.common.dbwire.redis.build import request
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import adopt
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from tests.harness.wait import wait_for
from tests.integration import db_servers, postgres_kit
from tests.integration.auth_kit import Kit, User, auth, events, role
from tests.integration.databases_kit import DatabaseKit, database, databases, server_files, until

T = TypeVar("T")
STATIC = "  - {{name: {name}, protocol: {name}, uri: '127.0.0.1:{port}', static_labels: {{env: prod}}}}"
DYNAMIC = "  resources: [{labels: {env: dynamic}}]"
EVERYTHING = Conditions(db_labels={"*": "*"}, db_users=["alice"], db_names=["*"])


@dataclass
class Site:
    kit: Kit
    db: DatabaseKit
    pg: postgres_kit.Server
    maria: db_servers.Server
    redis: db_servers.Server
    files: dict[str, str]
    """Of a database server: what `tctl auth sign` writes."""
    user: User
    seen: set[str] = field(default_factory=set)
    """Ids of sessions."""
    tunnels: list[asyncio.Task[None]] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def do(self, what: Coroutine[Any, Any, T], deadline_s: float = 60.0) -> T:
        """On the site's loop, from a test."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(deadline_s)

    def add(self, name: str, protocol: str, port: int, host: str = "127.0.0.1") -> None:
        """One more database, or one that is elsewhere now."""

        async def added() -> None:
            resource = database(name, f"{host}:{port}", protocol, env="dynamic")
            await self.kit.admin.call(PutResource(resource=resource, mode="upsert"))
            await until(
                lambda: (
                    (known := self.db.service._registry.get(name)) is not None
                    and known.spec.uri.endswith(f":{port}")
                ),
                "the database",
            )
            await self.db.service._member.heartbeat_now()

        self.do(added())

    def remove(self, name: str) -> None:
        self.do(self.kit.admin.call(DeleteResource(kind="db", name=name)))

    @contextlib.contextmanager
    def port(self, name: str, protocol: str = "", at: str = "", *, beside: bool = False) -> Iterator[int]:
        """A local port to the database, with a certificate for it; `at`: to another, with the same; `beside`:
        while other sessions go on."""
        if not beside:
            # Sessions before this one have told everything, and are none of this port's.
            wait_for(lambda: not self.db.service._connections, what="the agent to be idle")
            assert self.do(self.db.service._member.emitter.flush(30.0))
            self.seen |= {str(end["sid"]) for end in self._ends(name)}
        certs, key = self.do(self.db.certs(self.user, name, protocol=protocol or name))

        async def tunnel(sock: socket.socket) -> None:
            agent = await self.db.dial(certs.tls_cert, key, at or name)
            await relay(await adopt(sock), agent)

        async def serve(listener: socket.socket) -> None:
            listener.setblocking(False)
            while True:
                sock, _ = await self.loop.sock_accept(listener)
                self.tunnels.append(asyncio.create_task(tunnel(sock)))

        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.run_coroutine_threadsafe(serve(listener), self.loop)
            try:
                yield listener.getsockname()[1]
            finally:
                serving.cancel()

    def end_of(self, name: str, count: int = 1) -> dict[str, object]:
        """Of a session with the database since the port was opened, when there are so many; the agent has
        nothing left of them."""
        wait_for(lambda: len(self._ends(name)) >= count, what=f"the end of the session with {name}")
        wait_for(lambda: not self.db.service._connections, what="the agent to be idle")
        return self._ends(name)[0]

    def _ends(self, name: str) -> list[dict[str, object]]:
        """Not seen before."""
        ends = [end for end in self.events("db.session.end") if end["db_service"] == name]
        return [end for end in ends if end["sid"] not in self.seen]

    def events(self, kind: str) -> list[dict[str, object]]:
        return self.do(events(self.kit, kind))

    def lock(self, user: str) -> None:
        spec = LockSpec(target=LockTarget(user=user), message="gone home")
        self.do(
            self.kit.admin.call(PutResource(resource=Lock(metadata=Metadata(name=f"of-{user}"), spec=spec)))
        )


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    made: list[Site] = []
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        with contextlib.ExitStack() as servers:
            async with auth(folder / "auth") as kit:
                files = await server_files(kit)
                for name in ("maria", "redis"):
                    (folder / name).mkdir()
                pg = servers.enter_context(postgres_kit.postgres(files=files))
                maria = servers.enter_context(db_servers.mariadb(folder / "maria", files))
                redis = servers.enter_context(db_servers.redis(folder / "redis", files))
                ports = {"postgres": pg.port, "mysql": maria.port, "redis": redis.port}
                more = [STATIC.format(name=name, port=port) for name, port in ports.items()]
                async with databases(
                    kit, folder / "db", more="\n".join((*more, DYNAMIC)), engines=built_in()
                ) as db:
                    await kit.admin.call(PutResource(resource=role("all", EVERYTHING)))
                    made.append(Site(kit, db, pg, maria, redis, files, await kit.user("ann", "all")))
                    ready.set()
                    await asyncio.to_thread(stop.wait)
                    for task in made[0].tunnels:
                        task.cancel()
                    await asyncio.gather(*made[0].tunnels, return_exceptions=True)

    def run() -> None:
        try:
            uvloop.run(main())
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="site")
    thread.start()
    try:
        assert ready.wait(120)
        assert made, "the site did not start"
        yield made[0]
    finally:
        stop.set()
        thread.join(120)


def psql(port: int, *args: str, user: str = "alice") -> tuple[str, ...]:
    """The command."""
    return ("psql", "-XAt", f"host=127.0.0.1 port={port} user={user} dbname=shop sslmode=disable", *args)


def mariadb(port: int, *args: str, user: str = "alice") -> tuple[str, ...]:
    return ("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", f"-u{user}", "-N", *args)


def redis_cli(port: int, *args: str, user: str = "alice") -> tuple[str, ...]:
    login = ("--user", user, "--pass", "ignored", "--no-auth-warning")
    return ("redis-cli", "-h", "127.0.0.1", "-p", str(port), *login, *args)


def ask(protocol: str, port: int, user: str = "alice") -> subprocess.CompletedProcess[str]:
    """A question by the real client."""
    command = {
        "postgres": psql(port, "-c", "select 1", user=user),
        "mysql": mariadb(port, "-e", "select 1", user=user),
        "redis": redis_cli(port, "get", "a", user=user),
    }[protocol]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


LOGINS = {
    "postgres": Startup(VERSION_3_0, ((b"user", b"alice"), (b"database", b"shop"))).encode(),
    "mysql": frame(
        1,
        handshake.response(handshake.Response(OFFERED, "alice", b"x", "shop", "p")),
    ),
    "redis": request(b"AUTH", b"alice", b"x"),
}


def entered(protocol: str, port: int) -> socket.socket:
    """A connection of our own bytes, after its login."""
    client = socket.create_connection(("127.0.0.1", port), 60)
    if protocol == "mysql":
        client.recv(4096)
    client.sendall(LOGINS[protocol])
    got = b""
    ready = {"postgres": b"Z\0\0\0\5I", "mysql": b"", "redis": b"+OK\r\n"}[protocol]
    while not got or not got.endswith(ready):
        got += client.recv(4096)
    return client

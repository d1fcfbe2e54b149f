"""The Database Service: who gets in and as whom, what is recorded, what ends a session, what it announces."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
import uuid
from pathlib import Path

import msgspec
import pytest

from pkgs.agents.db import limits
from pkgs.agents.db.engine import HEALTH_USER
from pkgs.common.api.access import ExplainAccess, Somebody
from pkgs.common.api.databases import AnnounceDatabases, SignDatabaseCert
from pkgs.common.api.requests import SearchRequestable
from pkgs.common.api.resources import CreateToken, DeleteResource, GetResource, PutResource
from pkgs.common.api.semaphores import AcquireDatabaseLease, HeldLease, RenewLeases
from pkgs.common.errors import AccessError, DeniedError, NotFoundError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_tls_key
from pkgs.common.recording.model import Output
from pkgs.common.recording.reader import read_items
from pkgs.common.resources.kinds import (
    DatabaseServer,
    DatabaseService,
    Lock,
    LockSpec,
    LockTarget,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, DbConditions, RequestConditions, Role, RoleSpec, Rule
from tests.harness.ports import free_port
from tests.integration.auth_kit import Kit, auth, downloaded, events, listed, recordings, role, run
from tests.integration.databases_kit import DBA, database, databases, line, until


async def told(kit: Kit, kind: str, count: int) -> list[dict[str, object]]:
    """So many events, once they have arrived."""

    async def arrived() -> bool:
        return len(await events(kit, kind)) >= count

    await until(arrived, f"{count} events {kind}")
    return await events(kit, kind)


DYNAMIC = "  resources: [{labels: {env: dynamic}}]"


def test_a_session_from_the_greeting_to_its_record(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            ann = await kit.user("ann", "dba")
            stream = await db.open(ann)
            assert await line(stream) == "ok"
            stream.write(b"select 1\n")
            assert await line(stream) == "alice select 1"
            monkeypatch.setattr(limits, "CONNECTIONS_OF_USER", 1)
            assert await line(await db.open(ann)) == "error you have 1 connections to databases of this agent"
            stream.write(b"\x1b[2J\n")
            assert await line(stream) == "alice \x1b[2J"
            await stream.close()

            async def recorded() -> bool:
                return bool(await recordings(kit.admin) and await events(kit, "db.session.end"))

            await until(recorded, "the recording and the events to arrive")
            start, refused = await events(kit, "db.session.start")
            assert (refused["code"], refused["error"]) == ("TDB00W", "too many connections of one user")
            fields = ("code", "user", "db_user", "db_name", "db_service")
            assert [start[name] for name in fields] == ["TDB00I", "ann", "alice", "app", "orders"]
            assert start["db_labels"] == {"env": "prod"}
            assert start["client_metadata"] == {"user_agent": "echo client"}
            queries = [event["db_query"] for event in await events(kit, "db.session.query")]
            assert queries == ["select 1", "\x1b[2J"]
            (end,) = await events(kit, "db.session.end")
            assert (end["sid"], end["participants"], end["rx"] > 0) == (start["sid"], ["ann"], True)
            (info,) = await recordings(kit.as_user(ann))
            assert (info.kind, info.hostname, info.login) == ("db", "orders", "alice")
            raw = await downloaded(kit.as_user(ann), info.session_id)
            shown = b"".join(i.data for i in read_items(io.BytesIO(raw)) if isinstance(i, Output))
            # What a client wrote moves no terminal when it is played.
            assert shown == b"> select 1\r\n  1 row\r\n> \\x1b[2J\r\n  1 row\r\n"
            made = await events(kit, "cert.create")
            routed = [event["route_to_database"] for event in made if "route_to_database" in event]
            asked = [route for route in routed if route["username"] != HEALTH_USER]
            assert [route["service_name"] for route in asked] == ["orders"] * 3

    run(main)


def test_who_does_not_get_in(short_tmp: Path) -> None:
    """Attack A26, and names of other databases: with the same words whether they exist or not."""

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db", more=DYNAMIC) as db:
            ann = await kit.user("ann", "dba")
            await kit.admin.call(PutResource(resource=database("secret", env="dynamic")))
            await until(lambda: db.service._registry.get("secret") is not None, "the dynamic database")
            certs, key = await db.certs(ann)
            for hello in ("hello Alice app", 'hello "alice" app', "hello root app", "hello alice\t app"):
                stream = await db.dial(certs.tls_cert, key)
                stream.write(hello.encode() + b"\n")
                assert await line(stream) == "error access to database orders denied"
                assert await line(stream) == ""
            # With the certificate for one database at the name of another, there or not (SNI).
            answers = set()
            for name in ("secret", "nothing"):
                stream = await db.dial(certs.tls_cert, key, name)
                stream.write(b"hello alice app\n")
                answers.add((await line(stream)).replace(name, "?"))
            assert answers == {"error access to database ? denied"}
            # With a certificate that is for no database, and with none of the cluster's at all.
            assert ann.certs is not None
            stream = await db.dial(ann.certs.tls_cert, ann.tls_key.private_pem)
            stream.write(b"hello alice app\n")
            assert await line(stream) == ""
            for service in ("secret", "nothing"):
                with pytest.raises(NotFoundError, match=r"no database '.*', or you may not use it"):
                    await db.certs(ann, service)
            failed = await told(kit, "db.session.start", 6)
            assert {event["code"] for event in failed} == {"TDB00W"}
            assert [e["db_service"] for e in failed][-2:] == ["secret", "nothing"]
            assert set(db.server.users) <= {HEALTH_USER}

    run(main)


def test_what_ends_a_session(short_tmp: Path) -> None:
    """Attack A14: a lock, a role that changed, labels that changed, each told in the protocol's own shape."""

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db", more=DYNAMIC) as db:
            ann = await kit.user("ann", "dba")
            bob = await kit.user("bob", "dba")

            async def opened(user, name="orders"):  # type: ignore[no-untyped-def]
                stream = await db.open(user, name=name)
                assert await line(stream) == "ok"
                return stream

            stream = await opened(ann)
            stream.write(b"a fault of ours\n")
            assert await line(stream) == "error internal error"
            assert await line(stream) == ""
            stream = await opened(ann)
            lock = Lock(
                metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="ann"), message="gone home")
            )
            await kit.admin.call(PutResource(resource=lock))
            assert "gone home" in await line(stream)
            assert await line(stream) == ""
            stream = await opened(bob)
            # What the session may do; a session that begins now would be held to it, where that is possible.
            held = DbConditions(read_only=True, rows_max=9)
            await kit.admin.call(
                PutResource(resource=role("dba", msgspec.structs.replace(DBA, db=held)), mode="upsert")
            )
            assert await line(stream) == (
                "error your roles say something else about what this session may do: connect again"
            )
            stream = await db.open(bob)
            assert await line(stream) == (
                "error your roles restrict this session by db.read_only, db.rows_max, which is not possible"
                " with echo"
            )
            await kit.admin.call(PutResource(resource=role("dba", DBA), mode="upsert"))
            await until(lambda: db.service._member.cache.role("dba").spec.allow.db is None, "the role")
            stream = await opened(bob)
            await kit.admin.call(
                PutResource(resource=role("dba", Conditions(db_labels={"env": "test"})), mode="upsert")
            )
            assert await line(stream) == "error access is no longer allowed"
            dynamic = Conditions(
                db_labels={"env": ["dynamic"], "open": "yes"}, db_users=["alice"], db_names=["app"]
            )
            await kit.admin.call(PutResource(resource=role("dba", dynamic), mode="upsert"))
            made = database("late", f"127.0.0.1:{db.port}", env="dynamic", open="yes")
            await kit.admin.call(PutResource(resource=made))
            await until(lambda: db.service._registry.get("late") is not None, "the dynamic database")
            await db.service._member.heartbeat_now()
            stream = await opened(bob, "late")
            closed = database("late", f"127.0.0.1:{db.port}", env="dynamic", open="no")
            await kit.admin.call(PutResource(resource=closed, mode="upsert"))
            assert await line(stream) == "error access is no longer allowed"
            ends = [event["reason"] for event in await told(kit, "db.session.end", 5)]
            assert ends[0] == "internal error" and "gone home" in str(ends[1])
            assert ends[2] == "what the session may do is something else now"
            starts = await told(kit, "db.session.start", 6)
            assert [event["error"] for event in starts if event["code"] == "TDB00W"] == [
                "echo sessions cannot be restricted by db.read_only, db.rows_max"
            ]

    run(main)


def test_sessions_at_a_time_in_the_whole_cluster(short_tmp: Path) -> None:
    """`max_db_connections`; attack: an agent that asks for users it has not seen."""

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            await kit.admin.call(PutResource(resource=role("few", Conditions(), max_db_connections=1)))
            ann, bob = await kit.user("ann", "dba", "few"), await kit.user("bob", "dba")
            first = await db.open(ann)
            assert await line(first) == "ok"
            text = "too many connections to databases: the limit is 1 at a time in the whole cluster"
            assert await line(await db.open(ann)) == f"error {text}"
            for _ in range(2):
                assert await line(await db.open(bob)) == "ok"
            (refused,) = [e for e in await told(kit, "db.session.start", 4) if e["code"] == "TDB00W"]
            assert (refused["user"], refused["error"]) == ("ann", text)
            await first.close()
            await until(lambda: not db.service._leases._held, "the session to end")

            async def opened() -> bool:
                return await line(await db.open(ann)) == "ok"

            await until(opened, "the place to be free again")

            agent = db.service._member.client
            certs, _ = await db.certs(ann)
            fields = {"lease_id": str(uuid.uuid4()), "client_addr": "203.0.113.7"}
            der = ssl.PEM_cert_to_DER_cert(certs.tls_cert)
            taken = await agent.call(AcquireDatabaseLease(certificate=der, **fields))
            assert (taken.granted, taken.most) == (False, 1)
            (lease_id,) = db.service._leases._held
            mine = HeldLease(kind="database_connection", user="ann", lease_id=lease_id)
            assert (await agent.call(RenewLeases(leases=[mine]))).lost == []
            elsewhere = msgspec.structs.replace(mine, kind="connection")
            assert (await agent.call(RenewLeases(leases=[elsewhere]))).lost == [lease_id]
            assert ann.certs is not None
            for wrong in (b"", der[:-1] + bytes([der[-1] ^ 1]), ssl.PEM_cert_to_DER_cert(ann.certs.tls_cert)):
                with pytest.raises(AccessError) as why:
                    await agent.call(AcquireDatabaseLease(certificate=wrong, **fields))
                assert why.value.code in ("denied", "untrusted")
            token = (await kit.admin.call(CreateToken(roles=["Db"]))).resource.name
            idle = kit.as_host(await kit.join(SystemRole.DB, token=token))
            for other in (idle, kit.as_host(await kit.join()), kit.as_user(ann)):
                with pytest.raises(DeniedError):
                    await other.call(AcquireDatabaseLease(certificate=der, **fields))

    run(main)


def test_what_is_announced(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db", more=DYNAMIC) as db:
            ann = await kit.user("ann", "dba")
            asks = Conditions(request=RequestConditions(search_as_roles=["dba"]))
            await kit.admin.call(PutResource(resource=role("nothing", asks)))
            bob = await kit.user("bob", "nothing")
            await kit.admin.call(PutResource(resource=database("metrics", env="dynamic")))
            await kit.admin.call(PutResource(resource=database("other", env="elsewhere")))

            async def names(client=kit.admin):  # type: ignore[no-untyped-def]
                return sorted(r.name for r in await listed(client, "db_server"))

            await until(lambda: db.service._registry.get("metrics") is not None, "the dynamic database")
            await db.service._member.heartbeat_now()
            assert await names() == ["metrics", "orders"]
            assert await names(kit.as_user(ann)) == ["orders"]
            assert await names(kit.as_user(bob)) == []
            # Also one of the agent's file can be explained, and asked for.
            explained = await kit.admin.call(
                ExplainAccess(who=Somebody(user="ann"), words=["db", "alice@orders"])
            )
            assert explained.allowed
            asking = kit.as_user(bob).stream(SearchRequestable(kind="db"))
            assert [r.name async for chunk in asking for r in chunk.resources] == ["orders"]
            (service,) = await listed(kit.admin, "db_service")
            assert isinstance(service, DatabaseService) and service.name == db.host_id
            # Seen by whoever has both a rule for them and their labels; a deny of labels hides them.
            rules = [Rule(resources=["db_service"], verbs=["list", "read"])]
            for allow, deny, seen in (
                (Conditions(db_service_labels={"*": "*"}), Conditions(), None),
                (Conditions(rules=rules), Conditions(), []),
                (Conditions(rules=rules, db_service_labels={"env": "prod"}), Conditions(), []),
                (Conditions(rules=rules, db_service_labels={"*": "*"}), Conditions(), [service]),
                (
                    Conditions(rules=rules, db_service_labels={"*": "*"}),
                    Conditions(db_service_labels={"*": "*"}),
                    [],
                ),
            ):
                watcher = Role(metadata=Metadata(name="watcher"), spec=RoleSpec(allow=allow, deny=deny))
                await kit.admin.call(PutResource(resource=watcher, mode="upsert"))
                if seen is None:
                    eve = await kit.user("eve", "watcher")
                    with pytest.raises(DeniedError):
                        await listed(kit.as_user(eve), "db_service")
                    continue
                assert await listed(kit.as_user(eve), "db_service") == seen
                got = kit.as_user(eve).call(GetResource(kind="db_service", name=service.name))
                if seen:
                    assert (await got).resource == service
                else:
                    with pytest.raises(NotFoundError):
                        await got
            await kit.admin.call(DeleteResource(kind="db", name="metrics"))
            await until(lambda: db.service._registry.get("metrics") is None, "the dynamic database to go")
            await db.service._member.heartbeat_now()
            assert await names() == ["orders"]

            async def healthy() -> bool:
                (server,) = await listed(kit.admin, "db_server")
                assert isinstance(server, DatabaseServer)
                return server.spec.target_health.status == "healthy"

            await until(healthy, "the health of the database to be told")

    run(main)


def test_a39_an_agent_speaks_for_itself_and_its_databases_alone(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            agent, key = db.service._member.client, new_tls_key().public_pem
            signed = await agent.call(SignDatabaseCert(database="orders", user="alice", public_key=key))
            assert signed.expires_at - kit.clock.now() <= 15 * 60
            with pytest.raises(DeniedError):
                await agent.call(SignDatabaseCert(database="other", user="alice", public_key=key))
            other = "99999999-2222-4333-8444-555555555555"
            server = db.service.announcement()[1][0]
            forged = msgspec.structs.replace(server, spec=msgspec.structs.replace(server.spec, host_id=other))
            for service, servers in (
                (DatabaseService(metadata=Metadata(name=other)), []),
                (DatabaseService(metadata=Metadata(name=db.host_id)), [forged]),
            ):
                with pytest.raises(DeniedError, match="speak for itself"):
                    await agent.call(AnnounceDatabases(service=service, servers=servers))
            host = await kit.join()
            with pytest.raises(AccessError):
                await kit.as_host(host).call(
                    SignDatabaseCert(database="orders", user="alice", public_key=key)
                )
            # A name that clients ask databases by is nobody's to claim.
            with pytest.raises(AccessError, match="reserved"):
                await kit.join(additional_principals=["orders.db.alpha.example"])
            for name in ("orders.db", "Orders.DB"):
                with pytest.raises(AccessError, match="reserved"):
                    await kit.join(node_name=name)

    run(main)


def test_a_session_that_must_be_recorded(short_tmp: Path) -> None:
    """Where recordings cannot be kept: strict roles get no session, others go on and their end says so."""

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            ann = await kit.user("ann", "dba")
            folder = short_tmp / "db" / "data" / "log" / "upload-db"
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                folder.rmdir()
            folder.write_text("in the way")
            stream = await db.open(ann)
            assert await line(stream) == "ok"
            await stream.close()

            async def ended() -> bool:
                return bool(await events(kit, "db.session.end"))

            await until(ended, "the end of the session")
            (end,) = await events(kit, "db.session.end")
            assert "no place for recordings" in str(end["error"])

    run(main)


def test_f15_a66_databases_that_are_not_what_they_should_be(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down, silent, not TLS, of another authority: the session ends in time and the error names the hop."""

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db", more=DYNAMIC) as db:
            everything = Conditions(db_labels={"*": "*"}, db_users=["alice"], db_names=["app"])
            await kit.admin.call(PutResource(resource=role("all", everything)))
            ann = await kit.user("ann", "all")
            monkeypatch.setattr(limits, "SERVER_DIAL_S", 1.0)

            async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read()
                writer.close()

            async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(OSError):
                    writer.write(b"220 this is not TLS\r\n" * 1000)
                    await reader.read()
                writer.close()

            servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in (silent, garbage)]
            ports = [server.sockets[0].getsockname()[1] for server in servers]
            free = free_port()
            # Found by a name that its certificate does not have.
            cases = {
                "down": (f"127.0.0.1:{free}", "the agent cannot connect to database down at 127.0.0.1"),
                "silent": (f"127.0.0.1:{ports[0]}", "database silent does not answer the agent's TLS"),
                "garbage": (f"127.0.0.1:{ports[1]}", "database garbage refused the agent's TLS"),
                "other": (f"localhost:{db.port}", "the agent does not trust database other"),
            }
            for name, (uri, _) in cases.items():
                await kit.admin.call(PutResource(resource=database(name, uri, env="dynamic")))
            await until(lambda: len(db.service._registry.all) == 5, "the databases")
            await db.service._member.heartbeat_now()
            for name, (_, text) in cases.items():
                stream = await db.open(ann, name=name)
                said = await line(stream)
                assert said.startswith(f"error {text}"), said
                assert await line(stream) == ""
            ends = await told(kit, "db.session.end", 4)
            assert {str(end["db_service"]) for end in ends} == set(cases)
            for server in servers:
                server.close()

    run(main)

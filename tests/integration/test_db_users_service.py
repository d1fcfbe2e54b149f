"""Users made on demand by a whole Database Service in a cluster, at a real PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pkgs.agents.db.engines import built_in
from pkgs.agents.db.postgres.login import ServerError, log_in, rows_of
from pkgs.common.api.databases import SignDatabaseServerCert
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.dbwire.postgres.startup import VERSION_3_0, Startup
from pkgs.common.net.stream import Stream
from pkgs.common.pki.keys import new_tls_key
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.role import Conditions, DbPermission
from tests.integration.auth_kit import Kit, User, auth, events, role, run
from tests.integration.databases_kit import DatabaseKit, databases, until
from tests.integration.db_users_kit import ADMIN, pg_setup, pg_state
from tests.integration.postgres_kit import Server, postgres

pytestmark = pytest.mark.needs("psql", "pg_isready")


RULE = """
kind: db_object_import_rule
version: v1
metadata: {name: tables-of-alice}
spec:
  database_labels: [{name: pg, values: ["yes"]}]
  mappings:
  - {match: {table_names: ["customer*"]}, scope: {schema_names: [public]}, add_labels: {kind: tables}}
"""


@contextlib.asynccontextmanager
async def believing(kit: Kit) -> AsyncIterator[Server]:
    """A PostgreSQL set up by `tctl auth sign`."""
    key = new_tls_key()
    signed = await kit.admin.call(
        SignDatabaseServerCert(names=["127.0.0.1"], public_key=key.public_pem, ttl_s=3600)
    )
    files = {
        "ca.pem": signed.client_authorities,
        "server.pem": signed.cert,
        "server.key": key.private_pem.decode(),
    }
    with postgres(files=files) as server:
        server.admin(pg_setup(), "postgres")
        yield server


async def connect(
    db: DatabaseKit, user: User, service: str, *roles: str, database: str = "postgres"
) -> Stream:
    fields = {"protocol": "postgres", "database": database, **({"roles": roles} if roles else {})}
    certs, key = await db.certs(user, service, **fields)
    stream = await db.dial(certs.tls_cert, key, service)
    told = ((b"user", user.name.encode()), (b"database", database.encode()))
    await log_in(stream, Startup(VERSION_3_0, told), read_only=False)
    return stream


async def allowed_less(kit: Kit, allow: Conditions, stream: Stream, server: Server) -> None:
    """The role gives ann this from now on: her session ends, and nothing is left of her at the server."""
    less = role("made", allow, create_db_user_mode="best_effort_drop")
    await kit.admin.call(PutResource(resource=less, mode="upsert"))
    assert b"access is no longer allowed" in await stream.read_some()
    await until(lambda: pg_state(server, "ann") == "", "the user to be dropped")


async def events_of(kit: Kit, kind: str, count: int) -> list[dict[str, object]]:
    """When so many have arrived."""

    async def arrived() -> bool:
        return len(await events(kit, kind)) == count

    await until(arrived, "the events to arrive")
    return await events(kit, kind)


def test_permissions_on_the_objects_inside(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, believing(kit) as server:
            server.admin(f'GRANT alice TO "{ADMIN}"; CREATE TABLE hidden ()', "shop")
            # As a new cluster has it.
            await kit.admin.call(GetResource(kind="db_object_import_rule", name="import_all_objects"))
            reads = DbPermission(match={"kind": "tables"}, permissions=["select"])
            allow = Conditions(db_labels={"pg": "yes"}, db_names=["shop"], db_permissions=[reads])
            made = role("made", allow, create_db_user_mode="best_effort_drop")
            await kit.admin.call(PutResource(resource=made))
            where = f'protocol: postgres, uri: "127.0.0.1:{server.port}", static_labels: {{pg: "yes"}}'
            more = f'  - {{name: pg, {where}, admin_user: {{name: "{ADMIN}"}}}}'
            async with databases(kit, short_tmp / "db", more=more, engines=built_in()) as db:
                ann = await kit.user("ann", "made")
                nothing = await connect(db, ann, "pg", database="shop")
                with pytest.raises(ServerError, match="permission denied for table customers"):
                    await rows_of(nothing, "SELECT count(*) FROM customers")
                await nothing.close()
                await until(lambda: pg_state(server, "ann") == "", "the user to be dropped")
                (rule,) = load_documents(RULE)
                await kit.admin.call(PutResource(resource=rule))
                await until(lambda: len(db.service._member.cache.resources(rule.kind)) == 2, "the rule")
                stream = await connect(db, ann, "pg", database="shop")
                assert await rows_of(stream, "SELECT count(*) FROM customers") == [[b"100"]]
                none = Conditions(db_labels={"pg": "yes"}, db_names=["shop"])
                await allowed_less(kit, none, stream, server)
                empty, told = await events_of(kit, "db.session.permissions.update", 2)
                assert (told["code"], told["db_name"], told["db_user"]) == ("TDB07I", "shop", "ann")
                assert told["permission_summary"] == [{"permission": "SELECT", "counts": {"table": 1}}]
                assert told["affected_object_counts"] == {"table": 1}
                assert empty["affected_object_counts"] == {}

    run(main)


def test_a_user_of_ones_own_for_as_long_as_one_is_connected(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, believing(kit) as server:
            allow = Conditions(db_labels={"pg": "yes"}, db_names=["postgres"], db_roles=["reader", "writer"])
            made = role("made", allow, create_db_user_mode="best_effort_drop")
            await kit.admin.call(PutResource(resource=made))
            where = f'protocol: postgres, uri: "127.0.0.1:{server.port}", static_labels: {{pg: "yes"}}'
            more = f'  - {{name: pg, {where}, admin_user: {{name: "{ADMIN}"}}}}\n  - {{name: bare, {where}}}'
            async with databases(kit, short_tmp / "db", more=more, engines=built_in()) as db:
                ann, taken = await kit.user("ann", "made"), await kit.user("taken", "made")
                first = await connect(db, ann, "pg")
                assert await rows_of(first, "SELECT current_user") == [[b"ann"]]
                assert pg_state(server, "ann") == 't|"teleport-auto-user" reader writer'
                second = await connect(db, ann, "pg")
                with pytest.raises(ServerError, match="other database roles"):
                    await connect(db, ann, "pg", "reader")
                shape = "your Teleport role requires automatic database user provisioning but an attempt to"
                with pytest.raises(ServerError, match=f'{shape} activate database user "taken" failed due'):
                    await connect(db, taken, "pg")
                with pytest.raises(ServerError, match="this database has no admin user"):
                    await connect(db, ann, "bare")
                await first.close()
                assert await rows_of(second, "SELECT 1") == [[b"1"]]
                await second.close()
                await until(lambda: pg_state(server, "ann") == "", "the user to be dropped")
                # What a role allows no longer is taken away at once: the session ends.
                third = await connect(db, ann, "pg")
                less = Conditions(db_labels={"pg": "yes"}, db_names=["postgres"], db_roles=["reader"])
                await allowed_less(kit, less, third, server)
                ended, _ = await events_of(kit, "db.session.user.deactivate", 2)
                created = await events(kit, "db.session.user.create")
                assert [event["code"] for event in created].count("TDB08I") == 3
                assert [event["code"] for event in created].count("TDB08W") == 3
                assert created[0]["roles"] == ["reader", "writer"]
                assert (ended["code"], ended["username"], ended["delete"]) == ("TDB09I", "ann", True)
                assert ended["sid"] in {event["sid"] for event in created}
                assert not list((short_tmp / "db" / "data" / "db-users").iterdir())

    run(main)

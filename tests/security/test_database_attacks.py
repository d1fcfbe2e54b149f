"""Certificates for databases in the wrong place (attacks A22, A34). Other places are tested where they are:
`test_redteam_every_caller` for the Auth API, `tests/integration/test_databases` for the agent and its SNI."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgs.agents.db import limits
from pkgs.agents.db.upstream.servers import connect
from pkgs.common.access.joining import JOIN_LOGIN
from pkgs.common.api.login import ReissueUserCerts
from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.pki.identity import RouteToDatabase
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from tests.integration.auth_kit import auth
from tests.integration.auth_kit import run as run_auth
from tests.integration.databases_kit import CLIENT_ADDR, database, database_server, databases, line
from tests.integration.proxy_kit import node, proxy, run

N1 = "11111111-1111-4111-8111-111111111111"
ROUTE = RouteToDatabase(service="orders", protocol="postgres", user="alice")


def test_a22_a_certificate_for_a_database_reaches_no_server(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            routed = kit.authorities.user(route_to_database=ROUTE)
            for target in ("web-1", N1):
                for login in ("root", "", JOIN_LOGIN):
                    reply = await kit.refused(target, routed, login=login)
                    assert not reply.host_id
            reply, stream = await kit.dial("web-1")
            assert reply.host_id == N1
            stream.abort()
            await agent.close()

    run(body())


def test_a34_a_certificate_for_a_database_is_not_renewed(short_tmp: Path) -> None:
    """Neither for SSH, nor for another database, nor at all; and it ends no later than the login."""

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            ann = await kit.user("ann", "dba")
            assert ann.certs is not None
            certs, key = await db.certs(ann)
            assert certs.ssh_cert == "" and certs.expires_at <= ann.certs.expires_at
            client = kit.client(certs.tls_cert, key)
            public = new_tls_key().public_pem
            for request in (
                ReissueUserCerts(ssh_public_key=new_ssh_key().public_line, tls_public_key=public),
                ReissueUserCerts(
                    ssh_public_key="",
                    tls_public_key=public,
                    route_to_database=RouteToDatabase(service="orders", protocol="echo"),
                ),
            ):
                with pytest.raises(AccessError, match="for one database"):
                    await client.call(request)
            with pytest.raises(AccessError, match="speaks echo"):
                await db.certs(ann, protocol="postgres")

    run_auth(main)


def test_a54_strangers_at_an_agent_take_no_place_from_those_who_are_known(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reaches the proxy's port reaches an agent by a database's name, without a certificate: a silent
    stranger gives way to the next one, of the same address first."""
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    monkeypatch.setattr(limits, "STRANGERS_OF_ADDRESS", 2)
    monkeypatch.setattr(limits, "STRANGERS", 3)

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            ann = await kit.user("ann", "dba")
            silent = [await db.knock(CLIENT_ADDR) for _ in range(3)]
            assert await silent[0].read_some() == b""
            elsewhere = await db.knock("198.51.100.9:1")
            await db.knock("198.51.100.10:1")
            assert await silent[1].read_some() == b""
            first, second = await db.open(ann), await db.open(ann)
            assert [await line(first), await line(second)] == ["ok", "ok"]
            third = await db.open(ann)
            assert await line(third) == ""
            # Those of one address, who came in meanwhile, were no burden to others.
            assert not elsewhere.closed

    run_auth(main)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "0.0.0.0",
        "[::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "0",
        "224.0.0.1",
    ],
)
def test_a20_a53_no_database_is_at_an_address_that_is_no_host(host: str) -> None:
    """Of `db` resources the writer chooses where an agent connects to."""

    async def body() -> None:
        with pytest.raises(UnavailableError, match="is no address for a database"):
            await connect(database("metadata", f"{host}:80"))

    run(body())


def test_a39_an_agent_keeps_nobody_from_the_database_of_another(short_tmp: Path) -> None:
    """It may announce any name, but not what others of that name speak."""

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            ann = await kit.user("ann", "dba")
            for rogue in ("00000000-1111-4111-8111-111111111111", "ffffffff-1111-4111-8111-111111111111"):
                await kit.service.store.put(database_server("orders", rogue, env="prod"))
            assert await line(await db.open(ann)) == "ok"

    run_auth(main)

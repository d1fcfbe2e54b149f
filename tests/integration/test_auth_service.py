"""The Auth Service from outside: a cluster is made, survives restarts and reloads, and proves itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import uuid
from pathlib import Path

import pytest

from pkgs.common.api.audit import SearchEvents, VerifyAudit
from pkgs.common.api.resources import (
    PutResource,
)
from pkgs.common.api.system import GetClusterStatus, GetHostCa, Ping
from pkgs.common.errors import (
    InputError,
)
from pkgs.common.pki import x509
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.pins import check_pin
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.role import Conditions
from pkgs.common.rpc.client import Endpoint, RpcClient
from tests.harness.wait import until
from tests.integration.auth_kit import auth, events, listed, role, run

PRESETS = {preset.name for preset in preset_roles()}


def test_a_new_cluster_has_all_it_needs_and_survives_a_restart(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            status = await kit.admin.call(GetClusterStatus())
            assert {row.type for row in status.authorities} == {
                "user", "host", "db", "db_client", "openssh", "jwt", "saml_idp", "oidc_idp", "spiffe", "okta",
                "awsra", "bound_keypair",
            }  # fmt: skip
            anonymous = kit.nobody()
            assert (await anonymous.call(Ping())).second_factor == "otp"
            check_pin((await anonymous.call(GetHostCa())).host_ca_pems, status.ca_pins)
            assert {r.name for r in await listed(kit.admin, "role")} == PRESETS
            user = await kit.user("mira")
        async with auth(short_tmp) as kit:
            assert (await kit.admin.call(GetClusterStatus())).ca_pins == status.ca_pins
            assert (await kit.as_user(user).call(Ping())).cluster_name == "alpha.example"
            kit.clock.ahead += 60
            await kit.login(user)

    run(main)


def test_another_cluster_name_in_the_file_is_refused(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp):
            pass
        for file in (short_tmp / "backend").iterdir():
            assert file.stat().st_mode & 0o077 == 0
        with pytest.raises(InputError, match="cannot be renamed"):
            from pkgs.auth.backend.sqlite import SqliteBackend
            from pkgs.auth.state.bootstrap import ensure_cluster
            from pkgs.auth.state.store import Store

            backend = SqliteBackend(short_tmp / "backend")
            try:
                store = Store(backend)
                await store.load()
                await ensure_cluster(store, backend, "beta.example")
            finally:
                await backend.close()

    run(main)


def test_following_the_audit_log(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.user("mira")
            stream = kit.admin.stream(SearchEvents(follow=True, types=["role.created"]))
            waiting = asyncio.ensure_future(anext(stream))
            verdict = await kit.admin.call(VerifyAudit())
            assert verdict.ok
            assert verdict.events >= 5
            names = [f"r{i}" for i in range(3)]

            async def made() -> bool:
                name = f"x-{uuid.uuid4()}"
                await kit.admin.call(PutResource(resource=role(name, Conditions())))
                names.append(name)
                return waiting.done()

            await until(made)
            assert (await waiting).events[0].event.code == "T9000I"
            await stream.aclose()  # type: ignore[attr-defined]
            found = await events(kit, "user.login")
            assert [e["user"] for e in found] == ["mira"]
            newest = kit.admin.stream(SearchEvents(order="desc", limit=1))
            (chunk,) = [c async for c in newest]
            assert chunk.events[0].event.event == "role.created"

    run(main)


def test_tinydb_as_storage(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp, teleport="storage: {type: tinydb}") as kit:
            user = await kit.user("mira")
        assert (short_tmp / "backend" / "state.json").exists()
        async with auth(short_tmp, teleport="storage: {type: tinydb}") as kit:
            kit.clock.ahead += 60
            await kit.login(user)

    run(main)


def test_the_server_proves_itself_as_the_auth_service(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            client = kit.nobody()
            await client.call(Ping())
            der = client.peer_certificate()
            assert der is not None
            identity = x509.verify_peer(der, trust=kit.service.authorities.trust, now=kit.clock.now())
            assert identity.is_host(SystemRole.AUTH)
            assert identity.name == (short_tmp / "host_uuid").read_text().strip()
            assert (short_tmp / "auth.sock").stat().st_mode & 0o777 == 0o600

    run(main)


def test_a55_an_unsigned_proxy_header_is_not_believed(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            for header in (
                b"PROXY TCP4 203.0.113.7 127.0.0.1 50000 3025\r\n",
                b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\xc3\x50\x0b\xd1",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", kit.port)
                writer.write(header)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
                writer.close()
            await kit.nobody().call(Ping())

    run(main)


def test_a_reload_takes_tokens_and_settings_from_the_file(short_tmp: Path) -> None:
    """With the real process: SIGHUP, then SIGTERM."""
    config = short_tmp / "teleport.yaml"

    def write(extra: str) -> None:
        config.write_text(
            f"version: v3\nteleport: {{nodename: hub, data_dir: {short_tmp}/data}}\n"
            "proxy_service: {enabled: no}\nssh_service: {enabled: no}\n"
            f"auth_service:\n  cluster_name: alpha\n  listen_addr: 127.0.0.1:0\n{extra}"
        )

    async def main() -> None:
        write("")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pkgs.auth.main", "-c", str(config), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            socket_path = short_tmp / "data" / "auth.sock"
            await until(socket_path.exists, 20)
            client = RpcClient(Endpoint(unix_path=str(socket_path)))
            assert not (await client.call(Ping())).has_motd
            write("  message_of_the_day: hello\n  tokens: ['node:written-later']\n")
            process.send_signal(signal.SIGHUP)

            async def taken() -> bool:
                return (await client.call(Ping())).has_motd

            await until(taken)
            assert [t.name for t in await listed(client, "token")] == ["written-later"]
            # A file with a mistake changes nothing.
            write("  message_of_the_day: [\n")
            process.send_signal(signal.SIGHUP)
            assert (await client.call(Ping())).has_motd
            await client.close()
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0

    run(main)

"""Attacks of the checklist on what the proxy's public port gives access to. All from the outside."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from pkgs.common.api.tunnel import DataHello, OpenTunnel, UserDial
from pkgs.common.errors import AccessError
from pkgs.common.net.dial import dial_tls, split_host_port
from pkgs.common.net.framing import encode_frame
from pkgs.common.net.tls import client_context
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.proxy import limits
from tests.harness.wait import until
from tests.integration.proxy_kit import (
    PROXY_NAME,
    Agent,
    Authorities,
    Credentials,
    node,
    proxy,
    run,
)
from tests.security.proxy_attack_kit import (
    closed,
    dial_from,
    still_serves,
)

N1 = "11111111-1111-4111-8111-111111111111"


N2 = "22222222-2222-4222-8222-222222222222"


def test_a12_a_pinned_certificate_from_another_address_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            pinned = kit.authorities.user(source_addr="127.0.0.1")
            reply, stream = await kit.dial("web-1", pinned)
            assert reply.error == ""
            stream.abort()
            elsewhere = await dial_from(kit, "127.0.0.2", pinned, "web-1")
            answer = await elsewhere.read_some()
            assert b"may not be used from this address" in answer
            assert await closed(elsewhere)
            far = kit.authorities.user(source_addr="192.0.2.1")
            assert "address" in (await kit.refused("web-1", far)).error
            refusals = [event for event in kit.events if event.event == "auth"]
            assert [(one.fields["user"], one.fields["addr.remote"][:9]) for one in refusals] == [
                ("alice", "127.0.0.2"),
                ("alice", "127.0.0.1"),
            ]
            assert all("pinned to" in str(one.fields["error"]) for one in refusals)
            await agent.close()

    run(body())


def test_a14_a_locked_user_is_refused_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            kit.cache.locks = (
                Lock(
                    metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="alice"), message="why")
                ),
            )
            reply = await kit.refused("web-1")
            assert reply.error == 'lock targeting User:"alice" is in force: why'
            _, stream = await kit.dial("web-1", kit.authorities.user("bob"))
            stream.abort()
            await agent.close()

    run(body())


def test_a18_a_forbidden_server_reads_like_none_and_is_audited(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1", env="prod"))
            agent = await kit.agent(N1)
            limited = kit.authorities.user("carol", roles=("staging",))
            for target, missing in (("web-1", "web-2"), (N1, N2), ("env=prod", "env=prox")):
                forbidden = await kit.refused(target, limited)
                assert kit.events[-1].code == "T3007W"
                assert kit.events[-1].fields["user"] == "carol"
                unknown = await kit.refused(missing, limited)
                assert forbidden.error.replace(target, missing) == unknown.error
                assert forbidden.hint == unknown.hint
            assert len(kit.events) == 3
            await agent.close()

    run(body())


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1",
        "127.0.0.1:3025",
        "localhost:22",
        "169.254.169.254:80",
        "[::1]:22",
        "0.0.0.0:22",
        "/var/lib/teleport/debug.sock",
        "unix:/var/lib/teleport/debug.sock",
        "http://127.0.0.1/",
        "example.com:22",
    ],
)
def test_a20_only_registered_servers_can_be_dialled(tmp_path: Path, target: str) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            await kit.refused(target)
            await still_serves(kit)

    run(body())


def test_a20_an_agent_can_not_register_an_address_that_is_not_its_own(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path, auth_addrs=("127.0.0.1:3025",)) as kit:
            for addr in (
                kit.addr,
                kit.ssh_addr,
                "127.0.0.1:3025",
                "169.254.169.254:80",
                "localhost:3025",
                "0.0.0.0:22",
            ):
                kit.add(node(N1, "web-1", addr=addr))
                reply = await kit.refused("web-1")
                assert reply.error == "server 'web-1' does not answer"

    run(body())


def test_a21_the_proxy_itself_is_no_server(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            for target in ("proxy-host", kit.member.identity.host_id, kit.addr, ""):
                await kit.refused(target)
            kit.add(node(N1, "web-1"))
            assert "not served" in (await kit.refused("web-1", service="sftp")).error
            assert "not known" in (await kit.refused("web-1", cluster="leaf")).error

    run(body())


def test_a02_a07_certificates_of_others_and_out_of_time_open_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            stranger = Authorities("test")
            shown = [
                Credentials(stranger.user().cert, stranger.user().key, kit.authorities.roots),
                kit.authorities.user(ttl_s=-10, began_ago_s=100),
                kit.authorities.user(began_ago_s=-3600, ttl_s=7200),
                kit.authorities.host_credentials(N2),
            ]
            for credentials in shown:
                with pytest.raises(AccessError):
                    await kit.dial("web-1", credentials)
            with pytest.raises(AccessError):
                nobody = client_context(roots_pem=kit.authorities.roots, alpn=("teleport-dial",))
                stream = await dial_tls(kit.addr, nobody, server_hostname=PROXY_NAME)
                stream.write(encode_frame(UserDial(target="web-1")))
                try:
                    await stream.read_exactly(1)
                finally:
                    stream.abort()
            gone = kit.authorities.user(roles=("access", "deleted"))
            assert (await kit.refused("web-1", gone)).error == "access denied"
            await agent.close()

    run(body())


def test_a39_only_the_agent_that_was_asked_may_answer_a_dial(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            victim = await kit.agent(N1, spares=False)
            other = await kit.agent(N2)

            async def silent(dial_id: str) -> None:
                return

            victim._carry = silent  # type: ignore[method-assign]
            dialling = asyncio.create_task(kit.dial("web-1"))
            await until(lambda: any(victim.asked))
            dial_id = next(filter(None, victim.asked))
            thief = await other.data(dial_id)
            assert await closed(thief)
            honest = await victim.data(dial_id)
            assert (await honest.read_some())[:1]
            reply, stream = await dialling
            assert reply.host_id == N1
            stream.abort()
            for agent in (victim, other):
                await agent.close()

    run(body())


def test_a40_users_and_proxies_can_not_open_a_tunnel(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            host, port = split_host_port(kit.addr)
            for credentials in (
                kit.authorities.user(),
                kit.authorities.host_credentials(N1, SystemRole.PROXY),
                kit.authorities.host_credentials(N1, SystemRole.AUTH),
            ):
                context = credentials.context("teleport-reversetunnel")
                client = RpcClient(
                    Endpoint(host=host, port=port, ssl_context=context, server_hostname=PROXY_NAME)
                )
                with pytest.raises(AccessError):
                    async for _ in client.stream(OpenTunnel(services=["ssh"]), deadline_s=3):
                        pass
                await client.close()
            assert kit.service.tunnels.hosts == 0
            for credentials in (kit.authorities.user(), kit.authorities.host_credentials(N1)):
                agent = Agent(kit.addr, credentials, N1)
                with contextlib.suppress(AccessError):
                    assert await closed(await agent.data(""))
                await agent.close()

    run(body())


def test_a39_an_agent_can_not_leave_more_spares_than_allowed(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            agent = await kit.agent(N1)
            streams = [await agent.data("") for _ in range(30)]
            assert await closed(streams[-1])
            assert kit.service.tunnels.spares <= limits.SPARES_MAX
            talker = streams[0]
            talker.write(encode_frame(DataHello()))
            assert await closed(talker)
            await agent.close()

    run(body())


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff" + b"x" * 100,
        b"\0\0",
        b"\0\x05\x91\x91\x91\x91\x91",
        b"\0\x03\xa1x\xc0",
        b"\x3f\xff" + b"\x91" * 16383,
    ],
)
def test_a43_a_broken_dial_frame_is_refused_in_words(tmp_path: Path, raw: bytes) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            context = kit.authorities.user().context("teleport-dial")
            stream = await dial_tls(kit.addr, context, server_hostname=PROXY_NAME)
            stream.write(raw)
            answer = await stream.read_some()
            assert b"frame" in answer
            assert await closed(stream)
            await still_serves(kit)

    run(body())

"""Users reach agents through tunnels and directly: routing, spares, loss, two proxies, draining."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pkgs.common.net.listener import Accepted, Listener, bind
from pkgs.common.net.proxyproto.signed import ProxyVerifier
from pkgs.common.net.stream import adopt
from pkgs.common.resources.kinds import NetworkingSpec
from tests.harness.wait import until
from tests.integration.proxy_kit import Agent, Authorities, ProxyKit, node, proxy, read_line, run

N1 = "11111111-1111-4111-8111-111111111111"
N2 = "22222222-2222-4222-8222-222222222222"


async def talk(kit: ProxyKit, target: str, expected: str) -> dict[str, str]:
    """Dial, check the route and the echo; the header that the agent got."""
    reply, stream = await kit.dial(target)
    assert (reply.error, reply.host_id) == ("", expected)
    header: dict[str, str] = json.loads(await read_line(stream))
    stream.write(b"x" * 50_000)
    assert await stream.read_exactly(50_000) == b"x" * 50_000
    await stream.close()
    return header


def test_a_user_reaches_an_agent_by_name_id_and_label(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1", env="prod"), node(N2, "db-1", env="staging"))
            agent = await kit.agent(N1)
            for target in ("web-1", N1, "web-1.test", "web-1:22", "web-1:3022", f"{N1}:0", "env=prod"):
                header = await talk(kit, target, N1)
                assert header["client_addr"].startswith("127.0.0.1:")
                assert header["service"] == "ssh"
            connects = [event for event in kit.events if event.event == "session.connect"]
            assert len(connects) == 7
            assert connects[0].code == "T2010I"
            assert connects[0].fields["user"] == "alice"
            assert connects[0].fields["server_hostname"] == "web-1"
            assert str(connects[0].fields["addr.remote"]).startswith("127.0.0.1:")
            await agent.close()

    run(body())


def test_spare_connections_are_kept_and_replaced(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            await until(lambda: kit.service.tunnels.spares == 4)
            assert agent.asked == [""] * 4
            await talk(kit, "web-1", N1)
            await until(lambda: kit.service.tunnels.spares == 4)
            assert agent.asked == [""] * 5
            agent.streams[0].abort()
            await until(lambda: len(agent.asked) == 6 and kit.service.tunnels.spares == 4)
            await agent.close()
            await until(lambda: kit.service.tunnels.spares == 0)

    run(body())


def test_without_a_spare_the_agent_is_asked(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1, spares=False)
            await talk(kit, "web-1", N1)
            assert any(agent.asked)
            results = await asyncio.gather(*(talk(kit, "web-1", N1) for _ in range(20)))
            assert len(results) == 20
            await agent.close()

    run(body())


def test_a_lost_tunnel_is_noticed_and_a_new_one_is_used(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            await agent.close()
            await until(lambda: not kit.service.tunnels.holds(N1))
            reply = await kit.refused("web-1")
            assert "not connected" in reply.error
            again = await kit.agent(N1)
            await talk(kit, "web-1", N1)
            await again.close()

    run(body())


def test_a_server_that_says_nothing_holds_no_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its link may be cut, which TCP notices much later: the user is let go within seconds."""

    async def body() -> None:
        from pkgs.proxy import limits

        monkeypatch.setattr(limits, "AGENT_ANSWER_S", 0.2)
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1, mute=True)
            reply, stream = await kit.dial("web-1")
            assert not reply.error
            async with asyncio.timeout(5):
                assert await stream.read_some() == b""
            stream.abort()
            await agent.close()

    run(body())


def test_a_server_that_has_spoken_may_be_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        from pkgs.proxy import limits

        monkeypatch.setattr(limits, "AGENT_ANSWER_S", 0.2)
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            _, stream = await kit.dial("web-1")
            await read_line(stream)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    await stream.read_some()
            stream.write(b"still here\n")
            assert await read_line(stream) == b"still here\n"
            stream.abort()
            await agent.close()

    run(body())


def test_a_new_tunnel_takes_the_place_of_what_the_old_one_left(tmp_path: Path) -> None:
    """After a partition the old data connections look alive and are dead: none of them is given to a user."""

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            old = await kit.agent(N1, mute=True)
            await until(lambda: kit.service.tunnels.spares == 4)
            new = await kit.agent(N1)
            await until(lambda: len(new.asked) == 4 and kit.service.tunnels.spares == 4)
            for _ in range(4):
                await talk(kit, "web-1", N1)
            await old.close()
            await new.close()

    run(body())


def test_a_tunnel_that_takes_nothing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        from pkgs.proxy import limits

        monkeypatch.setattr(limits, "TUNNEL_PING_S", 0.05)
        monkeypatch.setattr(limits, "TUNNEL_STALLED_S", -1.0)
        async with proxy(tmp_path) as kit:
            agent = Agent(kit.addr, kit.authorities.host_credentials(N1), N1)
            await agent.start()
            async with asyncio.timeout(5):
                await agent.ended.wait()
            await agent.close()

    run(body())


def test_signs_of_life_come_between_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        from pkgs.proxy import limits

        monkeypatch.setattr(limits, "TUNNEL_PING_S", 0.02)
        async with proxy(tmp_path) as kit:
            agent = await kit.agent(N1)
            await until(lambda: agent.pings > 150)
            await agent.close()

    run(body())


def test_two_proxies_serve_the_same_agent_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        shared = Authorities()
        async with (
            proxy(tmp_path / "a", authorities=shared) as first,
            proxy(
                tmp_path / "b", authorities=shared, host_id="00000000-0000-4000-8000-00000000000b"
            ) as second,
        ):
            agents = []
            for kit in (first, second):
                kit.add(node(N1, "web-1"))
                agents.append(await kit.agent(N1))
            await asyncio.gather(talk(first, "web-1", N1), talk(second, "web-1", N1))
            await first.service.drain(1)
            async with asyncio.timeout(5):
                await agents[0].ended.wait()
            await talk(second, "web-1", N1)
            for agent in agents:
                await agent.close()

    run(body())


def test_draining_lets_open_streams_end_by_themselves(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            _, stream = await kit.dial("web-1")
            await read_line(stream)
            draining = asyncio.create_task(kit.service.drain(10))
            async with asyncio.timeout(5):
                await agent.ended.wait()
            with pytest.raises(Exception, match="cannot connect"):
                await kit.dial("web-1")
            stream.write(b"still here")
            assert await stream.read_exactly(10) == b"still here"
            await stream.close()
            async with asyncio.timeout(5):
                await draining
            await agent.close()

    run(body())


def test_an_agent_that_listens_is_dialled_and_learns_the_users_address(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            seen: list[Accepted] = []

            async def serve(accepted: Accepted) -> None:
                seen.append(accepted)
                stream = await adopt(accepted.sock)
                stream.write(b"SSH-2.0-agent\r\n")
                await stream.close()

            listener = Listener(
                bind("127.0.0.1:0"),
                serve,
                hello=False,
                verify_proxy=ProxyVerifier(lambda: kit.authorities.trust, kit.service.clock.now, audience=N1),
            )
            listener.start()
            kit.add(node(N1, "web-1", addr=listener.addresses[0]))
            port = listener.addresses[0].rpartition(":")[2]
            for target in ("web-1", "127.0.0.1", f"127.0.0.1:{port}", f"web-1:{port}"):
                reply, stream = await kit.dial(target)
                assert reply.error == ""
                assert await stream.read_exactly(15) == b"SSH-2.0-agent\r\n"
                assert seen[-1].via_proxy
                stream.abort()
            assert (await kit.refused("web-1:4")).error
            await listener.close()
            assert "does not answer" in (await kit.refused("web-1")).error

    run(body())


def test_an_ambiguous_name_lists_what_may_be_seen(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web", env="staging"), node(N2, "web", env="prod"))
            agent = await kit.agent(N1)
            reply = await kit.refused("web")
            assert N1 in reply.error
            assert N2 in reply.error
            assert "host id" in reply.hint
            limited = kit.authorities.user(roles=("staging",))
            reply, stream = await kit.dial("web", limited)
            assert reply.host_id == N1
            stream.abort()
            kit.cache.networking = type(kit.cache.networking)(
                metadata=kit.cache.networking.metadata,
                spec=NetworkingSpec(routing_strategy="most_recent", case_insensitive_routing=True),
            )
            reply, stream = await kit.dial("WEB", limited)
            assert reply.host_id == N1
            stream.abort()
            await agent.close()

    run(body())


def test_ssh_doors_plain_and_inside_tls(tmp_path: Path) -> None:
    from pkgs.common.net.dial import dial_tcp, dial_tls
    from pkgs.common.net.tls import client_context
    from tests.integration.proxy_kit import PROXY_NAME

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            context = client_context(roots_pem=kit.authorities.roots, alpn=("teleport-proxy-ssh",))
            inside = await dial_tls(kit.addr, context, server_hostname=PROXY_NAME)
            plain = await adopt(await dial_tcp(kit.ssh_addr))
            for stream in (inside, plain):
                assert (await read_line(stream)).startswith(b"127.0.0.1:")
                stream.write(b"SSH-2.0-x")
                assert await stream.read_exactly(9) == b"SSH-2.0-x"
                await stream.close()

    run(body())

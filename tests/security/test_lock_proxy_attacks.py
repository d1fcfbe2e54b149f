"""Attack A14 at the proxy's dial gate: refused at once for every target it can know; what passes is cut."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from pkgs.common.access.locks import STALE_LIMIT_S
from pkgs.common.errors import AccessError, DeniedError
from pkgs.common.net.stream import Stream
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec
from pkgs.proxy import limits
from tests.harness.wait import until
from tests.integration.proxy_kit import Authorities, ProxyKit, node, proxy, role, run

N1 = "11111111-2222-4333-8444-555555555555"
N2 = "22222222-2222-4333-8444-555555555555"
TARGETS: dict[str, tuple[dict[str, Any], str]] = {
    "user": ({}, "alice"),
    "role": ({}, "access"),
    "login": ({}, "root"),
    "server_id": ({}, N1),
    "mfa_device": ({"mfa_device": "factor-1"}, "factor-1"),
    "device": ({"device_id": "laptop-1"}, "laptop-1"),
    "access_request": ({"active_requests": ("r-1",)}, "r-1"),
    "bot_instance_id": ({"bot_name": "b", "bot_instance_id": "i-1"}, "i-1"),
    "join_token": ({"bot_name": "b", "join_token": "t-1"}, "t-1"),
}


def put_lock(kit: ProxyKit, **target: str) -> None:
    spec = LockSpec(target=LockTarget(**target), message="come to the desk")
    kit.cache.locks = (*kit.cache.locks, Lock(metadata=Metadata(name="no"), spec=spec))
    kit.cache.tell("lock")


async def is_cut(stream: Stream) -> float:
    """Seconds until the other side ends it."""
    began = time.monotonic()
    try:
        while await stream.read_some():
            pass
    except AccessError:
        pass
    stream.abort()
    return time.monotonic() - began


@pytest.mark.parametrize("target", TARGETS)
def test_a14_a_new_stream_is_refused_with_the_locks_text(tmp_path: Path, target: str) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            facts, value = TARGETS[target]
            alice = kit.authorities.user(**facts)
            put_lock(kit, **{target: value})
            reply = await kit.refused("web-1", alice, login="root")
            assert f'"{value}" is in force: come to the desk' in reply.error
            denied = [event for event in kit.events if event.code == "T3007W"]
            assert [event.fields["error"] for event in denied] == ["lock no: come to the desk"]
            if target == "login":
                _, stream = await kit.dial("web-1", alice, login="deploy")
                stream.abort()
            kit.cache.locks = ()
            if target == "server_id":
                await until(lambda: not kit.service.tunnels.holds(N1))
            else:
                _, stream = await kit.dial("web-1", alice, login="root")
                stream.abort()
            await agent.close()

    run(body())


@pytest.mark.parametrize("target", TARGETS)
def test_a14_what_passes_is_cut_when_the_agent_does_not_end_it(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CUT_AFTER_S", 0.3)

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"), node(N2, "web-2"))
            agents = [await kit.agent(N1), await kit.agent(N2)]
            kit.cache.roles["all"] = role("all", {"*": "*"})
            facts, value = TARGETS[target]
            _, locked = await kit.dial("web-1", kit.authorities.user(**facts), login="root")
            _, other = await kit.dial("web-2", kit.authorities.user("bob", roles=("all",)), login="deploy")
            for stream in (locked, other):
                await stream.read_some()
            put_lock(kit, **{target: value})
            assert 0.2 < await is_cut(locked) < 5
            other.write(b"still there")
            assert await other.read_some() == b"still there"
            other.abort()
            cut = [event for event in kit.events if event.event == "client.disconnect"]
            assert [event.fields["reason"] for event in cut] == ["lock no: come to the desk"]
            for agent in agents:
                await agent.close()

    run(body())


def test_a14_the_lock_of_a_server_is_told_only_to_those_who_may_see_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1", env="prod"))
            put_lock(kit, server_id=N1)
            stranger = kit.authorities.user("carol", roles=("staging",))
            forbidden = await kit.refused("web-1", stranger)
            unknown = await kit.refused("web-2", stranger)
            assert forbidden.error.replace("web-1", "web-2") == unknown.error
            assert "ServerID" in (await kit.refused("web-1")).error

    run(body())


def test_a14_a_locked_agent_loses_its_tunnel_and_gets_no_other(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            put_lock(kit, server_id=N1)
            await until(lambda: not kit.service.tunnels.holds(N1))
            again = kit.authorities.host_credentials(N1)
            with pytest.raises(DeniedError, match="ServerID"):  # a data connection
                kit.service.verify(_der(again.cert), "127.0.0.1")
            with pytest.raises(TimeoutError):
                await until(lambda: kit.service.tunnels.holds(N1), 1.0)
            await agent.close()

    run(body())


def _der(pem: str) -> bytes:
    return load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def test_f07_strict_refuses_at_the_proxy_too_when_its_view_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CUT_AFTER_S", 0.1)

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            kit.cache.roles["strict"] = Role(
                metadata=Metadata(name="strict"),
                spec=RoleSpec(options=RoleOptions(lock="strict"), allow=Conditions(node_labels={"*": "*"})),
            )
            strict = kit.authorities.user("sid", roles=("strict",))
            _, live = await kit.dial("web-1", strict)
            await live.read_some()
            kit.cache.stale_for_s = STALE_LIMIT_S + 1
            assert "not known for certain" in (await kit.refused("web-1", strict)).error
            _, stream = await kit.dial("web-1")
            stream.abort()
            kit.cache.tell("")
            assert await is_cut(live) < 5
            await agent.close()

    run(body())


def test_a_stream_outlives_its_certificate_but_not_its_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CUT_AFTER_S", 0.1)

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            _, stream = await kit.dial("web-1", kit.authorities.user(ttl_s=2))
            await stream.read_some()
            began = time.time()
            await until(lambda: time.time() > began + 2.1)
            passes = kit.service._reviews.passes
            kit.cache.tell("cert_authority")
            await until(lambda: kit.service._reviews.passes > passes)
            stream.write(b"still there")
            assert await stream.read_some() == b"still there"
            others = Authorities(kit.authorities.cluster)
            kit.cache.trust = Trust.from_authorities([kit.authorities.all[0], others.all[1]])
            kit.cache.tell("cert_authority")
            assert await is_cut(stream) < 5
            await agent.close()

    run(body())


def test_a14_a_lock_on_the_proxy_itself_refuses_everybody(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            put_lock(kit, server_id=kit.member.identity.host_id)
            assert "ServerID" in (await kit.refused("web-1")).error
            await agent.close()

    run(body())

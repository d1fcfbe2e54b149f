"""Membership against the real programs: through the proxy, with and without a pin, over crashes of Auth."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import uvloop

from pkgs.common.api.system import GetClusterStatus
from pkgs.common.errors import DeniedError, TrustError
from pkgs.common.events import codes
from pkgs.common.events.format import new_event
from pkgs.common.membership.member import Member
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.runtime.config import Config, parse_config
from pkgs.common.runtime.process import Process
from tests.harness.cluster import Cluster
from tests.harness.wait import until

TOKEN = "4f7a0c2e8d1b4f5a9c3e7d6b5a4f3e2d"
NODE = SystemRole.NODE


def started() -> AbstractContextManager[Cluster]:
    tokens = {"auth_service": {"tokens": [f"node:{TOKEN}"]}}
    return Cluster.running(name="alpha", services=("auth", "proxy"), overrides=tokens)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started() as made:
        yield made


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """For a test that kills and restarts its services."""
    with started() as made:
        yield made


def run(coroutine):
    async def bounded():
        async with asyncio.timeout(90):
            return await coroutine

    return uvloop.run(bounded())


async def pin_of(cluster: Cluster) -> str:
    client = RpcClient(Endpoint(unix_path=str(cluster.data_dir / "auth.sock")))
    try:
        return (await client.call(GetClusterStatus())).ca_pins[0]
    finally:
        await client.close()


def process_of(
    data_dir: Path, server: str, *, token: str = TOKEN, pin: str = "", insecure: bool = False
) -> Process:
    text = "\n".join(
        [
            "version: v3",
            f"teleport: {{data_dir: {data_dir}, nodename: far-away, auth_token: '{token}', {server}}}",
            "auth_service: {enabled: no}",
            "proxy_service: {enabled: no}",
        ]
    )
    config: Config = parse_config(text)
    if pin:
        config = parse_config(text.replace("nodename", f"ca_pin: '{pin}', nodename", 1))
    if insecure:
        object.__setattr__(config, "insecure", True)
    data_dir.mkdir(mode=0o700)
    return Process(config=config, name="ssh", data_dir=data_dir, log=logging.getLogger("test"))


def test_joining_through_the_proxy_by_pin_and_living_through_a_crash_of_auth(own_cluster, tmp_path):
    cluster = own_cluster

    async def scenario():
        process = process_of(
            tmp_path / "n", f"proxy_server: '{cluster.proxy_addr}'", pin=await pin_of(cluster)
        )
        member = await Member.start(process, NODE)
        try:
            host_id = member.identity.host_id
            await until(lambda: member.cache.proxies)
            server = Node(
                metadata=Metadata(name=host_id), spec=ServerSpec(hostname="far-away", use_tunnel=True)
            )
            member.start_heartbeat(lambda: server)
            await member.heartbeat_now()
            nodes = json.loads(cluster.tctl("get", "nodes", "--format=json").ok().out)
            assert host_id in [node["metadata"]["name"] for node in nodes]

            cluster.daemons["auth"].process.send_signal(signal.SIGKILL)
            cluster.daemons["auth"].process.wait(10)
            await until(lambda: not member.cache.live)
            assert member.cache.role("access")
            sid = "4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77"
            for kind in (codes.SESSION_START, codes.SESSION_END):
                await member.emitter.emit(
                    new_event(
                        kind,
                        cluster_name="alpha",
                        now=process.clock.now(),
                        sid=sid,
                        user="mira",
                        login="root",
                        server_id=host_id,
                        server_hostname="far-away",
                    )
                )
            assert member.emitter.pending == 2
            await asyncio.to_thread(cluster.start_service, "auth")
            await until(lambda: member.cache.live, 60)
            assert await member.emitter.flush(60)
            found = json.loads(cluster.tctl("audit", "ls", "--format=json").ok().out)
            assert [e["event"] for e in found if e.get("sid") == sid] == ["session.start", "session.end"]
        finally:
            await member.close()

    run(scenario())


def test_a38_through_the_proxy_a_wrong_pin_or_token_or_web_certificate_stores_nothing(cluster, tmp_path):
    async def scenario():
        proxy = f"proxy_server: '{cluster.proxy_addr}'"
        pin = await pin_of(cluster)
        for name, options, error in (
            ("pin", {"pin": "sha256:" + "ab" * 32}, TrustError),
            ("web", {}, TrustError),
            ("token", {"pin": pin, "token": "f" * 32}, DeniedError),
            ("web-token", {"insecure": True, "token": "f" * 32}, DeniedError),
        ):
            process = process_of(tmp_path / name, proxy, **options)
            with pytest.raises(error) as caught:
                await Member.start(process, NODE)
            assert "\n" not in str(caught.value) and "f" * 32 not in str(caught.value)
            assert not (tmp_path / name / "proc" / "node").exists()

    run(scenario())


def test_joining_by_the_web_api_without_a_pin_when_told_to_be_insecure(cluster, tmp_path, caplog):
    async def scenario():
        process = process_of(tmp_path / "n", f"proxy_server: '{cluster.proxy_addr}'", insecure=True)
        member = await Member.start(process, NODE)
        try:
            assert member.cache.live
            assert await pin_of(cluster) in member.cache.trust.pins()
        finally:
            await member.close()

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert "INSECURE" in caplog.text


def test_joining_auth_directly_by_pin(cluster, tmp_path):
    async def scenario():
        server = f"auth_server: '127.0.0.1:{cluster.auth_port}'"
        process = process_of(tmp_path / "n", server, pin=await pin_of(cluster))
        member = await Member.start(process, NODE)
        try:
            assert member.cache.live
        finally:
            await member.close()

    run(scenario())

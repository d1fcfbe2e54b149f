"""What the Auth Service can do in a second: certificates, logins, listings. Everything but the network."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from pkgs.auth.accounts.credentials import Accounts
from pkgs.auth.backend.interface import Put
from pkgs.auth.issuing.issue import Order
from pkgs.auth.limits import GUESSES_BURST
from pkgs.auth.service import AuthService
from pkgs.auth.state.store import create_operation
from pkgs.common.api.login import Login
from pkgs.common.api.resources import ListResources
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.resources.kinds import Node, ServerSpec, User, UserSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.runtime.config import parse_config
from pkgs.common.runtime.process import Process
from tests.bench.report import Row, median

AT_ONCE = 16
NODES = 10_000
GOAL_CERTS = 300.0
CONFIG = """
version: v3
teleport: {{nodename: bench, data_dir: {data_dir}}}
auth_service: {{enabled: yes, cluster_name: bench, listen_addr: "127.0.0.1:0",
  authentication: {{second_factor: "off"}}}}
proxy_service: {{enabled: no}}
ssh_service: {{enabled: no}}
"""


async def _rate(one: Callable[[int], Awaitable[object]], seconds: float) -> tuple[float, float]:
    """Runs `one` from several tasks; answers how often per second of CPU, and per second of the clock."""
    done = 0
    end = time.perf_counter() + seconds
    cpu, wall = time.process_time(), time.perf_counter()

    async def worker(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await one(number)
            done += 1

    await asyncio.gather(*(worker(number) for number in range(AT_ONCE)))
    return done / (time.process_time() - cpu), done / (time.perf_counter() - wall)


async def _always(*_: object) -> bool:
    return True


async def _measure(service: AuthService, data_dir: Path, seconds: float) -> list[Row]:
    ssh_key, tls_key = new_ssh_key().public_line, new_tls_key().public_pem
    traits = {"logins": ["root", "deploy"]}
    users = [
        User(metadata=Metadata(name=f"user-{n}"), spec=UserSpec(roles=["access", "editor"], traits=traits))
        for n in range(AT_ONCE)
    ]
    await service.backend.commit([create_operation(user) for user in users])
    roles = service.permissions.roles(("access", "editor"))

    async def issue(number: int) -> None:
        order = Order(
            user=f"user-{number}",
            cluster="bench",
            roles=roles,
            traits={"logins": ("root", "deploy")},
            now=time.time(),
            ttl_s=3600.0,
            client_addr="127.0.0.1",
        )
        await service.issuer.issue(order, ssh_key, tls_key)

    per_core, per_s = await _rate(issue, seconds)
    rows = [
        Row(
            "certificate pairs per CPU second, checked and durably audited",
            per_core,
            "/s",
            goal=f">= {GOAL_CERTS:.0f}",
            met=per_core >= GOAL_CERTS,
            note=f"{per_s:,.0f} a second of the clock, {AT_ONCE} at once",
        )
    ]

    # A login without its hash: the argon2 check is replaced, all else is the real path.
    handler = service.handlers.login
    handler._passwords.verify = _always  # type: ignore[method-assign]
    accounts = Accounts(service.backend)
    for user in users:
        await service.backend.commit([Put(f"/secret/{user.name}/password", b'{"hash":"none"}')])
    assert await accounts.password("user-0") == "none"
    caller = Caller(identity=None, admin=True)

    async def login(number: int) -> None:
        await handler.login(
            caller,
            Login(user=f"user-{number}", password="x", ssh_public_key=ssh_key, tls_public_key=tls_key),
        )

    per_core, per_s = await _rate(login, seconds)
    rows.append(
        Row(
            "logins per CPU second without the password hash",
            per_core,
            "/s",
            note=f"{per_s:,.0f} a second of the clock; a source may try {GUESSES_BURST} at once",
        )
    )
    rows += await _listing(service, data_dir)
    return rows


async def _listing(service: AuthService, data_dir: Path) -> list[Row]:
    """All nodes over the local socket, and the same filtered for a user, without a connection."""
    for start in range(0, NODES, 500):
        await service.backend.commit(
            [
                create_operation(
                    Node(
                        metadata=Metadata(
                            name=str(uuid.uuid4()), labels={"env": ("prod", "qa")[n % 2], "rack": str(n % 40)}
                        ),
                        spec=ServerSpec(hostname=f"node-{n:05}", addr=f"10.0.{n // 256}.{n % 256}:3022"),
                    )
                )
                for n in range(start, start + 500)
            ]
        )
    client = RpcClient(Endpoint(unix_path=str(data_dir / "auth.sock")))
    await client.connect()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        count = 0
        async for chunk in client.stream(ListResources(kind="node")):
            count += len(chunk.resources)
        times.append((time.perf_counter() - started) * 1000)
        assert count == NODES
    await client.close()
    identity = Identity(
        kind=PeerKind.USER,
        name="user-0",
        cluster="bench",
        roles=("access", "editor"),
        traits={"logins": ("root",)},
        logins=("root",),
        expires_at=time.time() + 3600,
    )
    filtered = []
    for _ in range(5):
        started = time.perf_counter()
        count = 0
        stream = service.handlers.resources.list(Caller(identity=identity), ListResources(kind="node"))
        async for chunk in stream:
            count += len(chunk.resources)
        filtered.append((time.perf_counter() - started) * 1000)
        assert count == NODES
    return [
        Row(f"{NODES:,} nodes over the local socket, decoded", median(times), "ms"),
        Row(f"{NODES:,} nodes filtered by a user's roles, in the service", median(filtered), "ms"),
    ]


def run(*, full: bool = True) -> list[Row]:
    """The figures; the short run is for a quick look."""
    data_dir = Path(tempfile.mkdtemp(prefix="ba-"))

    async def main() -> list[Row]:
        process = Process(
            config=parse_config(CONFIG.format(data_dir=data_dir)),
            name="auth",
            data_dir=data_dir,
            log=logging.getLogger("bench"),
        )
        service = AuthService(process)
        await service.open()
        await service.serve()
        try:
            return await _measure(service, data_dir, 5.0 if full else 1.5)
        finally:
            await service.close()

    try:
        return uvloop.run(main())
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)

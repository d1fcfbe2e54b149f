"""How connections for calls begin, break, come back and end; both clients, the real libzmq."""

from __future__ import annotations

import asyncio
import socket
import stat

import msgspec
import pytest

from pkgs.common.errors import (
    AccessError,
    DeniedError,
    InputError,
    LimitExceededError,
    TrustError,
    UnavailableError,
)
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.rpc.limits import ServerLimits
from pkgs.common.rpc.server import RpcServer
from tests.harness.wait import until
from tests.integration.rpc_kit import (
    QUICK,
    SERVER_NAME,
    Authority,
    Count,
    Echo,
    Numbers,
    Parts,
    Sleep,
    WhoAmI,
    cluster,
    identify,
    registry,
    run,
)


def test_the_local_socket_is_for_administrators() -> None:
    async def main() -> None:
        async with cluster() as c:
            assert stat.S_IMODE(c.unix_path.stat().st_mode) == 0o600
            client = RpcClient(Endpoint(unix_path=str(c.unix_path)))
            assert (await client.call(WhoAmI())).text == "admin"
            await client.close()
            other = c.unix_path.with_name("other.sock")
            await c.server.listen_unix(other, admin_uids=[54321])
            refused = RpcClient(Endpoint(unix_path=str(other)), limits=QUICK)
            with pytest.raises(DeniedError, match="not an administrator"):
                await refused.call(WhoAmI(), deadline_s=2)
            await refused.close()

    run(main)


def test_the_router_is_private() -> None:
    async def main() -> None:
        async with cluster() as c:
            assert stat.S_IMODE(c.server.ipc_path.stat().st_mode) == 0o600
            assert stat.S_IMODE(c.server.ipc_path.parent.stat().st_mode) == 0o700

    run(main)


def test_a_peer_that_goes_takes_its_calls_with_it() -> None:
    async def main() -> None:
        async with cluster() as c:
            async with c.client() as client:
                task = asyncio.create_task(client.call(Sleep(), deadline_s=60))
                await until(lambda: c.parts.started == 1)
            await asyncio.wait_for(c.parts.cancelled.wait(), 5)
            with pytest.raises(UnavailableError):
                await task
            await until(lambda: c.server.connections == 0)

    run(main)


def test_a_lost_connection_is_retried_only_with_a_key() -> None:
    async def main() -> None:
        async with cluster() as c, c.client(limits=QUICK) as client:
            plain = asyncio.create_task(client.call(Count(slow=True)))
            keyed = asyncio.create_task(client.call(Count(slow=True), idempotency_key="k"))
            await until(lambda: c.parts.counted == 2)
            assert c.server.drop(lambda caller: True) == 1
            with pytest.raises(UnavailableError):
                await plain
            c.parts.go.set()
            assert (await keyed).text == "ran"
            assert c.parts.counted == 2, "the second attempt joined the first"

    run(main)


def test_reconnect_lets_running_calls_end() -> None:
    async def main() -> None:
        met: list[int] = []
        async with cluster() as c, c.client(on_connected=lambda: met.append(1)) as client:
            running = asyncio.create_task(client.call(Count(slow=True)))
            await until(lambda: c.parts.counted == 1)
            client.reconnect()
            assert (await client.call(WhoAmI())).text == "alice"
            await until(lambda: len(met) == 2)
            c.parts.go.set()
            assert (await running).number == 1
            await until(lambda: c.server.connections == 1)

    run(main)


def test_a_server_that_is_not_there() -> None:
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        client = RpcClient(
            Endpoint(
                host="127.0.0.1",
                port=port,
                ssl_context=Authority().client_context(None),
                server_hostname=SERVER_NAME,
            ),
            limits=QUICK,
        )
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await client.call(WhoAmI(), deadline_s=5)
        assert not client.connected
        await client.close()
        with pytest.raises(UnavailableError):
            await client.call(WhoAmI())

    run(main)


def test_the_second_endpoint_is_tried() -> None:
    async def main() -> None:
        async with cluster() as c:
            nowhere = Endpoint(unix_path=str(c.unix_path) + ".not-there")
            client = RpcClient([nowhere, c.endpoint()])
            await client.connect()
            assert client.connected
            assert client.peer_certificate() is not None
            assert (await client.call(WhoAmI())).text == "alice"
            await client.close()

    run(main)


def test_a_server_of_another_authority_is_not_trusted() -> None:
    async def main() -> None:
        async with cluster() as c:
            endpoint = Endpoint(
                host="127.0.0.1",
                port=c.port,
                ssl_context=Authority("other").client_context("alice"),
                server_hostname=SERVER_NAME,
            )
            client = RpcClient(endpoint, limits=QUICK)
            with pytest.raises(TrustError):
                await client.call(WhoAmI())
            await client.close()
            wrong_name = msgspec.structs.replace(c.endpoint(), server_hostname="proxy.teleport.cluster.local")
            client = RpcClient(wrong_name, limits=QUICK)
            with pytest.raises(TrustError):
                await client.call(WhoAmI())
            await client.close()

    run(main)


def test_draining_lets_calls_end_and_streams_come_back_later() -> None:
    async def main() -> None:
        async with cluster() as c, c.client(limits=QUICK) as client:
            running = asyncio.create_task(client.call(Count(slow=True)))
            stream = client.stream(Numbers(upto=10**9))
            await anext(stream)
            await until(lambda: c.parts.counted == 1)
            draining = asyncio.create_task(c.server.drain(10))
            await until(lambda: c.server.draining)
            with pytest.raises(UnavailableError):
                await client.call(Echo(text="new"))
            assert not draining.done()
            c.parts.go.set()
            assert (await running).text == "ran"
            await asyncio.wait_for(draining, 5)
            with pytest.raises(UnavailableError):
                async for _ in stream:
                    pass
            assert not c.unix_path.exists()

    run(main)


def test_long_paths() -> None:
    async def main() -> None:
        async with cluster() as c:
            deep = c.unix_path.parent / ("d" * 100) / ("e" * 100)
            deep.mkdir(parents=True)
            with pytest.raises(InputError, match="too long"):
                await c.server.listen_unix(deep / "auth.sock")
            server = RpcServer(registry(Parts()), identify=identify)
            await server.start(deep)
            path = c.unix_path.with_name("second.sock")
            await server.listen_unix(path)
            client = RpcClient(Endpoint(unix_path=str(path)))
            assert (await client.call(WhoAmI())).text == "admin"
            await client.close()
            await server.close()
            assert list(deep.iterdir()) == []

    run(main)


def test_a_socket_left_by_a_dead_process_is_replaced_and_a_living_one_is_not() -> None:
    async def main() -> None:
        async with cluster() as c:
            with pytest.raises(LimitExceededError):
                await c.server.listen_unix(c.unix_path)
            dead = c.unix_path.with_name("dead.sock")
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(dead))
            await c.server.listen_unix(dead)
            client = RpcClient(Endpoint(unix_path=str(dead)))
            assert (await client.call(WhoAmI())).text == "admin"
            await client.close()

    run(main)


def test_a_connection_does_not_outlive_its_certificate() -> None:
    async def main() -> None:
        async with cluster(ServerLimits(tick_s=0.05)) as c, c.client("expired", limits=QUICK) as client:
            stream = client.stream(Numbers(upto=10**9))
            with pytest.raises(AccessError):
                async for _ in stream:
                    pass
            await client.close()
            await until(lambda: c.server.connections == 0)

    run(main)


def test_a_dial_that_fails_oddly_is_an_error_of_the_call() -> None:
    async def main() -> None:
        attempts = []

        async def dial(factory: object) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
            attempts.append(1)
            if len(attempts) % 2:
                raise RuntimeError("a bug")
            raise TrustError("not the right one")

        client = RpcClient(dial, limits=QUICK)
        with pytest.raises(UnavailableError):
            await client.call(WhoAmI())
        with pytest.raises(TrustError):
            await client.call(WhoAmI())
        await client.close()

    run(main)


def test_who_is_cancelled_while_a_client_closes_hears_of_it() -> None:
    """A deadline that expires at that moment would be lost, and whoever it bound would go on for ever."""

    async def main() -> None:
        dialling, leave = asyncio.Event(), asyncio.Event()

        async def dial(factory: object) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
            dialling.set()
            try:
                await asyncio.Event().wait()
            finally:
                await leave.wait()
            raise AssertionError

        client = RpcClient(dial, limits=QUICK)
        calling = asyncio.create_task(client.call(WhoAmI()))
        await dialling.wait()
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        closing.cancel()
        leave.set()
        await asyncio.wait((calling, closing))
        assert closing.cancelled()
        await client.close()
        with pytest.raises(UnavailableError):
            await calling

    run(main)

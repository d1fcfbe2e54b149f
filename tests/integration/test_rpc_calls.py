"""Calls over the real thing: TLS, guard, libzmq ROUTER; both clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import msgspec
import pytest
import zmq

from pkgs.common.errors import (
    AccessError,
    DeniedError,
    InputError,
    InternalError,
    LimitExceededError,
    NotFoundError,
    TrustError,
    UnavailableError,
)
from pkgs.common.rpc.blocking import BlockingRpcClient
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.rpc.limits import ServerLimits, WireLimits
from pkgs.common.rpc.wire import GREETING, ZmtpReader, encode_message, encode_ready
from tests.harness.wait import until
from tests.integration.rpc_kit import (
    QUICK,
    SERVER_NAME,
    Collect,
    Count,
    Crash,
    Echo,
    Missing,
    Numbers,
    Said,
    Sleep,
    WhoAmI,
    chunks,
    cluster,
    run,
)


def test_answers_and_errors() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            assert await client.call(Echo(text="hällo", number=3)) == Said("hällo", 3)
            assert (await client.call(WhoAmI())).text == "alice"
            with pytest.raises(NotFoundError) as missing:
                await client.call(Missing())
            assert missing.value.message == "no such thing"
            assert missing.value.hint == "look elsewhere"
            assert missing.value.detail == ""

    run(main)


def test_the_unexpected_crosses_as_an_id_only(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            with pytest.raises(InternalError) as failure:
                await client.call(Crash())
            assert "hunter2" not in str(failure.value)
            trouble = failure.value.message.split("id ")[1].rstrip(")")
            assert trouble in caplog.text
            assert "hunter2" in caplog.text

    run(main)


def test_callers() -> None:
    async def main() -> None:
        async with cluster() as c:
            async with c.client(None) as nobody:
                assert (await nobody.call(WhoAmI())).text == "nobody"
                with pytest.raises(DeniedError):
                    await nobody.call(Echo(text="x"))
            async with c.client("host-1") as host:
                assert (await host.call(WhoAmI())).text == "host-1"
            for name, error in (("banned", TrustError), ("elsewhere", DeniedError)):
                async with c.client(name, limits=QUICK) as refused:
                    for _ in range(3):
                        with pytest.raises(error, match="does not let us in"):
                            await refused.call(WhoAmI(), deadline_s=5)
            async with c.client("expired") as late:
                with pytest.raises(DeniedError, match="expired"):
                    await late.call(WhoAmI())
            assert c.parts.started == 2

    run(main)


def test_a_dealer_of_libzmq_is_a_client_too() -> None:
    """The bytes are ZMTP: the guard takes libzmq's own."""

    async def main() -> None:
        async with cluster() as c:

            def call() -> list[bytes]:
                context = zmq.Context()
                dealer = context.socket(zmq.DEALER)
                dealer.setsockopt(zmq.LINGER, 0)
                dealer.setsockopt(zmq.RCVTIMEO, 5000)
                dealer.connect(f"ipc://{c.unix_path}")
                pack = msgspec.msgpack.encode
                dealer.send_multipart([pack((1, 7, 5000, "Echo")), pack(Echo(text="zmq"))])
                got = dealer.recv_multipart()
                dealer.close()
                context.term()
                return got

            head, body = await asyncio.to_thread(call)
            assert msgspec.msgpack.decode(head) == [8, 7]
            assert msgspec.msgpack.decode(body, type=Said) == Said("zmq")

    run(main)


def test_a_thousand_first_calls() -> None:
    """The start race: a call in the same flight as the greeting, before the ROUTER is connected."""

    async def main() -> None:
        async with cluster() as c:
            context = c.endpoint().ssl_context
            endpoints = (
                Endpoint(host="127.0.0.1", port=c.port, ssl_context=context, server_hostname=SERVER_NAME),
                Endpoint(unix_path=str(c.unix_path)),
            )

            async def first_calls(worker: int) -> int:
                answered = 0
                for number in range(50):
                    client = RpcClient(endpoints[(worker + number) % 2])
                    try:
                        answers = await asyncio.gather(
                            client.call(Echo(text="a", number=number)),
                            client.call(Echo(text="b" * 5000, number=number)),
                        )
                        assert [answer.number for answer in answers] == [number, number]
                        answered += 1
                    finally:
                        await client.close()
                return answered

            assert sum(await asyncio.gather(*map(first_calls, range(20)))) == 1000
            await until(lambda: c.server.connections == 0)

    run(main)


def test_many_at_once_on_one_connection() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            answers = await asyncio.gather(
                *(client.call(Echo(text="x" * number, number=number)) for number in range(250))
            )
            assert [answer.number for answer in answers] == list(range(250))

    run(main)


def test_deadlines() -> None:
    async def main() -> None:
        limits = ServerLimits(max_deadline_s=0.2)
        async with cluster() as c, c.client() as client:
            with pytest.raises(UnavailableError):
                await client.call(Sleep(), deadline_s=0.1)
            await asyncio.wait_for(c.parts.cancelled.wait(), 5)
        async with cluster(limits) as c, c.client() as client:
            with pytest.raises(UnavailableError, match="deadline"):
                await client.call(Sleep(), deadline_s=60)
            assert c.parts.cancelled.is_set()

    run(main)


def test_a_call_given_up_is_cancelled_at_the_server() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            task = asyncio.create_task(client.call(Sleep(), deadline_s=60))
            await until(lambda: c.parts.started == 1)
            task.cancel()
            await asyncio.wait_for(c.parts.cancelled.wait(), 5)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.call(Echo(text="still"))).text == "still"

    run(main)


def test_idempotency_keys() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client, c.client("bob") as other:
            first = await client.call(Count(), idempotency_key="k1")
            again = await client.call(Count(), idempotency_key="k1")
            assert first == again == Said("ran", 1)
            assert (await other.call(Count(), idempotency_key="k1")).number == 2
            with pytest.raises(InputError, match="different request"):
                await client.call(Count(slow=True), idempotency_key="k1")
            running = [
                asyncio.create_task(client.call(Count(slow=True), idempotency_key="k2")) for _ in range(3)
            ]
            await until(lambda: c.parts.counted == 3)
            c.parts.go.set()
            assert {answer.number for answer in await asyncio.gather(*running)} == {3}
            with pytest.raises(NotFoundError):
                await client.call(Missing(), idempotency_key="k3")
            with pytest.raises(NotFoundError):
                await client.call(Missing(), idempotency_key="k3")

    run(main)


def test_sizes() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            text = "x" * (1024 * 1024 - 100)
            assert (await client.call(Echo(text=text))).text == text
            with pytest.raises(LimitExceededError):
                await client.call(Echo(text="x" * 1024 * 1024))
            answers = await asyncio.gather(*(client.call(Echo(text=text, number=n)) for n in range(20)))
            assert sorted(answer.number for answer in answers) == list(range(20))

    run(main)


def test_counts_at_once_are_limited() -> None:
    async def main() -> None:
        limits = ServerLimits(calls_per_connection=4, streams_per_connection=2, connections_per_identity=2)
        async with cluster(limits) as c, c.client() as client:
            held = [asyncio.create_task(client.call(Sleep(), deadline_s=30)) for _ in range(4)]
            await until(lambda: c.parts.started == 4)
            with pytest.raises(LimitExceededError):
                await client.call(Echo(text="one more"))
            streams = [client.stream(Numbers(upto=10**9)) for _ in range(3)]
            for stream in streams[:2]:
                assert (await anext(stream)).number == 0
            with pytest.raises(LimitExceededError):
                await anext(streams[2])
            for stream in streams:
                await stream.aclose()  # type: ignore[attr-defined]
            async with c.client() as second, c.client(limits=QUICK) as third, c.client("bob") as bob:
                assert (await second.call(WhoAmI())).text == "alice"
                with pytest.raises(LimitExceededError):
                    await third.call(WhoAmI(), deadline_s=2)
                assert (await bob.call(WhoAmI())).text == "bob"
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    run(main)


def test_the_blocking_client() -> None:
    async def main() -> None:
        async with cluster() as c:

            def use() -> None:
                raw = socket.create_connection(("127.0.0.1", c.port))
                sock = c.authority.client_context("bob").wrap_socket(raw, server_hostname=SERVER_NAME)
                with BlockingRpcClient(sock) as client:
                    assert client.call(WhoAmI()).text == "bob"
                    with pytest.raises(NotFoundError):
                        client.call(Missing())
                    seen = []
                    for item in client.stream(Numbers(upto=100)):
                        seen.append(item.number)
                        if item.number == 50:
                            assert client.call(Echo(text="in between")).text == "in between"
                    assert seen == list(range(100))
                    stream = client.stream(Numbers(upto=10**9))
                    assert next(stream).number == 0
                    assert isinstance(stream, Iterator)
                    stream.close()  # type: ignore[attr-defined]
                    with pytest.raises(NotFoundError):
                        list(client.stream(Numbers(upto=5, fail_at=3)))
                    got = client.upload(Collect(), [b"x" * 300_000] * 30)
                    assert got.number == 9_000_000
                    assert client.upload(Collect(stop_after=1), [b"x" * 300_000] * 30).number > 0
                    with pytest.raises(UnavailableError):
                        client.call(Sleep(), deadline_s=0.1)
                    with pytest.raises(LimitExceededError):
                        client.call(Echo(text="x" * 1024 * 1024))
                    assert client.call(Count(), idempotency_key="k") == client.call(
                        Count(), idempotency_key="k"
                    )

            await asyncio.to_thread(use)
            await asyncio.wait_for(c.parts.cancelled.wait(), 5)

            def cut() -> None:
                raw = socket.socket(socket.AF_UNIX)
                raw.connect(str(c.unix_path))
                with BlockingRpcClient(raw) as client:
                    assert client.call(WhoAmI()).text == "admin"
                    loop.call_soon_threadsafe(c.server.drop, lambda caller: caller.admin)
                    with pytest.raises(AccessError):
                        client.call(Sleep())

            loop = asyncio.get_running_loop()
            await asyncio.to_thread(cut)

    run(main)


def test_the_loop_of_the_standard_library_will_do() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            assert (await client.call(Echo(text="x" * 500_000))).text == "x" * 500_000
            assert [item.number async for item in client.stream(Numbers(upto=100))] == list(range(100))
            assert (await client.upload(Collect(), chunks(20, 100_000))).number == 2_000_000

    asyncio.run(main())


def test_calls_cancelled_before_they_begin_leave_nothing() -> None:
    """Call and cancel in one flight, more often than calls may be outstanding."""

    async def main() -> None:
        async with cluster(ServerLimits(calls_per_connection=50)) as c:
            reader, writer = await asyncio.open_unix_connection(str(c.unix_path))
            pack = msgspec.msgpack.encode
            writer.write(GREETING + encode_ready("DEALER"))
            for number in range(1, 501):
                writer.write(encode_message((pack((1, number, 60_000, "Sleep")), pack({}))))
                writer.write(encode_message((pack((5, number)), b"")))
            writer.write(encode_message((pack((1, 501, 5000, "Echo")), pack({"text": "last"}))))
            parser = ZmtpReader(WireLimits(), accept="ROUTER")
            messages: list[list[bytes]] = []
            async with asyncio.timeout(5):
                while not messages:
                    events = parser.feed(await reader.read(65536))
                    messages += [event for event in events if isinstance(event, list)]
            assert msgspec.msgpack.decode(messages[0][0]) == [8, 501]
            writer.close()
            await writer.wait_closed()

    run(main)


def test_absurd_deadlines() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            for seconds in (-1.0, 0.0, 1e-9):
                with pytest.raises(UnavailableError):
                    await client.call(Sleep(), deadline_s=seconds)
            assert (await client.call(Echo(text="a"), deadline_s=1e12)).text == "a"
            assert c.server.connections == 1

    run(main)

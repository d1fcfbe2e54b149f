"""Attacks A41-A43 on the RPC port: routing ids, foreign handshakes, dripping peers, floods, hostile bodies.

There is no CURVE in this design (mutual TLS stands around plain ZMTP), so A41's rows about CURVE keys
become: other mechanisms, chosen and stolen routing ids, and handshakes played twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import time
from pathlib import Path

import msgspec
import pytest

from pkgs.common.errors import AccessError, InputError
from pkgs.common.rpc import envelope
from pkgs.common.rpc.client import RpcClient
from pkgs.common.rpc.limits import KIB, MIB, ServerLimits, WireLimits
from pkgs.common.rpc.wire import (
    GREETING,
    ZmtpReader,
    encode_command,
    encode_message,
    encode_ping,
    encode_ready,
)
from tests.harness.wait import until
from tests.integration.rpc_kit import Cluster, Echo, Numbers, Said, WhoAmI, cluster, run

pack = msgspec.msgpack.encode
HELLO = GREETING + encode_ready("DEALER")
LONG_MORE = b"\x03"
LONG_LAST = b"\x02"
QUICK = ServerLimits(handshake_s=0.5, stall_s=0.5, tick_s=0.1)


def call(method: str, body: bytes, call_id: int = 1) -> bytes:
    return encode_message((pack((envelope.CALL, call_id, 5000, method)), body))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


async def closed_by_server(reader: asyncio.StreamReader, deadline_s: float = 5.0) -> bool:
    """Reads until the end; False when the connection still stands at the deadline."""
    try:
        async with asyncio.timeout(deadline_s):
            while await reader.read(65536):
                pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


async def attack(c: Cluster, data: bytes, name: str | None = "alice") -> bool:
    """Send it; whether the server closed the connection."""
    reader, writer = await c.raw(name)
    try:
        with contextlib.suppress(OSError):
            writer.write(data)
            await writer.drain()
        return await closed_by_server(reader)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def error_of(c: Cluster, data: bytes) -> AccessError:
    """Send a call as it is; the typed error that comes back."""
    reader, writer = await c.raw()
    parser = ZmtpReader(WireLimits(), accept="ROUTER")
    try:
        writer.write(HELLO + data)
        async with asyncio.timeout(5):
            while True:
                for event in parser.feed(await reader.read(65536)):
                    if isinstance(event, list):
                        assert envelope.parse_header(event[0]).kind == envelope.ERROR
                        return envelope.decode_error(event[1])
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


ECHO = call("Echo", pack(Echo(text="from the attacker")))


@pytest.mark.parametrize(
    ("name", "greeting"),
    [
        ("ZMTP 1.0", b"\x01\x00"),
        ("ZMTP 1.0 with a routing id", b"\x06\x00alice"),
        ("ZMTP 2.0", b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\x00\x00"),
        ("PLAIN", GREETING[:12] + b"PLAIN".ljust(20, b"\0") + GREETING[32:]),
        ("CURVE", GREETING[:12] + b"CURVE".ljust(20, b"\0") + GREETING[32:]),
        ("GSSAPI", GREETING[:12] + b"GSSAPI".ljust(20, b"\0") + GREETING[32:]),
        ("chosen routing id", GREETING + encode_ready("DEALER", b"alice")),
        ("libzmq's own kind of routing id", GREETING + encode_ready("DEALER", b"\0\x80\0\x41\xa9")),
        ("routing id of 255 bytes", GREETING + encode_ready("DEALER", b"x" * 255)),
        (
            "routing id in other letters",
            GREETING + encode_command(b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER\x08IDENTITY\0\0\0\x01a"),
        ),
        ("a ROUTER", GREETING + encode_ready("ROUTER")),
        ("the handshake twice", HELLO + HELLO),
        ("READY twice", HELLO + encode_ready("DEALER")),
        ("no handshake", b""),
    ],
)
def test_a41_foreign_handshakes_reach_no_handler(name: str, greeting: bytes) -> None:
    async def main() -> None:
        async with cluster() as c:
            assert await attack(c, greeting + ECHO)
            assert c.parts.started == 0
            async with c.client() as honest:
                assert (await honest.call(Echo(text="ok"))).text == "ok"

    run(main)


def test_a41_the_routing_id_of_another_peer() -> None:
    """Even known to the attacker, it is neither taken over nor answered to."""

    async def main() -> None:
        async with cluster() as c, c.client() as victim:
            await victim.call(WhoAmI())
            (stolen,) = c.server._sessions
            assert not stolen.startswith(b"\0")
            assert len(stolen) == 16
            assert await attack(c, GREETING + encode_ready("DEALER", stolen) + ECHO, "mallory")
            assert (await victim.call(Echo(text="mine"))) == Said("mine")
            assert c.parts.started == 2

    run(main)


def test_a41_a_replayed_conversation_has_the_rights_of_who_replays_it() -> None:
    async def main() -> None:
        async with cluster() as c:
            reader, writer = await c.raw(None)
            writer.write(HELLO + ECHO)
            parser = ZmtpReader(WireLimits(), accept="ROUTER")
            events: list[object] = []
            async with asyncio.timeout(5):
                while len(events) < 2:
                    events += parser.feed(await reader.read(65536))
            head, body = events[1]  # type: ignore[misc]
            assert envelope.parse_header(head).kind == envelope.ERROR
            assert envelope.decode_error(body).code == "denied"
            assert c.parts.started == 0
            writer.transport.abort()

    run(main)


def test_a41_replayed_tls_bytes_are_nothing() -> None:
    """A relay that recorded a whole TLS conversation plays it again."""

    async def main() -> None:
        async with cluster() as c:
            recorded: list[bytes] = []

            async def tap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", c.port)

                async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, keep: bool) -> None:
                    with contextlib.suppress(OSError):
                        while data := await source.read(65536):
                            if keep:
                                recorded.append(data)
                            sink.write(data)
                    sink.close()

                await asyncio.gather(copy(reader, up_writer, True), copy(up_reader, writer, False))

            server = await asyncio.start_server(tap, "127.0.0.1", 0)
            tapped = msgspec.structs.replace(c.endpoint(), port=server.sockets[0].getsockname()[1])
            client = RpcClient(tapped)
            assert (await client.call(Echo(text="once"))).text == "once"
            await client.close()
            server.close()
            assert c.parts.started == 1
            reader, writer = await asyncio.open_connection("127.0.0.1", c.port)
            writer.write(b"".join(recorded))
            assert await closed_by_server(reader)
            writer.transport.abort()
            assert c.parts.started == 1

    run(main)


def test_a42_two_hundred_dripping_connections() -> None:
    """Half of them before TLS, some inside the greeting, some inside a message."""

    async def main() -> None:
        async with cluster(QUICK) as c, c.client() as honest:
            await honest.call(WhoAmI())
            loop = asyncio.get_running_loop()
            socks = []
            for _ in range(200):
                sock = socket.socket()
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", c.port))
                socks.append(sock)
            inside = [await c.raw() for _ in range(10)]
            beginnings = (GREETING, HELLO + b"\x02" + (1000).to_bytes(8, "big"))
            began = time.monotonic()
            drips = 0
            waits: list[float] = []

            async def drip() -> None:
                nonlocal drips
                for at, (_, writer) in enumerate(inside):
                    writer.write(beginnings[at % 2])
                hello = b"\x16\x03\x01\x02\x00\x01" + b"\0" * 500
                while time.monotonic() - began < 3:
                    for sock in socks:
                        with contextlib.suppress(OSError):
                            sock.send(hello[drips : drips + 1])
                    for at, (_, writer) in enumerate(inside):
                        if at % 2 and not writer.is_closing():
                            writer.write(b"x")
                    drips += 1
                    await asyncio.sleep(0.1)

            async def work() -> None:
                while time.monotonic() - began < 2:
                    then = time.monotonic()
                    await honest.call(Echo(text="ok"))
                    waits.append(time.monotonic() - then)
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            await work()
            assert max(waits) < 0.5, "honest peers wait for nobody"
            for reader, writer in inside:
                assert await closed_by_server(reader, 3)
                writer.transport.abort()
            await dripping
            for sock in socks:
                with contextlib.suppress(OSError):
                    while await asyncio.wait_for(loop.sock_recv(sock, 100), 3):
                        continue
                sock.close()
            await until(lambda: c.server.connections == 1)
            assert len(c.server._handshaking) == 0

    run(main)


def test_a42_silent_peers_are_asked_and_closed() -> None:
    async def main() -> None:
        limits = ServerLimits(ping_after_s=0.2, idle_close_s=0.6, tick_s=0.1)
        async with cluster(limits) as c, c.client() as honest:
            reader, writer = await c.raw("mallory")
            writer.write(HELLO)
            await honest.call(WhoAmI())
            seen = b""
            async with asyncio.timeout(5):
                while data := await reader.read(1000):
                    seen += data
            assert encode_ping() in seen
            writer.transport.abort()
            assert honest.connected, "who answers pings stays"
            assert (await honest.call(WhoAmI())).text == "alice"

    run(main)


def test_a42_nobody_stays_without_a_certificate() -> None:
    async def main() -> None:
        limits = ServerLimits(anonymous_life_s=0.3, tick_s=0.1, anonymous_connections=2, share_of_source=1.0)
        async with cluster(limits) as c:
            held = [await c.raw(None) for _ in range(2)]
            for _, writer in held:
                writer.write(HELLO)
            await until(lambda: c.server.connections == 2)
            assert await attack(c, HELLO, None), "no more of them at once"
            async with c.client() as honest:
                assert (await honest.call(WhoAmI())).text == "alice"
            for reader, writer in held:
                assert await closed_by_server(reader)
                writer.transport.abort()

    run(main)


def frames_flood(count: int) -> bytes:
    return HELLO + b"\x01\x00" * count


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("1 GB frame header", HELLO + LONG_LAST + (10**9).to_bytes(8, "big") + b"x" * 10_000),
        ("2^63 frame header", HELLO + LONG_LAST + (2**63 - 1).to_bytes(8, "big")),
        ("1 GB command", HELLO + b"\x06" + (10**9).to_bytes(8, "big")),
        ("a frame one byte too long", HELLO + LONG_LAST + (MIB + 1).to_bytes(8, "big")),
        ("10^6 frames in a message", frames_flood(10**6)),
        (
            "five frames of 1 MiB in a message",
            HELLO + (LONG_MORE + MIB.to_bytes(8, "big") + b"\0" * MIB) * 5,
        ),
        ("a message of one part", HELLO + encode_message([b"x"])),
        ("a message of three parts", HELLO + encode_message([b"x", b"y", b"z"])),
        ("a pickle as header", HELLO + encode_message([pickle.dumps((1, 1)), b""])),
        ("a header nested 10,000 deep", HELLO + encode_message([b"\x91" * 10_000, b""])),
        ("an unknown kind", HELLO + encode_message([pack((99, 1)), b""])),
        ("an answer from a client", HELLO + encode_message([pack((envelope.ANSWER, 1)), b""])),
        ("call id 0", HELLO + encode_message([pack((envelope.CALL, 0, 0, "Echo")), b""])),
        ("one id twice at once", HELLO + call("Sleep", pack({}), 5) + call("Sleep", pack({}), 5)),
        ("credit of 2^32", HELLO + encode_message([pack((envelope.CREDIT, 1, 2**32)), b""])),
        ("a chunk for a call", HELLO + call("Sleep", pack({}), 5) + encode_message([pack((4, 5)), b"x"])),
    ],
)
def test_a43_hostile_messages_close_the_connection(name: str, data: bytes) -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as honest:
            await honest.call(Echo(text="ok"))
            before = resident_mib()
            assert await attack(c, data)
            assert resident_mib() - before < 24
            assert (await honest.call(Echo(text="ok"))).text == "ok"
            await until(lambda: c.server.connections == 1)

    run(main)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("unknown method", call("DropEverything", pack({}))),
        ("a method of another shape", call("Numbers", pack(Numbers(upto=1)))),
        ("wrong type", call("Echo", pack({"text": 7}))),
        ("unknown field", call("Echo", pack({"text": "a", "admin": True}))),
        ("duplicate keys", call("Echo", b"\x82\xa4text\xa1a\xa4text\xa1b")),
        ("deep nesting", call("Tree", b"\x81\xa4root" + b"\x91" * 10_000 + b"\xc0")),
        ("deep nesting of maps", call("Tree", b"\x81\xa4root" + b"\x81\xa1a" * 10_000 + b"\xc0")),
        ("a pickle", call("Echo", pickle.dumps(Path("/etc/passwd")))),
        ("trailing bytes", call("Echo", pack({"text": "a"}) + b"\0")),
        ("nothing", call("Echo", b"")),
        ("an announced array of 2^32", call("Tree", b"\x81\xa4root\xdd\xff\xff\xff\xff")),
    ],
)
def test_a43_hostile_bodies_get_a_typed_error(name: str, data: bytes) -> None:
    async def main() -> None:
        async with cluster() as c:
            before = resident_mib()
            assert isinstance(await error_of(c, data), InputError)
            assert resident_mib() - before < 24
            assert c.parts.started == 0

    run(main)


def test_a43_who_may_not_call_learns_nothing_of_the_body() -> None:
    async def main() -> None:
        async with cluster() as c:
            reader, writer = await c.raw(None)
            writer.write(HELLO + call("Echo", b"\xc1 not even MessagePack"))
            parser = ZmtpReader(WireLimits(), accept="ROUTER")
            async with asyncio.timeout(5):
                events: list[object] = []
                while len(events) < 2:
                    events += parser.feed(await reader.read(65536))
            assert envelope.decode_error(events[1][1]).code == "denied"  # type: ignore[index]
            writer.transport.abort()

    run(main)


def test_a43_a_peer_that_does_not_read_its_answers() -> None:
    """It stops being served, holds little memory, and is closed; the others notice nothing."""

    async def main() -> None:
        limits = ServerLimits(stall_s=1.0, tick_s=0.1, outbound_bytes=256 * KIB, backlog_bytes=512 * KIB)
        async with cluster(limits) as c, c.client() as honest:
            await honest.call(Echo(text="ok"))
            before = resident_mib()
            _, writer = await c.raw("mallory")
            body = pack(Echo(text="x" * 200_000))
            writer.transport.pause_reading()
            writer.write(HELLO)

            async def flood() -> None:
                with contextlib.suppress(OSError):
                    for number in range(1, 2000):
                        writer.write(call("Echo", body, number))
                        await writer.drain()

            flooding = asyncio.create_task(flood())
            await until(lambda: c.parts.started > 5)
            for _ in range(50):
                await honest.call(Echo(text="ok"))
            await until(lambda: c.server.connections == 1, 15)
            assert resident_mib() - before < 64
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            writer.transport.abort()

    run(main)


def test_a43_a_peer_above_its_rate_is_slowed_down() -> None:
    async def main() -> None:
        limits = ServerLimits(anonymous_messages_per_s=50)
        async with cluster(limits) as c, c.client(None) as nobody:
            began = time.monotonic()
            await asyncio.gather(*(nobody.call(WhoAmI()) for _ in range(60)))
            await asyncio.gather(*(nobody.call(WhoAmI()) for _ in range(20)))
            assert 0.2 < time.monotonic() - began < 5

    run(main)


def test_a43_a_flood_of_small_messages_is_cut() -> None:
    async def main() -> None:
        limits = ServerLimits(anonymous_messages_per_s=50)
        async with cluster(limits) as c:
            flood = HELLO + b"".join(call("WhoAmI", pack({}), number) for number in range(1, 20_000))
            assert await attack(c, flood, None)
            async with c.client() as honest:
                assert (await honest.call(WhoAmI())).text == "alice"

    run(main)


def test_a43_streams_without_credit_stay_where_they_are() -> None:
    """A peer that opens streams and never reads or grants makes nobody produce more than the window."""

    async def main() -> None:
        async with cluster() as c:
            _, writer = await c.raw()
            writer.write(HELLO)
            for number in range(1, 65):
                head = pack((envelope.STREAM, number, 0, "Numbers"))
                writer.write(encode_message((head, pack(Numbers(upto=10**9)))))
            await until(lambda: c.parts.produced == 64 * 16)
            await asyncio.sleep(0.1)
            assert c.parts.produced == 64 * 16
            writer.transport.abort()
            await until(lambda: c.server.connections == 0)

    run(main)


def test_a43_an_upload_beyond_its_credit_is_cut() -> None:
    async def main() -> None:
        async with cluster() as c:
            data = HELLO + encode_message(
                (pack((envelope.UPLOAD, 1, 0, "Collect")), pack({"stop_after": -2}))
            )
            data += encode_message((pack((envelope.CHUNK, 1)), b"x")) * 20
            assert await attack(c, data)

    run(main)

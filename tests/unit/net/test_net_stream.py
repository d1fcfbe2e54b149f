"""Streams and relays: TLS and raw, half-close, early bytes, back-pressure, broken and silent peers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl

import pytest

from pkgs.common.api.tunnel import UserDial
from pkgs.common.errors import AccessError, ProtocolError, TrustError, UnavailableError
from pkgs.common.net import limits
from pkgs.common.net import relay as relay_module
from pkgs.common.net.dial import dial_tcp, dial_tls, dial_transport
from pkgs.common.net.framing import encode_frame, read_frame
from pkgs.common.net.handshake import accept_tls, accept_tls_on, start_tls
from pkgs.common.net.relay import RelayCounts, relay
from pkgs.common.net.sockets import join_host_port
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import client_context, server_context
from tests.unit.net import certs
from tests.unit.net.loops import on_each_loop, run


async def tls_pair(*, mutual: bool = False, alpn: tuple[str, ...] = ()) -> tuple[Stream, Stream]:
    """(client, server) over TCP."""
    here, there = await tcp_pair()
    client, server = await asyncio.gather(
        start_tls(
            here,
            certs.client(alpn=alpn, name="client.test" if mutual else ""),
            server_hostname=certs.SERVER_NAME,
        ),
        accept_tls(there, certs.server(alpn=alpn, mutual=mutual)),
    )
    return client, server


async def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = await dial_tcp(join_host_port(*listening.getsockname()))
        there, _ = listening.accept()
    return here, there


async def raw_pair() -> tuple[Stream, Stream]:
    here, there = socket.socketpair()
    return await adopt(here), await adopt(there)


PAIRS = {"tls": tls_pair, "raw": raw_pair}
each_pair = pytest.mark.parametrize("kind", PAIRS)


@on_each_loop
@each_pair
def test_bytes_come_as_they_were_sent(kind: str, loop: str) -> None:
    async def body() -> None:
        client, server = await PAIRS[kind]()
        client.write(b"hello world")
        assert await server.read_exactly(5) == b"hello"
        assert await server.read_some() == b" world"
        server.write(b"x" * 100_000)
        sending = asyncio.create_task(server.drain())
        assert await client.read_exactly(100_000) == b"x" * 100_000
        await sending
        client.write_eof()
        assert await server.read_some() == b""
        server.write(b"still open")
        assert await client.read_exactly(10) == b"still open"
        await asyncio.gather(client.close(), server.close())
        assert client.closed
        with pytest.raises(UnavailableError):
            client.write(b"more")

    run(body(), loop)


def test_mutual_tls_shows_the_peers_certificate_and_protocol() -> None:
    async def body() -> None:
        client, server = await tls_pair(mutual=True, alpn=("teleport-dial",))
        assert server.peer_der == ssl.PEM_cert_to_DER_cert(certs.pair("client.test").cert)
        assert client.alpn == server.alpn == "teleport-dial"
        assert server.peer_ip == "127.0.0.1"
        await asyncio.gather(client.close(), server.close())

    run(body())


def test_frames_leave_the_bytes_after_them() -> None:
    async def body() -> None:
        client, server = await tls_pair()
        client.write(encode_frame(UserDial(target="n")) + b"SSH-2.0-x\r\n")
        assert (await read_frame(server, UserDial)).target == "n"
        assert await server.read_some() == b"SSH-2.0-x\r\n"
        client.abort()
        with pytest.raises(UnavailableError):
            await read_frame(server, UserDial)
        server.abort()

    run(body())


async def failing(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[object, object]:
    here, there = await tcp_pair()
    results = await asyncio.gather(
        start_tls(here, client, server_hostname=certs.SERVER_NAME),
        accept_tls(there, server),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, Stream):
            result.abort()
    return results[0], results[1]


def test_a_server_of_another_authority_is_not_trusted() -> None:
    async def body() -> None:
        stranger = certs.pair("other.test")
        context = client_context(roots_pem=stranger.cert)
        ours, theirs = await failing(certs.server(), context)
        assert isinstance(ours, TrustError)
        assert isinstance(theirs, ProtocolError)

    run(body())


def test_old_tls_versions_are_refused() -> None:
    async def body() -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(cadata=certs.roots())
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        ours, theirs = await failing(certs.server(), old)
        assert isinstance(ours, AccessError)
        assert isinstance(theirs, ProtocolError)

    run(body())


def test_a_certificate_is_demanded_where_required() -> None:
    async def body() -> None:
        _, theirs = await failing(certs.server(mutual=True), certs.client())
        assert isinstance(theirs, ProtocolError)

    run(body())


def test_a_key_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TrustError):
        server_context(cert_pem=certs.pair("a.test").cert, key_pem=certs.pair("b.test").key)
    with pytest.raises(TrustError):
        client_context(roots_pem="")


def test_a_54_silent_client_is_cut_off_at_the_deadline() -> None:
    async def body() -> None:
        here, there = await tcp_pair()
        with here, pytest.raises(UnavailableError, match="too long"):
            await accept_tls(there, certs.server(), deadline_s=0.05)
        assert there.fileno() == -1

    run(body())


def test_dialling_nothing_fails_with_a_reason() -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        with pytest.raises(UnavailableError, match="cannot connect"):
            await dial_tls(f"127.0.0.1:{port}", certs.client(), server_hostname="x", deadline_s=2)
        with pytest.raises(UnavailableError, match="cannot connect"):
            await dial_transport(f"127.0.0.1:{port}", None, asyncio.Protocol, deadline_s=2)

    run(body())


# --- relays


async def relayed(left: str, right: str) -> tuple[Stream, Stream, asyncio.Task[RelayCounts]]:
    """client <-left-> relay <-right-> server; the two outer ends and the relay's task."""
    client, a = await PAIRS[left]()
    server, b = await PAIRS[right]()
    return client, server, asyncio.create_task(relay(a, b))


async def collect(stream: Stream) -> bytes:
    digest = hashlib.sha256()
    while piece := await stream.read_some():
        digest.update(piece)
    return digest.digest()


async def send(stream: Stream, data: bytes) -> None:
    for at in range(0, len(data), 100_000):
        stream.write(data[at : at + 100_000])
        await stream.drain()
    stream.write_eof()


@on_each_loop
@pytest.mark.parametrize(("left", "right"), [("tls", "tls"), ("tls", "raw"), ("raw", "tls"), ("raw", "raw")])
def test_a_relay_moves_everything_both_ways_at_once(left: str, right: str, loop: str) -> None:
    async def body() -> None:
        client, server, running = await relayed(left, right)
        up, down = os.urandom(3_000_001), os.urandom(2_000_003)
        _, _, got_up, got_down = await asyncio.gather(
            send(client, up), send(server, down), collect(server), collect(client)
        )
        assert got_up == hashlib.sha256(up).digest()
        assert got_down == hashlib.sha256(down).digest()
        assert await running == RelayCounts(len(up), len(down))
        client.abort()
        server.abort()

    run(body(), loop)


@each_pair
def test_early_bytes_go_first_and_half_close_is_passed_on(kind: str) -> None:
    async def body() -> None:
        client, a = await PAIRS[kind]()
        server, b = await PAIRS[kind]()
        client.write(encode_frame(UserDial(target="n")) + b"early ")
        await read_frame(a, UserDial)
        client.write(b"late")
        client.write_eof()
        running = asyncio.create_task(relay(a, b))
        assert await server.read_exactly(10) == b"early late"
        assert await server.read_some() == b""
        server.write(b"answer after the end")
        assert await client.read_exactly(20) == b"answer after the end"
        await server.close()
        assert await running == RelayCounts(10, 20)
        client.abort()

    run(body())


@each_pair
def test_what_came_before_our_end_is_not_lost(kind: str) -> None:
    """OpenSSL calls it an error to end while something is unread, and forgets it."""

    async def body() -> None:
        client, server = await PAIRS[kind]()
        data = os.urandom(50_000)
        server.write(data)
        await server.close()
        await client._readable()
        assert client.fill(memoryview(bytearray(limits.TLS_RECORD))) == limits.TLS_RECORD
        client.write_eof()
        got = limits.TLS_RECORD
        while more := await client.read_some():
            got += len(more)
        assert got == len(data)
        await client.close()

    run(body())


@each_pair
def test_an_end_that_comes_with_the_last_bytes_is_passed_on(kind: str) -> None:
    """TLS puts data and its close into one segment: no readiness follows that would announce the end."""

    async def body() -> None:
        client, server, running = await relayed(kind, kind)
        client.write(b"x")
        assert await server.read_exactly(1) == b"x"
        sock, quiet = client._sock, []
        client._sock = Recorder(quiet)  # type: ignore[assignment]
        client.push(b"the last")
        client.end_writing()
        sock.send(b"".join(quiet))
        async with asyncio.timeout(2):
            assert await server.read_exactly(8) == b"the last"
            if kind == "tls":
                assert await server.read_some() == b""
        client._sock = sock
        client.abort()
        server.abort()
        await running

    run(body())


class Recorder:
    """Takes the place of a socket: keeps what is sent."""

    def __init__(self, sent: list[bytes]) -> None:
        self._sent = sent

    def send(self, data: bytes) -> int:
        self._sent.append(bytes(data))
        return len(data)

    def shutdown(self, how: int) -> None:
        return


@each_pair
def test_a_reader_that_stops_holds_back_the_sender(kind: str) -> None:
    async def body() -> None:
        client, server, running = await relayed(kind, kind)
        sent = 0
        with pytest.raises(TimeoutError):
            while True:
                client.write(b"x" * 100_000)
                sent += 100_000
                async with asyncio.timeout(0.3):
                    await client.drain()
        assert sent < 64 * 1024 * 1024
        received = 0
        while received < sent:
            received += len(await server.read_some())
            if client.unsent:
                client.flush()
        client.abort()
        server.abort()
        await running

    run(body())


@each_pair
def test_a_broken_peer_ends_the_relay_and_the_other_side(kind: str) -> None:
    async def body() -> None:
        client, server, running = await relayed(kind, kind)
        client.write(b"x")
        assert await server.read_exactly(1) == b"x"
        client.abort()
        assert await server.read_some() == b""
        server.abort()
        await running

    run(body())


def test_nothing_moving_ends_a_relay_that_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        client, a = await raw_pair()
        server, b = await raw_pair()
        assert (await relay(a, b, idle_s=0.05)).idle
        client.abort()
        server.abort()
        monkeypatch.setattr(relay_module.limits, "HALF_CLOSED_IDLE_S", 0.05)
        client, server, running = await relayed("raw", "raw")
        client.write_eof()
        assert (await running).idle
        client.abort()
        server.abort()

    run(body())


def test_a_cancelled_relay_closes_both_sides() -> None:
    async def body() -> None:
        client, server, running = await relayed("tls", "raw")
        client.write(b"x")
        assert await server.read_exactly(1) == b"x"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await server.read_some() == b""
        assert await client.read_some() == b""
        client.abort()
        server.abort()

    run(body())


def test_bytes_that_are_no_tls_end_the_stream() -> None:
    async def body() -> None:
        client, server = await tls_pair()
        client._sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(UnavailableError):
            await server.read_some()
        client.abort()
        server.abort()

    run(body())


def test_a_writer_that_never_drains_is_cut_off() -> None:
    async def body() -> None:
        client, server = await raw_pair()
        with pytest.raises(UnavailableError, match="does not read"):
            for _ in range(2 * limits.WRITE_MAX // 65_536):
                client.write(bytes(65_536))
        client.abort()
        server.abort()

    run(body())


async def shed_pair() -> tuple[Stream, Stream]:
    """Two ends that have ended their TLS: the first in the breath of its last words in it."""
    client, server = await tls_pair()
    client.write(b"last")
    client.shed_writing()
    client.write(b"first")
    assert await server.read_exactly(4) == b"last"
    await server.shed_reading()
    server.write(b"the answer")
    server.shed_writing()
    assert await client.read_exactly(10) == b"the answer"
    await client.shed_reading()
    return client, server


@on_each_loop
def test_streams_that_shed_their_tls_carry_bytes_and_then_another_tls(loop: str) -> None:
    async def body() -> None:
        client, server = await shed_pair()
        server.write(b"raw")
        assert await client.read_exactly(3) == b"raw"
        assert await server.read_exactly(5) == b"first"
        assert not server.holds_more and not client.unsent
        await asyncio.gather(
            accept_tls_on(server, certs.server(mutual=True)),
            client.handshake(
                certs.client(name="client.test"), server=False, server_hostname=certs.SERVER_NAME
            ),
        )
        assert server.peer_der is not None
        data = os.urandom(3_000_000)

        async def send(stream: Stream) -> None:
            for start in range(0, len(data), 70_001):
                stream.write(data[start : start + 70_001])
                await stream.drain()
            stream.write_eof()

        async def receive(stream: Stream) -> bytes:
            got = b""
            while more := await stream.read_some():
                got += more
            return got

        _, _, up, down = await asyncio.gather(send(client), send(server), receive(server), receive(client))
        assert up == data and down == data
        await asyncio.gather(client.close(), server.close())

    run(body(), loop)


@on_each_loop
def test_tls_is_shed_where_it_was_agreed_on_and_nowhere_else(loop: str) -> None:
    async def body() -> None:
        client, server = await tls_pair()
        client.write(b"something more")
        client.shed_writing()
        with pytest.raises(ProtocolError):
            await server.shed_reading()
        client.abort()
        server.abort()
        # Cut without a word: the end of the stream.
        client, server = await tls_pair()
        client.abort()
        await server.shed_reading()
        assert await server.read_some() == b""
        server.abort()
        # What is no TLS is refused on a bare stream as well.
        client, server = await shed_pair()
        with pytest.raises(ProtocolError):
            await accept_tls_on(server, certs.server())
        assert server.closed
        client.abort()

    run(body(), loop)

"""The accept loop: what is peeked, who is closed when, and that nobody holds up anybody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator

import pytest

from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.net import listener as listener_module
from pkgs.common.net.dial import dial_tcp
from pkgs.common.net.handshake import accept_tls, start_tls
from pkgs.common.net.limits import ListenerLimits
from pkgs.common.net.listener import GSS_REQUEST, SSL_REQUEST, Accepted, Listener, bind
from pkgs.common.net.penalties import Penalties, PenaltyLimits
from pkgs.common.net.proxyproto.header import PlainHeaderReader
from pkgs.common.net.sockets import join_host_port, split_host_port
from pkgs.common.net.stream import Stream
from tests.harness.wait import until
from tests.unit.net import certs
from tests.unit.net.loops import on_each_loop, run
from tests.unit.net.test_net_clienthello import HELLO, resplit


class Arrivals:
    """Collects what the listener hands on and holds it until released."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Accepted] = asyncio.Queue()
        self.release = asyncio.Event()

    async def __call__(self, accepted: Accepted) -> None:
        self.queue.put_nowait(accepted)
        try:
            await self.release.wait()
        finally:
            accepted.sock.close()


@contextlib.asynccontextmanager
async def listening(**options: object) -> AsyncIterator[tuple[Listener, Arrivals, str]]:
    arrivals = Arrivals()
    listener = Listener(bind("127.0.0.1:0"), arrivals, **options)  # type: ignore[arg-type]
    listener.start()
    try:
        yield listener, arrivals, listener.addresses[0]
    finally:
        await listener.close()


async def ended(sock: socket.socket) -> bool:
    """Whether the other side closes the connection."""
    try:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(sock, 10) == b""
    except ConnectionError:
        return True


@on_each_loop
def test_the_hello_is_read_and_left_in_place(loop: str) -> None:
    async def body() -> None:
        async with listening() as (_, arrivals, addr):
            sock = await dial_tcp(addr)
            dialling = asyncio.create_task(
                start_tls(sock, certs.client(alpn=("teleport-dial",)), server_hostname=certs.SERVER_NAME)
            )
            accepted = await arrivals.queue.get()
            assert accepted.hello is not None
            assert accepted.hello.alpn == ("teleport-dial",)
            assert accepted.hello.sni == certs.SERVER_NAME
            assert accepted.remote_ip == "127.0.0.1"
            assert accepted.remote_addr == join_host_port(*sock.getsockname())
            assert not accepted.via_proxy
            assert accepted.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            server: Stream = await accept_tls(accepted.sock, certs.server(alpn=("teleport-dial",)))
            client = await dialling
            assert client.alpn == "teleport-dial"
            client.abort()
            server.abort()

    run(body(), loop)


@on_each_loop
def test_a_hello_in_single_bytes_is_read_without_a_spin(loop: str) -> None:
    async def body() -> None:
        async with listening() as (_, arrivals, addr):
            sock = await dial_tcp(addr)
            raw = resplit(HELLO, 200)
            cpu = time.process_time()
            with sock:
                for at in range(len(raw)):
                    await asyncio.get_running_loop().sock_sendall(sock, raw[at : at + 1])
                    await asyncio.sleep(0)
                accepted = await arrivals.queue.get()
                assert accepted.hello is not None
                assert accepted.hello.sni == "proxy.example.com"
                assert accepted.sock.recv(65_536) == raw
            assert time.process_time() - cpu < 2

    run(body(), loop)


def test_a_42_a_54_silent_and_slow_clients_are_closed_at_the_deadline_and_hold_up_nobody() -> None:
    async def body() -> None:
        limits = ListenerLimits(hello_s=3.0)
        async with listening(limits=limits) as (listener, arrivals, addr):
            silent = [await dial_tcp(addr) for _ in range(50)]
            half = await dial_tcp(addr)
            half.send(HELLO[:-1])
            await until(lambda: listener.pending == 51)
            good = await dial_tcp(addr)
            good.send(HELLO)
            await arrivals.queue.get()
            assert listener.pending == 51, "it did not wait for them to be closed"
            for sock in (*silent, half):
                assert await ended(sock)
                sock.close()
            assert listener.pending == 0
            good.close()

    run(body())


def test_a_54_a_flood_of_half_open_connections_pushes_out_the_oldest_only() -> None:
    async def body() -> None:
        limits = ListenerLimits(pending=50, pending_per_source=20)
        async with listening(limits=limits) as (listener, arrivals, addr):
            flood = [await dial_tcp(addr) for _ in range(60)]
            await until(lambda: listener.pending == 20 and listener.connections == 20)
            good = await dial_tcp(addr)
            good.send(HELLO)
            await arrivals.queue.get()
            assert await ended(flood[0])
            for sock in (*flood, good):
                sock.close()

    run(body())


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11\0\x0c" + bytes(12),
    ],
)
def test_what_is_no_hello_is_closed(raw: bytes) -> None:
    async def body() -> None:
        async with listening() as (_, arrivals, addr):
            with await dial_tcp(addr) as sock:
                sock.send(raw)
                assert await ended(sock)
            assert arrivals.queue.empty()

    run(body())


def test_a_client_that_ends_in_the_middle_is_let_go_at_once() -> None:
    async def body() -> None:
        async with listening() as (listener, _, addr):
            sock = await dial_tcp(addr)
            sock.send(HELLO[:50])
            sock.shutdown(socket.SHUT_WR)
            assert await ended(sock)
            sock.close()
            await until(lambda: listener.connections == 0)

    run(body())


def test_one_source_can_not_take_every_place() -> None:
    async def body() -> None:
        async with listening(hello=False, limits=ListenerLimits(per_source=3)) as (_, arrivals, addr):
            kept = [await dial_tcp(addr) for _ in range(3)]
            for _ in kept:
                await arrivals.queue.get()
            extra = await dial_tcp(addr)
            assert await ended(extra)
            arrivals.release.set()
            for sock in kept:
                assert await ended(sock)
                sock.close()
            extra.close()
            with await dial_tcp(addr):
                await arrivals.queue.get()

    run(body())


def test_the_total_is_kept_and_a_penalised_source_is_refused() -> None:
    async def body() -> None:
        async with listening(hello=False, limits=ListenerLimits(total=1)) as (_, arrivals, addr):
            with await dial_tcp(addr), await dial_tcp(addr) as second:
                await arrivals.queue.get()
                assert await ended(second)
        penalties = Penalties(PenaltyLimits(threshold_s=1))
        penalties.punish("127.0.0.1", 30)
        async with listening(hello=False, penalties=penalties) as (_, arrivals, addr):
            with await dial_tcp(addr) as sock:
                assert await ended(sock)

    run(body())


def test_out_of_descriptors_accepting_rests_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr(listener_module.limits, "EXHAUSTED_PAUSE_S", 0.05)
        async with listening(hello=False) as (listener, arrivals, addr):
            real = listener._sockets[0]

            class Exhausted:
                calls = 0

                def accept(self) -> tuple[socket.socket, tuple[str, int]]:
                    self.calls += 1
                    if self.calls < 3:
                        raise OSError(24, os.strerror(24))
                    return real.accept()

                def __getattr__(self, name: str) -> object:
                    return getattr(real, name)

            fake = Exhausted()
            listener._unwatch()
            listener._sockets[0] = fake  # type: ignore[call-overload]
            listener._watch()
            with await dial_tcp(addr):
                await arrivals.queue.get()
            assert fake.calls <= 4

    run(body())


def test_draining_waits_and_says_how_many_are_left() -> None:
    async def body() -> None:
        async with listening(hello=False) as (listener, arrivals, addr):
            sock = await dial_tcp(addr)
            await arrivals.queue.get()
            assert await listener.drain(0.05) == 1
            with pytest.raises(UnavailableError):
                await dial_tcp(addr, deadline_s=1)
            arrivals.release.set()
            assert await listener.drain(5) == 0
            sock.close()

    run(body())


def test_a_balancers_header_is_required_where_configured() -> None:
    async def body() -> None:
        async with listening(verify_proxy=PlainHeaderReader()) as (_, arrivals, addr):
            with await dial_tcp(addr) as sock:
                sock.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n")
                await asyncio.sleep(0)
                sock.send(HELLO)
                accepted = await arrivals.queue.get()
                assert (accepted.remote_ip, accepted.remote_port) == ("192.0.2.7", 4711)
                assert accepted.via_proxy
                assert accepted.sock.recv(65_536) == HELLO
            with await dial_tcp(addr) as sock:
                sock.send(HELLO)
                assert await ended(sock)

    run(body())


def test_a_client_of_postgresql_is_granted_tls() -> None:
    """Its request is all that it says before it is answered; GSSAPI is refused, and then it asks for TLS."""

    async def body() -> None:
        loop = asyncio.get_running_loop()
        async with listening(postgres=True) as (_, arrivals, addr):
            with await dial_tcp(addr) as sock:
                sock.send(GSS_REQUEST)
                assert await loop.sock_recv(sock, 10) == b"N"
                sock.send(SSL_REQUEST[:3])
                await asyncio.sleep(0)
                sock.send(SSL_REQUEST[3:])
                assert await loop.sock_recv(sock, 10) == b"S"
                sock.send(HELLO)
                accepted = await arrivals.queue.get()
                assert accepted.postgres and accepted.hello is not None
                assert accepted.hello.sni == "proxy.example.com"
                assert accepted.sock.recv(65_536) == HELLO
            with await dial_tcp(addr) as sock:
                sock.send(HELLO)
                assert not (await arrivals.queue.get()).postgres
            # Something behind the request, which its client would take for said under TLS (CVE-2021-23222).
            for bad in (SSL_REQUEST + b"x", SSL_REQUEST + HELLO, GSS_REQUEST * 2, bytes(12)):
                with await dial_tcp(addr) as sock:
                    sock.send(bad)
                    assert await ended(sock), bad
        async with listening() as (_, arrivals, addr):
            with await dial_tcp(addr) as sock:
                sock.send(SSL_REQUEST + bytes(8))
                assert await ended(sock)

    run(body())


def test_addresses_are_taken_apart_or_refused() -> None:
    assert split_host_port("[::1]:22") == ("::1", 22)
    assert split_host_port("::1") == ("::1", 0)
    assert split_host_port(":3025") == ("", 3025)
    assert split_host_port("tcp://a.example:1") == ("a.example", 1)
    assert split_host_port("a.example", 3080) == ("a.example", 3080)
    for bad in ("a:b", "a:70000", "[::1", "a:²"):
        with pytest.raises(InputError):
            split_host_port(bad)
    for bad in ("nowhere.invalid:0", "127.0.0.1"):
        with pytest.raises(InputError):
            bind(bad)
    taken = bind("127.0.0.1:0")
    with pytest.raises(UnavailableError, match="cannot listen on"):
        bind(f"127.0.0.1:{taken[0].getsockname()[1]}")
    taken[0].close()

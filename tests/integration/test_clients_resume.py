"""`tsh proxy ssh` resuming: a desk of ours behind a proxy of our own, which cuts the line or lies."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pkgs.agents.ssh.resume.arrivals import FromTunnel
from pkgs.agents.ssh.resume.desk import Desk, Guest
from pkgs.common.api.tunnel import UserDial, UserDialReply
from pkgs.common.net.resume.wire import ACCEPT, CLOSE, HELLO, NEW, OFFER, encode_ticket
from pkgs.common.net.stream import Stream
from tests.harness.wait import wait_for
from tests.integration.clients_kit import ROOT, FakeCluster

TSH = str(ROOT / "bin" / "tsh")
TARGET = ("proxy", "ssh", "root@demo-node.demo:3022")
HOST_ID = "11111111-2222-4333-8444-555555555555"
BANNER = b"SSH-2.0-test\r\n"


class Echo:
    """Connections that send back what they read, behind a desk."""

    logged_in = True
    welcome = True

    def __init__(self) -> None:
        self.desk = Desk(self._begin, lambda: HOST_ID, logging.getLogger("test.desk"))
        self.open = 0
        self.cuts: list[float] = []
        """Seconds after which the next streams are cut."""
        self.streams: list[Stream] = []
        self._echoes: set[asyncio.Task[None]] = set()

    async def serve(self, stream: Stream, dial: UserDial) -> None:
        self.streams.append(stream)
        if self.cuts:
            asyncio.get_running_loop().call_later(self.cuts.pop(0), self._cut, stream)
        assert await self.desk.serve(FromTunnel(stream), "127.0.0.1:1"), "tsh takes the offer"

    @staticmethod
    def _cut(stream: Stream) -> None:
        with contextlib.suppress(OSError):
            stream._sock.shutdown(socket.SHUT_RDWR)

    async def _begin(self, sock: socket.socket, addr: str) -> Guest:
        task = asyncio.create_task(self._echo(sock))
        self._echoes.add(task)
        task.add_done_callback(self._echoes.discard)
        return self

    async def _echo(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        self.open += 1
        with sock, contextlib.suppress(OSError):
            while data := await loop.sock_recv(sock, 65536):
                await loop.sock_sendall(sock, data)
        self.open -= 1

    def may_go_on(self, client_addr: str) -> bool:
        return self.welcome

    def can_be_away(self, is_here: Callable[[], bool]) -> None: ...

    def abandoned(self, why: str) -> None: ...


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with tempfile.TemporaryDirectory(prefix="tc-") as folder, FakeCluster(Path(folder)) as made:
        yield made


@pytest.fixture
def echo(cluster: FakeCluster) -> Iterator[Echo]:
    made = Echo()
    cluster.serve = made.serve
    yield made

    async def close() -> None:
        await made.desk.close()
        await asyncio.gather(*made._echoes)

    asyncio.run_coroutine_threadsafe(close(), cluster._loop).result(10)


@contextlib.contextmanager
def talking(cluster: FakeCluster, *wrapper: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client that has a connection."""
    process = subprocess.Popen(
        [*wrapper, TSH, *TARGET],
        env=cluster.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin and process.stdout
        process.stdin.write(BANNER)
        process.stdin.flush()
        assert process.stdout.read(len(BANNER)) == BANNER
        try:
            yield process
        finally:
            process.kill()


def test_a_stream_that_is_cut_again_and_again_loses_and_repeats_nothing(
    cluster: FakeCluster, echo: Echo
) -> None:
    draw = random.Random(5)
    data = draw.randbytes(24_000_000)
    # The first when there is something to come back to, the others as early as while it is being asked for.
    echo.cuts = [0.5, *(draw.uniform(0.0, 0.08) for _ in range(7))]
    with talking(cluster) as process:
        assert process.stdin and process.stdout and process.stderr
        wait_for(lambda: len(echo.cuts) < 7, what="the first cut")
        writer = threading.Thread(target=process.stdin.write, args=(data,))
        writer.start()
        received = process.stdout.read(len(data))
        writer.join(20)
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0
        assert process.stderr.read() == b"", "nobody is told of what is over at once"
    targets = [dial.target for dial in cluster.dials]
    assert len(targets) > 3
    assert targets[0] == "demo-node"
    assert set(targets[1:]) == {HOST_ID}, "whoever comes back names the server, not what it is called"


@pytest.mark.parametrize("greeting", [b"SSH-2.0-old\r\n", b"teleport-resume-v1\r\nSSH-2.0-new\r\n", b"t"])
def test_a_server_without_the_offer_is_spoken_to_plainly(cluster: FakeCluster, greeting: bytes) -> None:
    async def old(stream: Stream, dial: UserDial) -> None:
        stream.write(greeting)
        await stream.drain()
        await asyncio.sleep(0 if len(greeting) > 1 else 0.05)
        stream.write(b"!")
        while data := await stream.read_some():
            stream.write(data)
            await stream.drain()

    cluster.serve = old
    data = BANNER + os.urandom(3_000_000)
    done = cluster.run("tsh", *TARGET, stdin=data)
    assert done.stdout == greeting + b"!" + data, "not one byte is said twice"
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_speaks_no_ssh_is_told_so(cluster: FakeCluster) -> None:
    done = cluster.run("tsh", *TARGET, stdin=b"GET / HTTP/1.1\r\n\r\n")
    assert done.returncode == 1
    assert done.stderr == b"ERROR: standard input does not speak SSH 2\n"


def test_a_server_that_ends_unheard_did_not_answer(cluster: FakeCluster) -> None:
    async def silent(stream: Stream, dial: UserDial) -> None:
        stream.write_eof()

    cluster.serve = silent
    done = cluster.run("tsh", *TARGET, stdin=BANNER)
    assert done.returncode == 1
    assert b"did not answer" in done.stderr


def test_a14_a_refusal_after_the_loss_is_final_and_told(cluster: FakeCluster, echo: Echo) -> None:
    echo.cuts = [1.0]
    with talking(cluster) as process:
        cluster.reply = UserDialReply(error="locked: enough", code="locked")
        assert process.wait(20) == 1
        assert process.stderr
        err = process.stderr.read()
    assert err == b"ERROR: the connection was lost, and is not resumed: locked: enough\n"
    assert len(cluster.dials) == 2, "it does not ask again"


def test_an_expired_login_is_what_it_fails_for(cluster: FakeCluster, echo: Echo) -> None:
    began, ttl_s = time.time(), 6.0
    cluster.log_in(ttl_s=ttl_s)
    with talking(cluster) as process:
        wait_for(lambda: time.time() > began + ttl_s + 1, what="the login to expire")
        cluster._loop.call_soon_threadsafe(echo._cut, echo.streams[0])
        assert process.wait(20) == 1
        assert process.stderr
        err = process.stderr.read()
    assert err.startswith(
        b"ERROR: the connection was lost, and is not resumed: your login to demo has expired"
    )
    assert b"tsh login" in err


def test_a08_a_server_that_does_not_let_it_go_on_is_believed(cluster: FakeCluster, echo: Echo) -> None:
    echo.cuts = [1.0]
    with talking(cluster) as process:
        echo.welcome = False
        assert process.wait(20) == 1
        assert process.stderr
        err = process.stderr.read()
    assert b"is not resumed: the server does not let it go on" in err
    assert len(cluster.dials) == 2


def test_f08_what_may_pass_is_tried_again_and_a_longer_rest_is_told(cluster: FakeCluster, echo: Echo) -> None:
    echo.cuts = [0.5]
    with talking(cluster) as process:
        cluster.reply = UserDialReply(
            error="server 'x' is not connected to this proxy now", code="unavailable"
        )
        assert process.stdin and process.stdout and process.stderr
        first = process.stderr.readline().decode()
        cluster.reply = UserDialReply()
        process.stdin.write(b"again")
        process.stdin.flush()
        assert process.stdout.read(5) == b"again"
        process.stdin.close()
        assert process.wait(20) == 0
        second = process.stderr.read().decode()
    assert first == (
        "tsh: the connection was lost; trying for a minute to resume it"
        " (server 'x' is not connected to this proxy now)\n"
    )
    assert second.startswith("tsh: the connection was lost, and is resumed after ")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_f12_a_client_that_is_told_to_end_tells_the_server(
    cluster: FakeCluster, echo: Echo, number: signal.Signals
) -> None:
    with talking(cluster) as process:
        process.send_signal(number)
        assert process.wait(20) == 0
        wait_for(lambda: not echo.open and not echo.desk._kept, what="the server to forget it")


def test_signals_that_a_program_shields_it_from_do_not_end_it(cluster: FakeCluster, echo: Echo) -> None:
    """`sftp` has its `ssh` ignore Ctrl-C, which only ends a transfer, and `nohup` the end of a terminal."""
    with talking(cluster, "sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh") as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        assert process.stdin and process.stdout
        process.stdin.write(b"still here")
        process.stdin.flush()
        assert process.stdout.read(10) == b"still here"


@pytest.mark.parametrize("later_s", [0.0, 0.3])
def test_a_server_that_has_ended_keeps_nobody_from_ending_it(cluster: FakeCluster, later_s: float) -> None:
    """While the last bytes wait for a program that does not take them."""
    ended = threading.Event()

    async def serve(stream: Stream, dial: UserDial) -> None:
        stream.write(OFFER)
        await stream.read_exactly(len(HELLO + ACCEPT + NEW))
        stream.write(encode_ticket(b"\x80" * 16, HOST_ID) + b"\x00\x04last" + CLOSE)
        await asyncio.sleep(later_s)  # the end of the connection comes with the last bytes, or on its own
        stream.write_eof()
        while await stream.read_some():
            pass
        ended.set()

    cluster.serve = serve
    ours, full = socket.socketpair()
    with ours, full:
        full.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while full.send(bytes(65536)):
                pass
        argv = [TSH, *TARGET]
        with subprocess.Popen(argv, env=cluster.env, stdin=subprocess.PIPE, stdout=full) as process:
            try:
                assert ended.wait(20)
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
            finally:
                process.kill()


def test_nobody_to_tell_of_the_loss_is_no_reason_to_end(cluster: FakeCluster, echo: Echo) -> None:
    """Such as `ssh -f`, whose terminal was closed long ago."""
    echo.cuts = [0.5]
    with talking(cluster) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stderr.close()
        cluster.reply = UserDialReply(error="not connected", code="unavailable")
        wait_for(lambda: len(cluster.dials) >= 5, what="attempts for so long that it is told")
        cluster.reply = UserDialReply()
        process.stdin.write(b"again")
        process.stdin.flush()
        assert process.stdout.read(5) == b"again"


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00" * 40,
        b"\x80" * 16 + b"\xff" * 40,
        encode_ticket(b"\x80" * 16, HOST_ID) + b"\xff" * 11,
        encode_ticket(b"\x80" * 16, HOST_ID) + b"\x00\xff\xff\xff\xff\x0f" + b"x" * 99,
        encode_ticket(b"\x80" * 16, HOST_ID) + b"\x00\x00" * 10_001,
        encode_ticket(b"\x80" * 16, "\x1b[2J"),
    ],
)
def test_a66_a_server_that_breaks_the_protocol_ends_it_in_one_line(
    cluster: FakeCluster, answer: bytes
) -> None:
    async def hostile(stream: Stream, dial: UserDial) -> None:
        stream.write(OFFER)
        await stream.drain()
        assert await stream.read_exactly(len(HELLO + ACCEPT + NEW)) == HELLO + ACCEPT + NEW
        stream.write(answer)
        await stream.drain()
        while await stream.read_some():
            pass

    cluster.serve = hostile
    done = cluster.run("tsh", *TARGET, stdin=BANNER)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"\x1b" not in done.stderr
    assert done.stdout == b""


def test_a_program_that_is_gone_is_not_reconnected_for(cluster: FakeCluster, echo: Echo) -> None:
    echo.cuts = [1.0]
    with talking(cluster) as process:
        cluster.reply = UserDialReply(error="not connected", code="unavailable")
        wait_for(lambda: len(cluster.dials) > 1, what="the loss")
        assert process.stdin and process.stderr
        process.stdin.close()
        assert process.wait(20) == 1
        assert process.stderr.read() == b"ERROR: the proxy closed the connection\n"

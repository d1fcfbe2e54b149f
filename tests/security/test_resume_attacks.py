"""Attacks on the desk that takes connections up again: guesses, impossible frames, more than its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tracemalloc
from collections.abc import Iterator

import pytest

from pkgs.agents.ssh.resume import desk as desks
from pkgs.common.net.resume.limits import SEND_MAX, WINDOW
from pkgs.common.net.resume.wire import ACCEPT, HELLO, NEW, OFFER, UNKNOWN, encode_number
from tests.harness.wait import wait_for
from tests.integration.resume_kit import EchoDesk, MakeClient, closing_clients, dial, exactly


@pytest.fixture
def echo() -> Iterator[EchoDesk]:
    with EchoDesk() as made:
        yield made


@pytest.fixture
def clients() -> Iterator[MakeClient]:
    with closing_clients() as make:
        yield make


def test_a54_a_connection_that_nobody_logged_in_to_ends_with_its_stream(
    echo: EchoDesk, clients: MakeClient
) -> None:
    client = clients(echo.port)
    echo.guests[0].logged_in = False
    client.cut()
    wait_for(lambda: echo.sockets[0].fileno() == -1, what="the process to see the end")
    assert not client.resume()


@pytest.mark.parametrize(
    "words",
    [
        HELLO + ACCEPT[:-1] + b"9" + NEW,
        HELLO + ACCEPT + b"\x02",
        HELLO + ACCEPT + b"\x7f" * 16,
    ],
)
def test_a66_another_answer_to_the_offer_ends_the_stream(echo: EchoDesk, words: bytes) -> None:
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as sock:
        sock.sendall(words)
        assert exactly(sock, len(OFFER)) == OFFER
        assert sock.recv(1) == b""
    assert not echo.guests


@pytest.mark.parametrize(
    "frames", [b"\xff" * 11, b"\x05\x00", b"\x00" + encode_number(WINDOW + 1), b"\x00\x00" * 10_001]
)
def test_a66_frames_that_cannot_be_end_the_connection(echo: EchoDesk, frames: bytes) -> None:
    with dial(echo.port) as sock:
        sock.sendall(NEW)
        exactly(sock, 16 + 1 + len("host-1"))
        with contextlib.suppress(OSError):
            sock.sendall(frames)
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""
    wait_for(lambda: echo.sockets[0].fileno() == -1, what="the process to see the end")
    assert not echo.desk._kept


def test_a54_a_token_is_not_guessed_and_a_known_one_of_somebody_else_changes_nothing(
    echo: EchoDesk, clients: MakeClient
) -> None:
    client = clients(echo.port)
    for guess in (b"\x80" + bytes(15), client.token[:-1] + bytes([client.token[-1] ^ 1])):
        with dial(echo.port) as sock:
            sock.sendall(guess)
            assert exactly(sock, 1) == UNKNOWN
            assert sock.recv(1) == b""
    assert not echo.guests[0].came_from, "a guess asks nobody"
    echo.guests[0].welcome = False
    with dial(echo.port) as sock:
        sock.sendall(client.token)
        assert exactly(sock, 1) == UNKNOWN
    client.user.sendall(b"still here")
    assert exactly(client.user, 10) == b"still here"


def test_a54_strangers_at_the_desk_are_few_and_others_are_served_meanwhile(
    echo: EchoDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "MEETING_OF_SOURCE", 3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", echo.port), timeout=10))
            sock.sendall(HELLO)
            assert exactly(sock, len(OFFER)) == OFFER
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", echo.port), timeout=10))
        plain.sendall(b"no offer for me")
        wait_for(lambda: echo.plain == [b"no offer for me"], what="a plain connection")
        assert plain.recv(1) == b""
        other = stack.enter_context(
            socket.create_connection(("127.0.0.1", echo.port), timeout=10, source_address=("127.0.0.2", 0))
        )
        assert exactly(other, len(OFFER)) == OFFER


def test_a54_connections_beyond_the_count_are_not_kept_and_the_others_still_come_back(
    echo: EchoDesk, clients: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "RESUMABLE_OF_SOURCE", 1)
    client, beyond, elsewhere = clients(echo.port), clients(echo.port), clients(echo.port, "127.0.0.2")
    beyond.user.sendall(b"beyond")
    assert exactly(beyond.user, 6) == b"beyond"
    for one in (client, beyond, elsewhere):
        one.cut()
    wait_for(lambda: echo.sockets[1].fileno() == -1, what="the one beyond the count to end")
    assert client.resume()
    assert not beyond.resume()
    assert elsewhere.resume("127.0.0.2")
    client.user.sendall(b"kept")
    assert exactly(client.user, 4) == b"kept"


def test_a66_a_client_that_takes_nothing_bounds_what_is_held(echo: EchoDesk) -> None:
    with dial(echo.port) as sock:
        sock.sendall(NEW)
        exactly(sock, 16 + 1 + len("host-1"))
        frame = b"\x00" + encode_number(65536) + b"q" * 65536
        for _ in range(WINDOW // 65536):
            sock.sendall(frame)
        wait_for(lambda: echo.desk._budget.held > SEND_MAX, what="all that it may send to be read")
        [kept] = echo.desk._kept.values()
        assert kept.pipe._state.held <= SEND_MAX
        assert echo.desk._budget.held <= SEND_MAX + WINDOW
        with contextlib.suppress(ConnectionError):
            for _ in range(WINDOW // 65536):
                sock.sendall(frame)
        wait_for(lambda: not echo.desk._kept, what="whoever sends beyond the window to be cut off")
    assert echo.desk._budget.held == 0


def test_a54_frames_of_single_bytes_take_no_more_memory_than_their_bytes(echo: EchoDesk) -> None:
    with dial(echo.port) as sock:
        sock.sendall(NEW)
        exactly(sock, 16 + 1 + len("host-1"))
        frame = b"\x00" + encode_number(65536) + b"q" * 65536
        for _ in range((SEND_MAX + 1024 * 1024) // 65536):
            sock.sendall(frame)
        [kept] = echo.desk._kept.values()
        wait_for(lambda: kept.pipe._inbox, what="its process to be stuck")
        tracemalloc.start()
        try:
            sock.sendall(b"\x00\x01q" * 200_000)
            total = SEND_MAX + 1024 * 1024 + 200_000
            wait_for(
                lambda: kept.pipe._state._received == total,
                what="the frames to be read, which tracing makes slow",
                deadline_s=90,
            )
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), echo._loop).result(20)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert grown < 8 * 1024 * 1024

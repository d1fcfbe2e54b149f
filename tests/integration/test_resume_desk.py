"""A desk in front of connections that echo: what clients get after cuts anywhere, and who is not kept."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from pkgs.common.net.resume.limits import SEND_MAX
from pkgs.common.net.resume.state import Resumable
from pkgs.common.net.resume.wire import NEW, OFFER, TicketReader
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


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_or_repeated_when_connections_are_cut(
    echo: EchoDesk, clients: MakeClient, seed: int
) -> None:
    draw = random.Random(seed)
    data = draw.randbytes(3_000_000)
    client = clients(echo.port)
    writer = threading.Thread(target=client.user.sendall, args=(data,))
    back = hashlib.sha256()
    got = 0

    def collect() -> None:
        nonlocal got
        while got < len(data):
            more = client.user.recv(65536)
            if not more:
                return
            back.update(more)
            got += len(more)

    reader = threading.Thread(target=collect)
    client.cut()
    for thread in (writer, reader):
        thread.start()
    for _ in range(12):
        assert client.resume(most=draw.randrange(1, draw.choice((60, 5_000, 700_000))))
        client.wait_cut()
    assert client.resume()
    writer.join(30)
    reader.join(30)
    assert got == len(data)
    assert back.digest() == hashlib.sha256(data).digest()


def test_the_newest_connection_wins(echo: EchoDesk, clients: MakeClient) -> None:
    client = clients(echo.port)
    client.user.sendall(b"one")
    assert exactly(client.user, 3) == b"one"
    # The old one is whole still: its client's network has changed, and nobody told.
    assert client.resume(), "and the server let go of the old one"
    client.user.sendall(b"two")
    assert exactly(client.user, 3) == b"two"


def test_what_a_process_said_last_waits_for_its_client(echo: EchoDesk, clients: MakeClient) -> None:
    client = clients(echo.port)
    client.user.sendall(b"x")
    assert exactly(client.user, 1) == b"x"
    client.cut()
    [process] = echo.sockets
    process.send(b"goodbye")
    process.shutdown(socket.SHUT_RDWR)
    assert client.resume()
    assert exactly(client.user, 7) == b"goodbye"
    assert client.user.recv(1) == b""
    wait_for(lambda: not echo.desk._kept, what="the connection to be forgotten")


def test_a_client_who_does_not_come_back_is_not_waited_for(clients: MakeClient) -> None:
    with EchoDesk(kept_s=0.3) as echo:
        client = clients(echo.port)
        client.cut()
        wait_for(lambda: echo.sockets[0].fileno() == -1, what="the process to see the end")
        assert echo.guests[0].abandoned_for == "its client did not come back in time"
        assert not client.resume()


def test_a_client_who_ends_is_not_waited_for(echo: EchoDesk, clients: MakeClient) -> None:
    client = clients(echo.port)
    client.user.sendall(b"last")
    client.user.shutdown(socket.SHUT_WR)
    assert exactly(client.user, 4) == b"last", "what was asked for is answered first"
    assert client.user.recv(1) == b""
    wait_for(lambda: not echo.desk._kept, what="the connection to be forgotten")
    assert echo.guests[0].abandoned_for == ""


def test_a_plain_client_is_handed_on_untouched(echo: EchoDesk) -> None:
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as sock:
        assert exactly(sock, len(OFFER)) == OFFER
        sock.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        wait_for(lambda: echo.plain, what="the client to be served")
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as silent:
        # It waits for the server's banner.
        assert exactly(silent, len(OFFER)) == OFFER
        silent.settimeout(0.01)
        wait_for(lambda: not echo.desk._meeting, what="the silent client to be taken for a plain one")
        silent.sendall(b"late")
    wait_for(lambda: len(echo.plain) == 2, what="the silent client to be served")
    assert echo.plain == [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"late"]


def test_a_service_out_of_its_budget_lets_every_connection_move(echo: EchoDesk, clients: MakeClient) -> None:
    echo.desk._budget.total = 0
    client = clients(echo.port)
    data = random.Random(1).randbytes(4_000_000)
    writer = threading.Thread(target=client.user.sendall, args=(data,))
    writer.start()
    assert exactly(client.user, len(data)) == data
    writer.join(10)


def test_out_of_the_budget_an_acknowledgement_behind_a_clients_bytes_is_still_reached(echo: EchoDesk) -> None:
    """What the server waits for comes after all that the client had sent before it began to read."""
    echo.desk._budget.total = 0
    data = random.Random(2).randbytes(SEND_MAX - 100_000)
    state, ticket = Resumable(), TicketReader()
    with dial(echo.port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(NEW)
        while ticket.feed(sock.recv(1)) is None:
            pass
        state.put(data)
        while piece := state.pull():
            sock.sendall(piece)
        back = bytearray()
        while len(back) < len(data):
            received = state.receive(memoryview(sock.recv(65536)))
            back += received
            state.consumed(len(received))
            while piece := state.pull():
                sock.sendall(piece)
    assert back == data

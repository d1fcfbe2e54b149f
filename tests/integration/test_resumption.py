"""Connections that are taken up again at a real desk: cuts anywhere, ends, and who is turned away."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from pkgs.agents.ssh.resume import desk as desks
from pkgs.agents.ssh.resume.arrivals import FromListener
from pkgs.agents.ssh.resume.desk import Desk, Guest
from pkgs.common.access.joining import JOIN_LOGIN
from pkgs.common.errors import AccessError
from pkgs.common.net.resume.limits import SEND_MAX, WINDOW
from pkgs.common.net.resume.state import Resumable
from pkgs.common.net.resume.wire import ACCEPT, HELLO, NEW, OFFER, UNKNOWN, TicketReader, encode_number
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec
from tests.harness.wait import wait_for
from tests.integration.os_user import OTHER
from tests.integration.resume_kit import Client, ResumableNode, dial, exactly
from tests.integration.ssh_kit import User, role
from tests.integration.together_kit import live, prepare, read_until


class EchoGuest:
    """A connection whose process sends back what it reads."""

    def __init__(self) -> None:
        self.logged_in = True
        self.welcome = True
        self.abandoned_for = ""
        self.came_from: list[str] = []

    def may_go_on(self, client_addr: str) -> bool:
        self.came_from.append(client_addr)
        return self.welcome

    def can_be_away(self, is_here: Callable[[], bool]) -> None: ...

    def abandoned(self, why: str) -> None:
        self.abandoned_for = why


class EchoDesk:
    """A desk in front of such connections, on a port of its own. A context manager."""

    def __init__(self, kept_s: float = 20.0) -> None:
        self.guests: list[EchoGuest] = []
        self.sockets: list[socket.socket] = []
        self.plain: list[bytes] = []
        self._kept_s = kept_s
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="desk")

    def __enter__(self) -> EchoDesk:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        log = logging.getLogger("test.desk")
        self.desk = Desk(self._begin, lambda: "host-1", log, kept_s=self._kept_s, silent_s=0.2)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._echoes: set[asyncio.Task[None]] = set()
        accepting = asyncio.create_task(self._accept(listener))
        self._ready.set()
        await self._stop.wait()
        accepting.cancel()
        await self.desk.close()
        for task in self._echoes:
            task.cancel()
        await asyncio.gather(*self._echoes, return_exceptions=True)
        for sock in (listener, *self.sockets):
            sock.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, addr = await self._loop.sock_accept(listener)
            self._spawn(self._meet(sock, f"{addr[0]}:{addr[1]}"))

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._echoes.add(task)
        task.add_done_callback(self._echoes.discard)

    async def _meet(self, sock: socket.socket, addr: str) -> None:
        with sock, contextlib.suppress(AccessError):
            if not await self.desk.serve(FromListener(sock), addr):
                self.plain.append(await self._loop.sock_recv(sock, 100))

    async def _begin(self, sock: socket.socket, addr: str) -> Guest:
        sock.setblocking(False)
        self.sockets.append(sock)
        guest = EchoGuest()
        self.guests.append(guest)
        self._spawn(self._echo(sock))
        return guest

    async def _echo(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := await self._loop.sock_recv(sock, 65536):
                await self._loop.sock_sendall(sock, data)
        sock.close()


@pytest.fixture
def echo() -> Iterator[EchoDesk]:
    with EchoDesk() as made:
        yield made


@pytest.fixture
def clients() -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(port: int, source: str = "127.0.0.1") -> Client:
        made.append(Client(port, source))
        return made[-1]

    yield make
    for client in made:
        client.close()


def read(sock: socket.socket, count: int) -> bytes:
    return exactly(sock, count)


# Bytes.


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_or_repeated_when_connections_are_cut(
    echo: EchoDesk, clients: Callable[..., Client], seed: int
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


def test_the_newest_connection_wins(echo: EchoDesk, clients: Callable[..., Client]) -> None:
    client = clients(echo.port)
    client.user.sendall(b"one")
    assert read(client.user, 3) == b"one"
    # The old one is whole still: its client's network has changed, and nobody told.
    assert client.resume(), "and the server let go of the old one"
    client.user.sendall(b"two")
    assert read(client.user, 3) == b"two"


def test_what_a_process_said_last_waits_for_its_client(
    echo: EchoDesk, clients: Callable[..., Client]
) -> None:
    client = clients(echo.port)
    client.user.sendall(b"x")
    assert read(client.user, 1) == b"x"
    client.cut()
    [process] = echo.sockets
    process.send(b"goodbye")
    process.shutdown(socket.SHUT_RDWR)
    assert client.resume()
    assert read(client.user, 7) == b"goodbye"
    assert client.user.recv(1) == b""
    wait_for(lambda: not echo.desk._kept, what="the connection to be forgotten")


def test_a_client_who_does_not_come_back_is_not_waited_for(clients: Callable[..., Client]) -> None:
    with EchoDesk(kept_s=0.3) as echo:
        client = clients(echo.port)
        client.cut()
        wait_for(lambda: echo.sockets[0].fileno() == -1, what="the process to see the end")
        assert echo.guests[0].abandoned_for == "its client did not come back in time"
        assert not client.resume()


def test_a_client_who_ends_is_not_waited_for(echo: EchoDesk, clients: Callable[..., Client]) -> None:
    client = clients(echo.port)
    client.user.sendall(b"last")
    client.user.shutdown(socket.SHUT_WR)
    assert read(client.user, 4) == b"last", "what was asked for is answered first"
    assert client.user.recv(1) == b""
    wait_for(lambda: not echo.desk._kept, what="the connection to be forgotten")
    assert echo.guests[0].abandoned_for == ""


def test_a54_a_connection_that_nobody_logged_in_to_ends_with_its_stream(
    echo: EchoDesk, clients: Callable[..., Client]
) -> None:
    client = clients(echo.port)
    echo.guests[0].logged_in = False
    client.cut()
    wait_for(lambda: echo.sockets[0].fileno() == -1, what="the process to see the end")
    assert not client.resume()


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


# Attacks.


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
    echo: EchoDesk, clients: Callable[..., Client]
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
    assert read(client.user, 10) == b"still here"


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
    echo: EchoDesk, clients: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "RESUMABLE_OF_SOURCE", 1)
    client, beyond, elsewhere = clients(echo.port), clients(echo.port), clients(echo.port, "127.0.0.2")
    beyond.user.sendall(b"beyond")
    assert read(beyond.user, 6) == b"beyond"
    for one in (client, beyond, elsewhere):
        one.cut()
    wait_for(lambda: echo.sockets[1].fileno() == -1, what="the one beyond the count to end")
    assert client.resume()
    assert not beyond.resume()
    assert elsewhere.resume("127.0.0.2")
    client.user.sendall(b"kept")
    assert read(client.user, 4) == b"kept"


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
            sock.sendall(b"\x00\x01q" * 300_000)
            total = SEND_MAX + 1024 * 1024 + 300_000
            wait_for(lambda: kept.pipe._state._received == total, what="the frames to be read")
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), echo._loop).result(20)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert grown < 8 * 1024 * 1024


def test_a_service_out_of_its_budget_lets_every_connection_move(
    echo: EchoDesk, clients: Callable[..., Client]
) -> None:
    echo.desk._budget.total = 0
    client = clients(echo.port)
    data = random.Random(1).randbytes(4_000_000)
    writer = threading.Thread(target=client.user.sendall, args=(data,))
    writer.start()
    assert read(client.user, len(data)) == data
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


# With the real connections of a node.


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResumableNode]:
    with ResumableNode(tmp_path_factory.mktemp("resumable")) as made:
        yield made


@pytest.fixture(autouse=True)
def as_new(request: pytest.FixtureRequest) -> Iterator[None]:
    """No lock is left by the test before, and no connection: one that was cut is kept for some time."""
    if "node" not in request.fixturenames:
        yield
        return
    node: ResumableNode = request.getfixturevalue("node")
    wait_for(
        lambda: open_connections(node) == 0,
        what="the connections of the test before to end",
        deadline_s=2 * ResumableNode.kept_s,
    )
    try:
        yield
    finally:
        node.state.locks = ()
        node.state.roles["access"] = role("access", logins=["root", OTHER, "nosuchuser"])


class Shell:
    """A logged-in `cat` over a resumable stream."""

    def __init__(self, user: User, client: Client) -> None:
        self.client = client
        self.transport = paramiko.Transport(client.user)
        self.transport.start_client(timeout=20)
        self.transport.auth_publickey("root", user.key())
        self.channel = self.transport.open_session(timeout=10)
        self.channel.settimeout(20)
        self.channel.exec_command("cat")

    def echo(self, text: bytes) -> bytes:
        self.channel.sendall(text)
        got = b""
        while len(got) < len(text) and (more := self.channel.recv(len(text) - len(got))):
            got += more
        return got


@pytest.fixture
def shell(node: ResumableNode, clients: Callable[..., Client]) -> Iterator[Shell]:
    made = Shell(node.user(), clients(node.port))
    assert made.echo(b"one") == b"one"
    yield made
    made.transport.close()


def open_connections(node: ResumableNode) -> int:
    count = node.call(lambda: node.pool.open_connections)
    assert isinstance(count, int)
    return count


def from_networks(*networks: str) -> Role:
    spec = RoleSpec(allow=Conditions(logins=["root"], node_labels={"*": "*"}, source=list(networks)))
    return Role(metadata=Metadata(name="access"), spec=spec)


def test_stock_clients_see_nothing_of_the_offer(node: ResumableNode) -> None:
    done = node.user().ssh("echo plain")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"plain\n", b"")


def test_a_session_goes_on_over_another_connection(node: ResumableNode, shell: Shell) -> None:
    for text in (b"two", b"three" * 100_000):
        shell.client.cut()
        assert shell.client.resume()
        assert shell.echo(text) == text
    assert shell.client.host_id == "11111111-2222-4333-8444-555555555555"


def test_a14_a_lock_that_was_placed_meanwhile_ends_it(node: ResumableNode, shell: Shell) -> None:
    shell.client.cut()
    node.lock(user="alice", message="enough")
    wait_for(lambda: node.events.named("client.disconnect"), what="the end of the connection")
    wait_for(lambda: open_connections(node) == 0, what="its process to end")
    assert not shell.client.resume(), "nothing that was still to be said is told to a locked user"


def test_a14_a_role_that_was_taken_meanwhile_ends_it(node: ResumableNode, shell: Shell) -> None:
    shell.client.cut()
    node.state.roles["access"] = role("access", logins=["nobody"])
    assert not shell.client.resume(), "the decision is made anew, before any review"
    node.tell("role")
    wait_for(lambda: open_connections(node) == 0, what="its process to end")


def test_a12_it_goes_on_from_another_address_only_where_a_login_is_allowed(
    node: ResumableNode, shell: Shell
) -> None:
    node.state.roles["access"] = from_networks("127.0.0.1/32", "127.0.0.3/32")
    shell.client.cut()
    assert not shell.client.resume("127.0.0.2")
    assert shell.client.resume("127.0.0.3")
    assert shell.echo(b"moved") == b"moved"
    shell.transport.open_session(timeout=10).exec_command("true")
    wait_for(
        lambda: node.events.named("session.start")[-1].fields["addr.remote"].startswith("127.0.0.3:"),
        what="the audit of what begins now to name that address",
    )
    node.state.roles["access"] = from_networks("127.0.0.1/32")
    node.tell("role")
    wait_for(
        lambda: open_connections(node) == 0,
        what="what goes on from there to be decided for there",
    )


def test_a12_a_certificate_for_one_address_is_not_carried_to_another(
    node: ResumableNode, clients: Callable[..., Client]
) -> None:
    shell = Shell(node.user(source_addr="127.0.0.1"), clients(node.port))
    assert shell.echo(b"x") == b"x"
    shell.client.cut()
    assert not shell.client.resume("127.0.0.2")
    assert shell.client.resume("127.0.0.1")
    assert shell.echo(b"y") == b"y"
    shell.transport.close()


def test_a30_a_moderator_who_is_away_is_not_present(
    node: ResumableNode, clients: Callable[..., Client]
) -> None:
    """What nobody can watch pauses, as if they had left, and goes on when they are back."""
    prepare(node)
    hans, mona = node.user("hans", roles=("held",)), node.user("mona", roles=("auditor",))
    with hans.logged_in() as transport:
        owner = transport.open_session(timeout=10)
        owner.get_pty()
        owner.exec_command("cat")
        read_until(owner, b"Waiting for participants")
        client = clients(node.port)
        visiting = paramiko.Transport(client.user)
        try:
            visiting.start_client(timeout=20)
            visiting.auth_publickey(JOIN_LOGIN, mona.key())
            moderator = visiting.open_session(timeout=10)
            moderator.set_environment_variable("TELEPORT_SSH_JOIN_MODE", "moderator")
            moderator.get_pty()
            moderator.exec_command(live(node, "hans"))
            read_until(owner, b"the session begins")
            client.cut()
            read_until(owner, b"The session is paused")
            assert client.resume()
            read_until(owner, b"The session is resumed")
            read_until(moderator, b"The session is resumed")
        finally:
            visiting.close()


def test_a_session_that_was_left_outlives_a_client_who_does_not_come_back(
    node: ResumableNode, clients: Callable[..., Client]
) -> None:
    prepare(node)
    client = clients(node.port)
    transport = paramiko.Transport(client.user)
    transport.start_client(timeout=20)
    transport.auth_publickey("root", node.user("rosa").key())
    channels = [transport.open_session(timeout=10) for _ in range(2)]
    channels[0].get_pty()
    pids = []
    for channel in channels:
        channel.exec_command("echo pid=$$.; exec cat")
        pids.append(int(read_until(channel, b".").split(b"pid=")[1].split(b".")[0]))
    session = node.table.find(live(node, "rosa"))
    node.run(session.detach("rosa"))
    client.cut()
    kept = node.desk._kept[desks._key(client.token)]
    node.call(lambda: kept.pipe.close("its client did not come back in time"))
    wait_for(lambda: not Path(f"/proc/{pids[1]}").exists(), what="the session beside it to end")
    assert not [e for e in node.events.named("client.disconnect") if e.fields["user"] == "rosa"]
    assert Path(f"/proc/{pids[0]}").exists()
    node.run(session.kill("root", ""))
    transport.close()


def test_a08_a_token_gives_a_stranger_nothing_but_ciphertext(node: ResumableNode, shell: Shell) -> None:
    """Mallory knows Alice's token and takes the connection up: it stays hers, and a forged byte ends it."""
    shell.client.cut()
    sessions = len(node.events.named("session.start"))
    thief = dial(node.port)
    with thief:
        thief.sendall(shell.client.token)
        assert exactly(thief, 1) == b"\x01"
        received = shell.client._state._received
        # Where Alice's client stands Mallory has to guess; say it was seen on the wire.
        thief.sendall(encode_number(received) + encode_number(WINDOW))
        forged = b"\x00\x00\x00\x0c" + bytes(64)
        thief.sendall(b"\x00" + encode_number(len(forged)) + forged)
        wait_for(lambda: open_connections(node) == 0, what="the forged bytes to end it")
    assert len(node.events.named("session.start")) == sessions
    assert node.events.named("session.start")[-1].fields["user"] == "alice"

"""Real sessions that are taken up again over another connection, and who is turned away then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from pkgs.agents.ssh.resume import desk as desks
from pkgs.common.access.joining import JOIN_LOGIN
from pkgs.common.net.resume.limits import WINDOW
from pkgs.common.net.resume.wire import encode_number
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec
from tests.harness.wait import wait_for
from tests.integration.os_user import OTHER
from tests.integration.resume_kit import Client, MakeClient, ResumableNode, closing_clients, dial, exactly
from tests.integration.ssh_kit import User, role
from tests.integration.together_kit import live, prepare, read_until


@pytest.fixture
def clients() -> Iterator[MakeClient]:
    with closing_clients() as make:
        yield make


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResumableNode]:
    with ResumableNode(tmp_path_factory.mktemp("resumable")) as made:
        yield made


@pytest.fixture(autouse=True)
def as_new(node: ResumableNode) -> Iterator[None]:
    """No lock is left by the test before, and no connection: one that was cut is kept for some time."""
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
def shell(node: ResumableNode, clients: MakeClient) -> Iterator[Shell]:
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
    node: ResumableNode, clients: MakeClient
) -> None:
    shell = Shell(node.user(source_addr="127.0.0.1"), clients(node.port))
    assert shell.echo(b"x") == b"x"
    shell.client.cut()
    assert not shell.client.resume("127.0.0.2")
    assert shell.client.resume("127.0.0.1")
    assert shell.echo(b"y") == b"y"
    shell.transport.close()


def test_a30_a_moderator_who_is_away_is_not_present(node: ResumableNode, clients: MakeClient) -> None:
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
            assert not client.resume("127.0.0.2"), "what a visitor sees was decided for one address"
            assert client.resume()
            read_until(owner, b"The session is resumed")
            read_until(moderator, b"The session is resumed")
        finally:
            visiting.close()


def test_a_session_that_was_left_outlives_a_client_who_does_not_come_back(
    node: ResumableNode, clients: MakeClient
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
    read_until(channels[0], b"it goes on")  # the connection's process has heard of it
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

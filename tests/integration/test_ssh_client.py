"""Outgoing SSH connections against real OpenSSH servers, our own agent, and servers that mean harm."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pkgs.common.errors import AccessError, DeniedError, LimitExceededError, TrustError, UnavailableError
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.ssh.client.channel import ClientChannel
from pkgs.common.ssh.client.command import Capture, run
from pkgs.common.ssh.client.connection import Connection, connect
from pkgs.common.ssh.client.hosts import ByAuthority, HostCheck, Pinned, trust_in_hosts
from pkgs.common.ssh.client.login import UserKey
from pkgs.common.ssh.requests import DirectTcp, TerminalSize
from tests.harness.sshd import NAME, Authority, Sshd
from tests.harness.wait import wait_for
from tests.integration.ssh_kit import HOST_ID, SshNode

pytestmark = pytest.mark.needs("sshd")

USERS, HOSTS, STRANGERS = Authority(), Authority(), Authority()


def by_authority(*names: str, authority: Authority = HOSTS) -> HostCheck:
    return ByAuthority(trust_in_hosts([authority.line]), names or (NAME,), time.time)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sshd")
    key = new_ssh_key()
    certificate = HOSTS.host(key.public_line, NAME)
    with Sshd(folder, USERS.line, host_cert=certificate, host_pem=key.private_pem) as made:
        made.host_line = key.public_line  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def connection(sshd: Sshd) -> Iterator[Connection]:
    made = connect(sshd.dial(), "root", USERS.user(), by_authority())
    yield made
    made.close()
    made.join(10)


def test_a_command_runs_with_input_errors_and_status(connection: Connection) -> None:
    result = run(connection, b"cat; echo oh >&2; exit 7", stdin=b"hello", deadline_s=20)
    assert (result.stdout, result.stderr, result.status) == (b"hello", b"oh\n", 7)
    assert connection.strict_kex


def test_the_signal_that_ended_a_command_is_told(connection: Connection) -> None:
    result = run(connection, b"kill -TERM $$", deadline_s=20)
    assert (result.signal, result.status) == ("TERM", 255)


def test_much_data_arrives_whole_both_ways_across_new_keys(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    key = new_ssh_key()
    certificate = HOSTS.host(key.public_line, NAME)
    often = "RekeyLimit 1M\n"
    with Sshd(
        tmp_path / "s", USERS.line, host_cert=certificate, host_pem=key.private_pem, more=often
    ) as sshd:
        made = connect(sshd.dial(), "root", USERS.user(), by_authority())
        out = run(made, b"cat", stdin=data, deadline_s=60).stdout
        made.close()
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_a_terminal_has_its_size_its_environment_and_changes(connection: Connection) -> None:
    def begin(channel: ClientChannel) -> None:
        channel.env("TP_COLOUR", "blue", reply=True)
        channel.pty("xterm", TerminalSize(91, 31))
        channel.window_change(TerminalSize(101, 41))
        channel.exec(b'stty size; echo "$TP_COLOUR $TERM"')

    capture = Capture(begin)
    capture.bind(connection.open_session(capture))
    assert capture.over.wait(20)
    assert capture.answers == [True, True, True]
    assert capture.output().split() == [b"41", b"101", b"blue", b"xterm"]


def test_a_subsystem_that_is_not_there_is_refused(connection: Connection) -> None:
    capture = Capture(lambda channel: channel.subsystem("no-such"))
    capture.bind(connection.open_session(capture))
    assert capture.over.wait(20) and capture.answers == [False]


def test_tcp_goes_through_the_server(connection: Connection, sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = DirectTcp("127.0.0.1", listener.getsockname()[1], "127.0.0.1", 1)
        capture = Capture(lambda channel: None, b"ping")
        channel = connection.open_direct_tcp(target, capture)
        binding = threading.Thread(target=capture.bind, args=(channel,))
        binding.start()
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(10)
            assert peer.recv(10) == b"ping"
            peer.sendall(b"pong")
        binding.join(10)
        assert capture.over.wait(10) and capture.output() == b"pong"


def test_a_refused_channel_says_why(connection: Connection) -> None:
    capture = Capture(lambda channel: None)
    connection.open_direct_tcp(DirectTcp("127.0.0.1", 1, "127.0.0.1", 1), capture)
    assert capture.over.wait(20)
    assert capture.refusal is not None and "refused" in capture.refusal[1].lower()


def test_the_owner_hears_of_the_end_and_keep_alives_are_answered(sshd: Sshd) -> None:
    ended = threading.Event()
    made = connect(sshd.dial(), "root", USERS.user(), by_authority(), ended=lambda text: ended.set())
    made.keep_alive()
    assert run(made, b"true", deadline_s=20).status == 0
    assert made.keep_alive() == 1
    made.close()
    assert ended.wait(10)


def refuses(sshd: Sshd, key: UserKey, host: HostCheck, kind: type[AccessError], login: str = "root") -> None:
    with pytest.raises(kind):
        connect(sshd.dial(), login, key, host)


def test_a02_a_host_certificate_of_another_authority_is_refused(sshd: Sshd) -> None:
    refuses(sshd, USERS.user(), by_authority(authority=STRANGERS), TrustError)


def test_a_host_certificate_for_another_name_is_refused(sshd: Sshd) -> None:
    refuses(sshd, USERS.user(), by_authority("box8.example.com"), TrustError)


def test_a03_a_plain_host_key_is_refused_unless_pinned(tmp_path: Path) -> None:
    key = new_ssh_key()
    with Sshd(tmp_path / "s", USERS.line, host_pem=key.private_pem) as plain:
        refuses(plain, USERS.user(), by_authority(), TrustError)
        refuses(plain, USERS.user(), Pinned(new_ssh_key().public_line), TrustError)
        made = connect(plain.dial(), "root", USERS.user(), Pinned(key.public_line))
        assert run(made, b"echo in", deadline_s=20).stdout == b"in\n"
        made.close()


def test_a07_an_expired_host_certificate_is_refused(tmp_path: Path) -> None:
    key = new_ssh_key()
    old = HOSTS.host(key.public_line, NAME, valid_after=time.time() - 7200, valid_before=time.time() - 3600)
    with Sshd(tmp_path / "s", USERS.line, host_cert=old, host_pem=key.private_pem) as late:
        refuses(late, USERS.user(), by_authority(), TrustError)


def test_the_server_refuses_strangers_other_logins_and_old_certificates(sshd: Sshd) -> None:
    refuses(sshd, STRANGERS.user(), by_authority(), DeniedError)
    refuses(sshd, USERS.user("nobody"), by_authority(), DeniedError)
    old = USERS.user(valid_after=time.time() - 7200, valid_before=time.time() - 3600)
    refuses(sshd, old, by_authority(), DeniedError)


def test_our_own_agent_is_such_a_server_too(tmp_path: Path) -> None:
    with SshNode(tmp_path) as node:
        user = node.user()
        key = UserKey.load(user.certificate, user.key_file.read_bytes())
        sock = socket.create_connection(("127.0.0.1", node.port))
        made = connect(sock, "root", key, ByAuthority(node.state.trust, (HOST_ID,), time.time))
        result = run(made, b"cat; exit 3", stdin=b"x" * 3_000_000, deadline_s=30)
        assert (len(result.stdout), result.status) == (3_000_000, 3)
        ended = Capture(lambda channel: channel.exec(b"echo up; exec sleep 60"))
        channel = made.open_session(ended)
        ended.bind(channel)
        wait_for(lambda: ended.output() == b"up\n", what="the command")
        channel.signal("TERM")  # which OpenSSH does not pass on to root's commands
        assert ended.over.wait(20) and ended.signal == "TERM"
        made.close()


# Hostile servers.


def served(act: Callable[[socket.socket], None], **how: float) -> AccessError:
    """What a client makes of a server that does this."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                try:
                    act(peer)
                except OSError:
                    return  # the client has hung up, as it should

        thread = threading.Thread(target=serve)
        thread.start()
        sock = socket.create_connection(listener.getsockname())
        with pytest.raises(AccessError) as caught:
            connect(sock, "root", USERS.user(), by_authority(), **how)
        thread.join(20)
        assert not thread.is_alive()
    return caught.value


def test_f15_a66_a_silent_server_ends_at_the_deadline() -> None:
    problem = served(lambda peer: peer.recv(1 << 20) and peer.recv(1 << 20) and None, deadline_s=0.5)  # type: ignore[func-returns-value]
    assert isinstance(problem, UnavailableError) and "the server did not let the login happen" in str(problem)


def test_a66_an_endless_banner_line_ends_the_connection() -> None:
    def flood(peer: socket.socket) -> None:
        while True:
            peer.sendall(b"x" * 65536)

    assert isinstance(served(flood), UnavailableError)


def test_a66_a_huge_packet_is_refused_before_it_is_stored() -> None:
    def huge(peer: socket.socket) -> None:
        peer.sendall(b"SSH-2.0-evil\r\n" + b"\x7f\xff\xff\xff" + b"\0" * 64)
        while peer.recv(65536):
            continue

    assert isinstance(served(huge), UnavailableError)


def test_a66_a_login_is_no_success_before_the_keys() -> None:
    def hurry(peer: socket.socket) -> None:
        body = b"\x34"
        packet = (len(body) + 11).to_bytes(4, "big") + b"\x0a" + body + b"\0" * 10
        peer.sendall(b"SSH-2.0-evil\r\n" + packet)
        while peer.recv(65536):
            continue

    assert isinstance(served(hurry), UnavailableError)


def test_a66_endless_output_is_cut(connection: Connection) -> None:
    with pytest.raises(LimitExceededError):
        run(connection, b"cat /dev/zero", deadline_s=60)

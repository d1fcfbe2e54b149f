"""Attacks on what a login to a node may do: forced commands, locks, forwarding."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import paramiko
import pytest
from paramiko.message import Message

from pkgs.agents.ssh.destinations import refusal_of
from pkgs.common.ssh import wire
from tests.integration.ssh_kit import (
    SshNode,
    User,
    change_role,
    ended,
    wait_until,
)
from tests.security.ssh_attack_kit import (
    USERAUTH_SUCCESS,
    Raw,
)

pytestmark = [
    pytest.mark.needs("ssh", "ssh-keygen", "sftp", "scp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


def test_a13_a_forced_command_is_all_that_runs(node: SshNode) -> None:
    user = node.user("fay", force_command='echo forced "$SSH_ORIGINAL_COMMAND"')
    assert user.ssh("echo free").stdout == b"forced echo free\n"
    assert user.ssh().stdout == b"forced \n"
    assert b"forced" in user.ssh(before=("-tt",)).stdout
    with user.logged_in() as transport:
        for _ in range(2):
            channel = transport.open_session()
            channel.invoke_subsystem("sftp")
            assert channel.recv(100) == b"forced sftp\n"
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("192.0.2.1", 80), ("127.0.0.1", 1))
    copied = subprocess.run(
        ["scp", "-O", *user.options("-P"), "root@127.0.0.1:/etc/hostname", str(user.folder / "stolen")],
        capture_output=True,
    )
    assert copied.returncode != 0
    assert not (user.folder / "stolen").exists() or b"forced" in (user.folder / "stolen").read_bytes()


def test_a14_a_lock_ends_what_is_open_and_stops_what_is_new(node: SshNode) -> None:
    user = node.user("lola")
    argv = user.argv("echo up; sleep 60")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        begun = time.monotonic()
        node.lock(user="lola")
        assert client.wait(10) == 255
        assert time.monotonic() - begun < 5
        assert client.stderr is not None
        assert b'lock targeting User:"lola" is in force\r\n' in client.stderr.read()
    assert user.ssh("id").returncode == 255
    assert node.user("somebody-else").ssh("echo in").stdout == b"in\n"
    assert ended(node, "lola", "client.disconnect").code == "T3006I"


def test_a14_a_lock_between_two_channels_of_one_connection(node: SshNode) -> None:
    user = node.user("lars")
    with user.logged_in() as transport:
        node.state.locks = ()
        first = transport.open_session()
        first.exec_command("echo one")
        assert first.recv(10) == b"one\n"
        node.lock(user="lars")
        wait_until(lambda: not transport.is_active(), "hung up", 10)


def test_roles_are_asked_again_for_every_session(node: SshNode) -> None:
    with node.user("ray").logged_in() as transport:
        old = node.state.roles.pop("access")
        try:
            node.state.roles["access"] = type(old)(metadata=old.metadata)
            channel = transport.open_session()
            channel.exec_command("echo ran")
            assert channel.recv(10) == b""
        finally:
            node.state.roles["access"] = old
    assert ended(node, "ray", "session.rejected")


def _forward(user: User, host: str, port: int = 80) -> None:
    with user.logged_in() as transport:
        transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 1), timeout=20)


def test_a18_forwarding_that_the_roles_do_not_allow(node: SshNode) -> None:
    change_role(node, "access", port_forwarding=False)
    try:
        with pytest.raises(paramiko.ChannelException) as refused:
            _forward(node.user("fred"), "192.0.2.1")
        assert refused.value.code == 1
    finally:
        change_role(node, "access")
    assert ended(node, "fred", "port").code == "T3003E"
    with pytest.raises(paramiko.ChannelException):
        _forward(node.user("frida", extensions=("permit-pty",)), "192.0.2.1")
    assert ended(node, "frida", "port").code == "T3003E"


def test_a18_other_ways_to_the_same_power(node: SshNode) -> None:
    user = node.user()
    asked = (
        ("forwarded-tcpip", b""),
        ("forwarded-streamlocal@openssh.com", wire.string("/run/x.sock") + wire.string("")),
        ("x11", wire.string("127.0.0.1") + wire.uint32(6010)),
        ("auth-agent@openssh.com", b""),
        ("tun@openssh.com", b""),
    )
    refused: list[int] = []
    with user.logged_in() as transport:
        usual = transport._handler_table
        refusal = {92: lambda message: refused.append(message.get_int())}  # CHANNEL_OPEN_FAILURE
        transport._handler_table = {**usual, **refusal}
        for number, (kind, body) in enumerate(asked, 700):
            message = Message()
            message.add_byte(b"\x5a")
            message.add_string(kind)
            for field in (number, 1 << 21, 1 << 15):
                message.add_int(field)
            message.add_bytes(body)
            transport._send_user_message(message)
        assert transport.global_request("hostkeys-prove-00@openssh.com", ("x",)) is None
        wait_until(lambda: refused == [*range(700, 700 + len(asked))], "each is refused")
        transport._handler_table = usual
        channel = transport.open_session()
        channel.exec_command("echo alive")
        assert channel.recv(10) == b"alive\n"


def test_a19_an_unknown_os_user_is_refused_before_any_dial(node: SshNode) -> None:
    with pytest.raises((paramiko.SSHException, EOFError)):
        _forward(node.user("nils"), "192.0.2.1")
    assert False is _logged_in_as(node, "nosuchuser")


def _logged_in_as(node: SshNode, login: str) -> bool:
    user = node.user()
    with Raw(node) as raw:
        raw.begin()
        key = paramiko.Ed25519Key.from_private_key_file(str(user.key_file))
        return raw.request(login, user.blob, key) == USERAUTH_SUCCESS


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "127.1", "0x7f000001"),
        *("169.254.169.254", "fd00:ec2::254", "fe80::1", "224.0.0.1", "255.255.255.255", "2130706433"),
        "nonsense.invalid",
    ],
)
def test_a20_destinations_that_are_never_dialled(node: SshNode, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as victim:
        victim.settimeout(0.2)
        port = victim.getsockname()[1]
        with pytest.raises(paramiko.ChannelException):
            _forward(node.user("ada"), host, port)
        with pytest.raises(TimeoutError):
            victim.accept()
    assert ended(node, "ada", "port").code == "T3003E"


def test_a20_rules_by_address() -> None:
    for address in (
        "127.0.0.1",
        "127.255.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.1.1",
        "fe80::1%eth0",
        "0.0.0.0",
    ):
        assert refusal_of(address), address
    assert not refusal_of("198.51.100.7")


def _answer_an_open(node: SshNode, answer: Callable[[int], bytes]) -> bool:
    """A client that lies about a channel the node opens; whether its connection ends."""
    with node.user("liv").logged_in() as transport:
        port = transport.request_port_forward("127.0.0.1", 0)
        numbers: list[int] = []

        def parse(message: Message) -> None:
            message.get_text()
            numbers.append(message.get_int())
            reply = Message(answer(numbers[-1]))
            transport._send_user_message(reply)

        transport._handler_table = {**transport._handler_table, 90: parse}  # CHANNEL_OPEN
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            return bool(wait_until(lambda: numbers and not transport.is_active(), "the connection ends"))


@pytest.mark.parametrize("lie", ["packet size of nothing", "another channel", "data before"])
def test_a66_lies_about_a_channel_that_the_node_opens(node: SshNode, lie: str) -> None:
    answers = {
        "packet size of nothing": lambda n: b"\x5b" + b"".join(map(wire.uint32, (n, 0, 1 << 20, 0))),
        "another channel": lambda n: b"\x5b" + b"".join(map(wire.uint32, (n + 1, 0, 1 << 20, 1 << 15))),
        "data before": lambda n: b"\x5e" + wire.uint32(n) + wire.string("x"),
    }
    assert _answer_an_open(node, answers[lie])

"""Attacks on a node's SSH protocol: order, algorithms, floods, and what its processes hold."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.message import Message

from pkgs.common.ssh import wire
from tests.integration.ssh_kit import (
    SshNode,
    wait_until,
)
from tests.security.ssh_attack_kit import (
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


@pytest.mark.parametrize(
    "message",
    [
        b"\x5a" + wire.string("session") + wire.uint32(0) + wire.uint32(1 << 21) + wire.uint32(1 << 15),
        b"\x50" + wire.string("tcpip-forward") + b"\1" + wire.string("") + wire.uint32(0),
        b"\x06" + wire.string("ssh-userauth"),
        b"\x34",
        b"\x15",
        b"\x62" + wire.uint32(0) + wire.string("exec") + b"\1" + wire.string("id"),
        b"\x5e" + wire.uint32(0) + wire.string("x"),
        b"\x3d" + wire.uint32(0),
    ],
    ids=["open", "global", "accept", "success", "newkeys", "request", "data", "info-response"],
)
@pytest.mark.parametrize("asked_for_service", [False, True])
def test_a10_messages_out_of_order(node: SshNode, message: bytes, asked_for_service: bool) -> None:
    before = len(node.events.all)
    with Raw(node) as raw:
        if asked_for_service:
            raw.begin()
        raw.send(message)
        assert raw.hung_up()
    assert not [e for e in node.events.all[before:] if e.event.startswith("session")]


def _packets(sock: socket.socket) -> Iterator[bytes]:
    """Unencrypted packets."""
    reader = sock.makefile("rb")
    while line := reader.readline():
        if line.startswith(b"SSH-"):
            break
    while head := reader.read(5):
        length = int.from_bytes(head[:4], "big")
        body = reader.read(length - 1)
        yield body[: length - 1 - head[4]]


def _packet(payload: bytes) -> bytes:
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes((padding,)) + payload + b"\0" * padding


def test_a11_a16_what_the_server_offers(node: SshNode) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        reader = wire.Reader(next(_packets(sock))[17:])
        kex, keys, ciphers, _, macs, _, compression = (reader.text().split(",") for _ in range(7))
    assert set(ciphers) == {"aes128-gcm@openssh.com", "aes256-gcm@openssh.com"}
    assert "kex-strict-s-v00@openssh.com" in kex
    assert not [name for name in kex if "sha1" in name or "group1" in name]
    assert not [name for name in macs if "sha1" in name or "md5" in name]
    assert compression == ["none"]
    assert keys[0] in ("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com")


def test_a11_an_extra_message_in_a_strict_key_exchange(node: SshNode) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        packets = _packets(sock)
        next(packets)
        lists = [
            "curve25519-sha256,kex-strict-c-v00@openssh.com",
            "ssh-ed25519",
            *["aes128-gcm@openssh.com"] * 2,
            *["hmac-sha2-256"] * 2,
            *["none"] * 2,
            "",
            "",
        ]
        kexinit = b"\x14" + os.urandom(16) + b"".join(wire.string(one) for one in lists) + b"\0" * 5
        sock.sendall(_packet(kexinit) + _packet(b"\x02" + wire.string("x")))
        assert list(packets) == []


@pytest.mark.parametrize(
    "option",
    [
        "Ciphers=aes256-cbc",
        "Ciphers=chacha20-poly1305@openssh.com",
        "Ciphers=aes128-ctr",
        "KexAlgorithms=diffie-hellman-group14-sha1",
        "HostKeyAlgorithms=ssh-rsa",
    ],
)
def test_a16_weak_algorithms_are_not_negotiated(node: SshNode, option: str) -> None:
    done = node.user().ssh("id", before=("-o", option))
    assert done.returncode == 255
    assert b"no matching" in done.stderr or b"Bad" in done.stderr


def test_a16_other_key_types_work_and_weak_ones_do_not(node: SshNode, tmp_path: Path) -> None:
    for kind, bits, extra, good in (
        ("ecdsa", "256", (), True),
        ("ecdsa", "521", (), True),
        ("rsa", "2048", (), True),
        ("rsa", "2048", ("-o", "PubkeyAcceptedAlgorithms=ssh-rsa-cert-v01@openssh.com"), False),
        ("rsa", "1024", ("-o", "RequiredRSASize=1024"), False),
    ):
        folder = tmp_path / f"{kind}{bits}{good}"
        folder.mkdir()
        subprocess.run(
            ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", folder / "id"], check=True
        )
        ca = folder / "ca"
        ca.touch(0o600)
        ca.write_bytes(node.users.spec.active_keys.ssh[0].private_key)
        subprocess.run(
            [
                *("ssh-keygen", "-q", "-s", ca, "-I", "alice", "-n", "root", "-V", "-1m:+1h"),
                *("-O", 'extension:teleport-roles={"version":"v1","roles":["access"]}', folder / "id.pub"),
            ],
            check=True,
        )
        user = node.user()
        user.key_file = folder / "id"
        done = user.ssh("echo in", before=extra)
        assert (done.stdout == b"in\n") is good, (kind, bits, done.stderr)


def test_a54_a_silent_client_and_an_endless_banner_are_ended(node: SshNode) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as sock:
        sock.sendall(b"SSH-2.0-" + b"x" * 100_000)
        _drain(sock)
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as sock:
        sock.sendall(b"SSH-2.0-x\r\n" + (0xFFFFFFF0).to_bytes(4, "big") + b"\0" * 100)
        _drain(sock)


def _drain(sock: socket.socket) -> None:
    """Read until the server ends the connection, one way or the other."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(4096):
            pass


def test_a66_more_data_than_granted_ends_the_connection(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command("sleep 30")
        for _ in range(200):
            message = Message()
            message.add_byte(b"\x5e")
            message.add_int(channel.remote_chanid)
            message.add_string(b"x" * 32000)
            with contextlib.suppress(EOFError, OSError):
                transport._send_user_message(message)
        wait_until(lambda: not transport.is_active(), "hung up", 10)


def test_a66_overflowing_window_and_tiny_packets(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        for _ in range(3):
            message = Message()
            message.add_byte(b"\x5d")
            message.add_int(channel.remote_chanid)
            message.add_int(0xFFFFFFFF)
            transport._send_user_message(message)
        wait_until(lambda: not transport.is_active(), "hung up", 10)
    with node.user().logged_in() as transport, pytest.raises(paramiko.ChannelException):
        transport.default_max_packet_size = 0
        message = Message()
        message.add_byte(b"\x5a")
        message.add_string("session")
        for number in (0, 1 << 21, 0):
            message.add_int(number)
        transport._send_user_message(message)
        transport.open_channel("nonsense")


def test_channels_are_bounded(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        opened = []
        with pytest.raises(paramiko.ChannelException):
            for _ in range(100):
                opened.append(transport.open_session())
        assert len(opened) == 32


def test_a65_processes_of_connections_hold_no_key_and_show_no_secret(node: SshNode) -> None:
    assert node.pool._process is not None
    pid = node.pool._process.pid
    canary = node.users.spec.active_keys.ssh[0].private_key.splitlines()[2]
    assert canary not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert canary not in Path(f"/proc/{pid}/environ").read_bytes()
    found = 0
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in maps:
            span, permissions, *_ = line.split()
            if "rw" in permissions and "[vvar]" not in line:
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                found += canary in memory.read(end - start)
    assert found == 0

"""Files where no files may go: every program that copies them, live transfers, and what outlasts a lock."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import paramiko.sftp_client
import pytest

from pkgs.common.ssh import wire
from pkgs.common.ssh.limits import MAX_SHOWN_COMMAND
from tests.integration.ssh_kit import SshNode, User, change_role, ended, wait_until

pytestmark = [
    pytest.mark.needs("ssh", "sftp", "scp", "rsync", "git"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
NO_COPIES = b"file copying is not permitted"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


@pytest.fixture
def no_copies(node: SshNode) -> Iterator[None]:
    change_role(node, "access", ssh_file_copy=False)
    yield
    change_role(node, "access")


def shell(user: User) -> str:
    return "ssh " + " ".join(user.options())


@pytest.mark.usefixtures("no_copies")
def test_a13_no_program_copies_files_where_that_is_switched_off(node: SshNode, tmp_path: Path) -> None:
    user = node.user("noemi")
    bare, target = tmp_path / "bare.git", tmp_path / "target"
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    for argv in (
        ["rsync", "-a", "-e", shell(user), "/etc/hostname", f"root@127.0.0.1:{target}"],
        ["rsync", "-a", "-e", shell(user), "root@127.0.0.1:/etc/hostname", str(target)],
        ["git", "clone", "-q", f"ssh://root@127.0.0.1{bare}", str(target)],
    ):
        env = {**os.environ, "GIT_SSH_COMMAND": shell(user)}
        done = subprocess.run(argv, env=env, capture_output=True, timeout=60)
        assert done.returncode != 0
        assert NO_COPIES in done.stderr
        assert not target.exists()
    server = "/usr/lib/openssh/sftp-server"
    padding = "#" * MAX_SHOWN_COMMAND
    for command in (
        server, f"exec {server}", f"sh -c {server}", f"/usr/bin/env scp -t {target}", f"'scp' -qt {target}",
        f": {padding}\nscp -t {target}",
    ):  # fmt: skip
        done = user.ssh(command)
        assert (done.returncode, done.stderr.strip(), done.stdout) == (255, NO_COPIES, b""), command[:100]
    assert user.ssh("echo still").stdout == b"still\n"
    told = [event.code for event in node.events.all if event.fields.get("error") == NO_COPIES.decode()]
    assert told == ["T3010E"] * 3 + ["TS020E"] * 3 + ["T3010E"] * 3


def test_a14_losing_the_right_to_copy_ends_a_live_transfer_and_nothing_else(
    node: SshNode, tmp_path: Path
) -> None:
    user, other = node.user("tara"), node.user("toni")
    with user.logged_in() as transport, other.logged_in() as shell_only:
        waiting = shell_only.open_session()
        waiting.exec_command("cat")
        sftp = paramiko.sftp_client.SFTPClient.from_transport(transport)
        assert sftp is not None
        sftp.mkdir(str(tmp_path / "made"))
        try:
            change_role(node, "access", ssh_file_copy=False)
            node.tell("role")
            wait_until(lambda: not transport.is_active(), "the transfer is over", 5)
        finally:
            change_role(node, "access")
        assert shell_only.is_active()
        waiting.send(b"still\n")
        assert waiting.recv(100) == b"still\n"
    assert ended(node, "tara", "client.disconnect").fields["reason"] == NO_COPIES.decode()


def test_a14_a_lock_ends_a_copy_on_the_server_itself(node: SshNode, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(1 << 40)  # copying it would take an hour, and the disk's whole room
    with node.user("cora").logged_in() as transport:
        sftp = paramiko.sftp_client.SFTPClient.from_transport(transport)
        assert sftp is not None
        read, write = sftp.open(str(source), "r"), sftp.open(str(target), "w")
        number = (0).to_bytes(8, "big")
        body = wire.string("copy-data") + wire.string(read.handle) + number * 2 + wire.string(write.handle)
        transport_channel = sftp.get_channel()
        assert transport_channel is not None
        packet = wire.uint32(1000) + body + number
        transport_channel.send((len(packet) + 1).to_bytes(4, "big") + b"\xc8" + packet)
        wait_until(lambda: target.stat().st_size > 0, "the copy goes on")
        began = time.monotonic()
        node.lock(user="cora")
        wait_until(lambda: node.pool.open_connections == 0, "the process is gone", 10)
        assert time.monotonic() - began < 5
    size = target.stat().st_size
    target.unlink()
    assert size < 1 << 40


def test_a13_under_a_forced_command_there_is_no_file_server(node: SshNode, tmp_path: Path) -> None:
    user = node.user("fiona", force_command="echo forced")
    for flags in ((), ("-O",)):
        argv = ["scp", *flags, *user.options("-P"), "/etc/hostname", f"root@127.0.0.1:{tmp_path}/x"]
        assert subprocess.run(argv, capture_output=True, timeout=60).returncode != 0
    argv = ["sftp", *user.options("-P"), "-b", "-", "root@127.0.0.1"]
    done = subprocess.run(argv, input=f"mkdir {tmp_path}/x\n".encode(), capture_output=True, timeout=60)
    assert done.returncode != 0
    assert not (tmp_path / "x").exists()
    assert not [event for event in node.events.named("sftp") if event.fields["user"] == "fiona"]


def test_a57_a_clients_variables_change_nothing_for_the_file_server(node: SshNode, tmp_path: Path) -> None:
    with node.user("enya").logged_in() as transport:
        channel = transport.open_session()
        channel.update_environment(
            {"HOME": str(tmp_path), "LD_PRELOAD": "/x.so", "PATH": "/tmp", "LANG": "C"}
        )
        channel.invoke_subsystem("sftp")
        sftp = paramiko.sftp_client.SFTPClient(channel)
        kind, reply = sftp._request(200, "expand-path@openssh.com", "~")  # type: ignore[attr-defined]
        assert kind == 104
        assert reply.get_int() == 1
        assert reply.get_text() == os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)

"""What OpenSSH users may ask for that is unusual and still theirs: rare signals, long commands, many keys."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import SshNode, ended

pytestmark = [
    pytest.mark.needs("ssh", "sftp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node


def test_a_signal_without_a_name_ends_its_command_and_no_other(node: SshNode) -> None:
    with node.user("rita").logged_in() as transport:
        other = transport.open_session()
        other.exec_command("cat")
        dying = transport.open_session()
        dying.exec_command("kill -40 $$")
        assert dying.recv(1) == b""
        event = ended(node, "rita", "exec")
        other.sendall(b"still here\n")
        assert other.recv(100) == b"still here\n"
        other.shutdown_write()
        assert other.recv_exit_status() == 0
    assert event.fields["exitError"] == "signal RTMIN+6"


@pytest.mark.parametrize("size", [70_000, 131_000])
def test_a_long_command_runs_as_far_as_the_kernel_takes_it(node: SshNode, size: int) -> None:
    command = "printf %s '" + "x" * (size - 20) + "' | wc -c"
    assert node.user().ssh(command).stdout.strip() == str(size - 20).encode()


@pytest.mark.parametrize("size", [131_072, 140_000])
def test_a_command_that_is_too_long_is_refused_in_words(node: SshNode, size: int) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command(": " + "x" * (size - 2))
        assert channel.recv_exit_status() == 255
        assert b"too long" in channel.recv_stderr(1000)
        again = transport.open_session()
        again.exec_command("echo fine")
        assert again.recv(100) == b"fine\n"


def test_a_user_may_exchange_keys_as_often_as_openssh_lets_them(node: SshNode) -> None:
    """Forty megabytes with `RekeyLimit=1M`: more key exchanges than a stranger has."""
    data = os.urandom(40_000_000)
    limit = ("-o", "RekeyLimit=1M")
    up = node.user().ssh("md5sum", before=limit, stdin=data)
    assert up.stdout[:32].decode() == hashlib.md5(data, usedforsecurity=False).hexdigest(), up.stderr


def test_keys_are_exchanged_while_nothing_moves(node: SshNode) -> None:
    """And compression, which a client may ask for, is never agreed on."""
    quiet = ("-v", "-C", "-o", "RekeyLimit=1G 1", "-o", "ServerAliveInterval=1")
    done = node.user().ssh("sleep 3; echo through", before=quiet)
    assert done.stdout == b"through\n", done.stderr
    assert done.stderr.count(b"SSH2_MSG_NEWKEYS received") >= 2, done.stderr
    agreed = [line for line in done.stderr.splitlines() if b"compression:" in line]
    assert agreed
    assert all(line.rstrip().endswith(b"compression: none") for line in agreed), agreed


def test_a_listing_shows_names_of_users(node: SshNode, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    argv = ["sftp", *node.user().options("-P"), "-b", "-", "root@127.0.0.1"]
    batch = f"ls -l {tmp_path}/file\n".encode()
    done = subprocess.run(argv, input=batch, capture_output=True, timeout=60)
    assert done.stdout.splitlines()[-1].split()[2:4] == [b"root", b"root"]


def test_a_file_is_renamed_where_no_link_can_be_made(node: SshNode) -> None:
    """Version 3's own rename, which most libraries use, of a file that may not be linked to."""
    with node.user(logins=(OTHER,)).logged_in(OTHER) as transport:
        sftp = paramiko.SFTPClient.from_transport(transport)
        assert sftp is not None
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            Path(folder, "old").write_text("of root")
            Path(folder, "taken").write_text("x")
            with pytest.raises(OSError, match="exists"):
                sftp.rename(f"{folder}/old", f"{folder}/taken")
            sftp.rename(f"{folder}/old", f"{folder}/new")
            assert Path(folder, "new").read_text() == "of root"


def test_ten_sessions_in_one_connection_keep_their_data_apart(node: SshNode) -> None:
    data = os.urandom(3_000_000)
    results: dict[int, bool] = {}
    with node.user().logged_in() as transport:

        def one(number: int) -> None:
            channel = transport.open_session()
            channel.exec_command(f"cat; echo {number} >&2; exit {number}")

            def send() -> None:
                channel.sendall(data)
                channel.shutdown_write()

            sender = threading.Thread(target=send)
            sender.start()
            got = b""
            while piece := channel.recv(65536):
                got += piece
            sender.join(30)
            errors = b""
            while piece := channel.recv_stderr(65536):
                errors += piece
            # Root's own profile may have had something to say before.
            said = errors.splitlines()[-1:] == [b"%d" % number]
            results[number] = got == data and said and channel.recv_exit_status() == number

        threads = [threading.Thread(target=one, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert results == dict.fromkeys(range(10), True)


def test_f17_without_a_word_in_the_roles_an_expired_certificate_ends_nothing_but_starts_nothing(
    node: SshNode,
) -> None:
    expires = int(time.time()) + 2
    user = node.user("fay", valid_before=float(expires))
    with user.logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command("cat")
        while time.time() < expires + 0.1:
            channel.sendall(b".")
            assert channel.recv(1) == b"."
        channel.sendall(b"on")
        assert channel.recv(2) == b"on"
        refused = transport.open_session()
        refused.exec_command("echo no")
        assert refused.recv_exit_status() == 255
        assert refused.recv_stderr(100) == b"access denied\r\n"
    assert "expired" in str(ended(node, "fay", "session.rejected").fields["reason"])

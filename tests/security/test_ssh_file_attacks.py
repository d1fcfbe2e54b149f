"""Attacks through a node's file transfers and the variables that a client sends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paramiko
import paramiko.sftp_client
import pytest

from pkgs.agents.ssh.session.env import ClientEnv
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import (
    SshNode,
    User,
    change_role,
    ended,
    wait_until,
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


def _sftp(user: User, batch: str, login: str = "root") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sftp", *user.options("-P"), "-b", "-", f"{login}@127.0.0.1"],
        input=batch.encode(),
        capture_output=True,
        timeout=60,
    )


def test_a56_a_file_transfer_can_do_what_its_user_can_and_no_more(node: SshNode, tmp_path: Path) -> None:
    user = node.user("fil")
    secret = tmp_path / "secret"
    secret.write_text("canary")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    got = user.folder / "got"
    for path in (str(secret), f"../../../../../../../..{secret}"):
        done = _sftp(user, f"get {path} {got}\n", login=OTHER)
        assert done.returncode != 0
        assert not got.exists()
    link = f"/tmp/link-{os.getpid()}"
    done = _sftp(user, f"symlink {secret} {link}\nput {user.key_file} {link}\n", login=OTHER)
    Path(link).unlink(missing_ok=True)
    assert done.returncode != 0
    assert secret.read_text() == "canary"


def test_a56_names_with_newlines_are_whole_and_inert_in_the_audit(node: SshNode, tmp_path: Path) -> None:
    name = "a\nT1000I user.login\x1b]0;x\x07\udcff"
    with node.user("eve").logged_in() as transport:
        sftp = paramiko.sftp_client.SFTPClient.from_transport(transport)
        assert sftp is not None
        path = os.fsencode(str(tmp_path)) + b"/" + os.fsencode(name)
        with sftp.open(path, "w") as file:  # type: ignore[arg-type]
            file.write(b"x")
        sftp.close()
    assert os.fsencode(name) in [os.fsencode(found.name) for found in tmp_path.iterdir()]
    event = ended(node, "eve", "sftp")
    assert str(event.fields["path"]).endswith("\\xff")
    str(event.fields["path"]).encode()


def test_a56_scp_of_both_kinds_and_its_odd_flags(node: SshNode, tmp_path: Path) -> None:
    user = node.user("scott")
    source = tmp_path / "with space and $(touch gone)"
    source.write_bytes(os.urandom(100_000))
    for flags in ((), ("-O",)):
        target = tmp_path / f"copy{len(flags)}"
        subprocess.run(
            ["scp", *flags, *user.options("-P"), str(source), f"root@127.0.0.1:{target}"], check=True
        )
        assert target.read_bytes() == source.read_bytes()
    assert not (tmp_path / "gone").exists()
    assert user.ssh("scp -t -Z /nonexistent/x").returncode != 0
    assert ended(node, "scott", "scp").code in ("T3005I", "T3005E")


def test_file_copying_can_be_switched_off(node: SshNode, tmp_path: Path) -> None:
    change_role(node, "access", ssh_file_copy=False)
    try:
        user = node.user("noel")
        for flags in ((), ("-O",)):
            target = tmp_path / f"copy{len(flags)}"
            done = subprocess.run(
                ["scp", *flags, *user.options("-P"), "/etc/hostname", f"root@127.0.0.1:{target}"],
                capture_output=True,
            )
            assert done.returncode != 0
            assert not target.exists()
        assert user.ssh("echo still").stdout == b"still\n"
    finally:
        change_role(node, "access")
    assert ended(node, "noel", "scp").code == "T3010E"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", "/tmp/x.so"),
        ("LD_LIBRARY_PATH", "/tmp"),
        ("DYLD_INSERT_LIBRARIES", "/tmp/x"),
        ("GLIBC_TUNABLES", "glibc.malloc.check=1"),
        ("BASH_ENV", "/tmp/x"),
        ("ENV", "/tmp/x"),
        ("PYTHONPATH", "/tmp"),
        ("PATH", "/tmp"),
        ("IFS", "x"),
        ("BASH_FUNC_ls%%", "() { id; }"),
        ("LANG=LD_PRELOAD", "x"),
        ("LANG\0LD_PRELOAD", "x"),
        ("", "x"),
        ("LC_ALL", "../../../tmp/evil"),
        ("LANG", "/tmp/evil"),
        ("TZ", ":/etc/shadow"),
        ("TZ", "/etc/shadow"),
        ("LC_ALL", "a\nLD_PRELOAD=x"),
        ("LC_ALL", "() { :; }; id"),
        ("LC_ALL", "x" * 100_000),
        ("SSH_TELEPORT_USER", "root"),
        ("SSH_ORIGINAL_COMMAND", "x"),
    ],
)
def test_a57_variables_that_are_not_taken(name: str, value: str) -> None:
    env = ClientEnv()
    assert not env.accept(name, value)
    assert env.variables == {}


def test_a57_over_the_wire_and_in_numbers(node: SshNode) -> None:
    assert [ClientEnv().accept(n, "de_DE.UTF-8") for n in ("LANG", "LC_ALL")] == [True, True]
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        for i in range(1000):
            channel.update_environment({f"LC_{chr(65 + i % 26)}{chr(65 + i // 26 % 26)}": "x"})
        channel.update_environment({"LD_PRELOAD": "/tmp/x.so", "PATH": "/tmp"})
        channel.exec_command("env")
        out = channel.makefile("rb").read().decode()
    assert "LD_PRELOAD" not in out
    assert "PATH=/usr" in out
    assert 0 < out.count("\nLC_") <= 32

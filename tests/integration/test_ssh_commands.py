"""Lists of commands and forced commands of roles, against the real clients."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import paramiko
import pytest

from pkgs.common.resources.role import SshConditions
from tests.integration.ssh_kit import SshNode, ended, role

pytestmark = [
    pytest.mark.needs("ssh", "sftp", "scp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to log in as it"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        node.state.roles["forced"] = role(
            "forced", logins=["root"], force_command=r"echo ran [$SSH_ORIGINAL_COMMAND]"
        )
        yield node


def confine(node: SshNode, *entries: str) -> None:
    plain = role("confined", logins=["root"])
    allow = msgspec.structs.replace(plain.spec.allow, ssh=SshConditions(commands=list(entries)))
    node.state.roles["confined"] = msgspec.structs.replace(
        plain, spec=msgspec.structs.replace(plain.spec, allow=allow)
    )


def test_only_what_is_listed_runs(node: SshNode) -> None:
    confine(node, "echo *")
    user = node.user("cora", roles=("access", "confined"))
    assert user.ssh("echo fine").stdout == b"fine\n"
    for command in ("echo a; id", "id", "echo $(id)", "echo a\nid"):
        refused = user.ssh(command)
        assert refused.returncode == 255 and refused.stdout == b"", command
        assert b"this command is not permitted: the roles list what may run here" in refused.stderr
    shell = user.ssh(before=("-tt",), stdin=b"id\n")
    assert b"a shell is not permitted" in shell.stderr + shell.stdout and b"uid=" not in shell.stdout
    event = ended(node, "cora", "session.rejected")
    assert "a shell is not permitted" in str(event.fields["reason"])


def test_a_list_is_read_anew_for_every_session(node: SshNode) -> None:
    confine(node, "echo *")
    with node.user("carl", roles=("confined",)).logged_in() as transport:
        assert status(transport, "echo 1") == 0
        confine(node, "id")
        assert status(transport, "echo 1") == 255
        assert status(transport, "id") == 0


def status(transport: paramiko.Transport, command: str) -> int:
    channel = transport.open_session()
    channel.exec_command(command)
    return channel.recv_exit_status()


def sftp(node: SshNode, user: Any) -> subprocess.CompletedProcess[bytes]:
    argv = ["sftp", *user.options("-P"), "-b", "-", "root@127.0.0.1"]
    return subprocess.run(argv, input=b"pwd\n", capture_output=True, timeout=60)


def test_file_transfer_needs_its_word(node: SshNode, tmp_path: Path) -> None:
    confine(node, "echo *")
    user = node.user("cleo", roles=("confined",))
    assert sftp(node, user).returncode != 0
    legacy = ["scp", "-O", *user.options("-P"), f"root@127.0.0.1:{__file__}", str(tmp_path / "copy")]
    assert subprocess.run(legacy, capture_output=True, timeout=60).returncode != 0
    assert not (tmp_path / "copy").exists()
    confine(node, "subsystem:sftp")
    assert sftp(node, user).returncode == 0


def test_a_command_that_is_cut_or_no_text_is_not_compared(node: SshNode) -> None:
    confine(node, "*")
    with node.user("cyd", roles=("confined",)).logged_in() as transport:
        assert status(transport, "echo " + "a" * 100) == 0
        assert status(transport, ": " + "a" * 20_000 + "; exit 3") == 255
        channel = transport.open_session()
        channel.exec_command(b"echo \xff")  # type: ignore[arg-type]
        assert channel.recv_exit_status() == 255
        assert b"cannot be compared" in channel.recv_stderr(200)


def test_a13_a_role_forces_its_command(node: SshNode) -> None:
    user = node.user("fred", roles=("access", "forced"))
    assert user.ssh("id; id").stdout == b"ran [id; id]\n"
    assert user.ssh().stdout == b"ran []\n"
    assert sftp(node, user).returncode != 0
    with socket.create_server(("127.0.0.1", 0)) as inner:
        port = inner.getsockname()[1]
        refused = user.ssh(before=("-W", f"127.0.0.1:{port}"))
        assert refused.returncode != 0
        assert b"forwarding" in refused.stderr or b"prohibited" in refused.stderr
    assert ended(node, "fred", "exec").fields["command"] == "echo ran [$SSH_ORIGINAL_COMMAND]"


def test_a13_a_certificate_and_a_role_that_disagree_run_nothing(node: SshNode) -> None:
    refused = node.user("fay", roles=("forced",), force_command="echo mine").ssh("id")
    assert refused.returncode == 255 and refused.stdout == b""
    assert b"different commands" in refused.stderr
    alone = node.user("fee", roles=("access",), force_command="echo mine").ssh("id")
    assert alone.stdout == b"mine\n"

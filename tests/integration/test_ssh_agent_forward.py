"""The client's authentication agent on a node: `ssh -A` with a real `ssh-agent`."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import SshNode, User, change_role, ended, wait_until

pytestmark = [
    pytest.mark.needs("ssh", "ssh-keygen", "ssh-agent", "ssh-add"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        change_role(node, "access", forward_agent=True)
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


@dataclass(frozen=True)
class Agent:
    environment: dict[str, str]
    fingerprint: str


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """An agent of the client's with one key."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = f"{folder}/agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: Path(path).exists(), "the agent listens")
            environment = {**os.environ, "SSH_AUTH_SOCK": path}
            key = f"{folder}/key"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            subprocess.run(["ssh-add", "-q", key], check=True, env=environment)
            shown = subprocess.run(["ssh-keygen", "-lf", key], check=True, capture_output=True)
            yield Agent(environment, shown.stdout.split()[1].decode())
        finally:
            process.terminate()
            process.wait(10)


def run(user: User, agent: Agent, command: str, login: str = OTHER) -> subprocess.CompletedProcess[bytes]:
    argv = with_agent(user, command, login)
    return subprocess.run(argv, input=b"", capture_output=True, timeout=20, env=agent.environment)


def with_agent(user: User, command: str, login: str = OTHER) -> list[str]:
    """`ssh -A`. The other tests' clients have no agent at all, and OpenSSH forwards only what it has."""
    argv = user.argv(command, login=login, before=("-A",))
    return [word.replace("IdentityAgent=none", "IdentityAgent=SSH_AUTH_SOCK") for word in argv]


def test_a_forwarded_agent_answers_and_is_gone_afterwards(node: SshNode, agent: Agent) -> None:
    done = run(node.user("anna"), agent, "echo $SSH_AUTH_SOCK; ssh-add -l; ssh-add -l")
    path, first, second = done.stdout.decode().splitlines()
    assert agent.fingerprint in first
    assert first == second
    assert ended(node, "anna", "agent-forward").code == "T3013I"
    wait_until(lambda: not Path(path).parent.exists(), "the directory is removed")


def test_a58_only_the_user_reaches_the_socket(node: SshNode, agent: Agent) -> None:
    command = 'stat -c "%a %U" "$(dirname $SSH_AUTH_SOCK)" "$SSH_AUTH_SOCK"; echo $SSH_AUTH_SOCK'
    folder, sock, path = run(node.user("bert"), agent, command).stdout.decode().splitlines()
    assert (folder, sock) == (f"700 {OTHER}", f"600 {OTHER}")
    assert re.fullmatch(r"/tmp/teleport-agent-\d+-\w{8,}/agent", path)


def test_a58_what_a_killed_process_left_is_removed_and_nothing_else(node: SshNode, agent: Agent) -> None:
    before = set(Path("/tmp").glob("teleport-agent-*"))
    run(node.user("kit"), agent, "p=${SSH_AUTH_SOCK#/tmp/teleport-agent-}; kill -9 ${p%%-*}; sleep 5")
    (left,) = set(Path("/tmp").glob("teleport-agent-*")) - before
    assert stat.S_ISDIR(left.lstat().st_mode)
    wait_until(lambda: not Path(f"/proc/{left.name.split('-')[2]}").exists(), "the process is gone")
    keep = Path(tempfile.mkdtemp(prefix="forwarding-", dir="/tmp"))
    # Of another user, and a link of a dead process's name to what is not its own.
    foreign = Path("/tmp/teleport-agent-4194304-foreign")
    link = Path("/tmp/teleport-agent-4194304-link")
    (keep / "file").write_text("stays")
    foreign.mkdir()
    link.symlink_to(keep)
    os.lchown(link, left.stat().st_uid, -1)
    try:
        run(node.user("kit"), agent, "true")
        assert not left.exists()
        assert foreign.exists()
        assert (keep / "file").read_text() == "stays"
    finally:
        link.unlink()
        foreign.rmdir()
        (keep / "file").unlink()
        keep.rmdir()


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({}, {}),
        ({"forward_agent": True}, {"extensions": ("permit-pty",)}),
        ({"forward_agent": True}, {"force_command": 'echo "$SSH_AUTH_SOCK"'}),
    ],
    ids=["role", "extension", "a13-forced-command"],
)
def test_an_agent_that_is_not_allowed_is_not_there(
    node: SshNode, agent: Agent, options: dict[str, bool], spec: dict[str, object]
) -> None:
    change_role(node, "access", **options)
    try:
        done = run(node.user("doug", **spec), agent, 'echo "$SSH_AUTH_SOCK"')
    finally:
        change_role(node, "access", forward_agent=True)
    assert (done.returncode, done.stdout) == (0, b"\n")
    assert ended(node, "doug", "agent-forward").code == "T3013W"


def test_no_agent_without_asking(node: SshNode) -> None:
    assert node.user("ned").ssh('echo "$SSH_AUTH_SOCK"').stdout == b"\n"


def test_a14_a_role_that_no_longer_allows_it_ends_the_connection(node: SshNode, agent: Agent) -> None:
    user = node.user("lena")
    argv = with_agent(user, "echo on; sleep 60")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=agent.environment) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"on\n"
            change_role(node, "access")
            node.tell("role")
            assert process.wait(20) != 0
        finally:
            change_role(node, "access", forward_agent=True)
            process.kill()

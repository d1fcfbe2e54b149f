"""The host's records of logins, read back by the host's own tools."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.ssh.records.entries import MACHINES
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import SshNode, ended, wait_until
from tests.integration.terminal import Terminal

pytestmark = [
    pytest.mark.needs("ssh", "last", "who"),
    pytest.mark.skipif(
        os.geteuid() != 0 or platform.machine() not in MACHINES, reason="only root on x86 keeps records"
    ),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        for path in (node.records.utmp, node.records.wtmp, node.records.btmp, node.records.lastlog):
            path.touch()
        yield node


def said(*argv: str | Path) -> str:
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout


def test_who_is_here_and_who_was(node: SshNode) -> None:
    argv = node.user("ann").argv("echo here; cat", login=OTHER, before=("-tt",))
    screen = Terminal(argv, {"PATH": os.environ["PATH"], "TERM": "xterm"})
    screen.expect("here")
    wait_until(lambda: node.records.wtmp.stat().st_size, "the login is recorded")
    (line,) = said("who", node.records.utmp).splitlines()
    assert line.split()[0] == OTHER and "pts/" in line and "(127.0.0.1)" in line
    assert said("last", "-f", node.records.wtmp).split()[0] == OTHER
    screen.type("\x04", end="")
    screen.end()
    ended(node, "ann")
    wait_until(lambda: "(00:0" in said("last", "-f", node.records.wtmp), "the logout is recorded")
    assert said("who", node.records.utmp) == ""


def test_a_command_without_a_terminal_is_no_login(node: SshNode) -> None:
    before = node.records.wtmp.read_bytes()
    assert node.user("ben").ssh("true").returncode == 0
    assert node.records.wtmp.read_bytes() == before


def test_who_was_not_let_in(node: SshNode) -> None:
    assert node.user("eve", logins=("root",)).ssh("id", login="nosuchuser").returncode == 255
    wait_until(lambda: node.records.btmp.stat().st_size, "the refusal is recorded")
    assert said("last", "-f", node.records.btmp).split()[:3] == ["nosuchus", "ssh:notty", "127.0.0.1"]

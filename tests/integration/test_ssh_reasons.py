"""How a live connection ends by the rules, as its user reads it on the terminal and the audit has it; and
that what goes wrong in one session is nobody else's business."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.wait import wait_for
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import SshNode, User, children_of, ended, role
from tests.integration.terminal import Terminal

pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
MOST = 40


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    node = SshNode(tmp_path_factory.mktemp("node"))
    node.max_processes = MOST
    with node:
        logins = ["root", OTHER]
        node.state.roles["busy"] = role("busy", logins=logins, client_idle_timeout="4s")
        node.state.roles["timed"] = role("timed", logins=logins, disconnect_expired_cert=True)
        yield node


def terminal(user: User, command: str, login: str = "root") -> Terminal:
    argv = user.argv(command, login=login, before=("-tt",))
    return Terminal(argv, {"PATH": os.environ["PATH"], "TERM": "xterm"})


def test_who_is_idle_reads_so(node: SshNode) -> None:
    screen = terminal(node.user("ida", roles=("busy",)), "echo here; cat")
    screen.expect("here")
    screen.expect("\r\nthe client was idle for 4 seconds\r\n")
    assert screen.end() != 0
    assert ended(node, "ida", "client.disconnect").fields["reason"] == "the client was idle for 4 seconds"


def test_whose_certificate_expires_reads_so(node: SshNode) -> None:
    user = node.user("eda", roles=("timed",), valid_before=float(int(time.time()) + 6))
    screen = terminal(user, "echo here; cat")
    screen.expect("here")
    screen.expect("\r\nthe certificate has expired\r\n")
    assert screen.end() != 0
    assert ended(node, "eda", "client.disconnect").fields["reason"] == "the certificate has expired"


def test_who_is_locked_reads_so(node: SshNode) -> None:
    screen = terminal(node.user("lola"), "echo here; cat")
    screen.expect("here")
    node.lock(user="lola", message="call us")
    screen.expect('\r\nlock targeting User:"lola" is in force: call us\r\n')
    assert screen.end() != 0


def test_f28_a_fork_bomb_in_one_session_is_nobody_elses(node: SshNode) -> None:
    """The bomb's user runs out of processes; others, and root, do not."""
    script = "while sleep 300 & do echo $!; done 2>&1"
    started: list[int] = []
    try:
        with node.user("bea").logged_in() as calm, node.user("bob").logged_in(OTHER) as wild:
            bomb = wild.open_session()
            bomb.exec_command(script)
            for line in bomb.makefile("r"):
                text = line if isinstance(line, str) else line.decode()
                if not text.strip().isdecimal():
                    assert "fork" in text
                    break
                started.append(int(text))
                assert len(started) <= MOST
            other = calm.open_session()
            other.exec_command("for i in 1 2 3 4 5 6 7 8 9; do sleep 0 & done; wait; echo fine")
            assert other.recv(100) == b"fine\n"
        assert 0 < len(started) <= MOST
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)


def test_a_crash_in_one_connection_is_nobody_elses(node: SshNode) -> None:
    spawner = node.pool._process
    assert spawner is not None
    before = set(children_of(spawner.pid))
    with node.user("cal").logged_in() as calm:
        (own,) = set(children_of(spawner.pid)) - before
        with node.user("cid").logged_in() as doomed:
            channel = doomed.open_session()
            channel.exec_command("echo $$; exec cat")
            pid = int(channel.recv(20))
            (victim,) = set(children_of(spawner.pid)) - before - {own}
            os.kill(victim, signal.SIGSEGV)
            wait_for(lambda: not doomed.is_active(), what="its connection ends")
            wait_for(lambda: not Path(f"/proc/{pid}").exists(), what="what it started ends")
        channel = calm.open_session()
        channel.exec_command("echo fine")
        assert channel.recv(100) == b"fine\n"
    assert ended(node, "cid").fields["sid"]


def test_a_user_who_wants_no_message_of_the_day_gets_none(node: SshNode) -> None:
    motd, hush = Path("/run/motd.dynamic"), Path(f"/var/tmp/{OTHER}/.hushlogin")
    had = motd.read_bytes() if motd.exists() else None
    motd.write_bytes(b"be kind to hosts\n")
    try:
        for quiet in (False, True):
            if quiet:
                hush.touch()
            argv = node.user("mona").argv(login=OTHER, before=("-tt",))
            screen = Terminal(argv, {"PATH": os.environ["PATH"], "TERM": "xterm"})
            screen.type("echo in''side; exit")
            screen.expect("inside")
            assert ("be kind to hosts" in screen.shown) is not quiet
            screen.end()
    finally:
        hush.unlink(missing_ok=True)
        motd.unlink() if had is None else motd.write_bytes(had)

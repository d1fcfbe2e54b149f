"""Files that are copied beside a session that needs company: asked for, approved, used once, watched. With
OpenSSH's sftp."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pkgs.agents.ssh.together import limits
from tests.harness.wait import wait_for
from tests.integration.ssh_kit import SshNode, User, ended
from tests.integration.terminal import Terminal
from tests.integration.together_kit import at_terminal, joining, live, prepare

pytestmark = [
    pytest.mark.needs("ssh", "sftp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
HOW = "once its moderators approve: tsh sessions ask-transfer"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as made:
        prepare(made)
        yield made


@contextmanager
def moderated(
    node: SshNode, name: str, role: str = "moderated"
) -> Iterator[tuple[User, str, Terminal, Terminal]]:
    """Owner, id of the session that runs, its terminal, and that of mona, who moderates."""
    user = node.user(name, roles=(role,))
    with at_terminal(user, "echo run''ning; cat") as owner:
        owner.expect("Waiting for participants")
        sid = live(node, name)
        with joining(node.user("mona", roles=("auditor",)), sid, "moderator") as moderator:
            owner.expect("running")
            yield user, sid, owner, moderator


def ask(node: SshNode, sid: str, by: str, reason: str = "") -> None:
    node.run(node.table.find(sid).copying.ask(by, reason))


def sftp(user: User, script: str) -> subprocess.CompletedProcess[str]:
    argv = ["sftp", "-b", "-", *user.options("-P"), "root@127.0.0.1"]
    return subprocess.run(argv, input=script, capture_output=True, text=True, timeout=60)


def test_an_approved_copy_is_made_once_and_everybody_sees_it(node: SshNode, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.write_text("content")
    put = f"put {here} {there}\n"
    with moderated(node, "carl") as (carl, sid, owner, moderator):
        early = sftp(carl, put)
        assert early.returncode != 0
        assert HOW in early.stderr
        ask(node, sid, "carl", "a new\x1b[2J binary")
        for one in (owner, moderator):
            one.expect("carl asks to copy files by sftp: a new")
        assert "\x1b[2J" not in moderator.shown  # attack A64
        assert sftp(carl, put).returncode != 0  # asked is not approved
        moderator.type("y", end="")
        owner.expect("mona approved: carl may now start sftp or scp, once.")
        done = sftp(carl, put)
        assert done.returncode == 0, done.stderr
        assert there.read_text() == "content"
        moderator.expect(f"carl by sftp: open {there}")
        assert sftp(carl, "ls /\n").returncode != 0  # once is once
        ask(node, sid, "carl")
        moderator.type("n", end="")
        owner.expect("mona denied the copying of files.")
        assert sftp(carl, put).returncode != 0
        moderator.type("t", end="")
        owner.end()
    told = [(e.code, e.fields["user"]) for e in node.events.named("session.file_transfer")]
    assert told == [
        ("TFT001I", "carl"),
        ("TFT002I", "mona"),
        ("TFT001I", "carl"),
        ("TFT003W", "mona"),
    ]
    assert any(e.fields["path"] == str(there) for e in node.events.named("sftp"))


def test_a30_what_nobody_approved_is_not_copied(
    node: SshNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands never; not by another's order, for another user, too late, not by a watcher."""
    trace = tmp_path / "ran"
    ahead = 0.0
    monkeypatch.setattr(node, "now", lambda: time.time() + ahead)
    with moderated(node, "cleo") as (cleo, sid, owner, moderator):
        ask(node, sid, "mallory")
        node.run(node.table.find(sid).copying.answered(node.table.find(sid).visits[0], b"y"))
        assert sftp(cleo, "ls /\n").returncode != 0
        assert "asks to copy" not in owner._read()
        ask(node, sid, "cleo")
        moderator.type("y", end="")
        owner.expect("may now start sftp")
        assert cleo.ssh(f"touch {trace}; scp -t /tmp").returncode != 0
        assert cleo.ssh("/usr/lib/openssh/sftp-server").returncode != 0
        assert sftp(node.user("eve", roles=("moderated",)), "ls /\n").returncode != 0
        with joining(node.user("bob", roles=("watcher",)), sid, "observer") as watcher:
            watcher.expect("as observer")
            ahead = limits.COPY_USE_S + 1
            assert sftp(cleo, "ls /\n").returncode != 0  # too late
            ask(node, sid, "cleo")
            watcher.expect("asks to copy files")
            visit = next(v for v in node.table.find(sid).visits if v.name == "bob")
            node.run(node.table.find(sid).typed(visit, b"y"))  # attack A31
            assert sftp(cleo, "ls /\n").returncode != 0
    assert not trace.exists()


def test_a14_a_copy_ends_when_who_approved_it_leaves(node: SshNode) -> None:
    with moderated(node, "cora", "held") as (cora, sid, owner, moderator):
        ask(node, sid, "cora")
        moderator.type("y", end="")
        owner.expect("may now start sftp")
        with cora.logged_in() as transport:
            channel = transport.open_session()
            channel.invoke_subsystem("sftp")
            channel.sendall(b"\x00\x00\x00\x05\x01\x00\x00\x00\x03")
            assert channel.recv(5)
            ask(node, sid, "cora")  # which does not end what goes on
            passes = node.reviews.passes
            wait_for(lambda: node.reviews.passes > passes + 1, what="two more reviews")
            assert transport.is_active()
            moderator.type("\x03", end="")
            owner.expect("The session is paused")
            wait_for(lambda: not transport.is_active(), what="its connection ends")
    reasons = [e.fields["reason"] for e in node.events.named("client.disconnect")]
    assert "those who approved of the copying are not there any more" in reasons
    ended(node, "cora")

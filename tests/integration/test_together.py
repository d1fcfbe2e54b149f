"""Sessions of several people: real OpenSSH clients on terminals, one node, policies of roles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.ssh.together.limits import VIEWER_QUEUE
from pkgs.common.access.joining import JOIN_LOGIN
from tests.integration.ssh_kit import SshNode, ended, recording_of, wait_until
from tests.integration.together_kit import at_terminal, joining, live, prepare, read_until

pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as made:
        prepare(made)
        yield made


def test_an_observer_sees_what_was_and_what_comes_and_types_nothing(node: SshNode) -> None:
    alice, bob = node.user("alice1"), node.user("bob", roles=("watcher",))
    with at_terminal(alice, "PS1='$ ' sh") as owner:
        owner.type("echo be''fore")
        owner.expect("before")
        with joining(bob, live(node, "alice1"), "observer") as watcher:
            watcher.expect("You joined the session of alice1 as root as observer")
            watcher.expect("before")
            owner.expect("bob joined the session as observer")
            watcher.type("echo in''truder")
            owner.type("echo af''ter")
            watcher.expect("after")
            assert "intruder" not in owner.shown
            watcher.type("\x03", end="")
            watcher.expect("You left the session")
            assert watcher.end() == 0
            owner.expect("bob left the session")
        owner.type("exit")
        assert owner.end() == 0
    assert ended(node, "alice1").fields["participants"] == ["alice1", "bob"]
    assert ended(node, "bob", "session.join").fields["participant_mode"] == "observer"
    assert ended(node, "bob", "session.leave").fields["sid"] == ended(node, "alice1").fields["sid"]
    kept = recording_of(node, "alice1")
    assert kept.marks == ["join", "leave"]
    assert b"Teleport >" not in kept.output


def test_a_peer_types_and_reads_along_without_a_recording(node: SshNode) -> None:
    node.record("off")
    try:
        with at_terminal(node.user("alice2"), "PS1='$ ' sh") as owner:
            with joining(node.user("carl", roles=("pair",)), live(node, "alice2"), "peer") as peer:
                peer.expect("as peer")
                peer.type("echo from''carl")
                owner.expect("fromcarl")
                peer.expect("fromcarl")
                peer.type("exit")
                peer.expect("The session has ended")
                assert peer.end() == 0
            assert owner.end() == 0
    finally:
        node.record("node")


def test_a_visitor_is_told_that_their_terminal_is_too_small(node: SshNode) -> None:
    bob = node.user("bob", roles=("watcher",))
    with node.user("wide").logged_in() as transport, bob.logged_in(JOIN_LOGIN) as visiting:
        owner = transport.open_session()
        owner.get_pty(width=80, height=24)
        owner.exec_command("read x; stty size; read y")
        owner.resize_pty(width=200, height=50)
        ended(node, "wide", "resize")
        owner.sendall(b"\n")
        read_until(owner, b"50 200")
        for size, told in (((80, 24), True), ((200, 50), False)):
            watcher = visiting.open_session()
            watcher.get_pty(width=size[0], height=size[1])
            watcher.exec_command(live(node, "wide"))
            shown = read_until(watcher, b"50 200")
            assert (b"Its terminal has 200x50; yours is smaller" in shown) is told
        owner.sendall(b"\n")


def test_a_moderated_session_waits_and_runs_nothing_before(node: SshNode, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    words = f"touch {trace}; echo now-it-runs; read x"
    dana = node.user("dana", roles=("moderated",))
    env = {
        "TELEPORT_SESSION_REASON": "fix the disk",
        "TELEPORT_SESSION_PARTICIPANT_REQUIREMENTS": "true",
        "TELEPORT_SESSION_INVITED_USERS": "mona,x",
    }
    with at_terminal(dana, words, **env) as owner:
        owner.expect('role moderated requires 1 as moderator ("eyes"')
        owner.type(f"touch {trace}")
        sid = live(node, "dana")
        tracker = node.call(lambda: node.table.find(sid).tracker())
        assert (tracker.state, tracker.reason, tracker.invited) == ("pending", "fix the disk", ["mona", "x"])
        with joining(node.user("bob", roles=("watcher",)), sid, "observer") as watcher:
            watcher.expect("It waits for")
            owner.expect("bob joined")
            passes = node.reviews.passes
            wait_until(lambda: node.reviews.passes > passes + 1, "two more reviews")
            assert not trace.exists()
            assert owner.shown.count("Waiting for participants") == 1
            with joining(node.user("mona", roles=("auditor",)), sid, "moderator") as moderator:
                moderator.expect("Its reason: fix the disk")
                for one in (owner, moderator, watcher):
                    one.expect("now-it-runs")
                assert trace.exists()
                moderator.type("t", end="")
                for one in (owner, moderator, watcher):
                    one.expect("The session was terminated by the moderator mona")
                assert moderator.end() == 0
            assert watcher.end() == 0
        assert owner.end() != 0
    end = ended(node, "dana")
    assert end.fields["participants"] == ["dana", "bob", "mona"]
    names = [event.event for event in node.events.all if event.fields.get("sid") == sid]
    assert names.index("session.terminate") < names.index("session.end")
    assert "fix the disk" not in str(node.events.named("session.start")[-1].fields)


def test_a_session_ends_when_its_moderator_leaves(node: SshNode) -> None:
    with at_terminal(node.user("dora", roles=("moderated",))) as owner:
        owner.expect("Waiting for participants")
        with joining(node.user("mona", roles=("auditor",)), live(node, "dora"), "moderator") as moderator:
            owner.expect("the session begins")
            moderator.type("\x03", end="")
            assert moderator.end() == 0
        owner.expect("those whom it needs have left")
        assert owner.end() != 0
    ended(node, "dora")


def test_a_session_pauses_when_its_moderator_is_gone_and_goes_on_when_one_is_back(node: SshNode) -> None:
    mona = node.user("mona", roles=("auditor",))
    with at_terminal(node.user("hans", roles=("held",)), "PS1='$ ' sh") as owner:
        owner.expect("Waiting for participants")
        sid = live(node, "hans")
        with joining(mona, sid, "moderator"):
            owner.expect("the session begins")
            owner.type("echo fir''st; sleep 0.5; echo la''ter")
            owner.expect("first")
        owner.expect("The session is paused")
        owner.type("echo lo''st")
        with joining(mona, sid, "moderator"):
            owner.expect("The session is resumed")
            owner.expect("later")
            owner.type("echo go''on; exit")
            owner.expect("goon")
            assert owner.end() == 0
    assert "lost" not in owner.shown
    ended(node, "hans")


def test_ctrl_c_gives_a_waiting_session_up(node: SshNode) -> None:
    with at_terminal(node.user("gil", roles=("moderated",))) as owner:
        owner.expect("Ctrl-C gives up")
        live(node, "gil")
        owner.type("\x03", end="")
        assert owner.end() == 255
    assert ended(node, "gil", "session.rejected").fields["reason"] == "the owner of the session gave up"
    assert not [event for event in node.events.named("session.start") if event.fields["user"] == "gil"]


def test_a_full_screen_program_is_painted_for_who_comes_later(node: SshNode) -> None:
    words = (
        "trap 'printf PAINTED' WINCH; printf '\\033[?1049hstart'; while :; do read -t 0.1 x && break; done;"
        " printf '\\033[?1049l'"
    )
    with at_terminal(node.user("vi"), f'bash -c "{words}"') as owner:
        owner.expect("start")
        with joining(node.user("bob", roles=("watcher",)), live(node, "vi"), "observer") as watcher:
            watcher.expect("PAINTED")
        owner.type("")
        assert owner.end() == 0


def test_an_observer_who_does_not_read_slows_nobody(node: SshNode) -> None:
    bob = node.user("bob", roles=("watcher",))
    with node.user("fast").logged_in() as transport, bob.logged_in(JOIN_LOGIN) as visiting:
        owner = transport.open_session()
        owner.get_pty()
        owner.exec_command("read x; seq 200000; echo all-of-it; read y")
        sid = live(node, "fast")
        watcher = visiting.open_session(window_size=65536)
        watcher.exec_command(sid)
        read_until(watcher, b"as observer")
        owner.sendall(b"go\n")
        assert len(read_until(owner, b"all-of-it")) > 1_300_000
        queued = node.call(lambda: [visit.viewer.queued for visit in node.table.find(sid).visits])
        assert 0 < queued[0] <= VIEWER_QUEUE
        late = read_until(watcher, b"all-of-it")
        assert b"bytes were skipped: this client reads too slowly" in late
        owner.sendall(b"\n")
        assert owner.recv_exit_status() == 0


def test_a64_a_kill_names_its_reason_to_everybody(node: SshNode) -> None:
    with at_terminal(node.user("kim")) as owner, at_terminal(node.user("kim2")) as other:
        owner.expect("#")
        other.expect("#")
        sid = live(node, "kim")
        with joining(node.user("bob", roles=("watcher",)), sid, "observer") as watcher:
            watcher.expect("as observer")
            node.run(node.table.find(sid).kill("admin\x1b[2J", "bad\x1b]0;x\x07 idea"))  # attack A64
            for one in (owner, watcher):
                one.expect("The session was ended by admin\\x1b[2J: bad\\x1b]0;x\\x07 idea")
            owner.end()
        other.type("echo st''ill")
        other.expect("still")
        other.type("exit")
        other.end()

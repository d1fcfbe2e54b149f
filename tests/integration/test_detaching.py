"""Sessions that go on without their owner: left by order, come back to by joining, ended by all that ends a
session. With OpenSSH on both sides."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.ssh.limits import EXIT_WAIT_S
from pkgs.agents.ssh.together import limits
from pkgs.agents.ssh.together.limits import DETACHED_S
from pkgs.agents.ssh.together.shared import SharedSession
from tests.harness.wait import wait_for
from tests.integration.ssh_kit import SshNode, User, children_of, ended, role
from tests.integration.terminal import Terminal
from tests.integration.together_kit import at_terminal, joining, live, prepare

pytestmark = [
    pytest.mark.needs("ssh", "ssh-add"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
LEFT = "You left the session, and it goes on. Come back with: tsh join --mode=peer"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as made:
        prepare(made)
        yield made


def detach(node: SshNode, user: str, by: str = "") -> str:
    sid = live(node, user)
    node.run(node.table.find(sid).detach(by or user))
    return sid


def left(node: SshNode, name: str, user: User, command: str) -> tuple[str, int]:
    """A session that its owner has left, and the process that runs in it."""
    with at_terminal(user, f"echo pid=$$.; {command}") as owner:
        owner.expect(".\r\n")
        sid = detach(node, name)
        owner.expect(LEFT)
        assert owner.end() == 0
        return sid, int(owner.shown.split("pid=")[1].split(".")[0])


def gone(pid: int) -> None:
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), what="what ran in the session to end")


def test_a_session_is_left_and_come_back_to(node: SshNode) -> None:
    spawner = node.pool._process
    assert spawner is not None
    before = set(children_of(spawner.pid))
    anna = node.user("anna")
    sid, pid = left(node, "anna", anna, "PS1='$ ' exec sh")
    assert Path(f"/proc/{pid}").exists()
    tracker = node.call(lambda: node.table.find(sid).tracker())
    assert (tracker.state, tracker.detached, tracker.participants) == ("running", True, [])
    (event,) = [e for e in node.events.named("session.leave") if e.fields["sid"] == sid]
    assert (event.fields["user"], event.fields["participant_mode"]) == ("anna", "owner")
    for _ in range(2):
        with joining(anna, sid, "peer") as peer:
            peer.expect("as peer")
            peer.type("echo pid=$$.")
            peer.expect(f"pid={pid}.")
            peer.type("~.", end="")
            assert peer.end() == 255
    with joining(anna, sid, "peer") as peer:
        peer.type("exit 3")
        peer.expect("The session has ended")
        peer.end()
    assert ended(node, "anna").fields["participants"] == ["anna"]
    wait_for(lambda: set(children_of(spawner.pid)) <= before, what="its process to end")


def test_a_session_takes_the_size_of_the_terminal_that_comes_back(node: SshNode) -> None:
    bela = node.user("bela")
    sid, _ = left(node, "bela", bela, "PS1='$ ' exec sh")
    config = bela.folder / "join"
    with joining(bela, sid, "observer") as watcher:  # no typing, no size
        watcher.expect("as observer")
    argv = ["ssh", *bela.options(), "-F", str(config), "-tt", "-o", "SendEnv=TELEPORT_*", "127.0.0.1", sid]
    script = f"stty rows 31 cols 97; exec {' '.join(argv)}"
    peer = Terminal(["sh", "-c", script], {**os.environ, "TELEPORT_SSH_JOIN_MODE": "peer"})
    peer.expect("as peer")
    peer.type("stty size; exit")
    peer.expect("31 97")
    peer.end()
    ended(node, "bela")


def test_what_others_order_does_nothing_and_channels_beside_go_on(node: SshNode) -> None:
    """Two sessions in one connection: one is left, the other ends with the connection."""
    cora = node.user("cora")
    with cora.logged_in() as transport:
        channels = [transport.open_session() for _ in range(2)]
        for channel in channels:
            channel.get_pty()
            channel.exec_command("echo pid=$$.; cat")
        pids = [int(c.recv(100).split(b"pid=")[1].split(b".")[0]) for c in channels]
        sessions = wait_for(lambda: found if len(found := own(node, "cora")) == 2 else None, what="both")
        for session in sessions:
            node.run(session.detach("mallory"))
            assert not session.detached
        first = next(s for s in sessions if s.log.channel == channels[0].remote_chanid)
        node.run(first.detach("cora"))
        wait_for(channels[0].exit_status_ready, what="the client is let go")
        assert channels[0].recv_exit_status() == 0
        channels[1].send(b"still\n")
        wait_for(lambda: channels[1].recv_ready(), what="the other goes on")
    gone(pids[1])
    assert Path(f"/proc/{pids[0]}").exists()
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: not own(node, "cora"), what="the session is over")


def test_what_a_left_session_forwards_is_not_waited_for(node: SshNode) -> None:
    """The client's agent went with the client: who asks for it is told so at once."""
    node.state.roles["agents"] = role("agents", logins=["root"], forward_agent=True)
    lena = node.user("lena", roles=("agents",))
    go, told = lena.folder / "go", lena.folder / "told"
    with lena.logged_in() as transport:
        channel = transport.open_session()
        channel.request_forward_agent(lambda _: None)
        channel.get_pty()
        wait = f"until [ -e {go} ]; do sleep 0.05; done"
        channel.exec_command(f"echo ready.; {wait}; ssh-add -l; echo $? > {told}; exec cat")
        assert channel.recv(100)
        detach(node, "lena")
        wait_for(channel.exit_status_ready, what="the client is let go")
    (session,) = own(node, "lena")
    go.touch()
    wait_for(lambda: told.exists() and told.read_text().strip(), what="an answer about the agent")
    assert told.read_text().strip() != "0"
    node.run(session.kill("root", ""))
    ended(node, "lena")


def test_only_so_many_go_on_without_their_owner(node: SshNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_DETACHED", 0)
    with at_terminal(node.user("kurt"), "echo ready; cat") as owner:
        owner.expect("ready")
        detach(node, "kurt")
        owner.expect("You have left 0 sessions here already")
        assert not node.call(lambda: bool(own_of(node, "kurt")[0].detached))


def own_of(node: SshNode, user: str) -> list[SharedSession]:
    return [session for session in node.table.all() if session.owner == user]


def own(node: SshNode, user: str) -> list[SharedSession]:
    return node.call(lambda: own_of(node, user))  # type: ignore[no-any-return]


def test_a14_a_left_session_ends_as_every_session_does(
    node: SshNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks, the certificate, idleness, an administrator's order; and its own time."""
    ahead = 0.0
    monkeypatch.setattr(node, "now", lambda: time.time() + ahead)
    node.state.roles["busy"] = role("busy", logins=["root"], client_idle_timeout="3s")
    people = {name: node.user(name, valid_before=time.time() + 2 * DETACHED_S) for name in ("dora", "edda")}
    left(node, "jule", node.user("jule"), "cat")
    left_at = time.monotonic()
    # A lock.
    sid, pid = left(node, "dora", people["dora"], "cat")
    node.lock(user="dora")
    gone(pid)
    assert ended(node, "dora").fields["sid"] == sid
    # An administrator.
    sid, pid = left(node, "edda", people["edda"], "trap '' HUP; cat")
    node.run(node.table.find(sid).kill("root", "maintenance"))
    gone(pid)
    # Nobody typed; keys of peers count.
    fred = node.user("fred", roles=("busy",))
    sid, pid = left(node, "fred", fred, "cat")
    with joining(fred, sid, "peer") as peer:
        peer.expect("as peer")
        began = time.monotonic()
        while time.monotonic() < began + 4.5:
            peer.type("x")
            time.sleep(0.3)  # a person types
        assert own(node, "fred")
        peer.type("~.", end="")
        peer.end()
    gone(pid)
    assert ended(node, "fred", "client.disconnect").fields["reason"] == "the client was idle for 3 seconds"
    # All else of a connection is waited for no longer than this.
    wait_for(lambda: time.monotonic() > left_at + EXIT_WAIT_S + 1, what="that time to pass")
    assert own(node, "jule")
    # Its own time, which counts from when its owner was there last.
    gina = node.user("gina", valid_before=time.time() + 3 * DETACHED_S)
    sid, pid = left(node, "gina", gina, "cat")
    with joining(gina, sid, "observer") as watcher:
        watcher.expect("as observer")
        ahead = DETACHED_S + 60
        passes = node.reviews.passes
        wait_for(lambda: node.reviews.passes > passes + 1, what="two more reviews")
        assert Path(f"/proc/{pid}").exists()
    ahead += DETACHED_S + 60
    gone(pid)
    # The certificate, whatever roles say about connections.
    ahead = 0.0
    hugo = node.user("hugo", valid_before=time.time() + 600)
    _, pid = left(node, "hugo", hugo, "cat")
    ahead = 601.0
    gone(pid)
    ended(node, "hugo")


def test_a30_a_left_session_still_needs_its_company(node: SshNode) -> None:
    ilse = node.user("ilse", roles=("moderated",))
    with at_terminal(ilse, "echo pid=$$.; cat") as owner:
        owner.expect("Waiting for participants")
        sid = detach(node, "ilse")
        assert not node.call(lambda: bool(node.table.find(sid).detached))  # it does not run yet
        with joining(node.user("mona", roles=("auditor",)), sid, "moderator") as moderator:
            owner.expect("pid=")
            detach(node, "ilse")
            owner.expect(LEFT)
            assert owner.end() == 0
            moderator.expect("ilse, the owner, left the session; it goes on.")
            moderator.type("\x03", end="")
            moderator.end()
    ended(node, "ilse")
    wait_for(lambda: not own(node, "ilse"), what="the session is over")

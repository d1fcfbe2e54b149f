"""Sessions of several people through the whole cluster: tsh at terminals, policies, the Auth Service away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.harness.cluster import BIN, OS_USER, Cluster, Person
from tests.harness.wait import wait_for
from tests.integration.terminal import Terminal

pytestmark = pytest.mark.needs("ssh", "tmux")
ROLES = """
kind: role
version: v7
metadata: {name: watcher}
spec:
  allow:
    join_sessions:
    - {name: all, roles: ['*'], kinds: [ssh], modes: [observer, moderator, peer]}
---
kind: role
version: v7
metadata: {name: moderated}
spec:
  allow:
    logins: ['{{internal.logins}}']
    node_labels: {'*': '*'}
    require_session_join:
    - {name: eyes, kinds: [ssh], modes: [moderator], count: 1, on_leave: pause,
       filter: 'contains(user.spec.roles, "watcher")'}
---
kind: role
version: v7
metadata: {name: ender}
spec:
  allow:
    rules:
    - {resources: [session_tracker], verbs: [list, delete]}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as made:
        made.tctl("create", "-f", "-", stdin=ROLES).ok()
        yield made


@pytest.fixture(scope="module")
def mona(cluster: Cluster) -> Person:
    return cluster.login("mona", roles="watcher", logins="-")


@contextmanager
def tsh(person: Person, *args: str) -> Iterator[Terminal]:
    terminal = Terminal([str(BIN / "tsh"), *args], {**person.env, "TERM": "xterm"})
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait(10)


def listed(person: Person, owner: str) -> list[dict[str, Any]]:
    found = json.loads(person.tsh("sessions", "ls", "--format=json").ok().out)
    return [session for session in found if session["host_user"] == owner]


def session_of(person: Person, owner: str) -> str:
    found = wait_for(lambda: listed(person, owner), what=f"a session of {owner} to be listed", every_s=0.2)
    sid: str = found[0]["session_id"]
    return sid


def test_a_moderated_session_from_the_invitation_to_the_end(cluster: Cluster, mona: Person) -> None:
    olaf = cluster.login("olaf", roles="moderated")
    flags = ("--reason=fix it", "--invite=mona", "--participant-req")
    with tsh(olaf, "ssh", *flags, f"{OS_USER}@{cluster.nodename}") as owner:
        owner.expect("role moderated requires 1 as moderator")
        sid = session_of(mona, "olaf")
        (shown,) = listed(mona, "olaf")
        assert (shown["state"], shown["reason"], shown["invited"]) == ("pending", "fix it", ["mona"])
        assert sid in mona.tsh("sessions", "ls").ok().out
        with tsh(mona, "join", "--mode=moderator", sid) as moderator:
            moderator.expect("Its reason: fix it")
            owner.expect("the session begins")
            owner.type("echo vis''ible")
            moderator.expect("visible")
            copy = ("scp", str(cluster.config), f"{OS_USER}@{cluster.nodename}:{olaf.home}/copied")
            assert "tsh sessions ask-transfer" in olaf.tsh(*copy).err
            olaf.tsh("sessions", "ask-transfer", "--reason=the new file").ok()
            moderator.expect("olaf asks to copy files by sftp: the new file")
            moderator.type("y", end="")
            owner.expect("mona approved: olaf may now start sftp or scp, once.")
            olaf.tsh(*copy).ok()
            moderator.expect(f"olaf by sftp: open {olaf.home}/copied")
            assert olaf.tsh(*copy).code != 0
            moderator.type("\x03", end="")
            assert moderator.end() == 0
        owner.expect("The session is paused")
        with tsh(mona, "join", "--mode=moderator", sid) as moderator:
            owner.expect("The session is resumed")
            moderator.type("t", end="")
            owner.expect("The session was terminated by the moderator mona")
            moderator.end()
        assert owner.end() != 0
    end = cluster.wait_event("session.end", sid=sid)
    assert end["participants"] == ["olaf", "mona"]
    assert cluster.wait_event("session.join", sid=sid, user="mona")["participant_mode"] == "moderator"
    assert cluster.wait_event("session.terminate", sid=sid)["updated_by"] == "mona"
    assert (
        cluster.wait_event("session.file_transfer", sid=sid, user="mona")["participant_mode"] == "moderator"
    )
    wait_for(lambda: not listed(mona, "olaf"), what="the session to be listed no more", every_s=0.2)

    def played() -> str:
        run = mona.tsh("play", sid, "--format=text")
        return run.out if run.code == 0 else ""

    assert "visible" in wait_for(played, what="the recording", every_s=0.5)


def test_peers_share_one_screen(cluster: Cluster, alice: Person, mona: Person) -> None:
    """tmux as the person at the owner's terminal; the joined peer types into vi-like full screens."""
    name = f"together-{cluster.web_port}"
    command = f"{BIN / 'tsh'} ssh -t {OS_USER}@{cluster.nodename} 'PS1=@ sh'"
    tmux, env = ["tmux", "-L", name], {**alice.env, "TMUX_TMPDIR": str(alice.home)}
    subprocess.run([*tmux, "new-session", "-d", "-x", "90", "-y", "20", command], env=env, check=True)
    try:
        sid = session_of(mona, "alice")
        with tsh(mona, "join", "--mode=peer", sid) as peer:
            peer.expect("as peer")
            peer.type("tput -T xterm cup 5 5 && echo he''re; stty size")
            peer.expect("20 90")

            def screen() -> str:
                shown = [*tmux, "capture-pane", "-p"]
                return subprocess.run(shown, capture_output=True, text=True, env=env).stdout

            wait_for(lambda: "20 90" in screen(), what="the peer's keys on the owner's screen")
            assert screen().splitlines()[5].startswith("     here")
            peer.type("exit")
            peer.expect("The session has ended")
            assert peer.end() == 0
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, env=env)


def test_a42_who_comes_to_join_reaches_a_server_by_its_id_alone_and_nothing_else_there(
    cluster: Cluster, mona: Person
) -> None:
    """Mona may see no server."""
    host_id = cluster.wait_node(cluster.nodename)["metadata"]["name"]
    visitor = "--login=-teleport-internal-join"
    by_name = mona.tsh("proxy", "ssh", visitor, f"{cluster.nodename}:0")
    assert by_name.code == 1
    assert "no server" in by_name.err
    plain = mona.tsh("proxy", "ssh", f"{OS_USER}@{host_id}:0")
    assert plain.code == 1
    assert mona.tsh("proxy", "ssh", visitor, f"{host_id}:0", stdin="x\n").out.startswith("SSH-2.0-")
    # Past the proxy as a visitor, it is still the server that decides.
    login = mona.tsh("ssh", "-o", "LogLevel=DEBUG", f"{OS_USER}@{host_id}", "id")
    assert login.code != 0
    assert "uid=" not in login.out


def test_a_session_is_ended_with_a_reason_and_no_other(cluster: Cluster, alice: Person, mona: Person) -> None:
    words = ("ssh", "-t", f"{OS_USER}@{cluster.nodename}", "PS1=@ sh")
    with tsh(alice, *words) as one, tsh(alice, *words) as two:
        one.expect("@")
        two.expect("@")
        ids = wait_for(
            lambda: found if len(found := listed(alice, "alice")) == 2 else None,
            what="two sessions",
            every_s=0.2,
        )
        sid = ids[0]["session_id"]
        refused = alice.tsh("join", "--mode=moderator", "7c1d2e3f-0000-4000-8000-000000000000")
        assert refused.code == 1
        assert "there is no such session" in refused.err
        done = cluster.tctl("sessions", "kill", sid, "--reason=maintenance").ok()
        assert sid in done.out
        ended = wait_for(
            lambda: next((t for t in (one, two) if "maintenance" in t._read()), None), what="the reason"
        )
        other = two if ended is one else one
        ended.end()
        other.type("echo st''ill; exit")
        other.expect("still")
        other.end()
    assert cluster.wait_event("session.terminate", sid=sid, reason="maintenance")
    assert cluster.tctl("sessions", "ls", "--format=json").ok().out.strip() == "[]"


def test_a_session_is_left_and_come_back_to(cluster: Cluster) -> None:
    """With `tsh ssh`, whose lost connections are resumed, and with plain OpenSSH; from another terminal."""
    vera = cluster.login("vera")
    target = f"{OS_USER}@{cluster.nodename}"
    config = vera.home / "ssh_config"
    config.write_text(vera.tsh("config").ok().out)
    plain = ["ssh", "-F", str(config), "-tt", f"{target}.{cluster.name}", "PS1=@ sh"]
    assert vera.tsh("sessions", "detach").code == 1
    for argv in ([str(BIN / "tsh"), "ssh", "-t", target, "PS1=@ sh"], plain):
        owner = Terminal(argv, {**vera.env, "TERM": "xterm"})
        owner.expect("@")
        owner.type("here=$((40+2))")
        sid = session_of(vera, "vera")
        assert f"tsh join --mode=peer {sid}" in vera.tsh("sessions", "detach").ok().out
        owner.expect("You left the session, and it goes on")
        assert owner.end() == 0
        wait_for(lambda: listed(vera, "vera")[0]["detached"], what="it to be listed so", every_s=0.2)
        assert "running, detached" in vera.tsh("sessions", "ls").ok().out
        again = vera.tsh("sessions", "detach", sid)
        assert "detached already" in again.err
        with tsh(vera, "join", "--mode=peer", sid) as peer:
            peer.expect("as peer")
            peer.type("echo still-$here; exit")
            peer.expect("still-42")
            peer.expect("The session has ended")
            assert peer.end() == 0
        assert cluster.wait_event("session.leave", sid=sid, participant_mode="owner")["reason"] == "detached"
        cluster.wait_event("session.end", sid=sid)
        wait_for(lambda: not listed(vera, "vera"), what="the session to be listed no more", every_s=0.2)


def test_f07_sessions_that_wait_need_the_auth_service_and_come_back_with_it(own_cluster: Cluster) -> None:
    cluster = own_cluster.start()
    cluster.tctl("create", "-f", "-", stdin=ROLES).ok()
    cluster.wait_node(cluster.nodename)
    alice, mona = cluster.login("alice"), cluster.login("mona", roles="watcher", logins="-")
    olga = cluster.login("olga", roles="moderated")
    target = f"{OS_USER}@{cluster.nodename}"
    with tsh(alice, "ssh", "-t", target, "PS1=@ sh") as running:
        running.expect("@")
        sid = session_of(mona, "alice")
        cluster.daemons["auth"].kill()
        with tsh(olga, "ssh", "-t", target, "id") as late:
            late.expect("this session needs others to be present", deadline_s=30)
            assert late.end() == 255
            assert "uid=" not in late.shown
        running.type("echo st''ill")
        running.expect("still")
        cluster.start_service("auth")
        assert session_of(mona, "alice") == sid
        running.type("exit")
        running.end()

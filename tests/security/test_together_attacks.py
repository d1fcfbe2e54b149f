"""Attacks on sessions of several people: joining what one may not, acting in it, going on when it is over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pkgs.agents.ssh.together import limits
from pkgs.agents.ssh.together.messages import GaveUp, JoinSession, Taken, Typed
from pkgs.common.access.joining import JOIN_LOGIN
from pkgs.common.api.sessions import PRESENCE_ANSWER_S, PRESENCE_EVERY_S
from pkgs.common.errors import ProtocolError, UnavailableError
from pkgs.common.ssh.sessions.messages import OpenSession, Output
from tests.integration.ssh_kit import SshNode, User, children_of, ended, wait_until
from tests.integration.together_kit import allowing, at_terminal, joining, live, prepare, read_until

pytestmark = [
    pytest.mark.needs("ssh", "sftp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
NO_SUCH = "there is no such session here, or you may not join it in that mode"
UNKNOWN = "7c1d2e3f-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as made:
        prepare(made)
        yield made


@pytest.fixture(scope="module")
def owner(node: SshNode) -> Iterator[str]:
    """A live session of alice."""
    with at_terminal(node.user("alice"), "PS1='$ ' sh") as terminal:
        terminal.expect("$")
        yield live(node, "alice")


def ask(user: User, session_id: str, mode: str = "observer") -> str:
    """What a visitor reads who is refused."""
    with joining(user, session_id, mode) as terminal:
        assert terminal.end() == 255, terminal.shown
        return terminal.shown


def visiting(node: SshNode) -> Any:
    """The service's view of the one connection that visits."""
    return wait_until(
        lambda: next(
            (one for one in node.reviews._live if (v := getattr(one, "_visitor", None)) and v._visits), None
        ),
        "a visit",
    )


async def unanswered(*_: object) -> None:
    """A process that takes no answer."""


@pytest.mark.parametrize(
    ("roles", "mode"),
    [
        (("watcher",), "peer"),
        (("watcher",), "moderator"),
        (("pair",), "moderator"),
        (("nobody",), "observer"),
        (("moderated",), "observer"),
        (("access",), "observer"),
    ],
)
def test_a30_joining_as_more_than_roles_allow(
    node: SshNode, owner: str, roles: tuple[str, ...], mode: str
) -> None:
    eve = node.user("eve", roles=roles)
    assert NO_SUCH in ask(eve, owner, mode)
    assert NO_SUCH in ask(eve, UNKNOWN, mode)
    refused = ended(node, "eve", "session.rejected").fields
    assert (refused["sid"], refused["participant_mode"]) == (owner, mode)
    assert not [event for event in node.events.named("session.join") if event.fields["user"] == "eve"]


def test_a30_a_mode_that_is_none(node: SshNode, owner: str) -> None:
    assert "there is no such mode" in ask(node.user("eve", roles=("pair",)), owner, "root")


def test_a30_joining_without_the_second_factor(node: SshNode, owner: str) -> None:
    node.state.roles["strict"] = allowing("strict", "observer", "moderator", require_session_mfa=True)
    assert "you may not join this session: role strict" in ask(node.user("eve", roles=("strict",)), owner)
    with joining(node.user("mona", roles=("strict",), mfa_device="phone"), owner, "observer") as watcher:
        watcher.expect("as observer")


def test_a51_a_moderator_without_proof_counts_for_nothing(
    node: SshNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the Auth Service's word about this user and this session lets them count, and for its time."""
    node.state.roles["auditor"] = allowing("auditor", "observer", "moderator", require_session_mfa=True)
    ahead = 0.0
    monkeypatch.setattr(node, "now", lambda: time.time() + ahead)
    mona = node.user("mona", roles=("auditor",), mfa_device="phone", valid_before=time.time() + 7200)
    hans = node.user("hans", roles=("held",), valid_before=time.time() + 7200)
    try:
        with at_terminal(hans, "PS1='$ ' sh") as owner:
            owner.expect("Waiting for participants")
            sid = live(node, "hans")

            def proven(user: str, age_s: float = 0.0) -> None:
                node.call(lambda: node.table.find(sid).proven(user, node.now() - age_s))

            with joining(mona, sid, "moderator") as moderator:
                moderator.expect(f"tsh sessions prove {sid}")
                moderator.type("123456t", end="")  # neither a code nor the power to end it
                proven("noor")
                proven("mona", age_s=PRESENCE_EVERY_S + PRESENCE_ANSWER_S)
                moderator.expect("You do not count any more")
                assert node.call(lambda: node.table.find(sid).state) == "pending"
                proven("mona")
                owner.expect("the session begins")
                moderator.expect("You have shown that you are here")
                ahead = PRESENCE_EVERY_S + 1
                moderator.expect("Show within 60 seconds that you are still here")
                owner.type("echo still''on")
                owner.expect("stillon")
                ahead += PRESENCE_ANSWER_S
                owner.expect("The session is paused")
                proven("mona", age_s=-3600)  # a clock that is ahead gives no more time
                owner.expect("The session is resumed")
                ahead += PRESENCE_EVERY_S + PRESENCE_ANSWER_S + 1
                owner.expect("The session is paused")
                proven("mona")
                owner.expect("The session is resumed")
                moderator.type("t", end="")
                owner.expect("terminated by the moderator mona")
            assert owner.end() != 0
    finally:
        node.state.roles["auditor"] = allowing("auditor", "observer", "moderator")


def test_a30_nobody_is_their_own_company(node: SshNode) -> None:
    with at_terminal(node.user("solo", roles=("moderated", "auditor"))) as waiting:
        waiting.expect("Waiting for participants")
        sid = live(node, "solo")
        other = node.user("other", roles=("moderated", "auditor"), impersonator="solo")
        with joining(node.user("solo", roles=("auditor",)), sid, "moderator") as own:
            own.expect("as moderator")
            with joining(other, sid, "moderator") as again:
                again.expect("as moderator")
                waiting.expect("other joined")
                assert node.call(lambda: node.table.find(sid).state) == "pending"
        waiting.type("\x03", end="")
        waiting.end()


def test_a30_who_needs_company_gets_nothing_beside_it(node: SshNode, tmp_path: Path) -> None:
    """Also not over the connection whose session is approved."""
    trace = tmp_path / "ran"
    mo = node.user("mo", roles=("moderated",))
    assert mo.ssh(f"touch {trace}").returncode != 0
    assert mo.ssh("-s", "sftp").returncode != 0
    with mo.logged_in() as transport:
        session = transport.open_session()
        session.get_pty()
        session.exec_command("echo run''ning; read x")
        with joining(node.user("mona", roles=("auditor",)), live(node, "mo"), "moderator"):
            read_until(session, b"running")
            second = transport.open_session()
            second.exec_command(f"touch {trace}")
            assert second.recv_exit_status() == 255
            files = transport.open_session()
            files.invoke_subsystem("sftp")
            assert files.recv_exit_status() == 255
            with pytest.raises(Exception, match="Administratively prohibited"):
                transport.open_channel("direct-tcpip", ("127.0.0.1", node.port), ("127.0.0.1", 1))
    assert not trace.exists()


def test_a31_the_process_of_a_visitor_says_what_only_others_may(node: SshNode, owner: str) -> None:
    with joining(node.user("eve", roles=("watcher",)), owner, "observer") as terminal:
        terminal.expect("as observer")
        eve = visiting(node)
        (channel,) = eve._visitor._visits
        node.run(eve.handle(Typed(channel=channel, data=b"t"), unanswered))
        node.run(eve.handle(Typed(channel=channel + 1, data=b"t"), unanswered))
        node.run(eve.handle(Taken(channel=channel, size=1 << 40), unanswered))
        for message in (
            OpenSession(channel=7, kind="shell", pty=True),
            Output(channel=0, data=b"x"),
            GaveUp(channel=0),
            JoinSession(channel=channel, session_id=owner, mode="moderator"),
        ):
            with pytest.raises(ProtocolError):
                node.run(eve.handle(message, unanswered))
        (visit,) = node.call(lambda: node.table.find(owner).visits)
        assert (visit.mode, visit.viewer.queued) == ("observer", 0)
        assert node.call(lambda: node.table.find(owner).state) == "running"


def test_a31_the_owner_can_not_skip_the_wait(node: SshNode) -> None:
    with at_terminal(node.user("ollie", roles=("moderated",))) as waiting:
        waiting.expect("Waiting for participants")
        live(node, "ollie")
        one = node.call(
            lambda: next(c for c in node.reviews._live if c.client and c.client.login == "root"
                         and c.client.identity.name == "ollie")
        )  # fmt: skip
        messages = (
            Output(channel=0, data=b"x"),
            OpenSession(channel=0, kind="shell", pty=True),  # a second one, which nobody would end
            OpenSession(channel=1, kind="exec", command="id"),
        )
        for message in messages:
            answers: list[Any] = []

            async def take(answer: Any, into: list[Any] = answers) -> None:
                into.append(answer)

            if message.channel == 0:
                with pytest.raises(ProtocolError):
                    node.run(one.handle(message, take))
                live(node, "ollie")
            else:
                node.run(one.handle(message, take))
                assert type(answers[0]).__name__ == "Refused"
        waiting.type("\x03", end="")
        waiting.end()


def test_a14_a_locked_visitor_is_gone_and_so_is_what_needed_them(node: SshNode) -> None:
    with at_terminal(node.user("pat", roles=("moderated",))) as session:
        session.expect("Waiting for participants")
        sid = live(node, "pat")
        lena = node.user("lena", roles=("auditor",))
        with joining(lena, sid, "moderator") as moderator:
            session.expect("the session begins")
            began = time.monotonic()
            lock = node.lock("out with you", user="lena")
            moderator.expect("out with you")
            session.expect("those whom it needs have left")
            assert time.monotonic() - began < 10
            moderator.end()
        session.end()
    assert "out with you" in _login_refusal(lena, sid)
    node.state.locks = tuple(one for one in node.state.locks if one is not lock)


def test_a14_a_role_that_lets_nobody_in_any_more_ends_visits(node: SshNode, owner: str) -> None:
    node.state.roles["fleeting"] = allowing("fleeting", "observer")
    with joining(node.user("flo", roles=("fleeting",)), owner, "observer") as terminal:
        terminal.expect("as observer")
        node.state.roles["fleeting"] = allowing("fleeting")
        node.tell("role")
        terminal.expect("You may not be in this session any more")
        terminal.end()
    assert ended(node, "flo", "session.leave").fields["sid"] == owner


def test_a30_a_moderator_who_leaves_is_gone_also_when_that_cannot_be_audited(node: SshNode) -> None:
    with at_terminal(node.user("paul", roles=("moderated",))) as session:
        session.expect("Waiting for participants")
        mona = node.user("mona", roles=("auditor",))
        with joining(mona, live(node, "paul"), "moderator") as moderator:
            session.expect("the session begins")
            node.events.broken = UnavailableError("the disk is full")
            try:
                moderator.type("\x03", end="")
                session.expect("those whom it needs have left")
            finally:
                node.events.broken = None
        session.end()


def test_a30_a_moderator_whose_client_gives_no_sign_of_life_is_gone(
    node: SshNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream stands: a computer fell asleep."""
    monkeypatch.setattr(limits, "VISITOR_ALIVE_S", 1.0)
    with at_terminal(node.user("otto", roles=("held",)), "cat") as owner:
        owner.expect("Waiting for participants")
        sid = live(node, "otto")
        with joining(node.user("nora", roles=("auditor",)), sid, "moderator") as moderator:
            owner.expect("the session begins")
            moderator.process.send_signal(signal.SIGSTOP)
            owner.expect("The session is paused")
            moderator.process.send_signal(signal.SIGCONT)
            assert moderator.end() == 255
        with joining(node.user("nora", roles=("auditor",)), sid, "moderator") as moderator:
            owner.expect("The session is resumed")
            moderator.type("t", end="")
            moderator.end()


def test_a14_who_comes_to_need_company_does_not_go_on_alone(node: SshNode) -> None:
    node.state.roles["changing"] = node.state.roles["access"]
    with at_terminal(node.user("chris", roles=("changing",)), "PS1='$ ' sh") as alone:
        alone.expect("$")
        node.state.roles["changing"] = node.state.roles["moderated"]
        node.tell("role")
        alone.expect("access is no longer allowed")
        alone.end()
    ended(node, "chris")


def _login_refusal(user: User, session_id: str) -> str:
    with joining(user, session_id, "observer") as terminal:
        assert terminal.end() != 0
        return terminal.shown


@pytest.mark.parametrize(
    "spec",
    [
        {"allowed_resources": ("/demo/node/00000000-0000-4000-8000-000000000000",)},
        {"force_command": "id"},
        {"valid_after": 1.7e9, "valid_before": 1.7e9 + 60},
        {"roles": ("gone",)},
    ],
    ids=["for other resources", "for one command", "expired", "with an unknown role"],
)
def test_a30_certificates_that_open_no_session(node: SshNode, owner: str, spec: dict[str, Any]) -> None:
    node.state.roles.pop("gone", None)
    eve = node.user("eve2", **{"roles": ("watcher",), **spec})
    assert "You joined" not in _login_refusal(eve, owner)


@pytest.mark.parametrize("bad", ["../../x", "a" * 5000, UNKNOWN.upper(), f"{UNKNOWN} x", "", "*"])
def test_a60_what_is_no_session_id(node: SshNode, owner: str, bad: str) -> None:
    with node.user("eve", roles=("watcher",)).logged_in(JOIN_LOGIN) as transport:
        channel = transport.open_session()
        channel.exec_command(bad)
        assert channel.recv_exit_status() == 255
        assert b"is not a session id" in channel.recv_stderr(4096)


def test_a_visitor_has_no_login_and_opens_nothing(node: SshNode, owner: str) -> None:
    with node.user("eve", roles=("watcher",)).logged_in(JOIN_LOGIN) as transport:
        watching = transport.open_session()
        watching.exec_command(owner)
        read_until(watching, b"as observer")
        for refused in ("invoke_shell", "sftp"):
            channel = transport.open_session()
            if refused == "sftp":
                channel.invoke_subsystem("sftp")
            else:
                channel.invoke_shell()
            assert b"to join a session, ask for its id" in channel.recv_stderr(4096)
        with pytest.raises(Exception, match="Administratively prohibited"):
            transport.open_channel("direct-tcpip", ("127.0.0.1", node.port), ("127.0.0.1", 1))
        spawner = node.pool._process
        assert spawner is not None
        users = [_ids(pid) for pid in children_of(spawner.pid)]
        assert users.count({65534}) == 1


def _ids(pid: int) -> set[int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {int(n) for line in lines if line.startswith(("Uid:", "Gid:")) for n in line.split()[1:]}


def test_f07_without_the_auth_service_no_session_waits_and_those_that_run_go_on(node: SshNode) -> None:
    async def away() -> None:
        raise UnavailableError("the Auth Service is away")

    with at_terminal(node.user("ruth", roles=("moderated",)), "PS1='$ ' sh") as running:
        running.expect("Waiting for participants")
        with joining(node.user("mona", roles=("auditor",)), live(node, "ruth"), "moderator"):
            running.expect("the session begins")
            told, node.table.announce = node.table.announce, away
            try:
                with at_terminal(node.user("ute", roles=("moderated",)), "id") as late:
                    assert late.end() == 255
                    assert "this session needs others to be present" in late.shown
                    assert "uid=" not in late.shown
                with at_terminal(node.user("ulf"), "echo fi''ne") as plain:
                    plain.expect("fine")
                    plain.end()
                running.type("echo go''es; exit")
                running.expect("goes")
            finally:
                node.table.announce = told
            running.end()

"""Attack A14 on a server: somebody or something is locked, in a live session and for a new one, for every
target that a lock can have; and what else ends a live session. Real processes, the real OpenSSH client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import paramiko
import pytest

from pkgs.common.errors import DeniedError
from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import AuthPreference, AuthPreferenceSpec
from pkgs.common.resources.metadata import Metadata
from tests.harness.cluster import run
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import (
    CLUSTER,
    HOST_ID,
    SshNode,
    User,
    change_role,
    ended,
    recording_of,
    role,
    wait_until,
)
from tests.integration.terminal import Terminal

pytestmark = [
    pytest.mark.needs("ssh", "sftp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
PROMISED_S = 5.0
TARGETS: dict[str, tuple[dict[str, Any], str]] = {
    "user": ({}, "{name}"),
    "role": ({"roles": ("access", "dba")}, "dba"),
    "login": ({}, "root"),
    "server_id": ({}, HOST_ID),
    "mfa_device": ({"mfa_device": "factor-1"}, "factor-1"),
    "device": ({"device_id": "laptop-1", "device_asset_tag": "C02"}, "laptop-1"),
    "access_request": ({"active_requests": ("r-0", "r-1")}, "r-1"),
    "bot_instance_id": ({"bot_name": "b", "bot_instance_id": "i-1"}, "i-1"),
    "join_token": ({"bot_name": "b", "join_token": "t-1"}, "t-1"),
}
"""By target: what the certificate says, and the value of the lock. No certificate and no session on a server
is about a desktop: a lock on one stops none of them, as the last test shows."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        node.state.roles["dba"] = role("dba", logins=["root"])
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


@pytest.fixture
def node(running: SshNode) -> Iterator[SshNode]:
    """As it was, after each test."""
    state, kept = running.state, replace(running.state)
    roles, now = dict(state.roles), running.now
    yield running
    state.locks, state.trust, state.stale_for_s = (), kept.trust, 0.0
    state.auth_preference, state.roles = kept.auth_preference, roles
    running.now = now


class Live:
    """A command that runs until something ends it."""

    def __init__(self, user: User, *flags: str, login: str = "root") -> None:
        argv = user.argv("echo up; sleep 60", login=login, before=flags)
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == b"up"

    def goes_on(self) -> bool:
        return self.process.poll() is None

    def last_words(self) -> str:
        """What the user reads on the error stream, once it has ended within the promised time."""
        began = time.monotonic()
        _, err = self.process.communicate(timeout=20)
        assert time.monotonic() - began < PROMISED_S
        assert self.process.returncode == 255
        return err.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("target", TARGETS)
def test_a14_a_lock_ends_the_live_session_and_says_why(node: SshNode, target: str) -> None:
    facts, value = TARGETS[target]
    name = f"live-{target.replace('_', '-')}"
    user, other = node.user(name, **facts), node.user(f"{name}-2", logins=(OTHER,))
    live, spared = Live(user), Live(other, login=OTHER)
    try:
        lock = node.lock(message="come to the desk", **{target: value.format(name=name)})
        assert live.last_words().startswith(f"lock targeting {_shown(lock.spec.target)} is in force: come to")
        if target == "server_id":
            spared.last_words()
        else:
            assert spared.goes_on()
    finally:
        live.close()
        spared.close()
    event = ended(node, name, "client.disconnect")
    assert event.fields["reason"] == f"lock {lock.name}: come to the desk"


@pytest.mark.parametrize("target", TARGETS)
def test_a14_a_lock_refuses_the_new_session_and_says_why(node: SshNode, target: str) -> None:
    facts, value = TARGETS[target]
    name = f"new-{target.replace('_', '-')}"
    user, other = node.user(name, **facts), node.user(f"{name}-2", logins=(OTHER,))
    lock = node.lock(message="come to the desk", **{target: value.format(name=name)})
    done = user.ssh("echo in")
    assert (done.returncode, done.stdout) == (255, b"")
    assert f"lock targeting {_shown(lock.spec.target)} is in force: come to the desk" in done.stderr.decode()
    refused = [e for e in node.events.named("auth") if e.fields.get("user") == name]
    assert refused[-1].fields["error"] == f"lock {lock.name}: come to the desk"
    if target != "server_id":
        assert other.ssh("echo in", login=OTHER).stdout == b"in\n"
    node.state.locks = ()
    assert user.ssh("echo in").stdout == b"in\n"


@pytest.mark.parametrize("target", TARGETS)
def test_a14_every_set_field_must_match(node: SshNode, target: str) -> None:
    facts, value = TARGETS[target]
    name = f"both-{target.replace('_', '-')}"
    user = node.user(name, **facts)
    node.lock(**{target: value.format(name=name), "windows_desktop": "desk"})
    node.lock(**{"user": "somebody-else", **({} if target == "user" else {target: value})})
    assert user.ssh("echo in").stdout == b"in\n"


def _shown(target: Any) -> str:
    names = {"mfa_device": "MFADevice", "server_id": "ServerID", "bot_instance_id": "BotInstanceID"}
    (field,) = (f for f in target.__struct_fields__ if getattr(target, f))
    title = names.get(field) or "".join(word.capitalize() for word in field.split("_"))
    return f'{title}:"{getattr(target, field)}"'


def test_a14_a_lock_on_a_user_hits_what_they_made_for_others(node: SshNode) -> None:
    user = node.user("puppet", impersonator="mallory")
    live = Live(user)
    try:
        node.lock(user="mallory")
        assert 'User:"mallory"' in live.last_words()
    finally:
        live.close()
    assert user.ssh("echo in").returncode == 255


def test_a14_on_a_terminal_the_message_is_on_the_terminal(node: SshNode) -> None:
    user = node.user("tess")
    argv = user.argv(before=("-tt", "-o", "LogLevel=QUIET"))
    terminal = Terminal(argv, dict(os.environ))
    terminal.type("PS1=; stty -echo; printf 'u%s\\n' p")
    terminal.expect("up\r\n")
    node.lock(message="lunch \x1b[2J break", user="tess")
    terminal.expect(
        '\r\nlock targeting User:"tess" is in force: lunch \\x1b[2J break\r\n', deadline_s=PROMISED_S
    )
    assert terminal.end() == 255
    assert b"is in force: lunch" in recording_of(node, "tess").output


def test_a14_a_file_transfer_ends(node: SshNode) -> None:
    user = node.user("finn")
    argv = ["sftp", *user.options("-P"), "root@127.0.0.1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as client:
        assert client.stdin is not None and client.stdout is not None and client.stderr is not None
        client.stdin.write(b"pwd\n")
        client.stdin.flush()
        while b"working directory" not in client.stdout.readline():
            assert client.poll() is None
        node.lock(user="finn", message="stop")
        assert client.stderr.readline().startswith(b"Connected to")
        assert b'User:"finn" is in force: stop' in client.stderr.readline()
        ended(node, "finn")
        client.stdin.write(b"ls\n")  # it looks at its connection only when there is something to do
        client.stdin.close()
        assert client.wait(PROMISED_S) != 0


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """An address that is not this host's own: the node forwards to no other."""
    tag = f"lk{os.getpid() % 10000}"
    there = ("ip", "netns", "exec", tag)
    try:
        run("ip", "netns", "add", tag).ok()
        run("ip", "link", "add", f"{tag}a", "type", "veth", "peer", f"{tag}b", "netns", tag).ok()
        run("ip", "addr", "add", "10.79.1.1/24", "dev", f"{tag}a").ok()
        run("ip", "link", "set", f"{tag}a", "up").ok()
        run(*there, "ip", "addr", "add", "10.79.1.2/24", "dev", f"{tag}b").ok()
        run(*there, "ip", "link", "set", f"{tag}b", "up").ok()
        echo = (
            "import socket; s = socket.create_server(('10.79.1.2', 7007)); print('up', flush=True)\n"
            "c, _ = s.accept(); c.sendall(b'hi')\nwhile c.recv(100): pass\nprint('ended', flush=True)"
        )
        with subprocess.Popen([*there, sys.executable, "-c", echo], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None and server.stdout.readline() == b"up\n"
            yield "10.79.1.2"
            assert server.stdout.readline() == b"ended\n"
    finally:
        run("ip", "netns", "del", tag)


@pytest.mark.needs("ip")
def test_a14_forwardings_and_every_channel_end_with_it(node: SshNode, elsewhere: str) -> None:
    with node.user("flo").logged_in() as transport:
        ones = [transport.open_session() for _ in range(3)]
        for one in ones:
            one.exec_command("echo up; cat")
            assert one.recv(3) == b"up\n"
        forwarded = transport.open_channel("direct-tcpip", (elsewhere, 7007), ("127.0.0.1", 1), timeout=20)
        assert forwarded.recv(2) == b"hi"
        began = time.monotonic()
        node.lock(user="flo")
        wait_until(lambda: not transport.is_active(), "hung up", PROMISED_S)
        assert time.monotonic() - began < PROMISED_S
        assert [one.recv(1) for one in (*ones, forwarded)] == [b""] * 4
    stopped = wait_until(
        lambda: [
            e for e in node.events.named("port") if e.fields.get("user") == "flo" and e.code == "T3003S"
        ],
        "the end of the forwarding",
    )
    assert [event.fields["addr"] for event in stopped] == [f"{elsewhere}:7007"]


def test_a14_new_channels_of_an_open_connection_are_refused_at_once(node: SshNode) -> None:
    """Between the lock and the end of the connection."""
    with node.user("nell").logged_in() as transport:
        node.call(node.reviews._live.clear)
        lock = node.lock(user="nell", message="stop")
        channel = transport.open_session()
        channel.exec_command("echo in")
        assert channel.recv_exit_status() == 255
        assert channel.recv_stderr(200) == b'lock targeting User:"nell" is in force: stop\r\n'
        with pytest.raises(paramiko.ChannelException, match="Administratively prohibited"):
            transport.open_channel("direct-tcpip", ("192.0.2.1", 80), ("127.0.0.1", 1), timeout=20)
    assert ended(node, "nell", "session.rejected").fields["reason"] == f"lock {lock.name}: stop"
    assert lock.name in str(ended(node, "nell", "port").fields["error"])


def test_a14_a_lock_that_runs_out_lets_in_again(node: SshNode) -> None:
    user, ends = node.user("tara"), time.time() + 3600
    node.lock(user="tara", expires=datetime.fromtimestamp(ends, UTC))
    assert user.ssh("echo in").returncode == 255
    node.now = lambda: ends + 1
    late = node.user("tara", valid_before=ends + 3600)
    assert late.ssh("echo in").stdout == b"in\n"


def test_a14_a_lock_on_a_desktop_is_no_lock_on_servers(node: SshNode) -> None:
    user = node.user("dora")
    live = Live(user)
    try:
        node.lock(windows_desktop="desk-1")
        node.lock(linux_desktop="desk-1", login="root")
        assert user.ssh("echo in").stdout == b"in\n"
        assert live.goes_on()
    finally:
        live.close()


# What else ends a live session: the one decision has become no.


def _role_without_its_login(node: SshNode) -> None:
    node.state.roles["access"] = role("access", logins=["somebody"])
    node.tell("role")


def _role_that_is_gone(node: SshNode) -> None:
    def nobody(_: Any) -> Any:
        raise DeniedError("access denied", reasons=("role access does not exist",))

    node.state.roles_of = nobody  # type: ignore[method-assign]
    node.tell("role")


def _other_labels(node: SshNode) -> None:
    old = node.state.roles["access"]
    allow = msgspec.structs.replace(old.spec.allow, node_labels={"env": "prod"})
    node.state.roles["access"] = msgspec.structs.replace(
        old, spec=msgspec.structs.replace(old.spec, allow=allow)
    )
    node.tell("node")


def _mfa_for_every_session(node: SshNode) -> None:
    node.state.auth_preference = AuthPreference(
        metadata=Metadata(name="p"), spec=AuthPreferenceSpec(require_session_mfa=True)
    )
    node.tell("cluster_auth_preference")


def _another_authority(node: SshNode) -> None:
    node.state.trust = Trust.from_authorities([new_authority("user", CLUSTER, time.time()), node.hosts])
    node.tell("cert_authority")


def _stale_and_strict(node: SshNode) -> None:
    change_role(node, "access", lock="strict")
    node.state.stale_for_s = 301.0  # nobody tells: time does


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_role_without_its_login, "no role allows this server and this login"),
        (_role_that_is_gone, "role access does not exist"),
        (_other_labels, "no role allows this server"),
        (_mfa_for_every_session, "session MFA required"),
        (_another_authority, "authority is no longer trusted"),
        (_stale_and_strict, "too old for strict locking"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a14_a_live_session_ends_when_it_would_not_be_allowed_now(
    node: SshNode, change: Callable[[SshNode], None], reason: str
) -> None:
    name = f"u{change.__name__.replace('_', '-')}"
    live = Live(node.user(name))
    try:
        change(node)
        words = live.last_words()
    finally:
        live.close()
        vars(node.state).pop("roles_of", None)
    assert reason in str(ended(node, name, "client.disconnect").fields["reason"])
    assert any(text in words for text in ("no longer allowed", "access denied", "not known for certain"))


def test_a14_the_live_session_outlives_what_leaves_it_allowed(node: SshNode) -> None:
    """A changed role, a renewed authority beside the old one, a stale view where best effort is enough."""
    live = Live(node.user("lena"))
    try:
        node.state.roles["access"] = role("access", logins=["root", OTHER, "more"])
        node.state.trust = Trust.from_authorities(
            [node.users, new_authority("user", CLUSTER, time.time()), node.hosts]
        )
        node.state.stale_for_s = 3600.0
        passes = node.reviews.passes
        node.tell("")
        wait_until(lambda: node.reviews.passes >= passes + 2, "it was asked about")
        assert live.goes_on()
    finally:
        live.close()


@pytest.mark.parametrize(
    ("facts", "disconnect", "lives"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"mfa_device": "m", "previous_expires_at": 3600}, True, True),
        ({"mfa_device": "m", "previous_expires_at": 60}, True, False),
    ],
    ids=["kept", "cut", "one-minute certificate", "and its origin"],
)
def test_f17_an_expired_certificate_ends_it_only_where_the_roles_say_so(
    node: SshNode, facts: dict[str, Any], disconnect: bool, lives: bool
) -> None:
    change_role(node, "access", disconnect_expired_cert=disconnect)
    name = f"exp-{disconnect}-{lives}-{len(facts)}".lower()
    began = time.time()
    facts = {key: began + value if key == "previous_expires_at" else value for key, value in facts.items()}
    ends = began + 60
    live = Live(node.user(name, valid_before=ends, **facts))
    try:
        node.now = lambda: time.time() + 61
        if lives:
            passes = node.reviews.passes
            wait_until(lambda: node.reviews.passes >= passes + 2, "it was asked about")
            assert live.goes_on()
        else:
            assert live.last_words().startswith("the certificate has expired")
    finally:
        live.close()


def test_f07_strict_refuses_new_sessions_on_a_stale_view(node: SshNode) -> None:
    user = node.user("stan")
    node.state.stale_for_s = 301.0
    assert user.ssh("echo in").stdout == b"in\n"
    change_role(node, "access", lock="strict")
    done = user.ssh("echo in")
    assert done.returncode == 255
    assert b"not known for certain" in done.stderr
    node.state.stale_for_s = 299.0
    assert user.ssh("echo in").stdout == b"in\n"

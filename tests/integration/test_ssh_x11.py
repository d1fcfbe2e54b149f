"""X11 forwarding with the real client, a real X server and a real X program: `ssh -X`, `ssh -Y`."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from pkgs.common.errors import UnavailableError
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import MANY_EXTENSIONS, SshNode, change_role, ended, wait_until
from tests.integration.x11_kit import XServer, socket_of, x11_node, x11_user, x_server

pytestmark = [
    pytest.mark.needs("ssh", "ssh-keygen", "Xvfb", "xauth", "xdpyinfo"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with x11_node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XServer]:
    with x_server(tmp_path_factory.mktemp("x")) as screen:
        yield screen


@pytest.mark.parametrize("flag", ["-X", "-Y"])
def test_an_x_program_is_shown_on_the_clients_display(node: SshNode, screen: XServer, flag: str) -> None:
    user = x11_user(node, f"xenia{flag}")
    command = 'echo $DISPLAY; echo $XAUTHORITY; xdpyinfo; stat -c "%a %U" $XAUTHORITY /tmp/.X11-unix/X*'
    done = user.ssh(command, login=OTHER, before=(flag,), env=screen.environment)
    display, authority, rest = done.stdout.decode().split("\n", 2)
    assert "number of screens:    1" in rest, done.stderr.decode()
    number = int(display.removeprefix(":").removesuffix(".0"))
    assert number in node.displays
    assert f"600 {OTHER}\n" in rest
    assert ended(node, f"xenia{flag}", "x11-forward").code == "T3008I"
    # Nothing stays: neither the socket nor the cookie.
    wait_until(lambda: not socket_of(number).exists(), "the socket is removed")
    wait_until(lambda: not Path(authority).parent.exists(), "the cookie is removed")


def test_every_session_has_a_display_of_its_own_and_a_wrong_cookie_opens_none(
    node: SshNode, screen: XServer
) -> None:
    user, control = x11_user(node, "zoe"), f"/tmp/x11-{os.getpid()}.ctl"
    argv = user.argv("echo $DISPLAY; read line", login=OTHER, before=("-M", "-S", control, "-Y"))
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=screen.environment
    ) as first:
        assert first.stdout is not None
        mine = first.stdout.readline().decode().strip()
        before = ("-S", control, "-Y")
        second = user.ssh("echo $DISPLAY; xdpyinfo | grep -c vendor", before=before, env=screen.environment)
        theirs, shown = second.stdout.decode().split()
        assert theirs != mine
        assert shown == "2"
        # Root may connect to the other session's display, and the client knows a false cookie.
        false = f"d=$(mktemp -d); xauth -q -f $d/x add {mine} . {'00' * 16}; export XAUTHORITY=$d/x"
        command = f"{false} DISPLAY={mine}; xdpyinfo 2>&1; rm -r $d"
        done = user.ssh(command, before=before, env=screen.environment)
        assert b"unable to open display" in done.stdout
        first.communicate(b"\n", timeout=20)


def test_without_asking_there_is_no_display(node: SshNode, screen: XServer) -> None:
    done = x11_user(node, "ned").ssh('echo "$DISPLAY$XAUTHORITY"', before=("-x",), env=screen.environment)
    assert done.stdout == b"\n"


@pytest.mark.parametrize(
    ("options", "spec", "on_host"),
    [
        ({}, {}, True),
        ({"permit_x11_forwarding": True}, {"extensions": MANY_EXTENSIONS}, True),
        ({"permit_x11_forwarding": True}, {"force_command": 'echo "$DISPLAY"'}, True),
        ({"permit_x11_forwarding": True}, {}, False),
    ],
    ids=["role", "extension", "a13-forced-command", "host"],
)
def test_a_display_that_is_not_allowed_is_not_there(
    node: SshNode, screen: XServer, options: dict[str, bool], spec: dict[str, object], on_host: bool
) -> None:
    change_role(node, "access", **options)
    displays = node.gate.displays
    if not on_host:
        object.__setattr__(node.gate, "displays", range(0))
    try:
        done = x11_user(node, "doug", **spec).ssh('echo "$DISPLAY"', before=("-Y",), env=screen.environment)
    finally:
        object.__setattr__(node.gate, "displays", displays)
        change_role(node, "access", permit_x11_forwarding=True)
    assert (done.returncode, done.stdout) == (0, b"\n")
    assert b"X11 forwarding request failed" in done.stderr
    assert ended(node, "doug", "x11-forward").code == "T3008W"


def test_a14_a_role_that_no_longer_allows_it_ends_the_connection(node: SshNode, screen: XServer) -> None:
    argv = x11_user(node, "lena").argv("echo $DISPLAY; sleep 60", login=OTHER, before=("-Y",))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=screen.environment) as process:
        assert process.stdout is not None
        try:
            number = int(process.stdout.readline().decode().strip().removeprefix(":").removesuffix(".0"))
            assert socket_of(number).lstat().st_uid == pwd.getpwnam(OTHER).pw_uid
            change_role(node, "access")
            node.tell("role")
            assert process.wait(20) != 0
        finally:
            change_role(node, "access", permit_x11_forwarding=True)
            process.kill()
    wait_until(lambda: not socket_of(number).exists(), "the socket is removed")


ONE_MORE = """
import os, socket
path = "/tmp/.X11-unix/X" + os.environ["DISPLAY"][1:].split(".")[0]
kept = []
def connect(name):
    kept.append(socket.socket(socket.AF_UNIX))
    return kept[-1].connect_ex(name)
assert connect("\\0" + path) == 0
for name in ("\\0" + path, path):
    while connect(name) == 0:
        pass
print("none")
"""


def test_a_single_connection_is_one(node: SshNode) -> None:
    with x11_user(node, "sina").logged_in(OTHER) as transport:
        arrived: list[paramiko.Channel] = []
        session = transport.open_session()
        session.request_x11(single_connection=True, handler=lambda channel, origin: arrived.append(channel))
        session.exec_command(f"/usr/bin/python3 -c '{ONE_MORE}'")
        assert session.makefile().read() == b"none\n"
        wait_until(lambda: arrived, "it arrives")
        assert len(arrived) == 1


def test_a_display_without_its_audit_or_where_none_is_free(node: SshNode) -> None:
    with x11_user(node, "una").logged_in(OTHER) as transport:
        node.events.broken = UnavailableError("the audit log is full")
        try:
            with pytest.raises(paramiko.SSHException):
                transport.open_session().request_x11()
        finally:
            node.events.broken = None
        sessions = [transport.open_session() for _ in node.displays]
        for session in sessions:
            session.request_x11()
        with pytest.raises(paramiko.SSHException):
            transport.open_session().request_x11()
        why = "no display is free on this host"
        wait_until(lambda: ended(node, "una", "x11-forward").fields.get("error") == why, "it is audited")
        # One is, once a session is over that ran nothing at all.
        sessions.pop().close()

        def again() -> bool:
            try:
                transport.open_session().request_x11()
            except paramiko.SSHException:
                return False
            return True

        wait_until(again, "a display is free again")

"""Attacks on X11 forwarding and on forwarded sockets: hostile clients, and other users of the host."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.message import Message

from pkgs.common.ssh.limits import MAX_CHANNELS, MAX_PENDING_OPENS
from tests.integration.os_user import OTHER
from tests.integration.sockets_kit import folder_of, listen_unix, open_unix
from tests.integration.ssh_kit import SshNode, ended, wait_until
from tests.integration.x11_kit import SOCKETS, socket_of, x11_node, x11_user

pytestmark = [
    pytest.mark.needs("ssh-keygen", "xauth"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]

COOKIE = b"00112233445566778899aabbccddeeff"
NOBODY = 65534


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with x11_node(tmp_path_factory.mktemp("node")) as node:
        yield node


def ask(session: paramiko.Channel, protocol: bytes, cookie: bytes, screen: int = 0) -> None:
    """`x11-req`, with whatever words. Without an answer: at a refusal the library would close the channel."""
    message = Message()
    message.add_byte(b"\x62")
    message.add_int(session.remote_chanid)
    message.add_string("x11-req")
    message.add_boolean(False)
    message.add_boolean(False)
    message.add_string(protocol)
    message.add_string(cookie)
    message.add_int(screen)
    session.transport._send_user_message(message)


def display_of(session: paramiko.Channel) -> int:
    session.exec_command("echo $DISPLAY; exec sleep 60")
    return int(session.makefile().readline().strip().removeprefix(":").partition(".")[0])


@pytest.mark.parametrize(
    ("protocol", "cookie", "screen"),
    [
        (b"MIT-MAGIC-COOKIE-1\nsource /etc/shadow\n", COOKIE, 0),
        (b"$(touch /tmp/x11-pwned)", COOKIE, 0),
        (b"`touch /tmp/x11-pwned`;", COOKIE, 0),
        (b"", COOKIE, 0),
        (b"\xff\xfe", COOKIE, 0),
        (b"MIT-MAGIC-COOKIE-1", COOKIE + b"\nextract /tmp/x11-pwned :0", 0),
        (b"MIT-MAGIC-COOKIE-1", b"a" * 150_000, 0),
        (b"MIT-MAGIC-COOKIE-1", b"\x00" * 32, 0),
        (b"MIT-MAGIC-COOKIE-1", COOKIE, 0xFFFFFFFF),
    ],
    ids=["lines", "shell", "shell2", "empty", "bytes", "extract", "huge", "nul", "screen"],
)
def test_a57_hostile_words_reach_neither_xauth_nor_the_environment(
    node: SshNode, protocol: bytes, cookie: bytes, screen: int
) -> None:
    with x11_user(node, "eve").logged_in(OTHER) as transport:
        session = transport.open_session()
        ask(session, protocol, cookie, screen)
        session.exec_command('echo "[$DISPLAY$XAUTHORITY]"')
        assert session.makefile().read() == b"[]\n"
    assert not Path("/tmp/x11-pwned").exists()
    failed = ended(node, "eve", "x11-forward")
    assert failed.code == "T3008W"
    assert len(str(failed.fields["error"])) < 100


def test_a65_the_cookie_is_in_no_argument_and_no_event(node: SshNode) -> None:
    with x11_user(node, "ada").logged_in(OTHER) as transport:
        session = transport.open_session()
        ask(session, b"MIT-MAGIC-COOKIE-1", COOKIE)
        ask(session, b"MIT-MAGIC-COOKIE-1", COOKIE)  # one display for a session
        number = display_of(session)
        assert len([path for path in map(socket_of, node.displays) if path.exists()]) == 1
        for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert COOKIE not in cmdline.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
        assert COOKIE.decode() not in str([event.fields for event in node.events.all])
        session.close()
        wait_until(lambda: not socket_of(number).exists(), "the display is gone")


def test_a58_only_the_user_reaches_a_display(node: SshNode) -> None:
    """The file is private; an abstract name has no owner, so whoever connects is looked at."""
    with x11_user(node, "uma").logged_in(OTHER) as transport:
        arrived: list[paramiko.Channel] = []
        session = transport.open_session()
        session.request_x11(handler=lambda channel, origin: arrived.append(channel))
        path = socket_of(display_of(session))
        assert path.lstat().st_mode & 0o777 == 0o600
        script = (
            "import os, socket, sys\n"
            f"os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "try:\n"
            "    s.connect(sys.argv[1])\n"
            "    sys.exit('connected')\n"
            "except PermissionError:\n"
            "    s.connect(chr(0) + sys.argv[1])\n"
            "    print(s.recv(1))\n"
        )
        stranger = subprocess.run(
            ["/usr/bin/python3", "-c", script, str(path)], capture_output=True, timeout=20
        )
        assert stranger.stdout in (b"b''\n", b""), stranger.stderr
        assert b"connected" not in stranger.stderr
        assert not arrived
        with socket.socket(socket.AF_UNIX) as root:
            root.connect(str(path))
            wait_until(lambda: arrived, "root's arrives")
        session.close()


def test_a58_numbers_that_others_hold_are_left_to_them(node: SshNode, tmp_path: Path) -> None:
    first, second, third, fourth, fifth = (socket_of(number) for number in node.displays[:5])
    SOCKETS.mkdir(exist_ok=True)
    SOCKETS.chmod(0o1777)
    prey = tmp_path / "prey"
    prey.write_text("stays")
    try:
        with (
            socket.socket(socket.AF_UNIX) as squatter,
            socket.socket(socket.AF_UNIX) as dead,
            x11_user(node, "sam").logged_in(OTHER) as transport,
        ):
            squatter.bind(f"\0{first}")  # would pass for the display to whoever tries this name first
            second.symlink_to(prey)
            third.write_text("a file")
            dead.bind(str(fourth))
            dead.close()  # another user's
            session = transport.open_session()
            ask(session, b"MIT-MAGIC-COOKIE-1", COOKIE)
            assert socket_of(display_of(session)) == fifth
            assert prey.read_text() == "stays"
            session.close()
            wait_until(lambda: not fifth.exists(), "the display is gone")
            assert second.is_symlink()
    finally:
        for path in (second, third, fourth):
            path.unlink(missing_ok=True)


def test_a58_what_a_killed_process_left_is_used_again(node: SshNode) -> None:
    with x11_user(node, "kit").logged_in(OTHER) as transport:
        session = transport.open_session()
        ask(session, b"MIT-MAGIC-COOKIE-1", COOKIE)
        session.exec_command("echo $DISPLAY $XAUTHORITY $PPID; exec sleep 60")
        display, authority, pid = session.makefile().readline().split()
        os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the process is gone")
    assert Path(authority).exists()
    assert socket_of(int(display[1:].partition(".")[0])).exists()
    with x11_user(node, "kit").logged_in(OTHER) as transport:
        session = transport.open_session()
        ask(session, b"MIT-MAGIC-COOKIE-1", COOKIE)
        assert f":{display_of(session)}.0" == display
        assert not Path(authority).exists()
        session.close()
        wait_until(lambda: ended(node, "kit"), "it is over")


def test_a66_a_flood_of_x_clients_is_bounded_and_the_session_goes_on(node: SshNode) -> None:
    with x11_user(node, "flo").logged_in(OTHER) as transport:
        held: list[paramiko.Channel] = []
        session = transport.open_session()
        session.request_x11(handler=lambda channel, origin: held.append(channel))
        script = (
            "import os, select, socket\n"
            'path = "/tmp/.X11-unix/X" + os.environ["DISPLAY"][1:].split(".")[0]\n'
            "kept, hung_up = [], select.poll()\n"
            "for _ in range(400):\n"
            "    s = socket.socket(socket.AF_UNIX)\n"
            "    s.connect(path)\n"
            "    hung_up.register(s, select.POLLIN)\n"
            "    kept.append(s)\n"
            "print(len(kept), bool(hung_up.poll(20000)))\n"
        )
        session.exec_command(f"/usr/bin/python3 -c '{script}'")
        assert session.makefile().read() == b"400 True\n"
        assert 0 < len(held) <= MAX_CHANNELS + MAX_PENDING_OPENS
        for channel in held:
            channel.close()
        other = transport.open_session()
        other.exec_command("echo alive")
        assert other.makefile().read() == b"alive\n"


def test_a66_a_flood_of_socket_channels_is_bounded(node: SshNode) -> None:
    with (
        folder_of() as folder,
        socket.socket(socket.AF_UNIX) as server,
        node.user("fia").logged_in(OTHER) as transport,
    ):
        server.bind(str(folder / "a"))
        (folder / "a").chmod(0o666)
        server.listen(512)
        held, refused = [], 0
        for _ in range(270):
            try:
                held.append(open_unix(transport, bytes(folder / "a")))
            except paramiko.ChannelException as problem:
                assert problem.code == 4
                refused += 1
        assert len(held) == MAX_CHANNELS
        assert refused == 14
        for channel in held:
            channel.close()
        session = transport.open_session()
        session.exec_command("echo alive")
        assert session.makefile().read() == b"alive\n"


@pytest.mark.parametrize(
    "path", [b"../x", b"/run/../etc/x", b"/\0x", b"\0abstract", b"/" + b"x" * 60_000, b"\xff"]
)
def test_a56_odd_paths_are_refused_and_the_connection_goes_on(node: SshNode, path: bytes) -> None:
    with node.user("odo").logged_in(OTHER) as transport:
        with pytest.raises(paramiko.ChannelException) as refused:
            open_unix(transport, path)
        assert refused.value.code == 2
        assert not listen_unix(transport, path)
        assert transport.is_active()
    wait_until(lambda: [e for e in node.events.named("port") if e.fields["user"] == "odo"], "it is audited")

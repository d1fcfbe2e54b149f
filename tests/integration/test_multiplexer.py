"""The multiplexer's socket: who may ask, what a bad request gets, and the helper that hands over."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pkgs.clients.tsh.multiplex import handover
from pkgs.clients.tsh.multiplex.server import Multiplexer, Place
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import AlreadyExistsError, NotFoundError
from tests.integration.os_user import OTHER, make_other

HANDOVER = [sys.executable, "-I", "-S", handover.__file__]


def logged_out() -> Login:
    raise NotFoundError("not logged in", hint="run 'tsh login'")


@contextmanager
def serving(path: Path) -> Iterator[list[str]]:
    """A multiplexer without a login; what it said when it noticed."""
    gone: list[str] = []
    held = Place(str(path))
    loop = asyncio.new_event_loop()
    task = loop.create_task(Multiplexer(logged_out, lambda: gone.append("gone")).serve(held.listener))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])))
    thread.start()
    try:
        yield gone
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        held.close()
        loop.close()


def ask(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while more := sock.recv(4096):
            answer += more
        return answer


def test_one_at_a_time_and_for_its_user_only(short_tmp: Path) -> None:
    path = short_tmp / "multiplex" / "demo"
    with serving(path):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(AlreadyExistsError):
            Place(str(path))
    assert not path.exists()
    with serving(path):  # what is left behind stops nobody
        assert path.exists()


def test_bad_requests_get_one_line_and_nothing_of_theirs_on_it(short_tmp: Path) -> None:
    path = short_tmp / "demo"
    with serving(path) as gone:
        for request in (b"root@web1:3022\0SSH-2.0-early", b"x" * 1000 + b"\0", b"\0\0", b"root@web1"):
            assert ask(path, request) == b"that is no request for a connection\n", request
        assert gone == []
        assert ask(path, b"root@web1:3022\0") == b"not logged in; run 'tsh login'\n"
        assert gone == ["gone"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")
def test_another_user_is_not_served_even_where_the_folder_is_open(short_tmp: Path) -> None:
    make_other()
    path = short_tmp / "demo"
    with serving(path) as gone:
        for each, mode in ((short_tmp, 0o755), (path, 0o666)):
            each.chmod(mode)
        script = (
            "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "s.sendall(b'root@web1:3022\\0'); print(s.recv(100))"
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-c", script, str(path)],
            user=OTHER,
            capture_output=True,
            timeout=20,
            cwd="/",
        )
        assert done.stdout in (b"b''\n", b""), done
        assert gone == []


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Somebody at the socket who gives every request this answer."""
    asked: list[bytes] = []

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            asked.append(sock.recv(1000))
            sock.sendall(answer)
            asked.append(sock.recv(1000))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join(20)


def test_the_helper_hands_over_the_socket_and_reads_nothing_of_the_servers(short_tmp: Path) -> None:
    path = short_tmp / "demo"
    ours, theirs = socket.socketpair()
    with ours, answering(path, b"\nSSH-2.0-server\r\n") as asked:
        done = subprocess.run([*HANDOVER, str(path), "root@web1:3022"], stdout=theirs, timeout=20)
        theirs.close()
        assert done.returncode == 0
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        with socket.socket(fileno=fds[0]) as passed:
            assert passed.recv(100) == b"SSH-2.0-server\r\n"
            passed.sendall(b"SSH-2.0-client\r\n")
    assert asked == [b"root@web1:3022\0", b"SSH-2.0-client\r\n"]


def test_the_helper_says_why_not(short_tmp: Path) -> None:
    path = short_tmp / "demo"
    with answering(path, b"no server 'x'\n"):
        done = subprocess.run([*HANDOVER, str(path), "x"], capture_output=True, timeout=20)
    assert (done.returncode, done.stderr) == (1, b"tsh: no server 'x'\n")
    path.unlink()
    done = subprocess.run([*HANDOVER, str(path), "x"], capture_output=True, timeout=20)
    assert done.returncode == 1
    assert b"start it with 'tsh proxy ssh-multiplex'" in done.stderr

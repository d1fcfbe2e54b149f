"""Unix sockets for tests of their forwarding: servers, and what a client asks a node for."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
from paramiko.message import Message

from pkgs.common.ssh import wire
from tests.harness.clients import stop
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import User, wait_until


class Echo:
    """A server at a path: answers what it got, once the other side has sent everything."""

    def __init__(self, path: Path, mode: int = 0o666) -> None:
        self.path = path
        self.peers: list[int] = []
        """Users who connected."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.bind(str(path))
        path.chmod(mode)
        self._sock.listen(16)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Echo:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._sock.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                facts = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                self.peers.append(struct.unpack("3i", facts)[1])
                with sock, contextlib.suppress(OSError):
                    data = b""
                    while piece := sock.recv(65536):
                        data += piece
                    sock.sendall(b"got:" + data)


@contextlib.contextmanager
def folder_of(login: str = OTHER) -> Iterator[Path]:
    """A short path (the kernel wants that), private to a user."""
    folder = Path(tempfile.mkdtemp(prefix="s-", dir="/var/tmp"))
    entry = pwd.getpwnam(login)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def ask(to: Path | int, data: bytes) -> bytes:
    """Send, say that this is all, and read to the end; nothing when the other side hangs up."""
    family, address = (
        (socket.AF_UNIX, str(to)) if isinstance(to, Path) else (socket.AF_INET, ("127.0.0.1", to))
    )
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(address)
        answer = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                answer += piece
    return answer


@contextlib.contextmanager
def forwarding(
    user: User, *flags: str, login: str = OTHER, until: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running `ssh -N`; with `until`, once that path is there."""
    before = ("-N", "-o", "ExitOnForwardFailure=yes", *flags)
    argv = user.argv(login=login, before=before)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        if until is not None:
            wait_until(lambda: until.exists() or process.poll() is not None, f"{until} is there")
            assert process.poll() is None, process.communicate()[1].decode()
        yield process
    finally:
        stop(process)


def open_unix(transport: paramiko.Transport, path: bytes, timeout_s: float = 20) -> paramiko.Channel:
    """Ask for a socket; the library only asks for ports. Raises ChannelException."""
    channel = paramiko.Channel(transport._next_channel())
    number = channel.chanid
    transport._channels.put(number, channel)
    transport.channel_events[number] = answered = threading.Event()
    transport.channels_seen[number] = True
    channel._set_transport(transport)
    channel._set_window(1 << 21, 1 << 15)
    message = Message()
    message.add_byte(b"\x5a")
    message.add_string("direct-streamlocal@openssh.com")
    for value in (number, 1 << 21, 1 << 15):
        message.add_int(value)
    message.add_bytes(wire.string(path) + wire.string("") + wire.uint32(0))
    transport._send_user_message(message)
    assert answered.wait(timeout_s), "no answer"
    if number in transport._channels._map:
        return channel
    raise transport.get_exception() or paramiko.SSHException("not opened")


def listen_unix(transport: paramiko.Transport, path: bytes, *, cancel: bool = False) -> bool:
    """Ask to listen at a path, or to stop it."""
    kind = "streamlocal-forward@openssh.com"
    return transport.global_request(f"cancel-{kind}" if cancel else kind, (path,)) is not None

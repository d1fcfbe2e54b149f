"""A raw SSH client that says what it likes, for the attacks on a node."""

from __future__ import annotations

import queue
import socket
from pathlib import Path
from typing import Any

import paramiko
from paramiko.message import Message

from pkgs.common.ssh import wire
from tests.integration.ssh_kit import (
    SshNode,
    wait_until,
)

SERVICE_ACCEPT, USERAUTH_FAILURE, USERAUTH_SUCCESS, PK_OK = 6, 51, 52, 60


class _Answers:
    """Stands where the library's client keeps its login state: records what the server answers."""

    def __init__(self) -> None:
        self.seen: queue.Queue[tuple[int, bytes]] = queue.Queue()
        self.ok = False

    @property
    def _handler_table(self) -> dict[int, Any]:
        return {
            kind: self._taker(kind)
            for kind in (SERVICE_ACCEPT, USERAUTH_FAILURE, USERAUTH_SUCCESS, 53, PK_OK)
        }

    def _taker(self, kind: int) -> Any:
        def take(m: Message) -> None:
            if kind == USERAUTH_SUCCESS:
                self.ok = True
            if kind != 53:
                self.seen.put((kind, m.get_remainder()))

        return take

    def is_authenticated(self) -> bool:
        return self.ok

    def abort(self) -> None:
        self.seen.put((0, b""))


class Raw:
    """A client that says what it likes."""

    def __init__(self, node: SshNode) -> None:
        sock = socket.create_connection(("127.0.0.1", node.port))
        self.transport: Any = paramiko.Transport(sock)
        self.transport.start_client(timeout=20)
        self.answers = _Answers()
        self.transport.auth_handler = self.answers

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()
        self.transport.join(10)

    def send(self, data: bytes) -> None:
        message = Message()
        message.add_bytes(data)
        self.transport._send_message(message)

    def begin(self) -> None:
        self.send(b"\x05" + wire.string("ssh-userauth"))
        assert self.answer() == SERVICE_ACCEPT

    def answer(self) -> int:
        kind, _ = self.answers.seen.get(timeout=20)
        return kind

    def request(
        self,
        user: str,
        blob: bytes,
        key: paramiko.PKey | None = None,
        *,
        algorithm: str = "ssh-ed25519-cert-v01@openssh.com",
        session_id: bytes | None = None,
        signed_user: str | None = None,
        signed_algorithm: str | None = None,
    ) -> int:
        """A publickey request, signed if a key is given; the fields that are signed may differ."""
        head = b"\x32" + wire.string(user) + wire.string("ssh-connection") + wire.string("publickey")
        tail = wire.string(algorithm) + wire.string(blob)
        if key is None:
            self.send(head + b"\0" + tail)
            return self.answer()
        to_sign = (
            wire.string(self.transport.session_id if session_id is None else session_id)
            + b"\x32"
            + wire.string(user if signed_user is None else signed_user)
            + wire.string("ssh-connection")
            + wire.string("publickey")
            + b"\1"
            + wire.string(algorithm if signed_algorithm is None else signed_algorithm)
            + wire.string(blob)
        )
        signature = key.sign_ssh_data(to_sign)
        self.send(head + b"\1" + tail + wire.string(bytes(signature.asbytes())))
        return self.answer()

    def run(self, command: str) -> bytes:
        channel = self.transport.open_session()
        channel.exec_command(command)
        out: bytes = channel.makefile("rb").read()
        return out

    def hung_up(self) -> bool:
        return bool(wait_until(lambda: not self.transport.is_active(), "the server hangs up", 10))


def may_log_in(node: SshNode, key_file: Path, blob: bytes, login: str = "root") -> bool:
    """Whether this certificate, with its key, opens a session."""
    with Raw(node) as raw:
        key = paramiko.Ed25519Key.from_private_key_file(str(key_file))
        raw.begin()
        algorithm = wire.Reader(blob).text()
        if raw.request(login, blob, key, algorithm=algorithm) != USERAUTH_SUCCESS:
            return False
        return raw.run("echo in") == b"in\n"

"""Asking the debug services of this host: HTTP over the unix sockets in the data dir."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.output.argv import Parsed

_TIMEOUT_S: Final = 10.0
_MAX_ANSWER: Final = 256 << 20


class DebugSocket(NamedTuple):
    """Where one running service answers."""

    service: str
    path: Path


class Reply(NamedTuple):
    """What it answered."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body without the newline at its end."""
        return self.body.decode("utf-8", "replace").rstrip("\n")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("debug", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def data_dir_of(args: Parsed) -> Path:
    """The data dir that the configuration names; the default one when there is no such file."""
    from pkgs.common.runtime.config import DEFAULT_DATA_DIR, load_config

    path = args.text("config")
    if "config" not in args.given and not Path(path).exists():
        return Path(DEFAULT_DATA_DIR)
    return load_config(path).data_dir


def sockets_in(data_dir: Path) -> list[DebugSocket]:
    """The debug sockets there, in the order in which services start."""
    from pkgs.common.runtime.paths import debug_socket
    from pkgs.common.runtime.services import SERVICES

    found = [DebugSocket(name, debug_socket(data_dir, name)) for name in SERVICES]
    return [entry for entry in found if entry.path.exists()]


def ask(
    entry: DebugSocket, method: str, path: str, body: bytes = b"", *, timeout_s: float = _TIMEOUT_S
) -> Reply:
    """One question; UnavailableError names the socket and what to look at."""
    connection = _UnixConnection(entry.path, timeout_s)
    try:
        connection.request(method, path, body=body or None)
        response = connection.getresponse()
        return Reply(response.status, response.read(_MAX_ANSWER))
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(
            f"no answer from {entry.path}: {getattr(error, 'strerror', None) or error}",
            hint="is the service running, may you read its data dir, and is --config the right file?",
        ) from None
    finally:
        connection.close()


def ask_all(
    args: Parsed, method: str, path: str, body: bytes = b"", *, timeout_s: float = _TIMEOUT_S
) -> Sequence[tuple[DebugSocket, Reply]]:
    """The question to every running service of the data dir; one that has just ended is an error."""
    data_dir = data_dir_of(args)
    entries = sockets_in(data_dir)
    if not entries:
        raise InputError(
            f"no debug socket in the data dir {data_dir}",
            hint="is a service running there, may you read it, and is --config the right file?",
        )
    return [(entry, ask(entry, method, path, body, timeout_s=timeout_s)) for entry in entries]


def said(entries: Sequence[tuple[DebugSocket, Reply]], entry: DebugSocket, text: str) -> str:
    """The text, with the service's name in front when several answered."""
    return f"{entry.service}: {text}" if len(entries) > 1 else text


def status_text(reply: Reply) -> str:
    """The state in a `/readyz` answer."""
    try:
        return str(json.loads(reply.body)["status"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {reply.status}"

"""`teleport status`."""

from __future__ import annotations

import os

from pkgs.clients.teleport.debugclient import DebugSocket, ask, data_dir_of, sockets_in, status_text
from pkgs.common.errors import UnavailableError
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec("Show the services that run on this host and, inside a session, what the session is.")

_SESSION = (
    ("Cluster", "SSH_TELEPORT_CLUSTER_NAME"),
    ("Host ID", "SSH_TELEPORT_HOST_UUID"),
    ("Teleport user", "SSH_TELEPORT_USER"),
    ("Session ID", "SSH_SESSION_ID"),
    ("Proxy", "SSH_SESSION_WEBPROXY_ADDR"),
)


def run(args: Parsed) -> int:
    """Print both; exit 1 when there is neither."""
    session = [(title, os.environ[name]) for title, name in _SESSION if os.environ.get(name)]
    for title, value in session:
        print(f"{title + ':':<16}{inert(value)}")
    if session and "config" not in args.given:
        return 0
    data_dir = data_dir_of(args)
    entries = sockets_in(data_dir)
    print(f"{'Data dir:':<16}{data_dir}")
    if not entries:
        print(f"{'Services:':<16}none is running, or you may not see it")
        return 0 if session else 1
    states = [(entry, _state(entry)) for entry in entries]
    for entry, state in states:
        print(f"{'teleport-' + entry.service + ':':<16}{state}")
    return 0 if all(state == "ok" for _, state in states) else 1


def _state(entry: DebugSocket) -> str:
    try:
        return status_text(ask(entry, "GET", "/readyz"))
    except UnavailableError as error:
        return error.message

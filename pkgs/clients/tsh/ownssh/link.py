"""The way to a server: `tsh proxy ssh` as a process of its own, as OpenSSH would run it, and the login."""

from __future__ import annotations

import logging
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.ownssh.limits import END_S
from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.ssh.client.connection import Connection, connect
from pkgs.common.ssh.client.hosts import ByAuthority, trust_in_hosts
from pkgs.common.ssh.client.limits import LOGIN_S
from pkgs.common.ssh.client.login import UserKey


class Target:
    """A server, and the login on it."""

    __slots__ = ("host", "port", "user")

    def __init__(self, user: str, host: str, port: str) -> None:
        self.user = user
        self.host = host.lower()  # as OpenSSH does
        """`node.<cluster>`: what the server's certificate must say."""
        self.port = port


class Link:
    """The process that carries the connection; it resumes what is lost, and tells people about it."""

    def __init__(self, login: Login, target: Target, *, detached: bool = False) -> None:
        words = openssh.own_words(login, "proxy", "ssh", f"--login={target.user}")
        self.sock, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*words, f"{target.host}:{target.port}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=detached,
            )

    def failed(self) -> bool:
        """Whether it has ended, and said why."""
        try:
            return bool(self._process.wait(END_S))
        except subprocess.TimeoutExpired:
            return False

    def close(self) -> None:
        """When the connection is closed: what was written last still goes out."""
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def log_in(
    login: Login,
    target: Target,
    sock: socket.socket,
    *,
    deadline_s: float = 0,
    ended: Callable[[str], None] | None = None,
) -> Connection:
    """Raises TrustError, DeniedError and UnavailableError; the socket is closed then."""
    # The library reports to a log what is raised here anyway.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    check = ByAuthority(trust_in_hosts(authorities(login), login.cluster), (target.host,), time.time)
    key = UserKey.load(home.read_text(login.ssh_cert).strip(), Path(login.ssh_key).read_bytes())
    try:
        return connect(sock, target.user, key, check, deadline_s=deadline_s or LOGIN_S, ended=ended)
    except DeniedError as refused:
        refused.hint = "'tsh status' shows the logins that your roles give"
        raise


def authorities(login: Login) -> list[str]:
    """The host authority's keys for this cluster, out of the login's known_hosts."""
    try:
        text = home.read_text(login.known_hosts)
    except FileNotFoundError:
        raise NotFoundError(f"{login.known_hosts} is missing", hint=login.renew_hint()) from None
    found = []
    for line in text.splitlines():
        mark, _, rest = line.partition(" ")
        names, _, key = rest.partition(" ")
        if mark == "@cert-authority" and f"*.{login.cluster}" in names.split(","):
            found.append(" ".join(key.split(" ")[:2]))
    if not found:
        raise InputError(
            f"{login.known_hosts} names no authority of {login.cluster}", hint=login.renew_hint()
        )
    return found

"""The client's side of one SSH connection, from the login to its end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from paramiko.ssh_exception import IncompatiblePeer

from pkgs.common.errors import AccessError, DeniedError, LimitExceededError, TrustError, UnavailableError
from pkgs.common.ssh import wire
from pkgs.common.ssh.client.channel import ChannelOwner, ClientChannel
from pkgs.common.ssh.client.hosts import HostCheck
from pkgs.common.ssh.client.limits import LOGIN_S, MAX_PENDING_REQUESTS
from pkgs.common.ssh.client.login import Login, UserKey
from pkgs.common.ssh.client.transport import Answered, Incoming, Transport
from pkgs.common.ssh.forwarding import RemoteForward
from pkgs.common.ssh.requests import DirectTcp


class Connection:
    """A connection that is logged in. Made by `connect`; its channels' events come in a thread of its own."""

    def __init__(self, transport: Transport, login: Login, ended: Callable[[str], None] | None) -> None:
        self._transport = transport
        self._login = login
        self._ended = ended
        self._thread = threading.Thread(target=self._run, name="ssh client", daemon=True)

    @property
    def banner(self) -> str:
        """What the server said before the login; its own words, to be made inert before they are shown."""
        return self._login.banner

    @property
    def strict_kex(self) -> bool:
        return bool(self._transport.agreed_on_strict_kex)

    @property
    def alive(self) -> bool:
        return self._transport.active

    def open_session(self, owner: ChannelOwner) -> ClientChannel:
        """Ask for a session channel; the owner hears the answer, or that the connection is lost. Raises
        LimitExceededError."""
        return self._transport.open("session", b"", owner)

    def open_direct_tcp(self, target: DirectTcp, owner: ChannelOwner) -> ClientChannel:
        """Ask the server for a TCP connection to somewhere. Raises LimitExceededError."""
        body = wire.string(target.host) + wire.uint32(target.port)
        origin = wire.string(target.origin_host) + wire.uint32(target.origin_port)
        return self._transport.open("direct-tcpip", body + origin, owner)

    def keep_alive(self) -> int:
        """Ask the server for a sign of life; the number of such questions it has not answered yet."""
        return self._transport.ask_alive()

    def ask(self, kind: bytes, body: bytes, answered: Answered) -> None:
        """A global request (RFC 4254 section 4); `answered` is told in the reading thread, or never when the
        connection ends before. Raises LimitExceededError when too many are unanswered."""
        if self._transport.unanswered >= MAX_PENDING_REQUESTS:
            raise LimitExceededError("the server answers no requests")
        self._transport.ask(kind, body, answered)

    def forward_remote(self, asked: RemoteForward, answered: Answered) -> None:
        """Ask the server to listen, or to stop it; the answer to port 0 holds the port."""
        kind = b"cancel-tcpip-forward" if asked.cancel else b"tcpip-forward"
        self.ask(kind, wire.string(asked.host) + wire.uint32(asked.port), answered)

    def expect(self, incoming: Incoming) -> None:
        """Let `incoming` decide about channels that the server opens; before, all are refused."""
        self._transport.incoming = incoming

    def close(self, text: str = "") -> None:
        """Say goodbye and hang up."""
        self._transport.hang_up(text)

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        self._transport.run()
        self._transport.forget_all()
        self._transport.settled.set()
        if self._ended is not None and self._login.succeeded:
            self._ended(self._transport.farewell)

    def start(self, deadline_s: float) -> None:
        """For `connect`: log in. Raises TrustError, DeniedError, UnavailableError."""
        self._transport.active = True
        self._thread.start()
        in_time = self._transport.settled.wait(deadline_s)
        if in_time and self._login.succeeded:
            return
        self.abort()
        raise self._failure(in_time)

    def _failure(self, in_time: bool) -> AccessError:
        problem = self._transport.saved_exception
        if self._transport.untrusted is not None:
            return self._transport.untrusted
        if isinstance(problem, IncompatiblePeer):
            return TrustError(
                "the server shows no host key of the kind that is asked for, or no algorithm fits",
                detail=str(problem),
            )
        if self._login.refused:
            said = (self._login.banner,) if self._login.banner else ()
            return DeniedError("the server refuses this login", detail=self._transport.farewell, reasons=said)
        if not in_time:
            return UnavailableError("the server did not let the login happen in time")
        return UnavailableError(
            "the connection to the server was lost during the login",
            detail=self._transport.farewell or str(problem or ""),
        )


def connect(
    sock: socket.socket,
    user: str,
    key: UserKey,
    host: HostCheck,
    *,
    deadline_s: float = LOGIN_S,
    ended: Callable[[str], None] | None = None,
) -> Connection:
    """Log in over a connected stream socket, which is closed with the connection, or at once on failure.

    `ended` is called once when a connection that stood is over, with the server's words if it had any.
    Raises TrustError (another server than `host` says), DeniedError (the server refuses the certificate) and
    UnavailableError."""
    try:
        login = Login(user, key)
        connection = Connection(Transport(sock, host, login), login, ended)
    except BaseException:
        sock.close()
        raise
    connection.start(deadline_s)
    return connection

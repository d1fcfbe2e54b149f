"""The process of one connection that ends at the proxy: SSH to both sides, and nothing else.

It holds one secret: a key made for this connection, good for this login on this server for minutes. What it
may do with it is the proxy's answer, one by one.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import time
from typing import Literal

from pkgs.common.errors import AccessError, DeniedError, UnavailableError
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.ssh.channel import Channel, Owner
from pkgs.common.ssh.client.connection import Connection as Outgoing
from pkgs.common.ssh.client.connection import connect
from pkgs.common.ssh.client.hosts import ByAuthority, Unchecked, trust_in_hosts
from pkgs.common.ssh.client.login import UserKey
from pkgs.common.ssh.connection import Connection
from pkgs.common.ssh.forwarding import RemoteForward
from pkgs.common.ssh.limits import FAREWELL_S, LOGIN_GRACE_S, MAX_SESSIONS
from pkgs.common.ssh.owner import (
    OPEN_CONNECT_FAILED,
    OPEN_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
    LoginRefused,
    OpenRefused,
)
from pkgs.common.ssh.process.descriptors import close_all
from pkgs.common.ssh.process.link import Link, answers
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.messages import Idle, Message, Refused, Start
from pkgs.common.ssh.process.serving import Login, watch_alive, watch_idle
from pkgs.common.ssh.requests import DirectTcp
from pkgs.common.ssh.sessions.messages import OpenSession, SessionOpened
from pkgs.proxy.sshgate.child import shed_power
from pkgs.proxy.terminate.limits import EXIT_WAIT_S, TARGET_S
from pkgs.proxy.terminate.messages import (
    ForwardAnswer,
    ForwardEnded,
    GetTarget,
    LoggedIn,
    NoTarget,
    OpenForward,
    Target,
    ToProcess,
)
from pkgs.proxy.terminate.relay import ForwardRelay
from pkgs.proxy.terminate.session import SessionRelay

_ANSWERS = answers(ToProcess)


def serve(sock: socket.socket, monitor: socket.socket, start: Start) -> None:
    """Serve one connection until it is over."""
    signal.alarm(LOGIN_GRACE_S)
    shed_power()
    Child(sock, monitor, start).run()


class Child:
    """Owner of the user's connection."""

    def __init__(self, sock: socket.socket, monitor: socket.socket, start: Start) -> None:
        self.loop = Loop()
        self.permit_pty = False
        self.has_agent = False
        self._start = start
        self._link = Link(monitor, self.loop, _ANSWERS, self._told_to_end, (Target,), self._reached)
        login = Login(self._link, LoggedIn, self._logged_in)
        self._connection = Connection(sock, login, self, start.host_keys, allow_ctr=start.allow_ctr)
        self._reaching: queue.SimpleQueue[tuple[Target, list[int]]] = queue.SimpleQueue()
        self._target: Outgoing | None = None
        self._sessions: set[SessionRelay] = set()
        self._forwards: set[ForwardRelay] = set()

    def run(self) -> None:
        watch_alive(self.loop, self._start, self._connection, self._target_silent)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
        self._connection.start()
        self.loop.run()

    # What the user's connection asks, in its reading thread.

    def _logged_in(self, user: str, answer: LoggedIn) -> None:
        signal.alarm(0)
        self.permit_pty = answer.permit_pty
        try:
            self._target = self._reach(user)
        except AccessError as problem:
            self._link.tell(NoTarget(reason=f"{problem.message} {problem.detail}".strip()))
            raise LoginRefused(self._told(problem), final=True) from None
        self.loop.call_soon(lambda: watch_idle(self.loop, self._heard_at, answer.idle_timeout_s, self._idle))

    def _told(self, problem: AccessError) -> str:
        """What the user reads: of an agent that refuses the login, its own words."""
        said = problem.reasons if self.has_agent and isinstance(problem, DeniedError) else ()
        lines = [inert(line) for text in said for line in text.splitlines() if line.strip()]
        return "; ".join(lines) or inert(problem.message)

    def _reach(self, login: str) -> Outgoing:
        """Log in to the server, as the user, who is told nothing of it but a failure."""
        key = new_ssh_key()
        until = time.monotonic() + TARGET_S
        self._link.tell(GetTarget(public_key=key.public_line))
        try:
            target, fds = self._reaching.get(timeout=TARGET_S)
        except queue.Empty:
            raise UnavailableError("the server is not reached in time") from None
        if target.refusal or not fds:
            close_all(fds)
            raise UnavailableError(target.refusal or "the server cannot be reached")
        sock = socket.socket(fileno=fds[0])
        self.has_agent = target.has_agent
        trust = trust_in_hosts(target.host_authorities, target.cluster)
        host = ByAuthority(trust, target.names, time.time) if target.checks_host_key else Unchecked()
        if sock.family != socket.AF_UNIX:  # the way to an agent
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        user_key = UserKey.load(target.certificate, key.private_pem)
        left = max(1.0, until - time.monotonic())
        return connect(sock, login, user_key, host, deadline_s=left, ended=self._target_ended)

    def open_session(self, channel: Channel) -> Owner:
        if len(self._sessions) >= MAX_SESSIONS:
            raise OpenRefused(OPEN_RESOURCE_SHORTAGE, "too many sessions in one connection")
        session = SessionRelay(self, channel)
        try:
            session.far = self._there().open_session(session.far_owner)
        except AccessError as problem:
            raise OpenRefused(OPEN_RESOURCE_SHORTAGE, problem.message) from None
        session.wait_opened()
        self._sessions.add(session)
        return session

    def open_direct_tcp(self, channel: Channel, target: DirectTcp) -> Owner:
        answer = self._link.call(
            OpenForward(channel=channel.number, host=target.host, port=target.port), ForwardAnswer
        )
        if answer.refusal:
            raise OpenRefused(OPEN_PROHIBITED, answer.refusal)

        def failed(text: str, code: int) -> None:
            self._tell_forward(channel, target, "failed", inert(text))
            refused = code or OPEN_CONNECT_FAILED
            self.loop.call_soon(lambda: channel.refuse(refused, inert(text)))

        def over(relay: ForwardRelay, was_open: bool) -> None:
            self._forwards.discard(relay)
            if was_open:
                self._tell_forward(channel, target, "stopped")

        relay = ForwardRelay(channel, lambda: self._tell_forward(channel, target, "started"), failed, over)
        self._forwards.add(relay)
        try:
            relay.far = self._there().open_direct_tcp(target, relay.far_owner)
        except AccessError as problem:
            self._forwards.discard(relay)
            raise OpenRefused(OPEN_RESOURCE_SHORTAGE, problem.message) from None
        return relay

    def remote_forward(self, asked: RemoteForward) -> None:
        """Nothing listens on a server without an agent."""

    def ended(self, reason: str) -> None:
        self.loop.call_soon(self._lost)

    def _there(self) -> Outgoing:
        if self._target is None:
            raise OpenRefused(OPEN_CONNECT_FAILED, "the server is not connected")
        return self._target

    # What a session asks.

    def tell(self, message: Message) -> None:
        self._link.tell(message)

    def ask_session(self, request: OpenSession) -> SessionOpened | Refused:
        try:
            answer: Message = self._link.call(request, SessionOpened, Refused)
        except AccessError as problem:
            return Refused(text=problem.message)
        assert isinstance(answer, SessionOpened | Refused)
        return answer

    def session_over(self, session: SessionRelay) -> None:
        self._sessions.discard(session)

    # The loop's thread.

    def _reached(self, message: Message, fds: list[int]) -> None:
        assert isinstance(message, Target)
        self._reaching.put((message, fds))

    def _told_to_end(self, text: str) -> None:
        told = [session.farewell(text) for session in tuple(self._sessions)]
        for relay in tuple(self._forwards):
            relay.closed()  # the time it takes to read why is not for going on
        if any(told):
            # OpenSSH drops what it has not shown yet as soon as it sees the end.
            self.loop.after(FAREWELL_S, lambda: self._connection.end(text))
        else:
            self._connection.end(text)

    def _target_ended(self, text: str) -> None:
        """In the server's reading thread, after its channels have ended."""
        self.loop.call_soon(self._end_later)

    def _end_later(self) -> None:
        self.loop.after(FAREWELL_S, lambda: self._connection.end("the server closed the connection"))

    def _tell_forward(
        self,
        channel: Channel,
        target: DirectTcp,
        what: Literal["started", "stopped", "failed"],
        error: str = "",
    ) -> None:
        self._link.tell(
            ForwardEnded(channel=channel.number, host=target.host, port=target.port, what=what, error=error)
        )

    def _target_silent(self) -> int:
        return self._target.keep_alive() if self._target is not None else 0

    def _heard_at(self) -> float:
        return self._connection.heard_at

    def _idle(self) -> None:
        self._link.tell(Idle())  # the service has it audited, and ends the connection

    def _lost(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target.join(EXIT_WAIT_S)
        self.loop.stop()

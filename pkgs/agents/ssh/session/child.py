"""The process of one SSH connection: from the first byte to the last session's end.

Forked by `common/ssh/process/spawner`, which calls `serve`. Before the login it is whoever the service is
and does nothing but key exchange and asking; with the login it becomes the user for good, and only then
are channels opened. It holds no key; decisions, recordings and audit are the service's.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from pkgs.agents.ssh.limits import EXIT_WAIT_S, MOTD_LIMIT
from pkgs.agents.ssh.messages import (
    Account,
    AgentAnswer,
    NoAccount,
    OnTerminal,
    OpenAgent,
    ToProcess,
)
from pkgs.agents.ssh.session import env, pam, process, terminal
from pkgs.agents.ssh.session.account import become
from pkgs.agents.ssh.session.channel import Session
from pkgs.agents.ssh.session.forwarding.agent import AgentSocket
from pkgs.agents.ssh.session.forwarding.listening import Listening
from pkgs.agents.ssh.session.forwarding.outgoing import Outgoing
from pkgs.agents.ssh.session.forwarding.ports import WayToPort
from pkgs.agents.ssh.session.forwarding.streams import Streams
from pkgs.agents.ssh.session.process import Launched
from pkgs.agents.ssh.session.sftp.audited import Operation
from pkgs.agents.ssh.session.sftp.server import FileServer
from pkgs.agents.ssh.session.sftp.transfer import Transfer
from pkgs.agents.ssh.sockets.incoming import Incoming
from pkgs.agents.ssh.sockets.outgoing import WayToSocket
from pkgs.agents.ssh.together.messages import (
    PUSHED,
    Joined,
    JoinOutput,
    JoinOver,
    JoinSession,
    PeerInput,
    Waiting,
)
from pkgs.agents.ssh.together.seat import Seat, become_nobody
from pkgs.agents.ssh.x11.displays import Displays
from pkgs.common.errors import AccessError
from pkgs.common.ssh.channel import Channel, Owner
from pkgs.common.ssh.connection import Connection
from pkgs.common.ssh.forwarding import RemoteForward, UnixForward
from pkgs.common.ssh.limits import FAREWELL_S, LOGIN_GRACE_S, MAX_SESSIONS
from pkgs.common.ssh.owner import (
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
from pkgs.common.ssh.requests import DirectTcp, X11Request
from pkgs.common.ssh.sessions.messages import (
    FileOperation,
    FileSummary,
    OpenSession,
    SessionEnded,
    SessionOpened,
)

_MOTD = (Path("/run/motd.dynamic"), Path("/etc/motd"))

_ANSWERS = answers(ToProcess)


def serve(sock: socket.socket, monitor: socket.socket, start: Start) -> None:
    """Serve one connection until it and everything it started is over."""
    signal.alarm(LOGIN_GRACE_S)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    Child(sock, monitor, start).run()


class Child:
    """Owner of the connection."""

    def __init__(self, sock: socket.socket, monitor: socket.socket, start: Start) -> None:
        self.loop = Loop()
        self._start = start
        self._link = Link(monitor, self.loop, _ANSWERS, self._told_to_end, PUSHED, self._pushed)
        login = Login(self._link, Account, self._logged_in)
        self._connection = Connection(sock, login, self, start.host_keys, allow_ctr=start.allow_ctr)
        self._account: Account | None = None
        self._entry: pwd.struct_passwd | None = None
        self._pam: pam.PamSession | None = None
        self._sessions: set[Session | Seat] = set()
        self._streams = Streams(self.loop, self._connection.open_channel, self._maybe_exit)
        self._listening = Listening(self.loop, self._link, self._streams)
        self._agent = AgentSocket(self.loop, self._streams)
        self._outgoing = Outgoing(self.loop, self._maybe_exit)
        self._sockets_in = Incoming(self.loop, self._link, self._streams)
        self._displays = Displays(self.loop, self._link, self._streams)
        self._ended = False
        self._typed_at = 0.0
        """When somebody last typed into a session that was detached."""

    def run(self) -> None:
        watch_alive(self.loop, self._start, self._connection)
        signal.signal(signal.SIGTERM, lambda *_: self._terminated())
        self._connection.start()
        self.loop.run()
        self._agent.remove()

    # What the connection asks, in its reading thread.

    def _logged_in(self, user: str, answer: Account) -> None:
        try:
            if answer.visits:
                become_nobody(answer)
            else:
                client = self._start.client_addr.rpartition(":")[0].strip("[]")
                self._entry, self._pam = become(answer, client)
        except (LookupError, OSError) as problem:
            self._link.tell(NoAccount(reason=str(problem)))
            raise LoginRefused(str(problem), final=True) from None
        self._account = answer
        signal.alarm(0)
        self.loop.call_soon(lambda: self._watch(answer))

    def open_session(self, channel: Channel) -> Owner:
        if len(self._sessions) >= MAX_SESSIONS:
            raise OpenRefused(OPEN_RESOURCE_SHORTAGE, "too many sessions in one connection")
        visits = self._account is not None and self._account.visits
        session = Seat(self, channel) if visits else Session(self, channel)
        self._sessions.add(session)
        return session

    def open_direct_tcp(self, channel: Channel, target: DirectTcp) -> Owner:
        self._no_visitors()
        return self._outgoing.open(channel, WayToPort(self._link, channel.number, target))

    def open_direct_unix(self, channel: Channel, path: bytes) -> Owner:
        self._no_visitors()
        return self._outgoing.open(channel, WayToSocket(self._link, channel.number, path))

    def unix_forward(self, asked: UnixForward) -> bool:
        if self._account is None or self._account.visits:
            return False
        return self._sockets_in.cancel(asked) if asked.cancel else self._sockets_in.begin(asked)

    def _no_visitors(self) -> None:
        if self._account is None or self._account.visits:
            raise OpenRefused(OPEN_PROHIBITED, "whoever joins a session forwards nothing")

    def remote_forward(self, asked: RemoteForward) -> int | None:
        return self._listening.cancel(asked) if asked.cancel else self._listening.begin(asked)

    def ended(self, reason: str) -> None:
        self.loop.call_soon(self._lost)

    # What a session asks.

    def permits_pty(self) -> bool:
        return self._account is not None and self._account.permit_pty

    def forward_agent(self) -> bool:
        try:
            if self._link.call(OpenAgent(), AgentAnswer).refusal:
                return False
            if not self._agent.path:
                self._agent.open()
        except (AccessError, OSError):
            return False
        return True

    def forward_x11(self, session: Session, asked: X11Request) -> bool:
        return self._displays.open(session.channel.number, asked)

    def tell(self, message: Message) -> None:
        self._link.tell(message)

    def ask_session(self, request: OpenSession) -> SessionOpened | Waiting | Refused:
        try:
            answer: Message = self._link.call(request, SessionOpened, Waiting, Refused)
        except AccessError as problem:
            return Refused(text=problem.message)
        assert isinstance(answer, SessionOpened | Waiting | Refused)
        return answer

    def ask_join(self, request: JoinSession) -> Joined | Refused:
        try:
            answer: Message = self._link.call(request, Joined, Refused)
        except AccessError as problem:
            return Refused(text=problem.message)
        assert isinstance(answer, Joined | Refused)
        return answer

    def seat_over(self, seat: Seat) -> None:
        self._sessions.discard(seat)
        self._maybe_exit()

    def launch(self, session: Session, asked: OpenSession, opened: SessionOpened) -> Launched:
        assert self._account is not None and self._entry is not None
        entry = self._entry
        shell = entry.pw_shell or "/bin/sh"
        name = Path(shell).name
        command = opened.forced_command.encode() or session.command
        master, slave, tty = -1, -1, ""
        if session.pty is not None:
            master, slave, tty = terminal.open_terminal(session.pty.size, session.pty.modes)
        variables = env.session_env(
            self._account,
            entry,
            session.env,
            session_id=opened.session_id,
            client_addr=self._start.client_addr,
            tty=tty,
            term=session.pty.term if session.pty else "",
            original_command=os.fsdecode(session.command) if opened.forced_command else "",
            of_pam=self._pam.environment if self._pam is not None else {},
        )
        if session.has_agent:
            variables["SSH_AUTH_SOCK"] = self._agent.path
        variables.update(self._displays.environment(session.channel.number))
        login_shell = asked.kind == "shell" and not opened.forced_command
        argv: list[str | bytes] = [f"-{name}"] if login_shell else [name, "-c", command]
        try:
            if master < 0:
                pid, pipes = process.spawn_piped(shell, argv, variables)
                return Launched(pid, pipes=pipes)
            pid = process.spawn_on_terminal(shell, argv, variables, tty)
            self._link.tell(OnTerminal(channel=session.channel.number, terminal=tty, pid=pid))
            greeting = self._greeting(Path(entry.pw_dir)) if login_shell else b""
            return Launched(pid, greeting, master)
        except OSError as problem:
            if master >= 0:
                os.close(master)
            raise OSError(problem.errno, f"cannot run {shell}: {problem.strerror}") from None
        finally:
            if slave >= 0:
                os.close(slave)

    def _greeting(self, home: Path) -> bytes:
        """What PAM's modules had to say, or the messages of the day: one of PAM's modules shows those."""
        if self._pam is None:
            return _motd(home)
        return "".join(f"{text}\n" for text in self._pam.said).replace("\n", "\r\n").encode()

    def serve_subsystem(self, session: Session, asked: OpenSession) -> bool:
        channel = session.channel
        if asked.command != "sftp":
            return False

        def tell(done: Operation) -> None:
            self.tell(
                FileOperation(
                    channel=channel.number,
                    operation=done.name,
                    path=done.path,
                    target_path=done.target,
                    error=done.error,
                    flags=done.flags,
                    attributes=done.attributes,
                )
            )

        def summary(path: str, read: int, written: int) -> None:
            self.tell(FileSummary(channel=channel.number, path=path, read=read, written=written))

        def over(status: int, received: int, sent: int, error: str) -> None:
            session.over_elsewhere(
                SessionEnded(channel=channel.number, status=status, received=received, sent=sent, error=error)
            )

        server = FileServer(tell, summary, lambda: not channel.sent_close)
        channel.owner = Transfer(channel, server, over)
        return True

    def over(self, session: Session) -> None:
        self._displays.close(session.channel.number)
        self._sessions.discard(session)
        self._maybe_exit()

    # The loop's thread.

    def _watch(self, account: Account) -> None:
        watch_idle(self.loop, self._heard_at, account.idle_timeout_s, self._idle)
        if account.alive_every_s:
            often = msgspec.structs.replace(self._start, keep_alive_s=account.alive_every_s)
            watch_alive(self.loop, often, self._connection)

    def _told_to_end(self, text: str) -> None:
        told = [session.farewell(text) for session in tuple(self._sessions)]
        # The time it takes to read why is not for going on.
        self._outgoing.abort()
        self._listening.end()
        self._sockets_in.end()
        self._displays.end()
        self._streams.abort()
        if any(told):
            # OpenSSH drops what it has not shown yet as soon as it sees the end.
            self.loop.after(FAREWELL_S, lambda: self._connection.end(text))
        else:
            self._connection.end(text)

    def _pushed(self, message: Message, fds: list[int]) -> None:
        close_all(fds)
        if self._ended and isinstance(message, PeerInput):
            self._typed_at = time.monotonic()
        for session in tuple(self._sessions):
            if session.channel.number != getattr(message, "channel", -1):
                continue
            if isinstance(session, Session):
                session.hear(message)
            elif isinstance(message, JoinOutput | JoinOver):
                session.take(message)

    def _terminated(self) -> None:
        """The service did not see this process go in time: nothing of it stays behind."""
        for session in self._sessions:
            session.kill()
        self._agent.remove()
        self._sockets_in.end()
        self._displays.end()
        os._exit(1)

    def _heard_at(self) -> float:
        return max(self._connection.heard_at, self._typed_at)

    def _idle(self) -> None:
        self._link.tell(Idle())  # the service has it audited, and ends the connection

    def _lost(self) -> None:
        self._ended = True
        self._listening.end()
        self._sockets_in.end()
        self._displays.end()
        self._streams.end()
        self.loop.after(EXIT_WAIT_S, self._waited)
        self._maybe_exit()

    def _waited(self) -> None:
        """What should have ended by now is not waited for, unless its owner has detached it."""
        if not any(isinstance(session, Session) and session.is_detached for session in self._sessions):
            self.loop.stop()

    def _maybe_exit(self) -> None:
        live = self._sessions or self._outgoing or self._streams
        if self._ended and not live:
            self.loop.stop()


def _motd(home: Path) -> bytes:
    """The messages of the day, unless the user wants none: `~/.hushlogin`."""
    if os.path.lexists(home / ".hushlogin"):
        return b""
    out = b""
    for path in _MOTD:
        with suppress(OSError), path.open("rb") as source:
            out += source.read(MOTD_LIMIT)
    return out.replace(b"\n", b"\r\n")

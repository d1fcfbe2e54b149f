"""A session that passes through the proxy: what is asked is decided first, what is shown is recorded.

waiting --pty, env--> waiting --shell|exec|subsystem, granted--> running --server closes--> over
                              --refused--> over
"""

from __future__ import annotations

import queue
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pkgs.common.output.sanitize import inert
from pkgs.common.ssh.channel import Channel, Reply
from pkgs.common.ssh.limits import (
    MAX_COMMAND,
    MAX_ENV_VALUE,
    MAX_ENV_VARS,
    MAX_TERM,
)
from pkgs.common.ssh.owner import OPEN_CONNECT_FAILED, OpenRefused
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.messages import Message, Refused
from pkgs.common.ssh.requests import (
    ChannelRequest,
    EnvRequest,
    ExecRequest,
    PtyRequest,
    ShellRequest,
    SignalRequest,
    SubsystemRequest,
    TerminalSize,
    WindowChange,
)
from pkgs.common.ssh.sessions.messages import (
    RECORDED_AS,
    OpenSession,
    Resized,
    SessionEnded,
    SessionKind,
    SessionOpened,
)
from pkgs.common.ssh.sessions.telling import Shown, Sizes, asked
from pkgs.proxy.terminate.limits import ANSWER_S
from pkgs.proxy.terminate.relay import Far, Relay

_PASSED_ON = re.compile(
    r"LANG|LANGUAGE|LC_[A-Z]{1,24}|TZ|COLORTERM|TERM_PROGRAM|TERM_PROGRAM_VERSION|GIT_PROTOCOL|NO_COLOR"
)
"""Variables that change how something looks, not what runs; the server takes what its AcceptEnv names."""
_ABOUT_COMPANY = frozenset(
    {
        "TELEPORT_SESSION_REASON",
        "TELEPORT_SESSION_INVITED_USERS",
        "TELEPORT_SESSION_PARTICIPANT_REQUIREMENTS",
    }
)
"""What an agent reads, and does not pass on."""
_SIGNALS = frozenset({"ABRT", "ALRM", "HUP", "INT", "KILL", "PIPE", "QUIT", "TERM", "USR1", "USR2"})


class Host(Protocol):
    """What a session needs of its connection's process."""

    loop: Loop
    permit_pty: bool
    has_agent: bool

    def tell(self, message: Message) -> None: ...

    def ask_session(self, request: OpenSession) -> SessionOpened | Refused: ...

    def session_over(self, session: SessionRelay) -> None: ...


class SessionRelay(Relay):
    """Owner of the user's session channel."""

    def __init__(self, host: Host, channel: Channel) -> None:
        super().__init__(channel)
        self.far_owner = _FarSession(self)
        self._host = host
        self._pty: PtyRequest | None = None
        self._sizes = Sizes(host.loop, self._tell_size)
        self._env = 0
        self._opened: SessionOpened | None = None
        self._asked = False
        self._shown: Shown | None = None
        self._status: int | None = None
        self._signal = ""
        self._core = False
        self._error = ""
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._released = False

    def wait_opened(self) -> None:
        """Raises OpenRefused unless the server opens its channel."""
        far = self.far_owner
        if not far.settled.wait(ANSWER_S) or far.refusal is not None:
            code, text = far.refusal or (OPEN_CONNECT_FAILED, "the server does not answer")
            raise OpenRefused(code or OPEN_CONNECT_FAILED, inert(text))

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        match request:
            case PtyRequest():
                reply(self._take_pty(request))
            case EnvRequest(name, value):
                reply(self._take_env(name, value))
            case ShellRequest():
                self._start("shell", b"", reply)
            case ExecRequest(command):
                self._start("exec", command, reply)
            case SubsystemRequest(name):
                self._start("subsystem", name.encode(), reply)
            case WindowChange(size):
                self._resize(size)
                reply(True)
            case SignalRequest(name) if self.far is not None and name in _SIGNALS and self._opened:
                self.far.signal(name)
                reply(True)
            case _:
                reply(False)  # agents, displays and whatever else: not through here

    def farewell(self, text: str) -> bool:
        """Say why it ends; whether there is somebody to read it."""
        if self._opened is None or self._finished:
            return False
        self._error = text
        line = f"\r\n{inert(text)}\r\n".encode()
        return self.channel.send(line, stderr=True) > 0

    # What the server says, in its reading thread.

    def far_data(self, data: bytes, stderr: bool) -> None:
        with self._down:
            if self._shown is not None and not self._finished:
                self._shown.take(data)
            self._to_user.append((data, stderr))
            self._push_down()

    def far_answered(self, ok: bool) -> None:
        self._answers.put(ok)

    def far_status(self, status: int) -> None:
        self._status = status

    def far_signal(self, name: str, core: bool) -> None:
        self._signal, self._core = inert(name)[:32], core

    def far_closed(self) -> None:
        self._answers.put(False)
        super().far_closed()

    # Requests.

    def _ask(self, ask: Callable[[], None]) -> bool:
        """The server's answer; one that says nothing says no."""
        ask()
        try:
            return self._answers.get(timeout=ANSWER_S)
        except queue.Empty:
            return False

    def _take_pty(self, request: PtyRequest) -> bool:
        far = self.far
        if self._asked or self._pty or far is None or not self._host.permit_pty:
            return False
        if len(request.term) > MAX_TERM or not request.term.isprintable():
            return False
        if not self._ask(lambda: far.pty(request.term, request.size, request.modes)):
            return False
        self._pty = request
        return True

    def _take_env(self, name: str, value: str) -> bool:
        self._env += 1
        known = _PASSED_ON.fullmatch(name) is not None or (self._host.has_agent and name in _ABOUT_COMPANY)
        usable = known and len(value) <= MAX_ENV_VALUE and "\0" not in value
        if self._asked or self.far is None or self._env > MAX_ENV_VARS or not usable:
            return False
        self.far.env(name, value)
        return True

    def _start(self, kind: SessionKind, command: bytes, reply: Reply) -> None:
        far = self.far
        # What is behind a zero byte is decided on and may not be run (attack A13).
        if self._asked or far is None or len(command) > MAX_COMMAND or b"\0" in command:
            reply(False)
            return
        self._asked = True
        answer = self._host.ask_session(asked(self.channel.number, kind, command, self._pty))
        if isinstance(answer, Refused):
            self._refuse(answer.text or "access denied", reply)
            return
        with self._down:
            if self._finished:  # the user or the server has gone meanwhile
                self._host.tell(SessionEnded(channel=self.channel.number, status=255, error="cut"))
                return
            self._opened = answer
            self._shown = Shown(self.channel.number, answer, self._host.tell)
        if self._host.has_agent:
            far.env(RECORDED_AS, answer.session_id)
        forced = answer.forced_command.encode()
        if not self._ask(lambda: self._ask_far(kind, forced or command, forced=bool(forced))):
            self._error = "the server refuses to run it"
            self._refuse(self._error, reply)
            return
        reply(True)
        with self._down:
            self._released = True
            self._push_down()

    def _ask_far(self, kind: SessionKind, command: bytes, *, forced: bool) -> None:
        assert self.far is not None
        if kind == "exec" or forced:
            self.far.exec(command)
        elif kind == "shell":
            self.far.shell()
        else:
            self.far.subsystem(command.decode())

    def _refuse(self, text: str, reply: Reply) -> None:
        self.channel.turn_away(reply, text)
        self._status = 255
        if self.far is not None:
            self.far.close()
        with self._down:
            self._to_user.clear()
            self._finish()

    def _resize(self, size: TerminalSize) -> None:
        if self._pty is None or self.far is None:
            return
        self._pty = replace(self._pty, size=size)
        self.far.window_change(size)
        if self._opened is not None:
            self._host.loop.call_soon(lambda: self._sizes.changed(size))

    def _tell_size(self, size: TerminalSize) -> None:
        with self._down:
            if not self._finished:
                self._host.tell(Resized(channel=self.channel.number, columns=size.columns, rows=size.rows))

    def _half_closed(self) -> None:
        """What the end was is told before the end of data; it follows with the server's close."""

    def _say_end(self) -> None:
        known = self._status is not None or bool(self._signal)
        if self._signal:
            self.channel.exit_signal(self._signal, self._core)
        else:
            self.channel.exit_status(255 if self._status is None else self._status)
        if self._opened is not None:
            error = self._error or ("" if known else "the connection was lost")
            self._host.tell(
                SessionEnded(
                    channel=self.channel.number,
                    status=255 if self._status is None or self._signal else self._status,
                    signal=self._signal,
                    error=error,
                    received=self.received,
                    sent=self.sent,
                )
            )
        self._host.session_over(self)


class _FarSession(Far):
    def __init__(self, relay: SessionRelay) -> None:
        super().__init__(relay)
        self._session = relay

    def answered(self, ok: bool) -> None:
        self._session.far_answered(ok)

    def exit_status(self, status: int) -> None:
        self._session.far_status(status)

    def exit_signal(self, name: str, core: bool, text: str) -> None:
        self._session.far_signal(name, core)

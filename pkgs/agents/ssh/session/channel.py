"""One session channel: environment and terminal requests, then one shell, command or subsystem.

    waiting --pty, env--> waiting --shell|exec|subsystem--> running --exit--> draining --> over
                                  --refused--> over                (client gone: hung up, then over)

Requests and input come in the connection's reading thread; everything else happens in the loop's thread.
Output order: data, exit status, end of data, close; nothing is cut while the client still reads.
"""

from __future__ import annotations

import signal
from typing import Protocol

import msgspec

from pkgs.agents.ssh.limits import EOF_HOLD_S
from pkgs.agents.ssh.session.env import ClientEnv, asked_of_others
from pkgs.agents.ssh.session.process import SIGNALS, Exit, Launched, Process
from pkgs.agents.ssh.session.pump import Pump
from pkgs.agents.ssh.session.terminal import redraw, set_size
from pkgs.agents.ssh.session.unattended import Unattended, leave
from pkgs.agents.ssh.together.limits import ANSWER_REST_S
from pkgs.agents.ssh.together.messages import (
    Detach,
    Held,
    Notice,
    PeerInput,
    Redraw,
    Resize,
    SessionOver,
    SessionStarted,
    Waiting,
)
from pkgs.agents.ssh.together.room import Room
from pkgs.common.ssh.channel import Channel, Reply
from pkgs.common.ssh.limits import MAX_COMMAND, MAX_TERM
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.messages import Message, Refused
from pkgs.common.ssh.requests import (
    AgentForwardRequest,
    ChannelRequest,
    EnvRequest,
    ExecRequest,
    PtyRequest,
    ShellRequest,
    SignalRequest,
    SubsystemRequest,
    TerminalSize,
    WindowChange,
    X11Request,
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


class Host(Protocol):
    """What a session needs of its connection's process."""

    loop: Loop

    def permits_pty(self) -> bool: ...

    def forward_agent(self) -> bool:
        """Whether the session may use the client's agent, whose socket is then there."""

    def forward_x11(self, session: Session, asked: X11Request) -> bool:
        """Whether the session has a display from now on."""

    def tell(self, message: Message) -> None: ...

    def ask_session(self, request: OpenSession) -> SessionOpened | Waiting | Refused: ...

    def launch(self, session: Session, asked: OpenSession, opened: SessionOpened) -> Launched:
        """Start what was asked for. Raises OSError or LookupError with a text for the user."""

    def serve_subsystem(self, session: Session, asked: OpenSession) -> bool:
        """Take the channel over for a built-in subsystem; False when there is none of that name."""

    def over(self, session: Session) -> None: ...


class Session:
    """Owner of one channel."""

    def __init__(self, host: Host, channel: Channel) -> None:
        self.channel = channel
        self.env = ClientEnv()
        self.pty: PtyRequest | None = None
        self.has_agent = False
        self.command = b""
        """What the client asked to run, to the byte."""
        self.opened_session: SessionOpened | None = None
        self.room = Room(channel.number)
        self._host = host
        self._loop = host.loop
        self._started = False
        self._process: Process | None = None
        self._pump = Pump(channel, host.loop, self._emit, held=lambda: self.room.held, emptied=self._emptied)
        self._shown: Shown | None = None
        self._sizes = Sizes(host.loop, self._tell_size)
        self._exit: Exit | None = None
        self._gone = False
        self._over = False
        self._received = 0
        self._sent = 0

    # Called in the reading thread.

    def opened(self) -> None:
        """Nothing to send yet."""

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        match request:
            case PtyRequest():
                reply(self._take_pty(request))
            case EnvRequest(name, value):
                reply(not self._started and self.env.accept(name, value))
            case AgentForwardRequest():
                if not self._started and not self.has_agent:
                    self.has_agent = self._host.forward_agent()
                reply(self.has_agent)
            case X11Request():
                reply(not self._started and self._host.forward_x11(self, request))
            case ShellRequest():
                self._start("shell", b"", reply)
            case ExecRequest(command):
                self._start("exec", command, reply)
            case SubsystemRequest(name):
                self._start("subsystem", name.encode(), reply)
            case WindowChange(size):
                self._loop.call_soon(lambda: self._resize(size))
                reply(True)
            case SignalRequest(name):
                number = SIGNALS.get(name) if not self.room.is_closed else None
                if number is not None and self._process is not None:
                    process = self._process
                    self._loop.call_soon(lambda: process.signal(number))
                reply(number is not None and self._process is not None)
            case _:
                reply(False)

    def data(self, data: bytes) -> None:
        self._received += len(data)
        if self.room.is_closed:
            if word := self.room.keys(data):
                self._host.tell(word)
            self.channel.consumed(len(data))
            return
        self._pump.write(data)

    def eof(self) -> None:
        self._loop.call_soon(self._pump.end_input)

    def writable(self) -> None:
        self._loop.call_soon(self._pump.unblock)

    def closed(self) -> None:
        self._loop.call_soon(self._vanished)

    def _take_pty(self, request: PtyRequest) -> bool:
        term_ok = len(request.term) <= MAX_TERM and request.term.isprintable()
        if self._started or self.pty is not None or not term_ok or not self._host.permits_pty():
            return False
        self.pty = request
        return True

    def _start(self, kind: SessionKind, command: bytes, reply: Reply) -> None:
        if self._started or b"\0" in command:
            reply(False)
            return
        self._started = True
        if len(command) > MAX_COMMAND:
            self._refuse(f"the command is too long: the limit is {MAX_COMMAND} bytes", reply)
            return
        self.command = command
        wanted = asked(self.channel.number, kind, command, self.pty)
        if self.pty is not None:
            wanted = msgspec.structs.replace(wanted, **asked_of_others(self.env))
        wanted = msgspec.structs.replace(wanted, recorded_as=self.env.control.get(RECORDED_AS, ""))
        answer = self._host.ask_session(wanted)
        if isinstance(answer, Refused):
            self._refuse(answer.text, reply)
        elif isinstance(answer, Waiting):
            self.room.waiting = wanted
            reply(True)
            self._show(answer.text)
        else:
            self._run(wanted, answer, reply)

    def _run(self, wanted: OpenSession, answer: SessionOpened, reply: Reply) -> None:
        self.opened_session = answer
        self._shown = Shown(self.channel.number, answer, self._host.tell)
        if wanted.kind == "subsystem" and not answer.forced_command:
            if self._host.serve_subsystem(self, wanted):
                reply(True)
            else:
                self._end_unstarted(f"there is no subsystem {wanted.command}", reply)
            return
        try:
            launched = self._host.launch(self, wanted, answer)
        except (OSError, LookupError) as problem:
            text = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
            self._end_unstarted(text, reply)
            return
        reply(True)
        self._loop.call_soon(lambda: self._attach(launched))

    def over_elsewhere(self, ended: SessionEnded) -> None:
        """Whoever took over the channel is done with it."""
        self._host.tell(ended)
        self._loop.call_soon(self._finish)

    def _end_unstarted(self, text: str, reply: Reply) -> None:
        self._host.tell(SessionEnded(channel=self.channel.number, status=255, error=text))
        self._refuse(text, reply)

    def _refuse(self, text: str, reply: Reply) -> None:
        self.channel.turn_away(reply, text)
        self._loop.call_soon(self._finish)

    # Called in the loop's thread.

    def hear(self, message: Message) -> None:
        """Word of the service about a session of several people."""
        if self._over:
            return
        if self.opened_session is None and self.room.waiting is None:
            # The answer that it follows is still on its way to the reading thread.
            self._loop.after(ANSWER_REST_S, lambda: self.hear(message))
            return
        match message:
            case SessionStarted(opened=opened) if self.room.waiting is not None:
                wanted, self.room.waiting = self.room.waiting, None
                self._run(wanted, opened, lambda ok: None)
            case Notice(text=text):
                self._show(text)
            case Held(held=held):
                self.room.held = held
                self._pump.unblock()
            case PeerInput(data=data) if not self.room.is_closed:
                self._pump.inject(data)
            case Redraw() if self._pump.master >= 0:
                redraw(self._pump.master)
            case Detach(text=text) if self._pump.master >= 0:
                self.channel = leave(self.channel, text)
                self._pump.turn_to(self.channel)
            case Resize(columns=columns, rows=rows):
                self._resize(TerminalSize(columns, rows))
            case SessionOver(text=text):
                self._told_over(text)

    def _show(self, text: str) -> None:
        """A line for the owner, which is no output of what runs."""
        self.channel.send(text.encode())

    def _told_over(self, text: str) -> None:
        if self.room.waiting is not None:
            self.room.waiting = None
            self._show(text)
            self._refuse("", lambda ok: None)
            return
        self._show(text)
        if self._process is not None:
            self._hang_up()

    def _attach(self, launched: Launched) -> None:
        self._process = Process(launched.pid, self._loop, self._exited)
        self._process.attach()
        if launched.greeting:
            self._emit(launched.greeting, stderr=False)
        self._pump.attach(launched)
        if self._gone:
            self._hang_up()

    def _emit(self, data: bytes, stderr: bool) -> None:
        self._sent += len(data)
        if self._shown is not None:
            self._shown.take(data)
        self.channel.send(data, stderr=stderr)

    def _emptied(self) -> None:
        if self._exit is None:
            # The exit nearly always follows at once, and its status must come before a client that has
            # ended its own side answers the end of data with a close.
            self._loop.after(EOF_HOLD_S, self.channel.send_eof)
        else:
            self._finish()

    def _exited(self, how: Exit) -> None:
        self._exit = how
        self._pump.ran()
        if self._pump.is_empty:
            self._finish()

    def _resize(self, size: TerminalSize) -> None:
        if self._pump.master >= 0:
            set_size(self._pump.master, size)
            self._sizes.changed(size)

    def _tell_size(self, size: TerminalSize) -> None:
        if not self._over:
            self._host.tell(Resized(channel=self.channel.number, columns=size.columns, rows=size.rows))

    def _vanished(self) -> None:
        self._gone = True
        if word := self.room.give_up():
            self._host.tell(word)
            self._finish()
        elif self._process is not None and not self._over:
            self._hang_up()
        elif not self._started:
            self._finish()

    def farewell(self, text: str) -> bool:
        """The connection is about to end, and what runs here ends now: say why where the user looks, on the
        terminal or the error stream, as far as the client's window allows, and nothing more. False: there is
        nobody to tell here."""
        if self._over or not self._started or self._gone:
            return False
        if self._pump.master >= 0:
            self._emit(f"\r\n{text}\r\n".encode(), stderr=False)
        else:
            self.channel.send(f"{text}\r\n".encode(), stderr=True)
        self.channel.silence()
        self.closed()
        return True

    @property
    def is_detached(self) -> bool:
        """Whether it goes on without the connection."""
        return isinstance(self.channel, Unattended)

    def kill(self) -> None:
        """What runs is ended now; for a process that is told to go."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    def _hang_up(self) -> None:
        assert self._process is not None
        self._process.hang_up()
        self._pump.close()

    def _finish(self) -> None:
        if self._over:
            return
        self._pump.stop()
        self._sizes.settle()
        self._over = True
        if self._exit is not None:
            # The status first: a client that has ended its own side closes as soon as it sees our end.
            if self._exit.signal:
                # The protocol has names for a few signals; for all others its form is that of an extension.
                name = self._exit.signal if self._exit.signal in SIGNALS else "SIG@openssh.com"
                self.channel.exit_signal(name, self._exit.core)
            else:
                self.channel.exit_status(self._exit.status)
            self.channel.send_eof()
            self.channel.close()
            self._host.tell(
                SessionEnded(
                    channel=self.channel.number,
                    status=self._exit.status,
                    signal=self._exit.signal,
                    received=self._received,
                    sent=self._sent,
                )
            )
        self._host.over(self)

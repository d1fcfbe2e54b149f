"""One session channel: environment and terminal requests, then one shell, command or subsystem.

    waiting --pty, env--> waiting --shell|exec|subsystem--> running --exit--> draining --> over
                                  --refused--> over                (client gone: hung up, then over)

Requests and input come in the connection's reading thread; everything else happens in the loop's thread.
Output order: data, exit status, end of data, close; nothing is cut while the client still reads.
"""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from typing import Protocol

import msgspec

from pkgs.agents.ssh.limits import (
    DRAIN_S,
    EOF_HOLD_S,
    MAX_COMMAND,
    MAX_SHOWN_COMMAND,
    MAX_TERM,
    READS_PER_TURN,
    RESIZE_REST_S,
    TERMINAL_REST_S,
)
from pkgs.agents.ssh.session.env import ClientEnv, asked_of_others
from pkgs.agents.ssh.session.process import SIGNALS, Exit, Launched, Process
from pkgs.agents.ssh.session.stdin import Stdin
from pkgs.agents.ssh.session.terminal import redraw, set_size
from pkgs.agents.ssh.together.limits import ANSWER_REST_S, TYPED_AHEAD
from pkgs.agents.ssh.together.messages import (
    Held,
    Notice,
    PeerInput,
    Redraw,
    SessionOver,
    SessionStarted,
    Waiting,
)
from pkgs.agents.ssh.together.room import Room
from pkgs.common.ssh.channel import Channel, Reply
from pkgs.common.ssh.limits import CHUNK
from pkgs.common.ssh.process.loop import READ, WRITE, Loop, Timer
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
    OpenSession,
    Output,
    OutputCut,
    Resized,
    SessionEnded,
    SessionKind,
    SessionOpened,
)


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
        self._outputs: dict[int, bool] = {}
        self._stdin = Stdin(channel.consumed)
        self._stdin_ended = False
        self._master = -1
        self._blocked: set[int] = set()
        self._exit: Exit | None = None
        self._drain: Timer | None = None
        self._drain_until = math.inf
        self._gone = False
        self._over = False
        self._recorded = 0
        self._record: str = "none"
        self._new_size: TerminalSize | None = None
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
                self._start(OpenSession(channel=self.channel.number, kind="shell"), reply)
            case ExecRequest(command):
                self._begin("exec", command, reply)
            case SubsystemRequest(name):
                self._begin("subsystem", name.encode(), reply)
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
        if not self._stdin.write(data):
            self._loop.call_soon(self._watch_input)

    def eof(self) -> None:
        self._loop.call_soon(self._end_input)

    def writable(self) -> None:
        self._loop.call_soon(self._unblock)

    def closed(self) -> None:
        self._loop.call_soon(self._vanished)

    def _take_pty(self, request: PtyRequest) -> bool:
        term_ok = len(request.term) <= MAX_TERM and request.term.isprintable()
        if self._started or self.pty is not None or not term_ok or not self._host.permits_pty():
            return False
        self.pty = request
        return True

    def _begin(self, kind: SessionKind, command: bytes, reply: Reply) -> None:
        if self._started or b"\0" in command:
            reply(False)
            return
        if len(command) > MAX_COMMAND:
            self._started = True
            self._refuse(f"the command is too long: the limit is {MAX_COMMAND} bytes", reply)
            return
        self.command = command
        shown = command[:MAX_SHOWN_COMMAND].decode(errors="backslashreplace")
        exact = shown.encode() == command
        self._start(OpenSession(channel=self.channel.number, kind=kind, command=shown, exact=exact), reply)

    def _start(self, asked: OpenSession, reply: Reply) -> None:
        if self._started:
            reply(False)
            return
        self._started = True
        if self.pty is not None:
            asked = msgspec.structs.replace(
                asked,
                pty=True,
                columns=self.pty.size.columns,
                rows=self.pty.size.rows,
                term=self.pty.term,
                **asked_of_others(self.env),
            )
        answer = self._host.ask_session(asked)
        if isinstance(answer, Refused):
            self._refuse(answer.text, reply)
        elif isinstance(answer, Waiting):
            self.room.waiting = asked
            reply(True)
            self._show(answer.text)
        else:
            self._run(asked, answer, reply)

    def _run(self, asked: OpenSession, answer: SessionOpened, reply: Reply) -> None:
        self.opened_session = answer
        self._record = answer.record
        if asked.kind == "subsystem" and not answer.forced_command:
            if self._host.serve_subsystem(self, asked):
                reply(True)
            else:
                self._end_unstarted(f"there is no subsystem {asked.command}", reply)
            return
        try:
            launched = self._host.launch(self, asked, answer)
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
        # Granted and ended at once: after a refused request OpenSSH does not show the text.
        reply(True)
        if text:
            self.channel.send(text.encode() + b"\r\n", stderr=True)
        self.channel.exit_status(255)
        self.channel.send_eof()
        self.channel.close()
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
                asked, self.room.waiting = self.room.waiting, None
                self._run(asked, opened, lambda ok: None)
            case Notice(text=text):
                self._show(text)
            case Held(held=held):
                self.room.held = held
                self._unblock()
            case PeerInput(data=data) if not self.room.is_closed:
                self._stdin.inject(data, TYPED_AHEAD)
                self._watch_input()
            case Redraw() if self._master >= 0:
                redraw(self._master)
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
        if launched.pipes is None:
            self._master = launched.master
            self._outputs = {launched.master: False}
            input_fd = launched.master
        else:
            self._outputs = {launched.pipes.stdout: False, launched.pipes.stderr: True}
            input_fd = launched.pipes.stdin
        self._stdin.attach(input_fd)
        for fd in {*self._outputs, input_fd}:
            self._watch(fd)
        if self._stdin_ended:
            self._end_input()
        if self._gone:
            self._hang_up()

    def _watch(self, fd: int) -> None:
        """Watch a descriptor for what is wanted of it now. A terminal is one for both ways."""
        wanted = READ if fd in self._outputs and fd not in self._blocked else 0
        if fd == self._stdin.fd and self._stdin.pending:
            wanted |= WRITE
        if wanted:
            self._loop.watch(fd, wanted, lambda: self._ready(fd))
        else:
            self._loop.unwatch(fd)

    def _ready(self, fd: int) -> None:
        if fd == self._stdin.fd and self._stdin.pending:
            self._stdin.flush()
            if self._stdin_ended and not self._stdin.pending:
                self._close_input()
            self._watch(fd)
        if fd in self._outputs and fd not in self._blocked:
            self._read(fd)

    def _read(self, fd: int) -> None:
        """Move what there is, as far as the client's window allows, a bounded number of chunks."""
        stderr = self._outputs[fd]
        for _ in range(READS_PER_TURN):
            room = self.channel.room() if not self.room.held else 0
            if room == 0:
                self._blocked.add(fd)
                self._watch(fd)
                return
            try:
                data = os.read(fd, min(room, CHUNK))
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno != errno.EIO:  # EIO: nobody holds the terminal any more
                    raise
                data = b""
            if not data:
                self._close_output(fd)
                return
            if self._drain is not None and time.monotonic() < self._drain_until:
                self._arm_drain()
            self._emit(data, stderr)

    def _emit(self, data: bytes, stderr: bool) -> None:
        self._sent += len(data)
        if self._record == "all":
            self._host.tell(Output(channel=self.channel.number, data=data))
        elif self._record == "head":
            self._record_head(data)
        self.channel.send(data, stderr=stderr)

    def _record_head(self, data: bytes) -> None:
        assert self.opened_session is not None
        left = self.opened_session.record_limit - self._recorded
        self._recorded += len(data)
        if left > 0:
            self._host.tell(Output(channel=self.channel.number, data=data[:left]))
        if left < len(data):
            self._record = "none"
            self._host.tell(OutputCut(channel=self.channel.number))

    def _unblock(self) -> None:
        blocked, self._blocked = self._blocked, set()
        for fd in blocked:
            self._watch(fd)

    def _watch_input(self) -> None:
        if self._stdin.fd >= 0:
            self._watch(self._stdin.fd)

    def _end_input(self) -> None:
        self._stdin_ended = True
        if not self._stdin.pending and self._stdin.fd >= 0:
            self._close_input()

    def _close_input(self) -> None:
        if self._master >= 0:
            return  # a terminal stays whole: its output is still wanted
        fd = self._stdin.detach()
        if fd >= 0:
            self._loop.unwatch(fd)
            os.close(fd)

    def _close_output(self, fd: int) -> None:
        self._loop.unwatch(fd)
        self._blocked.discard(fd)
        del self._outputs[fd]
        if fd == self._master:
            self._stdin.detach()
            self._master = -1
        os.close(fd)
        if not self._outputs:
            if self._exit is None:
                # The exit nearly always follows at once, and its status must come before a client that has
                # ended its own side answers the end of data with a close.
                self._loop.after(EOF_HOLD_S, self.channel.send_eof)
            self._maybe_finish()

    def _exited(self, how: Exit) -> None:
        self._exit = how
        if self._master >= 0:
            # Who has logged out of a terminal is not kept by what goes on in its background.
            self._drain_until = time.monotonic() + DRAIN_S
        if self._outputs:
            self._arm_drain()
        self._maybe_finish()

    def _arm_drain(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        rest_s = DRAIN_S if self._master < 0 else TERMINAL_REST_S
        self._drain = self._loop.after(rest_s, self._drained)

    def _drained(self) -> None:
        if self._blocked and not self._gone:
            self._arm_drain()  # the client reads slowly: what is there is still delivered
            return
        for fd in list(self._outputs):
            self._close_output(fd)

    def _maybe_finish(self) -> None:
        if self._exit is not None and not self._outputs:
            self._finish()

    def _resize(self, size: TerminalSize) -> None:
        if self._master < 0:
            return
        set_size(self._master, size)
        if self._new_size is None:
            # Dragging a window makes dozens a second; where it comes to rest is what is worth keeping.
            self._loop.after(RESIZE_REST_S, self._tell_size)
        self._new_size = size

    def _tell_size(self) -> None:
        size, self._new_size = self._new_size, None
        if size is not None and not self._over:
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
        if self._master >= 0:
            self._emit(f"\r\n{text}\r\n".encode(), stderr=False)
        else:
            self.channel.send(f"{text}\r\n".encode(), stderr=True)
        self.channel.silence()
        self.closed()
        return True

    def kill(self) -> None:
        """What runs is ended now; for a process that is told to go."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    def _hang_up(self) -> None:
        assert self._process is not None
        self._process.hang_up()
        for fd in list(self._outputs):
            self._close_output(fd)
        self._close_input()

    def _finish(self) -> None:
        if self._over:
            return
        if self._drain is not None:
            self._drain.cancel()
        self._close_input()
        self._tell_size()
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

"""One connection from its login to its end: what `tsh ssh` is when OpenSSH does not do it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

from pkgs.clients.tsh.connections.splice import nonblocking, say
from pkgs.clients.tsh.ownssh import terminal
from pkgs.clients.tsh.ownssh.forwards import REMOTE
from pkgs.clients.tsh.ownssh.incoming import Incoming
from pkgs.clients.tsh.ownssh.link import Link, Target, log_in
from pkgs.clients.tsh.ownssh.loop import Loop
from pkgs.clients.tsh.ownssh.session import FAILED, Session
from pkgs.clients.tsh.ownssh.settings import QUIET, VERBOSE, Settings
from pkgs.clients.tsh.ownssh.sockets import LocalPorts
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.output.sanitize import inert, inert_lines
from pkgs.common.ssh.client.connection import Connection

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def run(login: Login, target: Target, settings: Settings) -> int:
    """Connect, do what is asked, and end. The status is the command's, or 255."""
    if settings.background:
        return _in_background(partial(_run, login, target, settings))
    return _run(login, target, settings, lambda: None)


def _run(login: Login, target: Target, settings: Settings, begun: Callable[[], None]) -> int:
    voice = _Voice(settings)
    try:
        link = Link(login, target, detached=settings.background)
        try:
            client = _Client(login, target, settings, voice, link, begun)
        except UnavailableError:
            # A process that carried it and failed has said why.
            if link.failed():
                return FAILED
            raise
        try:
            return client.run()
        finally:
            client.close()
            link.close()
    except AccessError as problem:
        voice.fail(problem)
        return FAILED
    finally:
        voice.close()


class _Voice:
    """Our own messages: to standard error, or a file (-E)."""

    def __init__(self, settings: Settings) -> None:
        self._talk = settings.talk
        self._sink = 2
        if settings.log_file:
            self._sink = os.open(settings.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def detail(self, text: str) -> None:
        if self._talk >= VERBOSE:
            self._write(f"tsh: {inert(text)}")

    def tell(self, text: str) -> None:
        if self._talk > QUIET:
            self._write(f"tsh: {inert(text)}")

    def fail(self, problem: AccessError) -> None:
        if self._talk > QUIET:
            why = f" ({inert(problem.detail)})" if problem.detail else ""
            self._write(f"ERROR: {inert_lines(str(problem))}{why}")

    def close(self) -> None:
        if self._sink != 2:
            os.close(self._sink)

    def _write(self, line: str) -> None:
        # The terminal may be raw.
        say(f"\r{line}\r\n" if os.isatty(self._sink) else f"{line}\n", self._sink)


class _Client:
    """A connection that is logged in, and all that goes over it."""

    def __init__(
        self,
        login: Login,
        target: Target,
        settings: Settings,
        voice: _Voice,
        link: Link,
        begun: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._voice = voice
        self._begun = begun
        self.loop = Loop()
        self._farewell = ""
        self._lost = False
        self._ended_by: signal.Signals | None = None
        self._session: Session | None = None
        self._connection: Connection = log_in(
            login, target, link.sock, deadline_s=settings.connect_s, ended=self._hear_end
        )
        voice.detail(f"logged in to {target.host} as {target.user}")
        self._ports = LocalPorts(self.loop, self._connection, voice.tell)
        self._incoming = Incoming(self.loop, self._connection, agent=settings.agent)

    def close(self) -> None:
        self._ports.close()
        self._connection.close()
        # Its thread posts to the loop until it ends.
        self._connection.join(1)

    def run(self) -> int:
        """The exit status. Raises AccessError when a port that must be forwarded is not."""
        with contextlib.ExitStack() as stack:
            for number in _ENDING:
                self._heed(stack, number, partial(self._end_by, number))
            self._forward()
            if self._settings.alive_interval_s:
                self.loop.after(self._settings.alive_interval_s, self._ask_alive)
            if self._settings.run_nothing:
                self._begun()
                self.loop.run()
            else:
                self._serve(stack)
        return self._outcome()

    def _serve(self, stack: contextlib.ExitStack) -> None:
        at_terminal = terminal.is_terminal(0)
        tty = self._settings.wants_tty(at_terminal=at_terminal)
        session = self._session = Session(self.loop, self._settings, tty=tty, tell=self._voice.tell)
        session.on_begun = self._begun
        if not self._settings.background:
            # Not in the background, where whoever started us goes on using them.
            stack.enter_context(nonblocking(*([] if self._settings.no_stdin else [0]), 1, 2))
        if tty and at_terminal:
            stack.enter_context(terminal.raw(0))
            self._heed(stack, signal.SIGWINCH, session.resize)
        self.loop.add(session)
        session.bind(self._connection.open_session(session))
        self.loop.run(until=lambda: session.finished)
        # As with OpenSSH, forwarded connections that are open may end; no new ones are taken.
        self._ports.close()
        self.loop.run(until=lambda: self._lost or not (self._ports.relays or self._incoming.relays))

    def _end_by(self, number: signal.Signals) -> None:
        self._ended_by = number
        self.loop.stop()

    def _outcome(self) -> int:
        session = self._session
        if self._ended_by is not None:
            self._voice.detail(f"ended by {self._ended_by.name}")
            # As with OpenSSH: where nothing runs, that is how it is meant to end.
            return 0 if session is None and self._ended_by == signal.SIGTERM else FAILED
        if session is not None and session.told:
            return session.status
        if session is not None and session.refusal and not self._farewell:
            self._voice.fail(UnavailableError(session.refusal))
        elif self._lost or not self._connection.alive:
            self._voice.tell(self._farewell or "the connection to the server was lost")
        return FAILED

    def _forward(self) -> None:
        for forward in self._settings.forwards:
            try:
                if forward.kind != REMOTE:
                    self._ports.listen(forward, everywhere=self._settings.everywhere)
                    self._voice.detail(f"listening for {forward}")
                    continue
                port = self._incoming.listen(forward, everywhere=self._settings.everywhere)
                if not forward.port:
                    self._voice.tell(
                        f"the server listens on port {port} for {forward.host}:{forward.host_port}"
                    )
            except AccessError as problem:
                if self._settings.must_forward:
                    raise
                self._voice.tell(str(problem))

    def _heed(self, stack: contextlib.ExitStack, number: signal.Signals, call: Callable[[], None]) -> None:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before = signal.signal(number, lambda *_: self.loop.post(call))
            stack.callback(signal.signal, number, before)

    def _ask_alive(self) -> None:
        if self._connection.keep_alive() > self._settings.alive_count:
            self._farewell = "the server does not answer any more"
            self._connection.abort()
        self.loop.after(self._settings.alive_interval_s, self._ask_alive)

    def _hear_end(self, farewell: str) -> None:
        """In the reading thread, behind the last event of the last channel."""
        self.loop.post(partial(self._on_end, farewell))

    def _on_end(self, farewell: str) -> None:
        self._lost = True
        self._farewell = self._farewell or farewell
        if self._session is None:
            self.loop.stop()


def _in_background(run: Callable[[Callable[[], None]], int]) -> int:
    """Run it in a process of its own. Here: wait until it has begun, and leave; else its status."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    process = os.fork()
    if process:
        os.close(writer)
        if os.read(reader, 1):
            # Not the usual way out, which removes files that the other process uses.
            sys.stdout.flush()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def begun() -> None:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.write(writer, b"\0")
        os.close(writer)

    return run(begun)

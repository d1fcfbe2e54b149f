"""A shell, a command or a subsystem on the server, joined to our standard streams."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from pkgs.clients.tsh.connections.splice import say
from pkgs.clients.tsh.ownssh import terminal
from pkgs.clients.tsh.ownssh.escapes import END, Escapes
from pkgs.clients.tsh.ownssh.limits import READ_BYTES
from pkgs.clients.tsh.ownssh.loop import Loop
from pkgs.clients.tsh.ownssh.relay import STDERR, STDOUT, Relay
from pkgs.clients.tsh.ownssh.settings import Settings

FAILED = 255
"""As OpenSSH: no status came from the server, or a signal ended the command."""
HELP = (
    "Supported escape sequences:\r\n"
    " {0}.  - end the connection\r\n {0}?  - this message\r\n {0}{0}  - send {0}\r\n"
)


class Session(Relay):
    """The channel of one."""

    def __init__(self, loop: Loop, settings: Settings, *, tty: bool, tell: Callable[[str], None]) -> None:
        super().__init__(loop, None if settings.no_stdin else 0, {STDOUT: 1, STDERR: 2}, lambda: None)
        self._tell = tell
        self.status = FAILED
        self.told = False
        """The server has said how it ended."""
        self.refusal = ""
        self.on_begun: Callable[[], None] = lambda: None
        self._settings = settings
        self._tty = tty
        # Before anybody makes it raw.
        self._modes = terminal.modes(0)
        self._escapes = Escapes(settings.escape) if tty and settings.escape else None
        self._asked: list[str] = []

    def wants(self) -> dict[int, int]:
        found = super().wants()
        if self._escapes is not None and self._source is not None and len(self._unsent) < READ_BYTES:
            # Also while the server takes no keys: then more than ever the user may want to end it.
            found[self._source] = found.get(self._source, 0) | select.POLLIN
        return found

    def on_opened(self) -> None:
        """Ask for everything at once; the answers come in this order."""
        assert self.channel is not None
        settings, channel = self._settings, self.channel
        if settings.agent and os.environ.get("SSH_AUTH_SOCK"):
            channel.request("auth-agent-req@openssh.com", reply=True)
            self._asked.append("the agent")
        if self._tty:
            channel.pty(os.environ.get("TERM", "dumb"), terminal.size(0), self._modes)
            self._asked.append("a terminal")
        for name, value in settings.environment.items():
            channel.env(name, value)
        if settings.subsystem:
            channel.subsystem(settings.command.decode(errors="surrogateescape"))
        elif settings.command:
            channel.exec(settings.command)
        else:
            channel.shell()
        self._asked.append("")

    def on_answered(self, ok: bool) -> None:
        what = self._asked.pop(0)
        if what and not ok:
            self._tell(f"the server does not give {what}")
        if what:
            return
        if not ok:
            self.refusal = "the server refuses to run this"
            self.hang_up()
            return
        super().on_opened()
        self._send(b"")  # what was typed meanwhile; its end
        self.on_begun()

    def on_refused(self, text: str) -> None:
        self.refusal = text or "the server opens no session"
        super().on_refused(text)

    def exit_status(self, status: int) -> None:
        self.status, self.told = status & 0xFF, True

    def exit_signal(self, name: str, core: bool, text: str) -> None:
        self.told = True

    def outgoing(self, data: bytes) -> bytes:
        typed = self._heed_escapes(data)
        return typed if self._settings.keys is None else self._settings.keys(typed)

    def _heed_escapes(self, data: bytes) -> bytes:
        if self._escapes is None:
            return data
        out, asked = self._escapes.feed(data)
        for what in asked:
            if what == END:
                # The rest of the line is nobody's any more.
                self.loop.post(self.hang_up)
            else:
                say("\r\n" + HELP.format(self._settings.escape.decode()))
        return out

    def resize(self) -> None:
        """The terminal has another size."""
        if self._tty and self.channel is not None:
            self.channel.window_change(terminal.size(0))

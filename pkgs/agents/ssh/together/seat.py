"""A visitor's channel in the process of their connection: bytes in and out, and no decision.

    waiting --pty, env--> waiting --exec <session id>--> asked --Joined--> in it --JoinOver or gone--> over
                                   --anything else--> refused

Requests and keys come in the connection's reading thread; everything else happens in the loop's thread.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Protocol

from pkgs.agents.ssh.messages import Account
from pkgs.agents.ssh.session.env import ClientEnv
from pkgs.agents.ssh.together.limits import OUTPUT_CHUNK
from pkgs.agents.ssh.together.messages import (
    Joined,
    JoinOutput,
    JoinOver,
    JoinSession,
    Left,
    Taken,
    Typed,
)
from pkgs.common.ssh.channel import Channel, Reply
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.messages import Message, Refused
from pkgs.common.ssh.requests import ChannelRequest, EnvRequest, ExecRequest, PtyRequest, WindowChange

MODE_VARIABLE = "TELEPORT_SSH_JOIN_MODE"
DEFAULT_MODE = "observer"
_LONGEST_ID = 64
_NOBODY = 65534
_HOW = "to join a session, ask for its id as the command: ssh -t ... SESSION_ID"


class Host(Protocol):
    """What a seat needs of its connection's process."""

    loop: Loop

    def tell(self, message: Message) -> None: ...

    def ask_join(self, request: JoinSession) -> Joined | Refused: ...

    def seat_over(self, seat: Seat) -> None: ...


class Seat:
    """Owner of one channel."""

    def __init__(self, host: Host, channel: Channel) -> None:
        self.channel = channel
        self._host = host
        self._loop = host.loop
        self._env = ClientEnv()
        self._pty: PtyRequest | None = None
        self._asked = False
        self._inside = False
        self._over = False
        self._waiting: deque[bytes] = deque()
        self._last: JoinOver | None = None

    # Called in the reading thread.

    def opened(self) -> None:
        """Nothing to send yet."""

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        match request:
            case PtyRequest() if not self._asked and self._pty is None:
                self._pty = request
                reply(True)
            case EnvRequest(name, value):
                reply(not self._asked and self._env.accept(name, value))
            case ExecRequest(command) if not self._asked:
                self._ask(command[: _LONGEST_ID + 1].decode(errors="replace").strip(), reply)
            case WindowChange():
                reply(True)  # the size of the session is its owner's
            case _ if self._asked:
                reply(False)
            case _:
                self._asked = True
                self._refuse(_HOW, reply)

    def data(self, data: bytes) -> None:
        if self._inside:
            for start in range(0, len(data), OUTPUT_CHUNK):
                self._host.tell(Typed(channel=self.channel.number, data=data[start : start + OUTPUT_CHUNK]))
        self.channel.consumed(len(data))

    def eof(self) -> None:
        """A visitor may close their input and go on watching."""

    def writable(self) -> None:
        self._loop.call_soon(self._drain)

    def closed(self) -> None:
        self._loop.call_soon(self._finish)

    def _ask(self, session_id: str, reply: Reply) -> None:
        self._asked = True
        size = self._pty.size if self._pty is not None else None
        answer = self._host.ask_join(
            JoinSession(
                channel=self.channel.number,
                session_id=session_id,
                mode=self._env.control.get(MODE_VARIABLE, DEFAULT_MODE),
                columns=size.columns if size else 0,
                rows=size.rows if size else 0,
            )
        )
        if isinstance(answer, Refused):
            self._refuse(answer.text, reply)
            return
        self._inside = True
        reply(True)

    def _refuse(self, text: str, reply: Reply) -> None:
        self.channel.turn_away(reply, text)
        self._loop.call_soon(self._finish)

    # Called in the loop's thread.

    def take(self, message: JoinOutput | JoinOver) -> None:
        """Output of the session, or the end of the visit."""
        if isinstance(message, JoinOver):
            self._last = message
            # Whoever has stopped reading does not keep the visit open.
            if self.channel.room() == 0:
                self._waiting.clear()
        else:
            self._waiting.append(message.data)
        self._drain()

    def _drain(self) -> None:
        while self._waiting:
            head = self._waiting[0]
            sent = self.channel.send(head)
            if sent:
                self._host.tell(Taken(channel=self.channel.number, size=sent))
            if sent < len(head):
                self._waiting[0] = head[sent:]
                if not sent:
                    return
            else:
                self._waiting.popleft()
        if self._last is not None and not self._over:
            self.channel.send(self._last.text.encode())
            self._inside = False
            self.channel.exit_status(self._last.status)
            self.channel.send_eof()
            self.channel.close()
            self._loop.call_soon(self._finish)

    def farewell(self, text: str) -> bool:
        """The connection is about to end."""
        if self._over or not self._asked:
            return False
        self.channel.send(f"\r\n{text}\r\n".encode())
        self.channel.silence()
        self.closed()
        return True

    def kill(self) -> None:
        """Nothing runs here."""

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            if self._asked:
                self._host.tell(Left(channel=self.channel.number))
            self._host.seat_over(self)


def become_nobody(account: Account) -> None:
    """Give up every power for good: a visitor has no login on this host. Raises OSError, LookupError."""
    if os.geteuid() == 0 and not account.single_user:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        if os.getresuid() != (_NOBODY,) * 3:
            raise LookupError("this process cannot give up its powers")
    os.chdir("/")

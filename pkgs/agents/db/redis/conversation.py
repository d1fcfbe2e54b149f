"""A Redis session after our login: commands go through, except for those that are refused or answered by us.

An answer of ours must take its turn among the server's, and which reply belongs to which command nobody can
tell by counting (published messages come between, some commands are answered many times or not at all). So
in place of such a command the server gets one that no server has, whose name is a number that nobody knows:
the error that it answers comes at the right place, in a transaction too, and is replaced by what we say.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass

from pkgs.agents.db.engine import Failed, Step
from pkgs.agents.db.parts import Parts
from pkgs.agents.db.record.excerpt import excerpt
from pkgs.agents.db.redis import limits
from pkgs.agents.db.redis.commands import Verdict, judge, masked_error, statement
from pkgs.common.dbwire.redis import build
from pkgs.common.dbwire.redis.replies import TEXT, Replies
from pkgs.common.dbwire.redis.requests import Requests
from pkgs.common.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class _Marker:
    """A command that no server has, and what its error is replaced by."""

    name: bytes
    answer: bytes
    resets: bool = False
    """A RESET and our login follow it; the login's answer is not for the client."""


class RedisConversation:
    def __init__(self, user: str, login: bytes) -> None:
        """`login`: the request by which the server knows who this is, needed again after a RESET."""
        self._user = user
        self._login = login
        self._requests = Requests(limits.ARGUMENTS_KEPT, limits.ARGUMENT_KEPT)
        self._replies = Replies()
        self._held = b""
        """Of the client: bytes that have not gone onward."""
        self._read = 0
        """How far they have been read."""
        self._verdict: Verdict | None = None
        """On the command under way; None until enough of it is there."""
        self._tail = b""
        """Of the server: a line that is not all there."""
        self._markers: deque[_Marker] = deque()
        self._texts_until_login = 0
        """While a RESET is answered: how many texts there are up to the answer to our login."""

    # --- the client

    def from_client(self, data: memoryview) -> Step:
        buffer = self._held + bytes(data)
        step = Parts(memoryview(buffer))
        requests = self._requests
        size, pos, began = len(buffer), self._read, 0
        while pos < size and not self._resetting:
            if requests.fresh:
                began = pos
            pos = requests.read(buffer, pos)
            if self._verdict is None and (words := requests.complete):
                self._verdict = judge(words, requests.whole)
            if not requests.whole:
                break
            self._end(step, began, pos)
            requests.next()
            self._verdict = None
        self._hold(step, buffer, began, pos)
        return step.made()

    @property
    def _resetting(self) -> bool:
        """The server does not know yet, again, who this is: nothing more may reach it."""
        return (bool(self._markers) and self._markers[-1].resets) or self._texts_until_login > 0

    def _hold(self, step: Parts, buffer: bytes, began: int, pos: int) -> None:
        """Keep back what may not go onward yet."""
        if self._requests.fresh or self._verdict is Verdict.PASS:
            began = pos
        elif self._verdict is Verdict.REFUSE:
            step.leave(began, pos)
            began = pos
        self._held, self._read = buffer[began:], pos - began
        step.leave(began, len(buffer))
        if len(self._held) > limits.HELD_MAX:
            raise ProtocolError("a Redis command that has to be looked at is too long")

    def _end(self, step: Parts, began: int, pos: int) -> None:
        """A command is whole."""
        requests = self._requests
        if not requests.arguments:
            step.leave(began, pos)
            return
        step.facts.append(statement(requests.arguments, requests.cut))
        if self._verdict is Verdict.PASS:
            if requests.line is not None:
                # As it was understood, so that the server can't understand it differently.
                self._instead(step, began, pos, build.request(*requests.line))
            return
        self._instead(step, began, pos, self._ours())

    def _instead(self, step: Parts, began: int, pos: int, ours: bytes) -> None:
        step.leave(began, pos)
        step.insert(pos, ours)

    def _ours(self) -> bytes:
        """What the server gets in place of a command that we answer, or have a part in."""
        words = self._requests.arguments
        name = words[0].decode("ascii", "replace").lower()
        match self._verdict:
            case Verdict.AUTH:
                if not 2 <= len(words) <= 3:
                    return self._answer(build.error("ERR wrong number of arguments for 'auth' command"))
                return self._answer(self._welcome(words[1] if len(words) == 3 else None))
            case Verdict.HELLO:
                return self._hello(words)
            case Verdict.RESET:
                if len(words) > 1:
                    return self._answer(build.error("ERR wrong number of arguments for 'reset' command"))
                return self._answer(b"", resets=True) + build.request(b"RESET") + self._login
        full = b" ".join(words[:2]).decode("ascii", "replace").lower() if name == "client" else name
        return self._answer(build.error(f"NOPERM '{full}' is not served here: it would evade the audit log"))

    def _answer(self, answer: bytes, *, resets: bool = False) -> bytes:
        if len(self._markers) >= limits.ANSWERS_PENDING_MAX:
            raise ProtocolError("the client sends commands without reading answers")
        marker = _Marker(b"%020d" % secrets.randbits(64), answer, resets)
        self._markers.append(marker)
        return build.request(marker.name)

    def _welcome(self, user: bytes | None) -> bytes:
        """The answer to a client that says who it is; its password is of no interest."""
        if user is None or user == self._user.encode():
            return build.OK
        return build.error(f'WRONGPASS this session is for the database user "{self._user}" and no other')

    def _hello(self, words: list[bytes]) -> bytes:
        """HELLO without its login."""
        kept, index = words[:2], 2
        cut = self._requests.cut
        while index < len(words):
            option = words[index].lower()
            if option == b"auth" and index + 2 < len(words):
                answer = self._welcome(words[index + 1])
                if answer != build.OK:
                    return self._answer(answer)
                index += 3
            elif option == b"setname" and index + 1 < len(words) and index + 1 not in cut:
                kept += [b"SETNAME", words[index + 1]]
                index += 2
            else:
                return self._answer(build.error("ERR Syntax error in HELLO"))
        return build.request(*kept)

    # --- the server

    def from_server(self, data: memoryview) -> Step:
        buffer = self._tail + bytes(data)
        step = Parts(memoryview(buffer))
        resetting = self._resetting
        pos = 0
        while True:
            start, pos = self._replies.skip(buffer, pos, texts=self._texts_until_login > 0)
            if start == pos:
                break
            inside = self._replies.inside
            self._replies.line_done()
            if not self._is_ours(step, buffer, start, pos, inside) and buffer[start] != TEXT:
                step.facts.append(_failed(buffer[start + 1 : pos - 2]))
        self._tail = buffer[pos:]
        step.leave(pos, len(buffer))
        if self._held and resetting and not self._resetting:
            # What the client said meanwhile.
            later = self.from_client(memoryview(b""))
            step.back = bytes(later.onward)
            step.facts += later.facts
        return step.made()

    def _is_ours(self, step: Parts, buffer: bytes, start: int, end: int, inside: bool) -> bool:
        """Whether a line of the server's is the answer to something of ours."""
        if inside:
            return False
        if self._texts_until_login:
            self._texts_until_login -= 1
            if not self._texts_until_login:
                if buffer[start:end] != build.OK:
                    raise ProtocolError("the database server does not let the session in again after RESET")
                step.leave(start, end)
                return True
            return False
        if not self._markers or self._markers[0].name not in buffer[start:end]:
            return False
        marker = self._markers.popleft()
        step.leave(start, end)
        step.insert(end, marker.answer)
        if marker.resets:
            self._texts_until_login = 2
        return True

    def refusal(self, text: str) -> bytes:
        return build.error(f"ERR {text}") if self._replies.between and not self._tail else b""


def _failed(line: bytes) -> Failed:
    text = excerpt(masked_error(line.decode("utf-8", "backslashreplace")), limits.ERROR_KEPT)
    code, _, message = text.partition(" ")
    return Failed(message or code, code)

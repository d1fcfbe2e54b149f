"""Follows a server's answers, packet by packet, to know where each ends and what it came to.

    FIRST --OK, ERR----------------------------> the answer is over (or, with MORE_RESULTS, FIRST again)
      '-----a number of columns--> DEFINITIONS --> ROWS --EOF, ERR--> the same

Rows are counted and not looked at. All transitions are here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from pkgs.agents.db.engine import Fact, Failed, Outcome
from pkgs.agents.db.mysql import limits
from pkgs.agents.db.mysql.commands import Answer
from pkgs.agents.db.mysql.prepared import Prepared
from pkgs.agents.db.record.passwords import mask_error
from pkgs.common.dbwire.mysql import answers, flags
from pkgs.common.dbwire.mysql.flags import Capability
from pkgs.common.dbwire.mysql.limits import PACKET_MAX
from pkgs.common.dbwire.mysql.values import Reader
from pkgs.common.errors import ProtocolError


@dataclass(slots=True)
class Awaited:
    """A command of the client whose answer has not ended."""

    answer: Answer
    text: str = ""
    """What is to be prepared."""
    secret: bool = False
    """The command had one, so an error may repeat it."""
    ours: bytes = b""
    """Our own answer, instead of one of the server's."""
    rows: int = 0


class _Phase(Enum):
    FIRST = auto()
    DEFINITIONS = auto()
    ROWS = auto()


class Results:
    def __init__(self, agreed: Capability, prepared: Prepared, *, local_files: bool) -> None:
        self._marks_end = not agreed & Capability.DEPRECATE_EOF
        """Definitions end with an EOF of their own."""
        self._prepared = prepared
        prepared.coming = self._preparing
        self._local_files = local_files
        self._queue: deque[Awaited] = deque()
        self._phase = _Phase.FIRST
        self._definitions = 0
        """Packets still to come before rows, or before the end."""
        self.uploading = False
        """The server reads a file that the client sends."""

    @property
    def idle(self) -> bool:
        return not self._queue

    @property
    def in_rows(self) -> bool:
        return self._phase is _Phase.ROWS

    def _preparing(self) -> str | None:
        asked = (awaited.text for awaited in reversed(self._queue) if awaited.answer is Answer.PREPARED)
        return next(asked, None)

    def expect(self, awaited: Awaited) -> None:
        if len(self._queue) >= limits.PIPELINE_MAX:
            raise ProtocolError("the client sends commands without waiting for answers")
        self._queue.append(awaited)
        if len(self._queue) == 1:
            self._begin()

    def ours(self) -> bytes:
        """Answers of ours whose turn has come."""
        said = b""
        while self._queue and self._queue[0].ours:
            said += self._queue.popleft().ours
        if said and self._queue:
            self._begin()
        return said

    def _begin(self) -> None:
        rows_at_once = self._queue[0].answer in (Answer.ROWS, Answer.COLUMNS)
        self._phase = _Phase.ROWS if rows_at_once else _Phase.FIRST

    def count(self, rows: int) -> None:
        self._queue[0].rows += rows

    def packet(self, payload: bytes, size: int) -> tuple[Fact, ...]:
        """A message of the server's; `payload` is its beginning."""
        if not payload:
            raise ProtocolError("the server sent an empty MySQL packet")
        mark = payload[0]
        if not self._queue:
            if mark != answers.ERR:
                raise ProtocolError("the server spoke out of turn")
            # It says why it is about to close.
            return (_failed(payload, secret=False),)
        awaited = self._queue[0]
        if mark == answers.ERR:
            if awaited.answer is Answer.PREPARED:
                self._prepared.failed()
            self._finish()
            return (_failed(payload, awaited.secret),)
        if awaited.answer is Answer.ONE:
            self._finish()
            return ()
        if self._phase is _Phase.FIRST:
            return self._first(payload, awaited)
        if self._phase is _Phase.DEFINITIONS:
            return self._definition(payload, awaited)
        if mark == answers.EOF and size < (9 if self._marks_end else PACKET_MAX):
            return self._ended(payload, awaited)
        awaited.rows += 1
        return ()

    def _first(self, payload: bytes, awaited: Awaited) -> tuple[Fact, ...]:
        if awaited.answer is Answer.PREPARED:
            return self._prepare(payload, awaited)
        if payload[0] == answers.OK:
            done = answers.parse_ok(payload)
            awaited.rows += done.affected
            return self._result_over(done.status, awaited)
        if payload[0] == answers.LOCAL_INFILE:
            if not self._local_files or len(self._queue) > 1:
                raise ProtocolError("the server asks for a file of the client's, which is not allowed here")
            self.uploading = True
            return ()
        self._define(Reader(payload).lenenc() + self._marks_end)
        return ()

    def _prepare(self, payload: bytes, awaited: Awaited) -> tuple[Fact, ...]:
        reader = Reader(payload, 1)
        statement, columns, parameters = reader.integer(4), reader.integer(2), reader.integer(2)
        self._prepared.add(statement, awaited.text, parameters)
        packets = sum(count + self._marks_end for count in (columns, parameters) if count)
        if packets:
            self._define(packets)
        else:
            self._finish()
        return ()

    def _define(self, packets: int) -> None:
        if packets < 1:
            raise ProtocolError("the server announces a result without columns")
        self._phase, self._definitions = _Phase.DEFINITIONS, packets

    def _definition(self, payload: bytes, awaited: Awaited) -> tuple[Fact, ...]:
        self._definitions -= 1
        if self._definitions:
            return ()
        if awaited.answer is Answer.PREPARED:
            self._finish()
            return ()
        self._phase = _Phase.ROWS
        if self._marks_end and answers.parse_eof(payload).status & flags.CURSOR_EXISTS:
            return self._ended(payload, awaited)
        return ()

    def _ended(self, payload: bytes, awaited: Awaited) -> tuple[Fact, ...]:
        end = answers.parse_eof(payload) if self._marks_end else answers.parse_ok(payload)
        if awaited.answer is Answer.COLUMNS:
            self._finish()
            return ()
        return self._result_over(end.status, awaited)

    def _result_over(self, status: int, awaited: Awaited) -> tuple[Fact, ...]:
        if status & flags.MORE_RESULTS:
            self._phase = _Phase.FIRST
            return ()
        self._finish()
        return (Outcome(awaited.rows),)

    def _finish(self) -> None:
        self._queue.popleft()
        if self._queue:
            self._begin()
        else:
            self._phase = _Phase.FIRST


def _failed(payload: bytes, secret: bool) -> Failed:
    said = answers.parse_error(payload)
    return Failed(mask_error(said.message, secret), str(said.code))

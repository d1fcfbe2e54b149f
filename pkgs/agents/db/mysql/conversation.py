"""A MySQL session after its login: packets go through as they are, except for commands that are refused.

A command is judged by its first byte, so that the rest of it need not be there. An answer of ours takes its
turn among the server's.
"""

from __future__ import annotations

from pkgs.agents.db.engine import Fact, Failed, Statement, Step
from pkgs.agents.db.mysql import kills, limits
from pkgs.agents.db.mysql.commands import ANSWERS, REFUSALS, Answer, Told, tell
from pkgs.agents.db.mysql.prepared import Prepared
from pkgs.agents.db.mysql.results import Awaited, Results
from pkgs.agents.db.parts import Parts
from pkgs.common.dbwire.mysql import answers
from pkgs.common.dbwire.mysql.flags import Capability, Command
from pkgs.common.dbwire.mysql.packets import HEADER, Packets, frame
from pkgs.common.errors import ProtocolError


class MysqlConversation:
    def __init__(self, agreed: Capability, threads: kills.Threads = lambda _: None) -> None:
        """`agreed`: the capabilities of both sides' logins. LOCAL_FILES among them lets a server ask for a
        file of the client's. `threads`: of sessions that this one may be asked to end."""
        self._threads = threads
        self._prepared = Prepared()
        self._results = Results(agreed, self._prepared, local_files=bool(agreed & Capability.LOCAL_FILES))
        self._commands = Packets(limits.STATEMENT_KEPT)
        self._answers = Packets(limits.ANSWER_KEPT)
        self._from_client = b""
        """The start of a packet of which more is needed."""
        self._from_server = b""
        self._command: int | None = None
        """Of the message under way; None for one of a file."""
        self._refused = False
        self._awaited: Awaited | None = None
        self._told = True
        """The message under way has been audited."""

    @property
    def busy(self) -> bool:
        """The server is at work on something that the client asked for."""
        return not self._results.idle

    # --- the client

    def from_client(self, data: memoryview) -> Step:
        if self._from_client:
            data, self._from_client = memoryview(self._from_client + bytes(data)), b""
        step = Parts(data)
        packets = self._commands
        pos = began = 0
        while pos < len(data):
            if not packets.inside:
                beginning = packets.between
                if (beginning and kills.is_cut(data, pos)) or not packets.open(data, pos):
                    self._from_client = bytes(data[pos:])
                    step.leave(pos, len(data))
                    break
                if beginning:
                    began = pos
                    self._begin(data[pos + HEADER : pos + HEADER + min(1, packets.left)])
                if self._refused:
                    step.leave(pos, pos + HEADER)
                pos += HEADER
            end = packets.take(data, pos)
            if self._refused:
                step.leave(pos, end)
            pos = end
            if not self._told and (packets.between or len(packets.kept) == limits.STATEMENT_KEPT):
                self._tell(step.facts)
            if not packets.between:
                continue
            if self._command is not None and (right := kills.put_right(packets.kept, self._threads)):
                step.leave(began, pos)
                step.insert(pos, frame(0, right))
            if self._end(step):
                return step.made(over=True)
        return step.made()

    def _begin(self, first: memoryview) -> None:
        """A message of the client begins."""
        if self._results.uploading:
            self._command, self._refused, self._told = None, False, True
            return
        if not first:
            raise ProtocolError("the client sent an empty MySQL packet")
        if self._commands.sequence:
            raise ProtocolError("the client sent a MySQL packet out of order")
        self._command = first[0]
        answer = ANSWERS.get(self._command)
        self._told = self._refused = answer is None
        if answer is not None and answer is not Answer.NOTHING:
            # From the first byte on: a server may answer before it has read all.
            self._awaited = Awaited(answer)
            self._results.expect(self._awaited)

    def _tell(self, facts: list[Fact]) -> None:
        packets = self._commands
        size = packets.size if packets.between else packets.size + 1
        told: Told = tell(bytes(packets.kept), size, self._prepared)
        facts += told.facts
        self._told = True
        if self._awaited is not None:
            self._awaited.text, self._awaited.secret = told.text, told.secret

    def _end(self, step: Parts) -> bool:
        """A message of the client is whole. True when the connection ends with it."""
        if self._command is None:
            if not self._commands.size:
                self._results.uploading = False
            return False
        self._awaited = None
        if not self._refused:
            return False
        name, text = _refusal(self._command)
        step.facts += (Statement(name), Failed(text, str(answers.NOT_SUPPORTED[0])))
        said = frame(self._commands.sequence + 1, answers.error(answers.NOT_SUPPORTED, text))
        if self._results.idle:
            step.back += said
        else:
            self._results.expect(Awaited(Answer.ONE, ours=said))
        return self._command == Command.CHANGE_USER

    # --- the server

    def from_server(self, data: memoryview) -> Step:
        if self._from_server:
            data, self._from_server = memoryview(self._from_server + bytes(data)), b""
        step = Parts(data)
        packets, results = self._answers, self._results
        pos = 0
        while pos < len(data):
            if not packets.inside:
                if results.in_rows and packets.between:
                    rows, pos = packets.rows(data, pos)
                    results.count(rows)
                if not packets.open(data, pos):
                    self._from_server = bytes(data[pos:])
                    step.leave(pos, len(data))
                    break
                pos += HEADER
            pos = packets.take(data, pos)
            if packets.between:
                step.facts += results.packet(bytes(packets.kept), packets.size)
                if ours := results.ours():
                    step.insert(pos, ours)
        return step.made()

    def refusal(self, text: str) -> bytes:
        if not self._answers.between or self._from_server:
            return b""
        # A client that waits for nothing takes it as the answer to its next command.
        sequence = 1 if self._results.idle else self._answers.sequence + 1
        return frame(sequence, answers.error(answers.UNKNOWN_ERROR, text))


def _refusal(command: int) -> tuple[str, str]:
    """The command's name, and the text for the client."""
    if command == Command.CHANGE_USER:
        return "COM_CHANGE_USER", "the user can't be changed within a session; log in anew"
    known = command in REFUSALS
    name = f"COM_{Command(command).name}" if known else f"command 0x{command:02x} of MySQL's protocol"
    what = f" ({REFUSALS[Command(command)]})" if known else ""
    return name, f"{name}{what} is not served here"

"""What a client has asked and the server has not answered yet, in order.

The server answers in the order of the questions, with two exceptions that are all of this file's difficulty:
after an error in the extended protocol it skips everything until the next Sync, and while it takes COPY data
it passes over Sync and Flush (PostgreSQL manual, "Message Flow").

Where columns are masked, rows that are taken for others would show what is hidden. There the ledger is
`strict`: an answer that is not to the question at its head ends the session, and so does a client that leaves
open which of its questions the server has read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeVar

from pkgs.agents.db.postgres import limits
from pkgs.agents.db.postgres.masking import Plan
from pkgs.common.dbwire.postgres import backend, frontend
from pkgs.common.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Refusal:
    """Ours, in the place of the server's error."""

    text: str
    code: str
    """SQLSTATE."""
    hint: str = ""

    def encode(self) -> bytes:
        return backend.error(self.text, self.code, hint=self.hint)


@dataclass(slots=True)
class Answer:
    """Rows of one portal or of one statement of a simple query, as far as they have come."""

    plan: Plan | None = None
    """What is masked in them; None before they were described."""
    rows: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Due:
    """One answer that is outstanding."""

    kind: int
    """Of the client's message."""
    statement: bytes = b""
    """That a Describe names."""
    answer: Answer | None = None
    refusal: Refusal | None = None
    """The server was given something that it can only refuse; this is what the client reads."""
    ours: bool = False
    """The client did not ask it, and does not see the answer."""
    synced: bool = False
    """It takes COPY data, and has passed over a Sync."""


V = TypeVar("V")
_UNTIL_READY = (frontend.SYNC, frontend.QUERY, frontend.FUNCTION_CALL)
"""Their answers end with the point of rest; an error in one of them skips nothing."""
_IN_QUERIES = frozenset((frontend.DESCRIBE, frontend.EXECUTE))
"""A simple query is answered as these are, too."""


class Ledger:
    __slots__ = ("_answers", "_due", "_strict", "_types", "copying_in", "skipping")

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._due: deque[Due] = deque()
        self._types: dict[bytes, tuple[int, ...]] = {}
        self._answers: dict[bytes, Answer] = {}
        self.skipping = False
        """The server passes over everything until a Sync that has not been sent yet."""
        self.copying_in = False

    @property
    def busy(self) -> bool:
        return bool(self._due)

    @property
    def long(self) -> bool:
        """So long that the client should wait."""
        return len(self._due) >= limits.DUE_HELD

    @property
    def head(self) -> Due | None:
        """What the server answers now."""
        return self._due[0] if self._due else None

    # --- the client's side

    def ask(self, due: Due) -> None:
        if self.skipping:
            return
        self._insist(not self.copying_in)
        if len(self._due) >= limits.DUE_MAX:
            raise ProtocolError(f"more than {limits.DUE_MAX} answers are outstanding")
        self._due.append(due)

    def sync(self) -> None:
        if self.copying_in:
            self._insist(False)
            return
        self.skipping = False
        self.ask(Due(frontend.SYNC))

    def copied(self) -> None:
        """The client's COPY data ends; perhaps before the server has said that it takes some."""
        if self.copying_in:
            self.copying_in = False
        elif self._due:
            self.ask(Due(frontend.COPY_DONE))

    # --- the server's side

    def answered(self, *kinds: int) -> Due | None:
        """The question that this answers, if it is one of these kinds; it is done then."""
        if self._due and self._due[0].kind in kinds:
            found = self._due.popleft()
            self._settle()
            return found
        in_query = self._due and self._due[0].kind == frontend.QUERY and not _IN_QUERIES.isdisjoint(kinds)
        self._insist(bool(in_query))
        return None

    def failed(self) -> Due | None:
        """An error: the question that it answers, and nothing else until the next point of rest."""
        self.copying_in = False
        found = self.head
        if found is None:
            return None
        # Had it not read the Sync yet, it would not pass over it now.
        self._insist(not found.synced)
        if found.kind not in _UNTIL_READY:
            while self._due and self._due[0].kind != frontend.SYNC:
                self._due.popleft()
            self.skipping = not self._due
        return found

    def ready(self) -> None:
        """The server waits for the next question."""
        self.copying_in = False
        self._insist(bool(self._due) and self._due[0].kind in _UNTIL_READY)
        while self._due and self._due.popleft().kind not in _UNTIL_READY:
            pass
        self._settle()

    def copy_in_began(self) -> None:
        self.copying_in = True
        if not self._due:
            return
        while len(self._due) > 1 and self._due[1].kind == frontend.SYNC:
            del self._due[1]
            self._due[0].synced = True
        if len(self._due) > 1:
            self._insist(self._due[1].kind == frontend.COPY_DONE)
            if self._due[1].kind == frontend.COPY_DONE:
                del self._due[1]
                self.copying_in = False

    def _settle(self) -> None:
        """The end of COPY data that the server did not ask for has no answer."""
        while self._due and self._due[0].kind == frontend.COPY_DONE:
            self._due.popleft()

    def _insist(self, in_step: bool) -> None:
        if self._strict and not in_step:
            raise ProtocolError(
                "what the client and the server said cannot be brought together",
                hint="columns are hidden from this session, which asks for clients in strict order",
            )

    # --- what names stand for

    def types(self, statement: bytes) -> tuple[int, ...]:
        """Oids of a prepared statement's parameters, as far as they are known."""
        return self._types.get(statement[: limits.NAME_KEPT], ())

    def learn(self, statement: bytes, types: tuple[int, ...]) -> None:
        _remember(self._types, statement, types[: limits.PARAMETERS_KEPT], limits.STATEMENTS_KEPT)

    def bind(self, portal: bytes) -> None:
        _remember(self._answers, portal, Answer(), limits.PORTALS_KEPT)

    def answer(self, portal: bytes) -> Answer:
        """Of a portal; a new one for a portal that we do not know, as of a cursor made by a statement."""
        found = self._answers.get(portal[: limits.NAME_KEPT])
        if found is None:
            found = Answer()
            _remember(self._answers, portal, found, limits.PORTALS_KEPT)
        return found

    def close(self, what: int, name: bytes) -> None:
        known: dict[bytes, tuple[int, ...]] | dict[bytes, Answer]
        known = self._types if what == frontend.STATEMENT else self._answers
        known.pop(name[: limits.NAME_KEPT], None)


def _remember(known: dict[bytes, V], name: bytes, value: V, most: int) -> None:
    """The oldest is forgotten."""
    key = name[: limits.NAME_KEPT]
    known.pop(key, None)
    if len(known) >= most:
        del known[next(iter(known))]
    known[key] = value

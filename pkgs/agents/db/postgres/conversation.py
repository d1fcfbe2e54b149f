"""A session with PostgreSQL after its login: what is audited, refused, masked and counted.

Messages go on as they are. Where one must be refused, the server is given in its place something that it
can only refuse (`REFUSED`, which is no SQL), and its error is replaced by ours on the way back. So the order
of answers, the skipping after an error and the state of the transaction stay the server's own, and no answer
of ours ever has to be fitted in.

An answer that grows over a limit ends with an error of ours; a cancel request is asked for, and what the
server still says up to its next rest is dropped, but for what it may say at any time.
"""

from __future__ import annotations

from collections.abc import Callable

from pkgs.agents.db.engine import Fact, Failed, Outcome, Step
from pkgs.agents.db.postgres import limits, masking, readonly, telling
from pkgs.agents.db.postgres.ledger import Answer, Due, Ledger, Refusal
from pkgs.agents.db.postgres.masking import Masking
from pkgs.agents.db.postgres.secrets import mask_data
from pkgs.agents.db.postgres.sql import UNSAFE_ENCODINGS
from pkgs.common.dbwire.postgres import backend, frontend
from pkgs.common.dbwire.postgres.frames import Frames
from pkgs.common.dbwire.postgres.frontend import FunctionCall, Named, Parse, Values
from pkgs.common.errors import ProtocolError
from pkgs.common.resources.role import DbConditions

REFUSED = b"refused"
"""A text that no server takes for SQL, whatever is installed in it."""
NO_FUNCTION = FunctionCall(0, Values((), ()))

_ROWS = b"Dd"
"""DataRow and CopyData."""
_ANY_TIME = frozenset((backend.NOTICE, backend.NOTIFICATION, backend.PARAMETER_STATUS, backend.READY))
"""What the client is told even while the rest of an answer is dropped."""

READ_ONLY = "25006"
TOO_LARGE = "54000"
TOO_MUCH = "53400"
NOT_ALLOWED = "42501"
ENDED = "57P01"

Said = bytes | memoryview | None
"""What goes on instead of a message: itself, another, or nothing."""


def _nothing() -> None:
    pass


class PostgresConversation:
    """See `Conversation`. `cancel` is called when the server should stop what it does for this session."""

    def __init__(
        self, policy: DbConditions, masks: Masking | None = None, cancel: Callable[[], None] = _nothing
    ) -> None:
        self._policy = policy
        self._masks = masks
        self._cancel = cancel
        self._ledger = Ledger(strict=masks is not None)
        self._judging = policy.read_only or masks is not None
        self._counting = bool(policy.rows_max or policy.bytes_max)
        self._looking_at_rows = self._counting or masks is not None
        self._up = Frames(frontend.KINDS, b"d", limits.HELD_MAX)
        self._quiet = b"" if self._looking_at_rows else _ROWS
        self._down = Frames(
            backend.KINDS, self._quiet, limits.ROW_HELD_MAX if masks is not None else limits.HELD_MAX
        )
        self._facts: list[Fact] = []
        self._back = b""
        self._over = False
        self._boundary = True
        self._described: Answer | None = None
        """Of the portal that the client's last message asked to describe."""
        self.stopping = False
        """An answer went over its limit, and the server has not come to rest since."""
        self._client: dict[int, Callable[[memoryview, int], Said]] = {
            frontend.QUERY: self._query,
            frontend.PARSE: self._parse,
            frontend.BIND: self._bind,
            frontend.DESCRIBE: self._describe,
            frontend.EXECUTE: self._execute,
            frontend.CLOSE: self._close,
            frontend.SYNC: self._sync,
            frontend.FLUSH: _pass,
            frontend.FUNCTION_CALL: self._function,
            frontend.COPY_DONE: self._copied,
            frontend.COPY_FAIL: self._copied,
            frontend.TERMINATE: self._terminate,
            frontend.PASSWORD: _unasked,
        }
        self._server: dict[int, Callable[[memoryview, int], Said]] = {
            backend.PARSE_COMPLETE: self._answered(frontend.PARSE),
            backend.BIND_COMPLETE: self._answered(frontend.BIND),
            backend.CLOSE_COMPLETE: self._answered(frontend.CLOSE),
            backend.EMPTY_QUERY: self._answered(frontend.EXECUTE),
            backend.SUSPENDED: self._answered(frontend.EXECUTE),
            backend.FUNCTION_RESULT: _pass,
            backend.NO_DATA: self._no_data,
            backend.PARAMETER_DESCRIPTION: self._parameters,
            backend.ROW_DESCRIPTION: self._columns,
            backend.DATA_ROW: self._row,
            backend.COMMAND_COMPLETE: self._complete,
            backend.ERROR: self._error,
            backend.NOTICE: self._notice,
            backend.NOTIFICATION: _pass,
            backend.PARAMETER_STATUS: self._setting,
            backend.READY: self._ready,
            backend.COPY_IN: self._copy_in,
            backend.COPY_OUT: self._copy_out,
            backend.COPY_DATA: self._row,
            backend.COPY_DONE: _pass,
            backend.COPY_BOTH: _unasked,
            backend.AUTHENTICATION: _unasked,
            backend.KEY_DATA: _unasked,
            backend.NEGOTIATE: _unasked,
        }

    @property
    def busy(self) -> bool:
        """Whether the server has something to answer."""
        return self._ledger.busy

    def from_client(self, data: memoryview) -> Step:
        facts: list[Fact] = []
        self._facts = facts
        parts: list[bytes | memoryview] = []
        for kind, raw, rest in self._up.feed(data):
            said = self._client[kind](raw, rest) if kind else raw
            if kind != frontend.DESCRIBE:
                self._described = None
            if said is not None:
                parts.append(said)
            if self._over:
                break
        return Step(_joined(parts), facts=facts, over=self._over, hold=self._ledger.long)

    def from_server(self, data: memoryview) -> Step:
        facts: list[Fact] = []
        self._facts = facts
        self._back = b""
        parts: list[bytes | memoryview] = []
        for kind, raw, rest in self._down.feed(data):
            if not kind:
                if not self.stopping:
                    parts.append(raw)
                continue
            dropping = self.stopping and (rest > 0 or kind not in _ANY_TIME)
            said = self._server[kind](raw, rest)
            if said is None or dropping:
                self._down.drop_rest()
            else:
                parts.append(said)
            if self._over:
                break
        self._boundary = self.stopping or not self._down.midway
        return Step(_joined(parts), self._back, facts, self._over)

    def refusal(self, text: str) -> bytes:
        return backend.error(text, ENDED, severity="FATAL") if self._boundary else b""

    # --- what the client says

    def _query(self, raw: memoryview, rest: int) -> Said:
        text = frontend.parse_query(raw, rest)
        self._facts.append(telling.statement(text, cut=rest > 0))
        refusal = self._judge(text, rest)
        answer = Answer() if self._looking_at_rows else None
        self._ledger.ask(Due(frontend.QUERY, answer=answer, refusal=refusal))
        return self._instead(frontend.query(REFUSED)) if refusal else raw

    def _parse(self, raw: memoryview, rest: int) -> Said:
        parsed = frontend.parse_parse(raw, rest)
        self._facts.append(telling.parse(parsed))
        refusal = self._judge(parsed.text, rest)
        self._ledger.learn(parsed.name, parsed.types)
        self._ledger.ask(Due(frontend.PARSE, refusal=refusal))
        return self._instead(Parse(parsed.name, REFUSED).encode()) if refusal else raw

    def _bind(self, raw: memoryview, rest: int) -> Said:
        bound = frontend.parse_bind(raw, rest)
        self._facts.append(telling.bind(bound, self._ledger.types(bound.statement)))
        if self._looking_at_rows:
            self._ledger.bind(bound.portal)
        self._ledger.ask(Due(frontend.BIND))
        return raw

    def _describe(self, raw: memoryview, rest: int) -> Said:
        named = frontend.parse_named(raw, rest)
        due = Due(frontend.DESCRIBE, named.name if named.what == frontend.STATEMENT else b"")
        if named.what == frontend.PORTAL and self._looking_at_rows:
            due.answer = self._described = self._ledger.answer(named.name)
        self._ledger.ask(due)
        return raw

    def _execute(self, raw: memoryview, rest: int) -> Said:
        portal = frontend.parse_execute(raw, rest)
        self._facts.append(telling.execute(portal))
        due = Due(frontend.EXECUTE)
        said: Said = raw
        if self._looking_at_rows:
            due.answer = answer = self._ledger.answer(portal)
            if self._masks is not None and answer is not self._described:
                # Whoever does not ask what the columns are is asked for: without it no row may pass. What was
                # said a moment ago does not count, for a portal may be another's by now.
                self._ledger.ask(Due(frontend.DESCRIBE, answer=answer, ours=True))
                said = Named(frontend.PORTAL, portal).encode(b"D") + bytes(raw)
        self._ledger.ask(due)
        return said

    def _close(self, raw: memoryview, rest: int) -> Said:
        named = frontend.parse_named(raw, rest)
        self._facts.append(telling.close(named))
        self._ledger.close(named.what, named.name)
        self._ledger.ask(Due(frontend.CLOSE))
        return raw

    def _sync(self, raw: memoryview, rest: int) -> Said:
        self._ledger.sync()
        return raw

    def _function(self, raw: memoryview, rest: int) -> Said:
        self._facts.append(telling.function(frontend.parse_function_call(raw, rest)))
        refusal = None
        if self._judging:
            refusal = Refusal(
                "this session may not call functions by their number", NOT_ALLOWED, "use SELECT"
            )
        self._ledger.ask(Due(frontend.FUNCTION_CALL, refusal=refusal))
        return self._instead(NO_FUNCTION.encode()) if refusal else raw

    def _copied(self, raw: memoryview, rest: int) -> Said:
        self._ledger.copied()
        return raw

    def _terminate(self, raw: memoryview, rest: int) -> Said:
        self._over = True
        return raw

    def _judge(self, text: bytes, rest: int) -> Refusal | None:
        if len(text) + rest > limits.TEXT_MAX:
            return Refusal(f"the statement is longer than {limits.TEXT_MAX >> 20} MiB", TOO_LARGE)
        if not self._judging:
            return None
        if len(text) + rest > limits.JUDGED_MAX:
            return Refusal(
                f"this session may not send statements longer than {limits.JUDGED_MAX >> 10} KiB",
                TOO_LARGE,
                "pass long values as parameters",
            )
        if self._policy.read_only and (why := readonly.refusal(text)):
            return Refusal(f"this session may only read: {why}", READ_ONLY)
        if self._masks is not None and (why := masking.refusal(text)):
            return Refusal(f"columns are hidden from this session: {why}", NOT_ALLOWED)
        return None

    def _instead(self, message: bytes) -> bytes:
        self._up.drop_rest()
        return message

    # --- what the server says

    def _answered(self, *kinds: int) -> Callable[[memoryview, int], Said]:
        def answered(raw: memoryview, rest: int) -> Said:
            self._ledger.answered(*kinds)
            return raw

        return answered

    def _no_data(self, raw: memoryview, rest: int) -> Said:
        due = self._ledger.answered(frontend.DESCRIBE)
        return None if due is not None and due.ours else raw

    def _parameters(self, raw: memoryview, rest: int) -> Said:
        due = self._ledger.head
        if due is not None and due.kind == frontend.DESCRIBE and not rest:
            self._ledger.learn(due.statement, backend.parse_parameter_description(raw))
        return raw

    def _columns(self, raw: memoryview, rest: int) -> Said:
        due = self._ledger.answered(frontend.DESCRIBE) or self._ledger.head
        if self._masks is None or due is None:
            return raw
        if rest:
            raise ProtocolError("the server described more columns than can be looked at")
        if due.answer is not None:
            due.answer.plan = self._masks.plan(backend.parse_row_description(raw))
        return None if due.ours else raw

    def _row(self, raw: memoryview, rest: int) -> Said:
        """Only when rows are looked at; COPY data counts as rows too."""
        due = self._ledger.head
        answer = due.answer if due is not None and due.kind != frontend.DESCRIBE else None
        if answer is None:
            raise ProtocolError("the server sent rows that nobody asked for")
        answer.rows += 1
        answer.bytes += len(raw) + rest
        rows_max, bytes_max = self._policy.rows_max, self._policy.bytes_max
        if rows_max and answer.rows > rows_max:
            return self._stop(Refusal(f"the answer has more than {rows_max} rows", TOO_MUCH, "ask for less"))
        if bytes_max and answer.bytes > bytes_max:
            return self._stop(
                Refusal(f"the answer has more than {bytes_max} bytes", TOO_MUCH, "ask for less")
            )
        if self._masks is None:
            return raw
        if answer.plan is None:
            raise ProtocolError("the server sent rows without saying of which columns")
        if rest:
            return self._stop(
                Refusal("a row is too long for hiding columns of it", TOO_LARGE, "ask for less")
            )
        return answer.plan.apply(raw)

    def _stop(self, refusal: Refusal) -> Said:
        self.stopping = True
        self._down.drop_rest()
        self._down.step_over(_ROWS)
        self._facts += (Failed(refusal.text, refusal.code), Outcome(0, success=False))
        self._cancel()
        return refusal.encode()

    def _complete(self, raw: memoryview, rest: int) -> Said:
        due = self._ledger.answered(frontend.EXECUTE) or self._ledger.head
        if due is not None and due.kind == frontend.QUERY and due.answer is not None:
            # What follows is of the next statement in the same text.
            due.answer = Answer()
        if not self.stopping:
            self._facts.append(Outcome(backend.parse_command_complete(raw)))
        return raw

    def _error(self, raw: memoryview, rest: int) -> Said:
        report = backend.parse_report(raw, rest)
        due = self._ledger.failed()
        if self.stopping:
            return None
        if due is not None and due.refusal is not None:
            refusal, due.refusal = due.refusal, None
            self._facts += (Failed(refusal.text, refusal.code), Outcome(0, success=False))
            self._down.drop_rest()
            return refusal.encode()
        if due is not None:
            message = mask_data(report.get("M")[: limits.TEXT_KEPT])
            self._facts += (Failed(message, report.get("C")), Outcome(0, success=False))
        return self._without_values(raw, rest, report, b"E")

    def _notice(self, raw: memoryview, rest: int) -> Said:
        if self._masks is None:
            return raw
        return self._without_values(raw, rest, backend.parse_report(raw, rest), b"N")

    def _without_values(self, raw: memoryview, rest: int, report: backend.Report, kind: bytes) -> Said:
        if self._masks is None:
            return raw
        self._down.drop_rest()
        return masking.without_values(report).encode(kind)

    def _setting(self, raw: memoryview, rest: int) -> Said:
        if self._policy.read_only and not rest:
            why = broken_promise(*backend.parse_parameter_status(raw))
            if why:
                self._over = True
                self._facts += (Failed(why, READ_ONLY), Outcome(0, success=False))
                return backend.error(why, READ_ONLY, severity="FATAL")
        return raw

    def _ready(self, raw: memoryview, rest: int) -> Said:
        backend.parse_ready(raw)
        self._ledger.ready()
        if self.stopping:
            self.stopping = False
            self._down.step_over(self._quiet)
        return raw

    def _copy_in(self, raw: memoryview, rest: int) -> Said:
        if self.stopping:
            self._back += frontend.copy_fail("the answer was too large")
        else:
            self._ledger.copy_in_began()
        return raw

    def _copy_out(self, raw: memoryview, rest: int) -> Said:
        if self._masks is not None and not self.stopping:
            return self._stop(Refusal("columns are hidden from this session: no COPY TO", NOT_ALLOWED))
        return raw


def broken_promise(name: str, value: str) -> str:
    """Why a session that may only read must end when the server reports this; empty if it need not."""
    if name == readonly.SETTING and value != "on":
        return "this session may only read, and something has made it able to write"
    if name == "standard_conforming_strings" and value != "on":
        return "this session may only read, and needs standard_conforming_strings for that"
    if name == "client_encoding" and value.upper() in UNSAFE_ENCODINGS:
        return f"this session may only read, and its statements cannot be judged in {value}"
    return ""


def _pass(raw: memoryview, rest: int) -> Said:
    return raw


def _unasked(raw: memoryview, rest: int) -> Said:
    raise ProtocolError("a message of PostgreSQL's protocol came where there is no place for it")


def _joined(parts: list[bytes | memoryview]) -> bytes | memoryview:
    return parts[0] if len(parts) == 1 else b"".join(parts)

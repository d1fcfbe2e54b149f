"""Sessions with PostgreSQL as scripts: who says what, what goes on, what is told."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.engine import Detail, Fact, Failed, Outcome, Statement
from pkgs.agents.db.postgres import limits
from pkgs.agents.db.postgres.conversation import REFUSED, PostgresConversation
from pkgs.agents.db.postgres.masking import Masking
from pkgs.common.dbwire.postgres import backend, frontend, values
from pkgs.common.dbwire.postgres.backend import Column, Report
from pkgs.common.dbwire.postgres.fields import int16, int32, message
from pkgs.common.dbwire.postgres.frontend import Bind, FunctionCall, Named, Parse, Values
from pkgs.common.errors import ProtocolError
from pkgs.common.resources.role import UNRESTRICTED, DbConditions, DbMask

READY = backend.ready()
SYNC = frontend.sync()
PARSED, BOUND, CLOSED, NO_DATA = (message(kind) for kind in (b"1", b"2", b"3", b"n"))
EXECUTE = frontend.execute()
DESCRIBE = Named(frontend.PORTAL, b"").encode(b"D")
ERROR = Report(((ord("S"), b"ERROR"), (ord("C"), b"42601"), (ord("M"), b"syntax error"))).encode()
NOTHING = Values((), ())
RULES = (DbMask(column="email", table="customers"), DbMask(column="balance"))
CUSTOMERS, OTHER, LATER = 500, 501, 9000
CATALOG = [
    (b"500", b"3", b"0"),
    (b"500", b"5", b"1"),
    (b"1000", None, None),
]


class Talk:
    """A session under way."""

    def __init__(self, policy: DbConditions = UNRESTRICTED) -> None:
        masks = None
        if policy.mask:
            masks = Masking(policy.mask, computed=policy.mask_computed, catalog=CATALOG)
        self.cancels = 0
        self.session = PostgresConversation(policy, masks, self._cancel)
        self.facts: list[Fact] = []
        self.back = b""
        self.over = False

    def _cancel(self) -> None:
        self.cancels += 1

    def client(self, *said: bytes) -> bytes:
        """What the server gets."""
        step = self.session.from_client(memoryview(b"".join(said)))
        assert not step.back
        self.facts += step.facts
        self.over = step.over
        return bytes(step.onward)

    def server(self, *said: bytes) -> bytes:
        """What the client gets."""
        step = self.session.from_server(memoryview(b"".join(said)))
        self.back = step.back
        self.facts += step.facts
        self.over = step.over
        return bytes(step.onward)

    def told(self) -> list[Fact]:
        facts, self.facts = self.facts, []
        return facts

    def passes(self, *said: bytes) -> None:
        assert self.client(*said) == b"".join(said)

    def answers(self, *said: bytes) -> None:
        assert self.server(*said) == b"".join(said)


def rows(count: int) -> list[bytes]:
    return [backend.data_row([b"%d" % index]) for index in range(count)]


def columns(*described: tuple[bytes, int, int, int]) -> bytes:
    return backend.row_description(
        tuple(Column(name, table, attribute, kind, 0, 0, 0) for name, table, attribute, kind in described)
    )


ONE_COLUMN = columns((b"n", 0, 0, values.INT4))


# --- audit


def test_a_query_and_its_outcome() -> None:
    talk = Talk()
    talk.passes(frontend.query("SELECT 1"))
    assert talk.session.busy
    talk.answers(ONE_COLUMN, *rows(2), backend.command_complete("SELECT 2"), READY)
    assert not talk.session.busy
    assert talk.told() == [Statement("SELECT 1"), Outcome(2)]


def test_the_extended_protocol_is_told_as_it_is() -> None:
    talk = Talk()
    parsed = Parse(b"s1", b"SELECT $1, $2, $3", (0, 0, values.INT4))
    talk.passes(parsed.encode(), Named(frontend.STATEMENT, b"s1").encode(b"D"), SYNC)
    types = (values.INT4, values.TEXT, values.INT4)
    talk.answers(PARSED, message(b"t", int16(3), *map(int32, types)), ONE_COLUMN, READY)
    bound = Bind(b"p", b"s1", Values((1,), (int32(7), b"abc", None)), ())
    talk.passes(bound.encode(), frontend.execute(b"p"), Named(frontend.PORTAL, b"p").encode(b"C"), SYNC)
    talk.answers(BOUND, *rows(1), backend.command_complete("SELECT 1"), CLOSED, READY)
    assert talk.told() == [
        Detail("postgres.statements.parse", (("statement_name", "s1"), ("query", "SELECT $1, $2, $3"))),
        Detail(
            "postgres.statements.bind",
            (("portal_name", "p"), ("statement_name", "s1"), ("parameters", ("7", "abc", "NULL"))),
        ),
        Detail("postgres.statements.execute", (("portal_name", "p"),)),
        Detail("postgres.statements.close", (("portal_name", "p"),)),
        Outcome(1),
    ]


def test_parameters_of_unknown_type_are_hexadecimal_and_long_ones_cut() -> None:
    talk = Talk()
    long = b"x" * (limits.PARAMETER_KEPT + 1)
    talk.passes(Bind(b"", b"s", Values((0, 1, 0), (b"text", b"\0\1", long)), ()).encode())
    many = Values((), (b"y",) * (limits.PARAMETERS_KEPT + 1))
    talk.passes(Bind(b"", b"s", many, ()).encode())
    first, second = (dict(fact.fields)["parameters"] for fact in talk.told() if isinstance(fact, Detail))
    assert first == ("text", "\\x0001", "x" * limits.PARAMETER_KEPT + "… [cut]")
    assert isinstance(second, tuple) and len(second) == limits.PARAMETERS_KEPT + 1
    assert second[-1] == "… [cut]"


def test_function_calls_and_failures_are_told() -> None:
    talk = Talk()
    talk.passes(FunctionCall(2026, Values((), (b"5",))).encode())
    talk.answers(message(b"V", int32(1), b"t"), READY)
    talk.passes(frontend.query("nonsense"))
    talk.answers(ERROR, READY)
    assert talk.told() == [
        Detail("postgres.function", (("function_oid", 2026), ("function_args", ("5",)))),
        Statement("nonsense"),
        Failed("syntax error", "42601"),
        Outcome(0, success=False),
    ]


def test_long_statements_are_cut_for_the_audit_and_pass() -> None:
    talk = Talk()
    for length in (2 * limits.TEXT_KEPT, 2 * limits.HELD_MAX):
        talk.passes(frontend.query("SELECT '" + "x" * length + "'"))
        (fact,) = talk.told()
        assert isinstance(fact, Statement) and fact.cut and len(fact.text) <= limits.TEXT_KEPT


def test_as_many_parameters_as_there_may_be() -> None:
    talk = Talk()
    bound = Bind(b"", b"s", Values((1,) * 65535, (b"0123456789",) * 65535))
    talk.passes(bound.encode())
    (fact,) = talk.told()
    assert isinstance(fact, Detail)


# --- what is refused


def test_a_gigabyte_of_statement_is_refused_and_the_session_goes_on() -> None:
    talk = Talk()
    length = 1 << 30
    assert talk.client(b"Q" + int32(length)) == b""
    assert talk.client(b"x" * limits.HELD_MAX) == frontend.query(REFUSED)
    left = length + 1 - 5 - limits.HELD_MAX
    chunk = bytes(1 << 20)
    while left:
        assert talk.client(chunk[:left]) == b""
        left -= len(chunk[:left])
    answer = talk.server(ERROR, READY)
    assert b"longer than 256 MiB" in answer and answer.endswith(READY)
    talk.passes(frontend.query("SELECT 1"))
    assert [fact.code for fact in talk.told() if isinstance(fact, Failed)] == ["54000"]


def test_a_refusal_keeps_its_place_among_pipelined_answers() -> None:
    talk = Talk(DbConditions(read_only=True))
    sent = talk.client(
        frontend.query("SELECT 1"), frontend.query("DELETE FROM t"), frontend.query("SELECT 2")
    )
    assert sent == frontend.query("SELECT 1") + frontend.query(REFUSED) + frontend.query("SELECT 2")
    first = backend.command_complete("SELECT 1") + READY
    talk.answers(first)
    answer = talk.server(ERROR, READY)
    report = backend.parse_report(memoryview(answer[: -len(READY)]))
    assert report.get("C") == "25006" and "may only read: DELETE" in report.get("M")
    talk.answers(first)


def test_a_refused_parse_is_skipped_up_to_sync_like_any_error() -> None:
    talk = Talk(DbConditions(read_only=True))
    bad = Parse(b"", b"DROP TABLE t")
    good = Parse(b"", b"SELECT 1").encode() + Bind(b"", b"", NOTHING).encode() + EXECUTE
    sent = talk.client(bad.encode(), good, SYNC, good, SYNC)
    assert sent == Parse(b"", REFUSED).encode() + good + SYNC + good + SYNC
    assert b"may only read" in talk.server(ERROR)
    talk.answers(READY)
    talk.answers(PARSED, BOUND, backend.command_complete("SELECT 1"), READY)
    assert not talk.session.busy


def test_messages_after_an_error_do_not_count_until_sync() -> None:
    talk = Talk()
    talk.client(Parse(b"", b"bad").encode())
    talk.answers(ERROR)
    # The server reads over all of this, the query as well.
    talk.passes(Bind(b"", b"", NOTHING).encode(), EXECUTE, frontend.query("SELECT 1"), SYNC)
    talk.answers(READY)
    assert not talk.session.busy


READS = (
    "SELECT 1",
    " ( SELECT 1 ) UNION (SELECT 2);",
    "-- a comment\n/* and /* one */ more */ TABLE t",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "BEGIN",
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET search_path = 'x'",
    "SET client_encoding TO 'UTF8'",
    "COPY t TO STDOUT",
    "COPY (SELECT 1) TO STDOUT WITH (FORMAT csv)",
    "SELECT pg_catalog.set_config('search_path', '', false)",
    "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings"
    " WHERE name = 'restrict_nonsystem_relation_kind'",
    "SELECT 'it''s; DROP TABLE t', $$; DROP TABLE t$$, $a$ $$ $a$, E'\\'; DROP TABLE t', \"a;b\"",
    "SELECT a$b$c$d FROM t",
    "",
    ";;",
    "SELECT 1; SELECT 2",
    "DISCARD ALL",
    "LOCK TABLE t IN ACCESS SHARE MODE",
    "EXPLAIN ANALYZE SELECT 1",
)
WRITES = (
    "INSERT INTO t VALUES (1)",
    "SELECT 1; DROP TABLE t",
    "SELECT 1; COMMIT; DROP TABLE t",
    "SELECT 1; COMMIT",
    "BEGIN READ WRITE",
    "begin transaction isolation level serializable, read/**/write",
    "START TRANSACTION READ WRITE",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    'SET "default_transaction_read_only" TO off',
    "SET LOCAL Transaction_Read_Only = off",
    "RESET transaction_read_only",
    "SET standard_conforming_strings = off",
    "SET client_encoding = 'SJIS'",
    "SET NAMES 'BIG5'",
    "SELECT set_config('default_transaction_read_only', 'off', false)",
    "SELECT set_config('DEFAULT_transaction_read_only', 'off', false)",
    "SELECT set_config('default_' || 'transaction_read_only', 'off', false)",
    "SELECT set_config('default_'\n'transaction_read_only', 'off', false)",
    "SELECT set_config($1, 'off', false)",
    "SELECT set_config(E'x', 'off', false)",
    "SELECT \"set_config\"('transaction_read_only', 'off', false)",
    "SELECT U&\"set\\005fconfig\"('default_transaction_read_only', 'off', false)",
    "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'default_transaction_read_only'",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'default_transaction_read_only'",
    "DO $$ BEGIN SET default_transaction_read_only = off; END $$",
    "CALL p()",
    "PREPARE TRANSACTION 'x'",
    "COMMIT PREPARED 'x'",
    "ROLLBACK /**/ PREPARED 'x'",
    "COPY t FROM STDIN",
    "COPY t TO PROGRAM 'sh'",
    "COPY t TO '/tmp/x'",
    "SELECT query_to_xml('x', true, true, '')",
    "SELECT lo_unlink(5)",
    "SELECT dblink_exec('', 'DROP TABLE t')",
    "SELECT 'never ends",
    "SELECT /* never ends",
    "SELECT $a$ never ends $b$",
    "EXPLAIN SELECT 1; VACUUM",
    "ALTER ROLE alice SET default_transaction_read_only = off",
    # A backslash before the quote: one literal, or one and a command behind it.
    "SELECT 'a\\'; DROP TABLE t; --'",
    "SELECT 1E'\\'; DROP TABLE t; --'; DROP TABLE t",
)


@pytest.mark.parametrize("text", READS)
def test_what_reads_may_be_sent_in_a_session_that_may_only_read(text: str) -> None:
    Talk(DbConditions(read_only=True)).passes(frontend.query(text), Parse(b"", text.encode()).encode())


@pytest.mark.parametrize("text", WRITES)
def test_what_may_write_or_lead_there_is_refused(text: str) -> None:
    talk = Talk(DbConditions(read_only=True))
    assert talk.client(frontend.query(text)) == frontend.query(REFUSED)
    assert talk.client(Parse(b"", text.encode()).encode()) == Parse(b"", REFUSED).encode()


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.lists(st.sampled_from((*"'\"$\\;-/*E \n", "U&", "$a$", "SELECT 1", "set_config")), max_size=30))
def test_any_text_is_judged_somehow(parts: list[str]) -> None:
    talk = Talk(DbConditions(read_only=True))
    query = frontend.query("".join(parts))
    assert talk.client(query) in (query, frontend.query(REFUSED))


def test_calls_by_number_and_long_statements_are_refused_where_they_cannot_be_judged() -> None:
    talk = Talk(DbConditions(read_only=True))
    assert talk.client(FunctionCall(2077, NOTHING).encode()) == FunctionCall(0, NOTHING).encode()
    assert b"not call functions" in talk.server(ERROR, READY)
    assert talk.client(frontend.query(b"SELECT " + b"1," * limits.JUDGED_MAX)) == frontend.query(REFUSED)
    assert b"longer than 64 KiB" in talk.server(ERROR, READY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("default_transaction_read_only", "off"),
        ("standard_conforming_strings", "off"),
        ("client_encoding", "SJIS"),
    ],
)
def test_a_session_that_has_become_able_to_write_ends(name: str, value: str) -> None:
    talk = Talk(DbConditions(read_only=True))
    talk.answers(backend.parameter_status("default_transaction_read_only", "on"))
    talk.client(frontend.query("SELECT innocent()"))
    answer = talk.server(backend.command_complete("SELECT 1"), backend.parameter_status(name, value), READY)
    assert b"FATAL" in answer and not answer.endswith(READY) and talk.over


# --- masks


def _masked(talk: Talk, described: bytes, row: Sequence[bytes | None]) -> list[bytes | None]:
    talk.client(frontend.query("SELECT"))
    answer = talk.server(described, backend.data_row(row), backend.command_complete("SELECT 1"), READY)
    return backend.parse_data_row(memoryview(answer[len(described) :][: -len(READY) - 14]))


def test_columns_are_masked_by_table_and_number_whatever_they_are_called() -> None:
    talk = Talk(DbConditions(mask=RULES))
    described = columns(
        (b"alias", CUSTOMERS, 3, values.TEXT),
        (b"balance", CUSTOMERS, 5, values.NUMERIC),
        (b"email", OTHER, 1, values.TEXT),
        (b"email", 0, 0, values.TEXT),
        (b"email", LATER, 1, values.VARCHAR),
        (b"name", CUSTOMERS, 2, values.TEXT),
        (b"customers", CUSTOMERS, 0, 16999),
        (b"other", OTHER, 0, 16997),
    )
    row = (b"a@b", b"5.0", b"c@d", b"e@f", b"g@h", b"me", b"(a@b)", b"(c@d)")
    assert _masked(talk, described, row) == [
        *(b"***", None, b"c@d", b"***", b"***", b"me"),
        *(None, b"(c@d)"),
    ]
    assert _masked(talk, columns((b"x", CUSTOMERS, 3, values.TEXT)), (None,)) == [None]


def test_computed_columns_are_masked_where_that_is_asked_for() -> None:
    talk = Talk(DbConditions(mask=RULES, mask_computed=True))
    described = columns((b"upper", 0, 0, values.TEXT), (b"count", 0, 0, values.INT8), (b"row", 0, 0, 2249))
    assert _masked(talk, described, (b"A@B", b"5", b"(a@b)")) == [b"***", b"5", None]


def test_rows_that_were_not_described_are_described_on_our_question() -> None:
    talk = Talk(DbConditions(mask=RULES))
    talk.passes(Parse(b"s", b"SELECT email").encode(), SYNC)
    talk.answers(PARSED, READY)
    bind = Bind(b"", b"s", NOTHING, ()).encode()
    assert talk.client(bind, EXECUTE, SYNC) == bind + DESCRIBE + EXECUTE + SYNC
    described = columns((b"email", CUSTOMERS, 3, values.TEXT))
    done = backend.command_complete("SELECT 1")
    answer = talk.server(BOUND, described, backend.data_row([b"a@b"]), done, READY)
    assert answer == BOUND + backend.data_row([b"***"]) + done + READY
    # Asked by the client, it is not asked again; and nothing of ours is seen when there are no rows.
    talk.passes(bind, DESCRIBE, EXECUTE, SYNC)
    answer = talk.server(BOUND, described, backend.data_row([b"a@b"]), done, READY)
    assert answer == BOUND + described + backend.data_row([b"***"]) + done + READY
    talk.client(bind, EXECUTE, SYNC)
    assert talk.server(BOUND, NO_DATA, done, READY) == BOUND + done + READY


def test_rows_without_a_description_end_the_session() -> None:
    talk = Talk(DbConditions(mask=RULES))
    talk.client(frontend.query("SELECT 1"))
    with pytest.raises(ProtocolError):
        talk.server(backend.data_row([b"a@b"]))
    other = Talk(DbConditions(mask=RULES))
    other.client(frontend.query("SELECT 1"))
    with pytest.raises(ProtocolError):
        other.server(columns((b"email", CUSTOMERS, 3, values.TEXT)), backend.data_row([b"a", b"b"]))


def test_ways_around_rows_are_refused_in_a_session_with_masks() -> None:
    talk = Talk(DbConditions(mask=RULES))
    for text in ("COPY customers TO STDOUT", "SELECT 1; DO $$ x $$", "COPY (SELECT 1) TO '/x'", "SELECT '"):
        assert talk.client(frontend.query(text)) == frontend.query(REFUSED)
    talk.passes(frontend.query("COPY customers FROM STDIN"))
    talk.passes(frontend.query("INSERT INTO customers VALUES (1)"))


def test_errors_quote_no_values_in_a_session_with_masks() -> None:
    talk = Talk(DbConditions(mask=RULES))
    talk.client(frontend.query("SELECT email::int FROM customers"))
    quoting = Report(
        tuple((ord(key), value) for key, value in {"C": b"22P02", "M": b"a@b", "D": b"a@b"}.items())
    )
    assert b"a@b" not in talk.server(quoting.encode())
    assert b"a@b" not in talk.server(quoting.encode(b"N"))


# --- limits


def test_an_answer_with_too_many_rows_ends_with_an_error_and_a_cancel() -> None:
    talk = Talk(DbConditions(rows_max=2))
    talk.client(frontend.query("SELECT"))
    answer = talk.server(ONE_COLUMN, *rows(5))
    assert answer.startswith(ONE_COLUMN + b"".join(rows(2)) + b"E")
    assert b"more than 2 rows" in answer and talk.cancels == 1 and talk.session.stopping
    notice = Report(((ord("M"), b"by the way"),)).encode(b"N")
    assert talk.server(*rows(3), notice, ERROR, READY) == notice + READY
    assert not talk.session.stopping
    told = talk.told()
    assert told == [
        Statement("SELECT"),
        Failed("the answer has more than 2 rows", "53400"),
        Outcome(0, success=False),
    ]
    talk.passes(frontend.query("SELECT"))
    talk.answers(ONE_COLUMN, *rows(2), backend.command_complete("SELECT 2"), READY)


def test_a_statement_that_ends_before_the_cancel_is_still_an_error() -> None:
    talk = Talk(DbConditions(bytes_max=30))
    talk.client(frontend.query("SELECT 1; COPY t FROM STDIN"))
    assert b"more than 30 bytes" in talk.server(ONE_COLUMN, *rows(5))
    # What follows in the same text is not the client's to answer.
    assert talk.server(backend.command_complete("SELECT 5"), message(b"G", b"\0", int16(0))) == b""
    assert talk.back == frontend.copy_fail("the answer was too large")
    assert talk.server(ERROR, READY) == READY


def test_rows_count_for_each_statement_and_for_each_portal() -> None:
    talk = Talk(DbConditions(rows_max=2))
    talk.client(frontend.query("SELECT; SELECT"))
    done = backend.command_complete("SELECT 2")
    talk.answers(ONE_COLUMN, *rows(2), done, ONE_COLUMN, *rows(2), done, READY)
    part = frontend.execute(b"p", 1)
    talk.passes(Bind(b"p", b"", NOTHING).encode(), part, SYNC)
    talk.answers(BOUND, *rows(1), message(b"s"), READY)
    talk.passes(part, SYNC, part, SYNC)
    talk.answers(*rows(1), message(b"s"), READY)
    assert b"more than 2 rows" in talk.server(*rows(1))


def test_a_long_row_over_the_limit_is_dropped_in_parts() -> None:
    talk = Talk(DbConditions(bytes_max=1000))
    talk.client(frontend.query("SELECT"))
    row = backend.data_row([bytes(3 * limits.HELD_MAX)])
    assert b"more than 1000 bytes" in talk.server(ONE_COLUMN, row[: limits.HELD_MAX + 500])
    assert talk.server(row[limits.HELD_MAX + 500 :], ERROR, READY) == READY


# --- COPY, the end, broken peers


def test_copy_in_passes_over_the_sync_that_came_with_it() -> None:
    talk = Talk(DbConditions(rows_max=100))
    talk.passes(Parse(b"", b"COPY t FROM STDIN").encode(), Bind(b"", b"", NOTHING).encode(), EXECUTE, SYNC)
    talk.answers(PARSED, BOUND, message(b"G", b"\0", int16(0)))
    talk.passes(message(b"d", b"row\n"), SYNC, message(b"c"), SYNC)
    talk.answers(backend.command_complete("COPY 1"), READY)
    assert not talk.session.busy
    assert talk.told()[-1] == Outcome(1)


def test_copy_out_and_a_failed_copy_in() -> None:
    talk = Talk()
    talk.passes(frontend.query("COPY t TO STDOUT"))
    talk.answers(message(b"H", b"\0", int16(0)), message(b"d", b"row\n"), message(b"c"))
    talk.answers(backend.command_complete("COPY 1"), READY)
    talk.passes(frontend.query("COPY t FROM STDIN"))
    talk.answers(message(b"G", b"\0", int16(0)))
    talk.passes(message(b"d", b"row\n"), frontend.copy_fail("changed my mind"))
    talk.answers(ERROR, READY)
    assert not talk.session.busy


def test_terminate_ends_the_session_and_what_follows_is_nothing() -> None:
    talk = Talk()
    assert talk.client(message(b"X"), frontend.query("SELECT 1")) == message(b"X")
    assert talk.over and talk.told() == []


@pytest.mark.parametrize("raw", [message(b"p", b"secret\0"), b"\x16\x03\x01\0\0", message(b"q")])
def test_a_client_that_breaks_the_protocol(raw: bytes) -> None:
    talk = Talk()
    with pytest.raises(ProtocolError):
        talk.client(raw)
    assert b"FATAL" in talk.session.refusal("no")


@pytest.mark.parametrize("kind", [b"R", b"K", b"v", b"W"])
def test_a_server_that_logs_in_again_or_replicates(kind: bytes) -> None:
    with pytest.raises(ProtocolError):
        Talk().server(message(kind, int32(3)))


def test_a_refusal_is_only_said_between_messages() -> None:
    talk = Talk()
    talk.client(frontend.query("SELECT"))
    row = backend.data_row([bytes(100)])
    assert talk.server(ONE_COLUMN, row[:50]) == ONE_COLUMN + row[:50]
    assert talk.session.refusal("locked") == b""
    talk.server(row[50:])
    assert b"locked" in talk.session.refusal("locked")


def test_answers_outstanding_are_bounded() -> None:
    talk = Talk()
    assert not talk.session.from_client(memoryview(SYNC)).hold
    assert talk.session.from_client(memoryview(SYNC * limits.DUE_HELD)).hold
    with pytest.raises(ProtocolError, match="outstanding"):
        talk.client(SYNC * (limits.DUE_MAX + 1))


SCRIPT_UP = b"".join(
    (
        frontend.query("SELECT 1"),
        Parse(b"s", b"SELECT $1", (values.INT4,)).encode(),
        Bind(b"", b"s", Values((1,), (int32(5),))).encode(),
        EXECUTE,
        SYNC,
        frontend.query("DROP TABLE t"),
        message(b"d", bytes(100)),
    )
)
SCRIPT_DOWN = b"".join(
    (
        columns((b"email", CUSTOMERS, 3, values.TEXT)),
        *(backend.data_row([b"a@b"]) for _ in range(3)),
        backend.command_complete("SELECT 3"),
        READY,
        PARSED,
        BOUND,
        columns((b"x", 0, 0, values.TEXT)),
        backend.data_row([bytes(200)]),
        backend.command_complete("SELECT 1"),
        READY,
        ERROR,
        READY,
    )
)
POLICIES = [
    UNRESTRICTED,
    DbConditions(read_only=True),
    DbConditions(mask=RULES),
    DbConditions(rows_max=2),
    DbConditions(bytes_max=150),
]


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(
    st.sampled_from(POLICIES),
    st.lists(st.integers(1, len(SCRIPT_UP) - 1), max_size=10),
    st.lists(st.integers(1, len(SCRIPT_DOWN) - 1), max_size=10),
)
def test_cuts_change_nothing(policy: DbConditions, ups: list[int], downs: list[int]) -> None:
    def play(ups: list[int], downs: list[int]) -> tuple[bytes, bytes, list[Fact]]:
        talk = Talk(policy)
        up = b"".join(talk.client(part) for part in _parts(SCRIPT_UP, ups))
        down = b"".join(talk.server(part) for part in _parts(SCRIPT_DOWN, downs))
        return up, down, talk.facts

    assert play(ups, downs) == play([], [])


def _parts(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *cuts})
    return [data[begin:end] for begin, end in itertools.pairwise(bounds)]


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.sampled_from(POLICIES), st.lists(st.tuples(st.booleans(), st.binary(max_size=80)), max_size=6))
def test_hostile_bytes_raise_one_error(policy: DbConditions, said: list[tuple[bool, bytes]]) -> None:
    talk = Talk(policy)
    try:
        for up, raw in said:
            talk.client(raw) if up else talk.server(raw)
            if talk.over:
                return
    except ProtocolError:
        talk.session.refusal("broken")

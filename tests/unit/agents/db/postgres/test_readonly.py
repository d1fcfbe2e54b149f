"""Sessions with PostgreSQL that may only read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.postgres import limits
from pkgs.agents.db.postgres.conversation import REFUSED
from pkgs.common.dbwire.postgres import backend, frontend
from pkgs.common.dbwire.postgres.frontend import FunctionCall, Parse
from pkgs.common.resources.role import DbConditions
from tests.unit.agents.db.postgres.conversation_kit import (
    ERROR,
    NOTHING,
    READY,
    Talk,
)

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

"""Statements to PostgreSQL that are refused, and answers that are cut: nothing else gets out of step."""

from __future__ import annotations

from pkgs.agents.db.engine import Failed, Outcome, Statement
from pkgs.agents.db.postgres import limits
from pkgs.agents.db.postgres.conversation import REFUSED
from pkgs.common.dbwire.postgres import backend, frontend
from pkgs.common.dbwire.postgres.backend import Report
from pkgs.common.dbwire.postgres.fields import int16, int32, message
from pkgs.common.dbwire.postgres.frontend import Bind, Parse
from pkgs.common.resources.role import DbConditions
from tests.unit.agents.db.postgres.conversation_kit import (
    BOUND,
    ERROR,
    EXECUTE,
    NOTHING,
    ONE_COLUMN,
    PARSED,
    READY,
    SYNC,
    Talk,
    rows,
)


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

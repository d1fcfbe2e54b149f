"""Sessions with PostgreSQL that do not see some columns."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pkgs.agents.db.postgres.conversation import REFUSED
from pkgs.common.dbwire.postgres import backend, frontend, values
from pkgs.common.dbwire.postgres.backend import Report
from pkgs.common.dbwire.postgres.frontend import Bind, Parse
from pkgs.common.errors import ProtocolError
from pkgs.common.resources.role import DbConditions
from tests.unit.agents.db.postgres.conversation_kit import (
    BOUND,
    CUSTOMERS,
    DESCRIBE,
    EXECUTE,
    LATER,
    NO_DATA,
    NOTHING,
    OTHER,
    PARSED,
    READY,
    RULES,
    SYNC,
    Talk,
    columns,
)


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

"""Sessions with PostgreSQL from the first statement to the last: what is told of them, COPY, broken peers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.engine import Detail, Fact, Failed, Outcome, Statement
from pkgs.agents.db.postgres import limits
from pkgs.common.dbwire.postgres import backend, frontend, values
from pkgs.common.dbwire.postgres.fields import int16, int32, message
from pkgs.common.dbwire.postgres.frontend import Bind, FunctionCall, Named, Parse, Values
from pkgs.common.errors import ProtocolError
from pkgs.common.resources.role import UNRESTRICTED, DbConditions
from tests.unit.agents.db.postgres.conversation_kit import (
    BOUND,
    CLOSED,
    CUSTOMERS,
    ERROR,
    EXECUTE,
    NOTHING,
    ONE_COLUMN,
    PARSED,
    READY,
    RULES,
    SYNC,
    Talk,
    columns,
    rows,
)


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

"""Conversations of a MySQL session: what goes through, what is told, what is refused, and in which order."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.db.engine import Detail, Fact, Failed, Outcome, Statement
from pkgs.agents.db.mysql import limits
from pkgs.agents.db.mysql.conversation import MysqlConversation
from pkgs.agents.db.record.excerpt import MARK
from pkgs.common.dbwire.mysql import answers
from pkgs.common.dbwire.mysql.answers import parse_error
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.dbwire.mysql.values import counted, lenenc
from pkgs.common.errors import ProtocolError
from tests.unit.agents.db.play_kit import Played

OLD = OFFERED & ~Capability.DEPRECATE_EOF


def command(number: int, rest: bytes = b"") -> bytes:
    return frame(0, bytes((number,)) + rest)


def query(sql: str) -> bytes:
    return command(3, sql.encode())


def execute(statement: int, parameters: bytes = b"") -> bytes:
    return command(0x17, struct.pack("<IBI", statement, 0, 1) + parameters)


def ok(sequence: int = 1, affected: int = 0, status: int = 2) -> bytes:
    return frame(sequence, b"\0" + lenenc(affected) + b"\0" + struct.pack("<HH", status, 0))


def end(sequence: int, status: int = 2, *, old: bool = False) -> bytes:
    """Of definitions or rows."""
    if old:
        return frame(sequence, b"\xfe" + struct.pack("<HH", 0, status))
    return frame(sequence, b"\xfe\0\0" + struct.pack("<HH", status, 0))


def error(sequence: int, code: int = 1064, text: str = "wrong") -> bytes:
    return frame(sequence, answers.error((code, "42000"), text))


def rows(count: int, *, old: bool = False, status: int = 2, sequence: int = 1) -> bytes:
    """A result of two columns."""
    said = [frame(sequence, b"\2"), frame(sequence + 1, b"\3def1"), frame(sequence + 2, b"\3def2")]
    if old:
        said.append(end(sequence + 3, old=True))
    said += [frame(9, counted(b"a" * (number % 9)) + b"\xfb") for number in range(count)]
    return b"".join((*said, end(10, status, old=old)))


@dataclass
class Play(Played[MysqlConversation]):
    conversation: MysqlConversation = field(default_factory=lambda: MysqlConversation(OFFERED))


def test_a_query_and_its_rows_go_through() -> None:
    asked, said = query("select 1"), rows(3)
    play = Play().client(asked).server(said)
    assert (play.to_server, play.to_client) == (asked, said)
    assert play.facts == [Statement("select 1"), Outcome(3)]


EXCHANGES = [
    (query("select 1"), rows(20), [Statement("select 1"), Outcome(20)]),
    (query("insert"), ok(affected=7), [Statement("insert"), Outcome(7)]),
    (query("wrong"), error(1), [Statement("wrong"), Failed("wrong", "1064")]),
    (query("a; b"), rows(2, status=8) + ok(11, affected=3), [Statement("a; b"), Outcome(5)]),
    (query("half"), rows(2)[: -len(end(10))] + error(9), [Statement("half"), Failed("wrong", "1064")]),
    (command(0x0E), ok(), []),
    (command(0x09), frame(1, b"Uptime: 5"), []),
    (command(2, b"shop"), ok(), [Detail("mysql.init_db", (("schema_name", "shop"),))]),
    (command(4, b"t\0%"), frame(1, b"\3defx") + end(2), []),
    (
        command(0x0C, b"\7\0\0\0"),
        error(1, 1094, "no such thread"),
        [Detail("mysql.process_kill", (("process_id", 7),)), Failed("no such thread", "1094")],
    ),
    (command(7, b"\5"), ok(), [Detail("mysql.refresh", (("subcommand", "grant, tables"),))]),
    (command(0x19, b"\1\0\0\0"), b"", [Detail("mysql.statements.close", (("statement_id", 1),))]),
]


@pytest.mark.fuzz
@given(st.lists(st.sampled_from(EXCHANGES), max_size=6), st.booleans(), st.data())
def test_bytes_cut_anywhere_come_to_the_same(
    exchanges: list[tuple[bytes, bytes, list[Fact]]], ahead: bool, data: st.DataObject
) -> None:
    """Also when the client sends its commands ahead of the answers."""

    def cut(raw: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
        return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    play = Play()
    asked, said = (b"".join(exchange[side] for exchange in exchanges) for side in (0, 1))
    if ahead:
        play.client(*cut(asked)).server(*cut(said))
    else:
        for one, other, _ in exchanges:
            play.client(*cut(one)).server(*cut(other))
    assert (play.to_server, play.to_client) == (asked, said)
    expected = [fact for exchange in exchanges for fact in exchange[2]]
    if ahead:
        answers_only = (Outcome, Failed)
        expected = [fact for fact in expected if not isinstance(fact, answers_only)] + [
            fact for fact in expected if isinstance(fact, answers_only)
        ]
    assert play.facts == expected
    assert play.conversation.refusal("locked")


def test_without_the_new_end_of_rows() -> None:
    play = Play(MysqlConversation(OLD)).client(query("q")).server(rows(2, old=True))
    play.client(query("cursor"))
    play.server(frame(1, b"\1") + frame(2, b"\3def") + end(3, status=0x40, old=True))
    play.client(command(0x1C, b"\1\0\0\0\5\0\0\0")).server(frame(1, b"\0\0x") + end(2, old=True))
    assert [fact for fact in play.facts if isinstance(fact, Outcome)] == [Outcome(2), Outcome(0), Outcome(1)]
    assert play.conversation.refusal("x")[3] == 1


def prepared(play: Play, parameters: int = 2, columns: int = 1) -> None:
    play.client(command(0x16, b"select ?, ?"))
    said = frame(1, struct.pack("<BIHHBH", 0, 5, columns, parameters, 0, 0))
    play.server(said, *(frame(2, b"\3def") for _ in range(parameters + columns)))


def test_prepared_statements_are_told_with_their_parameters() -> None:
    play = Play()
    prepared(play)
    types = b"\1" + struct.pack("<HH", 3, 0xFD)
    play.client(execute(5, b"\0" + types + struct.pack("<I", 7) + counted(b"x" * 5000))).server(rows(1))
    # The types of before, the first parameter NULL, the second in parts.
    play.client(command(0x18, struct.pack("<IH", 5, 1) + b"abc"))
    play.client(execute(0xFFFFFFFF, b"\1\0")).server(rows(1))
    play.client(command(0x19, b"\5\0\0\0"))
    told = [fact for fact in play.facts if isinstance(fact, Detail)]
    assert [fact.kind.removeprefix("mysql.statements.") for fact in told] == [
        "prepare", "execute", "send_long_data", "execute", "close",
    ]  # fmt: skip
    shown = [dict(fact.fields) for fact in told]
    assert shown[1]["query"] == "select ?, ?"
    first, second = shown[1]["parameters"]
    assert (first, len(second)) == ("7", limits.PARAMETER_KEPT + len("… [cut]"))
    assert shown[2] == {"statement_id": 5, "parameter_id": 1, "data_size": 3}
    assert shown[3]["parameters"] == ("NULL", "(sent in parts)")


def test_a_long_statement_goes_through_and_is_told_with_a_mark() -> None:
    asked = query("select '" + "x" * 17_000_000 + "'")
    play = Play().client(asked[:100_000])
    (told,) = play.facts
    assert isinstance(told, Statement)
    assert told.cut
    assert len(told.text) == limits.STATEMENT_KEPT - 1
    play.client(asked[100_000:]).server(ok())
    assert play.to_server == asked
    assert play.facts[1:] == [Outcome(0)]


def test_a_statement_of_bytes_is_no_longer_in_the_log_than_another() -> None:
    play = Play().client(frame(0, b"\3" + b"\xff" * 60_000))
    (told,) = play.facts
    assert isinstance(told, Statement)
    assert (told.cut, len(told.text)) == (True, limits.STATEMENT_KEPT)


@pytest.mark.parametrize("number", [0x12, 0x15, 0x1E, 0x1D, 0x20, 0xFA, 0xFE, 0x00])
def test_replication_and_unknown_commands_are_refused_in_their_turn(number: int) -> None:
    first, refused, last = query("select 1"), command(number, b"\0" * 30), query("select 2")
    play = Play().client(refused)
    assert play.to_server == b""
    assert parse_error(play.to_client[4:]).code == 1235
    play = Play().client(first + refused[:9], refused[9:] + last)
    assert (play.to_server, play.to_client) == (first + last, b"")
    one, two = rows(1), rows(2)
    play.server(one[:-3], one[-3:] + two)
    assert play.to_client.startswith(one)
    assert play.to_client.endswith(two)
    assert parse_error(play.to_client[len(one) + 4 : -len(two)]).code == 1235
    assert not play.over


def test_changing_the_user_closes_the_connection() -> None:
    play = Play().client(command(0x11, b"root\0\0") + query("select 1"))
    assert (play.to_server, play.over) == (b"", True)
    assert "log in anew" in parse_error(play.to_client[4:]).message


def test_a_server_that_asks_for_a_file_is_refused() -> None:
    play = Play().client(query("select 1"))
    with pytest.raises(ProtocolError, match="file"):
        play.server(frame(1, b"\xfb/etc/passwd"))


def test_a_file_goes_through_where_it_is_allowed() -> None:
    play = Play(MysqlConversation(OFFERED | Capability.LOCAL_FILES))
    asked = query("load data local infile 'x' into table t")
    content = frame(2, b"\x12 looks like a command") + frame(3, b"\x01")
    play.client(asked).server(frame(1, b"\xfbx")).client(content, frame(4, b"")).server(ok(5, affected=2))
    assert play.to_server == asked + content + frame(4, b"")
    play.client(command(0x12))
    assert play.to_server == asked + content + frame(4, b"")
    assert Outcome(2) in play.facts


def test_an_order_to_kill_names_the_servers_thread() -> None:
    ours = 3_000_000_000
    conversation = MysqlConversation(OFFERED, {ours: 57}.get)
    play = Play(conversation)
    whole = query(f"KILL QUERY {ours}") + query("KILL 9") + command(0x0C, struct.pack("<I", ours))
    for pos in range(len(whole)):
        play.client(whole[pos : pos + 1])
    assert play.to_server == query("KILL QUERY 57") + query("KILL 9") + command(0x0C, struct.pack("<I", 57))


def test_a_peer_that_breaks_the_protocol_is_caught() -> None:
    for said in (frame(1, b"\3select 1"), frame(0, b"")):
        with pytest.raises(ProtocolError):
            Play().client(said)
    for said in (ok(), rows(1)):
        with pytest.raises(ProtocolError, match="out of turn"):
            Play().server(said)
    with pytest.raises(ProtocolError, match="without waiting"):
        Play().client(command(0x0E) * (limits.PIPELINE_MAX + 1))


def test_a_server_may_say_why_it_closes() -> None:
    play = Play().server(error(0, 4031, "idle"))
    assert play.facts == [Failed("idle", "4031")]


def test_the_end_is_said_only_between_messages() -> None:
    play = Play()
    assert parse_error(play.conversation.refusal("locked")[4:]).message == "locked"
    play.client(query("select 1"))
    assert play.conversation.refusal("locked")[3] == 1
    play.server(rows(5)[:-3])
    assert play.conversation.refusal("locked") == b""
    play.server(rows(5)[-3:])
    assert play.conversation.refusal("locked")


def test_an_error_repeats_no_secret() -> None:
    play = Play().client(query("CREATE USER a IDENTIFIED BY 's3cret' FOO"))
    play.server(error(1, text="wrong near ''s3cret' FOO' at line 1"))
    assert "s3cret" not in repr(play.facts)


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=12))
def test_any_bytes_end_in_nothing_worse_than_a_protocol_error(said: list[tuple[bool, bytes]]) -> None:
    play = Play()
    play.client(query("select 1"))
    try:
        for by_client, raw in said:
            play.client(raw) if by_client else play.server(raw)
    except ProtocolError:
        play.conversation.refusal("x")


PIECES = st.sampled_from(
    (
        *(query("x"), command(0x16, b"y"), execute(1), command(0x12), ok(), rows(2), error(1)),
        *(frame(1, b"\xfb"), frame(2, b"\3def"), end(3), b"\1\0\0"),
        frame(1, struct.pack("<BIHHBH", 0, 1, 1, 1, 0, 0)),
    )
)


@pytest.mark.fuzz
@pytest.mark.fuzz
@given(st.lists(st.tuples(st.booleans(), PIECES), max_size=20))
def test_messages_in_any_order_end_in_nothing_worse(said: list[tuple[bool, bytes]]) -> None:
    play = Play(MysqlConversation(OFFERED | Capability.LOCAL_FILES))
    try:
        for by_client, raw in said:
            play.client(raw) if by_client else play.server(raw)
    except ProtocolError:
        pass


def test_the_last_statement_is_the_one_that_was_asked_for_last() -> None:
    """Clients of MariaDB execute it before they know its number; the log must not name the one before."""
    drop, harmless = command(0x16, b"drop table t where a = ?"), command(0x16, b"select ?")
    prepared = frame(1, struct.pack("<BIHHBH", 0, 7, 0, 1, 0, 0)) + frame(2, b"\3def")
    play = Play().client(harmless).server(prepared)
    play.client(drop + execute(0xFFFFFFFF, b"\0\1\x08\0" + bytes(8)))
    told = play.facts[-1]
    assert isinstance(told, Detail) and dict(told.fields) == {
        "statement_id": 0xFFFFFFFF,
        "query": "drop table t where a = ?",
        "parameters": (MARK,),
    }
    # It fails: then there is no last one.
    play.server(error(1), error(1)).client(execute(0xFFFFFFFF))
    told = play.facts[-1]
    assert isinstance(told, Detail) and dict(told.fields)["query"] == ""


@pytest.mark.parametrize("behind", [b"", query("drop everything"), b"\x11"])
def test_an_empty_packet_is_no_command(behind: bytes) -> None:
    """Nor is the byte behind it one."""
    with pytest.raises(ProtocolError, match="empty"):
        Play().client(bytes(4) + behind)

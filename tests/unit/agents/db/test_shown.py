"""What a recording shows of a database session, and how it is exported."""

from __future__ import annotations

import json

import pytest

from pkgs.agents.db.engine import Detail, Fact, Failed, Malformed, Outcome, Statement
from pkgs.agents.db.record.facts import shown
from pkgs.common.recording.model import Output, SessionMeta
from pkgs.common.recording.showing.export import to_json_lines

LONG = Statement("select\r\n  $1", ("a\x1b[2J",), cut=True)
BIND = (("portal_name", ""), ("statement_name", ""), ("parameters", ("7",)))
MALFORMED = Malformed("client", 3, "no message")
EXECUTE = (("statement_id", 3), ("query", "select ?"), ("parameters", ("x", "y")))


@pytest.mark.parametrize(
    ("fact", "lines"),
    [
        (Statement("select 1"), ["> select 1"]),
        (LONG, ["> select", ">   $1", r"  $1 = a\x1b[2J", "  (cut)"]),
        (Failed("no such table", "42P01"), ["  error 42P01: no such table"]),
        (Outcome(1), ["  1 row"]),
        (Outcome(0), ["  0 rows"]),
        (Outcome(None), ["  done"]),
        (Outcome(2, success=False), ["  failed"]),
        (MALFORMED, ["  malformed bytes of the client: no message; the session ends"]),
        (
            Detail("postgres.statements.parse", (("statement_name", "s1"), ("query", "select\n$1"))),
            ["> parse s1: select", "> $1"],
        ),
        (Detail("postgres.statements.bind", BIND), ["> bind", "  $1 = 7"]),
        (Detail("postgres.statements.execute", (("portal_name", ""),)), ["> execute"]),
        (Detail("mysql.statements.execute", EXECUTE), ["> execute 3: select ?", "  $1 = x", "  $2 = y"]),
        (Detail("mysql.statements.send_long_data", (("statement_id", 3),)), ["> send long data 3"]),
        (Detail("mysql.init_db", (("schema_name", "a\r\nb"),)), ["> init db a", "> b"]),
    ],
)  # fmt: skip
def test_each_fact_has_its_lines(fact: Fact, lines: list[str]) -> None:
    assert shown(fact).split("\r\n") == [*lines, ""]


@pytest.mark.parametrize("kind", ["db", "ssh"])
def test_json_has_a_databases_lines_as_text(kind: str) -> None:
    meta = SessionMeta(
        session_id="11111111-1111-4111-8111-111111111111", cluster_name="c", user="u", login="l", host_id="h",
        hostname="n", started=0.0, kind=kind,
    )  # fmt: skip
    _, printed = map(json.loads, to_json_lines([meta, Output(5, b"> select 1\r\n  1 row\r\n")]))
    assert printed.get("text") == ("> select 1\n  1 row\n" if kind == "db" else None)

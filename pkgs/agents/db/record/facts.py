"""What is kept of a fact that a conversation told: its audit event, and its lines of the recording.

What a client or a server said is made inert: played, it moves no terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from pkgs.agents.db.engine import Detail, Fact, Failed, Malformed, Outcome, Statement
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.types import FieldValue
from pkgs.common.output.sanitize import inert


def event_of(fact: Fact) -> tuple[Kind | None, dict[str, FieldValue]]:
    """The event that tells a fact; none for a detail that no event is known for."""
    fields: dict[str, FieldValue]
    match fact:
        case Statement():
            fields = {"db_query": fact.text, "success": True}
            if fact.parameters:
                fields["db_query_parameters"] = list(fact.parameters)
            if fact.cut:
                fields["truncated"] = True
            return codes.DB_SESSION_QUERY, fields
        case Failed():
            fields = {"success": False, "error": fact.message, "message": fact.message}
            if fact.code:
                fields["db_error_code"] = fact.code
            return codes.DB_SESSION_QUERY_FAIL, fields
        case Outcome():
            return codes.DB_SESSION_RESULT, {"affected_records": fact.rows or 0, "success": fact.success}
        case Malformed():
            return codes.DB_SESSION_MALFORMED, {
                "said_by": fact.by,
                "size": fact.size,
                "error": fact.error,
            }
        case Detail():
            fields = {key: list(value) if isinstance(value, tuple) else value for key, value in fact.fields}
            return codes.DB_SESSION_DETAILS.get(fact.kind), fields


def shown(fact: Fact) -> str:
    """How a recording shows a fact."""
    match fact:
        case Statement(text=text, parameters=(), cut=False) if text.isprintable():
            return f"> {text}\r\n"
        case Statement(text=text, parameters=parameters, cut=cut):
            lines = [*_said(text, parameters), *(["  (cut)"] if cut else [])]
        case Failed(message=message, code=code):
            lines = [f"  error {inert(code)}: {inert(message)}" if code else f"  error: {inert(message)}"]
        case Outcome(rows=rows, success=success):
            lines = [f"  {_count(rows)}" if success else "  failed"]
        case Malformed(by=by, error=error):
            lines = [f"  malformed bytes of the {by}: {inert(error)}; the session ends"]
        case Detail(kind=kind, fields=fields):
            lines = _shown_detail(kind.rpartition(".")[2].replace("_", " "), fields)
    return "".join(f"{line}\r\n" for line in lines)


def _said(text: str, parameters: Sequence[str]) -> list[str]:
    """What a client said, and the values that it gave beside."""
    lines = [f"> {inert(line)}" for line in text.replace("\r\n", "\n").split("\n")]
    return lines + [f"  ${number} = {inert(value)}" for number, value in enumerate(parameters, 1)]


def _count(rows: int | None) -> str:
    if rows is None:
        return "done"
    return "1 row" if rows == 1 else f"{rows} rows"


def _shown_detail(what: str, fields: Sequence[tuple[str, str | int | tuple[str, ...]]]) -> list[str]:
    """As `parse s1: select $1`, or `bind s1` with its values: what is done, its names, the statement."""
    names = [
        str(value)
        for name, value in fields
        if name != "query" and value != "" and not isinstance(value, tuple)
    ]
    query = "".join(f": {value}" for name, value in fields if name == "query" and value)
    values = [each for _, value in fields if isinstance(value, tuple) for each in value]
    return _said(" ".join((what, *names)) + query, values)

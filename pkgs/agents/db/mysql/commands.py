"""What each command of a client is: how it is treated, audited and answered. Policy, no bytes moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from pkgs.agents.db.engine import Detail, Fact, Statement
from pkgs.agents.db.mysql import limits
from pkgs.agents.db.mysql.prepared import Prepared
from pkgs.agents.db.record.excerpt import MARK
from pkgs.agents.db.record.passwords import Masked, mask
from pkgs.common.dbwire.mysql.flags import Command


class Answer(Enum):
    """The shape of what the server says to a command."""

    NOTHING = auto()
    ONE = auto()
    """One packet: OK, ERR, EOF or a text."""
    RESULTS = auto()
    PREPARED = auto()
    ROWS = auto()
    COLUMNS = auto()


ANSWERS: dict[int, Answer] = {
    Command.QUIT: Answer.NOTHING,
    Command.INIT_DB: Answer.ONE,
    Command.QUERY: Answer.RESULTS,
    Command.FIELD_LIST: Answer.COLUMNS,
    Command.CREATE_DB: Answer.ONE,
    Command.DROP_DB: Answer.ONE,
    Command.REFRESH: Answer.ONE,
    Command.SHUTDOWN: Answer.ONE,
    Command.STATISTICS: Answer.ONE,
    Command.PROCESS_INFO: Answer.RESULTS,
    Command.PROCESS_KILL: Answer.ONE,
    Command.DEBUG: Answer.ONE,
    Command.PING: Answer.ONE,
    Command.STMT_PREPARE: Answer.PREPARED,
    Command.STMT_EXECUTE: Answer.RESULTS,
    Command.STMT_SEND_LONG_DATA: Answer.NOTHING,
    Command.STMT_CLOSE: Answer.NOTHING,
    Command.STMT_RESET: Answer.ONE,
    Command.SET_OPTION: Answer.ONE,
    Command.STMT_FETCH: Answer.ROWS,
    Command.RESET_CONNECTION: Answer.ONE,
}
"""Every command that goes to the server. Any other is refused: replication, and what is not known here."""

REFUSALS = {
    Command.BINLOG_DUMP: "replication",
    Command.BINLOG_DUMP_GTID: "replication",
    Command.REGISTER_SLAVE: "replication",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a command was, once the part of it that is kept is there."""

    facts: tuple[Fact, ...] = ()
    text: str = ""
    """Of a statement that is to be prepared."""
    secret: bool = False
    """Something of it was hidden."""


def tell(payload: bytes, size: int, prepared: Prepared) -> Told:
    """`payload` is the beginning of a command with `size` bytes; `prepared` learns of it."""
    command, rest = payload[0], payload[1:]
    number = int.from_bytes(rest[:4], "little")
    match command:
        case Command.QUERY:
            sql = _sql(rest)
            cut = sql.cut or size > len(payload)
            return Told((Statement(sql.text, cut=cut),), secret=sql.secret)
        case Command.STMT_PREPARE:
            sql = _sql(rest)
            shown = sql.text + MARK if sql.cut or size > len(payload) else sql.text
            return Told((_detail("statements.prepare", query=shown),), shown, sql.secret)
        case Command.STMT_EXECUTE:
            parameters = prepared.execution(payload, number)
            query = prepared.text(number)
            return Told((_execution(prepared.number(number), query, parameters),))
        case Command.STMT_SEND_LONG_DATA:
            parameter = int.from_bytes(rest[4:6], "little")
            prepared.part(number, parameter)
            return Told(
                (
                    _detail(
                        "statements.send_long_data",
                        statement_id=prepared.number(number),
                        parameter_id=parameter,
                        data_size=max(0, size - 7),
                    ),
                )
            )
        case Command.STMT_CLOSE:
            fact = _detail("statements.close", statement_id=prepared.number(number))
            prepared.close(number)
            return Told((fact,))
        case Command.STMT_RESET:
            prepared.reset(number)
            return Told((_detail("statements.reset", statement_id=prepared.number(number)),))
        case Command.STMT_FETCH:
            rows = int.from_bytes(rest[4:8], "little")
            return Told((_detail("statements.fetch", statement_id=number, rows_count=rows),))
        case Command.INIT_DB:
            return Told((_detail("init_db", schema_name=_name(rest)),))
        case Command.CREATE_DB:
            return Told((_detail("create_db", schema_name=_name(rest)),))
        case Command.DROP_DB:
            return Told((_detail("drop_db", schema_name=_name(rest)),))
        case Command.SHUTDOWN:
            return Told((_detail("shut_down"),))
        case Command.PROCESS_KILL:
            return Told((_detail("process_kill", process_id=number),))
        case Command.DEBUG:
            return Told((_detail("debug"),))
        case Command.REFRESH:
            return Told((_detail("refresh", subcommand=_refreshes(rest[0] if rest else 0)),))
        case Command.PROCESS_INFO:
            return Told((Statement("COM_PROCESS_INFO"),))
        case Command.RESET_CONNECTION:
            prepared.clear()
    return Told()


def _sql(raw: bytes) -> Masked:
    # Bytes that are no text take four characters each.
    text = raw.decode("utf-8", "backslashreplace")
    shown = mask(text[: limits.STATEMENT_KEPT])
    return replace(shown, cut=True) if len(text) > limits.STATEMENT_KEPT else shown


def _name(raw: bytes) -> str:
    return raw[: limits.PARAMETER_KEPT].decode("utf-8", "backslashreplace")


def _detail(kind: str, **fields: str | int) -> Detail:
    return Detail(f"mysql.{kind}", tuple(fields.items()))


def _execution(statement: int, query: str, parameters: tuple[str, ...]) -> Detail:
    return Detail(
        "mysql.statements.execute",
        (("statement_id", statement), ("query", query), ("parameters", parameters)),
    )


_REFRESHED = ("grant", "log", "tables", "hosts", "status", "threads", "slave", "master")


def _refreshes(bits: int) -> str:
    """What COM_REFRESH is to renew, by the bits of its argument."""
    return ", ".join(name for bit, name in enumerate(_REFRESHED) if bits >> bit & 1)

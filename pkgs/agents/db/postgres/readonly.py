"""Which statements a session may send that may only read.

That nothing is written is the server's doing: the session's transactions are read-only by
`default_transaction_read_only`, which PostgreSQL enforces itself. What is looked for here is the way out of
it, and everything that is not known to be none is refused. A change by ways that no text shows (a function
that somebody installed) is seen in the server's ParameterStatus, and ends the session.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pkgs.agents.db.postgres.sql import Kind, Token, statements
from pkgs.common.errors import InputError

SETTING = "default_transaction_read_only"

_COMMANDS = frozenset(
    (
        *("select", "table", "values", "with", "show", "explain", "copy", "lock", "listen", "unlisten"),
        *("declare", "fetch", "move", "close", "prepare", "execute", "deallocate"),
        *("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"),
        *("set", "reset", "discard"),
    )
)
_TRANSACTION = frozenset(("begin", "start", "commit", "end", "rollback", "abort"))
_TWO_PHASES = frozenset((("prepare", "transaction"), ("commit", "prepared"), ("rollback", "prepared")))
"""What somebody else has prepared is written by them."""
_PROTECTED = frozenset((SETTING, "transaction_read_only", "standard_conforming_strings"))
_ENCODING = "client_encoding"
_ENCODINGS = frozenset(("utf8", "utf-8", "unicode", "sql_ascii", "latin1", "default"))
_FUNCTIONS = frozenset(
    (
        # They run the text of a statement.
        *("query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "ts_stat", "ts_rewrite"),
        *("crosstab", "connectby"),
        # They write past the transaction, or are not held back by it in every version.
        *("lo_import", "lo_export", "lo_create", "lo_creat", "lo_unlink", "lo_from_bytea", "lo_put"),
        *("lowrite", "lo_truncate", "lo_truncate64", "pg_reload_conf"),
        *("pg_file_write", "pg_file_rename", "pg_file_unlink", "pg_file_sync"),
    )
)
_REMOTE = "dblink"
_DUMP_GUARD = "restrict_nonsystem_relation_kind"
"""pg_dump sets it, by a `set_config` whose name comes out of `pg_settings`."""


def refusal(text: bytes) -> str:
    """Why the session may not send this; empty when it may."""
    try:
        found = statements(text)
    except InputError as exc:
        return f"{exc.message}, and cannot be judged"
    if len(found) > 1 and any(_command(tokens) in _TRANSACTION for tokens in found):
        return "commands of transactions must be sent alone"
    return next(filter(None, map(_judge, found)), "")


def _judge(tokens: Sequence[Token]) -> str:
    command = _command(tokens)
    if command not in _COMMANDS:
        return f"{command.upper() or 'this statement'} is not among its commands"
    names = {token.name for token in tokens}
    if command in ("begin", "start", "set") and "write" in names:
        return "a transaction may not be READ WRITE"
    if command in ("set", "reset") and (protected := names & _PROTECTED):
        return f"{min(protected)} may not be changed"
    if command == "set" and names & {_ENCODING, "names"} and tokens[-1].text.lower() not in _ENCODINGS:
        return "the encoding may be UTF8 or LATIN1"
    if (command, _word(tokens, 1)) in _TWO_PHASES:
        return f"{command.upper()} {_word(tokens, 1).upper()} is not among its commands"
    if command == "copy" and not _copies_out(tokens):
        return "COPY may only go TO STDOUT"
    for index, token in enumerate(tokens):
        if token.name in _FUNCTIONS or token.name.startswith(_REMOTE):
            return f"{token.name} is not among its functions"
        if token.name == "set_config" and not _sets_harmlessly(tokens, index):
            return "set_config may only change a harmless setting that it names by a plain literal"
    return ""


def _command(tokens: Sequence[Token]) -> str:
    """The first word, behind brackets."""
    first = next((token for token in tokens if token.text != "(" or token.kind is not Kind.OTHER), None)
    return first.text if first is not None and first.kind is Kind.WORD else ""


def _word(tokens: Sequence[Token], index: int) -> str:
    return tokens[index].text if index < len(tokens) and tokens[index].kind is Kind.WORD else ""


def _copies_out(tokens: Sequence[Token]) -> bool:
    words = [token.text if token.kind is Kind.WORD else "" for token in tokens]
    return "program" not in words and any(pair == ("to", "stdout") for pair in itertools.pairwise(words))


def _sets_harmlessly(tokens: Sequence[Token], index: int) -> bool:
    opening, name, comma, *_ = (*tokens[index + 1 : index + 4], *(Token(Kind.OTHER, ""),) * 3)
    if opening.text != "(" or opening.kind is not Kind.OTHER:
        return False
    if name.kind is Kind.STRING and comma.kind is Kind.OTHER and comma.text == ",":
        return name.text.lower() not in (*_PROTECTED, _ENCODING)
    return tokens[-1] == Token(Kind.STRING, _DUMP_GUARD) and _shape(tokens) == _SHAPE


def _shape(tokens: Sequence[Token]) -> str:
    texts = [token.text if token.kind is Kind.WORD else token.text[:1] for token in tokens[:-1]]
    return " ".join(text for text in texts if text not in ("pg_catalog", "."))


_SHAPE = "select set_config ( name , v , false ) from pg_settings where name ="

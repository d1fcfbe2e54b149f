"""Secrets in SQL of the kind of MySQL and ClickHouse, replaced before anything is audited.

It reads tokens, not grammar: after a word that brings a secret, every string of the same clause is replaced.
Rather too much is hidden than too little; where that may be something that the server runs, the text counts
as cut. It can't see a secret that a statement puts together at the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HIDDEN = "'***'"
LOOKED_AT = 16 * 1024
"""Characters of a statement that may have a secret: reading its tokens costs a microsecond each."""
_BRINGS = re.compile(r"identified|password", re.I)
_TOKEN = re.compile(
    r"""(?P<gap>\s+|--(?=[\s\0]|$)[^\n]*|\#[^\n]*|/\*(?!M?!).*?(?:\*/|\Z))
      |(?P<string>'(?:[^'\\]|\\.|'')*(?:'|\\?\Z)|"(?:[^"\\]|\\.|"")*(?:"|\\?\Z))
      |(?P<name>`[^`]*(?:`|\Z))
      |(?P<word>[\w$@]+)
      |(?P<mark>.)""",
    re.X | re.S,
)
_ENDS = frozenset(
    ("REQUIRE", "ACCOUNT", "COMMENT", "ATTRIBUTE", "AND", "WHERE", "FROM", "ORDER", "GROUP", "LIMIT")
)
_UNSURE = re.compile(r"""\\['"]|/\*M?!|--(?![\s\0]|\Z)|\$\w*\$""")
"""What is read in one way or another, as the server and its settings are."""
_NUMBER = re.compile(r"0x[0-9a-f]+\Z|0b[01]+\Z|[0-9]+\Z", re.I)


@dataclass(frozen=True, slots=True)
class Masked:
    """A statement without its secrets."""

    text: str
    secret: bool = False
    """It had one."""
    cut: bool = False
    """It was longer than what is looked at, or more may be hidden than the secret."""


def mask(sql: str) -> Masked:
    if not _BRINGS.search(sql):
        return Masked(sql)
    cut, sql = len(sql) > LOOKED_AT, sql[:LOOKED_AT]
    text = _without_secrets(sql)
    hidden = text != sql
    return Masked(text, hidden, cut or (hidden and _UNSURE.search(sql) is not None))


def _without_secrets(sql: str) -> str:
    out: list[str] = []
    depth = 0
    armed: int | None = None
    """The depth of brackets at which a word brought a secret."""
    sets: set[str] = set()
    """Which of SET and PASSWORD this statement has had."""
    for token in _TOKEN.finditer(sql):
        text = token[0]
        match token.lastgroup:
            case "string":
                if armed is not None:
                    text = HIDDEN
                elif hidden := _statement_inside(text):
                    if _UNSURE.search(text):
                        # Nothing after it is sure: it may be the rest of the secret.
                        out.append(hidden)
                        return "".join(out)
                    text = hidden + text[0]
            case "word":
                word = text.upper()
                if word == "SET" or (word == "PASSWORD" and sets):
                    sets.add(word)
                if _BRINGS.search(word):
                    armed = depth
                elif word == "FOR" or word in _ENDS:
                    armed = None
                elif armed is not None and _NUMBER.match(text):
                    text = HIDDEN
            case "mark":
                if text == "(":
                    depth += 1
                elif text == ")":
                    depth -= 1
                    if armed is not None and depth < armed:
                        armed = None
                elif text == "=" and sets == {"SET", "PASSWORD"}:
                    # SET PASSWORD FOR somebody = 'secret'
                    armed = depth
                elif text == ";":
                    armed = None
                    sets.clear()
                elif text == "," and armed is not None and depth <= armed:
                    armed = None
        out.append(text)
    return "".join(out)


def mask_error(message: str, secret: bool) -> str:
    """A server's message without what it repeats of a statement; `secret`: that statement had one."""
    cut = message.find(" near ")
    if cut >= 0 and (secret or _BRINGS.search(message, cut)):
        return message[:cut] + " near " + HIDDEN
    return message


def _statement_inside(string: str) -> str:
    """For a string that may be a statement with a secret: what may be shown of it. Else nothing."""
    found = _BRINGS.search(string)
    if not found:
        return ""
    inner = string[1:-1]
    if not any(quote in inner for quote in "'\"\\"):
        return ""
    return string[: found.start()] + "***"

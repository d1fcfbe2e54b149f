"""PostgreSQL's SQL as far as tokens: enough to tell commands, names and literals apart, and nothing more.

What it reads, it reads as the server does (manual, "Lexical Structure"). Where the server's reading hangs on
a setting, or where a reader of text could be led astray, it says that it cannot judge. Takes bytes in any
encoding whose further bytes are not ASCII; see `UNSAFE_ENCODINGS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from pkgs.common.errors import InputError

UNSAFE_ENCODINGS = frozenset({"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "GB18030", "JOHAB"})
"""Encodings of a client in which a byte of ASCII may be the second half of a character."""


class Kind(Enum):
    WORD = "word"
    """Keyword or plain name, in lower case."""
    QUOTED = "quoted"
    """Name in double quotes."""
    STRING = "string"
    """Plain literal, its contents."""
    LITERAL = "literal"
    """Any other: escapes, dollars, bits."""
    OTHER = "other"
    """Numbers, operators, brackets; one character each."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    text: str

    @property
    def name(self) -> str:
        """Whom the token could name, for comparisons that rather find too much."""
        return self.text.lower() if self.kind in (Kind.WORD, Kind.QUOTED) else ""


_TOKEN = re.compile(
    r"""
      (?P<space>    [ \t\n\r\f\v]++ | --[^\n\r]*+ )
    | (?P<comment>  /\* )
    | (?P<escaped>  [Ee]'(?: [^'\\] | \\. | '' )*+' )
    | (?P<bits>     (?: [BbXxNn] | [Uu]& ) '[^']*+(?: ''[^']*+ )*+' )
    | (?P<unicode>  [Uu]&" )
    | (?P<string>   '[^']*+(?: ''[^']*+ )*+' )
    | (?P<quoted>   "[^"]*+(?: ""[^"]*+ )*+" )
    | (?P<word>     [A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+ )
    | (?P<dollar>   \$ (?: [A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+ )? \$ )
    | (?P<other>    [^'"] )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def statements(raw: bytes) -> list[list[Token]]:
    """The tokens of each statement of a text, without those that are empty. Raises InputError when the text
    cannot be told apart for sure."""
    found: list[list[Token]] = [[]]
    for token in _tokens(raw.decode("latin-1")):
        if token.kind is Kind.OTHER and token.text == ";":
            found.append([])
        else:
            found[-1].append(token)
    return [tokens for tokens in found if tokens]


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    pos = 0
    after_literal = False
    while pos < len(text):
        match = _TOKEN.match(text, pos)
        if match is None:
            raise InputError("the statement has a quote that does not end")
        kind, raw, pos = match.lastgroup, match.group(), match.end()
        if kind == "space":
            continue
        if kind == "comment":
            pos = _end_of_comment(text, pos)
            continue
        if kind in ("string", "bits", "escaped") and after_literal:
            # In a new line that is one literal, read by the rules of its beginning.
            raise InputError("the statement has a literal in several pieces")
        after_literal = kind in ("string", "bits", "escaped")
        if kind == "unicode":
            raise InputError('the statement has a name with escapes (U&"...")')
        if kind == "dollar":
            end = text.find(raw, pos)
            if end < 0:
                raise InputError("the statement has a quote that does not end")
            pos = end + len(raw)
        tokens.append(_token(kind or "", raw))
    return tokens


def _token(kind: str, raw: str) -> Token:
    match kind:
        case "word":
            return Token(Kind.WORD, raw.lower())
        case "quoted":
            return Token(Kind.QUOTED, raw[1:-1].replace('""', '"'))
        case "string":
            return Token(Kind.STRING, raw[1:-1].replace("''", "'"))
        case "other":
            return Token(Kind.OTHER, raw)
        case _:
            return Token(Kind.LITERAL, raw)


def _end_of_comment(text: str, pos: int) -> int:
    """They nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, pos)
        if edge is None:
            raise InputError("the statement has a comment that does not end")
        depth += 1 if edge.group() == "/*" else -1
        pos = edge.end()
    return pos

"""Passwords in statements, replaced before the text goes anywhere.

A statement is read in tokens, as the server reads it, and what is replaced is a literal, a part of one, or of
a comment: never anything that the server runs, or a statement could be hidden behind the word. After the
word `password`, whatever stands between (an equals sign, a comma, a comment, a function's name), the literal
that follows is a secret: `CREATE ROLE x PASSWORD '...'`, `OPTIONS (password '...')`. A literal that has the
word in it is read once more, for it may be a statement (a DO block) or a connection string. Too much is
masked rather than too little: `SET password = '...'` of anybody's table as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pkgs.agents.db.postgres import limits

HIDDEN = "*****"

_WORD = re.compile(r"password", re.IGNORECASE)
_BETWEEN = re.compile(
    r"""(?: \s | [=:>,()"] | --[^\n]* | /\*.{0,1000}?\*/ | \b(?:to|as|is)\b | \b\w{1,63}\s*\( )*+""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_OPENING = re.compile(r"""(?:[EeNnBbXx]|[Uu]&)?('+)|(\$(?:[A-Za-z_\x80-\U0010ffff][\w]*)?\$)""")
_BARE = re.compile(r"""\s*=\s*(?!(?:[EeNnBbXx]|[Uu]&)')([^\s'"$;()>]++)(?!\s*\()""")
_CONTINUED = re.compile(r"""\s*\n\s*(?=')""")


_TOKEN = re.compile(
    r"""
      (?P<space>    [ \t\n\r\f\v]++ )
    | (?P<comment>  --[^\n\r]*+ | /\* )
    | (?P<escaped>  [Ee]'(?: [^'\\] | \\. | '' )*+(?: ' | \\?\Z ) )
    | (?P<string>   (?: [BbXxNn] | [Uu]& )?'(?: [^'] | '' )*+(?: ' | \Z ) )
    | (?P<quoted>   (?: [Uu]& )?"(?: [^"] | "" )*+(?: " | \Z ) )
    | (?P<word>     [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*+ )
    | (?P<dollar>   \$ (?: [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*+ )? \$ )
    | (?P<mark>     . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_STILL = frozenset("=:>,()")
"""Marks that may stand between the word and its secret."""
_STILL_WORDS = frozenset(("to", "as", "is"))
_CALLED = re.compile(r"\s*\(")
_DEPTH_MAX = 4
"""Statements within literals of statements that are read; what is deeper counts as data."""


@dataclass(frozen=True, slots=True)
class Masked:
    text: str
    sure: bool = True
    """False: what was replaced may be more than literals where the server's settings are unusual, or the text
    was too long to be read to its end."""


def mask(text: str) -> Masked:
    """The text with every password in it replaced; the very same text when there is none."""
    if "password" not in text.casefold():  # a quick way out for most
        return Masked(text)
    reading = _Reading()
    shown = reading.statement(text, 0)
    return Masked(shown, reading.sure or shown == text)


class _Reading:
    def __init__(self) -> None:
        self.sure = True
        self._left = limits.MASKED_TOKENS

    def statement(self, text: str, depth: int) -> str:
        out: list[str] = []
        pos, armed, hid = 0, False, False
        while pos < len(text):
            self._left -= 1
            if self._left < 0:
                self.sure = False
                break
            match = _TOKEN.match(text, pos)
            assert match is not None  # the last kind is any character
            kind, begin = match.lastgroup or "", pos
            pos = match.end()
            if kind == "dollar":
                pos = _close(text, pos, match.group())
            elif match.group() == "/*":
                pos = _end_of_comment(text, pos)
            raw = text[begin:pos]
            if kind == "comment":
                raw = mask_data(raw)
            elif kind in ("escaped", "string", "dollar"):
                # Right behind a secret another literal goes on with it.
                hid = armed or hid
                armed = False
                if kind == "string" and "\\'" in raw:
                    # Without standard_conforming_strings, and where a literal with E goes on, it escapes.
                    self.sure = False
                raw = HIDDEN if hid else self._literal(raw, kind, match.group(), depth)
            elif kind != "space":
                hid = False
                armed = _brings(kind, raw) or (armed and _is_between(raw, text, pos))
                if depth and armed and (bare := _BARE.match(text, pos)):
                    # Of a connection string: a statement has no secrets without quotes.
                    raw, pos, armed = raw + text[pos : bare.start(1)] + HIDDEN, bare.end(), False
            out.append(raw)
        return "".join(out)

    def _literal(self, raw: str, kind: str, opening: str, depth: int) -> str:
        """One that is no secret itself."""
        if not _WORD.search(raw):
            return raw
        if kind == "escaped" or depth >= _DEPTH_MAX:
            shown = mask_data(raw)
            self.sure = self.sure and shown == raw
            return shown
        if kind == "dollar":
            inner = raw[len(opening) :].removesuffix(opening)
            return opening + self.statement(inner, depth + 1) + raw[len(opening) + len(inner) :]
        begin = raw.index("'") + 1
        inner = raw[begin:].removesuffix("'")
        shown = self.statement(inner.replace("''", "'"), depth + 1).replace("'", "''")
        return raw[:begin] + shown + raw[begin + len(inner) :]


def _brings(kind: str, raw: str) -> bool:
    return kind in ("word", "quoted") and _WORD.search(raw) is not None


def _is_between(raw: str, text: str, pos: int) -> bool:
    return raw in _STILL or raw.lower() in _STILL_WORDS or _CALLED.match(text, pos) is not None


def _end_of_comment(text: str, pos: int) -> int:
    """They nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, pos)
        if edge is None:
            return len(text)
        depth += 1 if edge.group() == "/*" else -1
        pos = edge.end()
    return pos


def mask_data(text: str) -> str:
    """The same for what is no statement: an error, a comment, a connection string."""
    first = _WORD.search(text)
    if first is None:
        return text
    parts: list[str] = []
    done = 0
    found: re.Match[str] | None = first
    while found is not None:
        begin, end = _secret_after(text, found.end())
        if end > begin:
            parts += [text[done:begin], HIDDEN]
            done = end
        found = _WORD.search(text, max(end, found.end()))
    return "".join((*parts, text[done:]))


def _secret_after(text: str, pos: int) -> tuple[int, int]:
    """Where the secret begins and ends after a word `password` that ends at `pos`; equal if there is none."""
    bare = _BARE.match(text, pos)
    if bare is not None:
        return bare.span(1)
    between = _BETWEEN.match(text, pos)
    opened = _OPENING.match(text, between.end() if between else pos)
    if opened is None:
        return pos, pos
    if opened.group(2):
        return opened.start(), _close(text, opened.end(), opened.group(2))
    quotes = opened.group(1)
    if len(quotes) == 1:
        return opened.start(), _end_of_literal(text, opened.end(), escaped=opened.group()[0] in "Ee")
    # Inside a literal each quote is written twice, so a run of them opens ours; or it is an empty one.
    return opened.start(), _close(text, opened.end(), quotes)


def _close(text: str, pos: int, mark: str) -> int:
    """The end of what `mark` closes; the end of the text when it was cut before that."""
    at = text.find(mark, pos)
    return len(text) if at < 0 else at + len(mark)


def _end_of_literal(text: str, pos: int, *, escaped: bool) -> int:
    """After the closing quote. A doubled quote, one behind a backslash where that counts, and a literal that
    goes on in the next line do not end it."""
    while True:
        at = text.find("'", pos)
        if at < 0:
            return len(text)
        before = text[pos:at]
        if escaped and (len(before) - len(before.rstrip("\\"))) % 2:
            pos = at + 1
        elif text[at + 1 : at + 2] == "'":
            pos = at + 2
        elif on := _CONTINUED.match(text, at + 1):
            pos = on.end() + 1
        else:
            return at + 1

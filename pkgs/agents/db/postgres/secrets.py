"""Passwords in statements, replaced before the text goes anywhere.

After the word `password`, whatever stands between (an equals sign, a comma, a comment, a function's name),
the literal that follows is a secret: `CREATE ROLE x PASSWORD '...'`, `OPTIONS (password '...')`, and the same
inside a DO block. In a connection string it is what follows `password=`. Too much is masked rather than too
little: `SET password = '...'` of anybody's table as well.
"""

from __future__ import annotations

import re

HIDDEN = "*****"

_WORD = re.compile(r"password", re.IGNORECASE)
_BETWEEN = re.compile(
    r"""(?: \s | [=:>,()"] | --[^\n]* | /\*.{0,1000}?\*/ | \b(?:to|as|is)\b | \b\w{1,63}\s*\( )*+""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_OPENING = re.compile(r"""(?:[EeNnBbXx]|[Uu]&)?('+)|(\$(?:[A-Za-z_\x80-\U0010ffff][\w]*)?\$)""")
_BARE = re.compile(r"""\s*=\s*(?!(?:[EeNnBbXx]|[Uu]&)')([^\s'"$;()>]++)(?!\s*\()""")
_CONTINUED = re.compile(r"""\s*\n\s*(?=')""")


def mask(text: str) -> str:
    """The text with every password in it replaced; the very same text when there is none."""
    if "password" not in text.casefold():  # the quick way out of most
        return text
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

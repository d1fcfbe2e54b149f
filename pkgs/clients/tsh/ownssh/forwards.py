"""Forwarded ports as users write them: `[bind:]port:host:port` for -L and -R, `[bind:]port` for -D."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pkgs.common.errors import InputError

_PART = re.compile(r"\[([^\[\]]*)\]|([^:\[\]]*)")
LOCAL, REMOTE, DYNAMIC = "-L", "-R", "-D"
_SHAPES = {LOCAL: "[bind:]port:host:port", REMOTE: "[bind:]port:host:port", DYNAMIC: "[bind:]port"}


@dataclass(frozen=True, slots=True)
class Forward:
    """One of them."""

    kind: str
    """-L, -R or -D."""
    bind: str | None
    """Where to listen; None: not said; empty: everywhere."""
    port: int
    host: str = ""
    host_port: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.port}" + (f":{self.host}:{self.host_port}" if self.host else "")


def parse_forward(kind: str, text: str) -> Forward:
    """As on OpenSSH's command line; blanks may stand for colons, as in its options. InputError."""
    parts = _split(re.sub(r"[ \t]+", ":", text.strip()))
    ends = 1 if kind == DYNAMIC else 3
    if parts is None or len(parts) not in (ends, ends + 1):
        raise InputError(
            f"{kind} {text[:80]!r}: tsh's own SSH client forwards TCP ports only, as {_SHAPES[kind]}",
            hint="install the OpenSSH client for anything else",
        )
    bind = None
    if len(parts) > ends:
        first = parts.pop(0)
        bind = "" if first == "*" else _name(kind, text, first)
    # The server chooses a port to listen on when it is 0; here that would be of no use to anybody.
    port = _port(kind, text, parts[0], least=0 if kind == REMOTE else 1)
    if kind == DYNAMIC:
        return Forward(kind, bind, port)
    if not parts[1]:
        raise InputError(f"{kind} {text[:80]!r} names no host")
    return Forward(kind, bind, port, _name(kind, text, parts[1]), _port(kind, text, parts[2], least=1))


def _split(text: str) -> list[str] | None:
    """The parts between colons, those in brackets without them."""
    parts, at = [], 0
    while True:
        match = _PART.match(text, at)
        assert match is not None
        parts.append(match[2] if match[1] is None else match[1])
        at = match.end()
        if at == len(text):
            return parts
        if text[at] != ":":
            return None
        at += 1


def _name(kind: str, text: str, word: str) -> str:
    """Nothing, or what the resolver takes: for other names it has errors of another kind."""
    try:
        word.encode("idna")
    except UnicodeError:
        raise InputError(f"{kind} {text[:80]!r}: {word[:20]!r} is no host") from None
    return word


def _port(kind: str, text: str, word: str, *, least: int) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 5 or not least <= int(word) <= 65_535:
        raise InputError(f"{kind} {text[:80]!r}: {word[:20]!r} is no port")
    return int(word)

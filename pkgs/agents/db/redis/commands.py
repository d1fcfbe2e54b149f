"""What is done with a command, by its name; and how it reads in the audit log, without secrets.

Refused are the commands that would show what no audit of this session holds: replication and the view of
other people's commands; and the one that silences answers. Whatever else is dangerous is for the server's
access lists, which know the user.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from pkgs.agents.db.engine import Statement


class Verdict(Enum):
    PASS = auto()
    REFUSE = auto()
    AUTH = auto()
    HELLO = auto()
    RESET = auto()


_VERDICTS = {
    b"auth": Verdict.AUTH,
    b"hello": Verdict.HELLO,
    b"reset": Verdict.RESET,
    b"monitor": Verdict.REFUSE,
    b"sync": Verdict.REFUSE,
    b"psync": Verdict.REFUSE,
    b"replconf": Verdict.REFUSE,
}
_SECOND = {b"client": {b"reply": Verdict.REFUSE}}
"""Commands that are judged by their second word too."""

HIDDEN = "***"
_MORE = "…"
_PLAIN = re.compile(rb"[!#$%&(-\[\]-~]+")
_PLAIN_LINE = re.compile(rb"[!#$%&(-\[\]-~]+(?: [!#$%&(-\[\]-~]+)*")


def judge(arguments: list[bytes], whole: bool) -> Verdict | None:
    """By the words that are there; None when the second is needed."""
    name = arguments[0].lower()
    if name not in _SECOND:
        return _VERDICTS.get(name, Verdict.PASS)
    if len(arguments) < 2:
        return Verdict.PASS if whole else None
    return _SECOND[name].get(arguments[1].lower(), Verdict.PASS)


def statement(arguments: list[bytes], cut: frozenset[int]) -> Statement:
    """The command as people type it, with marks where something is missing."""
    name = arguments[0].lower()
    text = b" ".join(arguments)
    if not cut and name not in _SECRETS and _PLAIN_LINE.fullmatch(text) and text.count(b" ") < len(arguments):
        # Most commands; without an argument that is empty or has a space in it.
        return Statement(text.decode("ascii"))
    shown = [_shown(argument) for argument in arguments]
    for index in cut:
        if index >= 0:
            shown[index] += _MORE
    if -1 in cut:
        shown.append(_MORE)
    if name in _SECRETS:
        _SECRETS[name](arguments, shown)
    return Statement(" ".join(shown), cut=bool(cut))


def _shown(argument: bytes) -> str:
    if _PLAIN.fullmatch(argument):
        return argument.decode()
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        return '"' + "".join(_escaped(chr(b)) if b < 0x80 else f"\\x{b:02x}" for b in argument) + '"'
    if text.isprintable() and not any(mark in text for mark in " \"'\\"):
        return text or '""'
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


# --- secrets: each gets the words and what is shown of them


def _auth(words: list[bytes], shown: list[str]) -> None:
    if len(words) > 1:
        shown[2 if len(words) == 3 else 1 :] = [HIDDEN]


def _hello(words: list[bytes], shown: list[str]) -> None:
    for index, word in enumerate(words):
        if word.lower() == b"auth":
            shown[index + 2 : index + 3] = [HIDDEN] * len(shown[index + 2 : index + 3])


def _acl(words: list[bytes], shown: list[str]) -> None:
    if len(words) > 1 and words[1].lower() == b"setuser":
        for index, word in enumerate(words[3:], 3):
            if word[:1] in (b">", b"<", b"#", b"!"):
                shown[index] = word[:1].decode() + HIDDEN


_CONFIGURED = re.compile(rb"(requirepass|masterauth|primaryauth|.*key-file-pass|.*password)\Z", re.I | re.S)


def _config(words: list[bytes], shown: list[str]) -> None:
    if len(words) > 1 and words[1].lower() == b"set":
        for index in range(2, len(words) - 1, 2):
            if _CONFIGURED.match(words[index]):
                shown[index + 1] = HIDDEN


def _migrate(words: list[bytes], shown: list[str]) -> None:
    for index, word in enumerate(words):
        if word.lower() == b"auth":
            shown[index + 1 : index + 2] = [HIDDEN] * len(shown[index + 1 : index + 2])
        if word.lower() == b"auth2":
            shown[index + 2 : index + 3] = [HIDDEN] * len(shown[index + 2 : index + 3])


def _sentinel(words: list[bytes], shown: list[str]) -> None:
    for index, word in enumerate(words[:-1]):
        if word.lower() in (b"auth-pass", b"sentinel-pass"):
            shown[index + 1] = HIDDEN


_SECRETS = {
    b"auth": _auth,
    b"hello": _hello,
    b"acl": _acl,
    b"config": _config,
    b"migrate": _migrate,
    b"sentinel": _sentinel,
}
_MODIFIER = re.compile(r"'[<>#!][^']*'")


def masked_error(text: str) -> str:
    """A server's error without the secret that it may repeat."""
    return _MODIFIER.sub(f"'{HIDDEN}'", text)

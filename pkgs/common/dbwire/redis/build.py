"""Requests and replies of ours."""

from __future__ import annotations


def request(*arguments: bytes) -> bytes:
    """A command in the form that every server takes."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


def error(text: str) -> bytes:
    """An error; its first word is its code, such as ERR or NOPERM."""
    return b"-" + " ".join(text.split()).encode() + b"\r\n"


OK = b"+OK\r\n"

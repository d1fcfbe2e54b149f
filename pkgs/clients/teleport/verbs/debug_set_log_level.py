"""`teleport debug set-log-level`."""

from __future__ import annotations

from pkgs.clients.teleport.debugclient import ask_all, said
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed, Spec

_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")

SPEC = Spec(
    "Change the level that is logged, at once and until the next restart: TRACE, DEBUG, INFO, WARN or ERROR.",
    usage="LEVEL",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Ask every service and print what it says."""
    level = args.words[0].upper()
    if level not in _LEVELS:
        raise InputError(f"{args.words[0][:40]!r} is no log level", hint=f"allowed: {', '.join(_LEVELS)}")
    replies = ask_all(args, "PUT", "/log-level", level.encode())
    for entry, reply in replies:
        print(said(replies, entry, reply.text))
    return 0 if all(reply.status == 200 for _, reply in replies) else 1

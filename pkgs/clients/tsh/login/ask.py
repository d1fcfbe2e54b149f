"""Asking for secrets: at the terminal without echo, or one line each from standard input, or from the
environment. Never from a flag's value, which every user of the machine could read."""

from __future__ import annotations

import os
import sys

from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed
from pkgs.common.output.sanitize import inert

MAX_SECRET_CHARS = 4096

OTP_STDIN = Flag(
    "otp-stdin", "Read the one-time code from standard input, one line (after the password)", is_bool=True
)
SECRET_FLAGS = (
    Flag("password-stdin", "Read the password from standard input, one line", is_bool=True),
    OTP_STDIN,
)


def password(args: Parsed, prompt: str) -> str:
    """The password: standard input, `TELEPORT_PASSWORD`, or the terminal."""
    if args.on("password-stdin"):
        return line_of_stdin("password")
    from_env = os.environ.get("TELEPORT_PASSWORD", "")
    return from_env or hidden(prompt, "--password-stdin or TELEPORT_PASSWORD")


def one_time_code(args: Parsed, prompt: str) -> str:
    """The code of the second factor: standard input or the terminal."""
    if args.on("otp-stdin"):
        return line_of_stdin("one-time code").strip()
    return hidden(prompt, "--otp-stdin").strip()


def new_password(args: Parsed) -> str:
    """A password to be set; typed twice at a terminal."""
    if args.on("password-stdin") or os.environ.get("TELEPORT_PASSWORD"):
        return password(args, "")
    first = hidden("Password (12 characters or more): ", "--password-stdin")
    if hidden("The same again: ", "--password-stdin") != first:
        raise InputError("the two passwords differ")
    return first


def line_of_stdin(what: str) -> str:
    """The next line, without its end."""
    line = sys.stdin.readline(MAX_SECRET_CHARS + 2)
    if not line:
        raise InputError(f"standard input ended before the {what}")
    text = line.rstrip("\r\n")
    if len(text) > MAX_SECRET_CHARS:
        raise InputError(f"the {what} is too long")
    return text


def hidden(prompt: str, otherwise: str) -> str:
    """What is typed at the terminal, without echo."""
    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask at", hint=f"use {otherwise}")
    import getpass

    try:
        return getpass.getpass(inert(prompt))
    except EOFError:
        raise InputError("nothing was typed") from None

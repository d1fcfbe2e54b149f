"""What one connection is to do: tsh's flags and the OpenSSH options beside them, or a refusal by name."""

from __future__ import annotations

import fnmatch
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from pkgs.clients.tsh.ownssh.forwards import DYNAMIC, LOCAL, REMOTE, Forward, parse_forward
from pkgs.clients.tsh.ownssh.limits import ALIVE_COUNT, ALIVE_INTERVAL_S, MAX_FORWARDS
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed

QUIET, USUAL, VERBOSE = 0, 1, 2
_LEVELS = {"quiet": QUIET, "fatal": QUIET, "error": USUAL, "info": USUAL} | dict.fromkeys(
    ("verbose", "debug", "debug1", "debug2", "debug3"), VERBOSE
)
_FORWARD_OPTIONS = {"localforward": LOCAL, "remoteforward": REMOTE, "dynamicforward": DYNAMIC}
WITHOUT_EFFECT = frozenset(("batchmode", "compression", "tcpkeepalive", "addkeystoagent", "visualhostkey"))
"""Options that change nothing here: no question is asked, no key is added or drawn, nothing compressed."""


@dataclass(slots=True)
class Settings:
    """Filled from the command line, then only read."""

    command: bytes = b""
    subsystem: bool = False
    run_nothing: bool = False
    tty: str = "auto"
    """auto, yes (where standard input is a terminal), force or no."""
    no_stdin: bool = False
    background: bool = False
    agent: bool = False
    forwards: list[Forward] = field(default_factory=list)
    everywhere: bool = False
    """Forwarded ports are open to other machines where nothing else is said."""
    must_forward: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    escape: bytes = b"~"
    """Empty: none."""
    keys: Callable[[bytes], bytes] | None = None
    """Sees what is typed; out comes what of it goes to the server. None: all."""
    talk: int = USUAL
    log_file: str = ""
    alive_interval_s: int = ALIVE_INTERVAL_S
    alive_count: int = ALIVE_COUNT
    connect_s: int = 0

    def wants_tty(self, *, at_terminal: bool) -> bool:
        if self.tty == "force":
            return True
        shell = not self.command
        return at_terminal and not self.no_stdin and (self.tty == "yes" or (self.tty == "auto" and shell))


def of_args(args: Parsed, options: list[str]) -> Settings:
    """From the flags of `tsh ssh` and `Name=value` options. InputError names what can't be done."""
    for flag in ("x11-untrusted", "x11-trusted"):
        if args.on(flag):
            raise InputError(
                f"--{flag}: tsh's own SSH client forwards no X11", hint="install the OpenSSH client"
            )
    made = Settings(
        command=os.fsencode(" ".join(args.command)),
        subsystem=args.on("subsystem"),
        run_nothing=args.on("no-remote-exec"),
        no_stdin=args.on("no-stdin"),
        background=args.on("fork-after-authentication"),
        agent=args.on("forward-agent"),
        log_file=args.text("log-file"),
        talk=QUIET if args.on("quiet") else VERBOSE if args.on("verbose") else USUAL,
        tty=_tty(args),
    )
    for name, kind in (("forward", LOCAL), ("remote-forward", REMOTE), ("dynamic-forward", DYNAMIC)):
        made.forwards += [parse_forward(kind, text) for text in args.texts(name)]
    clear = False
    for option in options:
        clear = _take_option(made, option) or clear
    if clear:
        made.forwards.clear()
    if len(made.forwards) > MAX_FORWARDS:
        raise InputError(f"at most {MAX_FORWARDS} ports are forwarded at once")
    if made.background and not made.command and not made.run_nothing:
        raise InputError("-f is for a command, or for -N", hint="a shell needs the foreground")
    if made.subsystem and not made.command:
        raise InputError("-s needs the name of a subsystem")
    if made.background:
        made.no_stdin = True
    return made


def _tty(args: Parsed) -> str:
    if args.on("tty"):
        return "force" if "tty" in args.twice else "yes"
    return "no" if args.on("no-tty") else "auto"


def _take_option(made: Settings, option: str) -> bool:
    """Heed one; True when it takes all forwarded ports back."""
    name, _, value = option.replace("=", " ", 1).strip().partition(" ")
    value = value.strip()
    match name.lower():
        case "localforward" | "remoteforward" | "dynamicforward" as kind:
            made.forwards.append(parse_forward(_FORWARD_OPTIONS[kind], value))
        case "clearallforwardings":
            return _yes(option, value)
        case "connecttimeout":
            made.connect_s = _number(option, value)
        case "escapechar":
            made.escape = _escape(option, value)
        case "exitonforwardfailure":
            made.must_forward = _yes(option, value)
        case "forkafterauthentication":
            made.background = _yes(option, value)
        case "forwardagent":
            made.agent = _yes(option, value)
        case "gatewayports":
            made.everywhere = _yes(option, value)
        case "loglevel":
            if value.lower() not in _LEVELS:
                raise InputError(f"-o {option[:60]}: unknown level")
            made.talk = _LEVELS[value.lower()]
        case "requesttty":
            word = value.lower()
            made.tty = word if word in ("auto", "force") else "yes" if _yes(option, value) else "no"
        case "sendenv":
            for pattern in value.split():
                names = fnmatch.filter(os.environ, pattern)
                made.environment |= {found: os.environ[found] for found in names}
        case "serveralivecountmax":
            made.alive_count = max(_number(option, value), 1)
        case "serveraliveinterval":
            made.alive_interval_s = _number(option, value)
        case "sessiontype":
            made.run_nothing = value.lower() == "none"
            made.subsystem = value.lower() == "subsystem"
        case "setenv":
            for word in _split(option, value):
                key, equals, text = word.partition("=")
                if not equals:
                    raise InputError(f"-o {option[:60]}: write NAME=VALUE")
                made.environment[key] = text
        case "stdinnull":
            made.no_stdin = _yes(option, value)
        case other if other in WITHOUT_EFFECT:
            pass
        case _:
            raise InputError(
                f"-o {option[:60]}: tsh's own SSH client does not know this option",
                hint="leave it out, or install the OpenSSH client",
            )
    return False


def _split(option: str, value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as problem:
        raise InputError(f"-o {option[:60]}: {problem}") from None


def _yes(option: str, value: str) -> bool:
    if value.lower() not in ("yes", "no", "true", "false"):
        raise InputError(f"-o {option[:60]}: write yes or no")
    return value.lower() in ("yes", "true")


def _number(option: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 6:
        raise InputError(f"-o {option[:60]}: write a whole number")
    return int(value)


def _escape(option: str, value: str) -> bytes:
    if value.lower() == "none":
        return b""
    if len(value) == 2 and value[0] == "^" and value.isascii():
        return bytes([ord(value[1]) & 0x1F])
    if len(value) != 1 or not value.isascii():
        raise InputError(f"-o {option[:60]}: write one character, ^ and a letter, or none")
    return value.encode()

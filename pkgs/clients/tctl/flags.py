"""Flags that every verb of tctl knows, and the small sets that several verbs share."""

from __future__ import annotations

from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed
from pkgs.common.resources.durations import parse_duration

COMMON = (
    Flag("config", "Configuration file of the Auth host, default /etc/teleport.yaml", short="c",
         env="TELEPORT_CONFIG_FILE", metavar="FILE"),
    Flag("auth-server", "Address of the Auth Service or of a proxy, with --identity",
         env="TELEPORT_AUTH_SERVER", metavar="ADDR"),
    Flag("identity", "Identity file (tctl auth sign, tsh login --out)", short="i",
         env="TELEPORT_IDENTITY_FILE", metavar="FILE"),
    Flag("insecure", "Accepted for compatibility; the cluster's own authority always verifies the server",
         is_bool=True),
    Flag("debug", "Show details of errors", short="d", is_bool=True),
)  # fmt: skip

FORMAT = Flag("format", "Output format", default="text", choices=("text", "json", "yaml"), metavar="FORMAT")
TEXT_OR_JSON = Flag("format", "Output format", default="text", choices=("text", "json"), metavar="FORMAT")


def duration(args: Parsed, name: str, *, most_s: float = 0.0) -> int:
    """Whole seconds of a duration flag, at least one; InputError names the flag."""
    seconds = parse_duration(args.text(name), f"--{name}")
    if seconds < 1:
        raise InputError(f"--{name}: at least 1s", hint="write for example 30m or 8h")
    if most_s and seconds > most_s:
        raise InputError(f"--{name}: at most {int(most_s // 3600)}h")
    return int(seconds)


def commas(text: str) -> list[str]:
    """Items of a comma list, without blanks and repetitions."""
    return list(dict.fromkeys(item for item in (part.strip() for part in text.split(",")) if item))

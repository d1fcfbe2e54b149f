"""`tsh db config`."""

from __future__ import annotations

import re
import shlex
import sys

from pkgs.clients.tsh.databases import listing
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.profile.login import current
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

_LABELS = {"ca": "CA"}
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+-]+")
SPEC = Spec(
    "Print what a client that does its own TLS needs: the host name, which leads to the proxy, the port, and"
    " the files. Anything else is easier by 'tsh proxy db --tunnel'.",
    *listing.AS_WHOM,
    *listing.SELECTORS,
    Flag("format", "Output format; cmd: the command of the native client", short="f", default="text",
         choices=("text", "cmd", "json", "yaml"), metavar="FORMAT"),
    CLUSTER,
    usage="[DATABASE]",
    most=1,
)  # fmt: skip
offer = listing.offer


def run(args: Parsed) -> int:
    """Print it."""
    from pkgs.clients.tsh.databases import direct

    found = direct.of_args(current(args), args)
    facts = found.facts()
    if args.text("format") == "cmd":
        sys.stdout.write(shlex.join(_command(facts)) + "\n")
    elif args.text("format") == "text":
        width = max(map(len, facts)) + 2
        labels = {name: _LABELS.get(name, name.capitalize()) + ":" for name in facts}
        sys.stdout.writelines(f"{labels[name]:{width}}{inert(value)}\n" for name, value in facts.items())
    else:
        from pkgs.common.output import formats

        formats.write(facts, args.text("format"))
    return 0


def _command(facts: dict[str, str]) -> list[str]:
    host, port, files = facts["host"], facts["port"], [facts["ca"], facts["cert"], facts["key"]]
    match facts["protocol"]:
        case "postgres" | "cockroachdb":
            return _psql(facts)
        case "redis":
            # It takes a host without naming it in its hello.
            words = ["redis-cli", "-h", host, "-p", port, "--tls", "--sni", host]
            return words + _flags("cacert", "cert", "key", values=files)
        case "clickhouse-http":
            return ["curl", *_flags("cacert", "cert", "key", values=files), f"https://{host}:{port}/"]
    raise InputError(f"there is no such command for {facts['protocol']}", hint="use 'tsh proxy db --tunnel'")


def _flags(*names: str, values: list[str]) -> list[str]:
    return [word for name, value in zip(names, values, strict=True) for word in (f"--{name}", value)]


def _psql(facts: dict[str, str]) -> list[str]:
    words = {
        "host": facts["host"],
        "port": facts["port"],
        "user": facts["user"],
        "dbname": facts["database"],
        "sslmode": "verify-full",
        "sslrootcert": facts["ca"],
        "sslcert": facts["cert"],
        "sslkey": facts["key"],
        "gssencmode": "disable",
    }
    return ["psql", " ".join(f"{name}={_quoted(value)}" for name, value in words.items() if value)]


def _quoted(value: str) -> str:
    """A value of libpq's connection string, which no other setting can hide in (attack A26)."""
    if _PLAIN.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

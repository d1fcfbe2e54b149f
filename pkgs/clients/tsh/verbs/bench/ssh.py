"""`tsh bench ssh`: logins with one command each, at a steady rate."""

from __future__ import annotations

import json
import math
import sys

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.measuring.limits import CONCURRENT, MAX_CONCURRENT, MAX_RATE, MAX_REQUESTS
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.verbs.ssh import default_login
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Log in and run a command again and again, at a steady rate, and tell how long it took. Times count from"
    " when a request was due, also when it had to wait. The exit status is 1 when a request failed.",
    Flag("rate", "Requests per second", default="10", metavar="NUMBER"),
    Flag("duration", "How long to go on", default="1s", metavar="DURATION"),
    Flag("concurrent", "How many may be under way at once", default=str(CONCURRENT), metavar="NUMBER"),
    Flag("format", "Output format", short="f", default="text", choices=("text", "json"), metavar="FORMAT"),
    CLUSTER,
    usage="[USER@]HOST COMMAND...",
    least=1,
    most=1,
    command_after=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Make the load, report."""
    from pkgs.common.resources.durations import parse_duration

    rate, concurrent = args.whole("rate", least=1), args.whole("concurrent", least=1)
    requests = math.ceil(rate * parse_duration(args.text("duration"), "--duration"))
    if rate > MAX_RATE or concurrent > MAX_CONCURRENT or not 0 < requests <= MAX_REQUESTS:
        raise InputError(
            f"at most {MAX_RATE} requests a second, {MAX_CONCURRENT} at once and {MAX_REQUESTS} in all"
        )
    if not args.command:
        raise InputError("no command is given", hint="write tsh bench ssh user@host COMMAND")
    login = current(args)
    user, _, host = args.words[0].rpartition("@")
    user = openssh.check_login(user or default_login(login, args))
    name = openssh.host_name(login, openssh.strip_cluster(login, host))
    from pkgs.clients.tsh.measuring.load import Load
    from pkgs.clients.tsh.ownssh.link import Target

    target = Target(user, name, str(openssh.PORT))
    report = Load(login, target, " ".join(args.command).encode(), rate, requests).run(concurrent)
    found = report.as_json()
    if args.text("format") == "json":
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(_text(found))
    return 1 if report.failed else 0


def _text(found: dict[str, object]) -> str:
    times = found["percentiles_ms"]
    assert isinstance(times, dict)
    lines = [
        "",
        f"* Requests originated: {found['requests_originated']}",
        f"* Requests failed: {found['requests_failed']}",
        *([f"* Last error: {inert(str(found['last_error']))}"] if found["last_error"] else []),
        "",
        "Histogram",
        "",
        "Percentile Response Duration",
        "---------- -----------------",
        *(f"{percent:<10} {value:g} ms" for percent, value in times.items()),
    ]
    return "\n".join(lines) + "\n"

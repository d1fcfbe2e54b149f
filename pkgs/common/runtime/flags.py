"""The flags that every service takes; they override the file, and make one unnecessary."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import NoReturn

from pkgs.common.errors import InputError
from pkgs.common.runtime.services import SUMMARIES, Service
from pkgs.common.runtime.version import VERSION


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The command line of a service; empty means not given."""

    config: str = ""
    data_dir: str = ""
    token: str = ""
    ca_pin: tuple[str, ...] = ()
    auth_server: str = ""
    proxy_server: str = ""
    labels: str = ""
    listen: str = ""
    nodename: str = ""
    debug: bool = False
    log_format: str = ""
    insecure: bool = False
    pid_file: str = ""
    diag_addr: str = ""
    no_debug_service: bool = False


def parse_labels(text: str, flag: str = "--labels") -> dict[str, str]:
    """`k=v,k2=v2` as a mapping; an error names the flag."""
    labels: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = entry.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{flag}: found {entry!r}", hint="allowed: key=value,key2=value2")
        labels[key.strip()] = value.strip()
    return labels


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"`{self.prog} --help` lists the flags")


def flag_parser(service: Service) -> argparse.ArgumentParser:
    """The parser of one service's program; also the source of its reference page."""
    parser = _Parser(
        prog=f"teleport-{service}", description=SUMMARIES[service], allow_abbrev=False, add_help=True
    )
    add = parser.add_argument
    add("-c", "--config", default="", metavar="FILE", help="configuration file (default: /etc/teleport.yaml)")
    add("--data-dir", default="", metavar="DIR", help="where state, identities and sockets live")
    if service != "auth":
        add(
            "--token",
            default="",
            help="join token, or the path of a file with it; used at the first start only",
        )
        add(
            "--ca-pin",
            action="append",
            default=[],
            metavar="PIN",
            help="pin of the host authority (repeatable)",
        )
        add("--auth-server", default="", metavar="ADDR", help="address of the Auth Service, host:3025")
        add("--proxy-server", default="", metavar="ADDR", help="address of a Proxy Service, host:443")
        add("--insecure", action="store_true", help="do not verify the proxy's web certificate")
    if service == "ssh":
        add("--labels", default="", metavar="K=V,...", help="labels of this node, added to those of the file")
    add("--listen", default="", metavar="ADDR", help="where to listen, host:port")
    add("--nodename", default="", metavar="NAME", help="name shown to users (default: the host name)")
    add("-d", "--debug", action="store_true", help="log at level DEBUG")
    add(
        "--log-format",
        default="",
        choices=("", "text", "json"),
        help="how log lines look",
        metavar="text|json",
    )
    add("--pid-file", default="", metavar="FILE", help="write the process id here")
    add("--diag-addr", default="", metavar="ADDR", help="plain HTTP diagnostics on this address")
    add("--no-debug-service", action="store_true", help="do not open the debug socket")
    add("--version", action="version", version=f"teleport-{service} v{VERSION}")
    return parser


def parse_flags(service: Service, argv: Sequence[str]) -> Flags:
    """The command line as values; `InputError` when it is wrong."""
    given = vars(flag_parser(service).parse_args(list(argv)))
    return Flags(**{**given, "ca_pin": tuple(given.get("ca_pin", ()))})

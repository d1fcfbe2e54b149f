"""Where `tsh ssh`, `tsh scp` and `tsh proxy ssh` go: what was typed, `-J`, and the template that matches.

Read on every start, so the library of templates is loaded only where there is a file (`config`)."""

from __future__ import annotations

import os
import re

from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.templates.limits import MAX_DESTINATION
from pkgs.common.errors import InputError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.clients.tsh.profile.login import Login
    from pkgs.common.output.argv import Parsed

VARIABLE = "{{proxy}}"
NONE = "none"
"""As in OpenSSH's `-J none`: what was typed is meant as it is. Programs that tsh starts for itself are told
so, and no template is applied twice."""
GLOBAL_FILE = "/etc/tsh.yaml"
# What is captured goes into queries, whose quotes it must not end.
_PLAIN = re.compile(r"[A-Za-z0-9_.:\[\]-]+\Z")


class Destination:
    """A server that is meant, and through what. Empty `proxy` and `cluster`: as the flags say."""

    __slots__ = ("cluster", "host", "place", "port", "proxy", "query", "search")

    def __init__(self, host: str, port: str) -> None:
        self.host = host
        self.port = port
        self.proxy = ""
        self.cluster = ""
        self.query = ""
        self.search = ""
        self.place = ""
        """Of the template that matched; empty when none did."""

    def route(self) -> tuple[str, str, str]:
        """What must be the same for hosts of one command."""
        return self.proxy, self.cluster, self.port

    def aim(self, args: Parsed) -> None:
        """From now on the flags say what the template said; to be called before the login is looked for."""
        if self.proxy:
            args.values["proxy"] = self.proxy
        if self.cluster:
            args.values["cluster"] = self.cluster
        if self.place and "port" in args.values:
            args.values["port"] = self.port

    def server(self, login: Login) -> str:
        """The host's name, or the id of the one server that the template's query or search finds."""
        if not self.query and not self.search:
            return self.host
        from pkgs.clients.tsh.servers import nodes, targets

        try:
            test = nodes.query_test(self.query)
        except InputError as error:
            raise InputError(f"{self.place}.query: {error.message}", hint=error.hint) from None
        found = [node for node in nodes.fetch(login, {}, nodes.split_commas(self.search)) if test(node)]
        meant = self.query or self.search
        if not found:
            raise NotFoundError(f"no server matches {meant!r}, by {self.place}", hint="see 'tsh ls'")
        return targets.the_one(meant, found).metadata.name


def find(args: Parsed, host: str, port: str) -> Destination:
    """The destination that a host and a port mean. InputError where `-J {{proxy}}` matches nothing."""
    there = Destination(host, port)
    jump = args.text("jumphost")
    if jump == NONE:
        return there
    fields = _matched(there)
    if VARIABLE in jump:
        if not there.place:
            raise InputError(
                f"-J {VARIABLE}: no proxy template matches {f'{host}:{port}'[:MAX_DESTINATION]!r}",
                hint=f"proxy_templates are read from {' and '.join(_files())}",
            )
        fields["proxy"] = jump.replace(VARIABLE, fields.get("proxy", ""))
    elif jump:
        named = args.text("proxy") if "proxy" in args.given else jump
        if home.profile_name(named) != home.profile_name(jump):
            raise InputError("--proxy and -J name different proxies", hint="leave one out")
        there.proxy = jump
    if not jump or VARIABLE in jump:
        # Given explicitly, by flag or environment, a proxy is never replaced.
        there.proxy = "" if args.text("proxy") else fields.get("proxy", "")
    there.cluster = "" if args.text("cluster") else fields.get("cluster", "")
    there.port = fields.get("port") or port
    if fields.get("host"):
        there.host = fields["host"]
    elif fields.get("query"):
        there.query = fields["query"]
    else:
        there.search = fields.get("search", "")
    return there


def _matched(there: Destination) -> dict[str, str]:
    """Fields of the first template that matches, whose place is noted; none of them without one."""
    text = f"{there.host}:{there.port}"
    plain = bool(there.host) and len(text) <= MAX_DESTINATION and bool(_PLAIN.match(text))
    for path in _files():
        try:
            written = home.read_text(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}") from None
        from pkgs.clients.tsh.templates.config import parse

        # Also where nothing can match: what is wrong in the file is said at once.
        for template in parse(written, path):
            fields = template.apply(text) if plain else None
            if fields is not None:
                there.place = template.place
                return fields
    return {}


def _files() -> list[str]:
    """The user's file, if there is a home, then the machine's: the first that matches wins."""
    has_home = os.environ.get("TELEPORT_HOME") or os.environ.get("HOME")
    own = [f"{home.home_dir()}/config/config.yaml"] if has_home else []
    return [*own, os.environ.get("TELEPORT_GLOBAL_TSH_CONFIG") or GLOBAL_FILE]

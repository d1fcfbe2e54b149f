"""Where SSH connections may be forwarded: `ssh.forward` of roles. Pure: names are resolved by whoever asks.

A role's list counts where its list of commands would: on the servers that its labels select, for the logins
that it allows. Where some list has a rule of a direction, only what a rule names is forwarded in it; a list
grants only while its role is in force. A deny always wins. A rule is

    to          an IP address or network (10.0.0.0/8), a host name, or a pattern of names (*.example.com)
    unix        or the path of a unix socket (/run/app.sock), or a pattern of paths (/run/app/*.sock)
    ports       443 or 8000-8999; none: all; none for a unix socket
    direction   local (to a destination), or remote (from a port or a socket of the server)

A network means the address that is really dialled, a name the one that was asked for; a denied name can be
gone round by its address. What the server keeps to itself (its own addresses, link-local ones) is reached
only where a rule names a network with it, or `localhost` by that name (attack A20): no pattern of names does,
since names lead wherever their owner likes.

A path means the real one, with no link in it; a deny also the one that was asked for. `*` stays within its
folder in allow, and means everything below in deny: the narrower and the wider way, as with expressions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.options.commands import means
from pkgs.common.access.options.merge import InForce, always, by_name, subtracts
from pkgs.common.access.protocols.ssh import PROTOCOL
from pkgs.common.errors import InputError
from pkgs.common.resources.role import Role, SshForwardRule

Direction = Literal["local", "remote"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOCALHOST = "localhost"
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, compiled."""

    direction: Direction
    ports: tuple[tuple[int, int], ...]
    network: Network | None = None
    name: str = ""
    pattern: Any = None

    def matches(self, host: str, port: int, address: Address) -> bool:
        if self.ports and not any(first <= port <= last for first, last in self.ports):
            return False
        if self.network is not None:
            return address in self.network
        if self.pattern is not None:
            return self.pattern.search(host) is not None
        return self.name == host

    def reaches_own(self, address: Address) -> bool:
        """Whether it means what a server keeps to itself, too."""
        if self.network is not None:
            return self.network.prefixlen > 0
        return self.name == LOCALHOST and address.is_loopback


@dataclass(frozen=True, slots=True)
class SocketRule:
    """One rule about unix sockets, compiled."""

    direction: Direction
    path: Any
    exact: bool

    def matches(self, path: str) -> bool:
        return self.path.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class Destinations:
    """What one user may forward as one login on one server."""

    confined: frozenset[Direction] = frozenset()
    """Directions in which some role has a list."""
    allowed: tuple[Rule | SocketRule, ...] = ()
    denied: tuple[Rule | SocketRule, ...] = ()

    def refusal(self, direction: Direction, host: str, port: int, address: str, *, own: str = "") -> str:
        """Why this is not forwarded, for the user; empty: it is. `address` is what is dialled or listened on;
        `own` says why the server would keep it to itself if no rule named it."""
        try:
            ip = plain_address(address)
        except ValueError:
            return "not an address"
        name = host.lower().rstrip(".")
        if any(rule.matches(name, port, ip) for rule in _of(Rule, direction, self.denied)):
            return _DENIED
        if direction not in self.confined:
            return own
        found = [rule for rule in _of(Rule, direction, self.allowed) if rule.matches(name, port, ip)]
        if not found:
            return _LISTED
        return "" if not own or any(rule.reaches_own(ip) for rule in found) else own

    def socket_refusal(self, direction: Direction, path: str, *, asked: str, own: str = "") -> str:
        """The same for a unix socket: `path` is the real one, `asked` what the client called it. What the
        server keeps to itself is reached only by its very path."""
        denied = _of(SocketRule, direction, self.denied)
        if any(rule.matches(name) for rule in denied for name in (path, asked)):
            return _DENIED
        if direction not in self.confined:
            return own
        found = [rule for rule in _of(SocketRule, direction, self.allowed) if rule.matches(path)]
        if not found:
            return _LISTED
        return "" if not own or any(rule.exact for rule in found) else own


ANYWHERE = Destinations()

_DENIED = "a role denies this destination"
_LISTED = "the roles list where connections may be forwarded"

R = TypeVar("R", Rule, SocketRule)


def _of(kind: type[R], direction: Direction, rules: Iterable[Rule | SocketRule]) -> list[R]:
    return [rule for rule in rules if isinstance(rule, kind) and rule.direction == direction]


def plain_address(text: str) -> Address:
    """An IPv4 address inside an IPv6 one is itself. Raises ValueError."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def compile_rule(rule: SshForwardRule, *, deny: bool = False) -> Rule | SocketRule:
    """Raises InputError for what is not understood."""
    if not rule.unix:
        return _compiled(rule.to.strip(), tuple(rule.ports), rule.direction, deny)
    if rule.to or rule.ports:
        raise InputError("unix: stands alone, with neither to nor ports")
    return _compiled_socket(rule.unix, rule.direction, deny)


@lru_cache(maxsize=2048)
def _compiled_socket(path: str, direction: Direction, deny: bool) -> SocketRule:
    parts = path.split("/")
    if parts[0] or not all(part not in ("", ".", "..") for part in parts[1:]) or not path.isprintable():
        raise InputError(
            f"unix: {path[:60]!r} is no absolute path as the host itself writes it",
            hint="for example /run/app/*.sock; 'readlink -f' shows it",
        )
    if "{{" in path:
        raise InputError("unix: a path, and no template")
    glob = patterns.compile_glob(path, ".*" if deny else "[^/]*")
    return SocketRule(direction, glob, exact="*" not in path)


@lru_cache(maxsize=2048)
def _compiled(to: str, ports: tuple[str, ...], direction: Direction, deny: bool) -> Rule:
    ranges = tuple(map(_ports, ports))
    if not to or "{{" in to:
        raise InputError(
            "to: a network, a host name or a pattern of names; or unix: the path of a socket",
            hint="for example 10.0.0.0/8",
        )
    if patterns.is_regex(to):
        # In deny as it is written, the wider way; in allow it must match the whole name.
        regex = patterns.compile_regex(to if deny else rf"\A(?:{to})\z")
        return Rule(direction, ranges, pattern=regex)
    to = to.lower()
    try:
        return Rule(direction, ranges, network=ipaddress.ip_network(to, strict=False))
    except ValueError:
        pass  # a name, then
    if any(char in to for char in "/:@ "):
        raise InputError(
            f"to: {to[:60]!r} is neither a network nor a name", hint="ports have a field of their own"
        )
    if patterns.is_pattern(to):
        return Rule(direction, ranges, pattern=patterns.compile_pattern(to))
    return Rule(direction, ranges, name=to.rstrip("."))


def _ports(text: str) -> tuple[int, int]:
    first, dash, last = text.strip().partition("-")
    numbers = (first, last if dash else first)
    if not all(part.isascii() and part.isdigit() and 0 < int(part[:6]) <= _HIGHEST_PORT for part in numbers):
        raise InputError(f"ports: {text[:20]!r} is neither a port nor a range", hint="for example 8000-8999")
    low, high = map(int, numbers)
    if low > high:
        raise InputError(f"ports: {text[:20]!r} ends before it begins")
    return low, high


def destinations(
    roles: Sequence[Role],
    labels: Mapping[str, str],
    login: str,
    traits: Traits,
    *,
    in_force: InForce = always,
    refusing: InForce = always,
) -> Destinations:
    """Over all roles of a user. `refusing`: whether the deny side of a role counts now. Raises InputError."""
    listing = [
        role
        for role in by_name(role for role in roles if means(role, labels, login, traits))
        if role.spec.allow.ssh.forward
    ]
    denying = [role for role in roles if refusing(role) and subtracts(role, PROTOCOL, labels, traits)]
    return Destinations(
        confined=frozenset(rule.direction for role in listing for rule in role.spec.allow.ssh.forward),
        allowed=tuple(
            compile_rule(rule) for role in listing if in_force(role) for rule in role.spec.allow.ssh.forward
        ),
        denied=tuple(
            compile_rule(rule, deny=True) for role in denying for rule in role.spec.deny.ssh.forward
        ),
    )

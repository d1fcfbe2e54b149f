"""What may be run over SSH: `ssh.commands` of roles and the option `force_command`.

A role's list counts on the servers that its labels select and for the logins that it allows; a role that
names no servers, or no logins, means all. It confines whether or not the role's hours and networks hold; it
grants only while they do. An entry is one of

    shell             an interactive shell
    subsystem:sftp    a subsystem; what follows the colon may be a pattern
    anything else     a command, to the byte; a glob, or a ^regular expression$

In allow the `*` of a glob stands for no character that means something to a shell, so that `uptime *` does
not let `uptime ; sh` pass; a `*` alone is every command. A regular expression must match the whole command.
In deny both are read the wider way, and `*` is everything, shells and subsystems too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.traits import Traits, expand, parse_template
from pkgs.common.access.options.merge import InForce, always, by_name, selects, subtracts
from pkgs.common.access.protocols.grants import matchers
from pkgs.common.access.protocols.ssh import LOGINS, PROTOCOL
from pkgs.common.errors import InputError
from pkgs.common.resources.role import Role

Kind = Literal["shell", "exec", "subsystem"]

SHELL = "shell"
SUBSYSTEM = "subsystem:"
_ANY = "*"
_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@/-]*", re.ASCII)
_PLAIN = r"[A-Za-z0-9 _./:,@%+=^-]*"
"""What the `*` of a glob in allow stands for. No quotes, no expansion, no `~`, no comment, no control
character, nothing beyond ASCII; a space separates words, and so allows options too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, compiled."""

    kind: Kind
    anything: bool = False
    text: str = ""
    regex: Any = None
    whole: bool = True

    def matches(self, text: str) -> bool:
        if self.anything:
            return True
        if self.regex is None:
            return text == self.text
        found = self.regex.fullmatch(text) if self.whole else self.regex.search(text)
        return found is not None


@lru_cache(maxsize=2048)
def compile_command(entry: str, *, deny: bool = False) -> Entry:
    """Raises InputError for what is not understood."""
    if entry == SHELL:
        return Entry("shell", anything=True)
    kind: Kind = "exec"
    if entry.startswith(SUBSYSTEM):
        kind, entry = "subsystem", entry.removeprefix(SUBSYSTEM)
    if not entry.strip():
        raise InputError(
            "an entry of ssh.commands is empty",
            hint="a command, a glob, ^expression$, shell or subsystem:NAME",
        )
    patterns.checked(entry)
    if entry == _ANY:
        return Entry(kind, anything=True)
    if not patterns.is_pattern(entry):
        return Entry(kind, text=entry)
    if deny:
        return Entry(kind, regex=patterns.compile_pattern(entry), whole=False)
    if patterns.is_regex(entry):
        return Entry(kind, regex=patterns.compile_regex(rf"\A(?:{entry})\z"))
    return Entry(kind, regex=patterns.compile_glob(entry, _PLAIN))


def check_command(entry: str) -> None:
    """Raises InputError for an entry that is not understood, on whichever side."""
    if parse_template(entry) is None:
        compile_command(entry)
        compile_command(entry, deny=True)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What one user may run as one login on one server."""

    forced: tuple[str, ...] = ()
    """Different commands of `force_command`; with more than one, nothing may run."""
    confined: bool = False
    """Some role has a list: what no list names is refused."""
    allowed: tuple[Entry, ...] = ()
    denied: tuple[Entry, ...] = ()
    closed: bool = False
    """A deny names everything."""

    def forced_command(self, certificate: str = "") -> str:
        """What runs instead of anything that is asked for; empty: what is asked for. The certificate's own
        and those of the roles must be one (attack A13); InputError when they are not."""
        found = dict.fromkeys([*([certificate] if certificate else []), *self.forced])
        if len(found) > 1:
            raise InputError(
                "the roles force different commands here, so none may run",
                hint="ask an administrator to leave one force_command",
            )
        return next(iter(found), "")

    def refusal(self, kind: Kind, text: str, *, exact: bool = True) -> str:
        """Why this may not run, for the user; empty: it may. `text` is the command or the subsystem's name,
        and `exact` says that it is all of it, letter by letter."""
        if not self.confined and not self.denied and not self.closed:
            return ""
        what = {"shell": "a shell", "exec": "this command", "subsystem": f"the subsystem {text}"}[kind]
        if not exact and kind != "shell":
            return f"{what} is not permitted: it cannot be compared with what the roles list"
        if self.closed or any(entry.kind == kind and entry.matches(text) for entry in self.denied):
            return f"{what} is not permitted: a role denies it"
        if self.confined and not any(entry.kind == kind and entry.matches(text) for entry in self.allowed):
            return f"{what} is not permitted: the roles list what may run here"
        return ""


FREE = Confinement()


def confinement(
    roles: Sequence[Role],
    labels: Mapping[str, str],
    login: str,
    traits: Traits,
    *,
    in_force: InForce = always,
    refusing: InForce = always,
) -> Confinement:
    """Over all roles of a user. `refusing`: whether the deny side of a role counts now. Raises InputError."""
    meaning = by_name(role for role in roles if means(role, labels, login, traits))
    listing = [role for role in meaning if role.spec.allow.ssh.commands]
    denying = [role for role in roles if refusing(role) and subtracts(role, PROTOCOL, labels, traits)]
    denied = [entry for role in denying for entry in role.spec.deny.ssh.commands]
    return Confinement(
        forced=tuple(
            dict.fromkeys(r.spec.options.force_command for r in meaning if r.spec.options.force_command)
        ),
        confined=bool(listing),
        allowed=tuple(
            compiled
            for role in listing
            if in_force(role)
            for entry in role.spec.allow.ssh.commands
            for compiled in _expanded(entry, traits, deny=False)
        ),
        denied=tuple(compiled for entry in denied for compiled in _expanded(entry, traits, deny=True)),
        closed=_ANY in denied,
    )


def means(role: Role, labels: Mapping[str, str], login: str, traits: Traits) -> bool:
    """Whether what a role says of commands and destinations is about this login here. Raises InputError."""
    allow = role.spec.allow
    named = bool(allow.node_labels or allow.node_labels_expression)
    if named and not selects(role, PROTOCOL, labels, traits):
        return False
    return not allow.logins or matchers(role, LOGINS, traits)[0].matches(login)


def _expanded(entry: str, traits: Traits, *, deny: bool) -> Iterable[Entry]:
    """A value out of a trait is plain text in allow, and never one of the words; inside a command it may not
    add another one (attack A25)."""
    found = expand(entry, traits)
    template = parse_template(entry)
    before, after = (template.prefix, template.suffix) if template is not None else ("", "")
    for value in found.values:
        if deny or template is None:
            yield compile_command(value, deny=deny)
            continue
        inner = value[len(before) : len(value) - len(after)]
        if value.strip() and (not before + after or _HARMLESS.fullmatch(inner)):
            yield Entry("exec", text=value)

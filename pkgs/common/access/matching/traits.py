"""Templates of role fields, `{{internal.logins}}` and the like, and their expansion from a user's traits.

A value that comes out of a trait is text: it is never looked at again for braces (attack A25).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from pkgs.common.access.matching import patterns
from pkgs.common.errors import InputError

Traits = Mapping[str, Sequence[str]]

INTERNAL_NAMES = frozenset(
    {
        "logins",
        "windows_logins",
        "kubernetes_groups",
        "kubernetes_users",
        "db_names",
        "db_users",
        "db_roles",
        "aws_role_arns",
        "azure_identities",
        "gcp_service_accounts",
        "jwt",
        "github_orgs",
        "mcp_tools",
    }
)
MAX_TEMPLATE_LENGTH = 1000
MAX_REPLACED_LENGTH = 10_000
"""Longest text that a replacement makes: nested ones would multiply."""
_MAX_DEPTH = 8
_NOT_IN_ADDRESS = frozenset(' @<>()[]:;,\\"')


class Expanded(NamedTuple):
    """What one entry of a field became."""

    values: tuple[str, ...]
    from_trait: bool
    """False for a plain entry without a template."""


@dataclass(frozen=True, slots=True)
class Variable:
    name: str


@dataclass(frozen=True, slots=True)
class EmailLocal:
    inner: Expression


@dataclass(frozen=True, slots=True)
class RegexpReplace:
    inner: Expression
    pattern: str
    replacement: str


Expression = Variable | EmailLocal | RegexpReplace


@dataclass(frozen=True, slots=True)
class Template:
    """prefix + each value of the expression + suffix."""

    prefix: str
    expression: Expression
    suffix: str


class _FailedError(Exception):
    """A function refused a value; the whole entry counts as empty."""


def expand(text: str, traits: Traits) -> Expanded:
    """The values of one entry; raises InputError when its template does not parse."""
    template = parse_template(text)
    if template is None:
        return Expanded((text,), False)
    try:
        values = _evaluate(template.expression, traits)
    except _FailedError:
        values = []
    found = dict.fromkeys(f"{template.prefix}{value}{template.suffix}" for value in values if value)
    return Expanded(tuple(found), True)


def _evaluate(expression: Expression, traits: Traits) -> list[str]:
    if isinstance(expression, Variable):
        return list(traits.get(expression.name, ()))
    values = _evaluate(expression.inner, traits)
    if isinstance(expression, EmailLocal):
        return [_local(value) for value in values]
    return regexp_replace(values, patterns.compile_pattern(expression.pattern), expression.replacement)


def _local(value: str) -> str:
    local = email_local(value)
    if local is None:
        raise _FailedError
    return local


def email_local(value: str) -> str | None:
    """The part before the @ of an e-mail address; None for anything else."""
    local, at, domain = value.partition("@")
    good = local and at and domain and value.isprintable() and _NOT_IN_ADDRESS.isdisjoint(local + domain)
    return local if good else None


def regexp_replace(values: Sequence[str], regex: Any, replacement: str) -> list[str]:
    """Every match replaced; values without one are dropped; `$1` and `${name}` stand for captures. Raises
    InputError when the result is longer than anything that is compared."""
    replaced = []
    for value in values:
        parts, at, length = [], -1, 0
        for match in regex.finditer(value):
            if match.end() == at:  # nothing, right after a match
                continue
            parts += [value[max(at, 0) : match.start()], fill_captures(replacement, match)]
            at = match.end()
            length += len(parts[-1])
            if length > MAX_REPLACED_LENGTH:
                raise _too_long()
        if at >= 0:
            replaced.append("".join(parts) + value[at:])
    return replaced


def fill_captures(replacement: str, match: Any) -> str:
    """The text with `$1` and `${name}` replaced by what was captured, `$$` by a dollar; unknown ones by
    nothing. What was captured is not looked at again. Raises InputError when it grows too long."""
    parts: list[str] = []
    length = 0
    for text, capture in _pieces(replacement):
        parts.append(text)
        if capture is None:
            continue
        try:
            group = match.group(int(capture) if _is_number(capture) else capture)
        except (IndexError, KeyError):
            group = ""
        parts.append(group or "")
        length += len(parts[-1])
        if length > MAX_REPLACED_LENGTH:
            raise _too_long()
    return "".join(parts)


def _too_long() -> InputError:
    return InputError(f"the result of a replacement is longer than {MAX_REPLACED_LENGTH} characters")


def captures_in(replacement: str) -> list[str]:
    """Names and numbers of the captures that a replacement asks for."""
    return [capture for _, capture in _pieces(replacement) if capture is not None]


def _pieces(replacement: str) -> Iterator[tuple[str, str | None]]:
    """Each run of text and the capture that follows it; None: none does."""
    rest = replacement
    while True:
        before, dollar, rest = rest.partition("$")
        if not dollar:
            yield before, None
            return
        if rest.startswith("$"):
            yield before + "$", None
            rest = rest[1:]
            continue
        name, rest = _capture_name(rest)
        yield before, name


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _capture_name(rest: str) -> tuple[str, str]:
    if rest.startswith("{"):
        name, closed, after = rest[1:].partition("}")
        return (name, after) if closed else ("", "")
    size = 0
    while size < len(rest) and (rest[size].isalnum() or rest[size] == "_"):
        size += 1
    return rest[:size], rest[size:]


@lru_cache(maxsize=4096)
def parse_template(text: str) -> Template | None:
    """A template, or None for text without braces; raises InputError for braces that do not parse."""
    opening, closing = text.count("{{"), text.count("}}")
    if not opening and not closing:
        return None
    if opening != 1 or closing != 1 or text.index("{{") > text.index("}}"):
        raise InputError(f"{text!r}: one pair of braces is allowed, as in '{{{{internal.logins}}}}'")
    if len(text) > MAX_TEMPLATE_LENGTH:
        raise InputError(f"template is longer than {MAX_TEMPLATE_LENGTH} characters")
    prefix, _, rest = text.partition("{{")
    inner, _, suffix = rest.partition("}}")
    parser = _Parser(inner, text)
    expression = parser.expression(0)
    parser.finish()
    return Template(prefix.lstrip(), expression, suffix.rstrip())


class _Parser:
    """Recursive descent over `internal.x`, `external["x"]`, `email.local(..)`, `regexp.replace(..)`."""

    def __init__(self, inner: str, whole: str) -> None:
        self._text = inner
        self._whole = whole
        self._at = 0

    def _refuse(self, what: str) -> InputError:
        return InputError(
            f"template {self._whole!r}: {what}",
            hint='allowed: internal.<trait>, external.<trait>, email.local(x), regexp.replace(x, "re", "to")',
        )

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1

    def _peek(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def _expect(self, char: str) -> None:
        if self._peek() != char:
            raise self._refuse(f"expected {char!r} at position {self._at + 1}")
        self._at += 1

    def _word(self, allowed: str) -> str:
        self._skip()
        start = self._at
        while self._at < len(self._text) and (
            self._text[self._at].isalnum() or self._text[self._at] in allowed
        ):
            self._at += 1
        if start == self._at:
            raise self._refuse(f"expected a name at position {start + 1}")
        return self._text[start : self._at]

    def _string(self) -> str:
        quote = self._peek()
        if quote not in {'"', "`"} or not quote:
            raise self._refuse(f"expected a quoted string at position {self._at + 1}")
        self._at += 1
        out: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char == quote:
                return "".join(out)
            if char == "\\" and quote == '"' and self._at < len(self._text):
                char = self._text[self._at]
                self._at += 1
                if char not in {'"', "\\"}:
                    out.append("\\")
            out.append(char)
        raise self._refuse("a quoted string does not end")

    def expression(self, depth: int) -> Expression:
        if depth > _MAX_DEPTH:
            raise self._refuse("nested too deeply")
        namespace = self._word("_")
        if namespace in {"internal", "external"}:
            return self._variable(namespace)
        self._expect(".")
        function = f"{namespace}.{self._word('_')}"
        if function not in {"email.local", "regexp.replace"}:
            raise self._refuse(f"unknown function {function}")
        self._expect("(")
        inner = self.expression(depth + 1)
        if function == "email.local":
            self._expect(")")
            return EmailLocal(inner)
        self._expect(",")
        pattern = self._string()
        self._expect(",")
        replacement = self._string()
        self._expect(")")
        patterns.compile_pattern(pattern)
        return RegexpReplace(inner, pattern, replacement)

    def _variable(self, namespace: str) -> Variable:
        if self._peek() == "[":
            self._at += 1
            name = self._string()
            self._expect("]")
        else:
            self._expect(".")
            name = self._word("_-")
        if namespace == "internal" and name not in INTERNAL_NAMES:
            raise self._refuse(f"unknown internal trait {name!r}")
        return Variable(name)

    def finish(self) -> None:
        if self._peek():
            raise self._refuse(f"unexpected text at position {self._at + 1}")

"""The text of a configuration file as templates, strictly: an error names the file, the line and the path.

Replacements are written as in Go's `Regexp.Expand`: `$1`, `${1}`, `$name` and `${name}` are captures, `$$` is
a dollar sign, and a name without braces is as long as it can be. What would become nothing there (`$1x`,
a capture that does not exist) is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from pkgs.clients.tsh.connections.openssh import check_host
from pkgs.clients.tsh.profile.home import profile_name
from pkgs.clients.tsh.templates.limits import MAX_FIELD, MAX_TEMPLATES
from pkgs.common.errors import InputError
from pkgs.common.resources.strict import line_of, load_yaml_strict

FIELDS = ("proxy", "cluster", "host", "query", "search")
_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<name>\w+)|\{(?P<braced>\w+)\}|)", re.ASCII)
_MAX_PORT = 65535


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A template as it is written."""

    template: str
    proxy: str = ""
    cluster: str = ""
    host: str = ""
    query: str = ""
    search: str = ""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file. `aliases` and `add_headers` are known in the field; tsh passes over them."""

    proxy_templates: list[Written] = []
    aliases: Any = None
    add_headers: Any = None


class Template:
    """What `host:port` has to match, and what then replaces the parts of the destination."""

    __slots__ = ("_pattern", "_replacements", "place")

    def __init__(self, place: str, pattern: Any, replacements: dict[str, list[str | int]]) -> None:
        self.place = place
        """File, line and path, for errors."""
        self._pattern = pattern
        self._replacements = replacements

    def apply(self, destination: str) -> dict[str, str] | None:
        """The replaced fields by name, `port` among them where `host` names one; None when the destination
        does not match. InputError when what comes out is no proxy or no host."""
        match = self._pattern.search(destination)
        if match is None:
            return None
        fields = {
            name: "".join(part if isinstance(part, str) else match.group(part) or "" for part in parts)
            for name, parts in self._replacements.items()
        }
        try:
            for name, value in fields.items():
                if len(value) > MAX_FIELD:
                    raise InputError(f"{name} becomes longer than {MAX_FIELD} characters")
            if fields.get("proxy"):
                profile_name(fields["proxy"])
            if fields.get("host"):
                fields["host"], fields["port"] = _host_and_port(fields["host"])
        except InputError as error:
            raise InputError(f"{self.place}: for {destination!r}: {error.message}", hint=error.hint) from None
        return fields


def parse(text: str, source: str) -> list[Template]:
    """The templates of a file in their order. InputError for what is not known or not right."""
    written = load_yaml_strict(text, File, source).proxy_templates

    def refuse(path: str, what: str, hint: str) -> InputError:
        return InputError(f"{source}:{line_of(text, path, source)}: {path}: {what}", hint=hint)

    if len(written) > MAX_TEMPLATES:
        raise refuse("proxy_templates", f"{len(written)} templates", f"at most {MAX_TEMPLATES} are read")
    return [
        _template(each, f"proxy_templates[{number}]", f"{source}: proxy_templates[{number}]", refuse)
        for number, each in enumerate(written)
    ]


def _template(
    written: Written, path: str, place: str, refuse: Callable[[str, str, str], InputError]
) -> Template:
    # Loads RE2, which a file without templates has no use for.
    from pkgs.common.access.matching.patterns import compile_regex

    try:
        pattern = compile_regex(written.template)
    except InputError as error:
        hint = "RE2's expressions have no look-around and no back references"
        raise refuse(f"{path}.template", error.message, hint) from None
    replacements = {}
    for name in FIELDS:
        text = getattr(written, name)
        if len(text) > MAX_FIELD:
            raise refuse(f"{path}.{name}", "too long", f"write at most {MAX_FIELD} characters")
        try:
            if text:
                replacements[name] = _parts(text, pattern)
        except InputError as error:
            raise refuse(f"{path}.{name}", error.message, error.hint) from None
    if not written.template or not replacements:
        raise refuse(path, "it lacks a template, or what replaces", f"add one of {', '.join(FIELDS)}")
    return Template(place, pattern, replacements)


def _parts(text: str, pattern: Any) -> list[str | int]:
    """Text as it is and, as numbers, captures."""
    parts: list[str | int] = []
    at = 0
    for found in _REFERENCE.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        name = found["name"] or found["braced"]
        if found["dollar"]:
            parts.append("$")
            continue
        if not name:
            raise InputError(
                "a dollar sign without a capture", hint="write $$ for the sign, $1 for a capture"
            )
        number = int(name) if name.isdigit() and len(name) < 5 else pattern.groupindex.get(name, -1)
        if not 0 <= number <= pattern.groups:
            raise InputError(
                f"the template has no capture {name[:40]!r}",
                hint="write $1, or ${1} where letters, digits or _ follow",
            )
        parts.append(number)
    return [*parts, text[at:]]


def _host_and_port(text: str) -> tuple[str, str]:
    host, colon, port = text.partition(":")
    if colon and (not (port.isascii() and port.isdigit()) or len(port) > 5 or not 0 < int(port) <= _MAX_PORT):
        raise InputError(f"{port[:40]!r} is no port", hint=f"write 1 to {_MAX_PORT}, or the host alone")
    return check_host(host), port

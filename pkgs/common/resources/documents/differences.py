"""How two states of one resource differ: the paths that changed, each with its value before and after.

Bounded in number and length, with secrets masked: fit for the audit log and for a terminal's diff. What is
cut says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec

from pkgs.common.resources import limits
from pkgs.common.resources.codec import to_builtins
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.secrets import changed_secrets

_ABSENT = object()
_NEVER = frozenset({"kind", "metadata.name", "metadata.revision"})
"""The same on both sides, or no change that anybody made. The name of a token is a secret."""
SECRET = "(secret)"  # noqa: S105


class Difference(NamedTuple):
    """One path; an empty text stands for a value that was or is not there."""

    path: str
    before: str
    after: str


def differences(before: Resource | None, after: Resource | None) -> list[Difference]:
    """At most `limits.MAX_DIFFERENCES` of them, in the order of the document; the last one tells how many
    more there are."""
    if before is None or after is None:
        found = _whole(before, after)
    else:
        walked = _walk(to_builtins(before), to_builtins(after), "")
        found = [Difference(path, _text(one), _text(two)) for path, one, two in walked if path not in _NEVER]
    for path in changed_secrets(before, after):
        found.append(Difference(f"spec.{path}", SECRET, SECRET))
    if len(found) > limits.MAX_DIFFERENCES:
        more = len(found) - limits.MAX_DIFFERENCES + 1
        found = [*found[: limits.MAX_DIFFERENCES - 1], Difference("...", "", f"{more} more changes")]
    return found


def changes_of(before: Resource | None, after: Resource | None) -> dict[str, str | list[str]]:
    """The same as a field of an audit event: path to the values before and after."""
    return {change.path: [change.before, change.after] for change in differences(before, after)}


def _whole(before: Resource | None, after: Resource | None) -> list[Difference]:
    """What was made or deleted: all that it says beyond the defaults of its kind."""
    resource = after or before
    if resource is None:
        return []
    walked = _walk(_defaults(resource), to_builtins(resource), "")
    said = [(path, _text(two)) for path, _, two in walked if path not in _NEVER]
    return [Difference(path, *(("", text) if before is None else (text, ""))) for path, text in said]


def _defaults(resource: Resource) -> Any:
    """The document of the same kind that says nothing."""
    fields = {field.name: field for field in msgspec.structs.fields(type(resource))}
    spec = getattr(resource, "spec", None)
    if spec is not None and any(field.required for field in msgspec.structs.fields(type(spec))):
        return _ABSENT
    empty: dict[str, Any] = {"metadata": Metadata(name="")}
    if spec is not None:
        empty["spec"] = type(spec)()
    if "status" in fields:
        empty["status"] = fields["status"].default
    return to_builtins(msgspec.structs.replace(resource, sub_kind="", **empty))


def _walk(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if old == new:
        return
    if _is_map(old) and _is_map(new) and not _says_nothing(old, new):
        one = old if isinstance(old, dict) else {}
        two = new if isinstance(new, dict) else {}
        for key in dict.fromkeys((*one, *two)):
            yield from _walk(one.get(key, _ABSENT), two.get(key, _ABSENT), f"{path}.{key}" if path else key)
    elif _has_maps(old) and _has_maps(new):
        olds = old if isinstance(old, list) else []
        news = new if isinstance(new, list) else []
        for index, (a, b) in enumerate(zip_longest(olds, news, fillvalue=_ABSENT)):
            yield from _walk(a, b, f"{path}[{index}]")
    else:
        yield path, old, new


def _is_map(value: Any) -> bool:
    return value is _ABSENT or isinstance(value, dict)


def _says_nothing(old: Any, new: Any) -> bool:
    """An empty block that came or went has no path inside that could tell of it."""
    return all(value is _ABSENT or not value for value in (old, new))


def _has_maps(value: Any) -> bool:
    """A list of blocks is compared block by block, a list of words as a whole."""
    return value is _ABSENT or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def _text(value: Any) -> str:
    if value is _ABSENT:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) > limits.MAX_DIFFERENCE_CHARS:
        more = len(text) - limits.MAX_DIFFERENCE_CHARS
        return f"{text[: limits.MAX_DIFFERENCE_CHARS]}...[{more} more]"
    return text

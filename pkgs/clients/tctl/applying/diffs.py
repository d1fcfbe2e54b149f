"""A step as a unified diff of the YAML before and after: inert on a terminal, secrets masked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pkgs.clients.tctl.applying import limits
from pkgs.clients.tctl.applying.plan import Step
from pkgs.common.output.sanitize import inert
from pkgs.common.output.yamlout import dumps
from pkgs.common.resources.codec import to_builtins
from pkgs.common.resources.documents.owned import comparable
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.secrets import shown_name

_ANOTHER_SECRET = "(a secret, given anew)"  # noqa: S105


def unified(step: Step) -> str:
    """Empty for a step that changes nothing."""
    old = _lines(step.before, ()) if step.before is not None else []
    new = _lines(step.after, step.secrets) if step.after is not None else []
    head = [
        f"--- {inert(step.label)} (cluster)\n",
        f"+++ {inert(step.label)} ({inert(step.where or 'gone')})\n",
    ]
    if max(len(old), len(new)) > limits.MAX_DIFF_LINES:
        return "".join([*head, f"@@ {len(old)} lines before, {len(new)} after: too many for a diff @@\n"])
    body = list(difflib.unified_diff(old, new))
    return "".join(head + body[2:]) if body else ""


def _lines(resource: Resource, secrets: tuple[str, ...]) -> list[str]:
    plain = to_builtins(comparable(resource))
    plain["metadata"]["name"] = shown_name(resource)
    for path in secrets:
        _put(plain, f"spec.{path}", _ANOTHER_SECRET)
    return list(_ended(dumps(plain)))


def _ended(text: str) -> Iterator[str]:
    for line in text.split("\n")[:-1]:
        yield line + "\n"


def _put(block: dict[str, Any], path: str, value: str) -> None:
    """Set a value inside; where the block is not there, neither is the secret."""
    *way, last = path.split(".")
    for name in way:
        inner = block.get(name)
        if not isinstance(inner, dict):
            return
        block = inner
    block[last] = value

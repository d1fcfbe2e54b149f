"""The `actions` of rules: `log("level", "format", args...)`, done when the rule matches.

What the line says comes from outside, and is cut; whoever writes it makes it inert.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pkgs.common.access.contexts.where import Scope, vocabulary_of
from pkgs.common.access.predicate import parser
from pkgs.common.access.predicate.evaluate import value_of
from pkgs.common.access.predicate.faults import EvaluationError, fault
from pkgs.common.access.predicate.typecheck import check
from pkgs.common.access.predicate.vocabulary import Type
from pkgs.common.access.types import UseRule
from pkgs.common.pki.identity import Identity

LEVELS = ("debug", "info", "warning", "error")
MAX_LINE = 1000
_PLACES = ("%v", "%s", "%q")


@dataclass(frozen=True, slots=True)
class LogAction:
    level: str
    text: Callable[[Any], Any]
    args: tuple[Callable[[Any], Any], ...]

    def line(self, identity: Identity, target: UseRule) -> tuple[str, str]:
        """Level and line; a part that cannot be answered says so."""
        scope = Scope(identity, target)
        line = _value(self.text, scope)
        done, rest = "", line
        for arg in self.args:
            at, place = min(((rest.find(p), p) for p in _PLACES if p in rest), default=(-1, ""))
            if at < 0:
                rest += f" {_value(arg, scope)}"
                continue
            # What was filled in is not looked at for further places.
            done += rest[:at] + _value(arg, scope)
            rest = rest[at + len(place) :]
        return self.level, (done + rest)[:MAX_LINE]


def _value(read: Callable[[Any], Any], scope: Scope) -> str:
    try:
        return str(read(scope))[:MAX_LINE]
    except EvaluationError:
        return "(not known)"


@lru_cache(maxsize=1024)
def compile_action(text: str, kinds: frozenset[str]) -> LogAction:
    """Raises InputError that points at the character."""
    tree = parser.parse(text)
    if not isinstance(tree, parser.Call) or tree.name != "log":
        raise fault(text, tree.at, 'an action is log("level", "format", ...)')
    if len(tree.args) < 2:
        raise fault(text, tree.at, f"log takes 2 or more arguments, found {len(tree.args)}")
    level = tree.args[0]
    if not isinstance(level, parser.Text) or level.value.lower() not in LEVELS:
        raise fault(text, level.at, f"log takes a level here: {', '.join(LEVELS)}")
    vocabulary = vocabulary_of(kinds)
    parts = [value_of(check(text, arg, vocabulary, wanted=Type.TEXT)) for arg in tree.args[1:]]
    return LogAction(level.value.lower(), parts[0], tuple(parts[1:]))

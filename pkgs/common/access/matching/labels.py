"""Label selectors of roles: compiled once, then asked for every server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.traits import Traits, expand
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import (
    App,
    AuthServer,
    Database,
    DatabaseServer,
    KubeCluster,
    Node,
    Proxy,
    Resource,
)
from pkgs.common.resources.role import Labels

WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class ValueMatcher:
    """Any of: every value, exact values, patterns."""

    anything: bool
    exact: frozenset[str]
    prefixes: tuple[str, ...]
    """Of `prefix*`, the most frequent pattern."""
    compiled: tuple[Any, ...]

    def matches(self, value: str) -> bool:
        if self.anything or value in self.exact:
            return True
        if self.prefixes and value.startswith(self.prefixes):
            return True
        return bool(self.compiled) and any(pattern.search(value) for pattern in self.compiled)


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All keys must match. A selector without keys matches nothing, unless it is the wildcard."""

    everything: bool
    keys: tuple[tuple[str, ValueMatcher], ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.everything:
            return True
        if not self.keys:
            return False
        for key, matcher in self.keys:
            value = labels.get(key)
            if value is None or not matcher.matches(value):
                return False
        return True


NO_VALUE = ValueMatcher(False, frozenset(), (), ())
NOTHING = LabelSelector(False, ())
EVERYTHING = LabelSelector(True, ())


def compile_selector(labels: Labels, traits: Traits, *, deny: bool = False) -> LabelSelector:
    """The selector with templates filled in from `traits`.

    In allow a value that came from a trait is compared literally, so that no trait brings a wildcard
    (attack A25); in deny it may be a pattern, which can only refuse more. Raises InputError."""
    keys: list[tuple[str, ValueMatcher]] = []
    for raw_key, raw_values in labels.items():
        values = [raw_values] if isinstance(raw_values, str) else list(raw_values)
        if raw_key == WILDCARD:
            if values != [WILDCARD]:
                raise InputError("the label key '*' may only have the value '*'")
            return EVERYTHING
        expanded_key = expand(raw_key, traits)
        key = expanded_key.values[0] if expanded_key.values else ""
        keys.append((key, _value_matcher(values if key else (), traits, deny)))
    return LabelSelector(False, tuple(keys))


def _value_matcher(values: Iterable[str], traits: Traits, deny: bool) -> ValueMatcher:
    anything = False
    exact: set[str] = set()
    prefixes: list[str] = []
    compiled: list[Any] = []
    for raw in values:
        result = expand(raw, traits)
        for value in result.values:
            if result.from_trait and not deny:
                exact.add(value)
            elif value == WILDCARD:
                anything = True
            elif value.endswith(WILDCARD) and value.count(WILDCARD) == 1:
                prefixes.append(patterns.checked(value)[:-1])
            elif patterns.is_pattern(value):
                compiled.append(patterns.compile_pattern(value))
            else:
                exact.add(value)
    return ValueMatcher(anything, frozenset(exact), tuple(prefixes), tuple(compiled))


def labels_of(resource: Resource) -> Mapping[str, str]:
    """Static labels and the results of command labels; where both have a key, the command's wins (attack
    A23)."""
    if isinstance(resource, DatabaseServer):
        return labels_of(resource.spec.database)
    if isinstance(resource, Node | Proxy | AuthServer):
        commands = resource.spec.cmd_labels
    elif isinstance(resource, App | Database | KubeCluster):
        commands = resource.spec.dynamic_labels
    else:
        return resource.metadata.labels
    if not commands:
        return resource.metadata.labels
    return {**resource.metadata.labels, **{key: label.result for key, label in commands.items()}}

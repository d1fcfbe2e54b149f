"""Objects inside databases: what they are labelled by import rules, and what roles permit on them.

rules of the cluster -> ImportRules.labels_of(object) -> ObjectPermissions.on(object's kind, labels)

An object that no rule labels is not imported, and nobody is granted anything on it. What any deny takes away,
no allow gives back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.labels import LabelSelector, compile_selector, labels_of
from pkgs.common.access.matching.traits import Traits, expand
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import Database, DbObjectImportRule
from pkgs.common.resources.kinds.discovery import EVERY_PERMISSION, OBJECT_PERMISSIONS, ObjectMapping
from pkgs.common.resources.role import DbPermission

_VARIABLE = re.compile(r"\{\{\s*obj\.(\w+)\s*\}\}")
_VARIABLES = ("name", "schema", "database", "object_kind", "protocol", "database_service_name")


@dataclass(frozen=True, slots=True)
class DbObject:
    """Something inside a database that permissions are granted on."""

    kind: str
    """A key of `OBJECT_PERMISSIONS`."""
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class _Names:
    """Patterns of names; without any, every name (of a scope) or none (of a match)."""

    compiled: tuple[Any, ...]

    def match(self, name: str) -> bool:
        return any(pattern.search(name) for pattern in self.compiled)


@dataclass(frozen=True, slots=True)
class _Mapping:
    match: Mapping[str, _Names]
    """By kind of objects."""
    schemas: _Names
    add: tuple[tuple[str, tuple[str, ...]], ...]
    """Labels, and their values as texts and names of variables in turn."""


class ImportRules:
    """The rules that apply inside one database of a server."""

    def __init__(self, rules: Iterable[DbObjectImportRule], database: Database, inside: str) -> None:
        """`inside`: the name of the database that the server has. Raises InputError."""
        self._fixed = {
            "database": inside,
            "protocol": database.spec.protocol,
            "database_service_name": database.name,
        }
        labels = labels_of(database)
        # The label of the rule of the highest priority is the last one; names settle the rest.
        ordered = sorted(rules, key=lambda rule: (rule.spec.priority, rule.name))
        self._mappings = [
            _compiled(mapping)
            for rule in ordered
            if _is_about(rule, labels)
            for mapping in rule.spec.mappings
            if _in_scope(mapping.scope.database_names, inside)
        ]

    def labels_of(self, found: DbObject) -> dict[str, str]:
        """Empty: it is not imported."""
        labels: dict[str, str] = {}
        for mapping in self._mappings:
            if not mapping.match[found.kind].match(found.name):
                continue
            if mapping.schemas.compiled and not mapping.schemas.match(found.schema):
                continue
            values = {
                **self._fixed,
                "name": found.name,
                "schema": found.schema,
                "object_kind": found.kind,
            }
            for key, parts in mapping.add:
                labels[key] = "".join(values[part] if index % 2 else part for index, part in enumerate(parts))
        return labels


def _is_about(rule: DbObjectImportRule, labels: Mapping[str, str]) -> bool:
    wanted = rule.spec.database_labels
    return bool(wanted) and all(
        compile_selector({one.name: one.values}, {}).matches(labels) for one in wanted
    )


def _compiled(mapping: ObjectMapping) -> _Mapping:
    match = mapping.match
    return _Mapping(
        match={
            "table": _names(match.table_names),
            "view": _names(match.view_names),
            "procedure": _names(match.procedure_names),
        },
        schemas=_names(mapping.scope.schema_names),
        add=tuple((key, parse_label(value)) for key, value in mapping.add_labels.items()),
    )


def _names(entries: Sequence[str]) -> _Names:
    return _Names(tuple(patterns.compile_pattern(entry) for entry in entries))


def _in_scope(entries: Sequence[str], name: str) -> bool:
    return not entries or _names(entries).match(name)


def parse_label(text: str) -> tuple[str, ...]:
    """Texts and names of variables in turn, a text first and last. Raises InputError."""
    parts = tuple(_VARIABLE.split(text))
    for index, part in enumerate(parts):
        if index % 2 and part not in _VARIABLES:
            raise InputError(f"an object has no {part!r}", hint=f"there is obj.{', obj.'.join(_VARIABLES)}")
        if not index % 2 and ("{{" in part or "}}" in part):
            raise InputError(f"{text[:100]!r} is no template", hint="for example {{obj.schema}}")
    return parts


@dataclass(frozen=True, slots=True)
class _Permission:
    match: LabelSelector
    permissions: frozenset[str]
    """In capitals; `EVERY_PERMISSION` among them: all."""


@dataclass(frozen=True, slots=True)
class ObjectPermissions:
    """What a set of roles says about the objects of one database."""

    allowed: tuple[_Permission, ...] = ()
    denied: tuple[_Permission, ...] = ()
    texts: tuple[str, ...] = ()
    """What it says, in words: equal where it is the same."""

    def on(self, kind: str, labels: Mapping[str, str]) -> frozenset[str]:
        """Of the permissions that objects of this kind have, those granted on one with these labels."""
        granted = _united(self.allowed, labels) & OBJECT_PERMISSIONS[kind] if labels else frozenset()
        if not granted:
            return granted
        denied = _united(self.denied, labels)
        return frozenset() if EVERY_PERMISSION in denied else granted - denied


def _united(permissions: Sequence[_Permission], labels: Mapping[str, str]) -> frozenset[str]:
    return frozenset().union(*(one.permissions for one in permissions if one.match.matches(labels)))


def compile_permissions(
    allow: Iterable[DbPermission], deny: Iterable[DbPermission], traits: Traits
) -> ObjectPermissions:
    """Raises InputError."""
    allowing, denying = list(allow), list(deny)
    said = {_text(one, traits, deny=False) for one in allowing}
    refused = {f"not {_text(one, traits, deny=True)}" for one in denying}
    return ObjectPermissions(
        allowed=tuple(_permission(one, traits, deny=False) for one in allowing),
        denied=tuple(_permission(one, traits, deny=True) for one in denying),
        texts=(*sorted(said), *sorted(refused)),
    )


def _permission(one: DbPermission, traits: Traits, *, deny: bool) -> _Permission:
    granted = frozenset(name.upper() for name in one.permissions)
    # In allow the word for all of them grants nothing, whoever stored it.
    granted = granted if deny else granted - {EVERY_PERMISSION}
    return _Permission(compile_selector(one.match, traits, deny=deny), granted)


def _text(one: DbPermission, traits: Traits, *, deny: bool) -> str:
    """`INSERT SELECT on env=dev|test schema=public`."""
    labels = []
    for key, given in one.match.items():
        values: set[str] = set()
        for entry in [given] if isinstance(given, str) else given:
            found = expand(entry, traits)
            literal = found.from_trait and not deny
            values |= {
                repr(value) if literal and patterns.is_pattern(value) else value for value in found.values
            }
        labels.append(f"{''.join(expand(key, traits).values[:1])}={'|'.join(sorted(values))}")
    return f"{' '.join(sorted({name.upper() for name in one.permissions}))} on {' '.join(sorted(labels))}"

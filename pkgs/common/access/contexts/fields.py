"""The fields of resources as typed names of the predicate language: `resource.metadata.name` and so on.

Made from the types themselves, so a new field can be asked for at once. Only text, truth values, lists of
text and maps of text have names; key material is bytes and has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

import msgspec

from pkgs.common.access.matching.labels import labels_of
from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.vocabulary import Type, Variable
from pkgs.common.resources.kinds import Node, Proxy, Resource
from pkgs.common.resources.metadata import Base
from pkgs.common.resources.registry import TYPES

_LISTS = (list, tuple)
_LABELS = "resource.metadata.labels"


def name_of(resource: Resource) -> str:
    """What a person calls it: the host name of a server, the name of the rest."""
    return resource.spec.hostname if isinstance(resource, Node | Proxy) else resource.metadata.name


@lru_cache(maxsize=256)
def resource_variables(
    kinds: frozenset[str], resource: Callable[[Any], Resource | None]
) -> dict[str, Variable]:
    """Names for resources of these kinds; `resource` finds the resource in the scope.

    A field that two kinds have with different types has no name. Of a kind without a type of its own the
    metadata is known."""
    found: dict[str, Variable | None] = {}
    for struct in [TYPES[kind] for kind in sorted(kinds) if kind in TYPES] or [Base]:
        for path, type in _paths(struct):
            name = "resource." + ".".join(encoded for encoded, _ in path)
            read = _labels(resource) if name == _LABELS else _field(resource, [attr for _, attr in path])
            known = found.get(name, Variable(type, read))
            found[name] = known if known is not None and known.type is type else None
    variables = {name: variable for name, variable in found.items() if variable is not None}
    variables["resource.kind"] = Variable(Type.TEXT, _field(resource, ["kind"]))
    variables["labels"] = Variable(Type.TEXTS, _labels(resource))
    variables["name"] = Variable(Type.TEXT, _name(resource))
    return variables


def _paths(struct: type[Any]) -> Iterable[tuple[tuple[tuple[str, str], ...], Type]]:
    """(name in documents, name of the attribute) per step, and the type at the end."""
    for field in msgspec.structs.fields(struct):
        step = (field.encode_name, field.name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            for path, type_ in _paths(field.type):
                yield (step, *path), type_
            continue
        found = _type_of(field.type)
        if found is not None:
            yield (step,), found


def _type_of(annotation: Any) -> Type | None:
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is bool:
        return Type.BOOL
    if annotation is str or (origin is Literal and all(isinstance(arg, str) for arg in args)):
        return Type.TEXT
    if origin in _LISTS and args and _type_of(args[0]) is Type.TEXT:
        return Type.LIST
    if origin is dict and args[0] is str:
        return {Type.TEXT: Type.TEXTS, Type.LIST: Type.LISTS}.get(_type_of(args[1]) or Type.BOOL)
    return None


def _field(resource: Callable[[Any], Resource | None], names: list[str]) -> Callable[[Any], Any]:
    def read(scope: Any) -> Any:
        value: Any = resource(scope)
        for name in names:
            if value is None:
                return None
            if not hasattr(value, name):
                # Another kind's field, which a rule on several kinds may ask for: not empty, but no answer.
                raise EvaluationError(f"this kind has no field {name}")
            value = getattr(value, name)
        return value

    return read


def _labels(resource: Callable[[Any], Resource | None]) -> Callable[[Any], Mapping[str, str] | None]:
    def read(scope: Any) -> Mapping[str, str] | None:
        found = resource(scope)
        return None if found is None else labels_of(found)

    return read


def _name(resource: Callable[[Any], Resource | None]) -> Callable[[Any], str | None]:
    def read(scope: Any) -> str | None:
        found = resource(scope)
        return None if found is None else name_of(found)

    return read

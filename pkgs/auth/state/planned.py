"""The store as it will be after the earlier steps of a plan: for checking the later ones without writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import inspect as mi

from pkgs.auth import limits
from pkgs.auth.backend.interface import Operation
from pkgs.auth.state.store import R, Store
from pkgs.common.errors import InputError, InternalError, LimitExceededError
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.registry import Ref, type_of


class PlannedStore(Store):
    """What is stored and, by name only, what is assumed. An assumed resource grants nothing: it says no more
    than that there will be one of this name. Never writes."""

    def __init__(self, store: Store, assumed: Sequence[Ref]) -> None:
        if len(assumed) > limits.ASSUMED_MAX:
            raise LimitExceededError(f"a plan may assume {limits.ASSUMED_MAX:,} resources")
        super().__init__(store.backend)
        self._real = store
        self._assumed = frozenset(assumed)

    def get(self, kind: str, name: str, sub_kind: str = "") -> Resource | None:
        found = self._real.get(kind, name, sub_kind)
        if found is None and Ref(kind, sub_kind, name) in self._assumed:
            return placeholder(kind, name, sub_kind)
        return found

    def all(self, kind: str) -> list[Resource]:
        return self._real.all(kind)

    def assumes(self, kind: str, name: str) -> bool:
        return Ref(kind, "", name) in self._assumed

    def is_static(self, name: str) -> bool:
        return self._real.is_static(name)

    async def _write(self, resource: R, *operations: Operation) -> R:
        raise InternalError("a plan wrote", detail=f"{resource.kind} {len(operations)}")


def placeholder(kind: str, name: str, sub_kind: str = "") -> Resource:
    """The emptiest resource of this name; what its kind demands is there and empty."""
    cls = type_of(kind)
    fields: dict[str, Any] = {"metadata": Metadata(name=name), "sub_kind": sub_kind}
    for field in msgspec.structs.fields(cls):
        if field.required and field.name not in fields:
            fields[field.name] = _empty(mi.type_info(field.type))
    return cast(Resource, cls(**fields))


def _empty(info: mi.Type) -> Any:
    if isinstance(info, mi.StructType):
        required = {f.name: _empty(f.type) for f in info.fields if f.required}
        return info.cls(**required)
    if isinstance(info, mi.LiteralType):
        return info.values[0]
    if isinstance(info, mi.ListType | mi.VarTupleType):
        return []
    if isinstance(info, mi.DictType):
        return {}
    if isinstance(info, mi.StrType):
        return ""
    if isinstance(info, mi.IntType | mi.BoolType):
        return 0
    raise InputError(f"a plan cannot assume a {type(info).__name__}")

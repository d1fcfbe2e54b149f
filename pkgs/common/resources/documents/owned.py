"""What in a resource is the server's to say: no difference between a document and what is stored."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec

from pkgs.common.resources.defaults import ORIGIN_LABEL
from pkgs.common.resources.kinds import AccessListMember, Resource
from pkgs.common.resources.registry import DEFAULTED, SINGLETONS

R = TypeVar("R", bound=Resource)

_FIELDS: dict[str, tuple[str, ...]] = {
    "user": ("status", "created_by"),
    "lock": ("created_at", "created_by"),
}
"""Inside `spec`: what a document that does not say it leaves as it is. `status` beside `spec` always is."""


def located(resource: R) -> R:
    """Under the key that it is kept by: a member of a list beneath its list, a setting that always exists by
    its one name, whatever it is sent under."""
    if resource.kind in DEFAULTED and resource.name != SINGLETONS[resource.kind]:
        metadata = msgspec.structs.replace(resource.metadata, name=SINGLETONS[resource.kind])
        return msgspec.structs.replace(resource, metadata=metadata)
    if isinstance(resource, AccessListMember) and not resource.sub_kind:
        return msgspec.structs.replace(resource, sub_kind=resource.spec.access_list)
    return resource


def with_revision(resource: R, revision: str) -> R:
    """The same resource at another revision."""
    if resource.metadata.revision == revision:
        return resource
    metadata = msgspec.structs.replace(resource.metadata, revision=revision)
    return msgspec.structs.replace(resource, metadata=metadata)


def adopting(document: R, before: Resource) -> R:
    """A document that lies in a file for long, with what the server said since in the fields that it does
    not name: applying it again lifts no lock of a user, and makes no lock young."""
    result: Any = document
    spec: Any = getattr(document, "spec", None)
    changes = {}
    for name in _FIELDS.get(document.kind, ()):
        default = next(f for f in msgspec.structs.fields(type(spec)) if f.name == name).default
        if getattr(spec, name) == default:
            changes[name] = getattr(cast(Any, before).spec, name)
    if changes:
        result = msgspec.structs.replace(result, spec=msgspec.structs.replace(spec, **changes))
    return cast(R, result)


def comparable(resource: R) -> R:
    """Without revision, status, and the mark of who owns a setting: equal means that there is nothing to
    write."""
    result: Any = with_revision(resource, "")
    if resource.kind in DEFAULTED and ORIGIN_LABEL in resource.metadata.labels:
        labels = {k: v for k, v in resource.metadata.labels.items() if k != ORIGIN_LABEL}
        metadata = msgspec.structs.replace(result.metadata, labels=labels)
        result = msgspec.structs.replace(result, metadata=metadata)
    for field in msgspec.structs.fields(type(resource)):
        if field.name == "status":
            result = msgspec.structs.replace(result, status=field.default)
    return cast(R, result)

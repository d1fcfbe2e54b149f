"""Resource ids, `/cluster/kind/name[/sub]`: what a certificate may be restricted to.

One place writes and reads them, for who issues such certificates and for every service that decides. An id
that does not parse lets nothing pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from pkgs.common.errors import InputError
from pkgs.common.resources.kinds.requests import ResourceId
from pkgs.common.resources.names import RESOURCE_NAME, valid_cluster_name
from pkgs.common.resources.validate.roles import KUBE_KINDS
from pkgs.common.resources.validate.words import short

MAX_ID_LENGTH = 1024
MAX_SUB_PARTS = 2
"""Namespace and name."""
KUBE_OBJECTS = KUBE_KINDS - {"*"}
"""Kinds of what lies inside a Kubernetes cluster: their ids name that cluster and then the object."""


def parse(text: str) -> ResourceId:
    """The parts of an id; InputError says what would be right."""
    parts = text.split("/")
    if len(text) > MAX_ID_LENGTH or len(parts) < 4 or parts[0]:
        raise _bad(text)
    _, cluster, kind, name, *sub = parts
    if not valid_cluster_name(cluster) or not kind.isascii() or not kind.replace("_", "").isalnum():
        raise _bad(text)
    if not all(_is_name(part) for part in (name, *sub)):
        raise _bad(text)
    if (kind in KUBE_OBJECTS) != bool(sub) or len(sub) > MAX_SUB_PARTS:
        raise _bad(text)
    return ResourceId(cluster=cluster, kind=kind, name=name, sub_resource="/".join(sub))


def format_id(found: ResourceId) -> str:
    """The text of an id."""
    tail = f"/{found.sub_resource}" if found.sub_resource else ""
    return f"/{found.cluster}/{found.kind}/{found.name}{tail}"


def allows(ids: Sequence[str], cluster: str, kind: str, name: str) -> bool:
    """Whether a certificate restricted to `ids` may be used for this resource (attack A22).

    Cluster, kind and name must be equal. The id of a Kubernetes object lets its cluster pass; which object
    is meant must then be checked by whoever sees it."""
    return any(_allows(text, cluster, kind, name) for text in ids)


def _allows(text: str, cluster: str, kind: str, name: str) -> bool:
    try:
        found = parse(text)
    except InputError:
        return False
    if (found.cluster, found.name) != (cluster, name):
        return False
    if found.kind in KUBE_OBJECTS:
        return kind == "kube_cluster"
    return found.kind == kind


def _is_name(part: str) -> bool:
    return part not in {"", ".", ".."} and RESOURCE_NAME.fullmatch(part) is not None


def _bad(text: str) -> InputError:
    return InputError(
        f"{short(text)!r} is not a resource id",
        hint="write /<cluster>/<kind>/<name>, as `tsh request search` prints it",
    )

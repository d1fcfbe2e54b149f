"""Generic verbs over resources, join tokens, heartbeats, and the watch that keeps caches."""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.resources.kinds import Node, Proxy, Resource, Token
from pkgs.common.rpc.calls import Request, StreamRequest


class Got(msgspec.Struct, frozen=True):
    """One resource, whatever its kind."""

    resource: Resource


class GetResource(Request[Got], frozen=True, kw_only=True):
    kind: str
    name: str
    sub_kind: str = ""
    with_secrets: bool = False


class Chunk(msgspec.Struct, frozen=True):
    """About fifty resources of a listing."""

    resources: list[Resource]


class ListResources(StreamRequest[Chunk], frozen=True, kw_only=True):
    """All of one kind that the caller may see, in key order."""

    kind: str
    with_secrets: bool = False
    labels: dict[str, str] = {}
    search: list[str] = []


class PutResource(Request[Got], frozen=True, kw_only=True):
    """`tctl create`, `create -f` and `edit`. Answers with the stored form and its new revision."""

    resource: Resource
    mode: Literal["create", "upsert", "update"] = "create"
    """update demands that metadata.revision is the stored one."""


class DeleteResource(Request[Done], frozen=True, kw_only=True):
    kind: str
    name: str
    sub_kind: str = ""


class CreateToken(Request[Got], frozen=True, kw_only=True):
    """`tctl tokens add`: the answer is the Token with its secret name."""

    roles: list[str]
    ttl_s: int = 1800
    value: str = ""
    """Empty: sixteen random bytes in hex."""
    labels: dict[str, str] = {}


class Heartbeat(Request[Done], frozen=True, kw_only=True):
    """A host says it is alive. Only for its own host id."""

    server: Node | Proxy
    ttl_s: int = 600


class WatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a watch: a snapshot in chunks, `ready`, then changes as they happen.

    `resync` ends the stream: the reader fell behind and must watch anew."""

    op: Literal["snapshot", "ready", "put", "delete", "resync"]
    resources: list[Resource] = []
    kind: str = ""
    name: str = ""
    sub_kind: str = ""


class WatchResources(StreamRequest[WatchItem], frozen=True, kw_only=True):
    """Follow kinds. Only kinds the caller's system role may know; never with secrets."""

    kinds: list[str]


__all__ = [
    "Chunk",
    "CreateToken",
    "DeleteResource",
    "GetResource",
    "Got",
    "Heartbeat",
    "ListResources",
    "PutResource",
    "Token",
    "WatchItem",
    "WatchResources",
]

"""Generic verbs over resources, join tokens, heartbeats, and the watch that keeps caches."""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.resources.kinds import Node, Proxy, Resource, Token
from pkgs.common.resources.registry import Ref
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


class Stored(Got, frozen=True, kw_only=True):
    """What was written, or with `dry_run` would be; then without secrets and without a new revision."""

    change: Literal["created", "updated", "unchanged"] = "updated"
    """unchanged: only of a dry run; what is asked for is what there is."""
    secrets: list[str] = []
    """Of a dry run: paths inside spec whose secret would change. Who is not the administrator is told each
    one that the document brings along, so that nobody learns a secret by guessing."""
    warnings: list[str] = []
    """What is stored as it is and yet may not be what was meant."""


class PutResource(Request[Stored], frozen=True, kw_only=True):
    """`tctl create`, `create -f`, `edit` and `apply`. Answers with the stored form and its new revision."""

    resource: Resource
    mode: Literal["create", "upsert", "update"] = "create"
    """update demands that metadata.revision is the stored one; upsert does so where one is given."""
    dry_run: bool = False
    """Every check and the answer, but nothing is stored and nothing audited."""
    assume: list[Ref] = []
    """With `dry_run`: what the same plan creates before, and so need not exist yet."""


class DeleteResource(Request[Done], frozen=True, kw_only=True):
    kind: str
    name: str
    sub_kind: str = ""
    revision: str = ""
    """Delete only what is still at this revision; empty: whatever there is."""
    dry_run: bool = False
    """Every check, but nothing is deleted and nothing audited."""
    assume: list[Ref] = []
    """With `dry_run`: what the same plan changes or deletes before; it does not count as a user of what is
    deleted."""
    prune: bool = False
    """A cleaning up: what is the cluster's own, a preset, a setting, presence, or the caller is refused."""


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
    "Stored",
    "Token",
    "WatchItem",
    "WatchResources",
]

"""`WatchResources`: a snapshot in chunks, then changes as they happen, with a bounded queue per watcher."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache
from urllib.parse import unquote

from pkgs.auth import limits
from pkgs.auth.backend.fanout import Change, Item, Resync
from pkgs.auth.chunks import chunked
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import PREFIX, Store, decode
from pkgs.common.api.resources import WatchItem, WatchResources
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.registry import canonical_kind
from pkgs.common.resources.secrets import without_secrets
from pkgs.common.rpc.calls import Caller

NEVER_WATCHED = frozenset({"token", "user"})
"""Kinds that are secrets themselves or of no use to a cache."""


class WatchHandler:
    def __init__(self, store: Store, permissions: Permissions) -> None:
        self._store = store
        self._permissions = permissions

    async def watch(self, caller: Caller, request: WatchResources) -> AsyncIterator[WatchItem]:
        kinds = list(dict.fromkeys(canonical_kind(kind) for kind in request.kinds))
        if not kinds:
            raise InputError("a watch names at least one kind")
        for kind in kinds:
            allowed = caller.admin or self._permissions.host_may_read(caller, kind)
            if not allowed or kind in NEVER_WATCHED:
                raise DeniedError(f'access denied to perform action "list" on "{kind}"')
        is_proxy = caller.identity is not None and caller.identity.is_host(SystemRole.PROXY)
        capacity = limits.WATCH_QUEUE_SERVER if is_proxy or caller.admin else limits.WATCH_QUEUE_AGENT
        # Subscribed before the snapshot is taken: what changes in between comes twice, never not at all.
        watcher = self._store.backend.watch(*(f"{PREFIX}{kind}/" for kind in kinds), capacity=capacity)
        try:
            for kind in kinds:
                resources = [_public(resource) for resource in self._store.all(kind)]
                for part in chunked(resources):
                    yield WatchItem(op="snapshot", resources=part, kind=kind)
            yield WatchItem(op="ready")
            async for change in watcher:
                yield _item(change)
        except Resync:
            yield WatchItem(op="resync")
        finally:
            watcher.close()


@lru_cache(maxsize=512)
def _decoded(item: Item) -> Resource:
    """Decoded once for all watchers, without secrets."""
    return _public(decode(item))


def _item(change: Change) -> WatchItem:
    kind, _, rest = change.key[len(PREFIX) :].partition("/")
    if change.item is not None:
        resource = _decoded(change.item)
        return WatchItem(
            op="put", resources=[resource], kind=kind, name=resource.name, sub_kind=resource.sub_kind
        )
    sub_kind, slash, name = rest.partition("/")
    if not slash:
        sub_kind, name = "", rest
    return WatchItem(op="delete", kind=kind, name=unquote(name), sub_kind=unquote(sub_kind))


def _public(resource: Resource) -> Resource:
    return without_secrets(resource)

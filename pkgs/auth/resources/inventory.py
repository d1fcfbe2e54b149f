"""Heartbeats: hosts saying that they are alive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from pkgs.auth import limits
from pkgs.auth.state.bootstrap import ORIGIN
from pkgs.auth.state.store import Store, encode
from pkgs.common.access.validate import validate
from pkgs.common.api.login import Done
from pkgs.common.api.resources import Heartbeat
from pkgs.common.errors import DeniedError, InputError, LimitExceededError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import Node, Proxy
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.names import valid_host_name
from pkgs.common.rpc.calls import Caller


class InventoryHandlers:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def heartbeat(self, caller: Caller, request: Heartbeat) -> Done:
        """Only for the caller's own host id and for what its certificate lets it be (attack A39)."""
        identity = caller.host()
        server = request.server
        needed = SystemRole.NODE if isinstance(server, Node) else SystemRole.PROXY
        if server.name != identity.name or not identity.is_host(needed):
            raise DeniedError(
                "a host may only speak for itself",
                detail=f"{identity.name} sent a heartbeat of {server.name}",
            )
        if isinstance(server, Node) and self._store.get("node", server.name, OPENSSH) is not None:
            raise DeniedError("this id is a server's that has no agent")
        await self._store.put(self._checked(server, request.ttl_s))
        return Done()

    def _checked(self, server: Node | Proxy, ttl_s: int) -> Node | Proxy:
        if not valid_host_name(server.spec.hostname):
            raise InputError(f"hostname {server.spec.hostname[:80]!r} is not allowed")
        labels = checked_labels(server.metadata.labels)
        ttl = min(max(ttl_s, limits.HEARTBEAT_TTL_MIN_S), limits.HEARTBEAT_TTL_MAX_S)
        expires = datetime.fromtimestamp(int(self._store.backend.clock()) + ttl, UTC)
        metadata = Metadata(name=server.name, labels=labels, expires=expires)
        checked = msgspec.structs.replace(server, metadata=metadata, sub_kind="")
        validate(checked)
        if len(encode(checked)) > limits.HEARTBEAT_BYTES:
            raise LimitExceededError(f"a server may tell {limits.HEARTBEAT_BYTES:,} bytes about itself")
        return checked


def checked_labels(told: Mapping[str, str]) -> dict[str, str]:
    """The labels that a host may give itself. Raises InputError for too many, or too long ones."""
    labels = {k: v for k, v in told.items() if k != ORIGIN}
    if len(labels) > limits.MAX_LABELS:
        raise InputError(f"a server may have {limits.MAX_LABELS} labels")
    if any(len(text) > limits.MAX_LABEL_TEXT for pair in labels.items() for text in pair):
        raise InputError(f"label names and values may have {limits.MAX_LABEL_TEXT} characters")
    return labels

"""Servers without an agent that make themselves known: `teleport join openssh` on the host."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from pkgs.auth import limits
from pkgs.auth.issuing.hosts import Hosts
from pkgs.auth.issuing.reserved import check_principals
from pkgs.auth.resources.inventory import checked_labels
from pkgs.auth.state.store import Store, encode
from pkgs.common.access.validate import validate
from pkgs.common.api.login import Done
from pkgs.common.api.openssh import PutOpensshServer
from pkgs.common.errors import AlreadyExistsError, DeniedError, LimitExceededError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import Node, ServerSpec
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller


class OpensshServers:
    def __init__(self, store: Store, hosts: Hosts) -> None:
        self._store = store
        self._hosts = hosts

    async def put(self, caller: Caller, request: PutOpensshServer) -> Done:
        """For the caller's own host id and no other, under a name that an agent might have (attack A39)."""
        identity = caller.host()
        if not identity.is_host(SystemRole.NODE) or await self._hosts.get(identity.name) is None:
            raise DeniedError("this call is for hosts that have joined as a node")
        if self._store.get("node", identity.name) is not None:
            raise AlreadyExistsError(
                "an agent runs under this host's id",
                hint="stop it and wait until `tctl nodes ls` has it no more, or use another --data-dir",
            )
        check_principals([request.hostname], self._store, own_host_id=identity.name, role=SystemRole.NODE)
        expires = identity.expires_at
        node = Node(
            sub_kind=OPENSSH,
            metadata=Metadata(
                name=identity.name,
                labels=checked_labels(request.labels),
                # Without the certificate no proxy would connect to it any more.
                expires=None if math.isinf(expires) else datetime.fromtimestamp(int(expires), UTC),
            ),
            spec=ServerSpec(hostname=request.hostname, addr=request.addr),
        )
        validate(node)
        if len(encode(node)) > limits.HEARTBEAT_BYTES:
            raise LimitExceededError(f"a server may tell {limits.HEARTBEAT_BYTES:,} bytes about itself")
        await self._store.put(node)
        return Done()

"""What the Auth Service itself writes into the audit log, and how it names the one who acted."""

from __future__ import annotations

from collections.abc import Callable

from pkgs.auth.audit.log import AuditLog
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import new_event
from pkgs.common.events.types import Event, FieldValue
from pkgs.common.rpc.calls import Caller


class Journal:
    """Events of this Auth Service. `write` returns once they are durable: nothing secret leaves before."""

    def __init__(self, log: AuditLog, cluster_name: str, host_id: str, clock: Callable[[], float]) -> None:
        self._log = log
        self._cluster = cluster_name
        self._host_id = host_id
        self._clock = clock

    def event(self, kind: Kind, **fields: FieldValue) -> Event:
        return new_event(kind, cluster_name=self._cluster, now=self._clock(), ei=0, **fields)

    async def write(self, *events: Event) -> None:
        await self._log.append(events)

    def actor(self, caller: Caller) -> str:
        """The name that acted: a user's own, or `<host id>.<cluster>` for a host and for the administrator
        on this one."""
        identity = caller.identity
        if identity is None:
            return f"{self._host_id}.{self._cluster}" if caller.admin else ""
        if identity.name and not identity.system_roles:
            return identity.name
        return f"{identity.name}.{self._cluster}"

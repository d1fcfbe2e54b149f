"""The events of one connection that are of no session: who was not let in, what was refused, how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from pkgs.common.events import codes
from pkgs.common.events.format import new_event
from pkgs.common.events.types import Emitter, FieldValue
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import Node
from pkgs.common.ssh.process.monitor import Verdict
from pkgs.common.ssh.service.gate import Gate
from pkgs.common.ssh.sessions.log import Parties
from pkgs.common.ssh.sessions.messages import OpenSession


class Audit:
    """`node` is the server as events name it."""

    def __init__(
        self, gate: Gate, emitter: Emitter, node: Callable[[], Node], client_addr: str, log: logging.Logger
    ) -> None:
        self.parties: Parties | None = None
        """Once somebody has logged in."""
        self._gate = gate
        self._emitter = emitter
        self._node = node
        self._client_addr = client_addr
        self._log = log

    async def refused(self, login: str, verdict: Verdict) -> None:
        """Somebody proved to hold a certificate that does not do. Raises AccessError."""
        self._log.info(
            "login refused", extra={"login": login, "addr": self._client_addr, "why": verdict.reason}
        )
        node = self._node()
        fields: dict[str, FieldValue] = {
            "user": verdict.user or None,
            "login": login,
            "success": False,
            "error": verdict.reason,
            "server_id": node.name,
            "server_hostname": node.spec.hostname,
            "addr.remote": self._client_addr,
            "proto": "ssh",
        }
        await self._emit(codes.AUTH_FAIL, fields)

    def logs_in(self, identity: Identity, login: str, relayed_to: str = "") -> Parties:
        """From now on every event names them, and the agent that they are passed on to."""
        cluster = self._gate.cache.cluster_name
        self.parties = Parties(identity, login, self._client_addr, self._node, cluster, relayed_to)
        return self.parties

    def moved(self, client_addr: str) -> None:
        """Whoever has logged in goes on from there; what begins from now on names that address."""
        assert self.parties is not None
        self.parties = replace(self.parties, client_addr=client_addr)

    async def emit(self, kind: codes.Kind, fields: dict[str, FieldValue]) -> None:
        """One event of the connection, with what all of its events carry. Raises AccessError."""
        assert self.parties is not None
        await self._emit(kind, {**self.parties.fields(), **fields})

    async def rejected(self, request: OpenSession, reason: str, most: int | None = None) -> None:
        """A session was not let in; `most`: because there are as many. Raises AccessError."""
        fields: dict[str, FieldValue] = {"reason": reason, "max": most, "command": request.command or None}
        await self.emit(codes.SESSION_REJECTED, fields)

    async def _emit(self, kind: codes.Kind, fields: dict[str, FieldValue]) -> None:
        cluster, now = self._gate.cache.cluster_name, self._gate.now()
        await self._emitter.emit(new_event(kind, cluster_name=cluster, now=now, ei=0, **fields))

"""The service's list of what a connection listens on: each beginning and each end is audited, also the end of
a process that could say nothing any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pkgs.agents.ssh.limits import MAX_LISTENERS
from pkgs.common.errors import ProtocolError
from pkgs.common.events import codes

Audit = Callable[[codes.Kind, str, str], Awaitable[None]]
"""Kind, address and error. Raises AccessError."""


class Listeners:
    """Remote forwardings of one connection. True while there is one."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self.open: set[tuple[str, int]] = set()
        """Hosts as they were asked for, and ports."""

    def __bool__(self) -> bool:
        return bool(self.open)

    async def opened(self, host: str, port: int) -> None:
        """One was allowed; durable when it returns. Raises AccessError, and it is not open then."""
        if (host, port) in self.open or len(self.open) >= MAX_LISTENERS:
            # An honest process counts itself, and cannot bind a port twice.
            raise ProtocolError("more listeners than a connection may have")
        await self._audit(codes.PORT_START, _address(host, port), "")
        self.open.add((host, port))

    async def refused(self, host: str, port: int, why: str) -> None:
        await self._audit(codes.PORT_FAIL, _address(host, port), why)

    async def closed(self, host: str, port: int, error: str = "") -> None:
        """One is over; or, with an error and not open, could not be bound."""
        if (host, port) in self.open:
            self.open.remove((host, port))
            await self._audit(codes.PORT_STOP, _address(host, port), error)
        elif error:
            await self._audit(codes.PORT_FAIL, _address(host, port), error)
        else:
            raise ProtocolError("no listener on that port")

    async def close(self) -> None:
        """The process is gone, and with it all that it listened on."""
        while self.open:
            host, port = self.open.pop()
            await self._audit(codes.PORT_STOP, _address(host, port), "")


def _address(host: str, port: int) -> str:
    return f"remote {host}:{port}"

"""The way of a database connection through the proxy: by the name in the hello to an agent, untouched.

TLS runs from the user's client to the agent, so that the proxy knows neither who comes nor what is said.
Nothing is decided here; a name that no agent announces goes to some agent all the same, which refuses it as
it refuses what somebody may not use: from outside the two look alike.
"""

from __future__ import annotations

import logging
import random
import zlib
from collections.abc import Collection, Sequence

import msgspec

from pkgs.common.api.tunnel import DialHeader
from pkgs.common.errors import AccessError, NotFoundError, UnavailableError
from pkgs.common.membership.cache import ClusterCache
from pkgs.common.net.framing import encode_frame
from pkgs.common.net.listener import Accepted
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import DatabaseServer
from pkgs.proxy import limits
from pkgs.proxy.connections.tunnels import Tunnels

MARK = "db"


def database_in(sni: str, own_names: Collection[str]) -> str:
    """The database that a host name is about: `<database>.db.<anything>`; empty when it is about none, as a
    name of this proxy itself never is."""
    if sni in own_names:
        return ""
    name, _, rest = sni.partition(".")
    mark, _, anything = rest.partition(".")
    return name if name and mark == MARK and anything else ""


class DatabaseDoor:
    def __init__(self, *, cache: ClusterCache, tunnels: Tunnels, log: logging.Logger) -> None:
        self._cache = cache
        self._tunnels = tunnels
        self._log = log

    async def serve(self, accepted: Accepted, name: str) -> None:
        """Relay one connection until it is over. Never raises for what either side does."""
        client = await adopt(accepted.sock)
        try:
            agent = await self.dial(accepted, name)
        except AccessError:
            client.abort()
            return
        except BaseException:
            client.abort()
            raise
        await relay(client, agent, answer_s=limits.AGENT_ANSWER_S)

    async def dial(self, accepted: Accepted, name: str) -> Stream:
        """A stream to an agent, told whose connection this is. Raises AccessError when there is none; that is
        in the log then."""
        header = DialHeader(service="db", client_addr=accepted.remote_addr, greeted_as=accepted.greeted_as)
        try:
            return await self._dial(name, header)
        except AccessError as problem:
            self._log.info(
                "a connection to a database goes nowhere: %s",
                problem.message,
                extra={"addr": accepted.remote_ip, "database": name},
            )
            raise

    async def _dial(self, name: str, header: DialHeader) -> Stream:
        failure: AccessError = NotFoundError("no agent of databases is connected to this proxy")
        for host_id, target in self._ways(name)[: limits.DATABASE_AGENTS_TRIED]:
            try:
                stream = await self._tunnels.take(host_id, SystemRole.DB)
            except UnavailableError as problem:
                failure = problem
                continue
            try:
                stream.write(encode_frame(msgspec.structs.replace(header, target=target)))
                stream.shed_writing()
            except BaseException:
                stream.abort()
                raise
            return stream
        raise failure

    def _ways(self, name: str) -> Sequence[tuple[str, str]]:
        """Host ids of agents, and the database's name as they have it: those that serve it and find it
        healthy first, in random order."""
        servers = [server for server in self._cache.database_servers.get(name, ()) if self._holds(server)]
        if servers:
            random.shuffle(servers)
            servers.sort(key=lambda server: server.spec.target_health.status == "unhealthy")
            return [(server.spec.host_id, server.name) for server in servers]
        agents = sorted(
            {
                server.spec.host_id
                for others in self._cache.database_servers.values()
                for server in others
                if self._holds(server)
            }
        )
        # Always the same one for a name: that it changes must not tell the two apart.
        return [(agents[zlib.crc32(name.encode()) % len(agents)], name)] if agents else []

    def _holds(self, server: DatabaseServer) -> bool:
        return self._tunnels.holds(server.spec.host_id, SystemRole.DB)

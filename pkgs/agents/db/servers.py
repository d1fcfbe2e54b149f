"""Connections of the agent to the databases that it serves: reaching one, and TLS as a user of it."""

from __future__ import annotations

import asyncio
import ssl

from pkgs.agents.db import limits
from pkgs.agents.db.credentials import Credentials, server_name
from pkgs.agents.db.registry import address_of
from pkgs.common.errors import ProtocolError, TrustError, UnavailableError
from pkgs.common.net.dial import dial_resolved, resolve
from pkgs.common.net.sockets import join_host_port
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.resources.kinds import Database


class Servers:
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def dial(self, database: Database) -> Stream:
        """A plain stream. Raises UnavailableError naming the hop."""
        host, port = address_of(database)
        addr = join_host_port(host, port)
        try:
            addresses = await resolve(host, port, deadline_s=limits.SERVER_DIAL_S)
            sock = await dial_resolved(addresses, addr, deadline_s=limits.SERVER_DIAL_S)
        except UnavailableError as problem:
            raise UnavailableError(
                f"the agent cannot connect to database {database.name} at {addr}",
                detail=f"{problem.message} {problem.detail}".strip(),
                hint="check that it runs and that the agent's host may reach it",
            ) from problem
        return await adopt(sock)

    async def prepare(self, database: Database, user: str) -> None:
        """Have the certificate for this user of it. Raises UnavailableError and DeniedError of the Auth
        Service, TrustError when the database's `tls` makes no sense."""
        await self._credentials.context(database, user)

    async def secure(self, stream: Stream, database: Database, user: str) -> Stream:
        """TLS on it as the database's `tls` says, showing the certificate for this user of it. Raises
        TrustError, UnavailableError."""
        name = database.name
        context = await self._credentials.context(database, user)
        try:
            async with asyncio.timeout(limits.SERVER_DIAL_S):
                await stream.handshake(context, server=False, server_hostname=server_name(database))
        except TimeoutError:
            raise UnavailableError(
                f"database {name} does not answer the agent's TLS handshake",
                hint=f"check that its server is well, and that {database.spec.uri} leads to it",
            ) from None
        except TrustError as problem:
            raise TrustError(
                f"the agent does not trust database {name}: {problem.message}",
                hint="give it a certificate of `tctl auth sign --format=db`, or name its authority "
                "in tls.ca_cert_file",
            ) from problem
        except (ProtocolError, ssl.SSLError) as problem:
            raise UnavailableError(
                f"database {name} refused the agent's TLS",
                detail=str(getattr(problem, "detail", "") or problem),
                hint="it must speak TLS, and believe the clients of `tctl auth sign --format=db`",
            ) from problem
        return stream

"""Connections of the agent to the databases that it serves: reaching one, and TLS as a user of it."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Sequence

from pkgs.agents.db import limits
from pkgs.agents.db.upstream.credentials import Credentials, server_name
from pkgs.agents.db.upstream.registry import address_of
from pkgs.common.errors import ProtocolError, TrustError, UnavailableError
from pkgs.common.net.dial import Resolved, dial_resolved, resolve
from pkgs.common.net.sockets import join_host_port
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.resources.kinds import Database

_METADATA = ipaddress.ip_address("fd00:ec2::254")
"""Of a cloud's host; all others that are known are link-local."""


async def connect(database: Database, *, deadline_s: float = limits.SERVER_DIAL_S) -> Stream:
    """A plain stream to its address. Raises UnavailableError, InputError."""
    host, port = address_of(database)
    addresses = await resolve(host, port, deadline_s=deadline_s)
    _check(addresses)
    return await adopt(await dial_resolved(addresses, join_host_port(host, port), deadline_s=deadline_s))


def _check(addresses: Sequence[Resolved]) -> None:
    """Whoever may write `db` resources chooses where the agent connects to (attacks A20, A53). A database may
    well be on the agent's own host, but not at an address that stands for something else than a host."""
    for _, address in addresses:
        ip = ipaddress.ip_address(address[0].partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_link_local or ip.is_unspecified or ip.is_multicast or ip == _METADATA:
            raise UnavailableError(f"{ip} is no address for a database", hint="name its host in `uri`")


class Servers:
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def dial(self, database: Database) -> Stream:
        """A plain stream. Raises UnavailableError naming the hop."""
        host, port = address_of(database)
        addr = join_host_port(host, port)
        try:
            return await connect(database)
        except UnavailableError as problem:
            raise UnavailableError(
                f"the agent cannot connect to database {database.name} at {addr}",
                detail=f"{problem.message} {problem.detail}".strip(),
                hint="check that it runs and that the agent's host may reach it",
            ) from problem

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

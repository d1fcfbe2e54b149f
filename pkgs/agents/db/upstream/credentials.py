"""How the agent shows itself to databases: a certificate for each database user, and TLS as they ask for it.

A certificate is shown again for some minutes, so that a program that connects often costs the Auth Service
little, and sessions begin while it restarts. The key never leaves this process.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pkgs.agents.db import limits
from pkgs.agents.db.engine import HEALTH_USER
from pkgs.agents.db.upstream.registry import address_of
from pkgs.common.api.databases import SignDatabaseCert
from pkgs.common.errors import AccessError, TrustError
from pkgs.common.net.tls import load_chain
from pkgs.common.pki.keys import new_tls_key
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import Database
from pkgs.common.rpc.calls import AsyncClient


@dataclass(frozen=True, slots=True)
class _Held:
    context: ssl.SSLContext
    database: Database
    trust: Trust
    until: float


@dataclass(frozen=True, slots=True)
class _Signed:
    cert: str
    trust: Trust
    until: float


class Credentials:
    def __init__(
        self, client: AsyncClient, trust: Callable[[], Trust], monotonic: Callable[[], float]
    ) -> None:
        self._client = client
        self._trust = trust
        self._monotonic = monotonic
        self._key = new_tls_key()
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()
        self._health: _Signed | None = None
        self._issuing: dict[tuple[str, str], asyncio.Task[_Held]] = {}

    async def context(self, database: Database, user: str) -> ssl.SSLContext:
        """For TLS to the database as this user of it. Raises UnavailableError, TrustError, DeniedError."""
        key = (database.name, user)
        held = self._held.get(key)
        if held is not None and self._is_good(held, database):
            self._held.move_to_end(key)
            return held.context
        task = self._issuing.get(key)
        if task is None:
            task = self._issuing[key] = asyncio.create_task(self._issue(database, user))
            task.add_done_callback(lambda _: self._issuing.pop(key, None))
        # Whoever gives up waiting does not take it from the others.
        return (await asyncio.shield(task)).context

    def _is_good(self, held: _Held, database: Database) -> bool:
        return self._is_current(held) and held.database.spec.tls == database.spec.tls

    def _is_current(self, held: _Held | _Signed) -> bool:
        return held.trust is self._trust() and self._monotonic() < held.until

    async def _issue(self, database: Database, user: str) -> _Held:
        signed = await self._signed(database, user)
        context = server_facing_context(database, signed.trust)
        load_chain(context, signed.cert, self._key.private_pem)
        held = _Held(context, database, signed.trust, signed.until)
        self._held[(database.name, user)] = held
        while len(self._held) > limits.CREDENTIALS_MAX:
            self._held.popitem(last=False)
        return held

    async def _signed(self, database: Database, user: str) -> _Signed:
        """For health checks the same one at all databases: else they would fill the audit log."""
        if user == HEALTH_USER and (held := self._health) is not None and self._is_current(held):
            return held
        try:
            answer = await self._client.call(
                SignDatabaseCert(database=database.name, user=user, public_key=self._key.public_pem),
                deadline_s=limits.SIGN_CALL_S,
            )
        except AccessError as problem:
            raise type(problem)(
                f"no certificate for the database: {problem.message}", detail=problem.detail
            ) from problem
        signed = _Signed(answer.cert, self._trust(), self._monotonic() + limits.CREDENTIALS_REUSED_S)
        if user == HEALTH_USER:
            self._health = signed
        return signed


def server_facing_context(database: Database, trust: Trust) -> ssl.SSLContext:
    """A client's context that believes whom the database's `tls` says; it shows no certificate yet. Raises
    TrustError."""
    tls = database.spec.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.check_hostname = tls.mode == "verify-full"
    if tls.mode == "insecure":
        context.verify_mode = ssl.CERT_NONE
        return context
    roots = tls.ca_cert or trust.tls_roots_pem("db")
    if tls.trust_system_cert_pool:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    elif not roots:
        raise TrustError("the cluster has no authority for databases", hint="give the database a ca_cert")
    try:
        if roots:
            context.load_verify_locations(cadata=roots)
    except ssl.SSLError as problem:
        raise TrustError(
            f"the authorities of database {database.name} do not parse", detail=str(problem)
        ) from problem
    return context


def server_name(database: Database) -> str:
    """The name that its certificate must have. Raises InputError."""
    return database.spec.tls.server_name or address_of(database)[0]

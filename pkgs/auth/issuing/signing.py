"""Certificates without a password: renewing one's own, and signing for others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from msgspec import structs

from pkgs.auth import limits
from pkgs.auth.accesslists.events import broken_events
from pkgs.auth.audit.journal import Journal
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.issuing.elevating import elevation
from pkgs.auth.issuing.impersonating import note_refusal, require_impersonation
from pkgs.auth.issuing.issue import Order, UserIssuer
from pkgs.auth.issuing.reserved import check_principals
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store
from pkgs.common.access.decide import decide
from pkgs.common.access.options.login import mfa_verification_interval
from pkgs.common.access.protocols.db import NO_USER
from pkgs.common.access.requests.assuming import restriction
from pkgs.common.access.types import ConnectDatabase, HostCert, See
from pkgs.common.api.databases import DatabaseSession, PrepareDatabaseSession
from pkgs.common.api.login import HostSshCert, ReissueUserCerts, SignHostCert, SignUserCerts, UserCerts
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.events.codes import CERT_CREATE, MFA_VALIDATE, MFA_VALIDATE_FAIL, Kind
from pkgs.common.events.types import Event, FieldValue
from pkgs.common.pki.identity import Identity, RouteToDatabase
from pkgs.common.pki.keys import check_public_line
from pkgs.common.pki.sshcert import sign_openssh_host_cert
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.durations import format_duration, parse_duration
from pkgs.common.resources.kinds import Database, DatabaseServer, User
from pkgs.common.rpc.calls import Caller

CHALLENGE_SCOPE = "CHALLENGE_SCOPE_USER_SESSION"
HOST_CERT_TTL_MAX_S = 10 * 365 * 24 * 3600.0


class Codes(Protocol):
    """What is known of people's second factors."""

    async def prove(self, name: str, otp: str, failed: Callable[[], Awaitable[None]], what: str) -> str:
        """Use a code up; the second factor's id. Raises DeniedError, after `failed`."""
        ...


class SigningHandlers:
    def __init__(
        self,
        store: Store,
        permissions: Permissions,
        issuer: UserIssuer,
        authorities: Authorities,
        journal: Journal,
        codes: Codes,
    ) -> None:
        self._store = store
        self._permissions = permissions
        self._issuer = issuer
        self._authorities = authorities
        self._journal = journal
        self._codes = codes

    def _user(self, name: str) -> User:
        user = self._store.must("user", name)
        assert isinstance(user, User)
        return user

    async def reissue(self, caller: Caller, request: ReissueUserCerts) -> UserCerts:
        """Roles, traits and logins are those of the old certificate that the user still has, and those of
        access requests as they are now; the rest is kept as it was."""
        identity = caller.user()
        holding = self._permissions.holding(self._user(identity.name))
        held = tuple(name for name in identity.roles if name in holding.roles)
        traits = {
            name: tuple(value for value in values if value in holding.traits.get(name, ()))
            for name, values in identity.traits.items()
        }
        now = self._store.backend.clock()
        requests, dropped = elevation(self._store, identity, request.assume, request.drop, now)
        extra = sorted({name for found in requests for name in found.spec.roles} - set(held))
        default = parse_duration(self._permissions.auth_preference().spec.default_session_ttl)
        order = Order(
            user=identity.name,
            cluster=identity.cluster,
            roles=self._permissions.roles((*held, *extra)),
            traits={name: values for name, values in traits.items() if values},
            now=now,
            ttl_s=float(request.ttl_s) or default,
            client_addr=caller.remote_addr,
            previous=identity,
            requests=requests,
            standing=frozenset(holding.roles),
            dropped=dropped,
            database=request.route_to_database,
        )
        if request.route_to_database is not None:
            self._database(_as_ordered(order), caller, request.route_to_database)
        if request.otp:
            order = await self._proven(caller, request, order)
        broken = broken_events(self._journal, identity.name, holding.from_lists)
        return await self._issuer.issue(order, request.ssh_public_key, request.tls_public_key, *broken)

    async def _proven(self, caller: Caller, request: ReissueUserCerts, order: Order) -> Order:
        """With the code used up, in the audit log; a wrong one counts as at login."""
        identity, route = caller.user(), request.route_to_database
        if route is None:
            raise InputError("a one-time code is for a certificate of one database")
        if identity.bot_name or identity.impersonator:
            raise DeniedError("only people give one-time codes, under their own name")

        def event(kind: Kind, **fields: FieldValue) -> Event:
            fields = {"challenge_scope": CHALLENGE_SCOPE, "db_service": route.service, **fields}
            return self._journal.event(kind, user=identity.name, **fields)

        async def failed() -> None:
            await self._journal.write(
                event(MFA_VALIDATE_FAIL, success=False, error="wrong or used one-time code")
            )

        device = await self._codes.prove(identity.name, request.otp, failed, "this database")
        told: dict[str, str | list[str]] = {"mfa_device_uuid": device, "mfa_device_type": "TOTP"}
        await self._journal.write(event(MFA_VALIDATE, success=True, mfa_device=told))
        most = mfa_verification_interval(order.roles)
        return replace(order, proven=device, ttl_s=min(order.ttl_s, most))

    async def prepare_database(self, caller: Caller, request: PrepareDatabaseSession) -> DatabaseSession:
        """By the roles of this moment; the agent decides again, by its own."""
        route = request.route
        identity = structs.replace(caller.user(), route_to_database=route, previous_expires_at=0.0)
        database = self._database(caller.user(), caller, route)
        target = ConnectDatabase(database, route.user, route.database, route.roles)
        subject = self._permissions.subject(identity)
        decision = decide(subject, target, self._permissions.environment(caller))
        return DatabaseSession(needs_code="mfa" in decision.needs, needs_user=decision == NO_USER)

    def _database(self, identity: Identity, caller: Caller, route: RouteToDatabase) -> Database:
        """The database must be there to be seen; one that may not be answers like one that does not exist.
        Whether it may be used, and as whom, is its agent's decision. That of a restriction to resources is
        asked there too, with requests that are assumed at this moment."""
        subject, environment = self._permissions.subject(identity), self._permissions.environment(caller)
        # Agents may differ about what a name speaks: one must not keep people from the database of another.
        seen = [
            server.spec.database
            for server in self._store.all("db_server")
            if isinstance(server, DatabaseServer)
            and server.name == route.service
            and decide(subject, See(server), environment)
        ]
        for database in seen:
            if database.spec.protocol == route.protocol:
                return database
        if seen:
            raise InputError(f"{route.service} speaks {seen[0].spec.protocol}")
        raise NotFoundError(
            f"no database {route.service[:80]!r}, or you may not use it", hint="`tsh db ls` lists yours"
        )

    async def sign_user(self, caller: Caller, request: SignUserCerts) -> UserCerts:
        """For the administrator, and for those whose roles let them impersonate that user (docs/adr/0075).
        What a user signs is as restricted as the certificate it was signed with, and lives no longer."""
        if request.ttl_s <= 0:
            raise InputError("the lifetime must be positive")
        if caller.admin:
            user = self._user(request.user)
            if bot_of(user):
                raise InputError(
                    f'"{user.name}" is a machine: it joins with a token', hint="`tctl bots instances add`"
                )
            holding = self._permissions.holding(user)
            roles = self._permissions.roles(holding.roles)
        else:
            try:
                user, holding, roles = require_impersonation(
                    self._store, self._permissions, caller, request.user
                )
            except DeniedError as refusal:
                await note_refusal(self._journal, caller.user(), refusal)
                raise
        order = Order(
            user=user.name,
            cluster=self._issuer.cluster_name,
            roles=roles,
            traits=holding.traits,
            now=self._store.backend.clock(),
            ttl_s=float(request.ttl_s),
            max_ttl_s=limits.SIGNED_USER_TTL_MAX_S if caller.admin else limits.MAX_USER_TTL_S,
            client_addr=caller.remote_addr,
            actor=caller.identity,
        )
        broken = broken_events(self._journal, user.name, holding.from_lists)
        return await self._issuer.issue(order, request.ssh_public_key, request.tls_public_key, *broken)

    async def sign_host(self, caller: Caller, request: SignHostCert) -> HostSshCert:
        ttl_s = min(float(request.ttl_s) or HOST_CERT_TTL_MAX_S, HOST_CERT_TTL_MAX_S)
        asked = HostCert(
            principals=tuple(request.principals),
            cluster_name=self._issuer.cluster_name,
            ttl=format_duration(max(0.0, ttl_s)),
        )
        self._permissions.require(caller, "host_cert", "create", host_cert=asked)
        if not request.principals:
            raise InputError("a host certificate needs at least one principal")
        check_principals(request.principals, self._store, own_host_id="")
        if request.ttl_s < 0:
            raise InputError("the lifetime must be positive")
        now = self._store.backend.clock()
        cert = sign_openssh_host_cert(
            self._authorities.host_ssh,
            request.principals,
            check_public_line(request.ssh_public_key),
            valid_after=now - limits.BACKDATE_S,
            valid_before=now + ttl_s,
        )
        await self._journal.write(
            self._journal.event(
                CERT_CREATE,
                cert_type="host",
                user=self._journal.actor(caller),
                identity={"principals": list(request.principals)},
            )
        )
        return HostSshCert(ssh_cert=cert)


def _as_ordered(order: Order) -> Identity:
    """Whose certificate it will be: with the access requests that are assumed by the same call, and without
    those that are given back."""
    before = order.previous
    assert before is not None
    return structs.replace(
        before,
        roles=tuple(role.name for role in order.roles),
        traits=order.traits,
        active_requests=order.active_requests,
        allowed_resources=restriction(before, order.requests, order.dropped, order.extra),
    )

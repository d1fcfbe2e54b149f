"""The calls of a headless login: asked for by nobody, looked at and decided by the user alone.

An approval is a login: it needs the user's certificate, and a one-time code that counts and locks as one
at login does. What it yields is for the key that the request's id was made from, lives for a minute, and has
nothing of the approver's own certificate in it.
"""

from __future__ import annotations

import asyncio

from pkgs.auth import limits
from pkgs.auth.accounts.codes import WRONG_CODE, CodeCheck
from pkgs.auth.audit.journal import Journal
from pkgs.auth.gate import Gate
from pkgs.auth.headless.waiting import Waiting, WaitingRequests
from pkgs.auth.issuing.issue import Order, UserIssuer
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store
from pkgs.common.api.headless import (
    WAIT_S,
    DecideHeadless,
    GetHeadless,
    HeadlessAnswer,
    HeadlessRequest,
    StartHeadless,
    headless_id,
)
from pkgs.common.api.login import Done, UserCerts
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.events.codes import (
    HEADLESS_APPROVED,
    HEADLESS_FAILED,
    HEADLESS_REJECTED,
    HEADLESS_REQUESTED,
    Kind,
)
from pkgs.common.events.types import Event, FieldValue
from pkgs.common.pki.identity import PeerKind
from pkgs.common.pki.keys import check_public_line, check_public_pem
from pkgs.common.resources.kinds import User
from pkgs.common.resources.names import valid_user_name
from pkgs.common.rpc.calls import Caller


class HeadlessHandlers:
    def __init__(
        self,
        store: Store,
        codes: CodeCheck,
        permissions: Permissions,
        issuer: UserIssuer,
        journal: Journal,
        gate: Gate,
    ) -> None:
        self._store = store
        self._codes = codes
        self._permissions = permissions
        self._issuer = issuer
        self._journal = journal
        self._gate = gate
        self._waiting = WaitingRequests(store.backend.clock)

    async def start(self, caller: Caller, request: StartHeadless) -> HeadlessAnswer:
        """The same for every user name, whether there is such a user or not."""
        address = self._gate.enter(caller, request.client_addr)
        ssh_key = check_public_line(request.ssh_public_key)
        tls_key = check_public_pem(request.tls_public_key)
        self._check_allowed()
        if request.headless_id != headless_id(ssh_key):
            raise InputError("the id of a headless login is made from its key")
        if not valid_user_name(request.user):
            raise InputError("not a user name")
        now = self._store.backend.clock()
        mine = self._waiting.ask(Waiting(request.headless_id, request.user, ssh_key, tls_key, address, now))
        try:
            async with asyncio.timeout(WAIT_S):
                await mine.decided.wait()
        except TimeoutError:
            return HeadlessAnswer(certs=None)
        self._waiting.take(mine)
        if isinstance(mine.outcome, UserCerts):
            return HeadlessAnswer(certs=mine.outcome)
        raise DeniedError("the headless login was denied")

    async def get(self, caller: Caller, request: GetHeadless) -> HeadlessRequest:
        found = self._waiting.of(self._user(caller), request.headless_id)
        if not found.looked_at:
            # Only now: what nobody looks at could fill the audit log.
            found.looked_at = True
            await self._journal.write(self._event(HEADLESS_REQUESTED, found, success=False))
        return HeadlessRequest(
            headless_id=found.id, user=found.user, client_addr=found.client_addr, created=found.created
        )

    async def decide(self, caller: Caller, request: DecideHeadless) -> Done:
        name = self._user(caller)
        found = self._waiting.of(name, request.headless_id)
        if not request.approve:
            await self._journal.write(self._event(HEADLESS_REJECTED, found, success=False))
            found.decide(DeniedError("denied"))
            return Done()
        self._check_allowed()
        found.deciding = True
        try:
            device = await self._prove(name, request.otp, found)
            found.decide(await self._issue(name, device, found))
        finally:
            found.deciding = False
        return Done()

    def _user(self, caller: Caller) -> str:
        """A person with a login of their own: no machine, and nobody on another's behalf."""
        identity = caller.identity
        if (
            identity is None
            or identity.kind is not PeerKind.USER
            or identity.bot_name
            or identity.impersonator
        ):
            raise DeniedError("headless logins are approved by the user they are for")
        if identity.allowed_resources is not None or identity.force_command:
            # What it yields is restricted by neither (attack A34).
            raise DeniedError(
                "a restricted certificate approves no headless login",
                hint="log in without the access request",
            )
        return identity.name

    def _check_allowed(self) -> None:
        spec = self._permissions.auth_preference().spec
        if spec.allow_headless is False or spec.second_factor == "off" or not spec.local_auth:
            raise DeniedError("headless logins are turned off in this cluster")

    async def _prove(self, name: str, otp: str, found: Waiting) -> str:
        """The second factor's id. Raises DeniedError; a wrong code counts as at login."""

        async def failed() -> None:
            await self._journal.write(self._event(HEADLESS_FAILED, found, success=False, error=WRONG_CODE))

        return await self._codes.prove(name, otp, failed, "a headless login")

    async def _issue(self, name: str, device: str, found: Waiting) -> UserCerts:
        user = self._store.get("user", name)
        if not isinstance(user, User):
            raise DeniedError("this user does not exist any more")
        holding = self._permissions.holding(user)
        order = Order(
            user=name,
            cluster=self._issuer.cluster_name,
            roles=self._permissions.roles(holding.roles),
            traits=holding.traits,
            now=self._store.backend.clock(),
            ttl_s=limits.HEADLESS_TTL_S,
            max_ttl_s=limits.HEADLESS_TTL_S,
            client_addr=found.client_addr,
            mfa_device=device,
        )
        approved = self._event(
            HEADLESS_APPROVED, found, success=True, message=f"approved for a login from {found.client_addr}"
        )
        return await self._issuer.issue(order, found.ssh_key, found.tls_key, approved)

    def _event(self, kind: Kind, found: Waiting, **fields: FieldValue) -> Event:
        address = found.client_addr or None
        return self._journal.event(kind, user=found.user, method="headless", addr_remote=address, **fields)

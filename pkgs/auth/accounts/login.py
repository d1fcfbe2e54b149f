"""`Login`: password and one-time code against certificates.

Whatever is wrong, the answer, the work and the storage writes are the same: unknown user, wrong password,
wrong code, used code, locked user. Only the audit log knows which it was.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from pkgs.auth import limits
from pkgs.auth.accesslists.events import broken_events
from pkgs.auth.accounts.attempts import AttemptLog
from pkgs.auth.accounts.credentials import Accounts, Totp
from pkgs.auth.accounts.passwords import PasswordPool
from pkgs.auth.accounts.totp import matching_step
from pkgs.auth.audit.journal import Journal
from pkgs.auth.gate import Gate
from pkgs.auth.issuing.issue import Order, UserIssuer
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store
from pkgs.common.api.login import Login, UserCerts
from pkgs.common.errors import AccessError, ConflictError, DeniedError, NotFoundError
from pkgs.common.events.codes import USER_LOGIN_FAIL, USER_LOGIN_OK
from pkgs.common.pki.keys import check_public_line, check_public_pem
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import AuthPreference, User, UserStatus
from pkgs.common.rpc.calls import Caller

WRONG = "invalid username, password or one-time code"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of checking a login: the user, or why not (for the audit log only)."""

    user: User | None
    problem: str = ""
    mfa_device: str = ""


class LoginHandler:
    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        attempts: AttemptLog,
        passwords: PasswordPool,
        permissions: Permissions,
        issuer: UserIssuer,
        journal: Journal,
        gate: Gate,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._attempts = attempts
        self._passwords = passwords
        self._permissions = permissions
        self._issuer = issuer
        self._journal = journal
        self._gate = gate
        self._dummy_totp = Totp("", secrets.token_bytes(limits.TOTP_SECRET_BYTES), 0)
        self._background: set[asyncio.Task[None]] = set()

    async def login(self, caller: Caller, request: Login) -> UserCerts:
        address = self._gate.enter(caller, request.client_addr)
        # Bad keys are refused before any guessing is possible with them, for all users alike.
        ssh_key = check_public_line(request.ssh_public_key)
        tls_key = check_public_pem(request.tls_public_key)
        preference = self._permissions.auth_preference()
        if not preference.spec.local_auth:
            raise DeniedError("local logins are turned off in this cluster")
        async with self._attempts.turn(request.user):
            proof = await self.prove(request.user, request.password, request.otp, preference)
            if proof.user is None:
                await self._failed(request, proof.problem, address)
                raise DeniedError(WRONG, detail=proof.problem)
            await self._attempts.clear(request.user)
        if proof.user.spec.status.is_locked:
            self._beside(self._show(proof.user.name, UserStatus()))
        succeeded = self._journal.event(
            USER_LOGIN_OK,
            user=proof.user.name,
            method="local",
            success=True,
            addr_remote=address or None,
            user_agent=request.user_agent or None,
            mfa_device={"mfa_device_uuid": proof.mfa_device, "mfa_device_type": "TOTP"}
            if proof.mfa_device
            else None,
        )
        try:
            holding = self._permissions.holding(proof.user)
            order = Order(
                user=proof.user.name,
                cluster=self._issuer.cluster_name,
                roles=self._permissions.roles(holding.roles),
                traits=holding.traits,
                now=self._store.backend.clock(),
                ttl_s=float(request.ttl_s) or parse_duration(preference.spec.default_session_ttl),
                client_addr=address,
                mfa_device=proof.mfa_device,
            )
            also = broken_events(self._journal, proof.user.name, holding.from_lists)
            return await self._issuer.issue(
                order, ssh_key, tls_key, succeeded, *also, user_agent=request.user_agent
            )
        except DeniedError as error:
            # The proof was right but the certificate was vetoed: that is a failed login as well.
            await self._audit_failure(request, f"{error.message} {error.detail}".strip(), address)
            raise

    async def prove(self, name: str, password: str, otp: str, preference: AuthPreference) -> Proof:
        """Check everything, always all of it, and only then look at what was wrong."""
        user = self._store.get("user", name)
        stored = await self._accounts.password(name)
        totp = await self._accounts.totp(name)
        attempts = await self._attempts.read(name)
        now = self._store.backend.clock()
        right_password = await self._passwords.verify(stored, password)
        device, revision = totp if totp is not None else (self._dummy_totp, 0)
        step = matching_step(device.secret, otp, now, device.last_step)
        mode = preference.spec.second_factor
        # What is not known to need none, needs one.
        needs_code = mode not in ("off", "optional") or (mode == "optional" and totp is not None)
        if not isinstance(user, User):
            return Proof(None, "unknown user")
        if bot_of(user):
            return Proof(None, "this user is a machine")
        if attempts.locked(now):
            return Proof(None, "user is locked after too many failed attempts")
        if is_locked(user, now):
            return Proof(None, "user is locked by an administrator")
        if not right_password:
            return Proof(None, "wrong password" if stored else "user has not set a password yet")
        if not needs_code:
            return Proof(user)
        if totp is None:
            return Proof(None, "user has no second factor, but the cluster demands one")
        if step is None:
            return Proof(None, "wrong, missing or used one-time code")
        if not await self._accounts.use_step(name, device, revision, step):
            return Proof(None, "one-time code was used by another login at the same moment")
        return Proof(user, mfa_device=device.id)

    async def _failed(self, request: Login, problem: str, address: str) -> None:
        attempts = await self._attempts.failed(request.user)
        await self._audit_failure(request, problem, address)
        if attempts.locked(self._store.backend.clock()):
            status = UserStatus(
                is_locked=True,
                locked_message="user has exceeded maximum failed login attempts",
                lock_expires=datetime.fromtimestamp(int(attempts.locked_until), UTC),
            )
            self._beside(self._show(request.user, status))

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        """Beside the answer, which must take as long as for a user that does not exist."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _audit_failure(self, request: Login, problem: str, address: str) -> None:
        await self._journal.write(
            self._journal.event(
                USER_LOGIN_FAIL,
                user=request.user,
                method="local",
                success=False,
                error=problem,
                message=WRONG,
                addr_remote=address or None,
                user_agent=request.user_agent or None,
            )
        )

    async def _show(self, name: str, status: UserStatus) -> None:
        """Let `tctl get user/...` tell of a lock; the lock itself is in the attempts."""
        user = self._store.get("user", name)
        if not isinstance(user, User) or user.spec.status == status:
            return
        spec = msgspec.structs.replace(user.spec, status=status)
        try:
            await self._store.update(msgspec.structs.replace(user, spec=spec))
        except (ConflictError, NotFoundError):
            _log.info("user changed while being locked, status not shown", extra={"user": name})
        except AccessError as error:
            _log.warning("cannot show the lock of a user: %s", error.message, extra={"user": name})

    async def close(self) -> None:
        """Wait for what still goes on beside the answers."""
        await asyncio.gather(*self._background, return_exceptions=True)


def is_locked(user: User, now: float) -> bool:
    """Whether an administrator has locked the user's record."""
    status = user.spec.status
    return status.is_locked and (status.lock_expires is None or status.lock_expires.timestamp() > now)

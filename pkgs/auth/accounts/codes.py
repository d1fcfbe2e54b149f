"""A one-time code of somebody who is logged in already: for what a certificate alone is not enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pkgs.auth.accounts.attempts import AttemptLog
from pkgs.auth.accounts.credentials import Accounts
from pkgs.auth.accounts.login import is_locked
from pkgs.auth.accounts.totp import matching_step
from pkgs.auth.state.store import Store
from pkgs.common.errors import DeniedError
from pkgs.common.resources.kinds import User

WRONG_CODE = "the one-time code is wrong, or was used"


class CodeCheck:
    """A code counts once, for whatever it is given first; wrong ones count and lock as at login."""

    def __init__(self, store: Store, accounts: Accounts, attempts: AttemptLog) -> None:
        self._store = store
        self._accounts = accounts
        self._attempts = attempts

    async def prove(self, name: str, otp: str, failed: Callable[[], Awaitable[None]], what: str) -> str:
        """Use the code up; the second factor's id. `failed` has a wrong one audited, `what` says what it is
        needed for. Raises DeniedError."""
        async with self._attempts.turn(name):
            return await self._prove(name, otp, failed, what)

    async def _prove(self, name: str, otp: str, failed: Callable[[], Awaitable[None]], what: str) -> str:
        user = self._store.get("user", name)
        now = self._store.backend.clock()
        if (
            (await self._attempts.read(name)).locked(now)
            or not isinstance(user, User)
            or is_locked(user, now)
        ):
            raise DeniedError(WRONG_CODE)
        totp = await self._accounts.totp(name)
        if totp is None:
            raise DeniedError(
                f"{what} needs a second factor, and you have none", hint="ask for a reset of your login"
            )
        device, revision = totp
        step = matching_step(device.secret, otp, now, device.last_step)
        if step is None or not await self._accounts.use_step(name, device, revision, step):
            await self._attempts.failed(name)
            await failed()
            raise DeniedError(WRONG_CODE)
        await self._attempts.clear(name)
        return device.id

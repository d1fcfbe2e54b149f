"""What proves who a local user is, stored apart from the user: password hash, one-time codes, invitations."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from typing import Literal, TypeVar
from urllib.parse import quote

import msgspec

from pkgs.auth import limits
from pkgs.auth.accounts.attempts import key_of as attempts_key
from pkgs.auth.backend.interface import Backend, Create, Delete, Operation, Put
from pkgs.common.errors import AlreadyExistsError, ConflictError, DeniedError, NotFoundError

T = TypeVar("T")


class Password(msgspec.Struct, frozen=True):
    hash: str


class Totp(msgspec.Struct, frozen=True):
    id: str
    secret: bytes
    last_step: int
    """Newest 30-second step whose code was used; older codes are refused."""


class Invite(msgspec.Struct, frozen=True):
    user: str
    kind: Literal["invite", "reset"]
    otp_secret: bytes
    expires: float


class _InviteOf(msgspec.Struct, frozen=True):
    key: str


def _secret_key(user: str, what: str) -> str:
    return f"/secret/{quote(user, safe='')}/{what}"


def _invite_key(token: str) -> str:
    """Under the hash of the token: the lookup compares no secrets, and the storage holds none."""
    return f"/invite/{hashlib.sha256(token.encode('utf-8', 'replace')).hexdigest()}"


def _invite_of_key(user: str) -> str:
    return f"/invite-of/{quote(user, safe='')}"


class Accounts:
    """Reading and writing what is secret about users. Combined changes are one commit."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _read(self, key: str, kind: type[T]) -> tuple[T, int] | None:
        item = await self._backend.get(key)
        return (msgspec.json.decode(item.value, type=kind), item.revision) if item else None

    async def password(self, user: str) -> str | None:
        found = await self._read(_secret_key(user, "password"), Password)
        return found[0].hash if found else None

    async def totp(self, user: str) -> tuple[Totp, int] | None:
        return await self._read(_secret_key(user, "totp"), Totp)

    async def use_step(self, user: str, totp: Totp, revision: int, step: int) -> bool:
        """Note that the code of a step was used; False if somebody else was quicker."""
        used = msgspec.structs.replace(totp, last_step=step)
        try:
            await self._backend.update(_secret_key(user, "totp"), msgspec.json.encode(used), revision)
        except (ConflictError, NotFoundError):
            return False
        return True

    async def removal(self, user: str) -> list[Operation]:
        """The operations that forget everything secret about a user, and who failed to be them."""
        operations: list[Operation] = [
            Delete(item.key) for item in await self._backend.all(_secret_key(user, ""))
        ]
        invite_of = await self._read(_invite_of_key(user), _InviteOf)
        if invite_of is not None:
            operations.append(Delete(_invite_of_key(user)))
            if await self._backend.get(invite_of[0].key) is not None:
                operations.append(Delete(invite_of[0].key))
        if await self._backend.get(attempts_key(user)) is not None:
            operations.append(Delete(attempts_key(user)))
        return operations

    def invitation(
        self, user: str, kind: Literal["invite", "reset"], ttl_s: int
    ) -> tuple[str, float, list[Operation]]:
        """A new token, when it expires, and the operations that store it. The caller removes older ones."""
        token = secrets.token_hex(limits.TOKEN_BYTES)
        expires = self._backend.clock() + ttl_s
        invite = Invite(user, kind, secrets.token_bytes(limits.TOTP_SECRET_BYTES), expires)
        key = _invite_key(token)
        return (
            token,
            expires,
            [
                Create(key, msgspec.json.encode(invite), expires),
                Put(_invite_of_key(user), msgspec.json.encode(_InviteOf(key)), expires),
            ],
        )

    async def invite(self, token: str) -> tuple[Invite, int]:
        """The invitation behind a token; DeniedError for one that never was, is used up or has expired."""
        found = None
        if 0 < len(token) <= limits.TOKEN_TEXT_MAX:
            found = await self._read(_invite_key(token), Invite)
        if found is None:
            raise DeniedError(
                "this link is not valid or has expired", hint="ask an administrator for a new one"
            )
        return found

    async def accept(
        self, token: str, invite: Invite, revision: int, password_hash: str, used_step: int | None
    ) -> None:
        """Use up the invitation and store the password, and the second factor if its code was given."""
        operations: list[Operation] = [
            Delete(_invite_key(token), revision),
            Put(_secret_key(invite.user, "password"), msgspec.json.encode(Password(password_hash))),
        ]
        if used_step is not None:
            totp = Totp(str(uuid.uuid4()), invite.otp_secret, used_step)
            operations.append(Put(_secret_key(invite.user, "totp"), msgspec.json.encode(totp)))
        for key in (_invite_of_key(invite.user), attempts_key(invite.user)):
            if await self._backend.get(key) is not None:
                operations.append(Delete(key))
        try:
            await self._backend.commit(operations)
        except (NotFoundError, ConflictError):
            raise DeniedError("this link was used in the meantime") from None


def already_registered(user: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"user({user}) already registered", hint="`tctl users reset` makes a new link")

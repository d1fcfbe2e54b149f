"""Invitations: making users and resetting them, looking at an invitation, accepting it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pkgs.auth import limits
from pkgs.auth.accesslists.events import write_all
from pkgs.auth.accesslists.generic import GenericLists
from pkgs.auth.accounts.credentials import Accounts, already_registered
from pkgs.auth.accounts.passwords import PasswordPool, check_new
from pkgs.auth.accounts.totp import matching_step, otpauth_url, to_base32
from pkgs.auth.accounts.users import checked_user, request_removal, without_lock
from pkgs.auth.audit.journal import Journal
from pkgs.auth.backend.interface import Operation
from pkgs.auth.gate import Gate
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store, create_operation, update_operation
from pkgs.common.api.login import (
    CreateUser,
    Done,
    FinishSignup,
    GetSignup,
    Invitation,
    ResetUser,
    SignupForm,
)
from pkgs.common.errors import AlreadyExistsError, ConflictError, DeniedError, InputError, NotFoundError
from pkgs.common.events.codes import MFA_ADD, PASSWORD_CHANGE, RESET_TOKEN_CREATE
from pkgs.common.events.types import Event
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.durations import format_duration
from pkgs.common.resources.kinds import Resource, User, UserSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller

Changed = Callable[[Journal, str, Resource | None, Resource | None], list[Event]]
"""The audit events of a change of a resource: before and after."""


class SignupHandlers:
    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        passwords: PasswordPool,
        permissions: Permissions,
        journal: Journal,
        gate: Gate,
        cluster_name: str,
        proxy_addr: Callable[[], str],
        changed: Changed,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._passwords = passwords
        self._permissions = permissions
        self._journal = journal
        self._gate = gate
        self._cluster = cluster_name
        self._proxy_addr = proxy_addr
        self._changed = changed
        self._lists = GenericLists(store, permissions, journal)

    async def create_user(self, caller: Caller, request: CreateUser) -> Invitation:
        self._permissions.require(caller, "user", "create", any_object=True)
        _check_ttl(request.ttl_s, limits.INVITE_TTL_MAX_S)
        user = checked_user(
            User(
                metadata=Metadata(name=request.name),
                spec=UserSpec(roles=request.roles, traits=request.traits),
            ),
            self._store,
        )
        self._permissions.require(caller, "user", "create", resource=user)
        if self._store.get("user", user.name) is not None:
            raise already_registered(user.name)
        actor = self._journal.actor(caller)
        # Nothing secret of an earlier user of this name may come to life again, nor what lists gave them.
        before = await self._accounts.removal(user.name)
        cleared = await self._lists.before_creating(user, actor)
        token, expires, invite = self._accounts.invitation(user.name, "invite", request.ttl_s)
        try:
            requests = request_removal(self._store, user.name)
            await self._store.backend.commit(
                [create_operation(user), *before, *cleared.operations, *invite, *requests]
            )
        except AlreadyExistsError:
            raise already_registered(user.name) from None
        except (ConflictError, NotFoundError):
            # Something that an earlier user of this name has left went by itself.
            raise _changing(user.name) from None
        await self._journal.write(
            *self._changed(self._journal, actor, None, user),
            self._journal.event(
                RESET_TOKEN_CREATE, name=user.name, ttl=format_duration(request.ttl_s), user=actor
            ),
        )
        await write_all(self._journal, cleared.events)
        return self._invitation(user.name, token, "invite", expires)

    async def reset_user(self, caller: Caller, request: ResetUser) -> Invitation:
        """The old password and second factor stop working here, not when the link is used."""
        self._permissions.require(caller, "user", "update", resource=self._store.get("user", request.name))
        _check_ttl(request.ttl_s, limits.RESET_TTL_MAX_S)
        user = self._store.must("user", request.name)
        assert isinstance(user, User)
        if bot_of(user):
            raise InputError(f'"{user.name}" is a machine: it has no password')
        operations: list[Operation] = await self._accounts.removal(user.name)
        token, expires, invite = self._accounts.invitation(user.name, "reset", request.ttl_s)
        try:
            await self._store.backend.commit([update_operation(without_lock(user)), *operations, *invite])
        except (ConflictError, NotFoundError):
            raise _changing(user.name) from None
        await self._journal.write(
            self._journal.event(
                RESET_TOKEN_CREATE,
                name=user.name,
                ttl=format_duration(request.ttl_s),
                user=self._journal.actor(caller),
            )
        )
        return self._invitation(user.name, token, "reset", expires)

    async def get_signup(self, caller: Caller, request: GetSignup) -> SignupForm:
        self._gate.enter(caller, request.client_addr)
        invite, _ = await self._accounts.invite(request.token)
        return SignupForm(
            user=invite.user,
            cluster_name=self._cluster,
            second_factor=self._permissions.auth_preference().spec.second_factor,
            otp_secret=to_base32(invite.otp_secret),
            otp_url=otpauth_url(invite.otp_secret, invite.user, self._cluster),
            kind=invite.kind,
        )

    async def finish_signup(self, caller: Caller, request: FinishSignup) -> Done:
        address = self._gate.enter(caller, request.client_addr)
        preference = self._permissions.auth_preference().spec
        if not preference.local_auth:
            raise DeniedError("local logins are turned off in this cluster")
        invite, revision = await self._accounts.invite(request.token)
        check_new(request.password)
        step: int | None = None
        if preference.second_factor != "off" and request.otp:
            step = matching_step(invite.otp_secret, request.otp, self._store.backend.clock(), 0)
            if step is None:
                raise InputError("the one-time code is wrong", hint="check the clock of the authenticator")
        elif preference.second_factor not in ("off", "optional"):
            raise InputError(f'no second factor sent during user "{invite.user}" password reset')
        if self._store.get("user", invite.user) is None:
            raise DeniedError("this user does not exist any more")
        hashed = await self._passwords.hash(request.password)
        await self._accounts.accept(request.token, invite, revision, hashed, step)
        events = [self._journal.event(PASSWORD_CHANGE, user=invite.user, addr_remote=address or None)]
        if step is not None:
            events.append(
                self._journal.event(MFA_ADD, user=invite.user, mfa_device_name="otp", mfa_device_type="TOTP")
            )
        await self._journal.write(*events)
        return Done()

    def _invitation(
        self, user: str, token: str, kind: Literal["invite", "reset"], expires: float
    ) -> Invitation:
        url = f"https://{self._proxy_addr()}/web/{kind}/{token}"
        return Invitation(user=user, token=token, kind=kind, url=url, expires_at=expires)


def _changing(user: str) -> ConflictError:
    return ConflictError(f'user "{user}" was changed at the same moment', hint="try again")


def _check_ttl(ttl_s: int, most: int) -> None:
    if not 0 < ttl_s <= most:
        raise InputError(f"a link lives between 1 second and {format_duration(most)}")

"""Taking on other roles, and the question whether somebody may take on another user."""

from __future__ import annotations

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.issuing.issue import Order, UserIssuer
from pkgs.auth.permissions import Holding, Permissions
from pkgs.auth.state.store import Store
from pkgs.common.access.impersonation import may_impersonate_roles, may_impersonate_user
from pkgs.common.access.types import Decision, UseRule
from pkgs.common.api.bots import ImpersonateRoles
from pkgs.common.api.login import UserCerts
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.events.codes import AUTH_FAIL
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import Bot, User
from pkgs.common.resources.role import Role
from pkgs.common.rpc.calls import Caller

DEFAULT_TTL_S = 3600.0


class ImpersonationHandlers:
    def __init__(self, store: Store, permissions: Permissions, issuer: UserIssuer, journal: Journal) -> None:
        self._store = store
        self._permissions = permissions
        self._issuer = issuer
        self._journal = journal

    async def impersonate_roles(self, caller: Caller, request: ImpersonateRoles) -> UserCerts:
        identity = caller.user()
        if request.ttl_s < 0:
            raise InputError("the lifetime must be positive")
        names = list(dict.fromkeys(request.roles)) or self._every_role(identity)
        if len(names) > limits.MAX_USER_ROLES:
            raise InputError(f"at most {limits.MAX_USER_ROLES} roles")
        roles = _existing(self._store, names)
        decision = (
            may_impersonate_roles(
                self._permissions.subject(identity), roles, self._permissions.environment(caller)
            )
            if roles
            else Decision(False, ("one of the roles does not exist",))
        )
        if not decision:
            shown = ", ".join(name[:80] for name in names[:5])
            refusal = DeniedError(
                f"access denied to impersonate roles {shown}",
                hint="each must be on the list of roles that your own roles let you take on",
                reasons=decision.reasons,
            )
            await note_refusal(self._journal, identity, refusal)
            raise refusal
        order = Order(
            user=identity.name,
            cluster=identity.cluster,
            roles=roles,
            traits=self._traits(identity),
            now=self._store.backend.clock(),
            ttl_s=float(request.ttl_s) or DEFAULT_TTL_S,
            client_addr=caller.remote_addr,
            actor=identity,
        )
        return await self._issuer.issue(order, request.ssh_public_key, request.tls_public_key)

    def _every_role(self, identity: Identity) -> list[str]:
        bot = self._store.get("bot", identity.bot_name) if identity.bot_name else None
        if not isinstance(bot, Bot):
            raise InputError("which roles?", hint="only a bot takes on all of its roles without naming them")
        return list(bot.spec.roles)

    def _traits(self, identity: Identity) -> dict[str, tuple[str, ...]]:
        """Those of the certificate that its user has still."""
        user = self._store.get("user", identity.name)
        if not isinstance(user, User):
            raise DeniedError("this user does not exist any more")
        held = self._permissions.holding(user).traits
        kept = {
            name: tuple(value for value in values if value in held.get(name, ()))
            for name, values in identity.traits.items()
        }
        return {name: values for name, values in kept.items() if values}


async def note_refusal(journal: Journal, identity: Identity, refusal: DeniedError) -> None:
    """Whoever tries what they may not take on is in the audit log, with what decided it."""
    await journal.write(
        journal.event(
            AUTH_FAIL,
            user=identity.name,
            impersonator=identity.impersonator or None,
            bot_name=identity.bot_name or None,
            bot_instance_id=identity.bot_instance_id or None,
            success=False,
            message=refusal.message,
            error="; ".join(refusal.reasons),
        )
    )


def require_impersonation(
    store: Store, permissions: Permissions, caller: Caller, name: str
) -> tuple[User, Holding, tuple[Role, ...]]:
    """The user with what they hold, if the caller may take them on; DeniedError otherwise, the same for
    a user who does not exist. A deny rule on `use` of users refuses as well."""
    identity = caller.user()
    user = store.get("user", name)
    holding = permissions.holding(user) if isinstance(user, User) else Holding((), {})
    roles = _existing(store, holding.roles)
    if not isinstance(user, User) or not roles:
        decision = Decision(False, ("the user does not exist, or has a role that does not",))
    elif permissions.forbidden(caller, UseRule("user", "use", resource=user)):
        decision = Decision(False, ("deny.rules user use",))
    else:
        decision = may_impersonate_user(
            permissions.subject(identity), user, roles, permissions.environment(caller)
        )
    if not decision or not isinstance(user, User):
        raise DeniedError(
            f'access denied to impersonate user "{name[:80]}"',
            hint="a role with `impersonate` must name the user and all roles of theirs",
            reasons=decision.reasons,
        )
    return user, holding, roles


def _existing(store: Store, names: list[str] | tuple[str, ...]) -> tuple[Role, ...]:
    """All of them, or nothing: a set with a missing role is no set."""
    found = [store.get("role", name) for name in names]
    roles = tuple(role for role in found if isinstance(role, Role))
    return roles if len(roles) == len(names) else ()

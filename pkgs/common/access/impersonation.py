"""Who may take on another user, or other roles. Deny unless one allow block covers all of it.

A user is taken on with all of their roles: user and roles must be covered by the *same* block, and its
`where` hold for each role. Roles alone are taken on (by machines, mostly) by a block that names no users. Any
deny block of any role refuses: by the user's name, or by one role, whichever of the two ways is asked for.
What was taken on takes on nothing further (attack A36).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkgs.common.access.contexts.impersonate import (
    ImpersonateCondition,
    Scope,
    compile_impersonate_where,
)
from pkgs.common.access.decide import barred
from pkgs.common.access.matchers import Matcher, compile_matcher
from pkgs.common.access.roleset import RoleSet, applies_here, requires_mfa, role_set
from pkgs.common.access.traits import Traits
from pkgs.common.access.types import Decision, Environment, Subject, UseRule
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.kinds import User
from pkgs.common.resources.role import Conditions, Role

SYSTEM_PREFIX = "@"
"""Users that the platform makes for itself."""
_RESOURCE_TYPE = "teleport.internal/resource-type"
_ITSELF = Decision(False, ("nobody impersonates themselves",))
_MACHINE = Decision(False, ("a machine is not impersonated",))
_SYSTEM = Decision(False, ("a system user is not impersonated",))
_NOBODY = Decision(False, ("there is no role to take on",))
_NO_USER = Decision(False, ("no role has an impersonate block that covers this user and all of their roles",))
_NO_ROLES = Decision(
    False, ("no role has one impersonate block without users that covers all of these roles",)
)


def may_impersonate_user(subject: Subject, user: User, roles: Sequence[Role], env: Environment) -> Decision:
    """Whether `subject` may be given certificates of `user`, who holds `roles`."""
    refusal = _refused(subject, env)
    if refusal is not None:
        return refusal
    if user.name == subject.identity.name:
        return _ITSELF
    if bot_of(user):
        return _MACHINE
    if user.name.startswith(SYSTEM_PREFIX) or user.metadata.labels.get(_RESOURCE_TYPE) == "system":
        return _SYSTEM
    return _decide(subject, user, roles)


def may_impersonate_roles(subject: Subject, roles: Sequence[Role], env: Environment) -> Decision:
    """Whether `subject` may be given certificates in their own name with `roles` instead of their own."""
    refusal = _refused(subject, env)
    if refusal is not None:
        return refusal
    if any(bot_of(role) for role in roles):
        return _MACHINE
    return _decide(subject, None, roles)


def check_impersonation(role: Role) -> None:
    """Raises InputError, with the field, for what could not be enforced."""
    for side, conditions in (("allow", role.spec.allow), ("deny", role.spec.deny)):
        found = conditions.impersonate
        if found is None:
            continue
        for field, entries in (("users", found.users), ("roles", found.roles)):
            try:
                compile_matcher(entries, {})
            except InputError as error:
                raise InputError(f"{side}.impersonate.{field}: {error.message}", hint=error.hint) from None
        try:
            compile_impersonate_where(found.where)
        except InputError as error:
            raise InputError(f"{side}.impersonate.where: {error.message}") from None


@dataclass(frozen=True, slots=True)
class _Block:
    """`impersonate` of one role, for somebody's traits."""

    users: Matcher
    names_users: bool
    """Whether `users` is written: for taking on a user, and not for taking on roles alone."""
    roles: Matcher
    where: ImpersonateCondition | None


def _block(conditions: Conditions, traits: Traits, *, deny: bool = False) -> _Block | None:
    found = conditions.impersonate
    if found is None:
        return None
    return _Block(
        compile_matcher(found.users, traits, deny=deny),
        bool(found.users),
        compile_matcher(found.roles, traits, deny=deny),
        compile_impersonate_where(found.where),
    )


def _refused(subject: Subject, env: Environment) -> Decision | None:
    """What refuses whomever is asked for; None: nothing."""
    identity = subject.identity
    refusal = barred(subject, UseRule(kind="user", verb="use"), env)
    if refusal is not None:
        return refusal
    if identity.impersonator:
        return Decision(False, ("an impersonated certificate impersonates nobody",))
    if identity.disallow_reissue or identity.force_command or identity.allowed_resources is not None:
        return Decision(False, ("a restricted certificate impersonates nobody",))
    try:
        roles = role_set(identity, subject.roles)
    except InputError as error:
        return Decision(False, (str(error),))
    return _unproved(identity, roles, env)


def _unproved(identity: Identity, roles: RoleSet, env: Environment) -> Decision | None:
    """Whoever would not be let in here themselves does not get in as another.

    Machines have no second factor: where the whole cluster demands one they still take on their roles, and
    services refuse what they get wherever it is demanded."""
    preference = env.auth_preference
    everywhere = preference is not None and requires_mfa(preference.spec.require_session_mfa)
    demanding = [role.name for role in roles.compiled if role.requires_mfa]
    if not identity.mfa_device and (demanding or (everywhere and not identity.bot_name)):
        return Decision(False, (f"{_by(demanding)}session MFA required",))
    trusting = [role.name for role in roles.compiled if role.requires_device]
    if not identity.device_id and trusting:
        return Decision(False, (f"{_by(trusting)}trusted device required",))
    return None


def _by(roles: list[str]) -> str:
    return f"role {roles[0]}: " if roles else ""


def _decide(subject: Subject, user: User | None, wanted: Sequence[Role]) -> Decision:
    if not wanted:
        return _NOBODY
    identity = subject.identity
    traits = identity.traits
    try:
        denying = [(role.name, _block(role.spec.deny, traits, deny=True)) for role in subject.roles]
        allowing = [
            (role.name, _block(role.spec.allow, traits))
            for role in subject.roles
            if applies_here(role.spec.allow)
        ]
    except InputError as error:
        return Decision(False, (str(error),))
    for name, block in denying:
        if block is None:
            continue
        if user is not None and block.users.matches(user.name):
            return Decision(False, (f"role {name}: deny.impersonate.users",))
        if any(block.roles.matches(role.name) for role in wanted):
            return Decision(False, (f"role {name}: deny.impersonate.roles",))
    for name, block in allowing:
        if block is not None and _covers(block, identity, user, wanted):
            return Decision(True, (f"role {name}: allow.impersonate",))
    return _NO_ROLES if user is None else _NO_USER


def _covers(block: _Block, identity: Identity, user: User | None, wanted: Sequence[Role]) -> bool:
    if block.names_users is (user is None):
        return False
    if user is not None and not block.users.matches(user.name):
        return False
    return all(
        block.roles.matches(role.name)
        and (block.where is None or block.where.holds(Scope(identity, user, role)))
        for role in wanted
    )

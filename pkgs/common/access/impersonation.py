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
from pkgs.common.access.matching.matchers import Matcher, compile_matcher
from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.protocols.grants import NEEDS_DEVICE, NEEDS_MFA, applies_here, requires_mfa
from pkgs.common.access.roleset import roles_of
from pkgs.common.access.types import Decision, Environment, Subject, UseRule
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.kinds import User
from pkgs.common.resources.role import Conditions, Role

SYSTEM_PREFIX = "@"
"""Users that the platform makes for itself."""
_CLUSTER = ""
"""In the place of a role's name: the whole cluster demands it."""
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
    return _decide(subject, user, roles, env)


def may_impersonate_roles(subject: Subject, roles: Sequence[Role], env: Environment) -> Decision:
    """Whether `subject` may be given certificates in their own name with `roles` instead of their own."""
    refusal = _refused(subject, env)
    if refusal is not None:
        return refusal
    if any(bot_of(role) for role in roles):
        return _MACHINE
    return _decide(subject, None, roles, env)


def check_impersonation(role: Role) -> None:
    """Raises InputError, with the field, for a condition that could not be asked."""
    for side, conditions in (("allow", role.spec.allow), ("deny", role.spec.deny)):
        if conditions.impersonate is None:
            continue
        try:
            compile_impersonate_where(conditions.impersonate.where)
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


_NOTHING = _Block(compile_matcher(()), False, compile_matcher(()), None)


def _block(conditions: Conditions, traits: Traits, *, deny: bool = False) -> _Block:
    found = conditions.impersonate
    if found is None:
        return _NOTHING
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
    if (
        identity.disallow_reissue
        or identity.force_command
        or identity.allowed_resources is not None
        # What was taken on would go on when the request is denied, deleted or locked (attack A32).
        or identity.active_requests
    ):
        return Decision(False, ("a restricted certificate impersonates nobody",))
    return _unproved(subject, env)


def _unproved(subject: Subject, env: Environment) -> Decision | None:
    """Whoever would not be let in here themselves does not get in as another.

    Machines have no second factor and no device of people: where the whole cluster demands one they still
    take on their roles, and services refuse what they get wherever it is demanded."""
    identity = subject.identity
    mfa = [role.name for role in subject.roles if requires_mfa(role.spec.options.require_session_mfa)]
    device = [role.name for role in subject.roles if role.spec.options.device_trust_mode == "required"]
    preference = env.auth_preference
    if preference is not None and not identity.bot_name:
        spec = preference.spec
        mfa += [_CLUSTER] if requires_mfa(spec.require_session_mfa) else []
        device += [_CLUSTER] if spec.device_trust is not None and spec.device_trust.mode == "required" else []
    if mfa and not identity.mfa_device:
        return Decision(False, (_by(mfa[0]) + NEEDS_MFA,))
    if device and not identity.device_id:
        return Decision(False, (_by(device[0]) + NEEDS_DEVICE,))
    return None


def _by(role: str) -> str:
    return "" if role == _CLUSTER else f"role {role}: "


def _decide(subject: Subject, user: User | None, wanted: Sequence[Role], env: Environment) -> Decision:
    """Roles that do not count at this hour or from this place give nothing; in doubt they still refuse."""
    if not wanted:
        return _NOBODY
    identity = subject.identity
    try:
        every = roles_of(subject)
        blocks = [
            (compiled, _block(role.spec.allow, every.traits), _block(role.spec.deny, every.traits, deny=True))
            for role, compiled in zip(every.plain, every.compiled, strict=True)
        ]
    except InputError as error:
        return Decision(False, (str(error),))
    for role, _, deny in blocks:
        if not role.deny_in_force(env):
            continue
        if user is not None and deny.users.matches(user.name):
            return Decision(False, (f"role {role.name}: deny.impersonate.users",))
        if any(deny.roles.matches(one.name) for one in wanted):
            return Decision(False, (f"role {role.name}: deny.impersonate.roles",))
    applying = {role.name for role in every.plain if applies_here(role.spec.allow)}
    for role, allow, _ in blocks:
        if role.name in applying and role.in_force(env) and _covers(allow, identity, user, wanted):
            return Decision(True, (f"role {role.name}: allow.impersonate",))
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

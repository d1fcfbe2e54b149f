"""The one decision function. Every path to a power asks here, with the same values; the answer is no
unless a role says yes and nothing refuses.
"""

from __future__ import annotations

from pkgs.common.access import ssh
from pkgs.common.access.locks import STALE_TEXT, Interaction, is_stale, lock_reason, lock_text, matching_lock
from pkgs.common.access.options import lock_mode
from pkgs.common.access.roleset import RoleSet, role_set
from pkgs.common.access.types import Decision, Environment, SeeNode, SshLogin, Subject, Target, UseRule
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.pki.source import same_address

_NOT_A_USER = Decision(False, ("only users have roles",))
_EXPIRED = Decision(False, ("the certificate has expired",))
_NOT_YET = Decision(False, ("the certificate is not valid yet",))
_SOURCE = Decision(False, ("the certificate is pinned to another address",))
_ALONE = Decision(False, ("a role requires others to be present, which sessions cannot wait for yet",))
_STALE = Decision(False, ("the view of the locks is too old for strict locking",), STALE_TEXT)
_RESTRICTED = Decision(False, ("the certificate is restricted to other resources",))
_NO_RULE = Decision(False, ("no role has a rule that allows this",))
_CLOCK_TOLERANCE_S = 30.0


def decide(subject: Subject, target: Target, env: Environment) -> Decision:
    """Whether `subject` may do this now. Never raises for what a peer or a role says; denies instead.

    Checked for every target: expiry, source address, locks, the restriction to resources."""
    refusal = barred(subject, target, env)
    if refusal is not None:
        return refusal
    identity = subject.identity
    try:
        roles = role_set(identity, subject.roles)
    except InputError as error:
        return Decision(False, (str(error),))
    if isinstance(target, UseRule):
        return _decide_rule(identity, roles, target)
    if isinstance(target, SeeNode):
        return ssh.decide_see(roles, target)
    return ssh.decide_login(identity, roles, target, env)


def barred(subject: Subject, target: Target, env: Environment) -> Decision | None:
    """What refuses before any role is asked; None: nothing."""
    identity = subject.identity
    if identity.kind is not PeerKind.USER:
        return _NOT_A_USER
    if not env.live and env.now >= identity.expires_at:
        return _EXPIRED
    if env.now + _CLOCK_TOLERANCE_S < identity.valid_after:
        return _NOT_YET
    if identity.source_addr and not same_address(identity.source_addr, env.source_addr):  # attack A12
        return _SOURCE
    refusal = _locked(subject, target, env)
    if refusal is not None or isinstance(target, UseRule):
        return refusal
    if identity.allowed_resources is not None and not _is_allowed_resource(identity, target):
        return _RESTRICTED
    if isinstance(target, SshLogin) and any(ssh.needs_company(role) for role in subject.roles):
        return _ALONE
    return None


def _locked(subject: Subject, target: Target, env: Environment) -> Decision | None:
    """Locks of this user, role, device, login or server; with strict locking also a stale view."""
    if is_stale(env.locks_stale_s) and lock_mode(subject.roles, env.auth_preference) == "strict":
        return _STALE
    if not env.locks:
        return None
    lock = matching_lock(env.locks, _interaction(subject.identity, target, env), env.now)
    return None if lock is None else Decision(False, (lock_reason(lock),), lock_text(lock))


def _interaction(identity: Identity, target: Target, env: Environment) -> Interaction:
    """What locks can name of this question."""
    if isinstance(target, UseRule):
        return Interaction(identity, (env.server_id,))
    return Interaction(identity, (target.node.name, env.server_id), target.login)


def _is_allowed_resource(identity: Identity, target: SshLogin | SeeNode) -> bool:
    """Attack A22: cluster, kind and name must be equal; an id of another kind lets nothing here pass."""
    allowed = identity.allowed_resources or ()
    return f"/{identity.cluster}/node/{target.node.name}" in allowed


def _decide_rule(identity: Identity, roles: RoleSet, target: UseRule) -> Decision:
    """A certificate restricted to resources keeps only the rules that everybody has."""
    compiled = roles.compiled
    for role in compiled:
        if any(rule.denies(target, identity) for rule in role.deny_rules):
            return Decision(False, (f"role {role.name}: deny.rules {target.kind} {target.verb}",))
    if identity.allowed_resources is not None:
        compiled = compiled[-1:]
    for role in compiled:
        if any(rule.allows(target, identity) for rule in role.allow_rules):
            return Decision(True, (f"role {role.name}: allow.rules {target.kind} {target.verb}",))
    return _NO_RULE

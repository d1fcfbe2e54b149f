"""Joining sessions of others, and sessions that may only run in company (attack A30).

The owner's roles demand (`require_session_join`), the roles of those who come allow (`join_sessions`). Roles
before v5 know neither. Whoever comes must be let in by `decide` besides: expiry, source address and locks are
asked there. Identities are as this cluster sees them (`rolemap.as_local`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pkgs.common.access.contexts.participants import passes
from pkgs.common.access.matching.matchers import compile_matcher
from pkgs.common.access.options.merge import InForce, always
from pkgs.common.access.protocols.grants import NEEDS_DEVICE, NEEDS_MFA, applies_here, requires_mfa
from pkgs.common.access.types import Decision
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import AuthPreference
from pkgs.common.resources.role import JoinPolicy, RequirePolicy, Role

JOIN_LOGIN = "-teleport-internal-join"
"""The login name of whoever comes to join: that of no user of any host."""

Kind = Literal["ssh", "k8s", "db", "app", "desktop"]
Mode = Literal["observer", "moderator", "peer"]
Consequence = Literal["continue", "pause", "terminate"]
KINDS: tuple[Kind, ...] = ("ssh", "k8s", "db", "app", "desktop")
MODES: tuple[Mode, ...] = ("observer", "moderator", "peer")
MAY_TYPE: frozenset[Mode] = frozenset({"peer"})
MAY_END: frozenset[Mode] = frozenset({"moderator"})
"""Beside the owner, who may type and end. Everybody who has joined may watch."""

_TOO_OLD = frozenset({"v1", "v2", "v3", "v4"})
_LONGEST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class PolicySet:
    """What one role of the owner demands. Kept with the session, as it was when the session began."""

    role: str
    policies: tuple[RequirePolicy, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """A session as far as joining it goes."""

    kind: Kind
    owner: Identity
    sets: tuple[PolicySet, ...]
    """One for each of the owner's roles, also those that demand nothing: policies of others name them."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody who is in a session, or wants to be."""

    identity: Identity
    roles: Sequence[Role]
    mode: Mode


def begin(kind: Kind, owner: Identity, roles: Iterable[Role]) -> Session:
    """The session of an owner with these roles. They demand whether or not they are in force."""
    return Session(kind, owner, tuple(map(_set_of, roles)))


def needs_company(kind: Kind, roles: Iterable[Role]) -> bool:
    """Whether a session of somebody with these roles may run only while others are present."""
    for role in roles:
        policies = _applicable(_set_of(role), kind)
        if policies and all(policy.count > 0 for policy in policies):
            return True
    return False


def _set_of(role: Role) -> PolicySet:
    return PolicySet(role.name, tuple(role.spec.allow.require_session_join) if _takes_part(role) else ())


# Joining.


def may_join(
    session: Session,
    who: Participant,
    *,
    auth_preference: AuthPreference | None = None,
    in_force: InForce = always,
) -> Decision:
    """Whether somebody may join in their mode. Never raises for what a role says; denies instead."""
    identity = who.identity
    try:
        granting = _granting(session, who, in_force)
    except InputError as error:
        return Decision(False, (error.message,))
    if not granting:
        return Decision(False, (f"no role allows joining this session as {who.mode}",))
    if (
        auth_preference is not None
        and requires_mfa(auth_preference.spec.require_session_mfa)
        and not identity.mfa_device
    ):
        return Decision(False, (NEEDS_MFA,), ("mfa",))
    trust = auth_preference.spec.device_trust if auth_preference is not None else None
    if trust is not None and trust.mode == "required" and not identity.device_id:
        return Decision(False, (NEEDS_DEVICE,), ("device",))
    for role in granting:
        if requires_mfa(role.spec.options.require_session_mfa) and not identity.mfa_device:
            return Decision(False, (f"role {role.name}: {NEEDS_MFA}",), ("mfa",))
        if role.spec.options.device_trust_mode == "required" and not identity.device_id:
            return Decision(False, (f"role {role.name}: {NEEDS_DEVICE}",), ("device",))
    if _is_owner(session, identity):
        return Decision(True, ("one's own session",))
    return Decision(True, (f"role {granting[0].name}: allow.join_sessions",))


def _granting(session: Session, who: Participant, in_force: InForce) -> list[Role]:
    """The roles by which somebody may join; none: they may not. Raises InputError."""
    serving = [role for role in who.roles if in_force(role)]
    if not any(_takes_part(role) for role in who.roles):
        # As it was before there were policies; a deny is meant nevertheless.
        allowed = session.kind == "ssh" and who.mode == "peer"
        allowed = allowed and (_is_owner(session, who.identity) or not _is_denied(session, who))
        return serving if allowed else []
    if _is_owner(session, who.identity):
        return serving
    return _by_policy(session, who, in_force)


def _by_policy(session: Session, who: Participant, in_force: InForce) -> list[Role]:
    """The roles whose policies allow the mode; none where a deny names it. Raises InputError."""
    if _is_denied(session, who):
        return []
    return [
        role
        for role in who.roles
        if _takes_part(role)
        and applies_here(role.spec.allow)
        and any(
            _has_mode(policy, who.mode) and _is_about(policy, session)
            for policy in role.spec.allow.join_sessions
        )
        and in_force(role)
    ]


def _is_denied(session: Session, who: Participant) -> bool:
    """The field does not read `deny.join_sessions`; here it is meant as it is written. Raises InputError."""
    return any(
        _is_about(policy, session, deny=True) and (not policy.modes or _has_mode(policy, who.mode))
        for role in who.roles
        for policy in role.spec.deny.join_sessions
    )


def _is_about(policy: JoinPolicy, session: Session, *, deny: bool = False) -> bool:
    """Kind, and some role of the owner."""
    matchers = compile_matcher(policy.roles, deny=deny)
    return _has_kind(policy, session.kind) and any(matchers.matches(found.role) for found in session.sets)


# Running.


def may_run(session: Session, present: Iterable[Participant], in_force: InForce = always) -> Decision:
    """Whether the session may go on with those who are present; the reasons of a no are what the waiting
    owner is told.

    Every set must be satisfied, one policy of a set is enough. People are counted, not connections: somebody
    who joined twice is one, and the owner is nobody's moderator, however they joined (attack A30)."""
    present = tuple(present)
    unmet = []
    for found in session.sets:
        policies = _applicable(found, session.kind)
        counts = [_count(policy, session, present, in_force) for policy in policies]
        if not policies or any(n >= policy.count for n, policy in zip(counts, policies, strict=True)):
            continue
        choices = [_demand(policy, n) for policy, n in zip(policies, counts, strict=True)]
        unmet.append(f"role {found.role} requires {' or '.join(choices)}")
    return Decision(not unmet, tuple(unmet))


def when_left(session: Session, present: Iterable[Participant], in_force: InForce = always) -> Consequence:
    """What becomes of a running session when only these are left: ended, unless every policy that applies
    says `pause`."""
    if may_run(session, present, in_force):
        return "continue"
    policies = [policy for found in session.sets for policy in _applicable(found, session.kind)]
    return "pause" if all(policy.on_leave == "pause" for policy in policies) else "terminate"


def may_transfer(
    session: Session,
    present: Iterable[Participant],
    approved_by: Iterable[Identity],
    in_force: InForce = always,
) -> Decision:
    """Whether a file may be copied in a session: where it needs company, moderators must have approved it
    who are present now and alone would let it run. Other demands on copying are asked elsewhere."""
    approvals = {(identity.name, identity.cluster) for identity in approved_by}
    deciding = [
        who
        for who in present
        if who.mode == "moderator" and (who.identity.name, who.identity.cluster) in approvals
    ]
    decision = may_run(session, deciding, in_force)
    if decision:
        return decision
    return Decision(False, tuple(f"{reason}, who approve of the file" for reason in decision.reasons))


def _applicable(found: PolicySet, kind: Kind) -> list[RequirePolicy]:
    return [policy for policy in found.policies if _has_kind(policy, kind)]


def _count(policy: RequirePolicy, session: Session, present: Sequence[Participant], in_force: InForce) -> int:
    """Different people who satisfy the policy."""
    return len(
        {
            (who.identity.impersonator or who.identity.name, who.identity.cluster)
            for who in present
            if _has_mode(policy, who.mode)
            and not _same_person(session.owner, who.identity)
            and passes(policy.filter, who.identity)
            and _holds_policy(session, who, in_force)
        }
    )


def _holds_policy(session: Session, who: Participant, in_force: InForce) -> bool:
    try:
        return bool(_by_policy(session, who, in_force))
    except InputError:
        return False


def _demand(policy: RequirePolicy, present: int) -> str:
    """`2 as moderator ("four-eyes": contains(user.roles, "auditor")), 1 present`"""
    modes = "anyone" if "*" in policy.modes else " or ".join(policy.modes) or "nobody"
    about = f'"{policy.name}"' + (f": {policy.filter[:_LONGEST_SHOWN]}" if policy.filter else "")
    return f"{policy.count} as {modes} ({about}), {present} present"


def _takes_part(role: Role) -> bool:
    return role.version not in _TOO_OLD


def _has_kind(policy: JoinPolicy | RequirePolicy, kind: Kind) -> bool:
    return kind in policy.kinds or "*" in policy.kinds


def _has_mode(policy: JoinPolicy | RequirePolicy, mode: Mode) -> bool:
    return mode in policy.modes or "*" in policy.modes


def _is_owner(session: Session, identity: Identity) -> bool:
    """By name and cluster: a user of another cluster with the same name is somebody else (attack A44)."""
    return (identity.name, identity.cluster) == (session.owner.name, session.owner.cluster)


def _same_person(owner: Identity, other: Identity) -> bool:
    """Also through impersonation, in either direction."""
    names = {owner.name, owner.impersonator} & {other.name, other.impersonator}
    return owner.cluster == other.cluster and bool(names - {""})

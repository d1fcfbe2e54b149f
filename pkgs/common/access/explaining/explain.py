"""Why a decision is what it is, and the least that would have to change for a yes.

The verdict is `decide`'s own; what each role says is read from the same compiled roles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkgs.common.access.decide import barred, decide
from pkgs.common.access.explaining.resources import about_resource
from pkgs.common.access.explaining.rules import about_rule
from pkgs.common.access.explaining.story import Explained, Finding, Missing, step_of
from pkgs.common.access.options import logins_for
from pkgs.common.access.protocols.dbpolicy import terms
from pkgs.common.access.roleset import roles_of
from pkgs.common.access.types import Decision, Environment, Subject, Target, UseRule
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.role import Role

__all__ = [
    "Explained", "Explanation", "Finding", "Missing", "as_if", "explain", "may_be_told", "told", "why_not",
]  # fmt: skip

HYPOTHETICAL_LIFE_S = 3600.0
ASSUMED_DEVICE = "assumed"
MAX_STORY = 4000
"""Characters of a story inside a denial."""
MAX_LOGINS = 64
"""As many as a certificate gets, whatever the roles say."""


@dataclass(frozen=True, slots=True)
class Explanation:
    decision: Decision
    findings: tuple[Finding, ...] = ()
    conditions: tuple[str, ...] = ()
    """What the granting roles or the cluster demand beyond the grant, met or not."""
    missing: tuple[Missing, ...] = ()
    """Smallest set of steps to a yes; empty when allowed."""

    @property
    def allowed(self) -> bool:
        return self.decision.allowed


def as_if(
    user: str,
    roles: Sequence[Role],
    traits: dict[str, tuple[str, ...]],
    cluster: str,
    env: Environment,
    *,
    mfa: bool = False,
    device: bool = False,
) -> Identity:
    """The identity that `user` would have after logging in now with these roles and traits."""
    now = env.now
    try:
        logins = logins_for(roles, traits, 0.0)
    except (DeniedError, InputError):
        logins = ()
    return Identity(
        kind=PeerKind.USER,
        name=user,
        cluster=cluster,
        roles=tuple(role.name for role in roles),
        traits=traits,
        logins=logins[:MAX_LOGINS],
        valid_after=now,
        expires_at=now + HYPOTHETICAL_LIFE_S,
        mfa_device=ASSUMED_DEVICE if mfa else "",
        device_id=ASSUMED_DEVICE if device else "",
    )


def explain(subject: Subject, target: Target, env: Environment) -> Explanation:
    """The decision with its whole story. Never raises for what a role says."""
    decision = decide(subject, target, env)
    bar = barred(subject, target, env)
    if bar is not None and subject.identity.kind is not PeerKind.USER:
        return Explanation(decision, missing=(step_of(bar),))
    try:
        roles = roles_of(subject)
    except InputError as error:
        return Explanation(decision, missing=(Missing("meet", "", "roles", str(error)),))
    if isinstance(target, UseRule):
        story = about_rule(subject.identity, roles, target, env)
    else:
        story = about_resource(subject, roles, target, env)
    steps = (*((step_of(bar),) if bar is not None else ()), *story.missing)
    return Explanation(decision, story.findings, story.conditions, steps)


def told(found: Explanation, subject: Subject, action: str, resource_id: str = "") -> Explained:
    """An explanation as people and programs get it."""
    return Explained(
        allowed=found.allowed,
        user=subject.identity.name,
        roles=[role.name for role in subject.roles],
        action=action,
        resource_id=resource_id,
        reasons=list(found.decision.reasons),
        findings=list(found.findings),
        conditions=list(found.conditions),
        principals={name: list(values) for name, values in terms(found.decision).items()},
        missing=list(found.missing),
    )


def may_be_told(subject: Subject, env: Environment) -> bool:
    """Whether somebody may know why: those who may read every role and every user."""
    return all(decide(subject, UseRule(kind, "read"), env) for kind in ("role", "user"))


def why_not(subject: Subject, target: Target, env: Environment, action: str) -> str:
    """The story of a denial for whoever met it, if they may know; otherwise nothing. Lines, to stand below
    the flat denial."""
    if not may_be_told(subject, env):
        return ""
    text = "\n".join(told(explain(subject, target, env), subject, action).lines())
    return text if len(text) <= MAX_STORY else text[:MAX_STORY] + " ..."

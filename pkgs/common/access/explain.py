"""Why a decision is what it is, and the least that would have to change for a yes.

The verdict is `decide`'s own; what each role says is read from the same compiled roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from pkgs.common.access import ssh
from pkgs.common.access.contexts.where import Answer
from pkgs.common.access.decide import barred, decide
from pkgs.common.access.labels import node_labels
from pkgs.common.access.options import logins_for
from pkgs.common.access.roleset import CompiledRole, RoleSet, compile_role, role_set
from pkgs.common.access.types import Decision, Environment, SeeNode, SshLogin, Subject, Target, UseRule
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.role import Role

HYPOTHETICAL_LIFE_S = 3600.0
ASSUMED_DEVICE = "assumed"
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Missing:
    """One step towards a yes."""

    change: Literal["add", "remove", "meet"]
    """Add to an allow, remove from a deny, or meet a condition that no role can lift."""
    role: str
    """Empty: any role of the user, a new one for example; or no matter of roles."""
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one role says."""

    role: str
    effect: Literal["allows", "denies", "lacks"]
    text: str


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
    now: float,
    *,
    mfa: bool = False,
) -> Identity:
    """The identity that `user` would have after logging in now with these roles and traits."""
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
        logins=logins,
        valid_after=now,
        expires_at=now + HYPOTHETICAL_LIFE_S,
        mfa_device=ASSUMED_DEVICE if mfa else "",
    )


def explain(subject: Subject, target: Target, env: Environment) -> Explanation:
    """The decision with its whole story. Never raises for what a role says."""
    decision = decide(subject, target, env)
    bar = barred(subject, target, env)
    if bar is not None and subject.identity.kind is not PeerKind.USER:
        return Explanation(decision, missing=(_step(bar),))
    try:
        roles = role_set(subject.identity, subject.roles)
    except InputError as error:
        return Explanation(decision, missing=(Missing("meet", "", "roles", str(error)),))
    if isinstance(target, UseRule):
        story = _about_rule(subject.identity, roles, target)
    else:
        story = _about_node(subject, roles, target, env)
    steps = (*((_step(bar),) if bar is not None else ()), *story.missing)
    return Explanation(decision, story.findings, story.conditions, steps)


@dataclass(frozen=True, slots=True)
class _Story:
    findings: tuple[Finding, ...]
    conditions: tuple[str, ...]
    missing: tuple[Missing, ...]


def _step(bar: Decision) -> Missing:
    return Missing("meet", "", "", "; ".join(bar.reasons))


# Servers.


def _about_node(subject: Subject, roles: RoleSet, target: SshLogin | SeeNode, env: Environment) -> _Story:
    labels = node_labels(target.node)
    login = target.login if isinstance(target, SshLogin) else None
    findings: list[Finding] = []
    steps: list[Missing] = []
    conditions: list[str] = []
    best: list[Missing] | None = None
    granted = False
    for compiled, plain in zip(roles.compiled, roles.plain, strict=True):
        denied = list(_node_denials(compiled, plain, labels, login))
        steps += denied
        findings += [
            Finding(compiled.name, "denies", f"denies by {step.field}: {step.value}") for step in denied
        ]
        if plain is IMPLICIT_ROLE:
            continue
        gaps = list(_node_gaps(compiled, plain, subject.identity, labels, login))
        unmet = [] if login is None else _unmet(compiled, subject.identity)
        if not gaps:
            granted = True
            findings.append(Finding(compiled.name, "allows", "allows the labels" + _and_login(login)))
            conditions += _conditions(compiled) if login is not None else ()
            steps += unmet
            continue
        findings.append(Finding(compiled.name, "lacks", _shortfall(gaps, login)))
        if best is None or _cost(gaps + unmet) < _cost(best):
            best = gaps + unmet
    if not granted:
        steps += best if best is not None else _from_nothing(labels, login)
    if isinstance(target, SshLogin):
        bar = ssh.barred_login(subject.identity, target, env)
        earned = any(target.login in role.allow_logins for role in roles.compiled) and not any(
            {target.login, "*"} & role.deny_logins for role in roles.compiled
        )
        if bar is not None and (earned or bar is not ssh.NOT_IN_CERT):
            # A login that no role gives is in no certificate either: that is said once.
            steps.insert(0, _step(bar))
        if bar is not None and bar.reasons == (ssh.NEEDS_MFA,):
            conditions.insert(0, "the cluster requires MFA for every session")
    return _Story(tuple(findings), tuple(dict.fromkeys(conditions)), tuple(dict.fromkeys(steps)))


def _node_denials(
    compiled: CompiledRole, plain: Role, labels: Mapping[str, str], login: str | None
) -> Iterator[Missing]:
    if compiled.deny_nodes.matches(labels):
        shown = "* = *" if compiled.deny_nodes.everything else _shown(labels, compiled)
        yield Missing("remove", compiled.name, "deny.node_labels", shown)
    if compiled.deny_expression is not None and compiled.deny_expression(labels):
        yield Missing(
            "remove", compiled.name, "deny.node_labels_expression", plain.spec.deny.node_labels_expression
        )
    for refused in (login, "*"):
        if login is not None and refused in compiled.deny_logins:
            yield Missing("remove", compiled.name, "deny.logins", str(refused))


def _shown(labels: Mapping[str, str], compiled: CompiledRole) -> str:
    keys = [key for key, _ in compiled.deny_nodes.keys]
    return ", ".join(f"{key}={labels[key]}" for key in keys[:_MAX_SHOWN] if key in labels)


def _node_gaps(
    compiled: CompiledRole, plain: Role, identity: Identity, labels: Mapping[str, str], login: str | None
) -> Iterator[Missing]:
    allow = plain.spec.allow
    if allow.namespaces and not {"default", "*"} & set(allow.namespaces):
        yield Missing("add", plain.name, "allow.namespaces", "default")
        # What is missing besides, were it not for the namespace.
        there = msgspec.structs.replace(allow, namespaces=())
        plain = msgspec.structs.replace(plain, spec=msgspec.structs.replace(plain.spec, allow=there))
        compiled = compile_role(plain, identity.traits)
    selector = compiled.allow_nodes
    if not selector.matches(labels):
        wrong = [key for key, matcher in selector.keys if not matcher.matches(labels.get(key, ""))]
        wrong = wrong or [key for key, _ in selector.keys if key not in labels]
        yield Missing("add", plain.name, "allow.node_labels", _labels_text(labels, wrong))
    if compiled.allow_expression is not None and not compiled.allow_expression(labels):
        yield Missing(
            "add",
            plain.name,
            "allow.node_labels_expression",
            f"true for {_labels_text(labels, list(labels))}",
        )
    if login is not None and login not in compiled.allow_logins:
        yield Missing("add", plain.name, "allow.logins", login)


def _labels_text(labels: Mapping[str, str], keys: Sequence[str]) -> str:
    """The labels of the server that a selector would have to match."""
    found = [f"{key}={labels[key]}" if key in labels else f"no {key}" for key in (keys or sorted(labels))]
    more = ", ..." if len(found) > _MAX_SHOWN else ""
    return ", ".join(found[:_MAX_SHOWN]) + more if found else "no labels"


def _and_login(login: str | None) -> str:
    return f" and the login {login}" if login is not None else ""


def _shortfall(gaps: Sequence[Missing], login: str | None) -> str:
    """`allows the labels but not the login deploy`."""
    fields = {gap.field for gap in gaps}
    labels = next((gap for gap in gaps if gap.field.startswith("allow.node_labels")), None)
    if "allow.namespaces" in fields:
        return "is for another namespace"
    if labels is None:
        return f"allows the labels but not the login {login}"
    text = f"the labels ({labels.value})"
    if "allow.logins" in fields:
        return f"allows neither {text} nor the login {login}"
    return f"allows the login {login} but not {text}" if login is not None else f"does not allow {text}"


def _unmet(compiled: CompiledRole, identity: Identity) -> list[Missing]:
    found = ssh.unmet(compiled, identity)
    return [Missing("meet", compiled.name, "options", found)] if found else []


def _conditions(compiled: CompiledRole) -> Iterator[str]:
    if compiled.requires_mfa:
        yield f"role {compiled.name} requires MFA for every session"
    if compiled.requires_device:
        yield f"role {compiled.name} requires a trusted device"


def _cost(steps: Sequence[Missing]) -> tuple[int, int, str]:
    """Fewest steps first, then a login rather than labels, then by name: never by the order of roles."""
    labels = sum(step.field.startswith("allow.node_labels") for step in steps)
    return len(steps), labels, min((step.role for step in steps), default="")


def _from_nothing(labels: Mapping[str, str], login: str | None) -> list[Missing]:
    steps = [Missing("add", "", "allow.node_labels", _labels_text(labels, list(labels)))]
    return [*steps, Missing("add", "", "allow.logins", login)] if login is not None else steps


# Rules.


def _about_rule(identity: Identity, roles: RoleSet, target: UseRule) -> _Story:
    findings: list[Finding] = []
    steps: list[Missing] = []
    best: tuple[int, str, Missing] | None = None
    granted = False
    wanted = f"{target.kind} {target.verb}"
    restricted = identity.allowed_resources is not None
    for compiled, plain in zip(roles.compiled, roles.plain, strict=True):
        for number, rule in enumerate(compiled.deny_rules):
            if rule.denies(target, identity):
                field = f"deny.rules[{number}]"
                steps.append(Missing("remove", compiled.name, field, wanted))
                findings.append(Finding(compiled.name, "denies", f"denies by {field}"))
        if restricted and plain is not IMPLICIT_ROLE:
            continue
        allows = [n for n, rule in enumerate(compiled.allow_rules) if rule.allows(target, identity)]
        if allows:
            granted = True
            findings.append(Finding(compiled.name, "allows", f"allows by allow.rules[{allows[0]}]"))
        elif plain is not IMPLICIT_ROLE:
            rank, step, text = _rule_gap(compiled, identity, target)
            findings.append(Finding(compiled.name, "lacks", text))
            if best is None or (rank, compiled.name) < best[:2]:
                best = (rank, compiled.name, step)
    if not granted and restricted:
        steps.append(Missing("meet", "", "", "the certificate is restricted to some resources"))
    elif not granted:
        steps.append(best[2] if best is not None else Missing("add", "", "allow.rules", wanted))
    return _Story(tuple(findings), (), tuple(dict.fromkeys(steps)))


def _rule_gap(compiled: CompiledRole, identity: Identity, target: UseRule) -> tuple[int, Missing, str]:
    """How near a role is to allowing, the step that is missing, and the same in words."""
    wanted = f"{target.kind} {target.verb}"
    for number, rule in enumerate(compiled.allow_rules):
        if rule.covers(target) and rule.where is not None:
            answer = rule.where.ask(identity, target)
            # Asked about any object, a condition on one's own sessions gives nothing.
            said = Answer.NO.value if answer is Answer.YES else answer.value
            step = Missing("add", compiled.name, f"allow.rules[{number}].where", rule.where.text)
            return 0, step, f"allows {wanted} only where {rule.where.text}, which {_is(said)}"
    step = Missing("add", compiled.name, "allow.rules", wanted)
    if any(target.kind in rule.kinds or "*" in rule.kinds for rule in compiled.allow_rules):
        return 1, step, f"has rules for {target.kind} but not the verb {target.verb}"
    return 2, step, f"has no rule for {target.kind}"


def _is(said: str) -> str:
    return said if said.startswith("cannot") else f"is {said}"

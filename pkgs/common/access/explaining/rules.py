"""What each role's rules say about a kind and a verb, and the step that is missing."""

from __future__ import annotations

from pkgs.common.access.contexts.where import Answer
from pkgs.common.access.explaining.story import Finding, Missing, Story
from pkgs.common.access.roleset import CompiledRole, RoleSet
from pkgs.common.access.types import Environment, UseRule
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.defaults import IMPLICIT_ROLE


def about_rule(identity: Identity, roles: RoleSet, target: UseRule, env: Environment) -> Story:
    findings: list[Finding] = []
    steps: list[Missing] = []
    best: tuple[int, str, Missing] | None = None
    granted = False
    wanted = f"{target.kind} {target.verb}"
    restricted = identity.allowed_resources is not None
    for compiled, plain in zip(roles.compiled, roles.plain, strict=True):
        for number, rule in enumerate(compiled.deny_rules):
            if rule.denies(target, identity) and compiled.deny_in_force(env):
                field = f"deny.rules[{number}]"
                steps.append(Missing("remove", compiled.name, field, wanted))
                findings.append(Finding(compiled.name, "denies", f"denies by {field}"))
        if restricted and plain is not IMPLICIT_ROLE:
            continue
        allows = [n for n, rule in enumerate(compiled.allow_rules) if rule.allows(target, identity)]
        elsewhen = compiled.lacking(env) if allows else ()
        if elsewhen:
            field, wanted_then = elsewhen[0]
            step = Missing("meet", compiled.name, f"allow.{field}", wanted_then)
            findings.append(Finding(compiled.name, "lacks", f"has a rule that counts only {wanted_then}"))
            if best is None or (0, compiled.name) < best[:2]:
                best = (0, compiled.name, step)
        elif allows:
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
    return Story(tuple(findings), (), tuple(dict.fromkeys(steps)))


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

"""Why somebody may request a role or not, and on what terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pkgs.common.access.explaining.explain import Explanation
from pkgs.common.access.explaining.story import Finding, Missing
from pkgs.common.access.requests.requester import Requester
from pkgs.common.access.types import Decision
from pkgs.common.resources.role import Role

_FIELD = "request.roles"


def explain_request(requester: Requester, roles: Sequence[Role], wanted: str, *, exists: bool) -> Explanation:
    """The same question as the making of a request asks; `roles` are those that the requester was made of."""
    held = any(role.name == wanted for role in roles)
    findings: list[Finding] = []
    steps: list[Missing] = []
    granting: list[str] = []
    reasons: list[str] = []
    for role, allow, deny in zip(roles, requester.allow, requester.deny, strict=True):
        for matcher in deny.roles:
            if matcher.possibly(wanted):
                steps.append(Missing("remove", role.name, f"deny.{_FIELD}", matcher.text))
                reasons.append(f"role {role.name}: deny.{_FIELD}")
                findings.append(Finding(role.name, "denies", f"denies by deny.{_FIELD}: {matcher.text}"))
        matching = [matcher.text for matcher in allow.roles if matcher.surely(wanted)]
        if matching:
            granting.append(role.name)
            findings.append(Finding(role.name, "allows", f"allows by allow.{_FIELD}: {matching[0]}"))
        else:
            findings.append(Finding(role.name, "lacks", "lets nobody request it"))
    if not granting:
        steps.append(Missing("add", "", f"allow.{_FIELD}", wanted))
        reasons.append(f"no role lets {requester.user} request {wanted}")
    if not exists:
        reasons.insert(0, f"there is no role {wanted}")
        steps.insert(0, Missing("meet", "", "", reasons[0]))
    if held:
        reasons.insert(0, f"{requester.user} has the role {wanted} already")
        steps.insert(0, Missing("meet", "", "", reasons[0]))
    if steps or not requester.may_request(wanted):
        told = tuple(dict.fromkeys(reasons))
        return Explanation(Decision(False, told), tuple(findings), (), tuple(dict.fromkeys(steps)))
    decision = Decision(True, tuple(f"role {name}: allow.{_FIELD}" for name in granting))
    return Explanation(decision, tuple(findings), tuple(_terms(requester, wanted)))


def _terms(requester: Requester, wanted: str) -> Iterator[str]:
    if requester.needs_reason([wanted]):
        yield "a reason must be given"
    for prompt in requester.prompts([wanted]):
        yield f"prompt: {prompt}"
    terms = requester.terms([wanted])
    for sets in terms.by_role.values():
        for indexes in sets.sets:
            found = [terms.thresholds[index] for index in indexes.indexes]
            texts = [
                f"{threshold.approve} approving"
                + (f" where {threshold.filter}" if threshold.filter else "")
                + (f", {threshold.deny} denying refuse" if threshold.deny else "")
                for threshold in found
            ]
            yield f"reviews: {' or '.join(texts)}"
    reviewers = requester.reviewers()
    if reviewers:
        yield f"suggested reviewers: {', '.join(reviewers)}"

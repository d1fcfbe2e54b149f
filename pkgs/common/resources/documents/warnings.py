"""What is kept as it is written and yet may not be what was meant."""

from __future__ import annotations

from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.role import Role, Rule
from pkgs.common.resources.validate.rulekinds import known, nearest
from pkgs.common.resources.validate.words import short


def warnings_of(resource: Resource) -> list[str]:
    """One line each, naming resource and field. Nothing of this refuses the resource: a document of a newer
    version of the field may name what does not exist here."""
    if not isinstance(resource, Role):
        return []
    where = f"role/{short(resource.name)}: spec"
    found = _unknown_kinds(resource.spec.allow.rules, f"{where}.allow")
    return found + _unknown_kinds(resource.spec.deny.rules, f"{where}.deny")


def _unknown_kinds(rules: list[Rule], where: str) -> list[str]:
    found = []
    for index, rule in enumerate(rules):
        for at, kind in enumerate(rule.resources):
            if not known(kind):
                close = nearest(kind)
                hint = f"; did you mean {close}?" if close else ""
                found.append(
                    f"{where}.rules[{index}].resources[{at}]: nothing here is of kind {short(kind)!r},"
                    f" so the rule does nothing for it{hint}"
                )
    return found

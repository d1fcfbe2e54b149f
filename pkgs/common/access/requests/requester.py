"""Who may request which roles, and on what terms: from the roles that somebody holds by standing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.requests import limits
from pkgs.common.access.requests.conditions import RequestSide, request_side
from pkgs.common.access.types import Environment
from pkgs.common.errors import DeniedError, LimitExceededError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds.requests import IndexSet, RoleThresholds
from pkgs.common.resources.role import Role, Threshold


@dataclass(frozen=True, slots=True)
class Terms:
    """Which thresholds decide: for each role its sets, all of which must be met, as indexes of the list."""

    thresholds: list[Threshold]
    by_role: dict[str, RoleThresholds]


@dataclass(frozen=True, slots=True)
class Requester:
    """Somebody who may ask. A role gained by a request gives no right to ask for more."""

    user: str
    allow: tuple[RequestSide, ...]
    deny: tuple[RequestSide, ...]
    asks_reason: bool
    """An option of a role demands a reason for every request."""
    strategy: str
    """What happens at login: `optional`, `reason` or `always`."""
    option_prompts: tuple[str, ...]

    @classmethod
    def of(cls, user: str, roles: Sequence[Role], traits: Traits, env: Environment) -> Requester:
        """Raises InputError when a role says something about requests that is not understood."""
        strategies = {role.spec.options.request_access for role in roles}
        return cls(
            user,
            tuple(request_side(role, "allow", traits, env) for role in roles),
            tuple(request_side(role, "deny", traits, env) for role in roles),
            asks_reason="reason" in strategies,
            strategy="reason"
            if "reason" in strategies
            else "always"
            if "always" in strategies
            else "optional",
            option_prompts=_filled(role.spec.options.request_prompt for role in roles),
        )

    # Which roles.

    def may_request(self, role: str) -> bool:
        return not self._denied(role) and any(m.surely(role) for side in self.allow for m in side.roles)

    def may_search_as(self, role: str) -> bool:
        """Whether the role may be requested for single resources."""
        if self._denied(role) or any(m.possibly(role) for side in self.deny for m in side.search):
            return False
        return any(m.surely(role) for side in self.allow for m in side.search)

    def search_roles(self) -> tuple[str, ...]:
        named = dict.fromkeys(m.text for side in self.allow for m in side.search)
        return tuple(name for name in named if self.may_search_as(name))

    def _denied(self, role: str) -> bool:
        return any(m.possibly(role) for side in self.deny for m in side.roles)

    def _concerned(self, role: str) -> list[RequestSide]:
        """The allows that have something to say about a request for this role."""
        return [side for side in self.allow if any(m.surely(role) for m in (*side.roles, *side.search))]

    # On what terms.

    def terms(self, roles: Iterable[str]) -> Terms:
        """Every allow that concerns a role brings one set of thresholds; equal thresholds are listed once."""
        listed: dict[Threshold, int] = {}
        by_role = {}
        for role in roles:
            sets: dict[tuple[int, ...], None] = {}
            for side in self._concerned(role):
                indexes = sorted({listed.setdefault(t, len(listed)) for t in side.thresholds})
                sets[tuple(indexes)] = None
            if not sets:
                raise self.refusal(role)
            by_role[role] = RoleThresholds(sets=[IndexSet(indexes=list(indexes)) for indexes in sets])
            if len(listed) > limits.MAX_THRESHOLDS:
                raise LimitExceededError(f"a request may have {limits.MAX_THRESHOLDS} thresholds")
        return Terms(list(listed), by_role)

    def needs_reason(self, roles: Iterable[str]) -> bool:
        return self.asks_reason or any(
            side.spec.reason.mode == "required" for role in roles for side in self._concerned(role)
        )

    def prompts(self, roles: Iterable[str]) -> tuple[str, ...]:
        """What to show to whoever is asked for the reason."""
        own = (side.spec.reason.prompt for role in roles for side in self._concerned(role))
        return _filled((*self.option_prompts, *own))

    def longest_s(self, roles: Iterable[str]) -> float:
        """How long an access by one request may be for all of these roles; 0: no longer than a session."""
        longest = limits.MAX_DURATION_S
        for role in roles:
            own = [parse_duration(side.spec.max_duration) for side in self._concerned(role)]
            longest = min([longest, *(seconds for seconds in own if seconds)] if any(own) else [0.0])
        return longest

    def reviewers(self) -> list[str]:
        """Those suggested when the requester suggests none."""
        refused = {name for side in self.deny for name in side.spec.suggested_reviewers}
        named = dict.fromkeys(name for side in self.allow for name in side.spec.suggested_reviewers)
        return [name for name in named if name not in refused]

    def annotations(self) -> dict[str, list[str]]:
        """Those of the allows without those of the denies."""
        found: dict[str, dict[str, None]] = {}
        for side in self.allow:
            for name, values in side.annotations.items():
                found.setdefault(name, {}).update(dict.fromkeys(values))
        for side in self.deny:
            for name, values in side.annotations.items():
                for value in values:
                    found.get(name, {}).pop(value, None)
        return {name: list(values) for name, values in found.items() if values}

    def refusal(self, role: str) -> DeniedError:
        """The same for a role that does not exist."""
        return DeniedError(
            f'user "{self.user}" can not request role "{role}"',
            hint="`tsh request search --roles` lists what can be requested",
        )


def _filled(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text.strip()))

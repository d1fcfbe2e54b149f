"""Who may review which request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkgs.common.access.contexts.reviewing import ReviewScope, answer, parse_review_where
from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.requests.conditions import ReviewSide, review_side
from pkgs.common.access.types import Environment
from pkgs.common.resources.kinds.requests import AccessRequestSpec
from pkgs.common.resources.role import Role

OWN_REQUEST = "nobody reviews their own request"


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Somebody who may perhaps review, by the roles they hold by standing."""

    user: str
    roles: tuple[str, ...]
    traits: Traits
    allow: tuple[ReviewSide, ...]
    deny: tuple[ReviewSide, ...]

    @classmethod
    def of(cls, user: str, roles: Sequence[Role], traits: Traits, env: Environment) -> Reviewer:
        """Raises InputError when a role says something about reviews that is not understood."""
        return cls(
            user,
            tuple(role.name for role in roles),
            traits,
            tuple(review_side(role, "allow", traits, env) for role in roles),
            tuple(review_side(role, "deny", traits, env) for role in roles),
        )

    def refusal(self, request: AccessRequestSpec) -> str:
        """Why they may not review it; empty: they may. A no by one role beats every yes."""
        if self.user == request.user:  # attack A32
            return OWN_REQUEST
        scope = self.scope(request)
        for role in request.roles:
            for side in self.deny:
                if any(m.possibly(role) for m in side.roles) and _holds(side, scope) is not False:
                    return f'a role of yours denies reviews of role "{role}"'
            if not any(
                any(m.surely(role) for m in side.roles) and _holds(side, scope) is True for side in self.allow
            ):
                return f'no role of yours allows reviews of role "{role}"'
        return "" if request.roles else "the request names no role"

    def scope(self, request: AccessRequestSpec, review_reason: str = "") -> ReviewScope:
        """What conditions are asked about."""
        return ReviewScope(
            reviewer_roles=self.roles,
            reviewer_traits=self.traits,
            roles=request.roles,
            reason=request.request_reason,
            system_annotations=request.system_annotations,
            review_reason=review_reason,
        )

    @property
    def previews(self) -> tuple[str, ...]:
        """Roles as which they may look at what is asked for."""
        return tuple(dict.fromkeys(name for side in self.allow for name in side.preview))


def _holds(side: ReviewSide, scope: ReviewScope) -> bool | None:
    if not side.where.strip():
        return True
    return answer(parse_review_where(side.where), scope)

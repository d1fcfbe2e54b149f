"""What an approved request adds to a certificate: the one reading of a request that grants anything.

Given the resource as it is stored at this moment. Who shapes a certificate and who vetoes it both ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pkgs.common.access.matching.resource_ids import format_id
from pkgs.common.access.requests.limits import MAX_ACTIVE
from pkgs.common.errors import DeniedError, LimitExceededError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds.requests import AccessRequest


class Extra(NamedTuple):
    """What requests grant together."""

    roles: frozenset[str]
    resources: tuple[str, ...] | None
    """What the certificate is restricted to; None: these requests restrict nothing."""
    until: float


def refusal(request: AccessRequest, user: str, now: float) -> str:
    """Why this user cannot use the request now; empty: they can (attack A32)."""
    spec = request.spec
    if spec.user != user:
        return "it is somebody else's"
    if spec.state != "APPROVED":
        return f"it is {spec.state}"
    if spec.dry_run or not spec.roles:
        return "it grants nothing"
    if now >= access_until(request):
        return "it has expired"
    if spec.assume_start_time is not None and now < spec.assume_start_time.timestamp():
        return f"it may be used from {spec.assume_start_time:%Y-%m-%d %H:%M:%S} UTC on"
    return ""


def access_until(request: AccessRequest) -> float:
    """When what the request gives is over; a request that does not say gives nothing."""
    spec = request.spec
    ends = [end.timestamp() for end in (spec.max_duration, request.metadata.expires) if end is not None]
    return min(ends) if spec.max_duration is not None else 0.0


def session_until(request: AccessRequest, now: float) -> float:
    """The longest life of a certificate taken out now."""
    spec = request.spec
    until = access_until(request)
    if spec.session_ttl is None or spec.created is None:
        return 0.0
    # Certificates count whole seconds, and rounding must not lengthen a life.
    return float(int(min(until, now + (spec.session_ttl - spec.created).total_seconds())))


def extra(requests: Sequence[AccessRequest], user: str, now: float) -> Extra:
    """All of what these requests grant; DeniedError when one of them does not."""
    if len(requests) > MAX_ACTIVE:
        raise LimitExceededError(f"a certificate may hold {MAX_ACTIVE} access requests")
    roles: set[str] = set()
    restrictions: list[tuple[str, ...]] = []
    until = float("inf")
    for request in requests:
        why = refusal(request, user, now)
        if why:
            raise DeniedError(f"access request {request.name} cannot be used: {why}")
        roles |= set(request.spec.roles)
        until = min(until, session_until(request, now))
        if request.spec.resource_ids:
            restrictions.append(tuple(map(format_id, request.spec.resource_ids)))
    if len(restrictions) > 1:
        # Together, the roles of one would open the resources of the other.
        raise DeniedError(
            "only one access request for resources can be used at a time",
            hint="`tsh request drop` gives back the other one",
        )
    return Extra(frozenset(roles), restrictions[0] if restrictions else None, until)


def restriction(
    before: Identity, requests: Sequence[AccessRequest], dropped: frozenset[str], added: Extra
) -> tuple[str, ...] | None:
    """The resources that the next certificate is restricted to (attacks A22, A34).

    An old restriction goes only together with the request that brought it: when something is dropped, and
    every request that stays is known to restrict nothing."""
    held = before.allowed_resources
    if held is not None and requests and not before.active_requests:
        # Where the restriction comes from is not known, so dropping the request could not keep it.
        raise DeniedError("a restricted certificate takes no access requests", hint="log in again")
    if held is not None and _lifted(before, requests, dropped):
        held = None
    if held is None or added.resources is None:
        return held if added.resources is None else added.resources
    if held != added.resources:
        raise DeniedError(
            "this certificate is restricted to other resources",
            hint="`tsh request drop` lifts the restriction, then use the request",
        )
    return held


def _lifted(before: Identity, requests: Sequence[AccessRequest], dropped: frozenset[str]) -> bool:
    if not dropped.intersection(before.active_requests):
        return False
    unrestricted = {request.name for request in requests if not request.spec.resource_ids}
    return all(name in dropped or name in unrestricted for name in before.active_requests)

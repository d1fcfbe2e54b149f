"""Which access requests a renewed certificate holds: read from storage at this moment, never remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pkgs.auth.state.store import Store
from pkgs.common.access.requests.assuming import refusal
from pkgs.common.access.requests.limits import MAX_ACTIVE
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, NotFoundError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import AccessRequest

EVERY = "*"


class Elevation(NamedTuple):
    requests: tuple[AccessRequest, ...]
    """Those that give something from now on."""
    dropped: frozenset[str]


def elevation(
    store: Store, identity: Identity, assume: Sequence[str], drop: Sequence[str], now: float
) -> Elevation:
    """Requests named in `assume` are checked when the certificate is issued; of those that the certificate
    holds already, the ones that are over give nothing any more."""
    held = identity.active_requests
    dropped = frozenset(held if EVERY in drop else drop)
    if len(assume) > MAX_ACTIVE or len({*held, *assume} - dropped) > MAX_ACTIVE:
        raise LimitExceededError(f"a certificate may hold {MAX_ACTIVE} access requests")
    unknown = dropped.difference(held)
    if unknown:
        raise NotFoundError(
            f'this certificate holds no access request "{min(unknown)[:80]}"', hint="see `tsh status`"
        )
    if dropped.intersection(assume):
        raise InputError("an access request is either used or dropped")
    found: dict[str, AccessRequest] = {}
    for name in assume:
        request = store.get("access_request", name)
        # Somebody else's request answers like one that does not exist.
        if not isinstance(request, AccessRequest) or request.spec.user != identity.name:
            raise NotFoundError(f'access request "{name[:80]}" not found')
        found[name] = request
    for name in held:
        request = store.get("access_request", name)
        if name in dropped or not isinstance(request, AccessRequest):
            continue
        if not refusal(request, identity.name, now):
            found.setdefault(name, request)
    if assume and not dropped.union(found).issuperset(held):
        raise DeniedError(
            "an access request of this certificate is not in force any more",
            hint="`tsh request drop` gives it back, then use the other",
        )
    return Elevation(tuple(found.values()), dropped)

"""Locks: which one, if any, stops this identity."""

from __future__ import annotations

from collections.abc import Iterable

from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import Lock

_NOBODYS = ("windows_desktop", "linux_desktop", "device", "join_token")
"""Targets that no certificate and no interaction of ours names yet: such a lock is kept, and stops nobody."""
STALE_LIMIT_S = 300.0
"""In strict mode a view of the locks older than this refuses everything."""


def in_force(lock: Lock, now: float) -> bool:
    """Whether the lock has not run out."""
    return all(end is None or now < end.timestamp() for end in (lock.spec.expires, lock.metadata.expires))


def matching_lock(
    locks: Iterable[Lock], identity: Identity, now: float, *, server_id: str = "", login: str = ""
) -> Lock | None:
    """The first lock in force whose set fields all match this interaction; None: go on.

    A lock without any field matches everything: it should never have been stored."""
    for lock in locks:
        if in_force(lock, now) and _matches(lock, identity, server_id, login):
            return lock
    return None


def _matches(lock: Lock, identity: Identity, server_id: str, login: str) -> bool:
    target = lock.spec.target
    is_user = identity.kind is PeerKind.USER
    if target.user and not (is_user and target.user in {identity.name, identity.impersonator}):
        return False
    if target.role and target.role not in identity.roles:
        return False
    if target.login and target.login != login:
        return False
    if target.access_request and target.access_request not in identity.active_requests:
        return False
    if any(getattr(target, name) for name in _NOBODYS):
        return False
    if target.bot_instance_id and target.bot_instance_id != identity.bot_instance_id:
        return False
    if target.mfa_device and target.mfa_device != identity.mfa_device:
        return False
    if target.server_id:
        own = "" if is_user else identity.name
        return target.server_id in {server_id, own}
    return True

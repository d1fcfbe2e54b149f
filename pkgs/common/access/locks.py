"""Locks: which one, if any, stops this interaction.

Matching is by what an interaction carries: a lock stops it when every field that the lock sets is met. What
an interaction does not carry meets nothing, so a lock on a login stops no API call. Matching never looks at
roles as a leaf cluster maps them: an identity's own role names are those of the cluster it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import Lock, LockTarget

STALE_LIMIT_S = 300.0
"""In strict mode a view of the locks older than this refuses everything."""
STALE_TEXT = (
    "the locks in force are not known for certain, and strict locking refuses everything until they are"
)
_TARGET_NAMES = {
    "user": "User",
    "role": "Role",
    "login": "Login",
    "mfa_device": "MFADevice",
    "device": "Device",
    "access_request": "AccessRequest",
    "server_id": "ServerID",
    "windows_desktop": "WindowsDesktop",
    "linux_desktop": "LinuxDesktop",
    "bot_instance_id": "BotInstanceID",
    "join_token": "JoinToken",
}
TARGETS = tuple(_TARGET_NAMES)
"""Every field of a target, in the order they are shown."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """Who does something, and all that a lock can name about it. Empty: no part of it."""

    identity: Identity | None
    """None: somebody who has no certificate yet, and is about to get one."""
    server_ids: tuple[str, ...] = ()
    """The server it is about, and the service that asks. A host's own id need not be named."""
    login: str = ""
    windows_desktop: str = ""
    linux_desktop: str = ""
    join_token: str = ""
    """Name of the token being used to join; a machine's certificate names its own."""


def in_force(lock: Lock, now: float) -> bool:
    """Whether the lock has not run out."""
    return all(end is None or now < end.timestamp() for end in (lock.spec.expires, lock.metadata.expires))


def lock_text(lock: Lock) -> str:
    """What the locked ones read."""
    target = lock.spec.target
    named = ", ".join(f'{_TARGET_NAMES[field]}:"{getattr(target, field)}"' for field in set_fields(target))
    text = f"lock targeting {named} is in force"
    return f"{text}: {lock.spec.message}" if lock.spec.message else text


def lock_reason(lock: Lock) -> str:
    """For logs and the audit: names the lock itself."""
    return f"lock {lock.name}: {lock.spec.message or 'locked'}"


def set_fields(target: LockTarget) -> tuple[str, ...]:
    """The fields of a target that are set: all of them must match."""
    return tuple(field for field in TARGETS if getattr(target, field))


def matching_lock(locks: Iterable[Lock], interaction: Interaction, now: float) -> Lock | None:
    """The first lock in force whose set fields all match; None: go on.

    A lock without any field matches everything: it should never have been stored."""
    if isinstance(locks, tuple):
        locks = _candidates(locks, interaction)
    carried = _Carried(interaction)
    for lock in locks:
        if in_force(lock, now) and all(
            getattr(lock.spec.target, field) in carried.of(field) for field in set_fields(lock.spec.target)
        ):
            return lock
    return None


class _Carried:
    """What an interaction carries, by the name of the target's field; looked up as far as it is asked for."""

    def __init__(self, interaction: Interaction) -> None:
        self._interaction = interaction

    def of(self, field: str) -> tuple[str, ...]:
        """Values that a lock on this field matches. Empty ones are no values: no set field equals them."""
        interaction = self._interaction
        who = interaction.identity
        match field:
            case "login":
                return (interaction.login,)
            case "windows_desktop":
                return (interaction.windows_desktop,)
            case "linux_desktop":
                return (interaction.linux_desktop,)
            case "join_token":
                return (interaction.join_token, who.join_token if who is not None else "")
        if who is None:
            return interaction.server_ids if field == "server_id" else ()
        is_user = who.kind is PeerKind.USER
        match field:
            case "user":
                # Also what somebody has made with the powers of another: both must be able to stop it.
                return (who.name, who.impersonator) if is_user else ()
            case "role":
                return who.roles
            case "mfa_device":
                return (who.mfa_device,)
            case "device":
                return (who.device_id,)
            case "access_request":
                return who.active_requests
            case "bot_instance_id":
                return (who.bot_instance_id,)
            case "server_id":
                # A proxy that passes its user on has a part in it, too (attack A40).
                return (*interaction.server_ids, who.relayed_by if is_user else who.name)
        raise ValueError(f"unknown lock target {field!r}")


# Finding the few locks that can match. Thousands of locks are asked about for every session every second.


_Index = dict[tuple[str, str], tuple[Lock, ...]]
_last: tuple[tuple[Lock, ...], _Index] = ((), {})


def _candidates(locks: tuple[Lock, ...], interaction: Interaction) -> Iterator[Lock]:
    """The locks whose first set field matches. The index of the newest tuple is remembered; it holds that
    tuple, so that the identity of the object is enough to know it again."""
    global _last
    last = _last
    if last[0] is not locks:
        index: dict[tuple[str, str], list[Lock]] = {}
        for lock in locks:
            fields = set_fields(lock.spec.target)
            key = (fields[0], getattr(lock.spec.target, fields[0])) if fields else ("", "")
            index.setdefault(key, []).append(lock)
        last = _last = (locks, {key: tuple(found) for key, found in index.items()})
    found = last[1]
    if not found:
        return
    yield from found.get(("", ""), ())
    carried = _Carried(interaction)
    for field in TARGETS:
        for value in carried.of(field):
            yield from found.get((field, value), ())


def is_stale(age_s: float) -> bool:
    """Whether a view of the locks of this age refuses everything in strict mode (fault F07)."""
    return age_s > STALE_LIMIT_S

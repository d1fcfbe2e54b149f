"""The life of the cluster's key pairs for recordings, as plain steps from one state to the next.

    active  --rotate--> active + next  --complete--> rotated + active (was next)
                            +--roll back--> active            rotated --forget--> gone

While it rotates, recordings are encrypted for both keys, so that it makes no difference which of them a host
has heard of, and the old one opens everything should the new one turn out unusable.
"""

from __future__ import annotations

import msgspec

from pkgs.common.errors import ConflictError, InputError, NotFoundError
from pkgs.common.events.format import rfc3339
from pkgs.common.recording.encrypted.keys import AgeKey, new_private_key
from pkgs.common.resources.kinds import (
    EncryptionKey,
    RecordingConfig,
    RecordingKey,
    RecordingKeys,
    RecordingKeysSpec,
    RecordingStatus,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.registry import SINGLETONS

MAX_KEYS = 64
"""Pairs that are kept, rotated ones included."""
_MAKE_ROOM = "`tctl recordings encryption forget` drops one that no recording needs"


def first_keys(now: float) -> RecordingKeys:
    """Those of a new cluster."""
    return _keys([_new_key("active", now)])


def with_status(config: RecordingConfig, keys: RecordingKeys) -> RecordingConfig:
    """The settings that tell hosts whom to encrypt for."""
    told = [EncryptionKey(public_key=key.public_key) for key in keys.spec.keys if key.state != "rotated"]
    return msgspec.structs.replace(config, status=RecordingStatus(encryption_keys=told))


def rotate(keys: RecordingKeys, now: float) -> RecordingKeys:
    """Begin: a new pair beside the active one."""
    if rotating(keys):
        raise ConflictError("the keys are being rotated already", hint="complete it, or roll it back")
    if len(keys.spec.keys) >= MAX_KEYS:
        raise InputError(
            f"a cluster keeps {MAX_KEYS} key pairs for its recordings, and has them", hint=_MAKE_ROOM
        )
    return _with(keys, [*keys.spec.keys, _new_key("next", now)])


def complete(keys: RecordingKeys) -> RecordingKeys:
    """From now on only the new pair is written for; the old one goes on reading."""
    _must_rotate(keys)
    after = {"active": "rotated", "next": "active"}
    return _with(
        keys,
        [msgspec.structs.replace(key, state=after.get(key.state, key.state)) for key in keys.spec.keys],
    )


def roll_back(keys: RecordingKeys) -> RecordingKeys:
    """Give the new pair up. Nothing is lost: what was written meanwhile was written for the old one too."""
    _must_rotate(keys)
    return _with(keys, [key for key in keys.spec.keys if key.state != "next"])


def forget(keys: RecordingKeys, public_key: str) -> RecordingKeys:
    """Drop a rotated pair. Whether anything needs it, the caller has seen to."""
    found = next((key for key in keys.spec.keys if key.public_key == public_key), None)
    if found is None:
        raise NotFoundError("there is no such key", hint="`tctl recordings encryption status` lists them")
    if found.state != "rotated":
        raise ConflictError("recordings are encrypted for this key now", hint="rotate it first")
    return _with(keys, [key for key in keys.spec.keys if key is not found])


def rotating(keys: RecordingKeys) -> bool:
    return any(key.state == "next" for key in keys.spec.keys)


def adopted(wanted: RecordingKeys, before: RecordingKeys) -> RecordingKeys:
    """The pairs of a backup beside our own: they open its recordings, and nothing is written for them. What
    a document leaves out stays; pairs without their private keys open nothing and are passed over."""
    known = {key.public_key for key in before.spec.keys}
    added = []
    for number, key in enumerate(wanted.spec.keys):
        if key.public_key in known or not key.private_key:
            continue
        if AgeKey(key.private_key).public_key != key.public_key:
            # Named by its place: somebody may have put the private key into both fields.
            raise InputError(f"spec.keys[{number}]: public and private key do not belong together")
        known.add(key.public_key)
        added.append(msgspec.structs.replace(key, state="rotated"))
    if len(before.spec.keys) + len(added) > MAX_KEYS:
        raise InputError(f"a cluster keeps at most {MAX_KEYS} key pairs for its recordings", hint=_MAKE_ROOM)
    return _with(wanted, [*before.spec.keys, *added])


def _must_rotate(keys: RecordingKeys) -> None:
    if not rotating(keys):
        raise ConflictError("no rotation is going on", hint="`tctl recordings encryption rotate` begins one")


def _new_key(state: str, now: float) -> RecordingKey:
    private = new_private_key()
    return RecordingKey(
        public_key=AgeKey(private).public_key,
        private_key=private,
        state=state,  # type: ignore[arg-type]
        created=rfc3339(now),
    )


def _keys(keys: list[RecordingKey]) -> RecordingKeys:
    name = SINGLETONS["recording_encryption"]
    return RecordingKeys(metadata=Metadata(name=name), spec=RecordingKeysSpec(keys=keys))


def _with(before: RecordingKeys, keys: list[RecordingKey]) -> RecordingKeys:
    return msgspec.structs.replace(before, spec=RecordingKeysSpec(keys=keys))

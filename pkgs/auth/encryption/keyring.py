"""The private keys that open recordings, loaded once and again when they change. They leave it in no form."""

from __future__ import annotations

import logging

from pkgs.auth.backend.fanout import Change
from pkgs.auth.encryption.rotation import first_keys, with_status
from pkgs.auth.state.store import PREFIX, Store, create_operation, update_operation
from pkgs.common.errors import AccessError, TrustError, UnavailableError
from pkgs.common.recording.encrypted.keys import AgeKey, PrivateKey, WrappedKey
from pkgs.common.resources.kinds import RecordingConfig, RecordingKeys
from pkgs.common.resources.registry import SINGLETONS

_log = logging.getLogger(__name__)


async def ensure_keys(store: Store) -> None:
    """At every start: the cluster has keys for its recordings, and hosts are told the public ones."""
    config = recording_config(store)
    keys = store.get("recording_encryption", SINGLETONS["recording_encryption"])
    if not isinstance(keys, RecordingKeys):
        keys = first_keys(store.backend.clock())
        told = with_status(config, keys)
        await store.backend.commit([create_operation(keys), update_operation(told)])
    elif (told := with_status(config, keys)) != config:
        await store.update(told)


def recording_config(store: Store) -> RecordingConfig:
    config = store.get("session_recording_config", SINGLETONS["session_recording_config"])
    if not isinstance(config, RecordingConfig):
        raise UnavailableError("the cluster has no settings for recordings")
    return config


def recording_keys(store: Store) -> RecordingKeys:
    keys = store.get("recording_encryption", SINGLETONS["recording_encryption"])
    if not isinstance(keys, RecordingKeys):
        raise UnavailableError("the cluster has no keys for recordings", hint="restart the Auth Service")
    return keys


class Keyring:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[str, PrivateKey] = {}
        self._load()
        self._stop = store.backend.subscribe(f"{PREFIX}recording_encryption/", self._changed)

    def unwrap(self, wrapped: WrappedKey) -> bytes:
        """The content of an envelope. Raises TrustError when none of the cluster's keys is for it."""
        found = [self._keys[name] for name in wrapped.recipients if name in self._keys]
        if not found:
            raise TrustError(
                "the recording is encrypted for keys that this cluster does not have",
                detail=", ".join(wrapped.recipients),
                hint="restore `recording_encryption` from a backup",
            )
        for key in found[:-1]:
            try:
                return key.open(wrapped.envelope)
            except TrustError:
                continue
        return found[-1].open(wrapped.envelope)

    def recipients(self) -> tuple[str, ...] | None:
        """The public keys that a recording which begins now is encrypted for; None: it is not."""
        return recording_config(self._store).recipients

    def close(self) -> None:
        self._stop()

    def _load(self) -> None:
        self._keys = {
            key.public_key: AgeKey(key.private_key) for key in recording_keys(self._store).spec.keys
        }

    def _changed(self, _: Change) -> None:
        try:
            self._load()
        except AccessError as error:
            _log.error("the keys of recordings were not reloaded: %s", error)

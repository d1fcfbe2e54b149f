"""The calls about the keys of recordings: who may change the settings of recordings may rotate them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from pkgs.auth.audit.journal import Journal
from pkgs.auth.encryption import rotation
from pkgs.auth.encryption.keyring import recording_config, recording_keys
from pkgs.auth.permissions import Permissions
from pkgs.auth.resources.changes import change_events
from pkgs.auth.state.store import Store, update_operation
from pkgs.common.api.encryption import (
    CompleteRecordingRotation,
    ForgetRecordingKey,
    GetRecordingEncryption,
    RecordingEncryptionState,
    RecordingKeyInfo,
    RollBackRecordingRotation,
    RotateRecordingKeys,
)
from pkgs.common.errors import ConflictError, DeniedError
from pkgs.common.resources.kinds import RecordingKeys
from pkgs.common.rpc.calls import Caller

_KIND = "session_recording_config"
NeededBy = Callable[[str, Collection[str]], Awaitable[int]]
"""How many stored recordings this public key opens and none of the others does."""


class EncryptionHandlers:
    def __init__(self, store: Store, permissions: Permissions, journal: Journal, needed_by: NeededBy) -> None:
        self._store = store
        self._permissions = permissions
        self._journal = journal
        self._needed_by = needed_by

    async def status(self, caller: Caller, _: GetRecordingEncryption) -> RecordingEncryptionState:
        self._permissions.require(caller, _KIND, "read", resource=recording_config(self._store))
        return self._state()

    async def rotate(self, caller: Caller, _: RotateRecordingKeys) -> RecordingEncryptionState:
        return await self._step(caller, lambda keys: rotation.rotate(keys, self._store.backend.clock()))

    async def complete(self, caller: Caller, _: CompleteRecordingRotation) -> RecordingEncryptionState:
        return await self._step(caller, rotation.complete)

    async def roll_back(self, caller: Caller, _: RollBackRecordingRotation) -> RecordingEncryptionState:
        return await self._step(caller, rotation.roll_back)

    async def forget(self, caller: Caller, request: ForgetRecordingKey) -> RecordingEncryptionState:
        """Nothing brings a key back but a backup: for who keeps those."""
        if not caller.admin:
            raise DeniedError("keys of recordings are dropped on the Auth host only", hint="run tctl there")
        left = rotation.forget(recording_keys(self._store), request.public_key)
        needed = await self._needed_by(request.public_key, {key.public_key for key in left.spec.keys})
        if needed:
            raise ConflictError(
                f"{needed:,} stored recordings can be opened with this key alone",
                hint="it can go when they are deleted: `tctl recordings prune`",
            )
        return await self._step(caller, lambda keys: rotation.forget(keys, request.public_key))

    async def _step(
        self, caller: Caller, step: Callable[[RecordingKeys], RecordingKeys]
    ) -> RecordingEncryptionState:
        """The keys, and what hosts are told of them, in one commit."""
        config = recording_config(self._store)
        self._permissions.require(caller, _KIND, "update", resource=config)
        keys = step(recording_keys(self._store))
        told = rotation.with_status(config, keys)
        await self._store.update(keys, update_operation(told))
        await self._journal.write(*change_events(self._journal, self._journal.actor(caller), config, told))
        return self._state()

    def _state(self) -> RecordingEncryptionState:
        keys = recording_keys(self._store)
        return RecordingEncryptionState(
            enabled=recording_config(self._store).recipients is not None,
            rotating=rotation.rotating(keys),
            keys=[
                RecordingKeyInfo(public_key=key.public_key, state=key.state, created=key.created)
                for key in keys.spec.keys
            ],
        )

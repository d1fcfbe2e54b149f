"""The keys that recordings are encrypted for: what there is, and their rotation."""

from __future__ import annotations

import msgspec

from pkgs.common.rpc.calls import Request


class RecordingKeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    public_key: str
    state: str
    """`active`, `next` or `rotated`."""
    created: str


class RecordingEncryptionState(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool
    """Whether new recordings are encrypted."""
    rotating: bool
    keys: list[RecordingKeyInfo]


class GetRecordingEncryption(Request[RecordingEncryptionState], frozen=True, kw_only=True):
    pass


class RotateRecordingKeys(Request[RecordingEncryptionState], frozen=True, kw_only=True):
    """Begin: recordings are encrypted for a new key too."""


class CompleteRecordingRotation(Request[RecordingEncryptionState], frozen=True, kw_only=True):
    """Recordings are encrypted for the new key only; the old one goes on opening older ones."""


class ForgetRecordingKey(Request[RecordingEncryptionState], frozen=True, kw_only=True):
    """On the Auth host: drop a rotated pair that no stored recording needs. What a host has not uploaded yet
    and encrypted for it alone can't be opened any more."""

    public_key: str


class RollBackRecordingRotation(Request[RecordingEncryptionState], frozen=True, kw_only=True):
    """The new key is given up."""

"""Writing a recording so that only the Auth Service can read it, from the first byte."""

from __future__ import annotations

from collections.abc import Sequence

from pkgs.common.recording import frame
from pkgs.common.recording.encrypted import limits
from pkgs.common.recording.encrypted.keys import ContentKey, wrap_new
from pkgs.common.recording.encrypted.records import data_record, key_record
from pkgs.common.recording.writer import Sink


class RecordingCipher:
    """A new key for one recording, nowhere but in memory, and wrapped for those who may read it."""

    def __init__(self, session_id: str, recipients: Sequence[str]) -> None:
        """Raises InputError for public keys that are none."""
        self.key, self.wrapped = wrap_new(session_id, recipients)

    def around(self, sink: Sink) -> Sink:
        """What a writer writes to `sink`, encrypted."""
        return _EncryptingSink(sink, self.key, key_record(self.wrapped))


class _EncryptingSink:
    """Each frame becomes a record of its own, so what a crash leaves is as much as without."""

    def __init__(self, sink: Sink, key: ContentKey, wrapped: bytes) -> None:
        self._sink = sink
        self._key = key
        self._wrapped = wrapped
        self._prefix = frame.header(frame.ENCRYPTED_VERSION) + wrapped
        self._since_key = 0

    def write(self, data: bytes) -> None:
        self._sink.write(self._prefix + data_record(self._key, data))
        self._since_key += len(data)
        self._prefix = b""
        if self._since_key >= limits.KEY_AGAIN_BYTES:
            self._prefix, self._since_key = self._wrapped, 0

    def close(self) -> None:
        self._sink.close()

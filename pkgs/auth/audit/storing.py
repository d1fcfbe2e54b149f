"""The form in which an arriving recording is stored: as it comes, or encrypted here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from pkgs.auth.audit.lockedlines import Lock
from pkgs.common.errors import TrustError
from pkgs.common.recording.encrypted.limits import MAX_DATA
from pkgs.common.recording.encrypted.reading import Decryptor
from pkgs.common.recording.encrypted.writing import RecordingCipher
from pkgs.common.recording.writer import BytesSink


class Storing:
    """A host that has not heard yet that recordings are encrypted sends them in the clear, and so does a
    session that began before: they are in the clear where they come from, but not here."""

    def __init__(self, arriving: Decryptor, session_id: str, recipients: Sequence[str] | None) -> None:
        """`recipients` are those whom a recording is encrypted for; None: it is not."""
        self._arriving = arriving
        self._held = bytearray()
        """What came before it was known whether it is encrypted."""
        self._out = bytearray()
        self._cipher = RecordingCipher(session_id, recipients) if recipients is not None else None
        self._sink = self._cipher.around(BytesSink(self._out.extend)) if self._cipher else None

    def form(self, chunk: bytes) -> bytes:
        """`chunk`, which `arriving` was fed, as it is to be stored; perhaps only with a later one. An empty
        one at the end gives what is left."""
        if self._sink is None:
            return chunk
        self._held += chunk
        if not self._arriving.known:
            return b""
        data = bytes(self._held)
        self._held.clear()
        if self._arriving.encrypted:
            return data
        for start in range(0, len(data), MAX_DATA):
            self._sink.write(data[start : start + MAX_DATA])
        stored = bytes(self._out)
        self._out.clear()
        return stored

    @property
    def lock(self) -> Lock | None:
        """What locks its lines in the index; None: nothing."""
        if self._arriving.encrypted:
            key, wrapped = self._arriving.key, self._arriving.wrapped
            return Lock(key, wrapped) if key is not None and wrapped is not None else None
        return Lock(self._cipher.key, self._cipher.wrapped) if self._cipher is not None else None


def encrypt_file(path: Path, new: Path, arriving: Decryptor, storing: Storing) -> bool:
    """Put an encrypted copy in the place of a recording in the clear; False: it is encrypted. The copy is
    written to `new`, durably, and nothing is left there. Raises OSError."""
    with path.open("rb") as source, open(new, "xb", opener=_private) as copy:
        try:
            while chunk := source.read(MAX_DATA):
                arriving.feed(chunk)
                if arriving.encrypted:
                    return False
                copy.write(storing.form(chunk))
            with contextlib.suppress(TrustError):
                arriving.finish()  # a file too short to be known as one or the other
            copy.write(storing.form(b""))
            copy.flush()
            os.fsync(copy.fileno())
            new.replace(path)
            return True
        finally:
            new.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

"""Bytes of a recording as it is stored in, its bytes in the clear out. No I/O, bounded memory.

    header --version 2--> records
      |  anything else
      +--> clear: passed on as they are

What can't be opened never raises: a gap is put in its place, which the reader of the recording reports as
damage, and opening goes on with the next record that is whole (attack A61). A record that was moved, dropped
or doubled is not noticed here but there: its frames are chained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto

from pkgs.common.errors import TrustError
from pkgs.common.recording import frame
from pkgs.common.recording.encrypted import limits, records
from pkgs.common.recording.encrypted.keys import ContentKey, Unwrap, WrappedKey, decode_wrapped, unwrap
from pkgs.common.recording.encrypted.records import Head, RecordType

GAP = bytes(len(frame.HEADER))
"""What stands for lost records: neither a header nor the beginning of a frame."""


class _State(Enum):
    HEADER = auto()
    CLEAR = auto()
    RECORDS = auto()


class Decryptor:
    """Feed it the stored bytes in order, then call `finish`."""

    def __init__(self, opened_by: Unwrap, session_id: str) -> None:
        self._opened_by = opened_by
        self._session_id = session_id
        self._state = _State.HEADER
        self._buffer = bytearray()
        self._lost = False
        """Looking for the next record's marker."""
        self._gap = False
        """Something was lost since the last byte that came out."""
        self._tries = 0
        self.key: ContentKey | None = None
        """The recording's key, once it was unwrapped, and"""
        self.wrapped: WrappedKey | None = None
        """as it stands in the file."""
        self.problem: TrustError | None = None
        """Why the key was not unwrapped, at the last try."""

    @property
    def known(self) -> bool:
        """Whether there were bytes enough to say if it is encrypted."""
        return self._state is not _State.HEADER

    @property
    def encrypted(self) -> bool:
        """Whether it is, as far as the bytes so far say."""
        return self._state is _State.RECORDS

    def feed(self, data: bytes) -> bytes:
        """What `data` completes, in the clear."""
        self._buffer += data
        out = bytearray()
        if self._state is _State.HEADER and len(self._buffer) >= len(frame.HEADER) + records.HEAD_SIZE:
            self._begin()
        if self._state is _State.CLEAR:
            out += self._buffer
            self._buffer.clear()
        elif self._state is _State.RECORDS:
            while (piece := self._next()) is not None:
                out += piece
        return bytes(out)

    def finish(self) -> bytes:
        """No more bytes. Raises TrustError for an encrypted recording whose key could not be unwrapped."""
        if self._state is _State.HEADER:
            self._begin()
        if self._state is _State.CLEAR:
            return bytes(self._buffer)
        if self.key is None:
            raise self.problem or TrustError("the recording is encrypted and has no key in it")
        return GAP if self._gap else b""

    def _begin(self) -> None:
        version = frame.version_of(self._buffer)
        # With a damaged header the record behind it tells.
        behind = self._buffer[len(frame.HEADER) : len(frame.HEADER) + records.HEAD_SIZE]
        if version == frame.ENCRYPTED_VERSION or (version is None and records.parse_head(behind)):
            self._state = _State.RECORDS
            del self._buffer[: len(frame.HEADER)]
        else:
            self._state = _State.CLEAR

    def _next(self) -> bytes | None:
        """What the next record gives, perhaps nothing; None until there are more bytes."""
        if self._lost and not self._find_marker():
            return None
        if len(self._buffer) < records.HEAD_SIZE:
            return None
        head = records.parse_head(self._buffer)
        if head is None:
            self._lost = self._gap = True
            del self._buffer[:1]
            return b""
        end = records.HEAD_SIZE + head.size
        if len(self._buffer) < end:
            return None
        self._lost = False
        body = bytes(self._buffer[records.HEAD_SIZE : end])
        del self._buffer[:end]
        return self._opened(head, body)

    def _find_marker(self) -> bool:
        at = self._buffer.find(records.MARKER)
        # The marker may have begun in the last bytes.
        del self._buffer[: at if at >= 0 else max(len(self._buffer) - len(records.MARKER) + 1, 0)]
        return at >= 0

    def _opened(self, head: Head, body: bytes) -> bytes:
        if head.type is RecordType.KEY:
            self._take_key(body)
            return b""
        data = self.key.unlock(body, head.raw) if self.key is not None else None
        if data is None:
            self._gap = True
            return b""
        before, self._gap = GAP if self._gap else b"", False
        return before + data

    def _take_key(self, body: bytes) -> None:
        """The first that opens is the recording's; nobody can add one later for what was written before."""
        if self.key is not None or self._tries >= limits.MAX_KEY_TRIES:
            return
        self._tries += 1
        wrapped = decode_wrapped(body)
        if wrapped is None:
            self.problem = TrustError("the recording's key is not readable")
            return
        try:
            self.key = unwrap(wrapped, self._opened_by, self._session_id)
            self.wrapped = wrapped
        except TrustError as problem:
            self.problem = problem


def looks_encrypted(opening: bytes) -> bool:
    """Whether a file that begins so is an encrypted recording with its key and at least one more record, as
    far as this can be told without the key."""
    if frame.version_of(opening) != frame.ENCRYPTED_VERSION:
        return False
    at = len(frame.HEADER)
    first = records.parse_head(opening[at : at + records.HEAD_SIZE])
    if first is None or first.type is not RecordType.KEY:
        return False
    at += records.HEAD_SIZE + first.size
    second = records.parse_head(opening[at : at + records.HEAD_SIZE])
    return second is not None and len(opening) >= at + records.HEAD_SIZE + second.size


def recipients_of(chunks: Iterable[bytes]) -> frozenset[str]:
    """Whom a stored recording is encrypted for, by the first of its wrapped keys that can be read. Nobody: it
    is not encrypted, or nobody could open it."""
    found: set[str] = set()

    def note(wrapped: WrappedKey) -> bytes:
        found.update(wrapped.recipients)
        raise TrustError("only looked at")

    decryptor = Decryptor(note, "")
    for chunk in chunks:
        decryptor.feed(chunk)
        if found or (decryptor.known and not decryptor.encrypted):
            break
    return frozenset(found)


LONGEST_OPENING = len(frame.HEADER) + 2 * records.HEAD_SIZE + limits.MAX_WRAPPED + limits.MAX_DATA + 64
"""As many bytes as `looks_encrypted` may need."""


def decrypted(chunks: Iterable[bytes], opened_by: Unwrap, session_id: str) -> Iterator[bytes]:
    """A whole recording in the clear. Raises TrustError."""
    decryptor = Decryptor(opened_by, session_id)
    for chunk in chunks:
        yield decryptor.feed(chunk)
    yield decryptor.finish()

"""The bytes of utmp(5) and lastlog entries, as glibc has them on x86. No I/O.

Text is cut to its field, and ends at its first NUL. Other machines have other layouts, and get no records.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

USER_PROCESS, DEAD_PROCESS, LOGIN_PROCESS = 7, 8, 6
_UTMP = struct.Struct("<hxxi32s4s32s256shhiii16s20x")
_LASTLOG = struct.Struct("<i32s256s")
SIZE = _UTMP.size
LASTLOG_SIZE = _LASTLOG.size
MACHINES = frozenset({"x86_64", "i386", "i586", "i686"})
_MAX_TIME = 2**31 - 1
"""The field's own end of time, in 2038."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of utmp, wtmp or btmp."""

    kind: int
    line: str
    """`pts/3`."""
    user: str = ""
    host: str = ""
    """Address of the client."""
    pid: int = 0
    at: float = 0.0
    """Unix seconds."""

    @property
    def id(self) -> str:
        """What an entry of a line is found by."""
        return self.line[-4:]

    def pack(self) -> bytes:
        seconds = min(max(self.at, 0.0), _MAX_TIME)
        return _UTMP.pack(
            self.kind,
            self.pid,
            self.line.encode(),
            self.id.encode(),
            self.user.encode(),
            self.host.encode(),
            0,
            0,
            self.pid,
            int(seconds),
            int(seconds % 1 * 1_000_000),
            _address(self.host),
        )


def unpack(raw: bytes) -> Entry:
    """`raw` is SIZE bytes of a file that other programs write too: any bytes are some entry."""
    kind, pid, line, _, user, host, _, _, _, seconds, micros, _ = _UTMP.unpack(raw)
    return Entry(kind, _text(line), _text(user), _text(host), pid, seconds + micros / 1_000_000)


def entries(raw: bytes) -> Iterator[Entry]:
    """All whole entries; what is left over at the end was cut off."""
    for at in range(0, len(raw) - SIZE + 1, SIZE):
        yield unpack(raw[at : at + SIZE])


def slot(raw: bytes, line: str) -> int:
    """Where in utmp the entry of this line belongs: over its last one, or after all."""
    count = 0
    for count, entry in enumerate(entries(raw), 1):
        if entry.kind in (LOGIN_PROCESS, USER_PROCESS, DEAD_PROCESS) and entry.line == line:
            return (count - 1) * SIZE
    return count * SIZE


def lastlog(line: str, host: str, at: float) -> bytes:
    return _LASTLOG.pack(int(min(max(at, 0.0), _MAX_TIME)), line.encode(), host.encode())


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")


def _address(host: str) -> bytes:
    try:
        return ipaddress.ip_address(host).packed
    except ValueError:
        return b""

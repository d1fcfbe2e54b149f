"""The user's terminal: its size, its modes as SSH tells them (RFC 4254 section 8), and raw while it lasts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import tty
from collections.abc import Iterator

from pkgs.common.ssh.requests import TerminalSize
from pkgs.common.ssh.wire import uint32

_IUTF8 = 0o40000
_CHARACTERS = {
    1: termios.VINTR, 2: termios.VQUIT, 3: termios.VERASE, 4: termios.VKILL, 5: termios.VEOF, 6: termios.VEOL,
    7: termios.VEOL2, 8: termios.VSTART, 9: termios.VSTOP, 10: termios.VSUSP, 12: termios.VREPRINT,
    13: termios.VWERASE, 14: termios.VLNEXT, 18: termios.VDISCARD,
}  # fmt: skip
_INPUT = {
    30: termios.IGNPAR, 31: termios.PARMRK, 32: termios.INPCK, 33: termios.ISTRIP, 34: termios.INLCR,
    35: termios.IGNCR, 36: termios.ICRNL, 38: termios.IXON, 39: termios.IXANY, 40: termios.IXOFF,
    41: termios.IMAXBEL, 42: _IUTF8,
}  # fmt: skip
_LOCAL = {
    50: termios.ISIG, 51: termios.ICANON, 53: termios.ECHO, 54: termios.ECHOE, 55: termios.ECHOK,
    56: termios.ECHONL, 57: termios.NOFLSH, 58: termios.TOSTOP, 59: termios.IEXTEN, 60: termios.ECHOCTL,
    61: termios.ECHOKE,
}  # fmt: skip
_OUTPUT = {
    70: termios.OPOST, 72: termios.ONLCR, 73: termios.OCRNL, 74: termios.ONOCR, 75: termios.ONLRET,
}  # fmt: skip
_SPEED = 38_400
_ISPEED, _OSPEED, _END = 128, 129, b"\0"
_UNSET = 255


def size(fd: int) -> TerminalSize:
    """What fits on it; the usual 80 by 24 for what is no terminal."""
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return TerminalSize()
    return TerminalSize(columns or 80, rows or 24, width, height)


def modes(fd: int) -> bytes:
    """How it treats its keys, for the server's to do the same; none for what is no terminal."""
    try:
        iflag, oflag, _, lflag, _, _, characters = termios.tcgetattr(fd)
    except termios.error:
        return _END
    pairs = [(_ISPEED, _SPEED), (_OSPEED, _SPEED)]
    for code, index in _CHARACTERS.items():
        raw = characters[index]
        char = raw[0] if isinstance(raw, bytes) else int(raw)
        pairs.append((code, char or _UNSET))
    for table, flags in ((_INPUT, iflag), (_LOCAL, lflag), (_OUTPUT, oflag)):
        pairs += [(code, int(bool(flags & mask))) for code, mask in table.items()]
    return b"".join(bytes([code]) + uint32(value) for code, value in pairs) + _END


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key goes to the server; the terminal is as before at the end of the block."""
    before = termios.tcgetattr(fd)
    # What was typed already is for the server too.
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        # Not waiting for output: the terminal may be stopped.
        termios.tcsetattr(fd, termios.TCSANOW, before)


def is_terminal(fd: int) -> bool:
    """Whether a person may be there."""
    try:
        return os.isatty(fd)
    except OSError:
        return False

"""Pseudo terminals: opening one, its size, and the modes a client asks for (RFC 4254 section 8)."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from pkgs.common.ssh.requests import TerminalSize

_END = 0
_FIRST_UNKNOWN = 160
_CHARACTERS = {
    1: termios.VINTR,
    2: termios.VQUIT,
    3: termios.VERASE,
    4: termios.VKILL,
    5: termios.VEOF,
    6: termios.VEOL,
    7: termios.VEOL2,
    8: termios.VSTART,
    9: termios.VSTOP,
    10: termios.VSUSP,
    12: termios.VREPRINT,
    13: termios.VWERASE,
    14: termios.VLNEXT,
    18: termios.VDISCARD,
}
_IUTF8 = 0o40000
_INPUT = {
    30: termios.IGNPAR,
    31: termios.PARMRK,
    32: termios.INPCK,
    33: termios.ISTRIP,
    34: termios.INLCR,
    35: termios.IGNCR,
    36: termios.ICRNL,
    38: termios.IXON,
    39: termios.IXANY,
    40: termios.IXOFF,
    41: termios.IMAXBEL,
    42: _IUTF8,
}
_LOCAL = {
    50: termios.ISIG,
    51: termios.ICANON,
    53: termios.ECHO,
    54: termios.ECHOE,
    55: termios.ECHOK,
    56: termios.ECHONL,
    57: termios.NOFLSH,
    58: termios.TOSTOP,
    59: termios.IEXTEN,
    60: termios.ECHOCTL,
    61: termios.ECHOKE,
}
_OUTPUT = {
    70: termios.OPOST,
    72: termios.ONLCR,
    73: termios.OCRNL,
    74: termios.ONOCR,
    75: termios.ONLRET,
}


def open_terminal(size: TerminalSize, modes: bytes) -> tuple[int, int, str]:
    """Master, slave and the slave's path. Both descriptors close on exec; the master does not block."""
    master, slave = os.openpty()
    try:
        set_size(master, size)
        _apply(slave, modes)
        os.set_blocking(master, False)
        return master, slave, os.ttyname(slave)
    except OSError:
        os.close(master)
        os.close(slave)
        raise


def set_size(master: int, size: TerminalSize) -> None:
    fcntl.ioctl(
        master, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, size.width, size.height)
    )


def redraw(master: int) -> None:
    """Have the program in front paint its screen anew: its size changes for a moment."""
    size = fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8))
    rows, columns, width, height = struct.unpack("HHHH", size)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", max(rows - 1, 1), columns, width, height))
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)


def _apply(slave: int, modes: bytes) -> None:
    """Set what the client asked for and is known here; the rest stays as the kernel made it."""
    attributes = termios.tcgetattr(slave)
    position = 0
    while position < len(modes):
        opcode = modes[position]
        if opcode == _END or opcode >= _FIRST_UNKNOWN or position + 5 > len(modes):
            break
        value = int.from_bytes(modes[position + 1 : position + 5], "big")
        position += 5
        if opcode in _CHARACTERS:
            attributes[6][_CHARACTERS[opcode]] = b"\0" if value == 255 else bytes([value & 0xFF])
        for index, table in ((0, _INPUT), (1, _OUTPUT), (3, _LOCAL)):
            if opcode in table:
                flag = table[opcode]
                attributes[index] = attributes[index] | flag if value else attributes[index] & ~flag
    termios.tcsetattr(slave, termios.TCSANOW, attributes)


def read_available(fd: int, most: int) -> bytes:
    """What can be read now, up to `most` bytes; empty at the end. Raises OSError. A terminal hands out four
    kilobytes at a time, and each such piece would be a packet and a message to the recorder of its own."""
    pieces: list[bytes] = []
    left = most
    while left:
        try:
            piece = os.read(fd, left)
        except OSError:
            if not pieces:
                raise
            break  # it says so again
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)

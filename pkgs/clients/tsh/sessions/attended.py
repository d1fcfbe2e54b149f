"""OpenSSH at a terminal, with one-time codes taken out of what is typed: how a moderator shows that they are
there, in the very terminal where they watch.

A moderator's keys mean nothing to the session but Ctrl-C and `t`, so that digits are free to be a code. They
never reach the server. OpenSSH writes to the terminal itself; only its keys come through here.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import suppress

from pkgs.clients.tsh.connections.splice import say

CODE_DIGITS = 6
_ESC, _BEL = 0x1B, 0x07
_CSI, _STRINGS = frozenset(b"["), frozenset(b"]P_^X")
_CSI_8BIT, _STRINGS_8BIT = 0x9B, frozenset((0x90, 0x98, 0x9D, 0x9E, 0x9F))
_READ = 4096


class Digits:
    """Sans-IO: keys in; what goes on to the session, and whole codes, out.

    Digits in escape sequences are none that a person typed: a terminal answers the questions that a program
    asks it, and whoever owns the session must not have it type wrong codes (attack A64).
    """

    def __init__(self) -> None:
        self._code = ""
        self._sequence = ""
        """Kind of the escape sequence that goes on: `escape`, `csi`, `string`, `string escape`; or none."""

    def feed(self, data: bytes) -> tuple[bytes, list[str]]:
        """What to pass on, and the codes that are complete now."""
        rest, codes = bytearray(), []
        for key in data:
            if self._in_sequence(key):
                rest.append(key)
                self._code = ""
            elif 0x30 <= key <= 0x39:
                self._code += chr(key)
                if len(self._code) == CODE_DIGITS:
                    codes.append(self._code)
                    self._code = ""
            elif not (key == 0x20 and self._code):  # apps show a code in two halves
                rest.append(key)
                self._code = ""
        return bytes(rest), codes

    def _in_sequence(self, key: int) -> bool:
        """Whether this key belongs to an escape sequence, which may begin or end with it."""
        before = self._sequence
        if key == _ESC:
            self._sequence = "string escape" if before.startswith("string") else "escape"
        elif before in ("", "escape"):
            self._sequence = self._begun(key, escaped=before == "escape")
        elif before == "csi":
            self._sequence = "" if 0x40 <= key <= 0x7E else "csi"
        elif before == "string escape" or key == _BEL:
            self._sequence = ""
        return bool(before or self._sequence)

    @staticmethod
    def _begun(key: int, *, escaped: bool) -> str:
        if key == _CSI_8BIT or (escaped and key in _CSI):
            return "csi"
        if key in _STRINGS_8BIT or (escaped and key in _STRINGS):
            return "string"
        return ""


def without_codes(prove: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """For our own client, which needs no terminal in between: keys in; out those for the session."""
    digits = Digits()

    def pass_on(keys: bytes) -> bytes:
        rest, codes = digits.feed(keys)
        for code in codes:
            _show(prove(code))
        return rest

    return pass_on


def run(argv: list[str], prove: Callable[[str], str]) -> int:
    """Run until it ends; its status. `prove` is given each code, and says what to show of it. Standard input
    is a terminal."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    keys, theirs = os.openpty()
    _copy_size(terminal, keys)
    try:
        child = subprocess.Popen(argv, stdin=theirs)
    finally:
        os.close(theirs)

    def resized(*_: object) -> None:
        _copy_size(terminal, keys)
        child.send_signal(signal.SIGWINCH)

    signal.signal(signal.SIGWINCH, resized)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # not without what follows
    ended = False
    try:
        tty.setraw(terminal)
        ended = _pump(terminal, keys, prove)
    finally:
        if not ended:
            child.terminate()
        os.close(keys)
        status = child.wait()
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    return status if status >= 0 else 128 - status


def _pump(terminal: int, keys: int, prove: Callable[[str], str]) -> bool:
    """Until OpenSSH has ended; False: the terminal is gone before."""
    digits = Digits()
    while True:
        ready, _, _ = select.select((terminal, keys), (), ())
        # What comes back is the echo before OpenSSH has turned it off; the end of it is OpenSSH's.
        if keys in ready and not _read(keys):
            return True
        if terminal in ready:
            typed = _read(terminal)
            if not typed:
                return False
            rest, codes = digits.feed(typed)
            with suppress(OSError):  # it has ended; the next reading says so
                os.write(keys, rest)
            for code in codes:
                _show(prove(code))


def _read(fd: int) -> bytes:
    """Nothing at the end."""
    try:
        return os.read(fd, _READ)
    except OSError:
        return b""


def _show(text: str) -> None:
    say(f"\r\nTeleport > {text}\r\n")


def _copy_size(source: int, target: int) -> None:
    size = fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8))
    fcntl.ioctl(target, termios.TIOCSWINSZ, size)

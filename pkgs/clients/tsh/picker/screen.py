"""A choice on a real terminal: drawn on standard error below the cursor, no full screen."""

from __future__ import annotations

import os
import signal
import sys
import termios
import tty
from types import FrameType

from pkgs.clients.tsh.picker.choice import Choice

MAX_ROWS = 15
READ_BYTES = 1024
ENDING = (signal.SIGTERM, signal.SIGHUP)


def choose(lines: list[str]) -> int:
    """The index of the line that was taken. KeyboardInterrupt when the person leaves; standard input and
    standard error are terminals."""
    choice = Choice(lines)
    keyboard, screen = sys.stdin.fileno(), sys.stderr.fileno()
    before = termios.tcgetattr(keyboard)
    previous = {number: signal.signal(number, _interrupt) for number in ENDING}
    try:
        tty.setraw(keyboard)
        while choice.taken is None:
            columns, rows = os.get_terminal_size(screen)
            # A serial line has no size: it says 0.
            shown = choice.frame(columns or 80, min(rows or 24, MAX_ROWS))
            back = f"\x1b[{len(shown) - 1}A" if len(shown) > 1 else ""
            _write(screen, "\r\x1b[J" + "\r\n".join(shown) + back + "\r")
            typed = os.read(keyboard, READ_BYTES)
            choice.feed(typed)
            if choice.left or not typed:
                raise KeyboardInterrupt
        return choice.taken
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        _write(screen, "\r\x1b[J")
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _write(descriptor: int, text: str) -> None:
    view = memoryview(text.encode())
    while view:
        view = view[os.write(descriptor, view) :]

"""A replay on a real terminal, with keys."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pkgs.common.output.sanitize import inert
from pkgs.common.recording.model import Item
from pkgs.common.recording.seek import end_ms, items_near
from pkgs.common.recording.showing.player import Clear, Finished, Notice, Player, SetSize, Wait, Write

SEEK_MS = 10_000.0
IDLE_MS = 500
LONGEST_WAIT_S = 3600.0
_KEY = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)
KEY_LEFT, KEY_RIGHT = b"\x1b[D", b"\x1b[C"
KEYS_HOME, KEYS_END = (b"g", b"\x1b[H", b"\x1b[1~"), (b"G", b"\x1b[F", b"\x1b[4~")
BEFORE_END_MS = 2000.0
"""The end itself would end the replay."""
RESET = b"\x1bc"
"""Full reset of the terminal: a seek backwards begins from an empty screen."""
RESTORE = b"\x1b[0m\x1b[?25h\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\r\n"
"""Colours, cursor, alternate screen, mouse and paste modes back to usual, whatever the session left on."""


def play(file: BinaryIO, *, speed: float, skip_idle: bool) -> None:
    """Show a recording until its end or `q`."""

    def source(ms: float) -> Iterator[Item]:
        return items_near(file, ms)

    player = Player(source, speed=speed, skip_idle_ms=IDLE_MS if skip_idle else 0)
    keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
    with _raw(keyboard):
        try:
            _loop(player, keyboard, end_ms(file))
        finally:
            _write(RESTORE)


def _loop(player: Player, keyboard: int | None, end: int) -> None:
    while True:
        action = player.step(time.monotonic())
        if isinstance(action, Write):
            _write(action.data)
        elif isinstance(action, Clear):
            _write(RESET)
        elif isinstance(action, Notice):
            _write(f"\r\n[{inert(action.text)}]\r\n".encode())
        elif isinstance(action, SetSize):
            # Asks the terminal for the recorded size; those that can't ignore it.
            _write(b"\x1b[8;%d;%dt" % (action.rows, action.cols))
        elif isinstance(action, Finished):
            return
        if not _keys(player, keyboard, end, action.seconds if isinstance(action, Wait) else 0.0):
            return


def _keys(player: Player, keyboard: int | None, end: int, seconds: float) -> bool:
    """Wait so long, or until a key; False to end."""
    wait = min(seconds, LONGEST_WAIT_S)
    if keyboard is None:
        time.sleep(wait)
        return True
    if not select.select([keyboard], [], [], wait)[0]:
        return True
    typed = os.read(keyboard, 1024)
    # Several keys may have come together; those after the one that ends it do not count.
    return bool(typed) and all(_key(player, key, end) for key in _KEY.findall(typed))


def _key(player: Player, key: bytes, end: int) -> bool:
    now = time.monotonic()
    if key in (b"q", b"Q", b"\x03", b"\x04"):
        return False
    if key == b" ":
        player.toggle(now)
    elif key == KEY_RIGHT:
        player.skip(SEEK_MS, now)
    elif key == KEY_LEFT:
        player.skip(-SEEK_MS, now)
    elif key in KEYS_HOME:
        player.seek(0.0, now)
    elif key in KEYS_END:
        player.seek(max(end - BEFORE_END_MS, 0.0), now)
    elif key in (b"+", b"="):
        player.set_speed(player.speed * 2, now)
    elif key == b"-":
        player.set_speed(player.speed / 2, now)
    return True


@contextmanager
def _raw(keyboard: int | None) -> Iterator[None]:
    if keyboard is None:
        yield
        return
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]

"""Escape sequences typed at a terminal, sans-IO: `~.` ends the connection, `~?` tells which there are."""

from __future__ import annotations

END, HELP = "end", "help"


class Escapes:
    """Reads along with what is typed. `~` means something at the start of a line only."""

    def __init__(self, char: bytes) -> None:
        self._char = char
        self._at_start = True
        self._held = False

    def feed(self, data: bytes) -> tuple[bytes, list[str]]:
        """What goes to the server, and what was asked of us: END or HELP. Nothing is read behind an END."""
        out = bytearray()
        asked: list[str] = []
        for at in range(len(data)):
            byte = data[at : at + 1]
            if self._held:
                self._held = False
                if byte == b".":
                    return bytes(out), [*asked, END]
                if byte == b"?":
                    asked.append(HELP)
                    self._at_start = True
                    continue
                out += self._char if byte == self._char else self._char + byte
                self._at_start = byte in b"\r\n"
            elif self._at_start and byte == self._char:
                self._held = True
            else:
                out += byte
                self._at_start = byte in b"\r\n"
        return bytes(out), asked

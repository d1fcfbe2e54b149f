"""Labelled lines of one output stream: bytes in, finished text out. No I/O."""

from __future__ import annotations

from pkgs.clients.tsh.many.limits import MAX_LINE_BYTES
from pkgs.common.output.sanitize import inert


class Lines:
    """Cuts one server's stream into lines, each behind the server's label and inert but for tabs: a server
    can neither move the cursor over the lines of another nor begin a line with another's label."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._rest = bytearray()

    def feed(self, data: bytes) -> str:
        """The lines that `data` finishes; what is held back is less than MAX_LINE_BYTES."""
        self._rest += data
        *whole, rest = bytes(self._rest).split(b"\n")
        lines = [piece for line in whole for piece in _pieces(line.removesuffix(b"\r"))]
        *cut, rest = _pieces(rest)
        if len(rest) == MAX_LINE_BYTES:
            cut.append(rest)
            rest = b""
        self._rest = bytearray(rest)
        return "".join(map(self._line, [*lines, *cut]))

    def end(self) -> str:
        """A last line without its newline, if there is one."""
        rest, self._rest = bytes(self._rest), bytearray()
        return self._line(rest) if rest else ""

    def _line(self, raw: bytes) -> str:
        # attack A64
        text = "\t".join(map(inert, raw.decode(errors="backslashreplace").split("\t")))
        return f"{self._label} {text}\n"


def _pieces(line: bytes) -> list[bytes]:
    return [line[at : at + MAX_LINE_BYTES] for at in range(0, len(line), MAX_LINE_BYTES)] or [b""]

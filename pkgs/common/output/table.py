"""Text tables: header, dashed underline per column, columns padded with spaces, no borders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pkgs.common.output.limits import MIN_CELL_WIDTH
from pkgs.common.output.sanitize import inert

CUT_MARK = "..."


def render(headers: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """The table as text, every cell inert, ending in a newline.

    With `width` (a terminal's columns) the widest columns are cut with a mark to fit; without it
    nothing is cut, because the reader is a program."""
    cells = [list(headers), *([inert(cell) for cell in row] for row in rows)]
    widths = [max(map(display_width, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        _shrink(widths, width)
    cells.insert(1, ["-" * w for w in widths])
    lines = []
    for row in cells:
        padded = [_fit(cell, w) for cell, w in zip(row, widths, strict=True)]
        lines.append(" ".join(padded).rstrip())
    return "\n".join(lines) + "\n"


def _shrink(widths: list[int], width: int) -> None:
    """Take from the widest column until all fit, but leave each enough to tell its cells apart."""
    over = sum(widths) + len(widths) - 1 - width
    while over > 0:
        widest = max(range(len(widths)), key=widths.__getitem__)
        others = max((w for i, w in enumerate(widths) if i != widest), default=0)
        least = max(MIN_CELL_WIDTH, min(others, widths[widest] - 1))
        cut = min(over, widths[widest] - least)
        if cut <= 0:
            return
        widths[widest] -= cut
        over -= cut


def display_width(text: str) -> int:
    """Terminal columns a printable text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    total = 0
    for char in text:
        if unicodedata.combining(char):
            continue
        total += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return total


def terminal_width() -> int | None:
    """Columns of the terminal on standard output, or None when that is not a terminal."""
    import os
    import sys

    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def _fit(text: str, width: int) -> str:
    used = display_width(text)
    if used <= width:
        return text + " " * (width - used)
    kept = ""
    for char in text:
        if display_width(kept + char) > width - len(CUT_MARK):
            break
        kept += char
    return kept + CUT_MARK + " " * (width - display_width(kept) - len(CUT_MARK))

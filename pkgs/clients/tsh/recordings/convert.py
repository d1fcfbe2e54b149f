"""A recording in the forms that `play` and `export` write. Each imports what it needs and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from pkgs.common.errors import InputError
from pkgs.common.recording.reader import read_items
from pkgs.common.recording.showing import export

FORMS = ("text", "json", "yaml", "asciicast", "html")


def convert(file: BinaryIO, form: str) -> Iterator[str]:
    """The whole recording, piece by piece; nothing that a terminal would obey is in it."""
    items = read_items(file)
    if form == "text":
        yield from export.to_text(items)
    elif form == "json":
        yield from _lines(export.to_json_lines(items))
    elif form == "asciicast":
        yield from _lines(export.to_asciicast(items))
    elif form == "html":
        from pkgs.common.recording.showing.html import to_html

        yield from to_html(items)
    elif form == "yaml":
        import msgspec

        from pkgs.common.output.yamlout import dumps_all

        yield from dumps_all(msgspec.json.decode(line) for line in export.to_json_lines(items))
    else:
        raise InputError(f"format {form!r} is not known")


def _lines(lines: Iterable[bytes]) -> Iterator[str]:
    from pkgs.common.output.sanitize import inert_json

    for line in lines:
        yield inert_json(line.decode())

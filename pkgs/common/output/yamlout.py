"""YAML as command lines print it: block style, inert on a terminal, fast for ten thousand resources.

Written by hand because the general emitter takes seconds for what `tctl get nodes` prints. It emits a
subset (mappings, sequences, scalars); a string is plain only when no YAML reader could take it for
anything else, and else double-quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*(?: [A-Za-z0-9_./@-]+)*\Z")
_AMBIGUOUS = re.compile(r"(?:y|n|yes|no|on|off|true|false|null|nan|inf)\Z", re.IGNORECASE)
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
STEP = "  "


def dumps(value: Any) -> str:
    """One document of builtins, ending in a newline."""
    if isinstance(value, dict | list) and value:
        return "\n".join(_block(value, "")) + "\n"
    return scalar(value) + "\n"


def dumps_all(values: Iterable[Any]) -> Iterator[str]:
    """Several documents, separated by `---`."""
    for index, value in enumerate(values):
        yield ("---\n" if index else "") + dumps(value)


def scalar(value: Any) -> str:
    """The one-line form of a value that is no filled collection."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        text = repr(value)
        # Without a dot YAML reads 1e-05 as a word.
        return text if "e" not in text or "." in text else text.replace("e", ".0e")
    if isinstance(value, dict) and not value:
        return "{}"
    if isinstance(value, list | tuple) and not value:
        return "[]"
    raise TypeError(f"{type(value).__name__} has no place in YAML output")


def _string(text: str) -> str:
    if _PLAIN.match(text) and not _AMBIGUOUS.match(text):
        return text
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_quoted_char, text)) + '"'


def _quoted_char(char: str) -> str:
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _block(value: Any, pad: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list | tuple) and item:
                yield f"{pad}{scalar(key)}:"
                # A sequence may stand at its key's own indentation.
                yield from _block(item, pad if isinstance(item, list | tuple) else pad + STEP)
            else:
                yield f"{pad}{scalar(key)}: {scalar(item)}"
        return
    for item in value:
        if isinstance(item, dict | list | tuple) and item:
            lines = _block(item, pad + STEP)
            yield f"{pad}- {next(lines)[len(pad) + len(STEP) :]}"
            yield from lines
        else:
            yield f"{pad}- {scalar(item)}"

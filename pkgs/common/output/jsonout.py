"""JSON as command lines print it: indented, inert on a terminal, fast for ten thousand resources."""

from __future__ import annotations

from typing import Any

import msgspec

from pkgs.common.output.sanitize import inert_json

INDENT = 4


def dumps(value: Any) -> str:
    """Any value of builtins or msgspec structs as indented JSON, ending in a newline."""
    return dumps_encoded(msgspec.json.encode(value))


def dumps_encoded(document: bytes) -> str:
    """The same for a document that is encoded already."""
    return inert_json(msgspec.json.format(document, indent=INDENT).decode()) + "\n"


def line(value: Any) -> str:
    """One value on one line, for newline-separated streams."""
    return inert_json(msgspec.json.encode(value).decode()) + "\n"

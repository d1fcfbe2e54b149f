"""Text from outside, made inert: whatever a name holds, a terminal only ever shows it.

A control character (C0, DEL, C1, so every escape sequence), a bidirectional override, a line or
paragraph separator or a lone surrogate is printed as its escape (`\\x1b`, `\\u202e`, `\\n`).
"""

from __future__ import annotations


def inert(text: str) -> str:
    """One line without any character that a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)


def inert_lines(text: str) -> str:
    """The same for a message that may have several lines; the later ones are indented, so that none
    of them can pose as a line of our own."""
    first, *rest = text.split("\n")
    return "\n".join([inert(first), *("  " + inert(line) for line in rest)])


def escape(char: str) -> str:
    """The visible form of one unprintable character, in Python's notation."""
    return ascii(char)[1:-1]


def inert_json(document: str) -> str:
    """JSON text whose strings hold no raw control or bidi characters: same value, safe on a terminal."""
    if document.isascii() and "\x7f" not in document:
        return document
    return "".join(char if char == "\n" or char.isprintable() else _json_escape(char) for char in document)


def _json_escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"

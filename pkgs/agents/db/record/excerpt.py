"""What a person reads of text and bytes that may be long: a beginning, with a mark where it ends."""

from __future__ import annotations

MARK = "… [cut]"


def excerpt(text: str, longest: int) -> str:
    """At most so many characters of it, and the mark when there are more."""
    return text if len(text) <= longest else text[:longest] + MARK


def readable(raw: bytes, longest: int) -> str:
    """Text as it is, anything else in hexadecimal; at most so many characters and the mark."""
    beginning = raw[: longest + 4]
    try:
        text = beginning.decode()
    except UnicodeDecodeError as exc:
        # A character that the cut went through says nothing about the rest.
        if len(raw) == len(beginning) or exc.start < longest:
            return excerpt("0x" + raw[: longest // 2 + 1].hex(), longest)
        text = beginning[: exc.start].decode()
    if "\0" in text:
        return excerpt("0x" + raw[: longest // 2 + 1].hex(), longest)
    return text if len(raw) <= len(beginning) and len(text) <= longest else text[:longest] + MARK

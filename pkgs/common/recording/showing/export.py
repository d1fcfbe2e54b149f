"""A recording in forms that other programs read: asciicast v2, plain text, one JSON object per line."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pkgs.common.events.format import rfc3339
from pkgs.common.recording.model import (
    Damage,
    ExecResult,
    Footer,
    Item,
    Mark,
    Output,
    Resize,
    SessionMeta,
)
from pkgs.common.recording.showing.plain import PlainText, plain_line


def to_asciicast(items: Iterable[Item]) -> Iterator[bytes]:
    """Lines of an asciicast v2 file, as `asciinema play` takes them; what is no UTF-8 becomes U+FFFD."""
    # A character may be cut between two outputs: it appears with the later one.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    begun = False
    ms = 0
    for item in items:
        if isinstance(item, SessionMeta):
            if not begun:
                begun = True
                yield _cast_header(item)
            continue
        if isinstance(item, Damage):
            entry: tuple[str, str] | None = ("m", f"damage: {plain_line(item.problem)}")
        else:
            ms = item.ms
            entry = _cast_entry(item, decoder)
        if entry is None:
            continue
        if not begun:
            begun = True
            yield _cast_header(None)
        yield _line([ms / 1000, *entry])
    if not begun:
        yield _cast_header(None)
    rest = decoder.decode(b"", True)
    if rest:
        yield _line([ms / 1000, "o", rest])


def _cast_header(meta: SessionMeta | None) -> bytes:
    if meta is None:
        return _line({"version": 2, "width": 80, "height": 25, "title": "recording without metadata"})
    header: dict[str, Any] = {
        "version": 2,
        "width": meta.cols,
        "height": meta.rows,
        "timestamp": int(meta.started),
        "title": plain_line(f"{meta.user} as {meta.login} on {meta.hostname}"),
    }
    if meta.command:
        header["command"] = plain_line(meta.command)
    if meta.term:
        header["env"] = {"TERM": plain_line(meta.term)}
    return _line(header)


def _cast_entry(
    item: Output | Resize | Mark | ExecResult | Footer, decoder: codecs.IncrementalDecoder
) -> tuple[str, str] | None:
    if isinstance(item, Output):
        text = decoder.decode(item.data)
        return ("o", text) if text else None
    if isinstance(item, Resize):
        return ("r", f"{item.cols}x{item.rows}")
    if isinstance(item, Mark):
        return ("m", plain_line(f"{item.kind}: {item.text}"))
    return None


def to_text(items: Iterable[Item]) -> Iterator[str]:
    """What was shown, as lines of text in which no escape survives; safe in a pipe, a pager, a log."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    plain = PlainText()
    for item in items:
        if isinstance(item, Output):
            text = plain.feed(decoder.decode(item.data))
        elif isinstance(item, Damage):
            text = plain.finish() + f"[{plain_line(item.problem)}]\n"
        elif isinstance(item, Mark):
            text = plain.finish() + f"[{plain_line(f'{item.kind}: {item.text}')}]\n"
        else:
            continue
        if text:
            yield text
    rest = plain.feed(decoder.decode(b"", True)) + plain.finish()
    if rest:
        yield rest


def to_json_lines(items: Iterable[Item]) -> Iterator[bytes]:
    """One object per line with the event names of the field; the bytes of `print` are in base64, and of a
    database's statements and outcomes also as text."""
    offset = index = 0
    readable = False
    for number, item in enumerate(items):
        if isinstance(item, SessionMeta):
            readable = item.kind == "db"
        if isinstance(item, Output):
            printed = {
                "event": "print",
                "ei": number,
                "ms": item.ms,
                "offset": offset,
                "ci": index,
                "bytes": len(item.data),
                "data": base64.b64encode(item.data).decode(),
            }
            text = {"text": item.data.decode("utf-8", "replace").replace("\r\n", "\n")} if readable else {}
            yield _line(printed | text)
            offset += len(item.data)
            index += 1
        else:
            yield _line({"ei": number, **_described(item)})


def _described(item: SessionMeta | Resize | Mark | ExecResult | Footer | Damage) -> dict[str, Any]:
    if isinstance(item, SessionMeta):
        return {
            "event": "session.start",
            "time": rfc3339(item.started),
            "sid": item.session_id,
            "cluster_name": item.cluster_name,
            "user": item.user,
            "login": item.login,
            "server_id": item.host_id,
            "server_hostname": item.hostname,
            "size": f"{item.cols}:{item.rows}",
            "interactive": item.interactive,
            "initial_command": [item.command] if item.command else [],
            "participants": item.participants,
            "proto": item.kind,
        }
    if isinstance(item, Resize):
        return {"event": "resize", "ms": item.ms, "size": f"{item.cols}:{item.rows}"}
    if isinstance(item, Mark):
        return {"event": f"recording.{item.kind}", "ms": item.ms, "message": item.text}
    if isinstance(item, ExecResult):
        return {"event": "exec", "ms": item.ms, "exitCode": str(item.status), "exitSignal": item.signal}
    if isinstance(item, Footer):
        return {
            "event": "session.end",
            "ms": item.ms,
            "time": rfc3339(item.ended),
            "session_stop": rfc3339(item.ended),
        }
    return {"event": "recording.damage", "offset": item.offset, "message": item.problem, "cut": item.cut}


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"

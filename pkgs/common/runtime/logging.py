"""Log records: one per line, in text or JSON, inert whatever a peer put into a name (attack A63).

The standard library's loggers carry them, so that libraries log through the same handler. Fields go in by
`extra={"user": name}`. Control characters, and everything that could move a terminal's cursor or fake a
second record, are escaped; long values are cut with a mark. Secrets are never passed to a logger.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, Literal

LevelName = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]

TRACE: Final = 5
LEVELS: Final[dict[str, int]] = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
}

MAX_MESSAGE: Final = 4096
MAX_FIELD: Final = 1024
MAX_FIELDS: Final = 32
MAX_TRACEBACK: Final = 16 << 10

ROOT: Final = "teleport"
ALL_FIELDS: Final = ("level", "timestamp", "component", "caller")

_OWN_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_QUIET_LIBRARIES = ("paramiko", "aiohttp", "asyncio")


def component_log(component: str) -> logging.Logger:
    """The logger of one component, such as `auth.login`; shown as `AUTH.LOGIN`."""
    return logging.getLogger(f"{ROOT}.{component}")


def inert(text: str, limit: int) -> str:
    """The text with everything unprintable escaped, cut at `limit` characters with a mark."""
    cut = len(text) - limit
    shown = text[:limit] if cut > 0 else text
    if not shown.isprintable():
        shown = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
        )
    return f"{shown}...[{cut} more]" if cut > 0 else shown


def level_name(level: int) -> str:
    """The highest of our level names that is not above `level`."""
    return next((name for name, value in reversed(LEVELS.items()) if level >= value), "TRACE")


def parse_level(text: str) -> LevelName | None:
    """A level in any case; `WARNING` is understood. None when it is none."""
    name = text.strip().upper()
    name = "WARN" if name == "WARNING" else name
    return name if name in LEVELS else None  # type: ignore[return-value]


def current_level() -> str:
    """The level that is written now."""
    return level_name(logging.getLogger(ROOT).getEffectiveLevel())


def set_level(name: str) -> None:
    """Takes effect with the next record, in every component. ValueError when it is no level."""
    known = parse_level(name)
    if known is None:
        raise ValueError(f"no log level: {name!r}")
    level = LEVELS[known]
    logging.getLogger(ROOT).setLevel(level)
    for library in _QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(max(level, logging.WARNING) if level > TRACE else level)
    logging.getLogger().setLevel(level)


def set_up(
    level: str,
    *,
    output: str = "stderr",
    style: Literal["text", "json"] = "text",
    fields: Collection[str] = ALL_FIELDS,
) -> None:
    """Sends every record of this process to one handler. May be called again; OSError for a bad file."""
    handler = _handler(output)
    handler.setFormatter(JsonFormatter(fields) if style == "json" else TextFormatter(fields))
    logging.addLevelName(TRACE, "TRACE")
    logging.raiseExceptions = False
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    logging.captureWarnings(True)
    set_level(level)


def _handler(output: str) -> logging.Handler:
    if output in ("stderr", "stdout"):
        return logging.StreamHandler(sys.stderr if output == "stderr" else sys.stdout)
    from logging.handlers import WatchedFileHandler

    Path(output).parent.mkdir(parents=True, exist_ok=True)
    return WatchedFileHandler(output, encoding="utf-8")


def _fields_of(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    count = 0
    for key, value in record.__dict__.items():
        if key in _OWN_ATTRIBUTES:
            continue
        count += 1
        if count > MAX_FIELDS:
            yield "fields_left_out", "yes"
            return
        yield inert(str(key), 64), value


def _message_of(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except (TypeError, ValueError):
        text = f"{record.msg} {record.args!r}"
    return inert(text, MAX_MESSAGE)


def _component_of(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{ROOT}.").upper()


def _timestamp_of(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _traceback_of(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return inert("".join(traceback.format_exception(*record.exc_info)), MAX_TRACEBACK)


class TextFormatter(logging.Formatter):
    """`2026-11-22T08:14:33.123Z INFO  [AUTH.LOGIN] user logged in user=alice addr=10.0.0.1:4711`."""

    def __init__(self, fields: Collection[str] = ALL_FIELDS) -> None:
        super().__init__()
        self._fields = frozenset(fields)

    def format(self, record: logging.LogRecord) -> str:
        parts = []
        if "timestamp" in self._fields:
            parts.append(_timestamp_of(record))
        if "level" in self._fields:
            parts.append(f"{level_name(record.levelno):<5}")
        if "component" in self._fields:
            parts.append(f"[{inert(_component_of(record), 64)}]")
        parts.append(_message_of(record))
        parts += [f"{key}={_quoted(value)}" for key, value in _fields_of(record)]
        if failure := _traceback_of(record):
            parts.append(f"traceback={_quoted(failure, MAX_TRACEBACK)}")
        if "caller" in self._fields and record.levelno <= logging.DEBUG:
            parts.append(f"{record.filename}:{record.lineno}")
        return " ".join(parts)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, fields: Collection[str] = ALL_FIELDS) -> None:
        super().__init__()
        self._fields = frozenset(fields)

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {}
        if "timestamp" in self._fields:
            entry["timestamp"] = _timestamp_of(record)
        if "level" in self._fields:
            entry["level"] = level_name(record.levelno).lower()
        if "component" in self._fields:
            entry["component"] = inert(_component_of(record), 64)
        if "caller" in self._fields:
            entry["caller"] = f"{record.filename}:{record.lineno}"
        entry["message"] = _message_of(record)
        for key, value in _fields_of(record):
            plain = isinstance(value, bool | int | float) or value is None
            entry[f"field_{key}" if key in entry else key] = value if plain else inert(str(value), MAX_FIELD)
        if failure := _traceback_of(record):
            entry["traceback"] = failure
        return json.dumps(entry, ensure_ascii=True, separators=(",", ":"))


def _quoted(value: object, limit: int = MAX_FIELD) -> str:
    text = inert(str(value), limit)
    if text and not any(char in ' "=' for char in text):
        return text
    return '"' + text.replace('"', '\\"') + '"'

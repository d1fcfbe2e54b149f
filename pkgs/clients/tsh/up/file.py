"""The file of `tsh up`, read strictly: an error names the file, the line and the path."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pkgs.clients.tsh.up.limits import MAX_DATABASES, MAX_FILE_BYTES
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.resources.strict import line_of, load_yaml_strict

_MAX_PORT = 65535


class DatabaseEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A database that is to be open."""

    db: str
    user: str = ""
    """Database user; empty: that of the certificate before."""
    name: str = ""
    """Database inside the server."""
    roles: list[str] | None = None
    """Database roles, for users that are made on demand."""
    port: int = 0
    """Local port; 0: the one of the last time."""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file."""

    databases: list[DatabaseEntry] = []


def read(path: Path) -> File:
    """Raises NotFoundError, InputError."""
    try:
        with path.open("rb") as source:
            raw = source.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no {path}", hint="write the databases there, or name another file: 'tsh up FILE'"
        ) from None
    except OSError as problem:
        raise InputError(f"{path} cannot be read: {problem.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise InputError(f"{path} has more than {MAX_FILE_BYTES // 1024} KiB")
    try:
        return parse(raw.decode(), str(path))
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None


def parse(text: str, source: str) -> File:
    """Raises InputError."""
    file = load_yaml_strict(text, File, source)

    def refuse(path: str, what: str, hint: str) -> InputError:
        return InputError(f"{source}:{line_of(text, path, source)}: {path}: {what}", hint=hint)

    if not file.databases:
        raise refuse("databases", "no database", "write '- db: NAME' for each that is to be open")
    if len(file.databases) > MAX_DATABASES:
        raise refuse(
            "databases", f"{len(file.databases)} databases", f"at most {MAX_DATABASES} are kept open"
        )
    names: set[str] = set()
    ports: set[int] = set()
    for number, entry in enumerate(file.databases):
        path = f"databases[{number}]"
        if not entry.db:
            raise refuse(f"{path}.db", "it is empty", "name a database of 'tsh db ls'")
        if entry.db in names:
            raise refuse(f"{path}.db", f"{entry.db[:80]!r} is there twice", "a database is open once")
        if not 0 <= entry.port <= _MAX_PORT:
            raise refuse(f"{path}.port", f"found {entry.port}", f"write 1 to {_MAX_PORT}, or leave it out")
        if entry.port and entry.port in ports:
            raise refuse(
                f"{path}.port", f"{entry.port} is there twice", "each database has a port of its own"
            )
        names.add(entry.db)
        ports.add(entry.port)
    return file

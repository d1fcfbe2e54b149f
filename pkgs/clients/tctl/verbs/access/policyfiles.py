"""Files of policy on the disk: tests, and the documents that they name. Within bounds, each read once."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from yaml.nodes import MappingNode, SequenceNode

from pkgs.common.access.policytests.reading import Parsed, Place, Placed, Wanted
from pkgs.common.errors import InputError
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.yamlnodes import compose_documents

ENDINGS = (".yaml", ".yml", ".json")
MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_FILES = 5_000
"""In the folders and patterns of one command."""
_PATTERN = frozenset("*?[")
_KIND = re.compile(r"""^["']?kind["']?\s*:""", re.MULTILINE)


def read_text(path: Path) -> str:
    """A whole file. Raises InputError that names it."""
    try:
        # Nothing that blocks: a pipe in a folder would be waited for without end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{path}: not a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{path}: more than {MAX_FILE_BYTES // 1048576} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None


def is_document(path: Path) -> bool:
    """Whether a file holds resources. Anything else in a folder is taken for tests, so that one with a slip
    in it is refused rather than left out."""
    try:
        text = read_text(path)
        if not text.lstrip().startswith(("{", "[", "-")) and not _KIND.search(text):
            return False
        nodes = compose_documents(text, str(path))
    except InputError:
        return False
    first = nodes[0] if nodes else None
    if isinstance(first, SequenceNode):
        return bool(first.value)
    return isinstance(first, MappingNode) and any(key.value == "kind" for key, _ in first.value)


def files_in(path: Path) -> list[Path]:
    """The file itself, or every YAML and JSON file below a folder, in the order of their names. Hidden ones
    are left out."""
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(folder) / name
            for name in sorted(names)
            if name.endswith(ENDINGS) and not name.startswith(".")
        ]
        if len(found) > MAX_FILES:
            raise InputError(f"{path}: more than {MAX_FILES} files")
    return found


class Documents:
    """Documents by file; a file that many tests name is read once."""

    def __init__(self) -> None:
        self._read: dict[Path, list[Resource]] = {}

    def of(self, path: Path) -> list[Placed]:
        """All documents of a file."""
        found = self._read.get(path)
        if found is None:
            if len(self._read) >= MAX_FILES:
                raise InputError(f"more than {MAX_FILES} files")
            found = self._read[path] = load_documents(read_text(path), str(path))
        return [Placed(resource, Place(str(path))) for resource in found]

    def below(self, path: Path) -> list[Placed]:
        """All documents of a file or folder. Raises InputError when there are none."""
        found = [placed for file in files_in(path) for placed in self.of(file)]
        if not found:
            raise InputError(f"{path}: no documents found")
        return found

    def wanted_by(self, parsed: Parsed) -> Iterator[Placed]:
        """What a file of tests names, each file once."""
        seen: set[Path] = set()
        for wanted in parsed.wanted:
            for path in _paths(wanted):
                if path.resolve() in seen:
                    continue
                seen.add(path.resolve())
                yield from self._checked(wanted, self.of(path))

    def _checked(self, wanted: Wanted, found: Iterable[Placed]) -> Iterator[Placed]:
        for placed in found:
            if wanted.roles_only and placed.resource.kind != "role":
                kind = placed.resource.kind
                raise wanted.place.refuse(
                    f"{placed.place.source} holds a {kind}", "documents of other kinds go into `files`"
                )
            yield placed


def _paths(wanted: Wanted) -> list[Path]:
    """The files that a path, a folder or a pattern stands for, seen from the file that names it."""
    here = Path(wanted.place.source).parent
    path = here / wanted.text
    try:
        if path.exists():
            found = files_in(path)
        elif _PATTERN.isdisjoint(wanted.text):
            raise wanted.place.refuse(f"there is no file or folder {path}")
        else:
            # A pattern from the root is one below the root.
            start = Path("/") if wanted.text.startswith("/") else here
            matching = sorted(start.glob(wanted.text.lstrip("/")))
            found = [file for match in matching for file in files_in(match)]
    except (OSError, ValueError) as error:
        raise wanted.place.refuse(f"{wanted.text[:80]!r} is no path: {error}") from None
    if not found:
        raise wanted.place.refuse(f"{wanted.text[:80]!r} matches no file")
    return found

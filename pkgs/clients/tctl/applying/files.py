"""Reading a folder of documents: `*.yaml`, `*.yml` and `*.json` below it, in the order of their names.

What begins with a dot is left alone. A symbolic link is followed to a file inside the folder only: a folder
may come from elsewhere (a checkout, an archive), and what it points at outside would turn up in errors and
diffs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pkgs.clients.tctl.applying import limits
from pkgs.common.errors import AccessError, InputError, LimitExceededError, NotFoundError
from pkgs.common.resources.documents.owned import located
from pkgs.common.resources.documents.places import Placed, load_placed
from pkgs.common.resources.secrets import shown_name

SUFFIXES = (".yaml", ".yml", ".json")
Open = Callable[[str, str], str]
"""Text and its source to the text itself, unsealed if it was sealed."""
Check = Callable[[Placed], None]


def read(path: str, open_sealed: Open, check: Check) -> list[Placed]:
    """All documents of a file or a folder. Raises one InputError that lists what is wrong, file by file."""
    found: list[Placed] = []
    errors: list[AccessError] = []
    for source, text in _texts(path):
        try:
            documents = load_placed(open_sealed(text, source), source)
        except InputError as error:
            errors.append(error)
            continue
        for document in documents:
            try:
                check(document)
            except InputError as error:
                errors.append(error)
        found += documents
        if len(found) > limits.MAX_RESOURCES:
            raise LimitExceededError(f"{path}: more than {limits.MAX_RESOURCES:,} resources")
    errors += _twice(found)
    refuse(errors)
    if not found:
        names = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise InputError(f"{path}: no resources found", hint=f"a folder is searched for {names}")
    return found


def refuse(errors: list[AccessError]) -> None:
    """Raise them as one, if there are any."""
    if not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    shown = [str(error) for error in errors[: limits.MAX_ERRORS_SHOWN]]
    if len(errors) > len(shown):
        shown.append(f"... and {len(errors) - len(shown)} more")
    raise InputError(f"{len(errors)} errors; nothing was changed\n" + "\n".join(shown))


def _twice(documents: list[Placed]) -> list[AccessError]:
    first: dict[tuple[str, str, str], Placed] = {}
    errors: list[AccessError] = []
    for document in documents:
        resource = located(document.resource)
        key = (resource.kind, resource.sub_kind, resource.name)
        before = first.setdefault(key, document)
        if before is not document:
            errors.append(
                InputError(
                    f"{document.where}: {resource.kind}/{shown_name(resource)} is given twice",
                    hint=f"the other one is at {before.where}",
                )
            )
    return errors


def _texts(path: str) -> Iterator[tuple[str, str]]:
    top = Path(path)
    if not top.exists():
        raise NotFoundError(f"there is no file or folder {path}")
    if not top.is_dir():
        # A link that was named by hand is meant; only those in a folder may come from somebody else.
        yield path, _text(top.resolve(), path, limits.MAX_FILE_BYTES)
        return
    left = limits.MAX_TOTAL_BYTES
    for count, (name, file) in enumerate(_files(top), 1):
        if count > limits.MAX_FILES:
            raise LimitExceededError(f"{path}: more than {limits.MAX_FILES:,} files")
        text = _text(file, name, min(limits.MAX_FILE_BYTES, left))
        left -= len(text.encode())
        yield name, text


def _files(top: Path) -> Iterator[tuple[str, Path]]:
    """Name to show, and where it really is."""
    root = top.resolve()
    seen = 0
    for folder, folders, files in os.walk(top, onerror=_raise):
        here = Path(folder)
        seen += len(folders) + len(files)
        if seen > limits.MAX_ENTRIES:
            raise LimitExceededError(f"{top}: more than {limits.MAX_ENTRIES:,} files and folders")
        if len(here.relative_to(top).parts) > limits.MAX_FOLDER_DEPTH:
            raise LimitExceededError(f"{here}: folders deeper than {limits.MAX_FOLDER_DEPTH}")
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            _inside(here / name, root)
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield str(here / name), _inside(here / name, root)


def _inside(path: Path, root: Path) -> Path:
    """The file itself; refuses a link that leads out of the folder or nowhere."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise InputError(f"{path}: the link leads nowhere") from None
    if not real.is_relative_to(root):
        raise InputError(f"{path}: the link leads out of {root}", hint="put the file itself into the folder")
    return real


def _text(path: Path, name: str, most: int) -> str:
    # Nothing that blocks (a pipe) and no link that was put there after it was looked at.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{name}: not a regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise LimitExceededError(
            f"{name}: larger than {limits.MAX_FILE_BYTES // 1048576} MiB,"
            f" or all files together are larger than {limits.MAX_TOTAL_BYTES // 1048576} MiB"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start}") from None


def _raise(error: OSError) -> None:
    raise error

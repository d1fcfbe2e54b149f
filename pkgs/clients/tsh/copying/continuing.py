"""Going on with copies: which file is which, whether what is there is its beginning, and the rest of it."""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.copying.limits import COMPARE_S, END_S, HASH_CHUNK, PROGRESS_EVERY_S
from pkgs.clients.tsh.copying.sftp import CREATE, FOR_READING, FOR_WRITING, Sftp, Told
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import ConflictError, InputError, NotFoundError, UnavailableError
from pkgs.common.output.progress import Progress
from pkgs.common.output.sanitize import inert

Place = tuple[str, str]
"""`user@host`, empty for this machine, and a path."""


class Continuing:
    """One command's copies, each file on its own."""

    def __init__(self, login: Login, port: str, *, by_openssh: bool, preserve: bool, quiet: bool) -> None:
        self._login = login
        self._port = port
        self._by_openssh = by_openssh
        self._preserve = preserve
        self._quiet = quiet

    def copy(self, sources: list[Place], target: Place) -> None:
        """Raises AccessError at the first file that cannot be gone on with."""
        try:
            self._copy(sources, target)
        except OSError as problem:
            raise UnavailableError(f"cannot go on here: {problem.strerror or problem}") from None

    def _copy(self, sources: list[Place], target: Place) -> None:
        if any(bool(host) == bool(target[0]) for host, _ in sources):
            raise InputError("--continue copies between this machine and servers", hint="leave it out")
        if target[0]:
            with self._connected(target[0]) as sftp:
                for _, path in sources:
                    self._upload(sftp, path, target, many=len(sources) > 1)
            return
        for host in dict.fromkeys(host for host, _ in sources):
            with self._connected(host) as sftp:
                for each, path in sources:
                    if each == host:
                        self._download(sftp, (host, path), target[1], many=len(sources) > 1)

    # One file.

    def _download(self, sftp: Sftp, source: Place, target: str, *, many: bool) -> None:
        path = _remote_path(source[1])
        name = path.rpartition("/")[2]
        if Path(target).is_dir():
            # The name is the one that was typed here; nothing that the server says (attack A56).
            if name in ("", ".", ".."):
                raise InputError(f"{source[1]!r} names no file", hint="--continue copies files, one by one")
            target = f"{target}/{name}"
        elif many:
            raise InputError(f"{target!r} is no folder", hint="several files need a folder to go to")
        found = sftp.find(os.fsencode(path))
        if found is None:
            raise NotFoundError(f"there is no file {path!r} on the server")
        if not found.is_file:
            raise InputError(
                f"{path!r} is not a file", hint="--continue copies files; for a folder use rsync"
            )
        handle = sftp.open(os.fsencode(path), FOR_READING)
        try:
            fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        except OSError as problem:
            raise UnavailableError(f"cannot write {target!r}: {problem.strerror}") from None
        try:
            own = os.fstat(fd)
            if not stat.S_ISREG(own.st_mode):
                raise InputError(f"{target!r} is not a file")
            self._check(source, path, fd, own.st_size, found.size, of=target)
            with self._told(name, found.size) as told:
                sftp.read_into(handle, fd, own.st_size, found.size, told)
            if self._preserve and found.times is not None:
                os.fchmod(fd, found.mode & 0o777)
                os.utime(fd, found.times)
        finally:
            os.close(fd)
        sftp.close(handle)

    def _upload(self, sftp: Sftp, source: str, target: Place, *, many: bool) -> None:
        path = _remote_path(target[1])
        name = source.rpartition("/")[2]
        found = sftp.find(os.fsencode(path))
        if found is not None and found.is_folder:
            path = f"{path}/{name}"
            found = sftp.find(os.fsencode(path))
        elif many:
            raise InputError(f"{target[1]!r} is no folder", hint="several files need a folder to go to")
        try:
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as problem:
            raise NotFoundError(f"cannot read {source!r}: {problem.strerror}") from None
        try:
            own = os.fstat(fd)
            if not stat.S_ISREG(own.st_mode) or (found is not None and not found.is_file):
                raise InputError(
                    f"{source!r} or its target is not a file",
                    hint="--continue copies files; for a folder use rsync",
                )
            there = found.size if found is not None else 0
            self._check(target, path, fd, there, own.st_size, of=path)
            handle = sftp.open(os.fsencode(path), FOR_WRITING | CREATE)
            with self._told(name, own.st_size) as told:
                sftp.write_from(handle, fd, there, own.st_size, told)
            if self._preserve:
                sftp.stamp(handle, own.st_mode & 0o777, (int(own.st_atime), int(own.st_mtime)))
            sftp.close(handle)
        finally:
            os.close(fd)

    def _check(self, remote: Place, path: str, fd: int, there: int, whole: int, *, of: str) -> None:
        """The `there` bytes of the incomplete copy are the first of the other. Raises ConflictError."""
        if there == 0:
            return
        if there <= whole and _local_hash(fd, there) == self._remote_hash(remote[0], path, there):
            return
        raise ConflictError(
            f"{of!r} is not the beginning of what is to be copied",
            hint="remove it, or leave out --continue to replace it",
        )

    # The server.

    def _ssh(self, host: str, *words: str) -> list[str]:
        if not self._by_openssh:
            own = openssh.own_words(self._login, "ssh", "--no-openssh", f"--port={self._port}")
            return [*own, *words[:-1], host, words[-1]]
        options = openssh.locked_options(self._login, port=self._port)
        return [
            openssh.program("ssh"),
            *options,
            *openssh.default_options(agent=False),
            *words[:-1],
            host,
            words[-1],
        ]

    def _remote_hash(self, host: str, path: str, size: int) -> str:
        command = f"head -c {size} < {shlex.quote(path)} | sha256sum"
        try:
            done = subprocess.run(
                self._ssh(host, "-T", command),
                stdin=subprocess.DEVNULL, capture_output=True, timeout=COMPARE_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UnavailableError("the server took too long to compare the files") from None
        answer = done.stdout.decode(errors="replace").partition(" ")[0].strip().removeprefix("\\")
        if done.returncode != 0 or len(answer) != 64:
            why = inert(done.stderr.decode(errors="replace").strip()[-300:])
            raise UnavailableError(
                f"the server cannot tell what it has of the file: {why or 'no answer'}",
                hint="it needs head and sha256sum; without --continue the file is copied whole",
            )
        return answer

    @contextmanager
    def _connected(self, host: str) -> Iterator[Sftp]:
        process = subprocess.Popen(
            self._ssh(host, "-s", "sftp"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            yield Sftp(process.stdout, process.stdin)
        finally:
            _close(process)

    @contextmanager
    def _told(self, name: str, whole: int) -> Iterator[Told]:
        if self._quiet:
            yield lambda done: None
            return
        with Progress(f"Copying {name}:") as progress:
            yield _meter(progress.update, whole)


def _meter(update: Callable[[str], None], whole: int) -> Told:
    last = 0.0

    def told(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY_S:
            last = now
            share = 100 * done // whole if whole else 100
            update(f"{share} %, {done / 1048576:.1f} of {whole / 1048576:.1f} MiB")

    return told


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue  # what was unsent has nobody to go to
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remote_path(text: str) -> str:
    """As scp reads it: relative to the home, which `~` is too."""
    if text == "~" or text.startswith("~/"):
        text = text[2:]
    elif text.startswith("~"):
        raise InputError(f"{text!r} begins with somebody's home", hint="write the whole path")
    return text or "."


def _local_hash(fd: int, size: int) -> str:
    found = hashlib.sha256()
    at = 0
    while at < size:
        data = os.pread(fd, min(HASH_CHUNK, size - at), at)
        if not data:
            break
        found.update(data)
        at += len(data)
    return found.hexdigest()

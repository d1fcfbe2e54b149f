"""What touches the host: the tools of the shadow suite and sudo, homes, and files for sudo.

Programs are run by absolute path, with an environment of their own, and nothing from outside is given to a
shell. Everything blocks; one thread calls it. Nothing here decides anything, but that it follows no links.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pkgs.agents.ssh.hostusers.limits import (
    MAX_TOOL_OUTPUT,
    REMOVE_PAUSE_S,
    REMOVE_TRIES,
    TOOL_TIMEOUT_S,
    UID_MIN,
)
from pkgs.common.errors import UnavailableError
from pkgs.common.output.sanitize import inert
from pkgs.common.runtime.atomicfile import make_private_dir

_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ENV = {"PATH": ":".join(_FOLDERS), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
_SKELETON = "/etc/skel"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """An account as the host has it."""

    login: str
    uid: int
    gid: int
    home: str
    groups: frozenset[str] = frozenset()
    """Supplementary ones."""


class HostTools(Protocol):
    """All methods raise UnavailableError, with what the host said."""

    def account(self, login: str) -> Entry | None: ...

    def uid_taken(self, uid: int) -> bool: ...

    def group_of(self, gid: int) -> str:
        """Its name; empty: there is none."""

    def shell_exists(self, shell: str) -> bool: ...

    def ensure_groups(self, names: Iterable[str]) -> None: ...

    def add_group(self, name: str, gid: int) -> None: ...

    def add_user(
        self, login: str, *, groups: Sequence[str], shell: str, uid: int | None, gid: int | None
    ) -> Entry:
        """The account with a home of its own, or neither."""

    def set_groups(self, login: str, groups: Sequence[str]) -> None: ...

    def remove_user(self, entry: Entry) -> None:
        """Ends all its processes, and removes the account and its home."""

    def write_sudoers(self, name: str, text: str) -> None:
        """Put the file in force if visudo accepts it; what was there before stays if not."""

    def remove_sudoers(self, name: str) -> None: ...

    def note(self, name: str) -> None:
        """Remember, over a restart too, that something is done here that has to be undone."""

    def forget(self, name: str) -> None: ...

    def noted(self) -> list[str]: ...


class SystemTools:
    """The host that this process runs on, as root."""

    def __init__(
        self,
        notes: Path,
        *,
        homes: Path = Path("/home"),
        sudoers: Path = Path("/etc/sudoers.d"),
        skeleton: str = _SKELETON,
    ) -> None:
        self._notes = notes
        self._homes = homes
        self._sudoers = sudoers
        self._skeleton = skeleton

    def account(self, login: str) -> Entry | None:
        try:
            found = pwd.getpwnam(login)
        except KeyError:
            return None
        groups = frozenset(group.gr_name for group in grp.getgrall() if login in group.gr_mem)
        return Entry(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir, groups)

    def uid_taken(self, uid: int) -> bool:
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return False
        return True

    def group_of(self, gid: int) -> str:
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return ""

    def shell_exists(self, shell: str) -> bool:
        path = Path(shell)
        return path.is_absolute() and path.is_file() and os.access(path, os.X_OK)

    def ensure_groups(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                grp.getgrnam(name)
            except KeyError:
                _run("groupadd", "--", name)

    def add_group(self, name: str, gid: int) -> None:
        _run("groupadd", "--gid", str(gid), "--", name)

    def add_user(
        self, login: str, *, groups: Sequence[str], shell: str, uid: int | None, gid: int | None
    ) -> Entry:
        home = self._homes / login
        self._check_free(home)
        args = ["--no-create-home", "--home-dir", str(home), "--groups", ",".join(groups)]
        args += ["--shell", shell] if shell else []
        args += ["--uid", str(uid)] if uid is not None else []
        args += ["--gid", str(gid)] if gid is not None else ["--user-group"]
        _run("useradd", *args, "--", login)
        entry = self.account(login)
        if entry is None:
            raise UnavailableError(f"the account {login} was made, and is not there")
        try:
            self._make_home(entry)
        except BaseException:
            _run("userdel", "--", login)
            raise
        return entry

    def _check_free(self, home: Path) -> None:
        """A home that somebody else put there, a link above all, is not moved into (attack A59)."""
        if os.path.lexists(home):
            raise UnavailableError(
                f"{home} exists already, and is not the home of an account", hint="move it away"
            )

    def _make_home(self, entry: Entry) -> None:
        """Made under a folder that only root may write to, so it is ours until it is theirs."""
        with self._open_homes() as parent:
            name = Path(entry.home).name
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
                fd = os.open(name, _DIRECTORY, dir_fd=parent)
                try:
                    os.fchown(fd, entry.uid, entry.gid)
                    os.fchmod(fd, 0o700)
                finally:
                    os.close(fd)
            except OSError as problem:
                raise UnavailableError(f"{entry.home} cannot be made: {problem.strerror}") from None
        if Path(self._skeleton).is_dir():
            copy = ("--recursive", "--no-target-directory", "--no-dereference")
            try:
                _run("cp", *copy, "--", self._skeleton, entry.home, user=entry)
            except UnavailableError:
                self._remove_home(entry)
                raise

    @contextlib.contextmanager
    def _open_homes(self) -> Iterator[int]:
        try:
            parent = os.open(os.path.realpath(self._homes), _DIRECTORY)
        except OSError as problem:
            raise UnavailableError(f"{self._homes} cannot be opened: {problem.strerror}") from None
        try:
            found = os.fstat(parent)
            if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise UnavailableError(
                    f"others than root may write to {self._homes}", hint="chown root and chmod go-w"
                )
            yield parent
        finally:
            os.close(parent)

    def _remove_home(self, entry: Entry) -> None:
        """Only what lies where homes do and is its own folder; links in it are removed, not followed."""
        home = Path(entry.home)
        if home.parent != self._homes:
            return
        with self._open_homes() as parent:
            try:
                found = os.stat(home.name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode) and found.st_uid == entry.uid:
                    shutil.rmtree(home.name, dir_fd=parent)
            except FileNotFoundError:
                return
            except OSError as problem:
                raise UnavailableError(f"{home} is not removed: {problem.strerror}") from None

    def set_groups(self, login: str, groups: Sequence[str]) -> None:
        _run("usermod", "--groups", ",".join(groups), "--", login)

    def remove_user(self, entry: Entry) -> None:
        assert entry.uid >= UID_MIN
        if sum(found.pw_uid == entry.uid for found in pwd.getpwall()) != 1:
            raise UnavailableError(f"another account of this host has the user id of {entry.login}")
        for last in [False] * REMOVE_TRIES + [True]:
            # By the kernel, for all at once: a process that forks cannot outrun it.
            with contextlib.suppress(UnavailableError):
                _run("sh", "-c", "kill -s KILL -- -1", user=entry)
            try:
                _run("userdel", "--", entry.login)
                break
            except UnavailableError:
                if last:
                    raise
                time.sleep(REMOVE_PAUSE_S)
        self._remove_home(entry)

    def write_sudoers(self, name: str, text: str) -> None:
        target = self._sudoers / name
        with contextlib.suppress(OSError):
            if target.read_text() == text:
                return
        # sudo does not read files with a dot in their name: this one counts when it is renamed.
        draft = self._sudoers / f"{name}.draft"
        try:
            draft.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(draft, flags, 0o440), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _run("visudo", "-c", "-q", "-f", str(draft))
            draft.rename(target)
        except OSError as problem:
            raise UnavailableError(f"{target} cannot be written: {problem.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()

    def remove_sudoers(self, name: str) -> None:
        try:
            (self._sudoers / name).unlink(missing_ok=True)
        except OSError as problem:
            raise UnavailableError(f"{self._sudoers / name} is not removed: {problem.strerror}") from None

    def note(self, name: str) -> None:
        try:
            make_private_dir(self._notes)
            (self._notes / name).touch(mode=0o600)
        except OSError as problem:
            raise UnavailableError(f"{self._notes} cannot be written: {problem.strerror}") from None

    def forget(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._notes / name).unlink()

    def noted(self) -> list[str]:
        try:
            return sorted(path.name for path in self._notes.iterdir())
        except FileNotFoundError:
            return []


def _run(program: str, *args: str, user: Entry | None = None) -> None:
    """As root, or as that user with no group but its own."""
    path = next(
        (f"{folder}/{program}" for folder in _FOLDERS if os.access(f"{folder}/{program}", os.X_OK)), ""
    )
    if not path:
        raise UnavailableError(f"{program} is not installed on this host")
    try:
        done = subprocess.run(
            [path, *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TOOL_TIMEOUT_S,
            env=_ENV,
            cwd="/",
            umask=0o077 if user is not None else 0o022,
            user=user.uid if user is not None else None,
            group=user.gid if user is not None else None,
            extra_groups=[] if user is not None else None,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise UnavailableError(f"{program} cannot be run", detail=str(problem)) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).decode(errors="replace").split())[:MAX_TOOL_OUTPUT]
        raise UnavailableError(f"{program} refused: {inert(said) or f'exit status {done.returncode}'}")

# Clients name files in bytes, which pathlib does not take.
# ruff: noqa: PTH101, PTH104, PTH108, PTH120
"""What SFTP asks of a file system and Linux offers under another shape. Raises OSError."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable
from functools import lru_cache

from pkgs.agents.ssh.session.sftp.limits import COPY_STEP
from pkgs.agents.ssh.session.sftp.wire import Attributes, Refusal, Status

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
"""Why a file system, or a kernel that protects other people's files from it, makes no hard link."""
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
"""Why the kernel does not copy between two files by itself; reading and writing still may."""
_BUFFER = 256 * 1024
_STATUS = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP), Status.NO_SUCH_FILE),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EFAULT), Status.PERMISSION_DENIED),
    **dict.fromkeys((errno.EINVAL, errno.ENAMETOOLONG), Status.BAD_MESSAGE),
    errno.ENOSYS: Status.UNSUPPORTED,
}
"""As OpenSSH's server has it, which clients know."""


def status_of(problem: OSError) -> Status:
    return _STATUS.get(problem.errno or 0, Status.FAILURE)


def rename_without_replacing(old: bytes, new: bytes) -> None:
    """Version 3 must not replace. For a file nothing can come in between: a link fails for a taken name."""
    if not stat.S_ISREG(os.lstat(old).st_mode):
        _move(old, new)
        return
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        _move(old, new)
    else:
        os.unlink(old)


def _move(old: bytes, new: bytes) -> None:
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, "the name is taken")
    os.rename(old, new)


def set_attributes(target: bytes | int, wanted: Attributes) -> None:
    """Of a name, followed, or of an open file. The size first, for it changes the times."""
    if wanted.size is not None:
        os.truncate(target, wanted.size)
    if wanted.times is not None:
        os.utime(target, wanted.times)
    if wanted.mode is not None:
        os.chmod(target, wanted.mode)
    if wanted.owner is not None:
        os.chown(target, *wanted.owner)


def set_link_attributes(path: bytes, wanted: Attributes) -> None:
    """Of a name that is not followed. Raises Refusal for a size, which links have none of."""
    if wanted.size is not None:
        raise Refusal(Status.BAD_MESSAGE)
    if wanted.times is not None:
        os.utime(path, wanted.times, follow_symlinks=False)
    if wanted.mode is not None:
        # What was opened is what is changed: a link put there meanwhile is not followed.
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_ISLNK(os.fstat(fd).st_mode):
                raise OSError(errno.EOPNOTSUPP, "a link has no permissions of its own")
            os.chmod(f"/proc/self/fd/{fd}", wanted.mode)
        finally:
            os.close(fd)
    if wanted.owner is not None:
        os.chown(path, *wanted.owner, follow_symlinks=False)


def real_path(path: bytes) -> bytes:
    """Absolute and without links. The last part need not exist; the folders before it must."""
    os.path.realpath(os.path.dirname(path) or b".", strict=True)
    return os.path.realpath(path)


def expanded(path: bytes) -> bytes:
    """A path that may begin with `~` or `~user`."""
    if path.startswith(b"~"):
        name, slash, rest = path[1:].partition(b"/")
        path = home_of(name) + slash + rest
    return real_path(path)


def home_of(name: bytes) -> bytes:
    """A user's home; without a name the one of the user we are."""
    try:
        entry = pwd.getpwnam(os.fsdecode(name)) if name else pwd.getpwuid(os.geteuid())
    except (KeyError, ValueError):
        raise OSError(errno.ENOENT, "there is no such user") from None
    return os.fsencode(entry.pw_dir)


def copy(source: int, offset: int, length: int, target: int, at: int, is_wanted: Callable[[], bool]) -> int:
    """Copy `length` bytes (0: to the end) between open files; how many. Raises OSError."""
    left = length or os.fstat(source).st_size - offset
    done = 0
    while left > 0:
        if not is_wanted():
            raise OSError(errno.ECANCELED, "nobody waits for it any more")
        step = _copy_step(source, offset + done, min(left, COPY_STEP), target, at + done)
        if step == 0:
            break
        done += step
        left -= step
    return done


def _copy_step(source: int, offset: int, size: int, target: int, at: int) -> int:
    try:
        return os.copy_file_range(source, target, size, offset, at)
    except OSError as problem:
        if problem.errno not in _NO_KERNEL_COPY:
            raise
    data = os.pread(source, min(size, _BUFFER), offset)
    return os.pwrite(target, data, at) if data else 0


def volume(found: os.statvfs_result) -> bytes:
    """The reply of statvfs@openssh.com."""
    fields = (
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid,
        (1 if found.f_flag & os.ST_RDONLY else 0) | (2 if found.f_flag & os.ST_NOSUID else 0),
        found.f_namemax,
    )
    return b"".join((field & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big") for field in fields)


@lru_cache(256)
def user_name(uid: int) -> str:
    """Empty for an id without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@lru_cache(256)
def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""

"""Keys, certificate and authorities of sshd on the disk, and how they take effect: as a whole, or not at all.

    <data dir>/openssh/sshd.conf        included by sshd_config; names the files of one generation
    <data dir>/openssh/<generation>/    host_key, host_key-cert.pub, user_ca.pub

A running sshd reads keys and authorities for each connection, so the files of a generation never change: a
new one is written beside it, judged, and then named.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pkgs.clients.teleport.openssh.sshd import Sshd
from pkgs.clients.teleport.openssh.text import (
    Effective,
    check_path,
    snippet,
    with_include,
    without_include,
)
from pkgs.common.errors import AccessError, InputError, UnavailableError
from pkgs.common.runtime.atomicfile import make_private_dir, write_atomic

_log = logging.getLogger(__name__)
_GENERATION_HEX = 16


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """What sshd is to have."""

    private_pem: bytes
    certificate: str
    user_authorities: tuple[str, ...]

    def __repr__(self) -> str:
        return "Material(...)"

    def files(self) -> dict[str, bytes]:
        return {
            "host_key": self.private_pem,
            "host_key-cert.pub": self.certificate.strip().encode() + b"\n",
            "user_ca.pub": "".join(f"{line}\n" for line in self.user_authorities).encode(),
        }


class Installation:
    """The place on one host. Methods raise AccessError, and leave sshd as it was when they do."""

    def __init__(self, data_dir: Path, config: Path, sshd: Sshd) -> None:
        self._folder = check_path(data_dir, "--data-dir") / "openssh"
        self._include = self._folder / "sshd.conf"
        self._config = config.resolve()
        self._sshd = sshd

    def inspect(self) -> Effective:
        """What sshd does without us. InputError where it does what we would take away."""
        found = self._sshd.effective(self._base(self._read_config()))
        if found.user_authorities:
            raise InputError(
                f"sshd trusts the authorities in {found.user_authorities} for users already, and it reads one"
                " file of them alone",
                hint="join by hand: docs/openssh-servers.md, and add the cluster's authority to that file",
            )
        return found

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other run changes this host meanwhile: each takes away what it does not name. UnavailableError
        when one does."""
        make_private_dir(self._folder.parent)
        make_private_dir(self._folder)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UnavailableError(
                    "another `teleport join openssh` is at work on this host",
                    hint="try again when it has ended",
                ) from None
            yield
        finally:
            os.close(lock)

    def install(self, material: Material) -> bool:
        """Whether anything had to change. sshd has judged all of it before it takes effect."""
        before = self._read_config()
        base = self._base(before)
        host_keys = self.inspect().host_keys
        generation = self._generation(material, host_keys)
        named = snippet(host_keys, generation)
        wanted = with_include(base, self._include)
        old = self._include.read_bytes() if self._include.exists() else None
        if before == wanted and old == named.encode() and self._holds(generation, material):
            return False
        for folder in (self._folder, generation):
            make_private_dir(folder)
        for name, content in material.files().items():
            write_atomic(generation / name, content)
        candidate = generation / "sshd.conf"
        write_atomic(candidate, named.encode())
        try:
            self._sshd.check(with_include(base, candidate))
        except AccessError:
            if not _names(old, generation):  # sshd may be using that one
                shutil.rmtree(generation, ignore_errors=True)
            raise
        self._take_effect(named.encode(), wanted, old, before)
        self._forget_all_but(generation, old)
        return True

    def _take_effect(self, named: bytes, wanted: str, old: bytes | None, before: str) -> None:
        try:
            write_atomic(self._include, named)
            self._write_config(wanted)
            self._sshd.check(wanted)
            self._sshd.restart()
        except BaseException:
            self._write_config(before)
            if old is None:
                self._include.unlink(missing_ok=True)
            else:
                write_atomic(self._include, old)
            _log.warning("sshd's configuration is as it was before")
            with contextlib.suppress(AccessError):
                self._sshd.restart()
            raise

    def _generation(self, material: Material, host_keys: tuple[str, ...]) -> Path:
        digest = hashlib.sha256(msgspec.msgpack.encode([sorted(material.files().items()), host_keys]))
        return self._folder / digest.hexdigest()[:_GENERATION_HEX]

    def _holds(self, generation: Path, material: Material) -> bool:
        try:
            return all((generation / name).read_bytes() == raw for name, raw in material.files().items())
        except OSError:
            return False

    def _forget_all_but(self, generation: Path, old: bytes | None) -> None:
        """The generation before stays: sshd may still use it when nobody has restarted it."""
        for path in self._folder.iterdir():
            if path.is_dir() and path != generation and not _names(old, path):
                shutil.rmtree(path, ignore_errors=True)

    def _base(self, config: str) -> str:
        return without_include(config, self._include)

    def _read_config(self) -> str:
        try:
            return self._config.read_bytes().decode(errors="surrogateescape")
        except OSError as problem:
            raise InputError(
                f"{self._config}: {problem.strerror}", hint="name sshd's configuration with --openssh-config"
            ) from None

    def _write_config(self, text: str) -> None:
        """Its owner and mode stay."""
        if self._read_config() == text:
            return
        found = self._config.stat()
        write_atomic(self._config, text.encode(errors="surrogateescape"), mode=found.st_mode & 0o7777)
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(self._config, found.st_uid, found.st_gid)


def _names(include: bytes | None, generation: Path) -> bool:
    return str(generation).encode() in (include or b"")

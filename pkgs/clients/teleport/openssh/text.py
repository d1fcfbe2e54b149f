"""sshd's configuration as text: what it says now, and the two places that we write. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pkgs.common.errors import InputError

MARK = "# Added by `teleport join openssh`; without the next line sshd is as it was."
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+@:=,-]*", re.ASCII)


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What of `sshd -T` matters here."""

    port: int = 22
    host_keys: tuple[str, ...] = ()
    user_authorities: str = ""
    """File of authorities for users; empty: none."""
    principals_file: str = ""
    public_keys: bool = True
    """Whether users may log in with keys and certificates at all."""


def parse_effective(text: str) -> Effective:
    """The output of `sshd -T`: a keyword and its value in each line."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        found.setdefault(keyword.lower(), []).append(value.strip())

    def only(keyword: str) -> str:
        value = found.get(keyword, ["none"])[0]
        return "" if value == "none" else value

    port = only("port")
    return Effective(
        port=int(port) if re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) else 22,
        host_keys=tuple(found.get("hostkey", ())),
        user_authorities=only("trustedusercakeys"),
        principals_file=only("authorizedprincipalsfile"),
        public_keys=only("pubkeyauthentication") != "no",
    )


def check_path(path: Path, what: str) -> Path:
    """A path that means itself in sshd's configuration; blanks, quotes and globs mean something else."""
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise InputError(
            f"{what}: {str(path)[:200]!r} cannot be written into sshd's configuration",
            hint="an absolute path of letters, digits and ._/+@:=,-",
        )
    return path


def snippet(host_keys: Sequence[str], folder: Path) -> str:
    """The file that sshd_config includes. The keys that sshd has come first: clients that know one of them
    go on to see that one, and naming a key here would otherwise take sshd's default keys away."""
    kept = "".join(f"HostKey {check_path(Path(path), 'HostKey')}\n" for path in host_keys)
    return (
        "# Written by `teleport join openssh`, and again at every renewal.\n"
        f"{kept}"
        f"HostKey {folder}/host_key\n"
        f"HostCertificate {folder}/host_key-cert.pub\n"
        f"TrustedUserCAKeys {folder}/user_ca.pub\n"
    )


def with_include(config: str, include: Path) -> str:
    """The configuration that begins with our include: of most settings sshd takes the first."""
    return f"{MARK}\n{_line(include)}\n{without_include(config, include)}"


def without_include(config: str, include: Path) -> str:
    """The configuration as it was, byte for byte."""
    lines = config.splitlines(keepends=True)
    ours = _line(include)
    kept = [line for line in lines if line.strip() not in (MARK, ours)]
    return "".join(kept)


def _line(include: Path) -> str:
    return f"Include {include}"

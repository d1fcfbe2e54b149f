"""What a join was told, kept for the renewals that follow it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pkgs.common.errors import InputError
from pkgs.common.runtime.atomicfile import make_private_dir, write_atomic

_FILE = "join.json"
_MAX_BYTES = 256 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No secrets: token and pins serve once."""

    proxy_server: str
    address: str = ""
    """`host:port` for proxies to dial; empty: this host's name and the port of sshd."""
    labels: dict[str, str] = {}
    additional_principals: tuple[str, ...] = ()
    openssh_config: str
    check_command: str
    restart: bool = True
    restart_command: str = ""


def store_settings(data_dir: Path, settings: Settings) -> None:
    """For root alone, like everything in the folder."""
    make_private_dir(data_dir)
    make_private_dir(data_dir / "openssh")
    write_atomic(data_dir / "openssh" / _FILE, msgspec.json.encode(settings))


def load_settings(data_dir: Path) -> Settings:
    """Those of the last join. InputError when there is none."""
    path = data_dir / "openssh" / _FILE
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        return msgspec.json.decode(raw, type=Settings)
    except FileNotFoundError:
        raise InputError(
            f"there is no join in {data_dir} to renew", hint="join first, or name its folder with --data-dir"
        ) from None
    except msgspec.DecodeError as problem:
        raise InputError(f"{path}: {problem}", hint="join again without --renew") from None

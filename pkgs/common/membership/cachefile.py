"""The cache's file in the data dir: authorities without keys, roles, locks, settings; 0600 all the same."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path

import msgspec

from pkgs.common.membership.limits import MAX_CACHE_FILE
from pkgs.common.resources.kinds import Resource
from pkgs.common.runtime.atomicfile import make_private_dir, write_atomic

_MAGIC = b"OACACHE1"


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    cluster_name: str
    current_at: float
    """Unix seconds: until then it was certainly current."""
    resources: list[Resource]


def save(path: Path, saved: Saved) -> None:
    """Replace the file."""
    content = msgspec.msgpack.encode(saved)
    make_private_dir(path.parent)
    write_atomic(path, _MAGIC + zlib.crc32(content).to_bytes(4, "big") + content)


def load_saved(path: Path, log: logging.Logger) -> Saved | None:
    """What an earlier run left; None when there is none or it is not whole: then the cluster is asked."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CACHE_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
    head, content = raw[: len(_MAGIC) + 4], raw[len(_MAGIC) + 4 :]
    if head == _MAGIC + zlib.crc32(content).to_bytes(4, "big"):
        try:
            return msgspec.msgpack.decode(content, type=Saved)
        except msgspec.DecodeError as error:
            log.warning("%s is of another version: %s", path, error)
            return None
    log.warning("%s is damaged and not used", path)
    return None

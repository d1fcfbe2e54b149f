"""A recording to read: a local file, or a download kept in a temporary file so that it can be read again."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Parsed
from pkgs.common.rpc.calls import BlockingClient

_UUID = re.compile(r"[0-9a-fA-F-]{36}\Z")

Download = Callable[[BlockingClient, str], Iterator[bytes]]


@contextmanager
def open_recording(args: Parsed, download: Download) -> Iterator[BinaryIO]:
    """The recording that the first word names: a session id, or a path to a file."""
    word = args.words[0]
    path = Path(word)
    if not _UUID.match(word):
        if not path.is_file():
            if "/" in word or path.exists():
                raise NotFoundError(f"there is no recording file {word}")
            raise InputError(
                f"{word[:80]!r} is neither a session id nor a file", hint="see 'tsh recordings ls'"
            )
        with path.open("rb") as local:
            yield local
        return
    from pkgs.clients.tsh.connections.dial import auth_client
    from pkgs.clients.tsh.profile.login import current

    client = auth_client(current(args))
    try:
        with tempfile.TemporaryFile() as file:
            for data in download(client, word.lower()):
                file.write(data)
            file.seek(0)
            yield file
    finally:
        client.close()

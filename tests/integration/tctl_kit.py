"""`tctl` against an Auth Service in this process: the same code as the program, without a process each."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from pkgs.clients.tctl.main import TOOL
from tests.integration.auth_kit import Kit

PASSPHRASE = "a passphrase of the tests"


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    def ok(self) -> Done:
        assert self.status == 0, f"{self.status}: {self.err}\n{self.out}"
        return self


class _Input(io.TextIOWrapper):
    def __init__(self, text: str) -> None:
        super().__init__(io.BytesIO(text.encode()), encoding="utf-8")


async def tctl(kit: Kit, *words: str, stdin: str = "") -> Done:
    """One run as the administrator; one at a time, for it takes over the streams of this process."""
    config = kit.data_dir.parent / f"{kit.data_dir.name}.yaml"
    config.write_text(
        f"version: v3\nteleport: {{data_dir: {kit.data_dir}}}\nauth_service: {{enabled: yes}}\n"
        "proxy_service: {enabled: no}\nssh_service: {enabled: no}\n"
    )

    def run() -> Done:
        out, err = io.StringIO(), io.StringIO()
        before = sys.stdin
        sys.stdin = _Input(stdin)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = TOOL.main(["-c", str(config), *words])
        finally:
            sys.stdin = before
        return Done(status, out.getvalue(), err.getvalue())

    return await asyncio.to_thread(run)


def passphrase_file(folder: Path, text: str = PASSPHRASE) -> str:
    """The flag that names a file with the passphrase."""
    path = folder / "words"
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return f"--passphrase-file={path}"

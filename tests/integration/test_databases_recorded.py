"""Recordings of database sessions that have no room, or no place (F22)."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.db.engine import HEALTH_USER
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import UnavailableError
from pkgs.common.resources.role import RecordSession
from tests.integration.auth_kit import Kit, auth, events, role, run
from tests.integration.databases_kit import DBA, databases, line, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
FLOOD = 40
"""Statements of 6000 letters each, which don't compress: more than there is room for."""


@contextlib.contextmanager
def little_room(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


async def ends(kit: Kit, count: int) -> list[dict[str, object]]:
    async def arrived() -> bool:
        return len(await events(kit, "db.session.end")) >= count

    await until(arrived, f"{count} ends of sessions")
    return await events(kit, "db.session.end")


@pytest.mark.parametrize("mode", ["strict", "best_effort"])
def test_f22_a_full_disk(short_tmp: Path, mode: str) -> None:
    """A strict session ends and says why; another goes on, and the audit log tells what is missing."""

    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            kept = RecordSession(default=mode)  # type: ignore[arg-type]
            await kit.admin.call(PutResource(resource=role("recorded", DBA, record_session=kept)))
            ann = await kit.user("ann", "recorded")
            with little_room(short_tmp / "db" / "data" / "log" / "upload-db"):
                stream = await db.open(ann)
                assert await line(stream) == "ok"
                answers = []
                for _ in range(FLOOD):
                    with contextlib.suppress(UnavailableError):
                        # Ended between two statements, the session still has a last word to read.
                        stream.write(base64.b64encode(os.urandom(4500)) + b"\n")
                    answers.append(await line(stream))
                    if not answers[-1]:
                        break
                if mode == "strict":
                    assert any("must be recorded and cannot be any more" in each for each in answers)
                    assert answers[-1] == ""
                else:
                    stream.write(b"select 1\n")
                    assert await line(stream) == "alice select 1"
                    await stream.close()
                (end,) = await ends(kit, 1)
            assert "No space left" in str(end["error"])
            assert ("must be recorded" in str(end.get("reason"))) == (mode == "strict")

    run(main)


def test_f22_a_strict_session_does_not_begin_where_none_can_be_kept(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            kept = RecordSession(default="strict")
            await kit.admin.call(PutResource(resource=role("recorded", DBA, record_session=kept)))
            ann = await kit.user("ann", "recorded")
            folder = short_tmp / "db" / "data" / "log" / "upload-db"
            folder.rmdir()
            folder.write_text("in the way")
            stream = await db.open(ann)
            assert await line(stream) == "error this session must be recorded and cannot be"
            assert await line(stream) == ""
            assert set(db.server.users) <= {HEALTH_USER}
            folder.unlink()
            stream = await db.open(ann)
            assert await line(stream) == "ok"

    run(main)

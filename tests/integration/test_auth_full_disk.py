"""A full disk under the Auth Service: clear refusals, nothing lost, and it recovers by itself (F03)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.common.api.audit import VerifyAudit
from pkgs.common.api.login import CreateUser
from pkgs.common.api.resources import CreateToken
from pkgs.common.api.system import Ping
from pkgs.common.errors import UnavailableError
from tests.integration.auth_kit import auth, listed, run

SIZE = 12 * 1024 * 1024


@pytest.fixture
def small_disk(short_tmp: Path) -> Iterator[Path]:
    """A file system of a few megabytes; needs to be root and allowed to mount."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(short_tmp)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield short_tmp
    subprocess.run(["umount", "-l", str(short_tmp)], check=True)


def fill(path: Path) -> None:
    """Take every byte that is left."""
    with path.open("wb", buffering=0) as file:
        for block in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"\0" * block):
                    pass
            except OSError:
                continue


@pytest.mark.parametrize("storage", ["sqlite", "tinydb"])
def test_f03_a_full_disk_refuses_and_recovers(small_disk: Path, storage: str) -> None:
    async def main() -> None:
        async with auth(small_disk, teleport=f"storage: {{type: {storage}}}") as kit:
            user = await kit.user("mira", login=False)
            client = kit.nobody()
            filler = small_disk / "filler"
            fill(filler)
            acknowledged: list[str] = []
            refused = 0
            for number in range(400):
                try:
                    name = f"token-{number:04}"
                    await kit.admin.call(CreateToken(roles=["node"], value=name))
                    acknowledged.append(name)
                except UnavailableError as error:
                    assert "disk is full" in error.message or "nothing was stored" in error.message
                    refused += 1
                    if refused > 3:
                        break
            assert refused > 3
            # No certificate leaves without its event, no user is half made, reading still works.
            with pytest.raises(UnavailableError):
                await kit.login(user, client)
            with pytest.raises(UnavailableError):
                await kit.admin.call(CreateUser(name="noor", roles=["access"]))
            await client.call(Ping())
            assert {t.name for t in await listed(kit.admin, "token")} >= set(acknowledged)
            filler.unlink()
            kit.clock.ahead += 60
            await kit.login(user, client)
            await kit.admin.call(CreateUser(name="noor", roles=["access"]))
            assert (await kit.admin.call(VerifyAudit())).ok
        async with auth(small_disk, teleport=f"storage: {{type: {storage}}}") as kit:
            assert {t.name for t in await listed(kit.admin, "token")} >= set(acknowledged)
            assert [u.name for u in await listed(kit.admin, "user")] == ["mira", "noor"]

    run(main)

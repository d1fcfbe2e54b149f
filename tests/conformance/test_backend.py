"""What every backend promises, run on each of them."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pkgs.auth.backend.fanout import Change, Resync
from pkgs.auth.backend.interface import Backend, Create, Delete, Operation, Put, Update
from pkgs.auth.backend.limits import MAX_VALUE_BYTES
from pkgs.auth.backend.sqlite import SqliteBackend
from pkgs.auth.backend.tinydb import TinyDbBackend
from pkgs.common.errors import (
    AlreadyExistsError,
    ConflictError,
    InputError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
)

KINDS: dict[str, Callable[..., Backend]] = {"sqlite": SqliteBackend, "tinydb": TinyDbBackend}
STATE = {"sqlite": "state.sqlite", "tinydb": "state.json"}
CRASH_ROUNDS = {"sqlite": 24, "tinydb": 24}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(main: Callable[[], AsyncIterator[None] | object]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_create_get_put_update_delete(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        backend = KINDS[kind](tmp_path)
        first = await backend.create("a/1", b"one")
        item = await backend.get("a/1")
        assert item is not None
        assert (item.value, item.revision) == (b"one", first)
        with pytest.raises(AlreadyExistsError):
            await backend.create("a/1", b"again")
        second = await backend.update("a/1", b"two", first)
        assert second > first
        with pytest.raises(ConflictError):
            await backend.update("a/1", b"three", first)
        with pytest.raises(NotFoundError):
            await backend.update("a/2", b"x", 1)
        third = await backend.put("a/1", b"\xff\x00binary")
        with pytest.raises(ConflictError):
            await backend.delete("a/1", second)
        await backend.delete("a/1", third)
        with pytest.raises(NotFoundError):
            await backend.delete("a/1")
        assert await backend.get("a/1") is None
        await backend.close()

    run(main)


def test_range_is_ordered_and_paged(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        backend = KINDS[kind](tmp_path)
        names = [f"n/{i:03}" for i in range(40)] + ["n/é", "n/\U0001f600", "o/1", "m/1"]
        random.Random(1).shuffle(names)
        for name in names:
            await backend.put(name, name.encode())
        expected = sorted(n for n in names if n.startswith("n/"))
        assert [i.key for i in await backend.all("n/")] == expected
        seen: list[str] = []
        while page := await backend.range("n/", after=seen[-1] if seen else "", limit=7):
            seen += [item.key for item in page]
        assert seen == expected
        assert [i.key for i in await backend.range("", limit=1)] == ["m/1"]
        await backend.close()

    run(main)


def test_a_commit_is_whole_or_nothing(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        backend = KINDS[kind](tmp_path)
        heard: list[Change] = []
        backend.subscribe("", heard.append)
        revision = await backend.commit([Create("x", b"1"), Put("y", b"2")])
        with pytest.raises(AlreadyExistsError):
            await backend.commit([Put("y", b"3"), Delete("x"), Create("x", b"4"), Create("y", b"no")])
        with pytest.raises(ConflictError):
            await backend.commit([Put("x", b"5"), Update("y", b"6", revision + 1)])
        values = {item.key: item.value for item in await backend.all("")}
        assert values == {"x": b"1", "y": b"2"}
        assert [(c.key, c.revision) for c in heard] == [("x", revision), ("y", revision)]
        await backend.commit([Delete("x"), Create("x", b"new"), Create("z", b"1"), Delete("z")])
        assert {item.key for item in await backend.all("")} == {"x", "y"}
        await backend.close()

    run(main)


def test_expiry_hides_frees_and_is_swept(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        backend = KINDS[kind](tmp_path, clock=clock)
        revision = await backend.create("t/1", b"x", expires=1010.0)
        await backend.create("t/2", b"x", expires=1010.0)
        await backend.create("t/3", b"x")
        clock.now = 1009.9
        assert await backend.sweep() == 0
        clock.now = 1010.0
        assert await backend.get("t/1") is None
        assert [i.key for i in await backend.range("t/")] == ["t/3"]
        with pytest.raises(NotFoundError):
            await backend.update("t/1", b"y", revision)
        with pytest.raises(NotFoundError):
            await backend.delete("t/1")
        await backend.create("t/1", b"again")
        heard: list[Change] = []
        backend.subscribe("t/", heard.append)
        assert await backend.sweep() == 1
        assert [(c.key, c.item) for c in heard] == [("t/2", None)]
        assert [i.key for i in await backend.range("t/")] == ["t/1", "t/3"]
        await backend.close()

    run(main)


def test_watch_is_ordered_before_the_acknowledgement_and_resyncs(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        backend = KINDS[kind](tmp_path)
        watcher = backend.watch("w/", capacity=100)
        slow = backend.watch("w/", capacity=3)
        latest: dict[str, int] = {}
        backend.subscribe("w/", lambda change: latest.__setitem__(change.key, change.revision))

        async def write(i: int) -> None:
            revision = await backend.put(f"w/{i % 5}", str(i).encode())
            assert latest[f"w/{i % 5}"] >= revision

        await asyncio.gather(*(write(i) for i in range(40)), backend.put("other", b""))
        await backend.delete("w/0")
        watcher.close()
        changes = [change async for change in watcher]
        assert len(changes) == 41
        assert [c.revision for c in changes] == sorted(c.revision for c in changes)
        assert changes[-1].item is None
        got = 0
        with pytest.raises(Resync):
            async for _ in slow:
                got += 1
        assert got == 3
        await backend.close()

    run(main)


def test_revisions_never_come_back(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        backend = KINDS[kind](tmp_path)
        await backend.put("a", b"")
        last = await backend.put("b", b"")
        await backend.delete("b")
        await backend.close()
        backend = KINDS[kind](tmp_path)
        assert await backend.put("c", b"") > last
        assert [i.key for i in await backend.all("")] == ["a", "c"]
        await backend.close()

    run(main)


def test_concurrent_conditional_updates_have_one_winner(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        backend = KINDS[kind](tmp_path)
        revision = await backend.create("k", b"0")
        results = await asyncio.gather(
            *(backend.update("k", str(i).encode(), revision) for i in range(20)), return_exceptions=True
        )
        assert sum(isinstance(r, int) for r in results) == 1
        assert sum(isinstance(r, ConflictError) for r in results) == 19
        assert await asyncio.gather(backend.delete("k"), backend.delete("k"), return_exceptions=True)
        await backend.close()

    run(main)


def test_limits_and_bad_keys(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        backend = KINDS[kind](tmp_path)
        with pytest.raises(LimitExceededError, match="1,000,000"):
            await backend.put("k", b"x" * (MAX_VALUE_BYTES + 1))
        for bad in ("", "a\0b", "k" * 3000):
            with pytest.raises(InputError):
                await backend.put(bad, b"")
        with pytest.raises(InputError):
            await backend.commit([])
        await backend.close()

    run(main)


def test_a_second_process_is_refused_and_files_are_private(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        backend = KINDS[kind](tmp_path / "deep" / "backend")
        await backend.put("k", b"v")
        with pytest.raises(UnavailableError, match="in use by another"):
            KINDS[kind](tmp_path / "deep" / "backend")
        await backend.close()
        await KINDS[kind](tmp_path / "deep" / "backend").close()

    run(main)
    directory = tmp_path / "deep" / "backend"
    assert directory.stat().st_mode & 0o777 == 0o700
    for file in directory.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.parametrize("damage", [b"", b"not a state file at all" * 300])
def test_a_damaged_file_is_named(kind: str, tmp_path: Path, damage: bytes) -> None:
    async def fill() -> None:
        backend = KINDS[kind](tmp_path)
        for i in range(50):
            await backend.put(f"k/{i}", b"v" * 500)
        await backend.close()

    run(fill)
    path = tmp_path / STATE[kind]
    if damage:
        path.write_bytes(damage)
    else:
        raw = bytearray(path.read_bytes())
        at = raw.rindex(b"v" * 400) + 100
        raw[at : at + 4] = b"XXXX"
        path.write_bytes(raw)

    async def read() -> None:
        backend = KINDS[kind](tmp_path)
        try:
            await backend.all("")
        finally:
            await backend.close()

    with pytest.raises(UnavailableError) as caught:
        run(read)
    assert STATE[kind] in str(caught.value)
    # Nothing was left behind that keeps a repaired file from being opened.
    with pytest.raises(UnavailableError, match="damaged"):
        run(read)


def test_an_unreadable_file_is_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / STATE[kind]).mkdir()

    async def main() -> None:
        KINDS[kind](tmp_path)

    with pytest.raises(UnavailableError):
        run(main)


def test_tinydb_says_where_the_backup_is(tmp_path: Path) -> None:
    async def main() -> None:
        backend = TinyDbBackend(tmp_path)
        await backend.put("a", b"1")
        await backend.put("b", b"2")
        await backend.close()

    run(main)
    (tmp_path / "state.json").unlink()

    async def again() -> None:
        TinyDbBackend(tmp_path)

    with pytest.raises(UnavailableError, match=r"state\.bak"):
        run(again)


_FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from pkgs.auth.backend.sqlite import SqliteBackend
from pkgs.auth.backend.tinydb import TinyDbBackend
from pkgs.common.errors import UnavailableError

async def main():
    backend = {"sqlite": SqliteBackend, "tinydb": TinyDbBackend}[sys.argv[1]](Path(sys.argv[2]))
    await backend.put("small", b"before")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    stored, refused = [], 0
    for i in range(40):
        try:
            await backend.put(f"big/{i}", b"x" * 40_000)
            stored.append(f"big/{i}")
        except UnavailableError as error:
            assert "nothing was stored" in str(error), error
            refused += 1
    assert refused, "the limit was never reached"
    assert [i.key for i in await backend.all("big/")] == sorted(stored)
    assert (await backend.get("small")).value == b"before"
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await backend.put("after", b"space is back")
    await backend.close()
    backend = {"sqlite": SqliteBackend, "tinydb": TinyDbBackend}[sys.argv[1]](Path(sys.argv[2]))
    assert [i.key for i in await backend.all("")] == sorted([*stored, "small", "after"])
    await backend.close()

asyncio.run(main())
"""


def test_f03_a_full_disk_refuses_and_recovers(kind: str, tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run(
        [sys.executable, "-c", _FULL, kind, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


_WRITER = """
import asyncio, itertools, os, sys
from pathlib import Path
from pkgs.auth.backend.sqlite import SqliteBackend
from pkgs.auth.backend.tinydb import TinyDbBackend

async def main():
    backend = {"sqlite": SqliteBackend, "tinydb": TinyDbBackend}[sys.argv[1]](Path(sys.argv[2]))
    known = {item.key for item in await backend.all("")}
    round_ = sys.argv[3]
    os.write(1, b"started\\n")

    async def one(i):
        # Two keys in one commit: both or none. The acknowledgement is printed after the commit returned.
        from pkgs.auth.backend.interface import Put
        await backend.commit([Put(f"{round_}/{i}/a", b"v" * 200), Put(f"{round_}/{i}/b", b"w" * 200)])
        os.write(1, f"{round_}/{i}\\n".encode())

    for base in itertools.count(0, 4):
        await asyncio.gather(*(one(base + j) for j in range(4)))

asyncio.run(main())
"""


def test_f01_f02_kill_9_loses_no_acknowledged_write(kind: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    acknowledged: set[str] = set()
    for round_ in range(CRASH_ROUNDS[kind]):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, kind, str(tmp_path), str(round_)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        try:
            first = child.stdout.readline()
            assert first == b"started\n"
            # The moment of the kill is what is being varied, so this is no wait for a condition.
            time.sleep(rng.uniform(0.0, 0.06))
        finally:
            os.kill(child.pid, signal.SIGKILL)
        lines = child.stdout.read().decode().split("\n")
        child.stdout.close()
        child.wait()
        acknowledged.update(line for line in lines[:-1] if line)

    async def check() -> set[str]:
        backend = KINDS[kind](tmp_path)
        keys = {item.key for item in await backend.all("")}
        await backend.close()
        return keys

    keys = asyncio.run(check())
    assert len(acknowledged) > CRASH_ROUNDS[kind]
    for name in acknowledged:
        assert f"{name}/a" in keys, name
        assert f"{name}/b" in keys, name
    halves = {key[:-2] for key in keys if key.endswith("/a")} ^ {
        key[:-2] for key in keys if key.endswith("/b")
    }
    assert not halves


def test_random_commits_agree_with_a_model(kind: str, tmp_path: Path) -> None:
    """A few hundred random commits, with reopening in between, against a plain dictionary."""

    async def main() -> None:
        rng = random.Random(20261122)
        backend = KINDS[kind](tmp_path)
        model: dict[str, tuple[bytes, int]] = {}
        mirror: dict[str, bytes] = {}

        def heard(change: Change) -> None:
            if change.item is None:
                mirror.pop(change.key, None)
            else:
                mirror[change.key] = change.item.value

        backend.subscribe("", heard)
        for _ in range(250):
            trial = dict(model)
            operations: list[Operation] = []
            fails = False
            for _ in range(rng.randint(1, 4)):
                key = f"k/{rng.randint(0, 9)}"
                value = rng.randbytes(rng.randint(0, 40))
                current = trial.get(key)
                choice = rng.randint(0, 4)
                if choice == 0:
                    operations.append(Create(key, value))
                    fails |= current is not None
                elif choice == 1:
                    operations.append(Put(key, value))
                elif choice == 2:
                    revision = current[1] if current and rng.random() < 0.8 else 10**9
                    operations.append(Update(key, value, revision))
                    fails |= current is None or current[1] in (-1, 10**9) or current[1] != revision
                elif choice == 3:
                    operations.append(Delete(key))
                    fails |= current is None
                else:
                    operations.append(Delete(key, current[1] if current else 1))
                    fails |= current is None or current[1] == -1
                if isinstance(operations[-1], Delete):
                    trial.pop(key, None)
                else:
                    # Within one commit a key just written is at the commit's own, still unknown revision.
                    trial[key] = (value, -1)
            try:
                revision = await backend.commit(operations)
            except (AlreadyExistsError, NotFoundError, ConflictError):
                assert fails
                continue
            assert not fails
            model = {k: (v, revision if r == -1 else r) for k, (v, r) in trial.items()}
            assert mirror == {k: v for k, (v, _) in model.items()}
            if rng.random() < 0.02:
                await backend.close()
                backend = KINDS[kind](tmp_path)
                backend.subscribe("", heard)
        found = {item.key: (item.value, item.revision) for item in await backend.all("")}
        assert found == model
        await backend.close()

    run(main)


def test_sqlite_without_a_write_ahead_log(tmp_path: Path) -> None:
    """`storage.journal: DELETE`: slower, the same promises; reading and writing at once do not collide."""

    async def main() -> None:
        backend = SqliteBackend(tmp_path, journal="DELETE")
        reads = [backend.range("k/") for _ in range(20)]
        writes = [backend.put(f"k/{n}", b"v" * 100) for n in range(40)]
        await asyncio.gather(*writes, *reads)
        assert len(await backend.all("k/")) == 40
        assert not (tmp_path / "state.sqlite-wal").exists()
        await backend.close()

    run(main)

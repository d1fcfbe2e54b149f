import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.events import codes
from pkgs.common.events.format import encoded, new_event
from pkgs.common.events.spool.emitter import SpoolEmitter
from pkgs.common.events.types import Event


def event(number: int, size: int = 10) -> Event:
    return new_event(codes.EXEC, cluster_name="alpha", now=1e9, number=number, command="x" * min(size, 4000))


class Auth:
    """Takes events, or fails as often as told."""

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.down = False
        self.refuse: set[int] = set()

    async def deliver(self, events: list[Event]) -> None:
        if self.down:
            raise UnavailableError("auth is down")
        if any(e.fields["number"] in self.refuse for e in events):
            raise InputError("bad event")
        self.taken.extend(events)

    @property
    def numbers(self) -> list[int]:
        return [int(e.fields["number"]) for e in self.taken]


def spool(path: Path, auth: Auth, **options) -> SpoolEmitter:
    return SpoolEmitter(path, auth.deliver, retry_first_s=0.01, retry_limit_s=0.02, **options)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_events_arrive_in_order_and_the_spool_empties(tmp_path):
    async def scenario():
        auth = Auth()
        emitter = spool(tmp_path / "s", auth, segment_bytes=2000)
        await emitter.start()
        for number in range(50):
            await emitter.emit(event(number))
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == list(range(50))
        assert len(list((tmp_path / "s").glob("*.seg"))) == 1
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
        assert all(p.stat().st_mode & 0o777 == 0o600 for p in (tmp_path / "s").iterdir())

    run(scenario())


def test_what_was_not_delivered_is_delivered_by_the_next_process_once(tmp_path):
    async def scenario():
        auth = Auth()
        emitter = spool(tmp_path, auth)
        await emitter.start()
        await asyncio.gather(*(emitter.emit(event(number)) for number in range(5)))
        assert await emitter.flush(5)
        auth.down = True
        await asyncio.gather(*(emitter.emit(event(number)) for number in range(5, 250)))
        assert not await emitter.flush(0.05)
        assert emitter.pending == 245
        await emitter.close()

        auth.down = False
        emitter = spool(tmp_path, auth)
        await emitter.start()
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == list(range(250))

    run(scenario())


def test_more_than_memory_holds_waits_on_disk_and_arrives_in_order_once(tmp_path, monkeypatch):
    monkeypatch.setattr("pkgs.common.events.limits.SPOOL_IN_MEMORY", 7)
    monkeypatch.setattr("pkgs.common.events.limits.SPOOL_BATCH", 10)
    monkeypatch.setattr("pkgs.common.events.limits.SPOOL_PACE_S", 0.0)

    async def scenario():
        auth = Auth()
        emitter = spool(tmp_path, auth, segment_bytes=2000)
        await emitter.start()
        for start in range(0, 200, 20):
            auth.down = start % 40 == 20
            await asyncio.gather(*(emitter.emit(event(number)) for number in range(start, start + 20)))
        auth.down = False
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == list(range(200))

    run(scenario())


def test_auth_coming_back_is_noticed(tmp_path):
    async def scenario():
        auth = Auth()
        auth.down = True
        emitter = spool(tmp_path, auth)
        await emitter.start()
        await emitter.emit(event(1))
        assert not await emitter.flush(0.05)
        auth.down = False
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == [1]

    run(scenario())


def test_an_event_refused_for_good_is_set_aside_and_blocks_nobody(tmp_path):
    async def scenario():
        auth = Auth()
        auth.refuse = {3}
        emitter = spool(tmp_path, auth)
        await emitter.start()
        await asyncio.gather(*(emitter.emit(event(number)) for number in range(6)))
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == [0, 1, 2, 4, 5]
        assert (tmp_path / "refused.jsonl").read_text().count('"number":3') == 1

    run(scenario())


def test_f23_a_full_spool_refuses_and_takes_again_when_emptied(tmp_path):
    async def scenario():
        auth = Auth()
        auth.down = True
        emitter = spool(tmp_path, auth, max_bytes=20_000, segment_bytes=4000)
        await emitter.start()
        kept = 0
        with pytest.raises(UnavailableError, match="full"):
            for number in range(100):
                await emitter.emit(event(number, 2000))
                kept += 1
        assert 5 <= kept <= 12
        auth.down = False
        assert await emitter.flush(5)
        await emitter.emit(event(1000))
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == [*range(kept), 1000]

    run(scenario())


def test_a_disk_error_is_told_to_the_caller_and_nothing_half_written_is_delivered(tmp_path, monkeypatch):
    async def scenario():
        auth = Auth()
        emitter = spool(tmp_path, auth)
        await emitter.start()
        await emitter.emit(event(1))
        assert await emitter.flush(5)
        real = os.write

        def full(fd, data):
            real(fd, bytes(data)[:20])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(UnavailableError, match="No space"):
            await emitter.emit(event(2))
        monkeypatch.undo()
        await emitter.emit(event(3))
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == [1, 3]

    run(scenario())


def test_what_was_posted_outlives_the_process_before_it_is_on_disk(tmp_path):
    async def scenario():
        nobody, auth = Auth(), Auth()
        nobody.down = True
        emitter = spool(tmp_path / "s", nobody)
        await emitter.start()
        kept = emitter.post(encoded(event(1)), encoded(event(2)))
        assert not kept.done()
        # What a process that is killed now leaves behind.
        shutil.copytree(tmp_path / "s", tmp_path / "left")
        again = spool(tmp_path / "left", auth)
        await again.start()
        assert await again.flush(5) and auth.numbers == [1, 2]
        await kept
        assert emitter.pending == 2
        await again.close()
        await emitter.close()

    run(scenario())


def test_a_disk_that_fails_later_is_told_to_all_who_wait(tmp_path, monkeypatch):
    async def scenario():
        auth = Auth()
        emitter = spool(tmp_path, auth)
        await emitter.start()
        await emitter.emit(event(1))

        def failing(fd):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", failing)
        posted = emitter.post(encoded(event(2)))
        with pytest.raises(UnavailableError, match="Input/output"):
            await emitter.emit(event(3))
        with pytest.raises(UnavailableError, match="Input/output"):
            await posted
        monkeypatch.undo()

        async def taken(number: int) -> bool:
            try:
                await emitter.emit(event(number))
            except UnavailableError:
                return False
            return True

        number = 4
        while not await taken(number):
            await asyncio.sleep(0.01)
            number += 1
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == [1, number]

    run(scenario())


def test_events_that_come_while_a_segment_is_turned_over_keep_their_order(tmp_path):
    async def scenario():
        auth = Auth()
        emitter = spool(tmp_path, auth, segment_bytes=300)
        await emitter.start()
        for number in range(400):
            emitter.post(encoded(event(number)))
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        await emitter.emit(event(400))
        assert await emitter.flush(10)
        await emitter.close()
        assert auth.numbers == list(range(401))

    run(scenario())


@pytest.mark.parametrize("damage", ["torn", "flipped", "cursor"])
def test_damage_loses_no_whole_event_before_it(tmp_path, damage):
    async def scenario():
        auth = Auth()
        auth.down = True
        emitter = spool(tmp_path, auth)
        await emitter.start()
        for number in range(5):
            await emitter.emit(event(number))
        await emitter.close()
        segment = max(tmp_path.glob("*.seg"))
        raw = bytearray(segment.read_bytes())
        if damage == "torn":
            segment.write_bytes(raw[:-3])
        elif damage == "flipped":
            raw[-3] ^= 0x40
            segment.write_bytes(raw)
        else:
            (tmp_path / "cursor").write_text("{{{")
        auth.down = False
        emitter = spool(tmp_path, auth)
        await emitter.start()
        await emitter.emit(event(99))
        assert await emitter.flush(5)
        await emitter.close()
        assert auth.numbers == ([0, 1, 2, 3, 4, 99] if damage == "cursor" else [0, 1, 2, 3, 99])

    run(scenario())


def test_two_processes_cannot_share_a_spool(tmp_path):
    async def scenario():
        auth = Auth()
        first = spool(tmp_path, auth)
        await first.start()
        with pytest.raises(UnavailableError, match="another process"):
            await spool(tmp_path, auth).start()
        await first.close()
        with pytest.raises(UnavailableError):
            await first.emit(event(1))

    run(scenario())


def test_kill_dash_nine_loses_nothing_that_was_acknowledged(tmp_path):
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from pkgs.common.errors import UnavailableError
        from pkgs.common.events import codes
        from pkgs.common.events.format import encoded, new_event
        from pkgs.common.events.spool.emitter import SpoolEmitter

        async def down(events):
            raise UnavailableError("down")

        async def main():
            emitter = SpoolEmitter(Path(sys.argv[1]), down, segment_bytes=5000)
            await emitter.start()
            for number in range(100000):
                await emitter.emit(new_event(codes.EXEC, cluster_name="a", now=1e9, number=number))
                print(number, flush=True)

        asyncio.run(main())
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout
        acknowledged = -1
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged == 60:
                child.send_signal(signal.SIGKILL)
                break
        for line in child.stdout:
            acknowledged = int(line)

    async def scenario():
        auth = Auth()
        emitter = spool(tmp_path, auth)
        await emitter.start()
        assert await emitter.flush(10)
        await emitter.close()
        assert auth.numbers[: acknowledged + 1] == list(range(acknowledged + 1))
        assert auth.numbers == list(range(len(auth.numbers)))

    run(scenario())

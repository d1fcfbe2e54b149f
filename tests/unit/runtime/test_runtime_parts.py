"""The small parts: atomic files, back-off, metrics, readiness, notifications, profiles, versions."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
import tomllib
from pathlib import Path

import pytest

from pkgs.common.runtime import atomicfile, sdnotify
from pkgs.common.runtime.backoff import Backoff
from pkgs.common.runtime.debug import metrics, profiling, readiness
from pkgs.common.runtime.version import VERSION


def test_write_atomic_is_private_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    atomicfile.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_write_atomic_leaves_the_old_content_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_text("old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        atomicfile.write_atomic(path, b"new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_write_atomic_does_not_follow_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "key").symlink_to(victim)
    atomicfile.write_atomic(tmp_path / "key", b"new")
    assert victim.read_text() == "untouched"


def test_private_dir_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    atomicfile.make_private_dir(folder)
    folder.chmod(0o755)
    atomicfile.make_private_dir(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_backoff_grows_within_its_bounds_and_resets() -> None:
    backoff = Backoff(1, 10, draw=lambda least, most: most)
    assert [backoff.next() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.next() == 1
    real = Backoff(0.5, 4)
    assert all(0.05 <= real.next() <= 4 for _ in range(50))
    with pytest.raises(ValueError, match="back-off"):
        Backoff(0, 1)


def test_metrics_text() -> None:
    registry = metrics.Metrics()
    logins = registry.counter("logins_total", "Logins.", ("result",))
    logins.inc(result="ok")
    logins.inc(2, result='b"a\\d\n')
    registry.gauge("sessions", "Open sessions.").set(2.5)
    took = registry.histogram("took_seconds", "Duration.", buckets=(0.1, 1))
    took.observe(0.1)
    took.observe(5)
    registry.gauge_of("now", "Read when asked.", lambda: 7)
    assert registry.render().splitlines() == [
        "# HELP logins_total Logins.",
        "# TYPE logins_total counter",
        'logins_total{result="b\\"a\\\\d\\n"} 2',
        'logins_total{result="ok"} 1',
        "# HELP now Read when asked.",
        "# TYPE now gauge",
        "now 7",
        "# HELP sessions Open sessions.",
        "# TYPE sessions gauge",
        "sessions 2.5",
        "# HELP took_seconds Duration.",
        "# TYPE took_seconds histogram",
        'took_seconds_bucket{le="0.1"} 1',
        'took_seconds_bucket{le="1"} 1',
        'took_seconds_bucket{le="+Inf"} 2',
        "took_seconds_sum 5.1",
        "took_seconds_count 2",
    ]


def test_metrics_are_bounded_and_strict() -> None:
    registry = metrics.Metrics()
    counter = registry.counter("x_total", "X.", ("who",))
    for number in range(metrics.MAX_SERIES + 50):
        counter.inc(who=str(number))
    assert counter.value(who="other") == 50
    assert registry.counter("x_total", "X.", ("who",)) is counter
    with pytest.raises(ValueError, match="exists already"):
        registry.gauge("x_total", "X.")
    with pytest.raises(ValueError, match="takes the labels"):
        counter.inc(whom="a")
    with pytest.raises(ValueError, match="only goes up"):
        counter.inc(-1, who="a")


def test_process_metrics_can_be_read() -> None:
    registry = metrics.Metrics()
    metrics.add_process_metrics(registry, "auth", 1.0)
    text = registry.render()
    assert re.search(r"^process_resident_memory_bytes [1-9]\d+$", text, re.MULTILINE)
    assert f'teleport_build_info{{version="{VERSION}",service="auth"}} 1' in text


def test_readiness_merges_as_the_field_does() -> None:
    state = readiness.Readiness()
    assert state.state is readiness.State.STARTING
    one, two, three = (state.component(name) for name in ("one", "two", "three"))
    one.ok()
    assert state.state is readiness.State.STARTING
    two.ok()
    three.recovering()
    assert state.state is readiness.State.RECOVERING
    two.degraded("why")
    assert state.state is readiness.State.DEGRADED
    two.ok()
    three.ok()
    assert state.state is readiness.State.OK
    assert state.component("one") is one


def test_sd_notify(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sdnotify.notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(short_tmp / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_tmp / "n"))
        assert sdnotify.notify("READY=1", "STATUS=up")
        assert sock.recv(100) == b"READY=1\nSTATUS=up"
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_tmp / "gone"))
    assert not sdnotify.notify("READY=1")


def test_watchdog_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert sdnotify.watchdog_interval_s() == 30
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert sdnotify.watchdog_interval_s() is None


def test_the_command_line_hides_secrets() -> None:
    shown = profiling.command_line(["teleport-ssh", "--token=abc", "--token", "def", "--labels=a=b"])
    assert shown.split("\0") == ["teleport-ssh", "--token=***", "--token", "***", "--labels=a=b"]


def test_stacks_show_where_a_task_waits() -> None:
    async def inner() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await inner()

    async def main() -> str:
        task = asyncio.create_task(outer(), name="waiting")
        await asyncio.sleep(0)
        text = profiling.stacks(asyncio.get_running_loop())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return text

    text = asyncio.run(main())
    waiting = text[text.index("task waiting") :]
    assert waiting.index("outer") < waiting.index("inner") < waiting.index("Event.wait")
    assert "thread MainThread" in text


def test_heap_lists_objects_by_type() -> None:
    text = asyncio.run(profiling.heap(0))
    assert re.search(r"^ +\d+  builtins\.dict$", text, re.MULTILINE)


def test_a_cpu_profile_is_collapsed_stacks() -> None:
    async def main() -> str:
        return await asyncio.to_thread(profiling.sample_cpu, 0.05)

    lines = asyncio.run(main()).splitlines()
    assert lines
    assert all(re.fullmatch(r"[^;]+(;[^;]+)* [1-9]\d*", line) for line in lines)
    assert any(line.startswith("MainThread;") for line in lines)


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION

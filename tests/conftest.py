"""What every test may use: a guard for missing programs, short folders for sockets, a check for leftovers."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.harness.examples import examples

# A busy machine is no defect: what is slow by itself is measured in tests/bench.
hypothesis.settings.register_profile(
    "ours",
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ours")

FUZZ_S = float(os.environ.get("FUZZ_SECONDS", "0"))
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


def pytest_configure() -> None:
    """A run that is told to end (`timeout`, a cancelled job) ends what it started, as one does at Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that needs a program which is not here is skipped with its reason; in CI it fails instead."""
    for item in items:
        missing = [
            name for mark in item.iter_markers("needs") for name in mark.args if not shutil.which(name)
        ]
        if missing and not IN_CI:
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: the garbage collector need not look at them each time."""
    gc.collect()
    gc.freeze()


def _free_logins() -> None:
    """Where logins run pyenv, a shell that a test killed may leave its lock behind, and every later login
    waits a minute for it. Held by a living shell it is a second old at most."""
    lock = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "shims", ".pyenv-shim")
    with contextlib.suppress(OSError):  # there is none, or another worker was faster
        if time.time() - lock.stat().st_mtime > 5:
            lock.unlink()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """In CI a missing program is a failure: a green run must have run everything."""
    _free_logins()
    if IN_CI:
        missing = [
            name for mark in item.iter_markers("needs") for name in mark.args if not shutil.which(name)
        ]
        assert not missing, f"not installed: {', '.join(missing)}; tests/setup/packages.txt should name it"


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """`make fuzz` goes on drawing examples for every fuzz test until its seconds are over."""
    result = yield
    if FUZZ_S and pyfuncitem.get_closest_marker("fuzz"):
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        end = time.monotonic() + FUZZ_S
        while time.monotonic() < end:
            pyfuncitem.obj(**arguments)
    return result


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A private folder with a short path, because a unix socket's path may have 107 bytes only."""
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_leftover_children() -> Iterator[None]:
    """A test ends the processes it starts."""
    before = _children()
    yield
    left = {pid for pid in _children() - before if "resource_tracker" not in _name(pid)}
    assert not left, f"processes left behind: {', '.join(sorted(_name(pid) for pid in left))}"


def _children() -> set[str]:
    tasks = Path("/proc/self/task")
    found: set[str] = set()
    for task in tasks.iterdir() if tasks.exists() else ():
        try:
            found |= set((task / "children").read_text().split())
        except OSError:
            continue
    return found


def _name(pid: str) -> str:
    try:
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_text().replace(chr(0), ' ').strip()}"
    except OSError:
        return pid

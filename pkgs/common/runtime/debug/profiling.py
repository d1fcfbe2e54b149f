"""What a running Python process can tell of itself: where time goes, what waits where, what fills the heap.

The names are those Go programs use (`profile`, `goroutine`, `heap`, ...), the meaning is Python's: a CPU
profile is made by sampling the stacks of all threads, and is printed as collapsed stacks (one line per stack,
a count at its end) that flame graph tools read; a "goroutine" is a task or a thread.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Final

from pkgs.common.runtime.limits import HEAP_TOP, MAX_STACK, PROFILE_HZ

SECRET_FLAGS: Final = ("--token", "--password", "--otp")


def command_line(argv: Sequence[str]) -> str:
    """The command line, NUL-separated, with the values of secret flags masked."""
    shown: list[str] = []
    mask_next = False
    for word in argv:
        flag, equals, _ = word.partition("=")
        if mask_next:
            shown.append("***")
        elif flag in SECRET_FLAGS and equals:
            shown.append(f"{flag}=***")
        else:
            shown.append(word)
        mask_next = flag in SECRET_FLAGS and not equals
    return "\0".join(shown)


def task_stacks(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[str, str]]:
    """Name of every task of the loop and the chain of calls it waits in. Call it in the loop."""
    for task in asyncio.all_tasks(loop):
        frames = list(_awaiting(task.get_coro())) or task.get_stack(limit=MAX_STACK)
        lines = [f"    {frame.f_code.co_qualname} ({_short(frame)})" for frame in frames]
        yield task.get_name(), "\n".join(lines)


def _awaiting(coroutine: object) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, from the outermost to where it waits."""
    for _ in range(MAX_STACK):
        for prefix, link in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            frame = getattr(coroutine, f"{prefix}_frame", None)
            if isinstance(frame, FrameType):
                yield frame
                coroutine = getattr(coroutine, f"{prefix}_{link}", None)
                break
        else:
            return


def thread_stacks() -> Iterator[tuple[str, str]]:
    """Name and stack of every thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        text = "".join(traceback.format_stack(frame, limit=MAX_STACK))
        yield names.get(ident, f"thread {ident}"), text.rstrip()


def stacks(loop: asyncio.AbstractEventLoop) -> str:
    """Tasks and threads with their stacks, as text."""
    parts = [f"task {name}\n{stack}" for name, stack in task_stacks(loop)]
    parts += [f"thread {name}\n{stack}" for name, stack in thread_stacks()]
    return "\n\n".join(parts) + "\n"


def threads() -> str:
    """The threads that exist."""
    return "".join(
        f"{thread.name} daemon={thread.daemon} alive={thread.is_alive()}\n"
        for thread in threading.enumerate()
    )


def sample_cpu(seconds: float) -> str:
    """Collapsed stacks of all threads but the sampling one. Blocks: run it in a thread of its own."""
    counts: Counter[str] = Counter()
    me = threading.get_ident()
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != me:
                counts[f"{names.get(ident, ident)};{_collapsed(frame)}"] += 1
        time.sleep(min(1 / PROFILE_HZ, max(end - now, 0)))
    return "".join(f"{stack} {count}\n" for stack, count in counts.most_common())


async def heap(seconds: float) -> str:
    """Objects by type now; with `seconds`, also the lines that allocated most in that time and hold it."""
    by_type = Counter(f"{type(item).__module__}.{type(item).__qualname__}" for item in gc.get_objects())
    lines = [f"tracked objects: {sum(by_type.values())}", f"garbage: {len(gc.garbage)}", ""]
    lines += [f"{count:>10}  {name}" for name, count in by_type.most_common(HEAP_TOP)]
    if seconds > 0:
        lines += ["", *await _allocations(seconds)]
    return "\n".join(lines) + "\n"


async def _allocations(seconds: float) -> list[str]:
    if tracemalloc.is_tracing():
        return ["allocations: another heap profile is running"]
    tracemalloc.start()
    try:
        await asyncio.sleep(seconds)
        snapshot = await asyncio.to_thread(tracemalloc.take_snapshot)
    finally:
        tracemalloc.stop()
    statistics = await asyncio.to_thread(snapshot.statistics, "lineno")
    return [
        f"allocations of {seconds:g} s still held:",
        *(
            f"{stat.size:>12} B {stat.count:>8}  {stat.traceback[0].filename}:{stat.traceback[0].lineno}"
            for stat in statistics[:HEAP_TOP]
        ),
    ]


def _short(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    return f"{'/'.join(path.rsplit('/', 3)[-3:])}:{frame.f_lineno}"


def _collapsed(frame: FrameType | None) -> str:
    names: list[str] = []
    while frame is not None and len(names) < MAX_STACK:
        names.append(f"{frame.f_code.co_qualname} ({_short(frame)})")
        frame = frame.f_back
    return ";".join(reversed(names)).replace("\n", " ")

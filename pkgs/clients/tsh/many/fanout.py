"""Running the children: some at a time, their output as it comes, all of them ended when we end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from types import FrameType

from pkgs.clients.tsh.many import logs
from pkgs.clients.tsh.many.limits import GRACE_S, MAX_DRAIN_BYTES, MAX_NAMED, READ_BYTES, TICK_S
from pkgs.clients.tsh.many.lines import Lines
from pkgs.common.output.progress import Progress
from pkgs.common.output.sanitize import inert

COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)
"""Of labels on a terminal; red is kept for what failed."""


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Job:
    """One server: its plain name, before its lines and of its files, and what to run."""

    __slots__ = ("argv", "name")

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self.argv = argv


class _Stream:
    """One pipe of a child, on its way to one of our own streams and perhaps a file."""

    __slots__ = ("child", "lines", "log", "name", "pipe")

    def __init__(self, child: _Child, name: str, pipe: int, log: int | None) -> None:
        self.child = child
        self.name = name
        self.pipe = pipe
        self.log = log
        self.lines = Lines(_label(child.index, child.job, name))


class _Child:
    __slots__ = ("index", "job", "process", "streams")

    def __init__(self, index: int, job: Job, process: subprocess.Popen[bytes]) -> None:
        self.index = index
        self.job = job
        self.process = process
        self.streams: list[_Stream] = []


def run_jobs(jobs: list[Job], *, parallel: int, log_dir: str) -> int:
    """Run all; the answer is the status of the first server in the list that failed, or 0."""
    return first_failure(run_each(jobs, parallel=parallel, log_dir=log_dir))


def first_failure(statuses: list[int]) -> int:
    """The first status that is not 0, or 0."""
    return next((status for status in statuses if status), 0)


def run_each(jobs: list[Job], *, parallel: int, log_dir: str, what: str = "servers") -> list[int]:
    """Run all; their statuses, in their order. Whatever ends this (an interrupt, SIGTERM, SIGHUP, a full
    disk) ends every child before it goes on its way. `what` they run on, for people."""
    if log_dir:
        logs.make_folder(log_dir)
    fanout = _Fanout(jobs, parallel, log_dir, what)
    # What whoever started us ignores (nohup) stays ignored.
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, fanout.interrupt) for number in heard}
    try:
        statuses = fanout.run()
    finally:
        fanout.end_all()
        for number, handler in previous.items():
            signal.signal(number, handler)
    _summarise(jobs, statuses, what)
    return statuses


class _Fanout:
    def __init__(self, jobs: list[Job], parallel: int, log_dir: str, what: str) -> None:
        self._jobs = jobs
        self._parallel = parallel
        self._log_dir = log_dir
        self._what = what
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []
        self._statuses = [0] * len(jobs)
        self._held = False
        self._interrupted = False

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The handler of what ends us. Raised from wherever we are (also from a write that blocks), but not
        where a child is started and not yet known, nor where the children are being ended."""
        self._interrupted = True
        if not self._held:
            raise KeyboardInterrupt

    def run(self) -> list[int]:
        """The statuses, in the order of the jobs."""
        waiting = list(enumerate(self._jobs))[::-1]
        with Progress("Running") as progress:
            while waiting or self._children:
                while waiting and len(self._children) < self._parallel:
                    self._held = True
                    self._start(*waiting.pop())
                    self._held = False
                    if self._interrupted:
                        raise KeyboardInterrupt
                for key, _ in self._selector.select(TICK_S):
                    self._read(key.data)
                for child in [c for c in self._children if c.process.poll() is not None]:
                    self._finish(child)
                done = len(self._jobs) - len(waiting) - len(self._children)
                progress.update(f"{done} of {len(self._jobs)} {self._what} done")
        return self._statuses

    def end_all(self) -> None:
        """Ask what still runs to end, then kill it; idle when all has ended."""
        self._held = True
        for child in self._children:
            _signal_group(child.process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for child in self._children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(child.process, signal.SIGKILL)
                child.process.wait()
            for stream in list(child.streams):
                self._close(stream)
        self._children.clear()
        self._selector.close()

    def _start(self, index: int, job: Job) -> None:
        opened: list[int] = []
        try:
            if self._log_dir:
                for name in ("stdout", "stderr"):
                    opened.append(logs.open_log(self._log_dir, job.name, name))
            # A session of its own: a signal reaches its proxy command too, and it can't ask the terminal.
            process = subprocess.Popen(
                job.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        child = _Child(index, job, process)
        self._children.append(child)
        assert process.stdout is not None and process.stderr is not None
        for at, (name, pipe) in enumerate((("stdout", process.stdout), ("stderr", process.stderr))):
            os.set_blocking(pipe.fileno(), False)
            stream = _Stream(child, name, pipe.fileno(), opened[at] if opened else None)
            child.streams.append(stream)
            self._selector.register(stream.pipe, selectors.EVENT_READ, stream)

    def _read(self, stream: _Stream) -> int:
        """Pass on what is there; 0 when nothing is, or the stream has ended."""
        try:
            data = os.read(stream.pipe, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._close(stream)
            return 0
        if stream.log is not None:
            logs.write_all(stream.log, data)
        _show(stream.name, stream.lines.feed(data))
        return len(data)

    def _finish(self, child: _Child) -> None:
        """What the ended child left in its pipes, then its status. A process that it left behind (a shared
        connection's master) may hold the pipes open for ever: their end is not waited for."""
        for stream in list(child.streams):
            total = 0
            while total < MAX_DRAIN_BYTES and (size := self._read(stream)):
                total += size
            if stream in child.streams:
                self._close(stream)
        status = child.process.returncode
        self._statuses[child.index] = status if status >= 0 else 128 - status
        self._children.remove(child)

    def _close(self, stream: _Stream) -> None:
        stream.child.streams.remove(stream)
        self._selector.unregister(stream.pipe)
        pipe = getattr(stream.child.process, stream.name)
        pipe.close()
        if stream.log is not None:
            os.close(stream.log)
        _show(stream.name, stream.lines.end())


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        # The child leads its group and is not yet waited for, so the number is still its own.
        os.killpg(process.pid, number)


def _label(index: int, job: Job, name: str) -> str:
    text = f"[{inert(job.name)}]"
    if not getattr(sys, name).isatty():
        return text
    return f"\x1b[{COLOURS[index % len(COLOURS)]}m{text}\x1b[0m"


def _show(name: str, text: str) -> None:
    if not text:
        return
    ours = sys.stdout if name == "stdout" else sys.stderr
    if sys.stderr.isatty():
        # A line of progress may stand where this goes.
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
    # A character that the locale lacks must not end the run.
    ours.write(text.encode(ours.encoding, "backslashreplace").decode(ours.encoding))
    ours.flush()


def _summarise(jobs: list[Job], statuses: list[int], what: str) -> None:
    failed = [(job, status) for job, status in zip(jobs, statuses, strict=True) if status]
    if not failed:
        if sys.stderr.isatty():
            sys.stderr.write(f"{len(jobs)} {what}, all succeeded\n")
        return
    named = [f"{inert(job.name)} (exit status {status})" for job, status in failed[:MAX_NAMED]]
    more = f" and {len(failed) - MAX_NAMED} more" if len(failed) > MAX_NAMED else ""
    sys.stderr.write(f"{len(failed)} of {len(jobs)} {what} failed: {', '.join(named)}{more}\n")

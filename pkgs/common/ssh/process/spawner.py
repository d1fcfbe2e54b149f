"""The small parent that every connection's process is forked from.

Executed afresh by the service, so it never held a key, before it has any thread; imports everything a
connection needs, freezes the heap so that pages stay shared, and from then on only forks, kills and reaps.
Single-threaded for good: a fork from a threaded process is a trap.

    python -I spawner.py <root of the source> <module of the process> <control descriptor>

The module has a function `serve(sock, monitor, start)`; the process ends when it returns.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from pkgs.common.ssh.process.messages import Start

_IDLE_FDS = 3


class ServeModule(Protocol):
    def serve(self, sock: socket.socket, monitor: socket.socket, start: Start) -> None: ...


# Sent to the whole group by a terminal or a supervisor; the service acts on them, and this process ends
# when the service closes its socket: no sooner, for the service drains its sessions first.
_FOR_THE_SERVICE = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


def main(argv: list[str]) -> int:
    root, module_name, control_fd = argv[1], argv[2], int(argv[3])
    sys.path.insert(0, root)
    import msgspec

    from pkgs.common.ssh.limits import MAX_MESSAGE
    from pkgs.common.ssh.process.descriptors import receive
    from pkgs.common.ssh.process.messages import Exited, Kill, Ready, Spawn

    module = cast(ServeModule, importlib.import_module(module_name))
    control = socket.socket(fileno=control_fd)
    control.setblocking(False)
    decoder = msgspec.msgpack.Decoder(Spawn | Kill)
    encode = msgspec.msgpack.Encoder().encode
    numbers: dict[int, int] = {}
    pids: dict[int, int] = {}
    for which in _FOR_THE_SERVICE:
        signal.signal(which, signal.SIG_IGN)
    wake_out, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
    warm_up()
    gc.collect()
    gc.disable()
    gc.freeze()
    control.send(encode(Ready()))
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_out, select.POLLIN)
    while True:
        poll.poll()
        try:
            while os.read(wake_out, 512):
                pass
        except BlockingIOError:
            pass  # drained
        for pid, status in _reaped():
            number = numbers.pop(pid, 0)
            pids.pop(number, None)
            _send(control, encode(Exited(number=number, status=status)))
        try:
            data, fds, _ = receive(control, MAX_MESSAGE, 2)
        except BlockingIOError:
            continue
        except ConnectionResetError:
            return 0
        if not data:
            return 0  # the service is gone; processes notice by their own pair
        order = decoder.decode(data)
        if isinstance(order, Kill):
            if order.number in pids:
                os.kill(pids[order.number], order.signal)
            continue
        pid = os.fork()
        if pid == 0:
            control.close()
            os.close(wake_out)
            os.close(wake_in)
            _become_connection(module, fds, order.start)
        pids[order.start.number] = pid
        numbers[pid] = order.start.number
        for fd in fds:
            os.close(fd)


def warm_up() -> None:
    """Do once what every connection would do first, so that its results are shared and not repeated: load
    the name service's libraries, and a whole login between two ends in this process."""
    import pwd

    from pkgs.common.ssh.process.rehearsal import rehearse

    pwd.getpwuid(0)
    rehearse()


def _become_connection(module: ServeModule, fds: list[int], start: Start) -> None:
    from pkgs.common.ssh.process.place import take_place

    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *_FOR_THE_SERVICE):
            signal.signal(number, signal.SIG_DFL)
        gc.enable()
        take_place(start.group)
        module.serve(socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1]), start)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def _reaped() -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return out
        if pid == 0:
            return out
        out.append((pid, status))


def _send(control: socket.socket, data: bytes) -> None:
    control.setblocking(True)
    try:
        control.send(data)
    except OSError:
        pass  # the service is gone; the next read says so
    finally:
        control.setblocking(False)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))

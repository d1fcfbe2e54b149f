"""`tsh proxy ssh-multiplex`: connects many ssh, for Ansible and the like."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.multiplex import place
from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.login import Login, current, of_profile
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Serve the OpenSSH configuration that 'tsh config --multiplex' prints: connections go through this one"
    " process, which keeps the way to the proxy ready, and cost no start of tsh each. Runs until it is ended"
    " or the login is deleted.",
    CLUSTER,
)


def run(args: Parsed) -> int:
    """Serve until SIGINT or SIGTERM."""
    login = current(args)
    if login.temporary:
        raise InputError("a multiplexer serves a stored login", hint="log in with 'tsh login'")
    from pkgs.clients.tsh.multiplex.server import Place

    held = Place(place.socket_path(login))
    try:
        sys.stderr.write(f"connecting to {login.cluster} for ssh; end this with Ctrl-C\n")
        with asyncio.Runner(loop_factory=_loop) as runner:
            runner.run(_serve(login, held.listener))
    finally:
        held.close()
    return 0


async def _serve(login: Login, listener: socket.socket) -> None:
    from pkgs.clients.tsh.multiplex.server import Multiplexer

    def find() -> Login:
        return of_profile(login.home, home.load(login.home, login.profile_name))

    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await Multiplexer(find, lambda: loop.call_soon(task.cancel)).serve(listener)


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made

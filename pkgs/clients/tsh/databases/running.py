"""A native client, and the port it needs for as long as it runs."""

from __future__ import annotations

import asyncio
import signal

from pkgs.clients.tsh.databases.clients import LOCAL, command
from pkgs.clients.tsh.databases.files import Held
from pkgs.clients.tsh.databases.port import LocalPort
from pkgs.clients.tsh.profile.login import Login

_SIGNALLED = 128


async def run_client(login: Login, held: Held, statement: str) -> int:
    """The client's exit status. The terminal is the client's: an interrupt is for it, and it decides."""
    # A user that is made on demand has the name of its owner.
    user = held.user or login.user
    # Looked for before anything is opened.
    command(held.protocol, 0, user, held.database)
    port = LocalPort(login, held.service, lambda: held)
    port.open(LOCAL, 0)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, _leave_it_to_the_client)
    try:
        argv = command(held.protocol, port.port, user, held.database, statement)
        process = await asyncio.create_subprocess_exec(*argv)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, process.send_signal, number)
        status = await process.wait()
    finally:
        await port.close()
    return status if status >= 0 else _SIGNALLED - status


def _leave_it_to_the_client() -> None:
    """A handler, not the ignoring of the signal: that the client would inherit."""

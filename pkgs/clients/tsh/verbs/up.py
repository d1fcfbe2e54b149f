"""`tsh up`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.flags import CLUSTER, FORMAT
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.clients.tsh.up.file import File
    from pkgs.clients.tsh.up.tunnel import Tunnel

SPEC = Spec(
    "Keep the databases of a file open at local ports, each as 'tsh proxy db --tunnel' would, until"
    " interrupted. In it stands 'databases:' and a list, each with 'db' and, if you like, 'user', 'name',"
    " 'roles' and 'port'. Certificates are renewed as long as you are logged in. The file is"
    " ~/.tsh/config/up.yaml unless you name another. With --format=json or yaml the addresses are printed"
    " once, when each database is open or has failed.",
    FORMAT,
    CLUSTER,
    usage="[FILE]",
    most=1,
)


def run(args: Parsed) -> int:
    """Listen until a signal comes."""
    import asyncio
    from pathlib import Path

    from pkgs.clients.tsh.profile.home import home_dir
    from pkgs.clients.tsh.profile.login import current
    from pkgs.clients.tsh.up import file

    wanted = file.read(Path(args.words[0] if args.words else f"{home_dir()}/config/up.yaml"))
    # Said at once, not sixty times by those that need it.
    current(args)
    try:
        return asyncio.run(_keep(wanted, args))
    except KeyboardInterrupt:
        return 130


async def _keep(wanted: File, args: Parsed) -> int:
    import asyncio
    import signal

    from pkgs.clients.tsh.profile.login import current
    from pkgs.clients.tsh.up.tunnel import Tunnel

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lines = sys.stdout if args.text("format") == "text" else sys.stderr
    width = max(len(entry.db) for entry in wanted.databases)

    def show(tunnel: Tunnel) -> None:
        lines.write(f"{inert(tunnel.entry.db):{width}}  {_state(tunnel)}\n")
        lines.flush()

    turn = asyncio.Lock()
    tunnels = [Tunnel(entry, lambda: current(args), turn, show) for entry in wanted.databases]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(tunnel.run()) for tunnel in tunnels]
        tasks.append(group.create_task(_announce(tunnels, args.text("format"))))
        await stop.wait()
        for task in tasks:
            task.cancel()
    return 0


def _state(tunnel: Tunnel) -> str:
    """The one line of a database."""
    import shlex

    from pkgs.clients.tsh.databases import clients

    where = f"{clients.LOCAL}:{tunnel.port}" if tunnel.port else ""
    if tunnel.problem:
        return f"{where}  {inert(tunnel.problem)}" if where else inert(tunnel.problem)
    held, login = tunnel.held, tunnel.login
    assert held is not None and login is not None
    if held.protocol not in clients.PROGRAMS:
        return where
    user = held.user or login.user
    words = clients.command(held.protocol, tunnel.port, user, held.database, installed=False)
    return f"{where}  {inert(shlex.join(words))}"


async def _announce(tunnels: list[Tunnel], format: str) -> None:
    """The addresses, once every database was tried, for a program."""
    for tunnel in tunnels:
        await tunnel.tried.wait()
    if format != "text":
        from pkgs.common.output import formats

        formats.write_list([_facts(tunnel) for tunnel in tunnels], format)
        sys.stdout.flush()


def _facts(tunnel: Tunnel) -> dict[str, str | int]:
    from pkgs.clients.tsh.databases import clients

    held, login = tunnel.held, tunnel.login
    facts: dict[str, str | int] = {"db": tunnel.entry.db}
    if tunnel.port and held is not None and login is not None:
        user = held.user or login.user
        facts |= {
            "protocol": held.protocol,
            "host": clients.LOCAL,
            "port": tunnel.port,
            "user": user,
            "name": held.database,
            "url": clients.url(held.protocol, tunnel.port, user, held.database),
        }
    if tunnel.problem:
        facts["error"] = tunnel.problem
    return facts

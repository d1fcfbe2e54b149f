"""`tsh proxy db`."""

from __future__ import annotations

import shlex
import sys

from pkgs.clients.tsh.databases import listing
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.login.ask import OTP_STDIN
from pkgs.clients.tsh.profile.login import Login, current
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.clients.tsh.databases.files import Held
    from pkgs.common.resources.kinds import Database

SPEC = Spec(
    "Open a local port for a database, until interrupted. With --tunnel any client connects without TLS and"
    " without credentials, as you: keep the port to yourself. Without it the port leads to the proxy, and the"
    " client does its own TLS with the files of 'tsh db config'. The same port is taken the next time.",
    *listing.AS_WHOM,
    Flag("tunnel", "Connect with your certificate, so that the client needs none", is_bool=True),
    Flag("port", "Port to listen on; default: the one of the last time", short="p", metavar="PORT"),
    Flag("listen", "Address to listen on", default="127.0.0.1", metavar="ADDR"),
    OTP_STDIN,
    *listing.SELECTORS,
    CLUSTER,
    usage="[DATABASE]",
    most=1,
)
offer = listing.offer


def run(args: Parsed) -> int:
    """Listen until a signal comes."""
    if args.on("tunnel") and not _is_loopback(args.text("listen")):
        raise InputError(
            "with --tunnel whoever reaches the port is you", hint="listen on 127.0.0.1 or ::1 only"
        )
    import asyncio

    import uvloop

    login = current(args)
    database = listing.the_one(login, args)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(login, database, args))
    except KeyboardInterrupt:
        return 130


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(login: Login, database: Database, args: Parsed) -> int:
    import asyncio
    import signal
    import time

    from pkgs.clients.tsh.databases import direct, files
    from pkgs.clients.tsh.databases.certificates import for_session, held_or_obtained, whom
    from pkgs.clients.tsh.databases.port import LocalPort

    held = held_or_obtained(login, database, whom(args))
    tunnel = args.on("tunnel")
    proven = for_session(login, held, args, names_user=True) if tunnel else held

    def next_held() -> Held:
        if proven is held:
            # What a new login or `tsh db login` writes meanwhile is used by the next connection.
            return files.must(login, database.name)
        if proven.expires_at <= time.time():
            raise DeniedError("the one-time code counts no longer", hint="start 'tsh proxy db' again")
        return proven

    addr = login.proxy_addr if tunnel else direct.proxy_addr(login, held.protocol)
    port = LocalPort(login, database.name, next_held if tunnel else None, addr=addr)
    remembered = files.port_of(login, database.name)
    port.open(args.text("listen"), args.whole("port"), remembered=remembered)
    if args.text("port") or not remembered:
        # One that somebody else has taken meanwhile stays the database's own.
        files.keep_port(login, database.name, port.port)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        sys.stdout.write(_told(login, held, args.text("listen"), port.port, tunnel=tunnel))
        sys.stdout.flush()
        await stop.wait()
    finally:
        await port.close()
    return 0


def _told(login: Login, held: Held, listen: str, port: int, *, tunnel: bool) -> str:
    from pkgs.clients.tsh.databases import clients
    from pkgs.clients.tsh.databases.direct import Direct

    name = inert(held.service)
    text = f"Database {name} is at {listen}:{port} until this is interrupted.\n"
    if not tunnel:
        direct = Direct(login, held)
        return text + (
            f"\nThe client does its own TLS, as host {direct.host}, with\n"
            f"  ca={inert(direct.ca)}\n  cert={inert(str(held.cert))}\n  key={inert(str(held.key))}\n"
        )
    if held.protocol in clients.PROGRAMS:
        user = held.user or login.user
        words = clients.command(held.protocol, port, user, held.database, installed=False)
        text += f"\n  {inert(shlex.join(words))}\n"
    return text

"""`tsh proxy ssh`: what OpenSSH runs as its ProxyCommand."""

from __future__ import annotations

import contextlib
import sys
import time

from pkgs.clients.tsh.flags import CLUSTER, JUMP, RESUME
from pkgs.clients.tsh.profile.login import Login, current
from pkgs.clients.tsh.templates import destination
from pkgs.common.errors import UnavailableError
from pkgs.common.output.argv import Flag, Parsed, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.clients.tsh.connections.splice import TlsStream

SPEC = Spec(
    "Connect standard input and output to the SSH port of a server, through the proxy. OpenSSH runs this"
    " as its ProxyCommand; 'tsh config' prints the configuration.",
    CLUSTER,
    JUMP,
    *RESUME,
    Flag("proxy-log-output", "Where messages go", default="stderr", choices=("stderr", "stdout", "none"),
         env="TELEPORT_PROXY_LOG_OUTPUT", metavar="WHERE"),
    usage="[USER@]HOST[:PORT]",
    least=1,
    most=1,
)  # fmt: skip
USUAL_PORT = "3022"
DEFAULT_PORTS = ("0", USUAL_PORT, "")


def run(args: Parsed) -> int:
    """Dial, then copy until both sides have ended."""
    os_login, _, target = args.words[0].rpartition("@")
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit() or "]" in port:
        host, port = target, ""
    there = destination.find(args, host, USUAL_PORT if port in DEFAULT_PORTS else port)
    there.aim(args)
    login = current(args)
    host = there.server(login).removesuffix("." + login.cluster)
    # The usual port stands for the port that the node itself registered.
    wanted = host if there.port == USUAL_PORT else f"{host}:{there.port}"
    if not _connect(args, login, wanted, os_login or args.text("login")):
        raise UnavailableError(
            f"server {host!r} did not answer",
            hint="its connection may just have been lost; it reconnects by itself, try again in a moment",
        )
    return 0


def _connect(args: Parsed, login: Login, target: str, os_login: str) -> bool:
    from pkgs.clients.tsh.connections.dial import DIAL_DEADLINE_S, user_stream

    if args.on("no-resume"):
        return user_stream(login, target, os_login).splice(0, 1)
    from pkgs.clients.tsh.connections.resume import connect

    def dial(where: str, deadline_s: float) -> TlsStream:
        # By the time a connection is lost the login may have expired, and been renewed.
        now = login if login.expires_at > time.time() else current(args)
        return user_stream(now, where, os_login, deadline_s)

    def say(text: str) -> None:
        if args.text("proxy-log-output") == "stderr":
            # The terminal may be raw, as a shell on the server wants it; or closed long ago.
            with contextlib.suppress(OSError):
                sys.stderr.write(f"\rtsh: {text}\r\n" if sys.stderr.isatty() else f"tsh: {text}\n")
                sys.stderr.flush()

    return connect(dial, target, 0, 1, say, DIAL_DEADLINE_S)

"""`tsh proxy ssh`: what OpenSSH runs as its ProxyCommand."""

from __future__ import annotations

from pkgs.clients.tsh.flags import CLUSTER, RESUME
from pkgs.clients.tsh.profile.login import current
from pkgs.common.errors import UnavailableError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Connect standard input and output to the SSH port of a server, through the proxy. OpenSSH runs this"
    " as its ProxyCommand; 'tsh config' prints the configuration.",
    CLUSTER,
    *RESUME,
    Flag("proxy-log-output", "Where messages go", default="stderr", choices=("stderr", "stdout", "none"),
         env="TELEPORT_PROXY_LOG_OUTPUT", metavar="WHERE"),
    usage="[USER@]HOST[:PORT]",
    least=1,
    most=1,
)  # fmt: skip
DEFAULT_PORTS = ("0", "3022", "")


def run(args: Parsed) -> int:
    """Dial, then copy until both sides have ended."""
    login = current(args)
    os_login, _, target = args.words[0].rpartition("@")
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit() or "]" in port:
        host, port = target, ""
    host = host.removesuffix("." + login.cluster)
    from pkgs.clients.tsh.connections.dial import user_stream

    # The usual port stands for the port that the node itself registered.
    wanted = host if port in DEFAULT_PORTS else f"{host}:{port}"
    if not user_stream(login, wanted, os_login or args.text("login")).splice(0, 1):
        raise UnavailableError(
            f"server {host!r} did not answer",
            hint="its connection may just have been lost; it reconnects by itself, try again in a moment",
        )
    return 0

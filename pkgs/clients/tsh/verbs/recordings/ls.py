"""`tsh recordings ls`."""

from __future__ import annotations

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.flags import CLUSTER, FORMAT
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.recordings import remote
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "List the recorded sessions you may play, newest first; those of the last day unless told otherwise.",
    FORMAT,
    *remote.WINDOW_FLAGS,
    CLUSTER,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    client = auth_client(current(args))
    try:
        remote.show(remote.listing(client, args), args.text("format"))
    finally:
        client.close()
    return 0

"""`tsh join`: the system's OpenSSH or our own client, told to join a session instead of opening one."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.flags import CLUSTER, NO_OPENSSH, RESUME
from pkgs.clients.tsh.login.relogin import current_or_relogin
from pkgs.clients.tsh.sessions import joining
from pkgs.clients.tsh.verbs.ssh import execute
from pkgs.common.errors import NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Join somebody's session: as an observer, who watches; as a moderator, who watches and may end it; as a"
    " peer, who types too. Roles say who may join whose sessions, and as what.",
    Flag("mode", "How to join", short="m", default="observer", choices=("observer", "moderator", "peer"),
         metavar="MODE"),
    CLUSTER,
    NO_OPENSSH,
    *RESUME,
    usage="ID",
    least=1,
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Find the session's server, then join by OpenSSH, which replaces this process, or by our own client."""
    from pkgs.clients.tsh.sessions import listing
    from pkgs.common.recording.ids import require_session_id

    session_id = require_session_id(args.words[0])
    openssh.heed_resume(args)
    login = current_or_relogin(args)
    client = auth_client(login)
    try:
        found = listing.fetch(client, session_id=session_id)
    finally:
        client.close()
    if not found:
        raise NotFoundError(
            "there is no such session, or you may not join it",
            hint="'tsh sessions ls' lists those you may join",
        )
    mode = args.text("mode")
    host = openssh.host_name(login, found[0].host_id)
    asked_for_codes = mode == "moderator" and found[0].proves and sys.stdin.isatty()
    if not openssh.wanted(args):
        from pkgs.clients.tsh.ownssh.client import run as run_own
        from pkgs.clients.tsh.ownssh.link import Target
        from pkgs.clients.tsh.ownssh.settings import Settings

        variables = {joining.MODE_VARIABLE: mode}
        settings = Settings(command=session_id.encode(), tty="yes", environment=variables)
        if asked_for_codes:
            from pkgs.clients.tsh.sessions import attended, proving

            settings.keys = attended.without_codes(lambda code: proving.say(login, session_id, code))
        return run_own(login, Target(joining.JOIN_LOGIN, host, str(openssh.PORT)), settings)
    argv = [
        openssh.program("ssh"),
        *joining.options(login, mode),
        "--",
        host,
        session_id,
    ]
    if asked_for_codes:
        from pkgs.clients.tsh.sessions import attended, proving

        return attended.run(argv, lambda code: proving.say(login, session_id, code))
    return execute(argv, temporary=login.temporary)

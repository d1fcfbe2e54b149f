"""`tctl bots add`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT, commas, duration
from pkgs.clients.tctl.verbs.bots.token import show
from pkgs.common.api.bots import CreateBot
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

MAX_TTL_S = 168 * 3600.0
SPEC = Spec(
    "Make a bot: a machine that may take on roles. Prints a token with which its first instance joins.",
    Flag("roles", "Roles that it may take on, comma separated", metavar="ROLES"),
    Flag("logins", "OS logins for roles that use the trait, comma separated", metavar="LOGINS"),
    Flag("token", "A token that exists, with role Bot and this bot's name, instead of a new one",
         metavar="TOKEN"),
    Flag("ttl", "How long the new token is valid", default="1h", metavar="DURATION"),
    Flag("max-session-ttl", "Longest life of its certificates, at most 168h", default="12h",
         metavar="DURATION"),
    FORMAT,
    usage="NAME",
    least=1,
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Create and print."""
    logins = commas(args.text("logins"))
    request = CreateBot(
        name=args.words[0],
        roles=commas(args.text("roles")),
        traits={"logins": logins} if logins else {},
        max_session_ttl=f"{duration(args, 'max-session-ttl', most_s=MAX_TTL_S)}s",
        token=args.text("token"),
        ttl_s=duration(args, "ttl"),
    )
    with connect(args) as client:
        made = client.call(request)
        if args.text("format") == "text":
            sys.stdout.write(f'Created bot "{inert(made.bot_name)}".\n\n')
        show(client, made, args.text("format"))
    return 0

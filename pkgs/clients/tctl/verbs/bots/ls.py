"""`tctl bots ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.resources import write_list
from pkgs.common.output.table import render, terminal_width
from pkgs.common.resources.bots import user_of
from pkgs.common.resources.kinds import Bot

SPEC = Spec("List bots and the roles that they may take on.", FORMAT)


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        bots = [bot for bot in fetch_all(client, "bot") if isinstance(bot, Bot)]
    if args.text("format") != "text":
        write_list(bots, args.text("format"))
        return 0
    if not bots:
        sys.stdout.write("No bots found\n")
        return 0
    rows = [(bot.name, user_of(bot.name), ",".join(bot.spec.roles)) for bot in bots]
    sys.stdout.write(render(("Bot", "User", "Roles"), rows, width=terminal_width()))
    sys.stdout.write("\nTo see the machines that joined as a bot: tctl bots instances ls [NAME]\n")
    return 0

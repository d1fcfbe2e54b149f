"""`tctl bots instances add`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT, duration
from pkgs.clients.tctl.verbs.bots.token import show
from pkgs.common.api.bots import AddBotInstance
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Make a token with which one more machine joins as a bot.",
    Flag("token", "A token that exists, with role Bot and this bot's name, instead of a new one",
         metavar="TOKEN"),
    Flag("ttl", "How long the new token is valid", default="1h", metavar="DURATION"),
    FORMAT,
    usage="NAME",
    least=1,
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Create and print."""
    request = AddBotInstance(bot=args.words[0], token=args.text("token"), ttl_s=duration(args, "ttl"))
    with connect(args) as client:
        show(client, client.call(request), args.text("format"))
    return 0

"""A bot's token as a person and as a program reads it."""

from __future__ import annotations

import sys
import time

from pkgs.clients.tctl.inventory import proxy_address
from pkgs.common.api.bots import BotToken
from pkgs.common.api.system import GetClusterStatus
from pkgs.common.output import formats
from pkgs.common.output.sanitize import inert
from pkgs.common.rpc.calls import BlockingClient


def show(client: BlockingClient, made: BotToken, format: str) -> None:
    """Print the token, and how a machine uses it."""
    ttl_s = max(0, round(made.expires_at - time.time())) if made.expires_at else 0
    if format != "text":
        document = {
            "bot_name": made.bot_name,
            "user_name": made.user_name,
            "role_name": made.role_name,
            "token_id": made.token,
            "token_ttl": ttl_s,
        }
        formats.write(document, format)
        return
    sys.stdout.write(text(client, made, ttl_s))


def text(client: BlockingClient, made: BotToken, ttl_s: int) -> str:
    """What whoever sets the machine up needs to read."""
    token = inert(made.token)
    end = f"expire in {max(1, round(ttl_s / 60))} minutes" if ttl_s else "not expire"
    pins = "".join(f" \\\n   --ca-pin={pin}" for pin in client.call(GetClusterStatus()).ca_pins)
    return (
        f"The bot token: {token}\n"
        f"This token will {end}.\n\n"
        "Run this on the machine:\n\n"
        f"> tbot start \\\n   --token={token} \\\n   --join-method=token{pins} \\\n"
        f"   --proxy-server={inert(proxy_address(client))}\n\n"
        "Please note:\n\n"
        "  - The token lets in one machine and is used up by it; `tctl bots instances add` makes another\n"
        "  - Who has the token can be the bot: hand it over like a password\n"
        "  - The program tbot is not part of this version; docs/machine-id.md says what is\n"
    )

"""Machines: making bots and their tokens, joining as one, renewing, and taking on roles.

A client repeats a `JoinBot` or `RenewBotCerts` that was not answered with the *same* keys until it is: then
it is answered as the first time. Other keys with a generation that was used look like a stolen copy.
"""

from __future__ import annotations

import msgspec

from pkgs.common.api.login import Done, UserCerts
from pkgs.common.rpc.calls import Request


class BotCerts(msgspec.Struct, frozen=True, kw_only=True):
    """A machine's own certificates. All they are good for is renewing them and taking on roles."""

    certs: UserCerts
    bot_name: str
    bot_instance_id: str
    generation: int


class JoinBot(Request[BotCerts], frozen=True, kw_only=True):
    """A one-time token against the certificates of a new instance of its bot."""

    token: str
    ssh_public_key: str
    tls_public_key: str
    ttl_s: int = 0
    """0: an hour; capped by the bot and by seven days."""
    client_addr: str = ""
    """Honoured only from a proxy."""


class RenewBotCerts(Request[BotCerts], frozen=True, kw_only=True):
    """The next generation of the calling machine's own certificates."""

    ssh_public_key: str
    tls_public_key: str
    ttl_s: int = 0


class ImpersonateRoles(Request[UserCerts], frozen=True, kw_only=True):
    """Certificates in the caller's name with other roles. They are not renewed and take on nothing more."""

    roles: list[str] = []
    """Empty, for a bot: all that it may take on."""
    ssh_public_key: str
    tls_public_key: str
    ttl_s: int = 0
    """0: an hour; never longer than the caller's own certificate lives."""


class BotHeartbeat(Request[Done], frozen=True, kw_only=True):
    """A machine tells how it is."""

    hostname: str = ""
    version: str = ""
    one_shot: bool = False
    uptime_s: int = 0


class BotToken(msgspec.Struct, frozen=True, kw_only=True):
    """With what a machine joins."""

    bot_name: str
    user_name: str
    role_name: str
    token: str
    expires_at: float
    """Unix seconds; 0: never."""


class CreateBot(Request[BotToken], frozen=True, kw_only=True):
    """`tctl bots add`: a bot with its user and role, and a token for its first instance."""

    name: str
    roles: list[str] = []
    traits: dict[str, list[str]] = {}
    max_session_ttl: str = ""
    token: str = ""
    """One that exists, instead of a new one."""
    ttl_s: int = 0
    """Of the new token; 0: an hour."""


class AddBotInstance(Request[BotToken], frozen=True, kw_only=True):
    """`tctl bots instances add`: a token for one more instance."""

    bot: str
    token: str = ""
    ttl_s: int = 0

"""Which user and role belong to a bot, and how they are recognised.

The label is put on by the Auth Service alone: whoever has it is a machine, owned by the bot of that name.
"""

from __future__ import annotations

from pkgs.common.resources.metadata import Base

BOT_LABEL = "teleport.internal/bot"
_PREFIX = "bot-"


def user_of(bot: str) -> str:
    """Name of the user as which a bot acts."""
    return _PREFIX + bot


def role_of(bot: str) -> str:
    """Name of the role by which a bot takes on other roles."""
    return _PREFIX + bot


def bot_of(resource: Base) -> str:
    """The bot that owns this user or role; empty: it is nobody's."""
    return resource.metadata.labels.get(BOT_LABEL, "")

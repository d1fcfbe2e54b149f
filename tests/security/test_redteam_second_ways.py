"""Second ways to the same right, and answers that tell what their reader may not read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pkgs.common.api.bots import CreateBot
from pkgs.common.errors import DeniedError
from pkgs.common.resources.kinds import Bot
from pkgs.common.resources.kinds.machines import BotSpec
from pkgs.common.resources.metadata import Metadata
from tests.integration.auth_kit import auth, run
from tests.integration.bots_kit import add_instance, join, roles
from tests.integration.lists_kit import put


@pytest.mark.parametrize("by_call", [True, False], ids=["CreateBot", "PutResource"])
def test_a37_a_token_of_an_expired_bot_is_none_of_its_successor(short_tmp: Path, by_call: bool) -> None:
    """A bot that went by itself leaves its tokens; who holds one must not become the next bot of the name."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await roles(kit, "small", "great")
            ends = datetime.fromtimestamp(int(kit.clock.now()) + 60, UTC)
            await put(
                kit.admin, Bot(metadata=Metadata(name="ci", expires=ends), spec=BotSpec(roles=["small"]))
            )
            old = await add_instance(kit)
            kit.clock.ahead += 120
            await kit.service.backend.sweep()
            if by_call:
                await kit.admin.call(CreateBot(name="ci", roles=["great"]))
            else:
                await put(kit.admin, Bot(metadata=Metadata(name="ci"), spec=BotSpec(roles=["great"])))
            with pytest.raises(DeniedError):
                await join(kit, old.token)

    run(main)

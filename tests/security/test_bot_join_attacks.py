"""Joining as a machine: tokens, races, guesses (attack A37)."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from pkgs.auth.limits import JOINS_BURST
from pkgs.common.api.join import Join
from pkgs.common.api.resources import CreateToken, DeleteResource
from pkgs.common.errors import DeniedError, LimitExceededError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import Token, TokenSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller
from tests.integration.auth_kit import TOKEN, auth, events, listed, new_keys, run
from tests.integration.bots_kit import Machine, add_bot, add_instance, join
from tests.security.test_bot_attacks import is_out, put

REFUSED = "the join token is not valid, has expired, or is not for this role"


def host_join(token: str, role: SystemRole) -> Join:
    return Join(token=token, role=role, host_id=str(uuid.uuid4()), node_name="n", **new_keys())


def test_a37_tokens_of_another_type_are_refused_alike(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            token = (await add_bot(kit, "ci")).token
            expired = (await kit.admin.call(CreateToken(roles=["node"], ttl_s=1))).resource.name
            orphan = Token(metadata=Metadata(name="o"), spec=TokenSpec(roles=["Bot"], bot_name="gone"))
            await put(kit, orphan)
            kit.clock.ahead += 2
            for wrong in (TOKEN, f"proxy-{TOKEN}", expired, "o", "guess", "", "x" * 5000, token[:-1]):
                with pytest.raises(DeniedError) as caught:
                    await join(kit, wrong)
                assert caught.value.message == REFUSED
            # Nor does a bot's token, or the administrator, make a host of a machine.
            for kind in (SystemRole.BOT, SystemRole.NODE, SystemRole.PROXY, SystemRole.AUTH):
                with pytest.raises(DeniedError):
                    await kit.nobody().call(host_join(token, kind))
            for client in (kit.admin, kit.nobody()):
                with pytest.raises(DeniedError):
                    await client.call(host_join("", SystemRole.BOT))
            assert await listed(kit.admin, "bot_instance") == []
            await join(kit, token)
            failures = [e for e in await events(kit, "bot.join") if e["code"] == "TJ001E"]
            assert len(failures) == 8
            assert token[:-1] not in repr(failures)

    run(main)


def test_a37_a_bot_token_has_one_winner(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            token = (await add_bot(kit, "ci")).token
            outcomes = await asyncio.gather(
                *(join(kit, token, kit.nobody(f"127.0.0.{n + 1}")) for n in range(8)), return_exceptions=True
            )
            assert sum(isinstance(o, Machine) for o in outcomes) == 1
            assert all(str(o) == REFUSED for o in outcomes if isinstance(o, DeniedError))
            assert len(await listed(kit.admin, "bot_instance")) == 1
            with pytest.raises(DeniedError):
                await join(kit, token)

    run(main)


def test_a37_many_tokens_at_once_all_join(short_tmp: Path) -> None:
    """Each writes the bot's user as a guard; being second is no refusal."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await add_bot(kit, "ci")
            tokens = [(await add_instance(kit)).token for _ in range(5)]
            made = await asyncio.gather(*(join(kit, token) for token in tokens))
            assert len({one.id for one in made}) == 5

    run(main)


def test_a37_guessing_bot_tokens_is_rate_limited(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            # The gate itself, because hundreds of calls over TLS would only test patience.
            gate = kit.service.handlers.machines._gate
            caller = Caller(identity=None, remote_addr="127.0.0.77")
            with pytest.raises(LimitExceededError):
                for _ in range(JOINS_BURST + 50):
                    gate.enter(caller, "")
            token = (await add_bot(kit, "ci")).token
            with pytest.raises(LimitExceededError):
                await join(kit, token, kit.nobody("127.0.0.77"))
            await join(kit, token, kit.nobody("127.0.0.78"))

    run(main)


def test_a37_a_join_and_a_removal_at_once_leave_no_machine_of_a_bot_that_is_gone(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            for number in range(6):
                tokens = [(await add_bot(kit, "ci")).token, (await add_instance(kit)).token]
                joins = [join(kit, token) for token in tokens]
                removal = kit.admin.call(DeleteResource(kind="bot", name="ci"))
                work = [*joins, removal] if number % 2 else [removal, *joins]
                outcomes = await asyncio.gather(*work, return_exceptions=True)
                assert all(isinstance(o, DeniedError) for o in outcomes if isinstance(o, BaseException))
                assert await listed(kit.admin, "bot_instance") == []
                await add_bot(kit, "ci")
                for one in (o for o in outcomes if isinstance(o, Machine)):
                    assert await is_out(one.client)
                await kit.admin.call(DeleteResource(kind="bot", name="ci"))

    run(main)

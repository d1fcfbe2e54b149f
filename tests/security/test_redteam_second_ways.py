"""Second ways to the same right, and answers that tell what their reader may not read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from pkgs.common.api.bots import CreateBot
from pkgs.common.api.login import CreateUser, ResetUser
from pkgs.common.api.requests import CreateAccessRequest
from pkgs.common.api.resources import DeleteResource, GetResource, PutResource
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.resources.kinds import Bot, Resource, Token, TokenSpec
from pkgs.common.resources.kinds.machines import BotSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.registry import Ref
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule
from pkgs.common.rpc.calls import Request
from tests.integration.auth_kit import auth, listed, role, run
from tests.integration.bots_kit import add_instance, join, machine, roles
from tests.integration.lists_kit import access_list, put
from tests.integration.requests_kit import ask, node, setup


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


def test_a36_no_access_list_gives_a_bots_own_role(short_tmp: Path) -> None:
    """Users cannot hold it, and so no list may give it to them."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await machine(kit, "deploy")
            await put(kit.admin, role("nothing", Conditions()))
            await kit.user("olga", "nothing", login=False)
            for dry_run in (True, False):
                with pytest.raises(InputError, match="belongs to a bot"):
                    await kit.admin.call(PutResource(resource=access_list("team", "bot-ci"), dry_run=dry_run))

    run(main)


def test_a33_who_may_delete_roles_learns_no_names_of_users_and_lists(short_tmp: Path) -> None:
    """Not even by rehearsals that assume away those that were named before."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            rules = [Rule(resources=["role"], verbs=["read", "delete"])]
            await put(kit.admin, role("tidy", Conditions(rules=rules)))
            for name in ("held", "listed", "nothing"):
                await put(kit.admin, role(name, Conditions()))
            await kit.user("secretive", "held", login=False)
            await put(kit.admin, access_list("covert", "listed", owners=("secretive",)))
            mallory = kit.as_user(await kit.user("mallory", "tidy"))
            assumed = [Ref("user", "", "nobody")]
            for name, hidden in (("held", "secretive"), ("listed", "covert")):
                for request in (
                    DeleteResource(kind="role", name=name),
                    DeleteResource(kind="role", name=name, dry_run=True, assume=assumed),
                ):
                    with pytest.raises(InputError) as refusal:
                        await mallory.call(request)
                    assert hidden not in str(refusal.value)
                # Whoever may read them is told.
                with pytest.raises(InputError, match=hidden):
                    await kit.admin.call(DeleteResource(kind="role", name=name))

    run(main)


def test_a33_a_rehearsed_request_names_no_server_that_a_rule_hides(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            ids = [
                f"/alpha.example/node/{await node(kit, name, tier='db', name=name)}"
                for name in ("db1", "db2")
            ]
            rule = Rule(
                resources=["node"], verbs=["read"], where='equals(resource.metadata.labels["name"], "db1")'
            )
            deny = Conditions(rules=[rule])
            await put(kit.admin, Role(metadata=Metadata(name="without"), spec=RoleSpec(deny=deny)))
            mallory = kit.as_user(await kit.user("mallory", "searcher", "without"))
            shown = await mallory.call(CreateAccessRequest(resource_ids=ids, reason="x", dry_run=True))
            assert list(shown.names.values()) == ["db2"]

    run(main)


def test_a36_what_has_calls_of_its_own_is_not_had_by_the_generic_ones(short_tmp: Path) -> None:
    """Neither by the administrator nor by somebody with every rule; what is stored stays as it is."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            made = await machine(kit, "deploy")
            asked = await ask(kit.as_user(await kit.user("asker", "dev")), roles=["dba"], reason="x")
            approved = msgspec.structs.replace(asked.spec, state="APPROVED")
            user, owned = [
                (await kit.admin.call(GetResource(kind=kind, name="bot-ci"))).resource
                for kind in ("user", "role")
            ]
            (instance,) = await listed(kit.admin, "bot_instance")
            tries: list[Resource] = [
                asked,
                msgspec.structs.replace(asked, spec=approved),
                instance,
                Token(metadata=Metadata(name="t"), spec=TokenSpec(roles=["Bot"])),
            ]
            for each in (user, owned):
                unlabelled = msgspec.structs.replace(each.metadata, labels={})
                another = msgspec.structs.replace(each.metadata, name="another", revision="")
                tries += [each, *(msgspec.structs.replace(each, metadata=m) for m in (unlabelled, another))]
            modes: tuple[Literal["create", "upsert", "update"], ...] = ("create", "upsert", "update")
            doors: list[Request[Any]] = [
                PutResource(resource=each, mode=mode) for each in tries for mode in modes
            ]
            doors += [DeleteResource(kind=kind, name="bot-ci") for kind in ("user", "role")]
            doors += [DeleteResource(kind="access_request", name=asked.name), ResetUser(name="bot-ci")]
            doors += [CreateUser(name="another", roles=["bot-ci"])]
            kinds = ("user", "role", "access_request", "bot_instance", "token")
            boss = kit.as_user(await kit.user("boss", "admin"))
            before = [await listed(kit.admin, kind) for kind in kinds]
            for client in (kit.admin, boss):
                for door in doors:
                    with pytest.raises(InputError):
                        await client.call(door)
            assert [await listed(kit.admin, kind) for kind in kinds] == before
            await made.renew()

    run(main)

"""Bots at the Auth Service: made, joined, renewed, taking on roles, changed and removed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from pkgs.auth import limits
from pkgs.common.api.bots import AddBotInstance, BotHeartbeat, CreateBot, JoinBot, RenewBotCerts
from pkgs.common.api.login import CreateUser, ReissueUserCerts, ResetUser
from pkgs.common.api.resources import DeleteResource, GetResource, PutResource
from pkgs.common.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    InputError,
    LimitExceededError,
    NotFoundError,
)
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import Bot, BotInstance, Token, TokenSpec, User
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Impersonate, Role, Rule
from tests.integration.auth_kit import Kit, auth, events, listed, new_keys, role, run
from tests.integration.bots_kit import add_bot, add_instance, join, machine, roles, take_on


def test_a_bot_is_made_joins_renews_and_takes_on_its_roles(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await roles(kit, "deployer", "reader")
            made = await add_bot(kit, "ci", "deployer", "reader", traits={"logins": ["deploy"]})
            assert (made.user_name, made.role_name) == ("bot-ci", "bot-ci")
            first = await join(kit, made.token)
            who = first.identity()
            assert (who.name, who.roles, who.renewable, who.generation) == ("bot-ci", ("bot-ci",), True, 1)
            assert (who.bot_name, who.bot_instance_id) == ("ci", first.id)
            assert who.expires_at - kit.clock.now() <= limits.BOT_CERT_TTL_S
            assert who.logins[0].startswith("no-login-"), "it is good for nothing but taking on roles"

            kit.clock.ahead += 30
            second = await first.renew()
            assert second.identity().generation == 2
            assert second.identity().expires_at > who.expires_at
            output = await second.take_on("deployer")
            got = output.identity()
            assert (got.name, got.roles, got.logins) == ("bot-ci", ("deployer",), ("deploy",))
            assert got.impersonator == "bot-ci"
            assert got.disallow_reissue
            assert not got.renewable
            assert got.expires_at <= second.identity().expires_at
            assert set((await second.take_on()).identity().roles) == {"deployer", "reader"}

            (instance,) = await listed(kit.admin, "bot_instance")
            assert isinstance(instance, BotInstance)
            assert (instance.sub_kind, instance.name) == ("ci", first.id)
            told = [proof.generation for proof in instance.status.latest_authentications]
            assert told == [1, 2]
            assert made.token not in repr(instance)
            assert instance.metadata.expires is not None
            assert instance.metadata.expires.timestamp() > second.identity().expires_at

            joined = await events(kit, "bot.join")
            assert [(e["code"], e["bot_name"], e["bot_instance_id"]) for e in joined] == [
                ("TJ001I", "ci", first.id)
            ]
            certs = [e["identity"] for e in await events(kit, "cert.create")]
            assert [(c["user"], c.get("generation"), c["impersonator"]) for c in certs] == [  # type: ignore[index, attr-defined]
                ("bot-ci", "1", ""),
                ("bot-ci", "2", ""),
                ("bot-ci", None, "bot-ci"),
                ("bot-ci", None, "bot-ci"),
            ]
            assert all(c["bot_instance_id"] == first.id for c in certs)  # type: ignore[index, call-overload]

    run(main)


def test_an_answer_that_got_lost_is_given_again_for_the_same_keys(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            made = await add_bot(kit)
            keys = new_keys()
            asked = JoinBot(token=made.token, **keys)
            first = await kit.nobody().call(asked)
            again = await kit.nobody().call(asked)
            assert (again.bot_instance_id, again.generation) == (first.bot_instance_id, 1)
            with pytest.raises(DeniedError, match="not valid"):
                await kit.nobody().call(JoinBot(token=made.token, **new_keys()))
            one = await join(kit, (await add_instance(kit)).token)
            renewal = RenewBotCerts(**new_keys())
            told = [(await one.client.call(renewal)).generation for _ in range(3)]
            assert told == [2, 2, 2]
            assert await listed(kit.admin, "lock") == []

    run(main)


def test_two_heartbeats_and_a_renewal_at_once_are_no_theft(short_tmp: Path) -> None:
    """They all write the instance; only the generation says whether a copy is in use."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit)
            client = one.client
            beats = [client.call(BotHeartbeat(hostname="h", version="1", uptime_s=n)) for n in range(4)]
            *_, renewed = await asyncio.gather(*beats, client.call(RenewBotCerts(**new_keys())))
            assert renewed.generation == 2
            (instance,) = await listed(kit.admin, "bot_instance")
            assert isinstance(instance, BotInstance)
            assert len(instance.status.latest_heartbeats) == 4
            assert await listed(kit.admin, "lock") == []
            with pytest.raises(InputError):
                await client.call(BotHeartbeat(hostname="h\n"))

    run(main)


def test_the_lifetimes_are_bounded(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            now = kit.clock.now()
            await roles(kit, "short", max_session_ttl="10m")
            token = (await add_bot(kit, "long", "short", max_session_ttl="168h")).token
            one = await join(kit, token, ttl_s=7 * 24 * 3600)
            assert 6.9 * 86400 < one.identity().expires_at - now < 7 * 86400 + 5
            assert (await one.take_on("short", ttl_s=9000)).identity().expires_at - now < 605
            token = (await add_bot(kit, "usual")).token
            assert (await join(kit, token, ttl_s=7 * 24 * 3600)).identity().expires_at - now < 12 * 3600 + 5
            with pytest.raises(InputError, match="7 days"):
                await join(kit, token, ttl_s=7 * 24 * 3600 + 1)
            with pytest.raises(InputError, match="168h"):
                await add_bot(kit, "endless", max_session_ttl="169h")

    run(main)


def test_a_changed_bot_changes_what_its_machines_may(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer", "reader")
            bot = (await kit.admin.call(GetResource(kind="bot", name="ci"))).resource
            assert isinstance(bot, Bot)
            (fewer,) = load_documents(
                "kind: bot\nmetadata: {name: ci}\n"
                "spec: {roles: [reader], traits: [{name: logins, values: [root]}]}"
            )
            await kit.admin.call(PutResource(resource=fewer, mode="upsert"))
            with pytest.raises(DeniedError, match="impersonate roles deployer"):
                await one.take_on("deployer")
            assert (await one.take_on()).identity().roles == ("reader",)
            assert one.identity().traits == {}
            assert (await one.renew()).identity().traits == {"logins": ("root",)}
            stale = msgspec.structs.replace(bot, spec=msgspec.structs.replace(bot.spec, roles=["deployer"]))
            with pytest.raises(ConflictError):
                await kit.admin.call(PutResource(resource=stale, mode="update"))
            user = (await kit.admin.call(GetResource(kind="user", name="bot-ci"))).resource
            assert isinstance(user, User)
            assert user.spec.traits == {"logins": ["root"]}
            codes = [e["code"] for e in await events(kit, "bot.create", "bot.update")]
            assert codes == ["TB001I", "TB002I"]

    run(main)


def test_a_removed_bot_leaves_nothing_that_works(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer")
            output = await one.take_on("deployer")
            unused = (await add_instance(kit)).token
            clients = one.client, output.client
            for client in clients:
                await listed(client, "node")
            await kit.admin.call(DeleteResource(kind="bot", name="ci"))
            for kind, name in (("user", "bot-ci"), ("role", "bot-ci"), ("bot", "ci"), ("token", unused)):
                with pytest.raises(NotFoundError):
                    await kit.admin.call(GetResource(kind=kind, name=name))
            assert await listed(kit.admin, "bot_instance") == []
            # Neither over the connections that there are, nor over new ones; nor when the name comes back.
            for again in (False, True):
                if again:
                    await add_bot(kit, "ci", "deployer")
                for client in (*clients, one.client, output.client):
                    with pytest.raises(DeniedError, match="not exist"):
                        await listed(client, "node")
                with pytest.raises(DeniedError):
                    await one.renew()
                with pytest.raises(DeniedError, match="not valid"):
                    await join(kit, unused)
            assert [e["code"] for e in await events(kit, "bot.delete")] == ["TB003I"]

    run(main)


def test_a_deleted_instance_is_out_at_once(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer")
            other = await join(kit, (await add_instance(kit)).token)
            client = one.client
            await listed(client, "node")
            await kit.admin.call(DeleteResource(kind="bot_instance", sub_kind="ci", name=one.id))
            with pytest.raises(DeniedError, match="instance"):
                await listed(client, "node")
            await other.renew()

    run(main)


def test_a_bot_with_many_instances_goes_whole(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgs.auth.bots.owned.DELETED_AT_ONCE", 2)
    monkeypatch.setattr(limits, "MAX_BOT_INSTANCES", 5)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await machine(kit)
            for _ in range(4):
                await join(kit, (await add_instance(kit)).token)
            with pytest.raises(LimitExceededError):
                await join(kit, (await add_instance(kit)).token)
            await kit.admin.call(DeleteResource(kind="bot", name="ci"))
            assert await listed(kit.admin, "bot_instance") == []
            assert [
                t.name for t in await listed(kit.admin, "token") if isinstance(t, Token) and t.spec.bot_name
            ] == []

    run(main)


def test_what_belongs_to_a_bot_is_changed_by_the_bot_only(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await machine(kit, "deployer")
            for kind in ("user", "role"):
                found = (await kit.admin.call(GetResource(kind=kind, name="bot-ci"))).resource
                for mode in ("create", "upsert", "update"):
                    with pytest.raises(InputError, match="belongs to a bot"):
                        await kit.admin.call(PutResource(resource=found, mode=mode))
                bare = msgspec.structs.replace(found, metadata=Metadata(name="bot-ci"))
                with pytest.raises(InputError, match="belongs to a bot"):
                    await kit.admin.call(PutResource(resource=bare, mode="upsert"))
                # Nothing else takes the label either.
                renamed = msgspec.structs.replace(found.metadata, name="other", revision="")
                with pytest.raises(InputError, match="belongs to a bot"):
                    copy = msgspec.structs.replace(found, metadata=renamed)
                    await kit.admin.call(PutResource(resource=copy))
                with pytest.raises(InputError, match="belongs to a bot"):
                    await kit.admin.call(DeleteResource(kind=kind, name="bot-ci"))
            with pytest.raises(InputError, match="goes with it"):
                await kit.admin.call(CreateUser(name="mira", roles=["bot-ci"]))
            with pytest.raises(InputError, match="no password"):
                await kit.admin.call(ResetUser(name="bot-ci"))
            with pytest.raises(InputError, match="used by 1 user"):
                await kit.admin.call(DeleteResource(kind="role", name="deployer"))
            instance = (await listed(kit.admin, "bot_instance"))[0]
            with pytest.raises(InputError, match="when its bot joins"):
                await kit.admin.call(PutResource(resource=instance, mode="upsert"))

    run(main)


def test_names_and_roles_that_a_bot_cannot_have(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(CreateUser(name="bot-taken", roles=["access"]))
            with pytest.raises(AlreadyExistsError, match='user "bot-taken"'):
                await add_bot(kit, "taken")
            await add_bot(kit, "ci")
            with pytest.raises(AlreadyExistsError, match='bot "ci"'):
                await add_bot(kit, "ci")
            for name in ("missing", "*", "^.*$", "{{external.x}}", "bot-ci"):
                with pytest.raises(InputError, match=r"does not exist|belongs to a bot"):
                    await add_bot(kit, "new", name)
            with pytest.raises(InputError, match="name of a bot"):
                await add_bot(kit, "a b")
            assert [bot.name for bot in await listed(kit.admin, "bot")] == ["ci"]

    run(main)


def test_a_token_that_exists_must_be_for_this_bot(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await add_bot(kit, "ci")
            for name, spec in (
                ("for-ci", TokenSpec(roles=["Bot"], bot_name="ci")),
                ("for-other", TokenSpec(roles=["Bot"], bot_name="other")),
                ("for-nodes", TokenSpec(roles=["Node"])),
            ):
                token = Token(metadata=Metadata(name=name), spec=spec)
                await kit.admin.call(PutResource(resource=token))
            assert (await kit.admin.call(AddBotInstance(bot="ci", token="for-ci"))).token == "for-ci"
            for name in ("for-other", "for-nodes"):
                with pytest.raises(InputError, match="not for bot"):
                    await kit.admin.call(AddBotInstance(bot="ci", token=name))
            with pytest.raises(NotFoundError):
                await kit.admin.call(AddBotInstance(bot="ci", token="nothing"))
            made = await kit.admin.call(CreateBot(name="other", token="for-other"))
            assert (made.token, made.expires_at) == ("for-other", 0.0)
            assert (await join(kit, "for-other")).made.bot_name == "other"

    run(main)


def test_who_may_make_bots_and_their_tokens(short_tmp: Path) -> None:
    """Whoever can make a token for a bot can be it: a rule on tokens alone is not enough."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await add_bot(kit, "ci")
            every = ["list", "read", "create", "update", "delete"]
            rules = {kind: Rule(resources=[kind], verbs=every) for kind in ("token", "bot")}
            clients = {}
            for name, kinds in (("tokens", ["token"]), ("bots", ["bot"]), ("both", ["token", "bot"])):
                made = role(name, Conditions(rules=[rules[kind] for kind in kinds]))
                await kit.admin.call(PutResource(resource=made))
                clients[name] = kit.as_user(await kit.user(f"{name}-user", name))
            token = Token(metadata=Metadata(name="t"), spec=TokenSpec(roles=["Bot"], bot_name="ci"))
            for name in ("tokens", "bots"):
                for request in (AddBotInstance(bot="ci"), CreateBot(name="new"), PutResource(resource=token)):
                    with pytest.raises(DeniedError):
                        await clients[name].call(request)  # type: ignore[arg-type, call-overload]
            await clients["both"].call(PutResource(resource=token))
            await clients["both"].call(CreateBot(name="new"))
            await clients["both"].call(AddBotInstance(bot="new"))
            with pytest.raises(DeniedError):
                await listed(clients["both"], "bot_instance")

    run(main)


def test_people_take_on_roles_too_where_a_role_lets_them(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await roles(kit, "deployer")
            lets = role("lets", Conditions(impersonate=Impersonate(roles=["dep*"])))
            await kit.admin.call(PutResource(resource=lets))
            mira = kit.as_user(await kit.user("mira", "lets"))
            output = await take_on(kit, mira, "deployer")
            who = output.identity()
            assert (who.name, who.roles, who.impersonator) == ("mira", ("deployer",), "mira")
            assert who.mfa_device, "what proved the person goes on"
            with pytest.raises(DeniedError):
                await output.client.call(ReissueUserCerts(**new_keys()))
            with pytest.raises(InputError, match="which roles"):
                await take_on(kit, mira)
            noor = kit.as_user(await kit.user("noor", "access"))
            with pytest.raises(DeniedError):
                await take_on(kit, noor, "deployer")
            await kit.admin.call(DeleteResource(kind="user", name="mira"))
            with pytest.raises(DeniedError, match="does not exist"):
                await listed(output.client, "node")

    run(main)


def test_an_expired_machine_renews_over_no_connection(short_tmp: Path) -> None:
    """A connection may outlive the certificate that it was made with."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer")
            client = one.client
            await listed(client, "node")
            kit.clock.ahead += timedelta(hours=1, seconds=1).total_seconds()
            with pytest.raises(DeniedError, match="expired"):
                await client.call(RenewBotCerts(**new_keys()))
            with pytest.raises(DeniedError):
                await take_on(kit, client, "deployer")

    run(main)


async def rules_of(kit: Kit, name: str) -> Role:
    found = (await kit.admin.call(GetResource(kind="role", name=name))).resource
    assert isinstance(found, Role)
    return found


def test_the_role_of_a_bot_is_for_taking_on_roles_alone(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer")
            allow = (await rules_of(kit, "bot-ci")).spec.allow
            assert allow == Conditions(impersonate=Impersonate(roles=["deployer"]))
            for kind in ("user", "role", "token", "bot", "bot_instance"):
                with pytest.raises(DeniedError):
                    await listed(one.client, kind)

    run(main)

"""Copied machines (A35), taking on what one may not (A36), losing restrictions on the way (A34), bots' tokens
(A37)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.common.access.locks import Interaction, matching_lock
from pkgs.common.api.bots import ImpersonateRoles, RenewBotCerts
from pkgs.common.api.login import CreateUser, Login, ReissueUserCerts, SignUserCerts, UserCerts
from pkgs.common.api.requests import CreateAccessRequest
from pkgs.common.api.resources import DeleteResource, GetResource, PutResource
from pkgs.common.errors import AccessError, DeniedError, InputError
from pkgs.common.pki import sshcert, x509
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.resources.kinds import Bot, BotInstance, Lock, LockSpec, LockTarget, User
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Impersonate, RequestConditions, Role, RoleSpec, Rule
from pkgs.common.rpc.client import RpcClient
from tests.integration import auth_kit
from tests.integration.auth_kit import Kit, auth, events, listed, new_keys, role, run
from tests.integration.bots_kit import Machine, Output, add_bot, add_instance, join, machine, roles, take_on

REFUSED = "the join token is not valid, has expired, or is not for this role"


def lets(name: str, users: list[str], taken: list[str], **options: Any) -> Role:
    return role(name, Conditions(impersonate=Impersonate(users=users, roles=taken)), **options)


async def put(kit: Kit, *resources: Any) -> None:
    for resource in resources:
        await kit.admin.call(PutResource(resource=resource, mode="upsert"))


async def sign(kit: Kit, client: RpcClient, user: str, **fields: Any) -> Output:
    tls_key = auth_kit.new_tls_key()
    keys = {"ssh_public_key": auth_kit.new_ssh_key().public_line, "tls_public_key": tls_key.public_pem}
    return Output(kit, tls_key, await client.call(SignUserCerts(user=user, **(keys | fields))))


async def shown(copy: Machine) -> None:
    """A certificate that was renewed before is shown again: with the lock its connection may go at once, and
    whoever comes back reads why."""
    with pytest.raises(AccessError, match=r"a copy of it is in use|connection"):
        await copy.renew()
    with pytest.raises(DeniedError, match="a copy of its certificate was used"):
        await copy.renew()


async def is_out(client: RpcClient) -> bool:
    """Whether the Auth Service answers this one nothing any more."""
    try:
        await listed(client, "node")
    except AccessError:
        return True
    return False


# A35: a stolen copy.


@pytest.mark.parametrize("thief_first", [True, False])
def test_a35_an_old_generation_locks_both_copies(short_tmp: Path, thief_first: bool) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            original = await machine(kit, "deployer")
            bystander = await join(kit, (await add_instance(kit)).token)
            copy = Machine(kit, original.ssh_key, original.tls_key, original.made)
            first, second = (copy, original) if thief_first else (original, copy)
            ahead = await first.renew()
            output = await ahead.take_on("deployer")
            await shown(second)
            (lock,) = await listed(kit.admin, "lock")
            assert isinstance(lock, Lock)
            assert lock.spec.target == LockTarget(bot_instance_id=original.id)
            for client in (ahead.client, second.client, output.client):
                assert await is_out(client)
            with pytest.raises(AccessError, match="locked"):
                await ahead.renew()
            # Services see the lock as well, and no other machine is hit.
            now = kit.clock.now()
            assert matching_lock([lock], Interaction(output.identity()), now) is lock
            assert matching_lock([lock], Interaction(bystander.identity()), now) is None
            await bystander.renew()
            (told,) = await events(kit, "cert.generation_mismatch")
            assert (told["code"], told["user"]) == ("TCB00W", "bot-ci")
            assert told["bot_instance_id"] == original.id
            assert [e["code"] for e in await events(kit, "lock.created")] == ["TLK00I"]
            # With the lock away the old copy is as wrong as before.
            await kit.admin.call(DeleteResource(kind="lock", name=lock.name))
            await shown(second)
            assert len(await listed(kit.admin, "lock")) == 1

    run(main)


def test_a35_many_at_once_with_one_certificate_have_one_winner_and_are_locked(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer")
            clients = [one.client for _ in range(6)]
            outcomes = await asyncio.gather(
                *(client.call(RenewBotCerts(**new_keys())) for client in clients), return_exceptions=True
            )
            won = [o for o in outcomes if not isinstance(o, BaseException)]
            assert len(won) <= 1, "the winner's answer may go with its connection"
            assert all(isinstance(o, AccessError) for o in outcomes if isinstance(o, BaseException))
            (instance,) = await listed(kit.admin, "bot_instance")
            assert isinstance(instance, BotInstance)
            told = [proof.generation for proof in instance.status.latest_authentications]
            assert told == [1, 2], "counted in the store, once"
            assert len(await listed(kit.admin, "lock")) == 1
            assert await is_out(one.client)

    run(main)


def test_a35_no_other_call_renews_a_machine(short_tmp: Path) -> None:
    """A renewal that is not counted would let a copy live on unseen."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer")
            output = await one.take_on("deployer")
            person = kit.as_user(await kit.user("mira"))
            for client in (one.client, output.client):
                with pytest.raises(DeniedError):
                    await client.call(ReissueUserCerts(**new_keys()))
            for client in (output.client, person):
                with pytest.raises(DeniedError, match="only a machine"):
                    await client.call(RenewBotCerts(**new_keys()))
            (instance,) = await listed(kit.admin, "bot_instance")
            assert isinstance(instance, BotInstance)
            assert len(instance.status.latest_authentications) == 1

    run(main)


def test_a35_the_count_survives_a_restart(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit)
            await one.renew()
        async with auth(short_tmp) as kit:
            again = Machine(kit, one.ssh_key, one.tls_key, one.made)
            await shown(again)

    run(main)


# A36: taking on what one may not.


def test_a36_a_bot_asks_for_roles_outside_its_list(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer")
            none = await machine(kit, bot="idle")
            texts = set()
            for wanted in (["editor"], ["deployer", "editor"], ["bot-ci"], ["not-there"], ["*"]):
                with pytest.raises(DeniedError, match="access denied to impersonate roles") as caught:
                    await one.take_on(*wanted)
                texts.add(str(caught.value).replace(", ".join(wanted), "X"))
            assert len(texts) == 1, "not allowed and not there are told alike"
            told = await events(kit, "auth")
            assert len(told) == 5, "one event for each"
            assert {(e["code"], e["user"], e["bot_instance_id"]) for e in told} == {
                ("T3007W", "bot-ci", one.id)
            }
            with pytest.raises(DeniedError):
                await none.take_on("deployer")
            with pytest.raises(DeniedError):
                await none.take_on()

    run(main)


def test_a36_a_bot_takes_on_no_user_and_nobody_takes_on_a_bot(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one = await machine(kit, "deployer", "access")
            await kit.admin.call(CreateUser(name="jenkins", roles=["access"]))
            with pytest.raises(DeniedError, match="impersonate user"):
                await sign(kit, one.client, "jenkins")
            everybody = lets("everybody", ["*"], ["*"])
            await put(kit, everybody)
            mira = kit.as_user(await kit.user("mira", "everybody"))
            await sign(kit, mira, "jenkins")
            for name in ("bot-ci", "not-there", "mira"):
                with pytest.raises(DeniedError, match="access denied to impersonate user"):
                    await sign(kit, mira, name)
            with pytest.raises(InputError, match="machine"):
                await sign(kit, kit.admin, "bot-ci")
            with pytest.raises(DeniedError, match="invalid username"):
                await kit.nobody().call(Login(user="bot-ci", password="x" * 12, otp="123456", **new_keys()))
            with pytest.raises(DeniedError):
                await take_on(kit, mira, "bot-ci")

    run(main)


def test_a36_a_chain_of_two_is_refused(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await roles(kit, "deployer")
            await put(kit, lets("first", ["*"], ["*"]), lets("roles", [], ["*"]))
            await kit.admin.call(CreateUser(name="middle", roles=["first", "roles"]))
            await kit.admin.call(CreateUser(name="jenkins", roles=["access"]))
            mira = kit.as_user(await kit.user("mira", "first", "roles"))
            bot = await machine(kit, bot="ci")
            await put(kit, bot_with(await bot_of(kit, "ci"), "first", "roles"))
            taken = [
                await sign(kit, mira, "middle"),
                await take_on(kit, mira, "first", "roles"),
                await bot.take_on("first", "roles"),
            ]
            for output in taken:
                with pytest.raises(DeniedError, match="access denied to impersonate"):
                    await sign(kit, output.client, "jenkins")
                with pytest.raises(DeniedError, match="access denied to impersonate"):
                    await take_on(kit, output.client, "deployer")

    run(main)


def test_a36_a_machine_asks_for_no_access(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            asks = Conditions(request=RequestConditions(roles=["*"]))
            await put(kit, role("asks", asks))
            one = await machine(kit, "deployer")
            await put(kit, bot_with(await bot_of(kit, "ci"), "asks"))
            for client in (one.client, (await one.take_on("asks")).client):
                with pytest.raises(DeniedError, match="neither makes nor reviews"):
                    await client.call(CreateAccessRequest(roles=["deployer"]))

    run(main)


async def bot_of(kit: Kit, name: str) -> Bot:
    found = (await kit.admin.call(GetResource(kind="bot", name=name))).resource
    assert isinstance(found, Bot)
    return found


def bot_with(bot: Bot, *names: str) -> Bot:
    return msgspec.structs.replace(bot, spec=msgspec.structs.replace(bot.spec, roles=list(names)))


def test_a36_locked_users_and_denied_ones_are_not_taken_on(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            rule = Rule(resources=["user"], verbs=["use"], where='resource.metadata.name == "root"')
            no = Role(metadata=Metadata(name="no"), spec=RoleSpec(deny=Conditions(rules=[rule])))
            await put(kit, lets("all", ["*"], ["*"]), no)
            for name in ("root", "locked", "free"):
                await kit.admin.call(CreateUser(name=name, roles=["access"]))
            await put(
                kit,
                Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="locked"))),
            )
            mira = kit.as_user(await kit.user("mira", "all", "no"))
            assert (await sign(kit, mira, "free")).identity().name == "free"
            for name in ("root", "locked"):
                with pytest.raises(DeniedError):
                    await sign(kit, mira, name)
            gone = (await kit.admin.call(GetResource(kind="user", name="free"))).resource
            assert isinstance(gone, User)

    run(main)


# A34: restrictions on the way through an impersonation.


def held(kit: Kit, user: auth_kit.User, names: tuple[str, ...], **restrictions: object) -> RpcClient:
    """A genuine certificate of a user, with restrictions."""
    now = kit.clock.now()
    fields = {
        "user": user.name,
        "cluster": "alpha.example",
        "roles": names,
        "logins": ("root",),
        "valid_after": now - 60,
        "valid_before": now + 600,
    }
    spec = msgspec.convert({**fields, **restrictions}, UserCertSpec)
    cert = x509.sign_user_tls(kit.service.authorities.user_tls, spec, user.tls_key.public_pem)
    return kit.client(cert, user.tls_key.private_pem)


RESTRICTIONS: dict[str, object] = {
    "source_addr": "127.0.0.1",
    "mfa_device": "11111111-2222-4333-8444-555555555555",
    "device_id": "22222222-2222-4333-8444-555555555555",
    "device_asset_tag": "X1",
}


def test_a34_what_is_taken_on_keeps_every_restriction(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await put(kit, lets("all", ["*"], ["*"]), lets("roles", [], ["access"]))
            await kit.admin.call(CreateUser(name="jenkins", roles=["access"], traits={"logins": ["deploy"]}))
            user = await kit.user("mira", "all", "roles", login=False)
            for restriction in ({}, RESTRICTIONS):
                client = held(kit, user, ("all", "roles"), **restriction)
                signed = await sign(kit, client, "jenkins", ttl_s=24 * 3600)
                for output in (signed, await take_on(kit, client, "access", ttl_s=24 * 3600)):
                    who = output.identity()
                    assert who.expires_at <= kit.clock.now() + 600
                    assert who.impersonator == "mira"
                    for name in RESTRICTIONS:
                        assert getattr(who, name) == restriction.get(name, type(getattr(who, name))()), name
                    ssh = sshcert.verify_user_cert(
                        sshcert.line_to_blob(output.certs.ssh_cert),
                        trust=kit.service.authorities.trust,
                        login=None,
                        source_addr="127.0.0.1",
                        now=kit.clock.now(),
                    )
                    assert (ssh.source_addr, ssh.impersonator) == (who.source_addr, "mira")
                    assert ssh.device_id == who.device_id

    run(main)


@pytest.mark.parametrize(
    "restriction",
    [
        {"disallow_reissue": True},
        {"allowed_resources": ("/alpha.example/node/x",)},
        {"active_requests": ("33333333-2222-4333-8444-555555555555",)},
        {"impersonator": "mira"},
        {"valid_before": "soon"},
    ],
)
def test_a34_a_restricted_certificate_takes_on_nothing(
    short_tmp: Path, restriction: dict[str, object]
) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await put(kit, lets("all", ["*"], ["*"]), lets("roles", [], ["access"]))
            await kit.admin.call(CreateUser(name="jenkins", roles=["access"]))
            user = await kit.user("mira", "all", "roles", login=False)
            soon = restriction == {"valid_before": "soon"}
            given = {"valid_before": kit.clock.now() + 30} if soon else restriction
            client = held(kit, user, ("all", "roles"), **given)
            if soon:
                # A connection that outlives its certificate.
                await listed(client, "node")
                kit.clock.ahead += 40
            for call in (
                SignUserCerts(user="jenkins", **new_keys()),
                ImpersonateRoles(roles=["access"], **new_keys()),
            ):
                with pytest.raises(DeniedError):
                    await client.call(call)  # type: ignore[arg-type]

    run(main)


def test_a34_a_reissue_does_not_shake_off_the_impersonator(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await put(kit, lets("all", ["*"], ["*"]))
            await kit.admin.call(CreateUser(name="jenkins", roles=["access"]))
            mira = kit.as_user(await kit.user("mira", "all"))
            output = await sign(kit, mira, "jenkins")
            certs: UserCerts = await output.client.call(
                ReissueUserCerts(
                    ssh_public_key=auth_kit.new_ssh_key().public_line,
                    tls_public_key=output.tls_key.public_pem,
                    ttl_s=9000,
                )
            )
            again = Output(kit, output.tls_key, certs)
            assert again.identity().impersonator == "mira"
            assert again.identity().expires_at <= output.identity().expires_at
            # Whoever locks out or removes the person does so wherever they are.
            lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="mira")))
            await put(kit, lock)
            assert await is_out(again.client)
            await kit.admin.call(DeleteResource(kind="lock", name="l"))
            assert not await is_out(again.client)
            await kit.admin.call(DeleteResource(kind="user", name="mira"))
            assert await is_out(again.client)

    run(main)


def test_a34_no_second_factor_is_gained_by_taking_on_somebody(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await put(kit, lets("all", ["*"], ["*"], require_session_mfa=True))
            await kit.admin.call(CreateUser(name="jenkins", roles=["access"]))
            user = await kit.user("mira", "all", login=False)
            with pytest.raises(DeniedError):
                await sign(kit, held(kit, user, ("all",)), "jenkins")
            got = await sign(kit, held(kit, user, ("all",), mfa_device="d"), "jenkins")
            assert got.identity().mfa_device == "d"

    run(main)


def test_a34_a_role_that_pins_pins_what_is_taken_on(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await roles(kit, "pinned", pin_source_ip=True)
            one = await join(kit, (await add_bot(kit, "ci", "pinned")).token)
            output = await one.take_on("pinned")
            assert output.identity().source_addr == "127.0.0.1"
            stolen = kit.client(output.certs.tls_cert, output.tls_key.private_pem, source="127.0.0.2")
            with pytest.raises(AccessError):
                await listed(stolen, "node")

    run(main)


# A37: tokens of bots.

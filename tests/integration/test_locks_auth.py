"""Locks at the Auth Service: certificates, joins, calls, what may be stored, and what the audit log says."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.common.access.locks import Interaction, matching_lock
from pkgs.common.api.join import RenewHostCerts
from pkgs.common.api.login import ReissueUserCerts, SignUserCerts
from pkgs.common.api.resources import CreateToken, DeleteResource, GetResource, Heartbeat, PutResource
from pkgs.common.api.system import GetClusterStatus
from pkgs.common.errors import AlreadyExistsError, DeniedError, InputError, UnavailableError
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.pki.sshcert import line_to_blob, verify_user_cert
from pkgs.common.pki.x509 import sign_user_tls
from pkgs.common.resources.kinds import (
    AccessRequest,
    BotInstance,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    ServerSpec,
)
from pkgs.common.resources.kinds.machines import BotInstanceSpec
from pkgs.common.resources.kinds.requests import AccessRequestSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Impersonate, Rule
from pkgs.common.rpc.client import RpcClient
from tests.harness.wait import until
from tests.integration.auth_kit import Kit, auth, events, new_keys, role, run

SERVER = "11111111-2222-4333-8444-555555555555"
CARRIED: dict[str, tuple[dict[str, Any], str]] = {
    "user": ({}, "mira"),
    "role": ({}, "access"),
    "mfa_device": ({"mfa_device": "factor-1"}, "factor-1"),
    "device": ({"device_id": "laptop-1"}, "laptop-1"),
    "access_request": ({"active_requests": ("r-0", "r-1")}, "r-1"),
    "bot_instance_id": ({"bot_name": "b", "bot_instance_id": "i-1"}, "i-1"),
    "join_token": ({"bot_name": "b", "bot_instance_id": "i-1", "join_token": "t-1"}, "t-1"),
}
"""By target: what a user's certificate says, and the value of the lock. What is not here (login, server_id,
the desktops) is no part of a call: those locks leave calls alone."""
NOT_CARRIED = {
    "login": "root", "server_id": SERVER, "windows_desktop": "desk", "linux_desktop": "desk"
}  # fmt: skip


async def put_lock(kit: Kit, message: str = "come to the desk", **target: str) -> Lock:
    lock = Lock(metadata=Metadata(name=""), spec=LockSpec(target=LockTarget(**target), message=message))
    got = await kit.admin.call(PutResource(resource=lock, mode="create"))
    assert isinstance(got.resource, Lock)
    return got.resource


def holder(kit: Kit, **facts: Any) -> RpcClient:
    """A client with mira's certificate, which says what one of our own devices or bots would have in it."""
    key, now = new_tls_key(), kit.clock.now()
    spec = UserCertSpec(
        user="mira",
        cluster="alpha.example",
        roles=("access",),
        logins=("root",),
        valid_after=now - 60,
        valid_before=now + 3600,
        **facts,
    )
    return kit.client(sign_user_tls(kit.service.authorities.user_tls, spec, key.public_pem), key.private_pem)


async def with_instance(kit: Kit, facts: dict[str, Any]) -> None:
    """A machine's certificate counts for as long as its instance is known."""
    if "bot_instance_id" in facts:
        bot, name = facts["bot_name"], facts["bot_instance_id"]
        spec = BotInstanceSpec(bot_name=bot, instance_id=name)
        await kit.service.store.create(BotInstance(metadata=Metadata(name=name), sub_kind=bot, spec=spec))


async def with_requests(kit: Kit, facts: dict[str, Any]) -> None:
    """An access request counts for as long as it is approved."""
    ends = datetime.fromtimestamp(int(kit.clock.now()) + 7200, UTC)
    for name in facts.get("active_requests", ()):
        spec = AccessRequestSpec(user="mira", roles=["access"], state="APPROVED", created=ends,
                                 session_ttl=ends + timedelta(hours=1), max_duration=ends)  # fmt: skip
        await kit.service.store.create(AccessRequest(metadata=Metadata(name=name, expires=ends), spec=spec))


async def refused(call: Callable[[], Any], *texts: str) -> None:
    """Refused with the text of the lock; a connection that was just cut is dialled anew first."""

    async def told() -> bool:
        try:
            await call()
        except UnavailableError:
            return False
        except DeniedError as error:
            assert all(text in error.message for text in texts), error.message
            return True
        raise AssertionError("was allowed")

    await until(told)


@pytest.mark.parametrize("target", CARRIED)
def test_a14_a_lock_refuses_every_call_and_every_renewal(short_tmp: Path, target: str) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.user("mira", "access", login=False)
            facts, value = CARRIED[target]
            await with_instance(kit, facts)
            await with_requests(kit, facts)
            before, other = holder(kit, **facts), await kit.user("otto", "editor")
            await before.call(GetClusterStatus())
            await before.call(ReissueUserCerts(**new_keys(), ttl_s=600))
            lock = await put_lock(kit, **{target: value})
            for client in (before, holder(kit, **facts)):
                await refused(lambda c=client: c.call(GetClusterStatus()), "come to the desk", value)
                await refused(lambda c=client: c.call(ReissueUserCerts(**new_keys(), ttl_s=600)), value)
            await kit.as_user(other).call(GetClusterStatus())
            await kit.admin.call(DeleteResource(kind="lock", name=lock.name))
            await holder(kit, **facts).call(GetClusterStatus())

    run(main)


@pytest.mark.parametrize("target", CARRIED)
def test_a34_a_renewal_does_not_shake_a_lock_off(short_tmp: Path, target: str) -> None:
    """What a lock can name stays in the renewed certificate, in both its forms."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.user("mira", "access", login=False)
            facts, value = CARRIED[target]
            await with_instance(kit, facts)
            await with_requests(kit, facts)
            ssh_key, tls_key = new_ssh_key(), new_tls_key()
            certs = await holder(kit, **facts).call(
                ReissueUserCerts(
                    ssh_public_key=ssh_key.public_line, tls_public_key=tls_key.public_pem, ttl_s=600
                )
            )
            lock = await put_lock(kit, **{target: value})
            renewed = kit.client(certs.tls_cert, tls_key.private_pem)
            await refused(lambda: renewed.call(GetClusterStatus()), value)
            seen = verify_user_cert(
                line_to_blob(certs.ssh_cert),
                trust=kit.service.authorities.trust,
                login=None,
                source_addr="127.0.0.1",
                now=kit.clock.now(),
            )
            assert matching_lock((lock,), Interaction(seen), kit.clock.now()) == lock

    run(main)


@pytest.mark.parametrize("target", ["user", "role", "mfa_device"])
def test_a14_a_lock_refuses_the_login_after_it_was_proven(short_tmp: Path, target: str) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", "access")
            (device,) = (
                e["mfa_device"]["mfa_device_uuid"]  # type: ignore[index]
                for e in await events(kit, "user.login")
            )
            value = {"user": "mira", "role": "access", "mfa_device": str(device)}[target]
            await put_lock(kit, **{target: value})
            with pytest.raises(DeniedError, match="come to the desk"):
                await kit.login(user)
            failed = (await events(kit, "user.login"))[-1]
            assert failed["success"] is False
            with pytest.raises(DeniedError, match="invalid username"):
                await kit.login(user, password="wrong")

    run(main)


@pytest.mark.parametrize(
    ("target", "value", "by_signer", "by_admin"),
    [
        ("user", "mira", "refused", "refused"),
        ("role", "access", "refused", "refused"),
        ("user", "signer", "refused", "signs"),
        ("role", "signing", "refused", "signs"),
        ("login", "root", "signs", "signs"),
    ],
)
def test_a14_signing_for_others(
    short_tmp: Path, target: str, value: str, by_signer: str, by_admin: str
) -> None:
    """`tctl auth sign`: who is locked signs for nobody, and nobody signs for who is locked."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.user("mira", "access", login=False)
            signing = Conditions(impersonate=Impersonate(users=["mira"], roles=["access"]))
            await kit.admin.call(PutResource(resource=role("signing", signing)))
            signer = await kit.user("signer", "signing")
            await put_lock(kit, **{target: value})
            request = SignUserCerts(user="mira", ttl_s=600, **new_keys())
            for client, outcome in ((kit.as_user(signer), by_signer), (kit.admin, by_admin)):
                if outcome == "refused":
                    await refused(lambda c=client: c.call(request), "come to the desk", value)
                else:
                    assert (await client.call(request)).user == "mira"

    run(main)


@pytest.mark.parametrize("target", NOT_CARRIED)
def test_locks_on_what_is_no_part_of_a_call_leave_it_alone(short_tmp: Path, target: str) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", "access")
            await put_lock(kit, **{target: NOT_CARRIED[target]})
            await kit.as_user(user).call(GetClusterStatus())
            await kit.login(user)

    run(main)


def test_a14_a_locked_server_neither_joins_nor_renews_nor_beats(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            await put_lock(kit, server_id=host.id)
            with pytest.raises(DeniedError, match="come to the desk"):
                await kit.join(host_id=host.id)
            with pytest.raises(DeniedError, match="come to the desk"):
                await kit.join(SystemRole.PROXY, host_id=host.id)
            client = kit.as_host(host)
            node = Node(metadata=Metadata(name=host.id), spec=ServerSpec(hostname="node-1"))
            await refused(lambda: client.call(Heartbeat(server=node)), "ServerID")
            await refused(lambda: client.call(RenewHostCerts(node_name="node-1", **new_keys())), "ServerID")
            with pytest.raises(DeniedError) as stranger:
                await kit.join(client=kit.nobody(), host_id=host.id, token="guess")
            assert "desk" not in stranger.value.message
            failures = await events(kit, "instance.join")
            assert "lock" in str(next(e for e in failures if not e["success"])["error"])

    run(main)


def test_a14_a_locked_token_lets_nobody_join(short_tmp: Path) -> None:
    """The lock names what no token is called yet: a secret's name is not to be put into a lock."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await put_lock(kit, join_token="leaked-name")
            await kit.admin.call(CreateToken(roles=["node"], ttl_s=600, value="leaked-name"))
            with pytest.raises(DeniedError, match="come to the desk"):
                await kit.join(client=kit.nobody(), token="leaked-name")
            assert await kit.join(client=kit.nobody())
            await kit.admin.call(CreateToken(roles=["node"], ttl_s=600, value="secret-name"))
            with pytest.raises(InputError, match="its secret"):
                await put_lock(kit, join_token="secret-name")

    run(main)


def test_what_a_lock_may_look_like(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            with pytest.raises(InputError, match="needs a target"):
                await put_lock(kit)
            with pytest.raises(InputError, match="no server's id"):
                await put_lock(kit, server_id="node-1")
            with pytest.raises(InputError, match="longer than"):
                await put_lock(kit, message="x" * 1001, user="mira")
            lock = await put_lock(kit, user="mira", role="access")
            assert uuid.UUID(lock.name)
            assert lock.spec.created_at is not None
            assert lock.spec.created_by
            with pytest.raises(AlreadyExistsError):
                await kit.admin.call(PutResource(resource=lock, mode="create"))

    run(main)


def test_a_lock_ends_when_its_specification_says_so(short_tmp: Path) -> None:
    """Whatever an edited document still has in its metadata."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            now = int(kit.clock.now())
            soon, late = (datetime.fromtimestamp(now + s, UTC) for s in (60, 3600))
            spec = LockSpec(target=LockTarget(user="mira"), expires=soon)
            lock = Lock(metadata=Metadata(name="l"), spec=spec)

            async def stored(change: Lock) -> tuple[datetime | None, datetime | None]:
                got = (await kit.admin.call(PutResource(resource=change, mode="upsert"))).resource
                assert isinstance(got, Lock)
                return got.spec.expires, got.metadata.expires

            assert await stored(lock) == (soon, soon)
            kept = (await kit.admin.call(GetResource(kind="lock", name="l"))).resource
            assert isinstance(kept, Lock)
            # As somebody has it who means to overwrite whatever is there by then.
            kept = msgspec.structs.replace(kept, metadata=msgspec.structs.replace(kept.metadata, revision=""))

            def edited(expires: datetime | None) -> Lock:
                return msgspec.structs.replace(kept, spec=msgspec.structs.replace(kept.spec, expires=expires))

            assert await stored(edited(late)) == (late, late)
            assert await stored(lock) == (soon, soon)
            assert await stored(edited(None)) == (None, None)
            only = Lock(metadata=Metadata(name="m", expires=soon), spec=LockSpec(target=LockTarget(role="r")))
            assert await stored(only) == (soon, soon)

    run(main)


def test_an_expired_lock_lets_in_again(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", "access")
            ends = datetime.fromtimestamp(kit.clock.now() + 600, UTC)
            lock = Lock(
                metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="mira"), expires=ends)
            )
            await kit.admin.call(PutResource(resource=lock))
            await refused(lambda: kit.as_user(user).call(GetClusterStatus()), "mira")
            kit.clock.ahead += 601
            await kit.as_user(user).call(GetClusterStatus())

    run(main)


def test_the_audit_log_tells_target_message_and_end(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            ends = datetime(2199, 1, 1, tzinfo=UTC)
            spec = LockSpec(target=LockTarget(user="mira", login="root"), message="lost laptop", expires=ends)
            await kit.admin.call(PutResource(resource=Lock(metadata=Metadata(name="l"), spec=spec)))
            await kit.admin.call(DeleteResource(kind="lock", name="l"))
            made, gone = await events(kit, "lock.created", "lock.deleted")
            assert (made["code"], gone["code"]) == ("TLK00I", "TLK01I")
            for event in (made, gone):
                assert event["target"] == {"user": "mira", "login": "root"}
                assert event["message"] == "lost laptop"
                assert str(event["expires"]).startswith("2199-01-01T00:00:00")
                assert event["name"] == "l"

    run(main)


def test_users_need_a_rule_to_lock(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            rules = Conditions(rules=[Rule(resources=["lock"], verbs=["create", "update"])])
            await kit.admin.call(PutResource(resource=role("locking", rules)))
            mira, warden = await kit.user("mira", "access"), await kit.user("warden", "locking")
            lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="mira")))
            with pytest.raises(DeniedError, match='on "lock"'):
                await kit.as_user(mira).call(PutResource(resource=lock))
            assert await events(kit, "lock.created") == []
            await kit.as_user(warden).call(PutResource(resource=lock))
            (made,) = await events(kit, "lock.created")
            assert made["user"] == "warden"
            await refused(lambda: kit.as_user(mira).call(GetClusterStatus()), "mira")

    run(main)

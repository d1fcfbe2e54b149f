"""Leases of connections at the Auth Service: counted for a user, held by agents, over by themselves."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pkgs.auth import limits
from pkgs.common.api.resources import PutResource
from pkgs.common.api.semaphores import AcquireLease, HeldLease, LeaseAnswer, ReleaseLeases, RenewLeases
from pkgs.common.errors import AccessError, DeniedError, InputError, LockedError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.sshcert import line_to_blob
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, User, auth, role, run


def asking(user: User, **fields: Any) -> AcquireLease:
    assert user.certs is not None
    values: dict[str, Any] = {
        "lease_id": str(uuid.uuid4()),
        "certificate": line_to_blob(user.certs.ssh_cert),
        "login": "root",
        "client_addr": "127.0.0.1",
        **fields,
    }
    return AcquireLease(**values)


async def limited(kit: Kit, most: int, *more: int) -> User:
    names = []
    for number, limit in enumerate((most, *more)):
        allow = Conditions(logins=["root"], node_labels={"*": "*"})
        name = f"limited-{number}"
        await kit.admin.call(PutResource(resource=role(name, allow, max_connections=limit)))
        names.append(name)
    return await kit.user("lia", *names)


async def agents(kit: Kit, count: int = 2) -> list[RpcClient]:
    return [kit.as_host(await kit.join()) for _ in range(count)]


def held(user: User, request: AcquireLease) -> HeldLease:
    return HeldLease(user=user.name, lease_id=request.lease_id)


def in_auth(body: Callable[[Kit], Awaitable[None]], folder: Path) -> None:
    async def main() -> None:
        async with auth(folder) as kit:
            await body(kit)

    run(main)


def test_connections_count_over_all_agents(short_tmp: Path) -> None:
    async def body(kit: Kit) -> None:
        user = await limited(kit, 2, 5)
        one, two = await agents(kit)
        first, second, third = (asking(user) for _ in range(3))
        assert await one.call(first) == LeaseAnswer(granted=True, most=2, ttl_s=limits.LEASE_TTL_S)
        assert (await two.call(second)).granted
        assert (await two.call(second)).granted, "asked again, it is the same place"
        assert await one.call(third) == LeaseAnswer(granted=False, most=2, ttl_s=limits.LEASE_TTL_S)
        await two.call(ReleaseLeases(leases=[held(user, second)]))
        assert (await one.call(third)).granted
        await two.call(ReleaseLeases(leases=[held(user, second)]))  # given back already
        other = await kit.user("noa", "limited-0")
        assert (await one.call(asking(other))).granted

    in_auth(body, short_tmp)


def test_who_asks_at_once_does_not_get_more(short_tmp: Path) -> None:
    async def body(kit: Kit) -> None:
        user = await limited(kit, 3)
        clients = await agents(kit, 4)
        answers = await asyncio.gather(*(clients[n % 4].call(asking(user)) for n in range(12)))
        assert sum(answer.granted for answer in answers) == 3

    in_auth(body, short_tmp)


def test_a_lease_lives_as_long_as_it_is_renewed(short_tmp: Path) -> None:
    async def body(kit: Kit) -> None:
        user = await limited(kit, 1)
        one, two = await agents(kit)
        first = asking(user)
        await one.call(first)
        for _ in range(3):
            kit.clock.ahead += limits.LEASE_TTL_S * 0.6
            assert (await one.call(RenewLeases(leases=[held(user, first)]))).lost == []
        assert not (await two.call(asking(user))).granted
        kit.clock.ahead += limits.LEASE_TTL_S + 1
        assert (await two.call(asking(user))).granted
        assert (await one.call(RenewLeases(leases=[held(user, first)]))).lost == [first.lease_id]
        assert not (await one.call(first)).granted

    in_auth(body, short_tmp)


def test_leases_outlive_the_service(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await limited(kit, 1)
            host = await kit.join()
            assert (await kit.as_host(host).call(asking(user))).granted
        async with auth(short_tmp) as kit:
            assert not (await kit.as_host(host).call(asking(user))).granted

    run(main)


def test_no_limit_needs_no_lease(short_tmp: Path) -> None:
    async def body(kit: Kit) -> None:
        user = await kit.user("una")
        (one,) = await agents(kit, 1)
        assert await one.call(asking(user)) == LeaseAnswer(granted=True, most=0)
        assert await kit.service.backend.all("/semaphore/") == []

    in_auth(body, short_tmp)


class TestAttacks:
    def test_an_agent_touches_no_lease_of_another(self, short_tmp: Path) -> None:
        async def body(kit: Kit) -> None:
            user = await limited(kit, 1)
            one, two = await agents(kit)
            first = asking(user)
            await one.call(first)
            assert (await two.call(RenewLeases(leases=[held(user, first)]))).lost == [first.lease_id]
            await two.call(ReleaseLeases(leases=[held(user, first)]))
            assert not (await two.call(first)).granted
            assert not (await two.call(asking(user))).granted
            assert (await one.call(RenewLeases(leases=[held(user, first)]))).lost == []

        in_auth(body, short_tmp)

    def test_an_agent_asks_for_nobody_it_has_not_seen(self, short_tmp: Path) -> None:
        """A lease needs the user's own certificate, genuine, for this login and this moment."""

        async def body(kit: Kit) -> None:
            user = await limited(kit, 1)
            assert user.certs is not None
            (one,) = await agents(kit, 1)
            host = line_to_blob((await kit.join()).certs.ssh_cert)
            blob = line_to_blob(user.certs.ssh_cert)
            for wrong in (
                asking(user, certificate=b""),
                asking(user, certificate=blob[:-1] + bytes([blob[-1] ^ 1])),
                asking(user, certificate=host),
                asking(user, login="admin"),
                asking(user, login="-x"),
            ):
                with pytest.raises(AccessError) as refused:
                    await one.call(wrong)
                assert refused.value.code in ("denied", "untrusted", "bad-input")
            with pytest.raises(InputError):
                await one.call(asking(user, lease_id="../gate"))
            kit.clock.ahead += 31 * 3600
            with pytest.raises(AccessError):
                await one.call(asking(user))
            assert await kit.service.backend.all("/semaphore/") == []

        in_auth(body, short_tmp)

    def test_a14_a_locked_user_gets_no_place(self, short_tmp: Path) -> None:
        async def body(kit: Kit) -> None:
            user = await limited(kit, 1)
            (one,) = await agents(kit, 1)
            lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user=user.name)))
            await kit.admin.call(PutResource(resource=lock))
            with pytest.raises(LockedError):
                await one.call(asking(user))

        in_auth(body, short_tmp)

    def test_only_servers_hold_leases(self, short_tmp: Path) -> None:
        async def body(kit: Kit) -> None:
            user = await limited(kit, 1)
            proxy = kit.as_host(await kit.join(SystemRole.PROXY))
            for client in (proxy, kit.as_user(user), kit.admin, kit.nobody()):
                with pytest.raises(DeniedError):
                    await client.call(asking(user))
            (one,) = await agents(kit, 1)
            many = [HeldLease(user="a", lease_id=str(uuid.uuid4())) for _ in range(201)]
            with pytest.raises(InputError):
                await one.call(RenewLeases(leases=many))

        in_auth(body, short_tmp)

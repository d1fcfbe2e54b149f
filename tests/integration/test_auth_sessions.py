"""Live sessions at the Auth Service: who sees which, who ends one, who may tell of one."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from pkgs.common.api.audit import SearchEvents
from pkgs.common.api.resources import PutResource
from pkgs.common.api.sessions import KillSession, ListSessions, ReportSessions, SessionOrders, SessionTracker
from pkgs.common.errors import DeniedError, InputError, NotFoundError, UnavailableError
from pkgs.common.resources.role import Conditions, JoinPolicy, Rule
from tests.integration.auth_kit import Kit, auth, role, run


def tracker(owner: str, *roles: str, hostname: str = "db1") -> SessionTracker:
    return SessionTracker(
        session_id=str(uuid.uuid4()),
        state="running",
        created=1.0,
        host_user=owner,
        owner_cluster="alpha.example",
        host_roles=list(roles),
        login="root",
        cluster_name="alpha.example",
        target_hostname=hostname,
    )


async def seen(client: Any, **fields: str) -> list[str]:
    return [s.session_id async for part in client.stream(ListSessions(**fields)) for s in part.sessions]


async def prepare(kit: Kit) -> None:
    join = JoinPolicy(name="j", roles=["prod"], kinds=["ssh"], modes=["observer"])
    for made in (
        role("joiner", Conditions(join_sessions=[join])),
        role("lister", Conditions(rules=[Rule(resources=["session_tracker"], verbs=["list"])])),
        role(
            "own-ender",
            Conditions(
                rules=[
                    Rule(
                        resources=["session_tracker"],
                        verbs=["delete"],
                        where="equals(session_tracker.server_hostname, `db1`)",
                    )
                ]
            ),
        ),
        role("plain", Conditions()),
    ):
        await kit.admin.call(PutResource(resource=made))


def test_own_sessions_joinable_ones_and_those_of_a_rule_are_listed(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await prepare(kit)
            host = kit.as_host(await kit.join())
            prod, dev = tracker("alice", "prod"), tracker("bert", "dev")
            await host.call(ReportSessions(sessions=[prod, dev]))
            both = {prod.session_id, dev.session_id}
            for name, roles, expected in (
                ("alice", "plain", {prod.session_id}),
                ("joe", "joiner", {prod.session_id}),
                ("lisa", "lister", both),
                ("nina", "plain", set()),
            ):
                user = await kit.user(name, roles)
                assert set(await seen(kit.as_user(user))) == expected, name
            assert set(await seen(kit.admin)) == both
            assert await seen(kit.admin, session_id=dev.session_id) == [dev.session_id]
            assert await seen(kit.admin, kind="k8s") == []
            await host.call(ReportSessions(sessions=[]))
            assert await seen(kit.admin) == []

    run(main)


def test_a_session_is_ended_by_those_with_the_verb_and_audited_first(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await prepare(kit)
            host = kit.as_host(await kit.join())
            mine, other = tracker("alice"), tracker("alice", hostname="web1")
            await host.call(ReportSessions(sessions=[mine, other]))
            kill = KillSession(session_id=mine.session_id, reason="maintenance")
            alice = await kit.user("alice", "plain")
            with pytest.raises(DeniedError):
                await kit.as_user(alice).call(kill)  # one's own neither
            ender = await kit.user("ed", "own-ender")
            with pytest.raises(UnavailableError):
                await kit.as_user(ender).call(kill)
            orders = host.stream(SessionOrders())
            assert (await anext(orders)).session_id == ""
            with pytest.raises(NotFoundError):
                await kit.as_user(ender).call(KillSession(session_id=other.session_id))
            with pytest.raises(NotFoundError):
                await kit.as_user(ender).call(KillSession(session_id=str(uuid.uuid4())))
            with pytest.raises(InputError):  # attack A60
                await kit.as_user(ender).call(KillSession(session_id="../../x"))
            await kit.as_user(ender).call(kill)
            async with asyncio.timeout(10):
                order = await anext(orders)
            assert (order.session_id, order.reason, order.by) == (mine.session_id, "maintenance", "ed")
            request = SearchEvents(types=["session.terminate"])
            (found,) = [e async for part in kit.admin.stream(request) for e in part.events]
            assert found.event.fields["sid"] == mine.session_id
            assert found.event.fields["updated_by"] == "ed"

    run(main)


def test_a39_an_agent_tells_of_its_own_sessions_only(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            one, two = kit.as_host(await kit.join()), kit.as_host(await kit.join())
            told = tracker("alice")
            await one.call(ReportSessions(sessions=[told]))
            with pytest.raises(DeniedError):
                await two.call(ReportSessions(sessions=[told]))
            await two.call(ReportSessions(sessions=[]))
            assert await seen(kit.admin) == [told.session_id]

    run(main)

"""Live sessions at the Auth Service: who sees which, who ends one, who may tell of one."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.common.api.audit import EmitEvents, SearchEvents
from pkgs.common.api.resources import PutResource
from pkgs.common.api.sessions import (
    PRESENCE_ANSWER_S,
    PRESENCE_EVERY_S,
    DetachSession,
    KillSession,
    ListSessions,
    ProvePresence,
    ReportSessions,
    SessionOrders,
    SessionTracker,
)
from pkgs.common.errors import DeniedError, InputError, NotFoundError, UnavailableError
from pkgs.common.events.codes import MFA_VALIDATE
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.role import Conditions, JoinPolicy, Rule
from tests.integration.auth_kit import Kit, auth, event, role, run, stored


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


STRICT_JOIN = JoinPolicy(name="j", roles=["*"], kinds=["ssh"], modes=["moderator"])


def test_a_moderator_shows_by_a_code_that_they_are_there(short_tmp: Path) -> None:
    """Used up, audited, and only then told to the server of that session, for that user."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            strict = role("strict", Conditions(join_sessions=[STRICT_JOIN]), require_session_mfa=True)
            watcher = role("watcher", Conditions(join_sessions=[STRICT_JOIN]))
            for made in (strict, watcher):
                await kit.admin.call(PutResource(resource=made))
            host = kit.as_host(await kit.join())
            told, other = tracker("alice", "watcher"), tracker("bert", "strict")
            await host.call(ReportSessions(sessions=[told, other]))
            mona, wanda = await kit.user("mona", "strict"), await kit.user("wanda", "watcher")
            client = kit.as_user(mona)

            async def proves(who: Any) -> dict[str, bool]:
                parts = [part async for part in kit.as_user(who).stream(ListSessions())]
                return {s.session_id: s.proves for part in parts for s in part.sessions}

            # By a role of theirs, or of the owner's; one that is gone could have demanded anything.
            assert await proves(mona) == {told.session_id: True, other.session_id: True}
            assert await proves(wanda) == {told.session_id: False, other.session_id: True}
            code = mona.code(kit.clock)
            with pytest.raises(UnavailableError):  # and the code is not used
                await client.call(ProvePresence(session_id=told.session_id, otp=code))
            orders = host.stream(SessionOrders())
            await anext(orders)
            proven = await client.call(ProvePresence(session_id=told.session_id, otp=code))
            assert proven.for_s == PRESENCE_EVERY_S + PRESENCE_ANSWER_S
            async with asyncio.timeout(10):
                order = await anext(orders)
            assert (order.session_id, order.what, order.by) == (told.session_id, "present", "mona")
            assert abs(order.at - kit.clock.now()) < 60
            (found,) = await stored(kit.admin, "mfa_auth_challenge.validate")
            facts = (found.code, found.fields["user"], found.fields["sid"])
            assert facts == ("T1016I", "mona", told.session_id)

    run(main)


def test_a51_what_shows_nobodys_presence(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            watcher = role("watcher", Conditions(join_sessions=[STRICT_JOIN]), require_session_mfa=True)
            for made in (watcher, role("plain", Conditions())):
                await kit.admin.call(PutResource(resource=made))
            # Certificates from before the clock is turned forward.
            host, proxy = kit.as_host(await kit.join()), await kit.join(SystemRole.PROXY)
            one, two = tracker("alice", "watcher"), tracker("alice", "watcher")
            await host.call(ReportSessions(sessions=[one, two]))
            orders = host.stream(SessionOrders())
            await anext(orders)
            mona, noor = await kit.user("mona", "watcher"), await kit.user("noor", "watcher")
            pia = await kit.user("pia", "plain")
            client = kit.as_user(mona)
            code = mona.code(kit.clock)
            await client.call(ProvePresence(session_id=one.session_id, otp=code))
            used = mona.code(kit.clock)
            await kit.login(mona, otp=used)
            for session_id, otp in (
                (one.session_id, code),  # replayed
                (two.session_id, code),  # for another session
                (one.session_id, used),  # of a login
                (one.session_id, noor.code(kit.clock)),  # of somebody else
                (one.session_id, ""),
            ):
                with pytest.raises(DeniedError, match="wrong, or was used"):
                    await client.call(ProvePresence(session_id=session_id, otp=otp))
            failed = [e for e in await stored(kit.admin, "mfa_auth_challenge.validate") if e.code == "T1016W"]
            assert len(failed) == 5
            # Enough wrong ones lock the user, as at login.
            with pytest.raises(DeniedError):
                await client.call(ProvePresence(session_id=one.session_id, otp=mona.code(kit.clock)))
            # Nor does who may not moderate, a session that is none, an agent, a proxy, or the administrator.
            for caller, session_id, kind in (
                (kit.as_user(pia), one.session_id, NotFoundError),
                (kit.as_user(noor), str(uuid.uuid4()), NotFoundError),
                (kit.as_user(noor), "../x", InputError),  # attack A60
                (host, one.session_id, DeniedError),
                (kit.as_host(proxy), one.session_id, DeniedError),
                (kit.admin, one.session_id, DeniedError),
            ):
                with pytest.raises(kind):
                    await caller.call(ProvePresence(session_id=session_id, otp="000000"))
            # And no agent may put it into the audit log.
            forged = event(kit, MFA_VALIDATE, user="mona", sid=one.session_id, success=True)
            with pytest.raises(InputError):
                await host.call(EmitEvents(events=[forged]))
            async with asyncio.timeout(10):
                assert (await anext(orders)).by == "mona"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await anext(orders)

    run(main)


def test_a_session_is_left_by_its_owner_alone(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await prepare(kit)
            host = kit.as_host(await kit.join())
            mine, waits, away = tracker("alice"), tracker("alice"), tracker("alice")
            waits = msgspec.structs.replace(waits, state="pending")
            away = msgspec.structs.replace(away, detached=True)
            await host.call(ReportSessions(sessions=[mine, waits, away]))
            alice, ender = await kit.user("alice", "plain"), await kit.user("ed", "own-ender")
            client = kit.as_user(alice)
            with pytest.raises(UnavailableError):
                await client.call(DetachSession(session_id=mine.session_id))
            orders = host.stream(SessionOrders())
            await anext(orders)
            for caller, sid, kind in (
                (kit.as_user(ender), mine.session_id, NotFoundError),
                (client, str(uuid.uuid4()), NotFoundError),
                (client, "../../x", InputError),  # attack A60
                (client, waits.session_id, InputError),
                (client, away.session_id, InputError),
                (kit.admin, mine.session_id, DeniedError),
                (host, mine.session_id, DeniedError),
            ):
                with pytest.raises(kind):
                    await caller.call(DetachSession(session_id=sid))
            await client.call(DetachSession(session_id=mine.session_id))
            async with asyncio.timeout(10):
                order = await anext(orders)
            assert (order.session_id, order.what, order.by) == (mine.session_id, "detach", "alice")

    run(main)

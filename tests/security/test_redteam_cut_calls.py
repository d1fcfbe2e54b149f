"""Callers who go, or whose time is over, while their call is carried out: nothing is changed unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pkgs.auth.backend.interface import Operation
from pkgs.common.api.accesslists import AddMember
from pkgs.common.api.bots import CreateBot
from pkgs.common.api.login import CreateUser
from pkgs.common.api.requests import SetAccessRequestState
from pkgs.common.api.resources import CreateToken, DeleteResource, PutResource
from pkgs.common.api.system import Ping
from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from tests.harness.wait import until
from tests.integration.auth_kit import Kit, auth, events, role, run
from tests.integration.lists_kit import access_list
from tests.integration.requests_kit import ask, setup


class Slow:
    """Storage whose writes are done while their answers are kept back."""

    def __init__(self, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written, self.go = asyncio.Event(), asyncio.Event()
        backend = kit.service.store.backend
        commit = backend.commit

        async def slow(operations: Sequence[Operation]) -> int:
            revision = await commit(operations)
            if any(operation.key.startswith("/resource/auth_server/") for operation in operations):
                return revision  # the service tells of itself when it likes
            self.written.set()
            await self.go.wait()
            return revision

        monkeypatch.setattr(backend, "commit", slow)


LOCK = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="olga")))
CHANGES = {
    "role.created": PutResource(resource=role("hidden", Conditions(logins=["root"]))),
    "lock.created": PutResource(resource=LOCK),
    "user.create": CreateUser(name="hidden", roles=["editor"]),
    "user.delete": DeleteResource(kind="user", name="olga"),
    "join_token.create": CreateToken(roles=["node"]),
    "bot.create": CreateBot(name="hidden", roles=["access"]),
    "access_list.member.create": AddMember(access_list="team", name="olga"),
    "access_request.update": None,
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("how", ["gone", "late"])
def test_a_change_is_audited_though_its_caller_does_not_wait(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, kind: str, how: str
) -> None:
    """Whoever hangs up at the right moment must not have changed something that the log does not know of."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            for name in ("olga", "lena"):
                await kit.admin.call(CreateUser(name=name, roles=["dev"]))
            await kit.admin.call(PutResource(resource=access_list("team", "dev", owners=("lena",))))
            request: Any = CHANGES[kind]
            if request is None:
                made = await ask(kit.admin, user="olga", roles=["dba"], reason="x")
                request = SetAccessRequestState(id=made.name, state="APPROVED")
            client = kit.as_user(await kit.user("mallory", "editor", "decider"))
            before = len(await events(kit, kind))
            slow = Slow(kit, monkeypatch)
            calling = asyncio.ensure_future(client.call(request, deadline_s=10 if how == "gone" else 0.2))
            await slow.written.wait()
            if how == "gone":
                await client.close()
            with pytest.raises(AccessError):
                await calling
            await until(lambda: not busy(kit))
            slow.go.set()
            async with asyncio.timeout(3):
                while True:
                    news = kit.service.audit_log.news()
                    if len(await events(kit, kind)) > before:
                        break
                    await news.wait()
            assert (await events(kit, kind))[-1]["updated_by"] == "mallory"

    run(main)


def test_a_change_at_the_end_of_the_service_is_audited(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            slow = Slow(kit, monkeypatch)
            finish = kit.service._whole.finish

            async def ending(timeout_s: float) -> None:
                slow.go.set()
                await finish(timeout_s)

            monkeypatch.setattr(kit.service._whole, "finish", ending)
            made = CHANGES["join_token.create"]
            calling = asyncio.ensure_future(kit.admin.call(made))
            await slow.written.wait()
        with pytest.raises(AccessError):
            await calling
        async with auth(short_tmp) as kit:
            assert len(await events(kit, "join_token.create")) == 1

    run(main)


def busy(kit: Kit) -> bool:
    """Whether the server thinks that somebody waits."""
    return any(session.busy for session in kit.service.rpc._sessions.values() if not session.caller.admin)


def test_a14_a_lock_holds_though_the_log_fails(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is locked while the disk of the audit log is full does not stay connected for it."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            olga = kit.as_user(await kit.user("olga", "access"))
            await olga.call(Ping())

            async def full(*_: object) -> None:
                raise UnavailableError("disk is full")

            monkeypatch.setattr(kit.service.journal, "write", full)
            with pytest.raises(UnavailableError):
                await kit.admin.call(PutResource(resource=LOCK))
            sessions = kit.service.rpc._sessions.values()
            await until(lambda: all(session.caller.admin for session in sessions))

    run(main)

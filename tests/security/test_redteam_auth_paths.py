"""The Auth Service's newer calls by side doors: what a deny refuses, what a race leaves, what numbers do."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from pkgs.common.api.access import ExplainAccess, Somebody
from pkgs.common.api.accesslists import AddMember, GetAccessList
from pkgs.common.api.audit import SearchEvents
from pkgs.common.api.recordings import ListRecordings
from pkgs.common.api.requests import CreateAccessRequest, ReviewAccessRequest, SetAccessRequestState
from pkgs.common.api.resources import DeleteResource, GetResource
from pkgs.common.errors import AccessError, DeniedError, NotFoundError
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule
from pkgs.common.rpc.calls import StreamRequest
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import auth, listed, role, run
from tests.integration.lists_kit import access_list, member, people, put
from tests.integration.requests_kit import ask, node, searched, setup


def denying(kind: str, *verbs: str, where: str = "") -> Role:
    rule = Rule(resources=[kind], verbs=list(verbs), where=where)
    return Role(metadata=Metadata(name="without"), spec=RoleSpec(deny=Conditions(rules=[rule])))


def test_a33_a_deny_rule_on_servers_holds_for_the_search_of_requests(short_tmp: Path) -> None:
    """A listing that is refused must not be had by asking what could be requested."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            for name in ("db1", "db2"):
                await node(kit, name, tier="db", name=name)
            await put(kit.admin, denying("node", "list"))
            mallory = kit.as_user(await kit.user("mallory", "searcher", "without"))
            with pytest.raises(DeniedError):
                await listed(mallory, "node")
            with pytest.raises(DeniedError, match='"list" on "node"'):
                await searched(mallory)
            one = denying("node", "read", where='equals(resource.metadata.labels["name"], "db1")')
            await put(kit.admin, one, "upsert")
            found: list[Any] = await searched(mallory)
            assert [server.spec.hostname for server in found] == ["db2"]

    run(main)


def test_a32_a_deny_rule_on_requests_holds_for_ones_own(short_tmp: Path) -> None:
    """One's own needs no rule, but a deny is one."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            await put(kit.admin, denying("access_request", "create"))
            mallory = kit.as_user(await kit.user("mallory", "dev", "without"))
            for dry_run in (True, False):
                with pytest.raises(DeniedError, match='"create" on "access_request"'):
                    await ask(mallory, roles=["dba"], reason="why not", dry_run=dry_run)

    run(main)


class Turn(asyncio.Lock):
    """Tells when somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def acquire(self) -> Literal[True]:
        self.asked.set()
        return await super().acquire()


def test_a32_who_waits_does_not_ask_for_another_user_of_the_name(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            mallory = kit.as_user(await kit.user("mallory", "dev"))
            turn = Turn()
            monkeypatch.setattr(kit.service.handlers.requests, "_creating", turn)
            async with turn:
                turn.asked.clear()
                asking = asyncio.ensure_future(ask(mallory, roles=["dba"], reason="for later"))
                await turn.asked.wait()
                await kit.admin.call(DeleteResource(kind="user", name="mallory"))
                await kit.user("mallory", "access", login=False)
            with pytest.raises(AccessError):
                await asking
            assert await listed(kit.admin, "access_request") == []

    run(main)


def test_a_user_who_is_not_gone_is_not_told_to_be_gone(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something that goes with the user goes by itself at the same moment: the user must go all the same."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            mallory = await kit.user("mallory", "dev")
            request = await ask(kit.as_user(mallory), roles=["dba"], reason="x")
            store = kit.service.store
            remove = store.remove
            raced: list[str] = []

            async def late(resource: Any, *also: Any) -> None:
                if not raced:
                    raced.append(resource.name)
                    await store.delete("access_request", request.name)
                await remove(resource, *also)

            monkeypatch.setattr(store, "remove", late)
            await kit.admin.call(DeleteResource(kind="user", name="mallory"))
            assert raced == ["mallory"]
            with pytest.raises(NotFoundError):
                await kit.admin.call(GetResource(kind="user", name="mallory"))

    run(main)


def test_a33_a_list_that_one_may_not_see_answers_like_none(short_tmp: Path) -> None:
    """Also to those who are told the story of a denial."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await people(kit)
            await put(kit.admin, access_list("secret", "extra"))
            reads = Conditions(rules=[Rule(resources=["role", "user"], verbs=["list", "read"])])
            await put(kit.admin, role("reader", reads))
            client = kit.as_user(await kit.user("mallory", "reader"))
            told = set()
            for name in ("secret", "absent"):
                with pytest.raises(DeniedError) as refusal:
                    await client.call(GetAccessList(name=name))
                told.add(str(refusal.value))
            assert len(told) == 1

    run(main)


def test_a33_an_owner_learns_of_no_list_around_theirs(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            (olga,) = await people(kit)
            await kit.user("root-keeper", "nothing", login=False)
            await put(kit.admin, access_list("team", "extra"))
            await put(kit.admin, access_list("secret", "editor", owners=("root-keeper", "list/team")))
            await put(kit.admin, access_list("covert", "editor", owners=("root-keeper",)))
            await put(kit.admin, member("covert", "team", membership_kind="MEMBERSHIP_KIND_LIST"))
            client = kit.as_user(olga)
            shown = (await client.call(GetAccessList(name="team"))).access_list
            assert shown.status is not None
            assert "covert" not in [*shown.status.member_of, *shown.status.owner_of]
            with pytest.raises(DeniedError):
                await client.call(GetAccessList(name="covert"))
            full = (await kit.admin.call(GetAccessList(name="team"))).access_list
            assert full.status is not None and full.status.member_of == ["covert"]

    run(main)


SOME = str(uuid.uuid4())
NUMBERS: dict[str, Callable[[float], Any]] = {
    "AddMember": lambda n: AddMember(access_list="team", name="olga", expires_at=n),
    "CreateAccessRequest": lambda n: CreateAccessRequest(
        user="mira", roles=["dba"], reason="x", assume_start_time=n
    ),
    "ReviewAccessRequest": lambda n: ReviewAccessRequest(
        id=SOME, proposed_state="APPROVED", author="mira", assume_start_time=n
    ),
    "SetAccessRequestState": lambda n: SetAccessRequestState(id=SOME, state="APPROVED", assume_start_time=n),
    "SearchEvents": lambda n: SearchEvents(since=n),
    "SearchEvents until": lambda n: SearchEvents(until=n),
    "ListRecordings": lambda n: ListRecordings(since=n),
    "ListRecordings until": lambda n: ListRecordings(until=n),
    "ExplainAccess": lambda n: ExplainAccess(who=Somebody(user="mira", at=n), words=["ssh", "root@x"]),
}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e300, -1e300], ids=str)
def test_a43_no_number_breaks_a_call(short_tmp: Path, number: float) -> None:
    """What is no time is refused with a typed error, never by an accident."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            await people(kit)
            await kit.user("mira", "dev", login=False)
            await put(kit.admin, access_list("team", "extra"))
            broken = [name for name, made in NUMBERS.items() if await breaks(kit.admin, made(number))]
            assert broken == []

    run(main)


async def breaks(client: RpcClient, request: Any) -> bool:
    try:
        if isinstance(request, StreamRequest):
            async for _ in client.stream(request):
                pass
        else:
            await client.call(request)
    except AccessError as error:
        return error.code == "internal"
    return False

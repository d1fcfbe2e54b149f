"""Access lists under attack: owners who want more, keepers who let themselves in, names used again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.common.access.lists.membership import LIST_KIND
from pkgs.common.api.accesslists import (
    AddMember,
    ExplainLists,
    GetAccessList,
    ListAccessLists,
    ListMembers,
    ListReviews,
    RemoveMember,
    ReviewList,
    SummarizeLists,
)
from pkgs.common.api.login import SignUserCerts
from pkgs.common.api.resources import DeleteResource, GetResource, PutResource
from pkgs.common.errors import (
    AlreadyExistsError,
    DeniedError,
)
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import AccessList
from pkgs.common.resources.role import Conditions, Impersonate, Rule
from tests.integration.auth_kit import auth, events, listed, role, run
from tests.integration.lists_kit import access_list, member, people, put, roles_of


def test_a32_owners_change_members_and_review_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            olga, _, mallory = await people(kit, "alice", "mallory")
            await put(kit.admin, access_list("team", "extra"))
            await put(kit.admin, access_list("other", "editor", owners=("alice",)))
            mine = kit.as_user(olga)
            await mine.call(AddMember(access_list="team", name="alice"))
            with pytest.raises(AlreadyExistsError, match="already a member"):
                await mine.call(AddMember(access_list="team", name="alice"))
            # What is theirs is theirs to join.
            await mine.call(AddMember(access_list="team", name="olga"))
            lists = [a.name async for p in mine.stream(ListAccessLists()) for a in p.lists]
            assert lists == ["team"]
            shown = (await mine.call(GetAccessList(name="team"))).access_list
            assert shown.status is not None and shown.status.member_count == 2
            answer = await mine.call(ReviewList(access_list="team", notes="fine", remove_members=["alice"]))
            reviews = [r async for p in mine.stream(ListReviews(access_list="team")) for r in p.reviews]
            assert [(r.author, r.notes, r.removed_members) for r in reviews] == [("olga", "fine", ["alice"])]
            stored: Any = (await kit.admin.call(GetResource(kind="access_list", name="team"))).resource
            assert (
                stored.spec.audit.next_audit_date.strftime("%Y-%m-%dT%H:%M:%SZ")
                == answer.next_audit_date[:19] + "Z"
            )
            # Never what the list grants, by no call, nor anything about a list of others.
            for request in (
                PutResource(resource=access_list("team", "extra", "editor"), mode="upsert"),
                PutResource(resource=stored, mode="update"),
                PutResource(resource=member("team", "mallory"), mode="create"),
                DeleteResource(kind="access_list_member", name="olga", sub_kind="team"),
                DeleteResource(kind="access_list", name="team"),
                AddMember(access_list="other", name="olga"),
                RemoveMember(access_list="other", name="olga"),
                ReviewList(access_list="other"),
                GetAccessList(name="other"),
                ExplainLists(user="olga"),
            ):
                with pytest.raises(DeniedError):
                    await mine.call(request)  # type: ignore[arg-type]
            # A list that does not exist answers like one of others.
            told = []
            for name in ("other", "none"):
                with pytest.raises(DeniedError) as refused:
                    await kit.as_user(mallory).call(GetAccessList(name=name))
                told.append(str(refused.value))
            assert told[0] == told[1]
            with pytest.raises(DeniedError):
                _ = [p async for p in kit.as_user(mallory).stream(ListAccessLists())]
            assert [e["code"] for e in await events(kit, "access_list.review")] == ["TAL004I", "TAL004E"]

    run(main)


def test_a32_a_rule_lets_others_in_but_not_oneself(tmp_path: Path) -> None:
    """Attack A32, for lists: one's own way in is closed by every call, and by way of another list."""

    async def main() -> None:
        async with auth(tmp_path) as kit:
            await people(kit, "alice")
            rules = [Rule(resources=["access_list"], verbs=["list", "create", "read", "update", "delete"])]
            await put(kit.admin, role("keeper", Conditions(rules=rules)))
            keeper = await kit.user("keeper", "keeper")
            client = kit.as_user(keeper)
            await put(kit.admin, access_list("team", "extra"))
            await put(kit.admin, access_list("inner"))
            await kit.admin.call(AddMember(access_list="inner", name="keeper"))
            await client.call(AddMember(access_list="team", name="alice"))
            await put(client, member("team", "olga"))
            for request in (
                AddMember(access_list="team", name="keeper"),
                AddMember(access_list="team", name="inner", kind="list"),
                PutResource(resource=member("team", "keeper"), mode="upsert"),
                PutResource(resource=member("team", "inner", membership_kind=LIST_KIND), mode="create"),
            ):
                with pytest.raises(DeniedError, match="nobody adds themselves"):
                    await client.call(request)  # type: ignore[arg-type]
            assert roles_of(kit, await kit.login(keeper)) == {"keeper"}
            refused = [e for e in await events(kit, "access_list.member.create") if e["code"] == "TAL005E"]
            assert [(e["user"], e["members"]) for e in refused] == [
                ("keeper", ["keeper"]),
                ("keeper", ["inner"]),
            ]
            # Members go by the rule of their list, whose condition is about the list.
            where = Rule(resources=["access_list"], verbs=["*"], where='resource.metadata.name == "team"')
            await put(kit.admin, role("one", Conditions(rules=[where])))
            one = kit.as_user(await kit.user("one", "one"))
            assert [m.name for m in await listed(one, "access_list_member")] == ["alice", "olga"]
            await one.call(DeleteResource(kind="access_list_member", name="olga", sub_kind="team"))
            with pytest.raises(DeniedError):
                await put(one, member("inner", "alice"))
            with pytest.raises(DeniedError):
                await one.call(AddMember(access_list="inner", name="alice"))
            # A rule that denies takes ownership's power as well.
            deny = Conditions(rules=[Rule(resources=["access_list"], verbs=["update"])])
            stripped = role("stripped", Conditions())
            await put(
                kit.admin,
                msgspec.structs.replace(stripped, spec=msgspec.structs.replace(stripped.spec, deny=deny)),
            )
            rita = await kit.user("rita", "stripped")
            await put(kit.admin, access_list("hers", owners=("rita",)))
            assert (await kit.as_user(rita).call(GetAccessList(name="hers"))).access_list.name == "hers"
            with pytest.raises(DeniedError):
                await kit.as_user(rita).call(AddMember(access_list="hers", name="alice"))

    run(main)


def test_a34_nothing_of_an_earlier_user_or_list_comes_to_life_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            await people(kit, "alice")
            await put(kit.admin, access_list("team", "extra", owners=("olga", "alice")))
            await put(kit.admin, access_list("only", owners=("alice",)))
            await kit.admin.call(AddMember(access_list="team", name="alice"))
            await kit.admin.call(DeleteResource(kind="user", name="alice"))
            assert [m.name for m in await listed(kit.admin, "access_list_member")] == []
            owners = {
                r.name: [o.name for o in r.spec.owners]
                for r in await listed(kit.admin, "access_list")
                if isinstance(r, AccessList)
            }
            assert owners == {"team": ["olga"], "only": []}
            assert [e["members"] for e in await events(kit, "access_list.member.delete")] == [["alice"]]
            alice = await kit.user("alice", "nothing", logins=())
            assert alice.certs is not None and roles_of(kit, alice.certs) == {"nothing"}

            # A user and a list that go by themselves leave nothing to their successors either.

            soon = datetime.fromtimestamp(int(kit.clock.now()) + 60, UTC)
            for kind, name in (("user", "alice"), ("access_list", "team")):
                found: Any = (await kit.admin.call(GetResource(kind=kind, name=name))).resource
                metadata = msgspec.structs.replace(found.metadata, expires=soon)
                await put(kit.admin, msgspec.structs.replace(found, metadata=metadata), "update")
            await put(kit.admin, access_list("outer", "access", owners=("olga", "list/team", "alice")))
            for request in (
                AddMember(access_list="team", name="alice"),
                AddMember(access_list="outer", name="alice"),
                AddMember(access_list="outer", name="team", kind="list"),
            ):
                await kit.admin.call(request)
            kit.clock.ahead += 120
            bob = await kit.user("bob", "nothing", logins=())
            await put(kit.admin, access_list("team", "extra"))
            await kit.admin.call(AddMember(access_list="team", name="bob"))
            assert roles_of(kit, await kit.login(bob)) == {"nothing", "extra"}
            alice = await kit.user("alice", "nothing", logins=())
            assert alice.certs is not None and roles_of(kit, alice.certs) == {"nothing"}
            assert [(m.sub_kind, m.name) for m in await listed(kit.admin, "access_list_member")] == [
                ("team", "bob")
            ]

    run(main)


def test_a39_a40_hosts_and_nobody_reach_no_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            await people(kit, "alice")
            await put(kit.admin, access_list("team", "extra"))
            callers = [
                kit.nobody(),
                kit.as_host(await kit.join()),
                kit.as_host(await kit.join(SystemRole.PROXY)),
            ]
            for client in callers:
                for request in (
                    GetAccessList(name="team"),
                    AddMember(access_list="team", name="alice"),
                    RemoveMember(access_list="team", name="alice"),
                    ReviewList(access_list="team"),
                    ExplainLists(user="alice"),
                    GetResource(kind="access_list_member", name="alice", sub_kind="team"),
                ):
                    with pytest.raises(DeniedError):
                        await client.call(request)  # type: ignore[arg-type]
                for listing in (
                    ListAccessLists(),
                    SummarizeLists(),
                    ListMembers(access_list="team"),
                    ListReviews(access_list="team"),
                ):
                    with pytest.raises(DeniedError):
                        _ = [part async for part in client.stream(listing)]  # type: ignore[var-annotated,arg-type]
            assert await listed(kit.admin, "access_list_member") == []

    run(main)


def test_a36_nobody_acts_as_an_owner_in_anothers_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            olga, _ = await people(kit, "alice")
            await put(kit.admin, access_list("team", "extra"))
            sign = Conditions(impersonate=Impersonate(users=["olga"], roles=["*"]))
            await put(kit.admin, role("signer", sign))
            signer = await kit.user("signer", "signer")
            request = SignUserCerts(
                user="olga", ssh_public_key=olga.ssh_key.public_line, tls_public_key=olga.tls_key.public_pem
            )
            borrowed = await kit.as_user(signer).call(request)
            for name in ("alice", "signer"):
                with pytest.raises(DeniedError):
                    await kit.as_user(olga, borrowed).call(AddMember(access_list="team", name=name))
            with pytest.raises(DeniedError):
                await kit.as_user(olga, borrowed).call(GetAccessList(name="team"))
            # The administrator on the Auth host signs without being named: that is olga's own certificate.
            own = await kit.admin.call(request)
            await kit.as_user(olga, own).call(AddMember(access_list="team", name="alice"))

    run(main)

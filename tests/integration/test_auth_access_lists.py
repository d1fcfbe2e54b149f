"""Access lists against a real Auth Service: what a login gets, what is refused, what is bounded."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.auth import limits
from pkgs.auth.accesslists import limits as list_limits
from pkgs.common.access.lists.membership import LIST_KIND
from pkgs.common.api.accesslists import (
    AddMember,
    ExplainLists,
    ListMembers,
    ListReviews,
    RemoveMember,
    ReviewList,
    SummarizeLists,
)
from pkgs.common.api.login import CreateUser
from pkgs.common.api.resources import DeleteResource, GetResource
from pkgs.common.errors import (
    AccessError,
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    InputError,
    LimitExceededError,
    NotFoundError,
)
from pkgs.common.pki.sshcert import line_to_blob, verify_user_cert
from pkgs.common.resources.kinds.requests import (
    Grants,
    ListAudit,
    Requires,
)
from tests.integration.auth_kit import auth, events, listed, run
from tests.integration.lists_kit import access_list, member, people, put, renewed, roles_of


def test_a_nested_list_gives_at_the_next_login_and_takes_at_the_next_renewal(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            _, alice = await people(kit, "alice")
            await put(kit.admin, access_list("team", traits={"logins": ["ops"]}))
            await put(kit.admin, access_list("prod", "access"))
            await kit.admin.call(AddMember(access_list="prod", name="team", kind="list"))
            assert roles_of(kit, await kit.login(alice)) == {"nothing"}
            await kit.admin.call(AddMember(access_list="team", name="alice", reason="on call"))
            # A renewal gives nothing that the certificate had not.
            assert roles_of(kit, await renewed(kit, alice)) == {"nothing"}
            alice.certs = await kit.login(alice)
            assert roles_of(kit, alice.certs) == {"nothing", "access"}
            assert "ops" in verify_user_cert(
                line_to_blob(alice.certs.ssh_cert), trust=kit.service.authorities.trust, login="ops",
                source_addr="", now=kit.clock.now(),
            ).logins  # fmt: skip
            assert roles_of(kit, await renewed(kit, alice)) == {"nothing", "access"}
            found = await kit.admin.call(ExplainLists(user="alice"))
            assert [(g.what, g.name, g.value, g.path) for g in found.granted] == [
                ("role", "access", "", ["team", "prod"]),
                ("trait", "logins", "ops", ["team"]),
            ]
            assert found.roles == ["nothing", "access"]
            await kit.admin.call(RemoveMember(access_list="prod", name="team"))
            certs = await renewed(kit, alice)
            assert roles_of(kit, certs) == {"nothing"}
            assert roles_of(kit, await kit.login(alice)) == {"nothing"}
            await kit.admin.call(RemoveMember(access_list="team", name="alice"))
            with pytest.raises(NotFoundError):
                await kit.admin.call(RemoveMember(access_list="team", name="alice"))
            assert [e["members"] for e in await events(kit, "access_list.member.create")] == [
                ["team"],
                ["alice"],
            ]
            gone = await events(kit, "access_list.member.delete")
            assert [(e["code"], e["members"]) for e in gone] == [
                ("TAL007I", ["team"]), ("TAL007I", ["alice"]), ("TAL007E", ["alice"]),
            ]  # fmt: skip
            assert gone[1]["reason"] == "on call" and gone[1]["access_list_title"] == "The team"

    run(main)


def test_a_restart_remembers_and_time_ends_memberships(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            _, alice = await people(kit, "alice")
            await put(kit.admin, access_list("team", "extra"))
            soon = kit.clock.now() + 3600
            await kit.admin.call(AddMember(access_list="team", name="alice", expires_at=soon))
            with pytest.raises(InputError, match="over"):
                await kit.admin.call(AddMember(access_list="team", name="olga", expires_at=soon - 7200))
        async with auth(tmp_path) as kit:
            assert roles_of(kit, await kit.login(alice)) == {"nothing", "extra"}
            kit.clock.ahead += 3700
            assert roles_of(kit, await kit.login(alice)) == {"nothing"}
            members = [
                m async for part in kit.admin.stream(ListMembers(access_list="team")) for m in part.members
            ]
            assert [m.spec.ineligible_status for m in members] == ["INELIGIBLE_STATUS_EXPIRED"]
            found = await kit.admin.call(ExplainLists(user="alice"))
            assert found.without_effect == {"team": "membership: expired"}

    run(main)


def test_requirements_are_asked_of_the_record_at_every_login(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            _, alice = await people(kit, "alice")
            await put(
                kit.admin, access_list("team", "extra", membership_requires=Requires(roles=["auditor"]))
            )
            await kit.admin.call(AddMember(access_list="team", name="alice"))
            assert roles_of(kit, await kit.login(alice)) == {"nothing"}
            user: Any = (await kit.admin.call(GetResource(kind="user", name="alice"))).resource
            user.spec.roles.append("auditor")
            await put(kit.admin, user, "update")
            assert roles_of(kit, await kit.login(alice)) == {"nothing", "auditor", "extra"}
            summary = [s async for p in kit.admin.stream(SummarizeLists()) for s in p.summaries]
            assert [(s.name, s.members, s.ineligible_members) for s in summary] == [("team", 1, 0)]

    run(main)


def test_an_owner_by_a_list_and_no_owner_any_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            _, boss, alice = await people(kit, "boss", "alice")
            await put(kit.admin, access_list("bosses"))
            await put(
                kit.admin,
                access_list("team", "extra", owners=("list/bosses",), owner_grants=Grants(roles=["auditor"])),
            )
            await kit.admin.call(AddMember(access_list="bosses", name="boss"))
            assert roles_of(kit, await kit.login(boss)) == {"nothing", "auditor"}
            await kit.as_user(boss).call(AddMember(access_list="team", name="alice"))
            assert roles_of(kit, await kit.login(alice)) == {"nothing", "extra"}
            await kit.admin.call(RemoveMember(access_list="bosses", name="boss"))
            with pytest.raises(DeniedError):
                await kit.as_user(boss).call(RemoveMember(access_list="team", name="alice"))

    run(main)


def test_what_lists_and_members_must_be(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            await people(kit, "alice")
            await put(kit.admin, access_list("a", "extra"))
            await put(kit.admin, access_list("b", "extra", owners=("list/a",)))
            await put(kit.admin, access_list("static", "extra", owners=(), type="static"))
            for bad, text in (
                (access_list("x", owners=("nobody",)), "no user"),
                (access_list("x", owners=("list/none",)), "no access list"),
                (access_list("x", "missing"), 'role "missing" does not exist'),
                (access_list("x", owner_grants=Grants(roles=["missing"])), "owner_grants"),
                (access_list("x", owners=("list/x",)), "no access list"),
                (access_list("x", owners=()), "owners"),
                (member("none", "alice"), "no access list"),
                (member("a", "nobody"), "no user"),
                (member("a", "none", membership_kind=LIST_KIND), "no access list"),
                (member("a", "a", membership_kind=LIST_KIND), "own member"),
                (member("a", "b", membership_kind=LIST_KIND), "circle"),
                (member("a", "alice", reason="x" * 1001), "1000"),
            ):
                with pytest.raises(InputError, match=text):
                    await put(kit.admin, bad)
            with pytest.raises(InputError, match="circle"):
                await put(kit.admin, access_list("a", "extra", owners=("list/b",)), "upsert")
            with pytest.raises(InputError, match="no reviews"):
                await kit.admin.call(ReviewList(access_list="static"))
            # By a rule the members of a static list may change, by its owner not.
            await put(kit.admin, access_list("static", "extra", owners=("olga",), type="static"), "upsert")
            await put(kit.admin, member("static", "alice"))
            olga = await kit.user("olga2", "nothing", logins=())
            await put(kit.admin, access_list("static", "extra", owners=("olga2",), type="static"), "upsert")
            for request in (
                AddMember(access_list="static", name="olga"),
                RemoveMember(access_list="static", name="alice"),
            ):
                with pytest.raises(DeniedError, match="managed by a program"):
                    await kit.as_user(olga).call(request)  # type: ignore[arg-type]
            stored: Any = (
                await kit.admin.call(GetResource(kind="access_list_member", name="alice", sub_kind="static"))
            ).resource
            assert stored.spec.joined is not None and stored.spec.added_by.endswith(".alpha.example")
            # A date that is left out does not put the review off.
            first: Any = (await kit.admin.call(GetResource(kind="access_list", name="a"))).resource
            kit.clock.ahead += 40 * 86400
            again: Any = await put(kit.admin, access_list("a", "extra", audit=ListAudit()), "upsert")
            assert again.spec.audit.next_audit_date == first.spec.audit.next_audit_date

    run(main)


def test_deleting_what_others_need(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            _, alice = await people(kit, "alice")
            await put(kit.admin, access_list("inner", "extra"))
            await put(kit.admin, access_list("outer", owners=("list/inner",)))
            with pytest.raises(InputError, match=r'owns "outer".*--owners'):
                await kit.admin.call(DeleteResource(kind="access_list", name="inner"))
            await put(kit.admin, access_list("outer"), "upsert")
            await kit.admin.call(AddMember(access_list="outer", name="inner", kind="list"))
            with pytest.raises(InputError, match=r'member of "outer".*users rm outer inner'):
                await kit.admin.call(DeleteResource(kind="access_list", name="inner"))
            with pytest.raises(InputError, match='role "extra" is named by access list "inner"'):
                await kit.admin.call(DeleteResource(kind="role", name="extra"))
            await kit.admin.call(AddMember(access_list="inner", name="alice"))
            await kit.admin.call(RemoveMember(access_list="outer", name="inner"))
            await kit.admin.call(ReviewList(access_list="inner"))
            await kit.admin.call(DeleteResource(kind="access_list", name="inner"))
            assert roles_of(kit, await kit.login(alice)) == {"nothing"}
            await put(kit.admin, access_list("inner", "extra"))
            assert roles_of(kit, await kit.login(alice)) == {"nothing"}
            assert [p async for p in kit.admin.stream(ListReviews(access_list="inner"))] == []
            gone = await events(kit, "access_list.member.delete_all_members", "access_list.delete")
            assert [e["code"] for e in gone] == ["TAL003I", "TAL008I"]

    run(main)


def test_a_list_whose_role_is_gone_gives_nothing_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            _, alice = await people(kit, "alice")
            await put(kit.admin, access_list("team", "access", "extra"))
            await put(kit.admin, access_list("other", "auditor"))
            for name in ("team", "other"):
                await kit.admin.call(AddMember(access_list=name, name="alice"))
            # A role can still end by itself.

            found: Any = (await kit.admin.call(GetResource(kind="role", name="extra"))).resource
            soon = datetime.fromtimestamp(int(kit.clock.now()) + 60, UTC)
            metadata = msgspec.structs.replace(found.metadata, expires=soon)
            await put(kit.admin, msgspec.structs.replace(found, metadata=metadata), "update")
            kit.clock.ahead += 120
            assert roles_of(kit, await kit.login(alice)) == {"nothing", "auditor"}
            told = await events(kit, "user_login.invalid_access_list")
            assert [(e["access_list_name"], e["user"], e["missing_roles"]) for e in told] == [
                ("team", "alice", ["extra"])
            ]
            explained = await kit.admin.call(ExplainLists(user="alice"))
            assert explained.without_effect == {"team": "a role of the list does not exist: extra"}

    run(main)


def test_machines_get_nothing_from_lists(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            await people(kit, "alice")
            await put(kit.admin, access_list("team", "extra", owners=("alice",)))
            await kit.admin.call(AddMember(access_list="team", name="alice"))
            found: Any = (await kit.admin.call(GetResource(kind="user", name="alice"))).resource
            found.metadata.labels["teleport.internal/bot"] = "robot"
            await kit.service.store.put(found)
            kit_user: Any = kit.service.store.get("user", "alice")
            assert kit.service.permissions.holding(kit_user).roles == ("nothing",)
            with pytest.raises(InputError, match="machine"):
                await put(kit.admin, access_list("more", owners=("alice",)))
            explained = await kit.admin.call(ExplainLists(user="alice"))
            assert explained.without_effect["team"] == "machines receive nothing from lists"

    run(main)


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            _, alice, _ = await people(kit, "alice", "bob")
            monkeypatch.setattr(list_limits, "MEMBERS_MAX", 1)
            await put(kit.admin, access_list("team", "extra"))
            await kit.admin.call(AddMember(access_list="team", name="alice"))
            with pytest.raises(LimitExceededError, match="may have 1 members"):
                await kit.admin.call(AddMember(access_list="team", name="bob"))
            monkeypatch.setattr(list_limits, "MEMBERSHIPS_MAX", 1)
            await put(kit.admin, access_list("two", "extra", owners=("bob",)))
            with pytest.raises(LimitExceededError, match="is a member of 1"):
                await kit.admin.call(AddMember(access_list="two", name="alice"))
            with pytest.raises(LimitExceededError, match="owns 1"):
                await put(kit.admin, access_list("three", owners=("bob",)))
            monkeypatch.setattr(list_limits, "LISTS_MAX", 2)
            with pytest.raises(LimitExceededError, match="2 access lists"):
                await put(kit.admin, access_list("three", owners=("alice",)))
            for request in (
                ReviewList(access_list="team", notes="x" * 4001),
                ReviewList(access_list="team", remove_members=[str(n) for n in range(101)]),
            ):
                with pytest.raises(InputError):
                    await kit.admin.call(request)
            monkeypatch.setattr(list_limits, "REVIEWS_KEPT", 2)
            for number in range(4):
                kit.clock.ahead += 1
                await kit.admin.call(ReviewList(access_list="team", notes=str(number)))
            kept = [
                r.notes async for p in kit.admin.stream(ListReviews(access_list="team")) for r in p.reviews
            ]
            assert kept == ["3", "2"]
            # More than fits one commit goes as well.
            monkeypatch.setattr(list_limits, "OPERATIONS_AT_ONCE", 1)
            await kit.admin.call(DeleteResource(kind="access_list", name="team"))
            assert await listed(kit.admin, "access_list_member") == []
            # Too many roles refuse the login, rather than leaving one out.
            monkeypatch.setattr(limits, "HELD_ROLES_MAX", 1)
            monkeypatch.setattr(list_limits, "MEMBERSHIPS_MAX", 5)
            await kit.admin.call(AddMember(access_list="two", name="alice"))
            with pytest.raises(DeniedError, match="may hold 1 roles"):
                await kit.login(alice)

    run(main)


def test_two_who_review_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            await people(kit, "alice")
            await put(kit.admin, access_list("team", "extra"))
            await kit.admin.call(AddMember(access_list="team", name="alice"))
            request = ReviewList(access_list="team", remove_members=["alice"])
            done = await asyncio.gather(*(kit.admin.call(request) for _ in range(3)), return_exceptions=True)
            assert sum(not isinstance(answer, BaseException) for answer in done) == 1
            assert all(
                isinstance(a, ConflictError | NotFoundError) for a in done if isinstance(a, AccessError)
            )

    run(main)


def test_users_are_made_with_their_event_and_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            await people(kit, "alice")
            with pytest.raises(AlreadyExistsError, match=r"user\(alice\) already registered"):
                await kit.admin.call(CreateUser(name="alice", roles=["access"]))
            made = [e for e in await events(kit, "user.create") if e["name"] == "alice"]
            assert [(e["code"], e["roles"], e["connector"]) for e in made] == [
                ("T1002I", ["nothing"], "local")
            ]

    run(main)

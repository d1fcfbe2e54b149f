"""Access requests against a real Auth Service: asked for, reviewed, used, dropped, expired."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pkgs.common.api.requests import (
    CreateAccessRequest,
    DeleteAccessRequest,
    GetAccessRequest,
    GetRequestCapabilities,
    SetAccessRequestState,
)
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, NotFoundError
from pkgs.common.resources.role import Conditions, RequestConditions, RequestReason
from tests.integration.auth_kit import auth, events, listed, role, run
from tests.integration.requests_kit import (
    ask,
    listing,
    node,
    read,
    reissue,
    searched,
    setup,
    vote,
    who,
)


def test_two_reviewers_approve_and_the_certificate_holds_the_role(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev", logins=("dora",))
            lena, otto = [await kit.user(name, "lead") for name in ("lena", "otto")]
            as_dora = kit.as_user(dora)
            asked = await ask(as_dora, roles=["dba"], reason="restore a backup")
            spec = asked.spec
            assert (spec.user, spec.state, spec.roles) == ("dora", "PENDING", ["dba"])
            assert spec.suggested_reviewers == ["lena", "otto"]
            assert spec.system_annotations == {}
            assert asked.metadata.expires == spec.expires
            assert spec.created is not None and spec.expires is not None and spec.session_ttl is not None
            assert (spec.expires - spec.created).total_seconds() == 3600
            assert (spec.session_ttl - spec.created).total_seconds() == 4 * 3600

            assert await listing(as_dora, "mine") == [asked.name]
            for reviewer in (lena, otto):
                assert await listing(kit.as_user(reviewer), "reviewable") == [asked.name]
                assert await listing(kit.as_user(reviewer), "suggested") == [asked.name]
            with pytest.raises(DeniedError, match="PENDING"):
                await reissue(as_dora, dora, assume=[asked.name])
            first = await vote(kit.as_user(lena), asked.name, reason="fine")
            assert first.spec.state == "PENDING"
            assert await listing(kit.as_user(lena), "reviewable") == []
            with pytest.raises(DeniedError, match="reviewed this request already"):
                await vote(kit.as_user(lena), asked.name)
            second = await vote(kit.as_user(otto), asked.name, reason="go on")
            assert (second.spec.state, second.spec.resolve_reason) == ("APPROVED", "go on")
            assert second.metadata.expires == spec.max_duration
            with pytest.raises(DeniedError, match="APPROVED already"):
                await vote(kit.as_user(otto), asked.name)

            elevated = await reissue(as_dora, dora, assume=[asked.name])
            identity = who(kit, elevated)
            assert set(identity.roles) == {"dev", "dba"}
            assert set(identity.logins) == {"dora", "postgres"}
            assert identity.active_requests == (asked.name,)
            assert identity.allowed_resources is None
            assert identity.expires_at <= kit.clock.now() + 4 * 3600

            again = await reissue(kit.as_user(dora, elevated), dora)
            assert set(who(kit, again).roles) == {"dev", "dba"}
            dropped = await reissue(kit.as_user(dora, elevated), dora, drop=[asked.name])
            plain = who(kit, dropped)
            assert (plain.roles, plain.logins, plain.active_requests) == (("dev",), ("dora",), ())

            told = await events(kit, "access_request.create", "access_request.review", "cert.create")
            created = [e for e in told if e["event"] == "access_request.create"]
            assert [
                (e["code"], e["id"], e["user"], e["state"], e["roles"], e["reason"]) for e in created
            ] == [("T5000I", asked.name, "dora", "PENDING", ["dba"], "restore a backup")]
            reviews = [e for e in told if e["event"] == "access_request.review"]
            assert [(e["reviewer"], e["proposed_state"], e["state"], e["reason"]) for e in reviews] == [
                ("lena", "APPROVED", "PENDING", "fine"),
                ("otto", "APPROVED", "APPROVED", "go on"),
            ]
            certs = [e["identity"] for e in told if e["event"] == "cert.create" and e["user"] == "dora"]
            named = [identity.get("access_requests") for identity in certs]  # type: ignore[union-attr, attr-defined]
            assert named[-3:] == [[asked.name], [asked.name], []]

    run(main)


def test_one_denial_denies(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev")
            lena, otto = [await kit.user(name, "lead") for name in ("lena", "otto")]
            asked = await ask(kit.as_user(dora), roles=["dba"])
            await vote(kit.as_user(lena), asked.name)
            after = await vote(kit.as_user(otto), asked.name, "DENIED", reason="not today")
            assert (after.spec.state, after.spec.resolve_reason) == ("DENIED", "not today")
            with pytest.raises(DeniedError, match="DENIED"):
                await reissue(kit.as_user(dora), dora, assume=[asked.name])

    run(main)


def test_a_request_for_one_server_reaches_that_server(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            db1, db2 = [await node(kit, name, tier="db") for name in ("db1", "db2")]
            await node(kit, "web1", tier="web")
            sam = await kit.user("sam", "searcher", "dev")
            as_sam = kit.as_user(sam)
            assert {n.spec.hostname for n in await listed(as_sam, "node")} == {"web1"}  # type: ignore[union-attr]
            found = {n.spec.hostname for n in await searched(as_sam)}  # type: ignore[union-attr]
            assert found == {"web1", "db1", "db2"}
            told = await events(kit, "access_request.search")
            assert (told[0]["resource_type"], told[0]["search_as_roles"]) == ("node", ["dba"])

            # A role that opens the server is chosen, and must give the login that is asked for.
            asked = await ask(as_sam, resource_ids=[f"/alpha.example/node/{db1}"], login_hint="postgres")
            assert asked.spec.roles == ["dba"]
            with pytest.raises(DeniedError, match="can not request node"):
                await ask(as_sam, resource_ids=[f"/alpha.example/node/{db1}"], login_hint="root")
            shown = await as_sam.call(GetAccessRequest(id=asked.name))
            assert shown.names == {f"/alpha.example/node/{db1}": "db1"}
            lena, otto = [await kit.user(name, "lead") for name in ("lena", "otto")]
            # A reviewer sees the names of what they could see themselves, or preview.
            assert (await kit.as_user(lena).call(GetAccessRequest(id=asked.name))).names == {}
            for reviewer in (lena, otto):
                await vote(kit.as_user(reviewer), asked.name)
            elevated = await reissue(as_sam, sam, assume=[asked.name])
            identity = who(kit, elevated)
            assert identity.allowed_resources == (f"/alpha.example/node/{db1}",)
            assert set(identity.roles) == {"searcher", "dev", "dba"}
            seen = await listed(kit.as_user(sam, elevated), "node")
            assert [n.name for n in seen] == [db1]
            assert db2 not in {n.name for n in seen}
            # Given back, everything is as before.
            plain = await reissue(kit.as_user(sam, elevated), sam, drop=["*"])
            assert who(kit, plain).allowed_resources is None
            assert who(kit, plain).roles == ("searcher", "dev")

    run(main)


def test_what_is_over_gives_nothing_and_is_told_of(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev")
            decider = await kit.user("deb", "decider")
            as_dora, as_deb = kit.as_user(dora), kit.as_user(decider)
            ids = [(await ask(as_dora, roles=["dba"], reason=str(n))).name for n in range(3)]
            for name in ids[:2]:
                await as_deb.call(SetAccessRequestState(id=name, state="APPROVED", delegator="pager"))
            one = await reissue(as_dora, dora, assume=[ids[0]])
            two = await reissue(as_dora, dora, assume=[ids[1]])
            for certs, name in ((one, ids[0]), (two, ids[1])):
                await read(kit.as_user(dora, certs), name)
            # Denied and deleted after the approval: refused at once, whatever is asked.
            await as_deb.call(SetAccessRequestState(id=ids[0], state="DENIED", reason="that was wrong"))
            await as_deb.call(DeleteAccessRequest(id=ids[1]))
            # For good: what was taken out while it was approved must not open anything again.
            with pytest.raises(DeniedError, match="DENIED already"):
                await kit.admin.call(SetAccessRequestState(id=ids[0], state="APPROVED"))
            for certs in (one, two):
                with pytest.raises(DeniedError, match="not in force any more"):
                    await kit.as_user(dora, certs).call(GetResource(kind="user", name="dora"))
                # A renewal gives nothing of it any more, a drop sorts it out.
                renewed = who(kit, await reissue(kit.as_user(dora, certs), dora))
                assert (renewed.roles, len(renewed.active_requests)) == (("dev",), 1)
                dropped = who(kit, await reissue(kit.as_user(dora, certs), dora, drop=["*"]))
                assert (dropped.roles, dropped.active_requests) == (("dev",), ())
            told = await events(kit, "access_request.update", "access_request.delete")
            assert [(e["code"], e["state"], e.get("delegator")) for e in told[:3]] == [
                ("T5001I", "APPROVED", "pager"),
                ("T5001I", "APPROVED", "pager"),
                ("T5001I", "DENIED", None),
            ]
            assert (told[3]["code"], told[3]["id"]) == ("T5003I", ids[1])
            # Nobody decides the third one.
            kit.clock.ahead += 3601
            with pytest.raises(NotFoundError):
                await kit.admin.call(GetAccessRequest(id=ids[2]))
            await kit.service.pruning.run()
            await kit.service.pruning.run()
            await kit.service.backend.sweep()
            await kit.service.pruning.run()
            expired = await events(kit, "access_request.expire")
            assert sorted(str(e["id"]) for e in expired if e["id"] == ids[2]) == [ids[2]]

    run(main)


def test_administrators_create_review_and_narrow(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            await kit.admin.call(
                PutResource(resource=role("wide", Conditions(request=RequestConditions(roles=["*"]))))
            )
            dora = await kit.user("dora", "wide")
            dry = await ask(kit.admin, user="dora", roles=["*"], dry_run=True)
            assert {"dba", "admin", "dev"} <= set(dry.spec.roles) and "wide" not in dry.spec.roles
            assert await listing(kit.admin) == []
            asked = await ask(kit.admin, user="dora", roles=["dba", "dev"])
            assert await listing(kit.admin) == [asked.name]
            with pytest.raises(InputError, match="author"):
                await vote(kit.admin, asked.name)
            with pytest.raises(DeniedError, match="may not review"):
                await vote(kit.admin, asked.name, author="dora")
            with pytest.raises(InputError, match="was not requested"):
                await kit.admin.call(SetAccessRequestState(id=asked.name, state="APPROVED", roles=["admin"]))
            await kit.admin.call(
                SetAccessRequestState(
                    id=asked.name, state="APPROVED", roles=["dba"], annotations={"ticket": ["7"]}
                )
            )
            identity = who(kit, await reissue(kit.as_user(dora), dora, assume=[asked.name]))
            assert set(identity.roles) == {"wide", "dba"}
            caps = await kit.as_user(dora).call(GetRequestCapabilities())
            assert "admin" in caps.requestable_roles and caps.strategy == "optional"
            with pytest.raises(DeniedError):
                await kit.as_user(dora).call(GetRequestCapabilities(user="root"))

    run(main)


def test_reasons_are_asked_for(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            asks = RequestConditions(roles=["dba"], reason=RequestReason(mode="required", prompt="Ticket?"))
            await kit.admin.call(PutResource(resource=role("asks", Conditions(request=asks))))
            await kit.admin.call(
                PutResource(
                    resource=role("always", Conditions(), request_access="reason", request_prompt="Why?")
                )
            )
            for name, roles, prompts in (
                ("ann", ("asks",), ["Ticket?"]),
                ("bob", ("always", "dev"), ["Why?"]),
            ):
                client = kit.as_user(await kit.user(name, *roles))
                with pytest.raises(InputError, match="needs a reason"):
                    await ask(client, roles=["dba"], reason="  ")
                assert (await ask(client, roles=["dba"], dry_run=True)).spec.roles == ["dba"]
                assert (await ask(client, roles=["dba"], reason="T-1")).spec.request_reason == "T-1"
                caps = await client.call(GetRequestCapabilities())
                assert (caps.reason_required, caps.prompts) == (True, prompts)

    run(main)


def test_a_later_beginning(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev")
            begins = kit.clock.now() + 600
            asked = await ask(kit.as_user(dora), roles=["dba"], assume_start_time=begins)
            await kit.admin.call(SetAccessRequestState(id=asked.name, state="APPROVED"))
            with pytest.raises(DeniedError, match=r"from .* on"):
                await reissue(kit.as_user(dora), dora, assume=[asked.name])
            kit.clock.ahead += 601
            assert "dba" in who(kit, await reissue(kit.as_user(dora), dora, assume=[asked.name])).roles
            with pytest.raises(InputError, match="begin after its end"):
                await kit.as_user(dora).call(
                    CreateAccessRequest(roles=["dba"], assume_start_time=kit.clock.now() + 40 * 3600)
                )

    run(main)


def test_reviews_and_requests_at_the_same_moment_are_counted_right(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev")
            leads = [kit.as_user(await kit.user(f"lead{n}", "lead", login=True)) for n in range(5)]
            asked = await ask(kit.as_user(dora), roles=["dba"])
            done = await asyncio.gather(*(vote(lead, asked.name) for lead in leads), return_exceptions=True)
            refused = [each for each in done if isinstance(each, BaseException)]
            assert len(refused) == 3
            assert all(
                isinstance(each, DeniedError) and "APPROVED already" in each.message for each in refused
            )
            stored = await read(kit.admin, asked.name)
            assert (stored.spec.state, len(stored.spec.reviews)) == ("APPROVED", 2)
            assert len(await events(kit, "access_request.review")) == 2

            client = kit.as_user(dora)
            made = await asyncio.gather(
                *(ask(client, roles=["dba"]) for _ in range(40)), return_exceptions=True
            )
            over = [each for each in made if isinstance(each, BaseException)]
            assert len(over) == 8
            assert all(isinstance(each, LimitExceededError) for each in over)

    run(main)


def test_who_may_see_a_request(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev")
            asked = await ask(kit.as_user(dora), roles=["dba"])
            for name, roles, sees in (
                ("lena", ("lead",), True),
                ("deb", ("decider",), True),
                ("mira", ("dev",), False),
            ):
                client = kit.as_user(await kit.user(name, *roles))
                assert await listing(client) == ([asked.name] if sees else [])
                if sees:
                    assert await read(client, asked.name) == asked
                else:
                    for call in (read(client, asked.name), vote(client, asked.name)):
                        with pytest.raises(NotFoundError, match="not found"):
                            await call

    run(main)

"""Access requests under attack: A32 (getting approved what should not be), A34 (more by renewal), A22
(a certificate for some resources used for others)."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.auth.requests.calls import limits as auth_limits
from pkgs.common.access.decide import decide
from pkgs.common.access.types import Environment, See, SshLogin, Subject
from pkgs.common.api.login import SignUserCerts
from pkgs.common.api.requests import (
    DeleteAccessRequest,
    GetRequestCapabilities,
    SetAccessRequestState,
)
from pkgs.common.api.resources import DeleteResource, PutResource
from pkgs.common.errors import AccessError, DeniedError, InputError, LimitExceededError, NotFoundError
from pkgs.common.pki import x509
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.resources.kinds import AccessRequest, Lock, LockSpec, LockTarget, Node
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Impersonate, RequestConditions, ReviewConditions
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, User, auth, events, new_keys, role, run
from tests.integration.requests_kit import ask, listing, node, read, reissue, searched, setup, vote, who


def crafted(kit: Kit, user: User, **fields: Any) -> RpcClient:
    """A client with a certificate of the real authority that says what the test wants."""
    now = kit.clock.now()
    given: dict[str, Any] = {
        "user": user.name,
        "cluster": "alpha.example",
        "roles": ("dev",),
        "logins": ("root",),
        # The TLS library goes by the real clock, which a test may have left behind.
        "valid_after": now - kit.clock.ahead - 60,
        "valid_before": now + 3600,
    }
    spec = msgspec.convert({**given, **fields}, UserCertSpec)
    cert = x509.sign_user_tls(kit.service.authorities.user_tls, spec, user.tls_key.public_pem)
    return kit.client(cert, user.tls_key.private_pem)


async def refused(call: Awaitable[object], text: str = ".") -> None:
    with pytest.raises((DeniedError, InputError, NotFoundError, LimitExceededError), match=text):
        await call


def approve(name: str) -> SetAccessRequestState:
    return SetAccessRequestState(id=name, state="APPROVED")


def test_a32_nobody_approves_their_own_request(short_tmp: Path) -> None:
    """By review, in another's name, by rule, or as somebody that they impersonate."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            both = await kit.user("both", "dev", "lead", "decider")
            lena = await kit.user("lena", "lead")
            client = kit.as_user(both)
            asked = await ask(client, roles=["dba"])
            await refused(vote(client, asked.name), "may not review")
            await refused(vote(client, asked.name, author="lena"), "own name")
            await refused(vote(kit.admin, asked.name, author="both"), "may not review")
            await refused(client.call(approve(asked.name)), "own request")
            as_lena = crafted(kit, lena, roles=("lead",), impersonator="both")
            await refused(vote(as_lena, asked.name), "impersonated")
            as_deb = crafted(kit, lena, roles=("decider",), impersonator="both")
            await refused(as_deb.call(approve(asked.name)), "own request")
            assert (await read(client, asked.name)).spec.state == "PENDING"
            assert await listing(client, "reviewable") == []

    run(main)


def test_a32_a_reviewer_of_another_role_decides_nothing(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            reviews = {
                "other": ReviewConditions(roles=["web-*"]),
                "half": ReviewConditions(roles=["dba"]),
                "unsure": ReviewConditions(roles=["*"], where='has_prefix("x", request.reason)'),
            }
            for name, allow in reviews.items():
                await kit.admin.call(PutResource(resource=role(name, Conditions(review_requests=allow))))
            wide = role("wide", Conditions(request=RequestConditions(roles=["dba", "admin"])))
            await kit.admin.call(PutResource(resource=wide))
            dora = await kit.user("dora", "wide")
            asked = await ask(kit.as_user(dora), roles=["dba", "admin"])
            for name in reviews:
                client = kit.as_user(await kit.user(f"r-{name}", name))
                await refused(vote(client, asked.name), "not found")
                await refused(client.call(approve(asked.name)), "access denied")
            # A role that was gained by a request gives no right to review.
            lent = role("borrower", Conditions(request=RequestConditions(roles=["lead"])))
            await kit.admin.call(PutResource(resource=lent))
            bea = await kit.user("bea", "borrower")
            gained = await ask(kit.as_user(bea), roles=["lead"])
            await kit.admin.call(approve(gained.name))
            certs = await reissue(kit.as_user(bea), bea, assume=[gained.name])
            assert "lead" in who(kit, certs).roles
            only = await ask(kit.as_user(dora), roles=["dba"])
            await refused(vote(kit.as_user(bea, certs), only.name), "not found")

    run(main)


@pytest.mark.parametrize(
    "roles", [["admin"], ["nope"], ["dba", "admin"], ["*", "dba"], ["DBA"], ["dba "], [""]]
)
def test_a32_a_role_that_is_not_allowed(short_tmp: Path, roles: list[str]) -> None:
    """Alike for a role that exists and one that does not."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev")
            wrong = next(name for name in roles if name != "dba")
            with pytest.raises(DeniedError) as caught:
                await ask(kit.as_user(dora), roles=roles)
            assert caught.value.message == f'user "dora" can not request role "{wrong}"'

    run(main)


def test_a32_only_standing_roles_count_and_a_deny_wins(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            step = role("step", Conditions(request=RequestConditions(roles=["dev"])))
            await kit.admin.call(PutResource(resource=step))
            bar = msgspec.structs.replace(
                role("bar", Conditions()),
                spec=msgspec.structs.replace(
                    role("bar", Conditions()).spec,
                    deny=Conditions(request=RequestConditions(roles=["d*"])),
                ),
            )
            await kit.admin.call(PutResource(resource=bar))
            sue = await kit.user("sue", "step")
            asked = await ask(kit.as_user(sue), roles=["dev"])
            await kit.admin.call(approve(asked.name))
            certs = await reissue(kit.as_user(sue), sue, assume=[asked.name])
            assert "dev" in who(kit, certs).roles
            await refused(ask(kit.as_user(sue, certs), roles=["dba"]), "can not request")
            # A forged claim in the certificate does not help either.
            await refused(ask(crafted(kit, sue, roles=("step", "dev")), roles=["dba"]), "can not request")
            barred = await kit.user("ben", "dev", "bar")
            await refused(ask(kit.as_user(barred), roles=["dba"]), "can not request")
            both = await kit.user("ron", "searcher", "bar")
            assert (await kit.as_user(both).call(GetRequestCapabilities())).search_as_roles == []

    run(main)


def test_a32_no_time_beyond_the_roles(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            long = role("long", Conditions(request=RequestConditions(roles=["dba"], max_duration="2d")))
            await kit.admin.call(PutResource(resource=long))
            dora = await kit.user("dora", "dev")
            client = kit.as_user(dora)
            for field in ("request_ttl_s", "max_duration_s"):
                await refused(ask(client, roles=["dba"], **{field: 5 * 3600}), "at most 4h")
                await refused(ask(client, roles=["dba"], **{field: -1}), "positive")
            cut = await ask(client, roles=["dba"], session_ttl_s=30 * 24 * 3600)
            assert cut.spec.session_ttl is not None and cut.spec.created is not None
            assert (cut.spec.session_ttl - cut.spec.created).total_seconds() == 4 * 3600
            await kit.admin.call(approve(cut.name))
            held = await reissue(client, dora, assume=[cut.name], ttl_s=30 * 3600)
            assert held.expires_at <= kit.clock.now() + 4 * 3600
            lou = await kit.user("lou", "long")
            await refused(ask(kit.as_user(lou), roles=["dba"], max_duration_s=3 * 86400), "at most 48h")
            days = await ask(kit.as_user(lou), roles=["dba"], max_duration_s=2 * 86400)
            await kit.admin.call(approve(days.name))
            certs = await reissue(kit.as_user(lou), lou, assume=[days.name], ttl_s=30 * 3600)
            assert certs.expires_at <= kit.clock.now() + 4 * 3600
            # Renewed again and again it ends when the access ends.
            kit.clock.ahead += 3 * 3600
            held = await reissue(kit.as_user(dora, held), dora, ttl_s=30 * 3600)
            assert held.expires_at <= cut.spec.session_ttl.timestamp()

    run(main)


def test_a32_sizes_are_bounded(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev")
            lena = await kit.user("lena", "lead")
            client = kit.as_user(dora)
            await refused(ask(client, roles=["dba"], reason="x" * 4097), "4096 characters")
            with pytest.raises(AccessError):
                # More than a message may hold: the connection refuses it.
                await ask(kit.as_user(dora), roles=["dba"], reason="x" * 10_000_000)
            await refused(ask(client, roles=["dba"] * 101), "100 roles")
            await refused(ask(client, resource_ids=["/alpha.example/node/x"] * 201), "200 resources")
            await refused(ask(client, roles=["dba"], suggested_reviewers=["a"] * 101), "100 reviewers")
            await refused(ask(client, roles=["dba"], suggested_reviewers=["a\nb"]), "name of a user")
            asked = await ask(client, roles=["dba"], reason="\x1b[31m" + "x" * 4000)
            await refused(vote(kit.as_user(lena), asked.name, reason="x" * 4097), "4096 characters")
            for more in (
                {"reason": "x" * 4097},
                {"delegator": "x" * 257},
                {"annotations": {"k": ["x"] * 101}},
            ):
                await refused(
                    kit.admin.call(SetAccessRequestState(id=asked.name, state="DENIED", **more)), "may have"
                )
            for _ in range(auth_limits.PENDING_REQUESTS_PER_USER - 1):
                await ask(client, roles=["dba"])
            await refused(ask(client, roles=["dba"]), "pending access requests")
            (event,) = [e for e in await events(kit, "access_request.create") if e["id"] == asked.name]
            assert len(str(event["reason"])) <= 4096

    run(main)


def test_a32_an_id_is_used_by_its_user_while_it_lasts(short_tmp: Path) -> None:
    """Not by others, not before the approval, not after the end, not by machines or for somebody else."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora, eve = await kit.user("dora", "dev"), await kit.user("eve", "dev")
            asked = await ask(kit.as_user(dora), roles=["dba"], session_ttl_s=1800)
            await refused(reissue(kit.as_user(dora), dora, assume=[asked.name]), "PENDING")
            await kit.admin.call(approve(asked.name))
            await refused(reissue(kit.as_user(eve), eve, assume=[asked.name]), "not found")
            for odd in ("../role/admin", "*", "", "x" * 10_000, asked.name.upper()):
                await refused(reissue(kit.as_user(dora), dora, assume=[odd]), "not found")
            await refused(reissue(kit.as_user(dora), dora, assume=[asked.name] * 17), "16 access requests")
            for field in (
                {"impersonator": "eve"},
                {"bot_name": "robot"},
                {"renewable": True},
                {"disallow_reissue": True},
                {"force_command": "id"},
                {"allowed_resources": ("/alpha.example/node/x",)},
            ):
                if "force_command" not in field:
                    await refused(reissue(crafted(kit, dora, **field), dora, assume=[asked.name]))
                if field not in ({"force_command": "id"},):
                    await refused(ask(crafted(kit, dora, **field), roles=["dba"]))
            certs = await reissue(kit.as_user(dora), dora, assume=[asked.name])
            kit.clock.ahead += 1801
            await refused(reissue(kit.as_user(dora), dora, assume=[asked.name]), "not found")
            with pytest.raises(AccessError):
                await reissue(kit.as_user(dora, certs), dora)
            # A certificate that names it anyway is good for nothing.
            forged = crafted(kit, dora, roles=("dev", "dba"), active_requests=(asked.name,))
            await refused(forged.call(GetRequestCapabilities()), "not in force")
            assert who(kit, await reissue(forged, dora)).roles == ("dev",)

    run(main)


def test_a32_who_may_decide_needs_the_rule(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora, eve = await kit.user("dora", "dev"), await kit.user("eve", "dev")
            asked = await ask(kit.as_user(dora), roles=["dba"])
            client = kit.as_user(eve)
            for call in (
                client.call(approve(asked.name)),
                client.call(DeleteAccessRequest(id=asked.name)),
                client.call(DeleteResource(kind="access_request", name=asked.name)),
                client.call(PutResource(resource=asked, mode="upsert")),
                kit.admin.call(PutResource(resource=asked, mode="upsert")),
                ask(client, user="dora", roles=["dba"]),
            ):
                await refused(call)
            assert await read(kit.as_user(dora), asked.name) == asked

    run(main)


def test_a32_a_request_does_not_outlive_its_user(short_tmp: Path) -> None:
    """Whoever gets the name later has nothing of it, by whatever way the user came and went."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            for way in ("deleted", "swept"):
                dora = await kit.user("dora", "dev")
                asked = await ask(kit.as_user(dora), roles=["dba"])
                await kit.admin.call(approve(asked.name))
                old = await reissue(kit.as_user(dora), dora, assume=[asked.name])
                if way == "deleted":
                    await kit.admin.call(DeleteResource(kind="user", name="dora"))
                    assert await listing(kit.admin) == []
                else:
                    # As when the user resource expires.
                    await kit.service.store.delete("user", "dora")
                again = await kit.user("dora", "dev")
                await refused(reissue(kit.as_user(again), again, assume=[asked.name]), "not found")
                await refused(kit.as_user(dora, old).call(GetRequestCapabilities()), "not in force")
                await kit.admin.call(DeleteResource(kind="user", name="dora"))

    run(main)


def test_a34_a_certificate_with_a_request_signs_nothing(short_tmp: Path) -> None:
    """What it signed would not end with the request."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            signs = Impersonate(users=["*"], roles=["*"])
            wide = role("wide", Conditions(request=RequestConditions(roles=["admin"]), impersonate=signs))
            await kit.admin.call(PutResource(resource=wide))
            dora = await kit.user("dora", "wide")
            await kit.user("sid", "wide", login=False)
            await kit.as_user(dora).call(SignUserCerts(user="sid", **new_keys()))
            asked = await ask(kit.as_user(dora), roles=["admin"])
            await kit.admin.call(approve(asked.name))
            client = kit.as_user(dora, await reissue(kit.as_user(dora), dora, assume=[asked.name]))
            await refused(client.call(SignUserCerts(user="sid", **new_keys())), "access denied")

    run(main)


def test_a34_a_renewal_adds_what_the_request_grants_and_nothing_else(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            dora = await kit.user("dora", "dev", logins=("dora",))
            asked = await ask(kit.as_user(dora), roles=["dba"])
            await kit.admin.call(approve(asked.name))
            short = crafted(
                kit, dora, valid_before=kit.clock.now() + 300, mfa_device="m", source_addr="127.0.0.1"
            )
            held = who(kit, await reissue(short, dora, assume=[asked.name]))
            assert held.expires_at <= kit.clock.now() + 300
            assert (held.mfa_device, held.source_addr) == ("m", "127.0.0.1")
            # What a role gives that is not requested is not added on the way.
            none = crafted(kit, dora, roles=("dev",), logins=("nobody",))
            assert set(who(kit, await reissue(none, dora, assume=[asked.name])).logins) == {"postgres"}
            fewer = crafted(kit, dora, roles=("other",), logins=("nobody",))
            assert who(kit, await reissue(fewer, dora, assume=[asked.name])).roles == ("dba",)
            # A role that is gone, or a lock on the request, ends it.
            lock = Lock(
                metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(access_request=asked.name))
            )
            certs = await reissue(kit.as_user(dora), dora, assume=[asked.name])
            await kit.admin.call(PutResource(resource=lock))
            await refused(reissue(kit.as_user(dora), dora, assume=[asked.name]), "is in force")
            with pytest.raises(AccessError):
                await reissue(kit.as_user(dora, certs), dora, drop=["*"])
            await kit.admin.call(DeleteResource(kind="lock", name="l"))
            await kit.admin.call(DeleteResource(kind="role", name="dba"))
            await refused(reissue(kit.as_user(dora), dora, assume=[asked.name]), "does not exist any more")

    run(main)


def test_a34_a_restriction_goes_only_with_its_request(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            db1, db2 = [await node(kit, name, tier="db") for name in ("db1", "db2")]
            sam = await kit.user("sam", "searcher", "dev")
            client = kit.as_user(sam)
            first, second = [
                (await ask(client, resource_ids=[f"/alpha.example/node/{name}"])).name for name in (db1, db2)
            ]
            plain = (await ask(client, roles=["dba"])).name
            for name in (first, second, plain):
                await kit.admin.call(approve(name))
            await refused(reissue(client, sam, assume=[first, second]), "one access request for resources")
            held = await reissue(client, sam, assume=[first])
            as_held = kit.as_user(sam, held)
            await refused(reissue(as_held, sam, assume=[second]), "one access request for resources")
            # With more roles it is as restricted as before; so is it when something else is dropped.
            both = await reissue(as_held, sam, assume=[plain])
            only = (f"/alpha.example/node/{db1}",)
            assert who(kit, both).allowed_resources == only
            kept = await reissue(kit.as_user(sam, both), sam, drop=[plain])
            assert who(kit, kept).allowed_resources == only
            moved = who(kit, await reissue(kit.as_user(sam, both), sam, assume=[second], drop=[first]))
            assert moved.allowed_resources == (f"/alpha.example/node/{db2}",)
            free = who(kit, await reissue(kit.as_user(sam, both), sam, drop=[first]))
            assert (free.allowed_resources, set(free.roles)) == (None, {"searcher", "dev", "dba"})
            await refused(reissue(as_held, sam, drop=[second]), "holds no access request")
            # Deleted, its roles go and the restriction stays until it is given back.
            await kit.admin.call(DeleteAccessRequest(id=first))
            stale = await reissue(kit.as_user(sam, both), sam, drop=[plain])
            identity = who(kit, stale)
            assert (identity.roles, identity.allowed_resources) == (("searcher", "dev"), only)
            # A restriction of unknown origin is never lifted, nor does it take a request.
            other = crafted(kit, sam, roles=("searcher",), allowed_resources=only)
            assert who(kit, await reissue(other, sam, drop=["*"])).allowed_resources == only
            await refused(reissue(other, sam, assume=[plain]), "restricted")
            # It signs nothing for others, asks for nothing and searches nothing.
            for call in (
                as_held.call(SignUserCerts(user="sam", **new_keys())),
                ask(as_held, roles=["dba"]),
                searched(as_held),
            ):
                await refused(call)

    run(main)


@pytest.mark.parametrize(
    "wrong",
    [
        "/alpha.example/node/{other}",
        "/beta.example/node/{own}",
        "/alpha.example/app/{own}",
        "/alpha.example/node/{own}/x",
        "/alpha.example//{own}",
        "{own}",
    ],
)
def test_a22_a_certificate_for_something_else_opens_no_server(short_tmp: Path, wrong: str) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            own, other = [await node(kit, name, tier="db") for name in ("db1", "db2")]
            sam = await kit.user("sam", "searcher")
            asked = await ask(kit.as_user(sam), resource_ids=[f"/alpha.example/node/{own}"])
            await kit.admin.call(approve(asked.name))
            identity = who(kit, await reissue(kit.as_user(sam), sam, assume=[asked.name]))
            server = kit.service.store.get("node", own)
            assert isinstance(server, Node)
            roles = kit.service.permissions.roles(identity.roles)
            env = Environment(now=kit.clock.now())

            def opens(allowed: tuple[str, ...] | None) -> list[bool]:
                subject = Subject(msgspec.structs.replace(identity, allowed_resources=allowed), roles)
                targets = (SshLogin(server, "postgres"), See(server))
                return [bool(decide(subject, target, env)) for target in targets]

            assert opens(identity.allowed_resources) == [True, True]
            assert opens((wrong.format(own=own, other=other),)) == [False, False]

    run(main)


@pytest.mark.parametrize(
    "text",
    [
        "/beta.example/node/{own}",
        "/alpha.example/pod/{own}/default/web",
        "/alpha.example/role/admin",
        "/alpha.example/cert_authority/alpha.example",
        "/alpha.example/node/../role/admin",
        "/alpha.example/node/{own}\n",
        "alpha.example/node/{own}",
        "/alpha.example/node/ffffffff-ffff-4fff-8fff-ffffffffffff",
        "*",
    ],
)
def test_a22_only_resources_of_here_can_be_requested(short_tmp: Path, text: str) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await setup(kit)
            own = await node(kit, "db1", tier="db")
            sam = await kit.user("sam", "searcher")
            await refused(ask(kit.as_user(sam), resource_ids=[text.format(own=own)]))
            assert isinstance(
                await ask(kit.as_user(sam), resource_ids=[f"/alpha.example/node/{own}"]), AccessRequest
            )

    run(main)

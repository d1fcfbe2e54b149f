"""The same power by another way: what is refused at the front must not be had by a side door (A34, A39)."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.auth import limits
from pkgs.auth.accounts.totp import code_at
from pkgs.auth.audit.log import SessionRow
from pkgs.common.api.audit import EmitEvents, EventChunk, SearchEvents
from pkgs.common.api.login import CreateUser, FinishSignup, GetSignup, Login, SignUserCerts
from pkgs.common.api.recordings import UploadRecording
from pkgs.common.api.resources import DeleteResource, PutResource
from pkgs.common.errors import AccessError, DeniedError, InputError, LimitExceededError
from pkgs.common.pki import x509
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    Lock,
    LockSpec,
    LockTarget,
    Resource,
    UserSpec,
)
from pkgs.common.resources.kinds import User as UserResource
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Impersonate, Role, RoleSpec
from tests.harness.wait import until
from tests.integration.auth_kit import (
    PASSWORD,
    Kit,
    User,
    auth,
    chunks,
    event,
    new_keys,
    recordings,
    run,
    session,
)

SIGNER = Role(
    metadata=Metadata(name="signer"),
    spec=RoleSpec(allow=Conditions(logins=["root"], impersonate=Impersonate(users=["*"], roles=["*"]))),
)
SHADOWS: list[Resource] = [
    AuthPreference(
        metadata=Metadata(name="cluster-auth-preference"), spec=AuthPreferenceSpec(second_factor="off")
    ),
    Role(metadata=Metadata(name="access"), spec=RoleSpec()),
    UserResource(metadata=Metadata(name="mira"), spec=UserSpec(roles=["access"])),
    Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="mira"))),
]


@pytest.mark.parametrize("shadow", SHADOWS, ids=lambda shadow: shadow.kind)
def test_nothing_is_stored_beside_what_it_would_shadow(short_tmp: Path, shadow: Resource) -> None:
    """A sub-kind is part of the key: with one of its own choice, a second resource would stand beside the
    first, and settings of the configuration file could be overruled by it."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            sent = msgspec.structs.replace(shadow, sub_kind="a")
            with pytest.raises(InputError, match="sub_kind"):
                await kit.admin.call(PutResource(resource=sent, mode="upsert"))
            assert [r for r in kit.service.store.all(shadow.kind) if r.sub_kind] == []

    run(main)


def held(kit: Kit, user: User, life_s: float, **restrictions: object) -> str:
    """A genuine certificate of a user who may sign for others."""
    now = kit.clock.now()
    fields = {
        "user": user.name,
        "cluster": "alpha.example",
        "roles": ("signer",),
        "logins": ("root",),
        "traits": {"logins": ("root",)},
        "valid_after": now - 60,
        "valid_before": now + life_s,
    }
    spec = msgspec.convert({**fields, **restrictions}, UserCertSpec)
    return x509.sign_user_tls(kit.service.authorities.user_tls, spec, user.tls_key.public_pem)


def test_a34_signing_for_others_does_not_outlive_ones_own_certificate(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=SIGNER))
            await kit.admin.call(CreateUser(name="noor", roles=["access"]))
            user = await kit.user("mira", "signer", login=False)
            client = kit.client(held(kit, user, 600), user.tls_key.private_pem)
            signed = await client.call(SignUserCerts(user="noor", **new_keys(), ttl_s=24 * 3600))
            assert signed.expires_at <= kit.clock.now() + 600
            # Signing for oneself would be a renewal without its bounds.
            with pytest.raises(DeniedError):
                await client.call(SignUserCerts(user="mira", **new_keys()))

    run(main)


@pytest.mark.parametrize(
    ("restriction", "value"),
    [
        ("disallow_reissue", True),
        ("allowed_resources", ("/alpha.example/node/x",)),
        ("impersonator", "mira"),
    ],
)
def test_a34_a_restricted_certificate_signs_nothing(short_tmp: Path, restriction: str, value: object) -> None:
    """What it signed would be free of the restriction."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=SIGNER))
            await kit.admin.call(CreateUser(name="noor", roles=["access"]))
            user = await kit.user("mira", "signer", login=False)
            client = kit.client(held(kit, user, 600, **{restriction: value}), user.tls_key.private_pem)
            with pytest.raises(DeniedError, match="access denied"):
                await client.call(SignUserCerts(user="noor", **new_keys()))

    run(main)


def test_a_deleted_user_does_not_go_on_following_the_log(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", "auditor")
            stream = kit.as_user(user).stream(SearchEvents(follow=True, since=1.0))
            seen = [await anext(stream)]

            async def follow() -> list[EventChunk]:
                return seen + [chunk async for chunk in stream]

            following = asyncio.ensure_future(follow())
            await kit.admin.call(DeleteResource(kind="user", name="mira"))
            await kit.admin.call(PutResource(resource=SIGNER))
            with pytest.raises(AccessError):
                await asyncio.wait_for(following, 10)

    run(main)


def test_a39_one_host_cannot_take_every_place_for_uploads(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_UPLOADS_PER_HOST", 2)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            greedy, other = await kit.join(), await kit.join()
            release = asyncio.Event()

            async def slow() -> AsyncIterator[bytes]:
                yield b"x"
                await release.wait()

            client = kit.as_host(greedy)
            sids = [await session(kit, greedy) for _ in range(3)]
            open_ones = [
                asyncio.ensure_future(client.upload(UploadRecording(session_id=sid), slow()))
                for sid in sids[:2]
            ]
            parts = short_tmp / "recordings"
            await until(lambda: len(list(parts.glob("*.part"))) == 2)
            with pytest.raises(LimitExceededError):
                await client.upload(UploadRecording(session_id=sids[2]), chunks(b"x"))
            sid = await session(kit, other)
            await kit.as_host(other).upload(UploadRecording(session_id=sid), chunks(b"x"))
            release.set()
            await asyncio.gather(*open_ones)
            await client.upload(UploadRecording(session_id=sids[2]), chunks(b"x"))

    run(main)


def test_recordings_of_the_same_moment_are_all_listed(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host chooses the times it tells; they must not hide anybody's session from a listing."""
    monkeypatch.setattr(limits, "SEARCH_PAGE", 3)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            first = event(kit, sid=str(uuid.uuid4()), user="mira", login="root")
            starts = [
                msgspec.structs.replace(
                    first, uid=str(uuid.uuid4()), fields={**first.fields, "sid": str(uuid.uuid4())}
                )
                for _ in range(7)
            ]
            client = kit.as_host(host)
            await client.call(EmitEvents(events=starts))
            for start in starts:
                sid = str(start.fields["sid"])
                await client.upload(UploadRecording(session_id=sid), chunks(b"x"))
            assert len(await recordings(kit.admin)) == 7

    run(main)


def test_listing_ones_own_recordings_does_not_walk_through_everybodys(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise every user could keep the Auth Service busy for as long as its history is long."""
    monkeypatch.setattr(limits, "SEARCH_PAGE", 3)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            host, user = await kit.join(), await kit.user("noor")
            client = kit.as_host(host)
            for number in range(7):
                sid = await session(kit, host, "noor" if number == 0 else "mira")
                await client.upload(UploadRecording(session_id=sid), chunks(b"x"))
            pages, ask = 0, kit.service.audit_log.recordings

            async def counted(*args: Any, **kwargs: Any) -> list[SessionRow]:
                nonlocal pages
                pages += 1
                return await ask(*args, **kwargs)

            kit.service.audit_log.recordings = counted  # type: ignore[method-assign]
            assert [r.participants for r in await recordings(kit.as_user(user))] == [["noor"]]
            assert pages == 1
            assert len(await recordings(kit.admin)) == 7

    run(main)


def test_an_invitation_used_by_many_at_once_sets_one_password(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            made = await kit.admin.call(CreateUser(name="mira", roles=["access"]))
            form = await kit.admin.call(GetSignup(token=made.token))
            secret = base64.b32decode(form.otp_secret + "=" * (-len(form.otp_secret) % 8))
            code = code_at(secret, int(kit.clock.now()) // 30)
            outcomes = await asyncio.gather(
                *(
                    kit.nobody(f"127.0.0.{n + 1}").call(
                        FinishSignup(token=made.token, password=f"{PASSWORD} {n}", otp=code)
                    )
                    for n in range(8)
                ),
                return_exceptions=True,
            )
            winners = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
            assert len(winners) == 1
            assert all(isinstance(o, DeniedError) for o in outcomes if isinstance(o, BaseException))
            # The code that proved the device at the signup is used up with it.
            with pytest.raises(DeniedError):
                await kit.nobody().call(
                    Login(user="mira", password=f"{PASSWORD} {winners[0]}", otp=code, **new_keys())
                )

    run(main)

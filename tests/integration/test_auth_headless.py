"""Headless logins at the Auth Service: asked for by anybody, approved by the user alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from pkgs.auth import limits
from pkgs.auth.headless import calls
from pkgs.common.api import headless
from pkgs.common.api.headless import DecideHeadless, GetHeadless, StartHeadless, headless_id
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, NotFoundError
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.pki.sshcert import line_to_blob, verify_user_cert
from pkgs.common.resources.kinds import AuthPreference, AuthPreferenceSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, User, auth, listed, run, stored


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "WAIT_S", 0.2)


def asking(user: str = "mira") -> StartHeadless:
    ssh, tls = new_ssh_key(), new_tls_key()
    return StartHeadless(
        user=user,
        headless_id=headless_id(ssh.public_line),
        ssh_public_key=ssh.public_line,
        tls_public_key=tls.public_pem,
    )


async def started(kit: Kit, user: str = "mira") -> StartHeadless:
    request = asking(user)
    assert (await kit.nobody().call(request)).certs is None
    return request


async def approve(kit: Kit, user: User, client: RpcClient, wanted: str) -> None:
    await client.call(DecideHeadless(headless_id=wanted, approve=True, otp=user.code(kit.clock)))


def test_an_approved_login_yields_a_certificate_for_a_minute(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            mira = await kit.user("mira", logins=("root", "deploy"))
            client = kit.as_user(mira)
            request = await started(kit)
            found = await client.call(GetHeadless(headless_id=request.headless_id))
            assert (found.user, found.client_addr) == ("mira", "127.0.0.1")
            waiting = asyncio.ensure_future(kit.nobody().call(request))
            await approve(kit, mira, client, request.headless_id)
            certs = (await waiting).certs or (await kit.nobody().call(request)).certs
            assert certs is not None
            now = kit.clock.now()
            identity = verify_user_cert(
                line_to_blob(certs.ssh_cert),
                trust=kit.service.authorities.trust,
                login="deploy",
                source_addr="192.0.2.1",
                now=now,
            )
            assert identity.name == "mira"
            assert identity.mfa_device
            assert 0 < identity.expires_at - now <= limits.HEADLESS_TTL_S + 1
            events = await stored(kit.admin, "user.login")
            assert [e.code for e in events if e.fields["method"] == "headless"] == ["T1012I", "T1013I"]
            # Picked up once; the id is nobody's again.
            assert (await kit.nobody().call(request)).certs is None

    run(main)


def test_a32_nobody_else_sees_or_decides_a_request(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            mira, noor = await kit.user("mira"), await kit.user("noor", "access", "editor", "auditor")
            request = await started(kit)
            for call in (
                GetHeadless(headless_id=request.headless_id),
                DecideHeadless(headless_id=request.headless_id, approve=False),
                DecideHeadless(headless_id=request.headless_id, approve=True, otp=noor.code(kit.clock)),
            ):
                with pytest.raises(NotFoundError, match="no such request"):
                    await kit.as_user(noor).call(call)
                for client in (kit.admin, kit.nobody(), kit.as_host(await kit.join())):
                    with pytest.raises(DeniedError):
                        await client.call(call)
            # Somebody who knows the id gets nothing by asking with other keys.
            other = asking()
            stolen = StartHeadless(
                user="mira",
                headless_id=request.headless_id,
                ssh_public_key=other.ssh_public_key,
                tls_public_key=other.tls_public_key,
            )
            with pytest.raises(InputError, match="its key"):
                await kit.nobody().call(stolen)
            mixed = StartHeadless(
                user="mira",
                headless_id=request.headless_id,
                ssh_public_key=request.ssh_public_key,
                tls_public_key=other.tls_public_key,
            )
            with pytest.raises(DeniedError, match="somebody else"):
                await kit.nobody().call(mixed)
            await approve(kit, mira, kit.as_user(mira), request.headless_id)
            assert (await kit.nobody().call(request)).certs is not None

    run(main)


def test_a50_codes_are_needed_count_and_lock(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            mira = await kit.user("mira")
            client = kit.as_user(mira)
            request = await started(kit)
            used = mira.code(kit.clock)
            await kit.login(mira, otp=used)
            for otp in ("", "000000", used, "x" * 1000):
                with pytest.raises(DeniedError, match="one-time code"):
                    await client.call(DecideHeadless(headless_id=request.headless_id, approve=True, otp=otp))
            failed = [e for e in await stored(kit.admin, "user.login") if e.code == "T1013W"]
            assert len(failed) == 4
            for _ in range(limits.FAILURES_TO_LOCK):
                with pytest.raises(DeniedError):
                    await client.call(DecideHeadless(headless_id=request.headless_id, approve=True, otp="1"))
            with pytest.raises(DeniedError):
                await approve(kit, mira, client, request.headless_id)
            with pytest.raises(DeniedError):  # and the login is locked as well
                await kit.login(mira)

    run(main)


@pytest.mark.parametrize(
    "restriction",
    [{"allowed_resources": ("/alpha.example/node/x",)}, {"force_command": "true"}],
    ids=["to resources", "to a command"],
)
def test_a34_a_restricted_certificate_approves_no_unrestricted_one(
    short_tmp: Path, restriction: dict[str, object]
) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            mira = await kit.user("mira")
            request = await started(kit)
            handlers = kit.service.handlers.headless
            assert mira.certs is not None
            whole = verify_user_cert(
                line_to_blob(mira.certs.ssh_cert),
                trust=kit.service.authorities.trust,
                login="root",
                source_addr="127.0.0.1",
                now=kit.clock.now(),
            )
            caller = Caller(identity=msgspec.structs.replace(whole, **restriction), remote_addr="127.0.0.1")
            for call in (
                handlers.get(caller, GetHeadless(headless_id=request.headless_id)),
                handlers.decide(
                    caller,
                    DecideHeadless(headless_id=request.headless_id, approve=True, otp=mira.code(kit.clock)),
                ),
            ):
                with pytest.raises(DeniedError, match="restricted"):
                    await call

    run(main)


def test_a_denial_reaches_the_other_machine(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            client = kit.as_user(await kit.user("mira"))
            request = await started(kit)
            await client.call(DecideHeadless(headless_id=request.headless_id, approve=False))
            with pytest.raises(NotFoundError):
                await client.call(GetHeadless(headless_id=request.headless_id))
            with pytest.raises(DeniedError, match="denied"):
                await kit.nobody().call(request)
            assert "T1014W" in [e.code for e in await stored(kit.admin, "user.login")]

    run(main)


def test_a54_waiting_requests_are_bounded_and_end(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            client = kit.as_user(await kit.user("mira"))
            first = await started(kit)
            for number in range(limits.HEADLESS_OF_SOURCE - 1):
                await kit.admin.call(asking(f"other{number}")) if number % 2 else await started(kit, "ghost")
            with pytest.raises(LimitExceededError):
                for _ in range(limits.HEADLESS_OF_SOURCE):
                    await kit.nobody().call(asking("somebody"))
            kit.clock.ahead += headless.LIFE_S
            with pytest.raises(NotFoundError):
                await client.call(GetHeadless(headless_id=first.headless_id))

    run(main)


def test_the_cluster_turns_it_off(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            (current,) = await listed(kit.admin, "cluster_auth_preference")
            mira = await kit.user("mira")
            request = await started(kit)
            for spec in (AuthPreferenceSpec(allow_headless=False), AuthPreferenceSpec(second_factor="off")):
                preference = AuthPreference(metadata=Metadata(name=current.name), spec=spec)
                await kit.admin.call(PutResource(resource=preference, mode="upsert"))
                with pytest.raises(DeniedError, match="turned off"):
                    await kit.nobody().call(asking())
                with pytest.raises(DeniedError, match="turned off"):
                    await approve(kit, mira, kit.as_user(mira), request.headless_id)

    run(main)

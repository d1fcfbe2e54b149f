"""What an Auth Service that died between two writes finds, and what it must not forget or keep for ever."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from pkgs.auth import limits
from pkgs.common.api.join import Join, RenewHostCerts
from pkgs.common.api.login import FinishSignup, GetSignup, Login, ResetUser
from pkgs.common.api.recordings import UploadRecording
from pkgs.common.api.resources import CreateToken, PutResource
from pkgs.common.errors import AlreadyExistsError, DeniedError, UnavailableError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import User, UserSpec
from pkgs.common.resources.metadata import Metadata
from tests.harness.wait import until

from .auth_kit import (
    PASSWORD,
    TOKEN,
    Kit,
    auth,
    chunks,
    new_keys,
    recordings,
    run,
    session,
    stored,
)


def join(token: str, **fields: str) -> Join:
    given = {"host_id": str(uuid.uuid4()), **new_keys(), **fields}
    return Join(token=token, role=SystemRole.NODE, node_name="node-1", **given)


def test_a_join_whose_answer_was_lost_with_the_process_is_answered_again(short_tmp: Path) -> None:
    """The token is used up and the host known, but it never got its certificates."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            once = {"teleport.internal/one-time": "yes"}
            token = (await kit.admin.call(CreateToken(roles=["node"], labels=once))).resource.name
            request = join(token)
            await kit.nobody().call(request)
        async with auth(short_tmp) as kit:
            again = await kit.nobody().call(request)
            assert again.host_id == request.host_id
            # Only that very request: with other keys or another token it is somebody else.
            for other in (
                join(token, host_id=request.host_id),
                join(TOKEN, host_id=request.host_id),
                join("guessed", host_id=request.host_id),
            ):
                with pytest.raises((AlreadyExistsError, DeniedError)):
                    await kit.nobody().call(other)
            with pytest.raises(DeniedError):
                await kit.nobody().call(join(token))
            kit.clock.ahead += limits.JOIN_REPEAT_S
            with pytest.raises(DeniedError):
                await kit.nobody().call(request)

    run(main)


def test_hosts_that_are_gone_are_forgotten_when_their_certificates_have_expired(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            gone, alive = await kit.join(), await kit.join()
            kit.clock.ahead += limits.HOST_CERT_TTL_S / 2
            await kit.as_host(alive).call(RenewHostCerts(node_name="node-1", **new_keys()))
            kit.clock.ahead += limits.HOST_CERT_TTL_S / 2 + limits.HOST_FORGOTTEN_S + 1
            await kit.service.backend.sweep()
            known = {item.key for item in await kit.service.backend.all("/host/")}
            assert known == {f"/host/{alive.id}"}
            assert gone.id != alive.id

    run(main)


def test_a_recording_that_was_stored_but_not_noted_is_noted_when_it_is_sent_again(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            sid = await session(kit, host)
        # Died after the file had its final name and before the log knew of it.
        (short_tmp / "recordings" / f"{sid}.rec").write_bytes(b"all of it")
        async with auth(short_tmp) as kit:
            await kit.as_host(host).upload(UploadRecording(session_id=sid), chunks(b"all of it"))
            (info,) = await recordings(kit.admin)
            assert (info.session_id, info.size) == (sid, 9)
            assert len(await stored(kit.admin, "session.upload")) == 1
            # And once only.
            await kit.as_host(host).upload(UploadRecording(session_id=sid), chunks(b"all of it"))
            assert len(await stored(kit.admin, "session.upload")) == 1

    run(main)


def test_a_user_is_made_and_an_earlier_ones_secrets_go_in_one_commit(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", login=False)
            held = kit.service.store.must("user", "mira")
            await kit.service.store.backend.delete("/resource/user/mira")
            secrets = await kit.service.backend.all("/secret/mira/")
            assert secrets
            commit, calls = kit.service.backend.commit, 0

            async def dies_after_one(operations: object) -> int:
                nonlocal calls
                calls += 1
                if calls > 1:
                    raise UnavailableError("the process died here")
                return await commit(operations)  # type: ignore[arg-type]

            kit.service.backend.commit = dies_after_one  # type: ignore[method-assign]
            made = User(metadata=Metadata(name=user.name), spec=UserSpec(roles=list(held.spec.roles)))  # type: ignore[union-attr]
            await kit.admin.call(PutResource(resource=made, mode="create"))
            assert await kit.service.backend.all("/secret/mira/") == []

    run(main)


def test_a_link_used_while_it_is_replaced_leaves_one_way_in(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.user("mira", login=False)
            first = await kit.admin.call(ResetUser(name="mira"))
            await kit.admin.call(ResetUser(name="mira"))
            with pytest.raises(DeniedError):
                await kit.nobody().call(GetSignup(token=first.token))
            with pytest.raises(DeniedError):
                await kit.nobody().call(FinishSignup(token=first.token, password=PASSWORD, otp="000000"))

    run(main)


def test_upkeep_goes_on_after_a_fault_of_our_own(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_EVERY_S", 0.01)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            sweep, faults = kit.service.backend.sweep, 0

            async def faulty() -> int:
                nonlocal faults
                faults += 1
                if faults == 1:
                    raise ValueError("a fault of our own")
                return await sweep()

            kit.service.backend.sweep = faulty  # type: ignore[method-assign]
            await until(lambda: faults >= 3)

    run(main)


def test_a_role_that_ran_out_is_a_failed_login_in_the_log(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", login=False)
            await kit.service.backend.delete("/resource/role/access")
            with pytest.raises(DeniedError):
                await login(kit, user.code(kit.clock))
            (failed,) = await stored(kit.admin, "user.login")
            assert failed.code == "T1000W"

    run(main)


async def login(kit: Kit, otp: str) -> None:
    await kit.nobody().call(Login(user="mira", password=PASSWORD, otp=otp, **new_keys()))

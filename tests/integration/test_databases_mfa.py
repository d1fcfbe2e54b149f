"""Databases whose sessions each need a one-time code, and those that an access request opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgs.common.api.databases import PrepareDatabaseSession
from pkgs.common.api.login import ReissueUserCerts, SignUserCerts
from pkgs.common.api.requests import CreateAccessRequest, SetAccessRequestState
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.pki.identity import RouteToDatabase
from pkgs.common.resources.role import Conditions, RequestConditions
from tests.integration.auth_kit import Kit, auth, events, new_keys, role, run
from tests.integration.databases_kit import DBA, databases, line, until
from tests.integration.requests_kit import who

ROUTE = RouteToDatabase(service="orders", protocol="echo", user="alice", database="app")
REFUSED = "error access to database orders denied: a one-time code is needed; 'tsh db connect'"


async def told(kit: Kit, kind: str, count: int) -> list[dict[str, object]]:
    """So many events, once they have arrived."""

    async def arrived() -> bool:
        return len(await events(kit, kind)) >= count

    await until(arrived, f"{count} events {kind}")
    return await events(kit, kind)


def test_each_session_needs_a_code(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            strict = role("strict", DBA, require_session_mfa=True, mfa_verification_interval="10m")
            await kit.admin.call(PutResource(resource=strict))
            ann, bob = await kit.user("ann", "strict"), await kit.user("bob", "dba")
            for user, needed in ((ann, True), (bob, False)):
                found = await kit.as_user(user).call(PrepareDatabaseSession(route=ROUTE))
                assert (found.needs_code, found.needs_user) == (needed, False)
            nobody = RouteToDatabase(service="orders", protocol="echo")
            assert (await kit.as_user(ann).call(PrepareDatabaseSession(route=nobody))).needs_user
            # The code of the login does not count, though the certificate of the login names the device.
            certs, key = await db.certs(ann)
            device = who(kit, certs).mfa_device
            assert device and device == who(kit, ann.certs).mfa_device  # type: ignore[arg-type]
            stream = await db.dial(certs.tls_cert, key)
            stream.write(b"hello alice app\n")
            assert (await line(stream)).startswith(REFUSED)
            refused = await told(kit, "db.session.start", 1)
            assert "session MFA required" in str(refused[-1]["error"])
            # A wrong one counts and is told of; one that was used is a wrong one.
            for otp in ("000000", "12345"):
                with pytest.raises(DeniedError, match="wrong, or was used"):
                    await db.certs(ann, otp=otp)
            code = ann.code(kit.clock)
            certs, key = await db.certs(ann, otp=code, ttl_s=60)
            with pytest.raises(DeniedError, match="wrong, or was used"):
                await db.certs(ann, otp=code)
            identity = who(kit, certs)
            assert identity.mfa_device == device and identity.expires_at <= kit.clock.now() + 61
            assert identity.previous_expires_at == who(kit, ann.certs).expires_at  # type: ignore[arg-type]
            stream = await db.dial(certs.tls_cert, key)
            stream.write(b"hello alice app\n")
            assert await line(stream) == "ok"
            validated = await events(kit, "mfa_auth_challenge.validate")
            assert [each["success"] for each in validated] == [False, False, True, False]
            assert validated[2]["db_service"] == "orders"
            started = (await told(kit, "db.session.start", 2))[-1]
            assert started["with_mfa"] == device and started["success"] is True
            # The session goes on when its certificate has ended; no other begins with it.
            kit.clock.ahead += 120
            stream.write(b"select 1\n")
            assert await line(stream) == "alice select 1"
            with pytest.raises(Exception, match=r"."):
                late = await db.dial(certs.tls_cert, key)
                late.write(b"hello alice app\n")
                assert await line(late) == "ok"
            # A tunnel's certificate lasts as long as the role says.
            certs, _ = await db.certs(ann, otp=ann.code(kit.clock), ttl_s=24 * 3600)
            assert kit.clock.now() + 540 < who(kit, certs).expires_at <= kit.clock.now() + 601

    run(main)


def test_a_login_that_took_no_code_gets_a_session_by_one(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            await kit.admin.call(PutResource(resource=role("strict", DBA, require_session_mfa="session")))
            ann = await kit.user("ann", "strict")
            keys = {"ssh_public_key": ann.ssh_key.public_line, "tls_public_key": ann.tls_key.public_pem}
            ann.certs = await kit.admin.call(SignUserCerts(user="ann", **keys))
            assert not who(kit, ann.certs).mfa_device
            certs, key = await db.certs(ann, otp=ann.code(kit.clock))
            assert who(kit, certs).mfa_device
            stream = await db.dial(certs.tls_cert, key)
            stream.write(b"hello alice app\n")
            assert await line(stream) == "ok"
            with pytest.raises(InputError, match="for a certificate of one database"):
                await kit.as_user(ann).call(ReissueUserCerts(**new_keys(), otp=ann.code(kit.clock)))

    run(main)


def test_a_request_is_assumed_and_a_database_named_in_one_call(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "auth") as kit, databases(kit, short_tmp / "db") as db:
            asker = Conditions(request=RequestConditions(roles=["dba"]))
            await kit.admin.call(PutResource(resource=role("asker", asker)))
            ann = await kit.user("ann", "asker")
            with pytest.raises(NotFoundError, match="no database 'orders'"):
                await db.certs(ann)
            asked = (await kit.as_user(ann).call(CreateAccessRequest(roles=["dba"]))).request
            await kit.admin.call(SetAccessRequestState(id=asked.name, state="APPROVED"))
            certs, key = await db.certs(ann, assume=[asked.name])
            assert who(kit, certs).active_requests == (asked.name,)
            stream = await db.dial(certs.tls_cert, key)
            stream.write(b"hello alice app\n")
            assert await line(stream) == "ok"
            # Given back in the same call: what it opened is not there.
            login = await kit.as_user(ann).call(
                ReissueUserCerts(
                    ssh_public_key=ann.ssh_key.public_line,
                    tls_public_key=ann.tls_key.public_pem,
                    assume=[asked.name],
                )
            )
            ann.certs = login
            assert (await db.certs(ann))[0].tls_cert
            with pytest.raises(NotFoundError, match="no database 'orders'"):
                await db.certs(ann, drop=["*"])

    run(main)

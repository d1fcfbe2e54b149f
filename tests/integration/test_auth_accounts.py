"""People at the Auth Service: they sign up and log in, get their certificates, and are locked out."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pkgs.common.api.login import (
    CreateUser,
    FinishSignup,
    GetSignup,
    ReissueUserCerts,
    ResetUser,
    SignHostCert,
    SignUserCerts,
)
from pkgs.common.api.resources import (
    DeleteResource,
    GetResource,
    PutResource,
)
from pkgs.common.api.system import GetClusterStatus
from pkgs.common.errors import (
    AlreadyExistsError,
    DeniedError,
    InputError,
    UnavailableError,
)
from pkgs.common.pki import sshcert
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.resources.kinds import (
    Lock,
    LockSpec,
    LockTarget,
    User,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from tests.harness.wait import until
from tests.integration.auth_kit import PASSWORD, auth, events, listed, role, run


def test_login_yields_certificates_with_the_fields_of_the_field(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", "access", "editor", logins=("root", "deploy"), login=False)
            certs = await kit.login(user, kit.nobody("127.0.0.9"), ttl_s=3600, user_agent="tsh/1")
            now = kit.clock.now()
            trust = kit.service.authorities.trust
            ssh = sshcert.verify_user_cert(
                sshcert.line_to_blob(certs.ssh_cert), trust=trust, login="deploy", source_addr="", now=now
            )
            assert ssh.roles == ("access", "editor")
            assert ssh.traits == {"logins": ("root", "deploy")}
            assert 3590 < ssh.expires_at - now <= 3600
            assert ssh.mfa_device
            assert ssh.login_ip == "127.0.0.9"
            assert ssh.route_to_cluster == "alpha.example"
            assert {"permit-pty", "permit-agent-forwarding", "permit-port-forwarding"} <= set(ssh.extensions)
            assert {ca.spec.type for ca in certs.authorities} == {"user", "host"}
            assert not any(pair.private_key for ca in certs.authorities for pair in ca.spec.active_keys.ssh)
            told = await events(kit, "user.login", "cert.create")
            assert [e["code"] for e in told] == ["T1000I", "TC000I"]
            assert told[0]["addr.remote"] == "127.0.0.9"
            user.certs = certs
            nodes = await listed(kit.as_user(user), "node")
            assert nodes == []

    run(main)


def test_roles_cap_the_lifetime_and_a_user_without_logins_gets_a_placeholder(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            short = role("short", Conditions(node_labels={"*": "*"}), max_session_ttl="10m")
            await kit.admin.call(PutResource(resource=short))
            user = await kit.user("mira", "short", logins=())
            assert user.certs is not None
            assert user.certs.expires_at - kit.clock.now() <= 600
            facts = sshcert.unverified_facts(sshcert.line_to_blob(user.certs.ssh_cert))
            assert all(p.startswith("no-login-") for p in facts.principals)

    run(main)


def test_signup_reset_and_the_links(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            made = await kit.admin.call(CreateUser(name="mira", roles=["access"]))
            assert made.url == f"https://proxy.example:3080/web/invite/{made.token}"
            anonymous = kit.nobody()
            form = await anonymous.call(GetSignup(token=made.token))
            assert form == await anonymous.call(GetSignup(token=made.token))
            with pytest.raises(InputError, match="at least 12"):
                await anonymous.call(FinishSignup(token=made.token, password="short"))
            with pytest.raises(InputError, match="at most 128"):
                await anonymous.call(FinishSignup(token=made.token, password="x" * 129))
            with pytest.raises(InputError, match="no second factor"):
                await anonymous.call(FinishSignup(token=made.token, password=PASSWORD))
            with pytest.raises(InputError, match="one-time code is wrong"):
                await anonymous.call(FinishSignup(token=made.token, password=PASSWORD, otp="000000x"))
            with pytest.raises(AlreadyExistsError, match="already registered"):
                await kit.admin.call(CreateUser(name="mira", roles=["access"]))
            user = await kit.user("noor")
            with pytest.raises(DeniedError, match="not valid or has expired"):
                await anonymous.call(GetSignup(token="0" * 32))
            reset = await kit.admin.call(ResetUser(name="noor"))
            assert "/web/reset/" in reset.url
            with pytest.raises(DeniedError, match="invalid username"):
                await kit.login(user)
            again = await kit.admin.call(ResetUser(name="noor"))
            with pytest.raises(DeniedError):
                await anonymous.call(GetSignup(token=reset.token))
            kit.clock.ahead += 8 * 3600 + 1
            with pytest.raises(DeniedError):
                await anonymous.call(GetSignup(token=again.token))

    run(main)


@pytest.mark.parametrize(
    ("mode", "needs"), [("off", False), ("optional", False), ("on", True), ("otp", True)]
)
def test_second_factor_modes(short_tmp: Path, mode: str, needs: bool) -> None:
    async def main() -> None:
        extra = f"  authentication: {{second_factor: '{mode}'}}"
        async with auth(short_tmp, extra=extra) as kit:
            made = await kit.admin.call(CreateUser(name="mira", roles=["access"]))
            signup = kit.admin.call(FinishSignup(token=made.token, password=PASSWORD))
            if needs:
                with pytest.raises(InputError):
                    await signup
                return
            await signup
            keys = {
                "ssh_public_key": new_ssh_key().public_line,
                "tls_public_key": new_tls_key().public_pem,
            }
            from pkgs.common.api.login import Login

            await kit.admin.call(Login(user="mira", password=PASSWORD, **keys))
            if mode == "optional":
                with_factor = await kit.user("noor")
                with pytest.raises(DeniedError):
                    await kit.login(with_factor, otp="")

    run(main)


def test_no_password_of_an_earlier_user_of_the_same_name_comes_back(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", login=False)
            got = (await kit.admin.call(GetResource(kind="user", name="mira"))).resource
            expires = datetime.fromtimestamp(kit.clock.now() + 30, UTC)
            metadata = msgspec.structs.replace(got.metadata, expires=expires)
            leaving = msgspec.structs.replace(got, metadata=metadata)
            await kit.admin.call(PutResource(resource=leaving, mode="update"))
            kit.clock.ahead += 31
            for mode in ("upsert", "create"):
                again = User(metadata=Metadata(name="mira"), spec=got.spec)
                await kit.admin.call(PutResource(resource=again, mode=mode))
                kit.clock.ahead += 60
                with pytest.raises(DeniedError, match="invalid username"):
                    await kit.login(user)
                await kit.admin.call(DeleteResource(kind="user", name="mira"))

    run(main)


def test_a_lock_ends_connections_and_refuses_new_certificates(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", "access")
            client = kit.as_user(user)
            await client.call(GetClusterStatus())
            target = LockTarget(user="mira")
            lock = Lock(metadata=Metadata(name="l1"), spec=LockSpec(target=target, message="lost laptop"))
            await kit.admin.call(PutResource(resource=lock))

            async def refused() -> bool:
                try:
                    await client.call(GetClusterStatus())
                except UnavailableError:
                    return False
                except DeniedError as error:
                    return "lost laptop" in error.message
                return False

            await until(refused)
            with pytest.raises(DeniedError, match="lost laptop"):
                await kit.login(user)
            await kit.admin.call(DeleteResource(kind="lock", name="l1"))
            await kit.login(user)
            empty = Lock(metadata=Metadata(name="all"), spec=LockSpec(target=LockTarget()))
            with pytest.raises(InputError, match="needs a target"):
                await kit.admin.call(PutResource(resource=empty))

    run(main)


def test_reissue_and_signing_for_others(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira", "access", "editor")
            ssh_key, tls_key = new_ssh_key(), new_tls_key()
            keys = {"ssh_public_key": ssh_key.public_line, "tls_public_key": tls_key.public_pem}
            client = kit.as_user(user)
            renewed = await client.call(ReissueUserCerts(**keys, ttl_s=600))
            assert renewed.expires_at <= kit.clock.now() + 600
            signed = await kit.admin.call(SignUserCerts(user="mira", **keys, ttl_s=24 * 3600))
            assert signed.expires_at - kit.clock.now() > 23 * 3600
            with pytest.raises(DeniedError):
                await client.call(SignUserCerts(user="mira", **keys))
            host_cert = await kit.admin.call(
                SignHostCert(principals=["db1.internal"], ssh_public_key=ssh_key.public_line, ttl_s=3600)
            )
            facts = sshcert.unverified_facts(sshcert.line_to_blob(host_cert.ssh_cert))
            assert facts.principals == ("db1.internal",)

    run(main)


@pytest.mark.needs("ssh-keygen")
def test_stock_ssh_keygen_reads_the_certificates(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = await kit.user("mira")
            assert user.certs is not None
            path = short_tmp / "id-cert.pub"
            path.write_text(user.certs.ssh_cert + "\n")
            shown = await asyncio.to_thread(
                subprocess.run, ["ssh-keygen", "-L", "-f", path], capture_output=True, text=True, check=True
            )
            assert 'Key ID: "mira"' in shown.stdout
            assert "root" in shown.stdout

    run(main)

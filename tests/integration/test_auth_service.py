"""The Auth Service from outside: a cluster is made, people sign up and log in, hosts join and heartbeat."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pkgs.common.api.audit import SearchEvents, VerifyAudit
from pkgs.common.api.join import RenewHostCerts
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
    CreateToken,
    DeleteResource,
    GetResource,
    Heartbeat,
    PutResource,
    WatchResources,
)
from pkgs.common.api.system import GetClusterStatus, GetHostCa, GetTrustAnchors, Ping
from pkgs.common.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    UnavailableError,
)
from pkgs.common.pki import sshcert, x509
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.pki.pins import check_pin
from pkgs.common.resources.kinds import (
    AuthPreference,
    CertAuthority,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    ServerSpec,
    Token,
    User,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec, Rule
from pkgs.common.rpc.client import Endpoint, RpcClient
from tests.harness.wait import until
from tests.integration.auth_kit import PASSWORD, TOKEN, Kit, auth, listed, run


def role(name: str, allow: Conditions, **options: object) -> Role:
    return Role(metadata=Metadata(name=name), spec=RoleSpec(allow=allow, options=RoleOptions(**options)))  # type: ignore[arg-type]


async def events(kit: Kit, *types: str) -> list[dict[str, object]]:
    found = kit.admin.stream(SearchEvents(types=list(types)))
    return [
        {"event": e.event.event, "code": e.event.code, **e.event.fields}
        async for c in found
        for e in c.events
    ]


def test_a_new_cluster_has_all_it_needs_and_survives_a_restart(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            status = await kit.admin.call(GetClusterStatus())
            assert {row.type for row in status.authorities} == {
                "user", "host", "db", "db_client", "openssh", "jwt", "saml_idp", "oidc_idp", "spiffe", "okta",
                "awsra", "bound_keypair",
            }  # fmt: skip
            anonymous = kit.nobody()
            assert (await anonymous.call(Ping())).second_factor == "otp"
            check_pin((await anonymous.call(GetHostCa())).host_ca_pems, status.ca_pins)
            assert {r.name for r in await listed(kit.admin, "role")} == {"access", "editor", "auditor"}
            user = await kit.user("mira")
        async with auth(short_tmp) as kit:
            assert (await kit.admin.call(GetClusterStatus())).ca_pins == status.ca_pins
            assert (await kit.as_user(user).call(Ping())).cluster_name == "alpha.example"
            kit.clock.ahead += 60
            await kit.login(user)

    run(main)


def test_another_cluster_name_in_the_file_is_refused(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp):
            pass
        for file in (short_tmp / "backend").iterdir():
            assert file.stat().st_mode & 0o077 == 0
        with pytest.raises(InputError, match="cannot be renamed"):
            from pkgs.auth.backend.sqlite import SqliteBackend
            from pkgs.auth.state.bootstrap import ensure_cluster
            from pkgs.auth.state.store import Store

            backend = SqliteBackend(short_tmp / "backend")
            try:
                store = Store(backend)
                await store.load()
                await ensure_cluster(store, backend, "beta.example")
            finally:
                await backend.close()

    run(main)


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


def test_join_renew_and_heartbeat(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join(client=kit.nobody(), additional_principals=["node-1.internal"])
            client = kit.as_host(host)
            now = kit.clock.now()
            identity = sshcert.verify_host_cert(
                sshcert.line_to_blob(host.certs.ssh_cert),
                trust=kit.service.authorities.trust,
                names=["node-1.alpha.example"],
                now=now,
            )
            assert identity.system_roles == (SystemRole.NODE,)
            assert 29 * 86400 < identity.expires_at - now < 31 * 86400
            node = Node(
                metadata=Metadata(name=host.id, labels={"env": "prod"}),
                spec=ServerSpec(hostname="node-1", use_tunnel=True),
            )
            await client.call(Heartbeat(server=node, ttl_s=60))
            user = await kit.user("mira")
            (seen,) = await listed(kit.as_user(user), "node")
            assert isinstance(seen, Node)
            assert seen.spec.hostname == "node-1"
            assert seen.metadata.expires is not None
            assert await listed(kit.admin, "node", labels={"env": "prod"}, search=["NODE"]) == [seen]
            assert await listed(kit.admin, "node", labels={"env": "qa"}) == []
            ssh_key, tls_key = new_ssh_key(), new_tls_key()
            renewed = await client.call(
                RenewHostCerts(
                    node_name="node-1", ssh_public_key=ssh_key.public_line, tls_public_key=tls_key.public_pem
                )
            )
            assert renewed.host_id == host.id
            kit.clock.ahead += 61
            assert await listed(kit.admin, "node") == []
            await until(lambda: kit.service.store.get("node", host.id) is None)

    run(main)


def test_tokens_are_made_listed_and_removed(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            got = await kit.admin.call(CreateToken(roles=["node", "Proxy"], ttl_s=60))
            assert isinstance(got.resource, Token)
            assert len(got.resource.name) == 32
            assert got.resource.spec.roles == ["Node", "Proxy"]
            with pytest.raises(AlreadyExistsError):
                await kit.admin.call(CreateToken(roles=["node"], value=got.resource.name))
            with pytest.raises(InputError, match="no token makes a host"):
                await kit.admin.call(CreateToken(roles=["auth"]))
            with pytest.raises(InputError, match="unknown service role"):
                await kit.admin.call(CreateToken(roles=["toaster"]))
            assert {t.name for t in await listed(kit.admin, "token")} >= {got.resource.name, TOKEN}
            await kit.join(token=got.resource.name, role=SystemRole.PROXY)
            with pytest.raises(InputError, match="configuration file"):
                await kit.admin.call(DeleteResource(kind="token", name=TOKEN))
            await kit.admin.call(DeleteResource(kind="token", name=got.resource.name))
            with pytest.raises(DeniedError):
                await kit.join(token=got.resource.name)
            told = await events(kit, "join_token.create", "instance.join")
            assert all(got.resource.name not in str(event) for event in told)

    run(main)


def test_resources_create_update_conflict_delete(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            made = (
                await kit.admin.call(PutResource(resource=role("dev", Conditions(logins=["dev"]))))
            ).resource
            with pytest.raises(AlreadyExistsError, match="--force"):
                await kit.admin.call(PutResource(resource=made))
            changed = msgspec.structs.replace(
                made, metadata=msgspec.structs.replace(made.metadata, description="developers")
            )
            updated = (await kit.admin.call(PutResource(resource=changed, mode="update"))).resource
            assert updated.metadata.revision != made.metadata.revision
            with pytest.raises(ConflictError, match="somebody else"):
                await kit.admin.call(PutResource(resource=changed, mode="update"))
            got = (await kit.admin.call(GetResource(kind="roles", name="dev"))).resource
            assert got == updated
            await kit.admin.call(PutResource(resource=made, mode="upsert"))
            await kit.user("mira", "dev")
            with pytest.raises(InputError, match="used by 1 user"):
                await kit.admin.call(DeleteResource(kind="role", name="dev"))
            await kit.admin.call(DeleteResource(kind="user", name="mira"))
            await kit.admin.call(DeleteResource(kind="role", name="dev"))
            with pytest.raises(NotFoundError):
                await kit.admin.call(DeleteResource(kind="role", name="dev"))
            with pytest.raises(InputError, match="service role"):
                await kit.admin.call(PutResource(resource=role("Node", Conditions())))
            with pytest.raises(InputError, match="does not exist"):
                await kit.admin.call(CreateUser(name="x", roles=["nope"]))
            codes = [e["code"] for e in await events(kit, "role.created", "role.updated", "role.deleted")]
            assert codes == ["T9000I", "T9002I", "T9002I", "T9001I"]

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


def test_settings_of_the_file_win_and_others_reset(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp, extra="  message_of_the_day: be kind") as kit:
            (preference,) = await listed(kit.admin, "cap")
            assert isinstance(preference, AuthPreference)
            assert preference.spec.message_of_the_day == "be kind"
            with pytest.raises(InputError, match="configuration file"):
                await kit.admin.call(PutResource(resource=preference, mode="upsert"))
        async with auth(short_tmp) as kit:
            (preference,) = await listed(kit.admin, "cap")
            assert isinstance(preference, AuthPreference)
            assert preference.spec.message_of_the_day == ""
            spec = msgspec.structs.replace(preference.spec, message_of_the_day="hello")
            await kit.admin.call(
                PutResource(resource=msgspec.structs.replace(preference, spec=spec), mode="upsert")
            )
            assert (await kit.admin.call(Ping())).has_motd
        async with auth(short_tmp) as kit:
            assert (await kit.admin.call(Ping())).has_motd
            await kit.admin.call(DeleteResource(kind="cap", name=""))
            assert not (await kit.admin.call(Ping())).has_motd

    run(main)


def test_rules_decide_what_a_user_may_do(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            viewer = role("viewer", Conditions(rules=[Rule(resources=["role"], verbs=["list", "read"])]))
            await kit.admin.call(PutResource(resource=viewer))
            client = kit.as_user(await kit.user("mira", "viewer"))
            assert {r.name for r in await listed(client, "role")} >= {"viewer", "editor"}
            for call in (
                PutResource(resource=role("mine", Conditions())),
                DeleteResource(kind="role", name="viewer"),
                CreateToken(roles=["node"]),
                CreateUser(name="x", roles=["editor"]),
                ResetUser(name="mira"),
                GetResource(kind="token", name=TOKEN),
                VerifyAudit(),
            ):
                with pytest.raises(DeniedError, match="access denied"):
                    await client.call(call)  # type: ignore[arg-type]
            with pytest.raises(DeniedError):
                await listed(client, "token")
            own = (await client.call(GetResource(kind="user", name="mira"))).resource
            assert isinstance(own, User)
            editor = kit.as_user(await kit.user("noor", "editor"))
            await editor.call(CreateUser(name="x", roles=["access"]))
            assert len((await editor.call(GetTrustAnchors())).authorities) == 12

    run(main)


def test_watch_gives_a_snapshot_then_changes(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            proxy = await kit.join(SystemRole.PROXY)
            stream = kit.as_host(proxy).stream(WatchResources(kinds=["role", "lock", "cert_authority"]))
            items = []
            async for item in stream:
                items.append(item)
                if item.op == "ready":
                    break
            snapshot = [r for item in items if item.op == "snapshot" for r in item.resources]
            assert {r.name for r in snapshot if r.kind == "role"} == {"access", "editor", "auditor"}
            authorities = [r for r in snapshot if isinstance(r, CertAuthority)]
            assert len(authorities) == 12
            assert b"PRIVATE" not in msgspec.json.encode(authorities)
            lock = Lock(metadata=Metadata(name="l1"), spec=LockSpec(target=LockTarget(user="nobody")))
            await kit.admin.call(PutResource(resource=lock))
            await kit.admin.call(DeleteResource(kind="lock", name="l1"))
            put, gone = await anext(stream), await anext(stream)
            assert (put.op, put.kind, put.name) == ("put", "lock", "l1")
            assert (gone.op, gone.kind, gone.name) == ("delete", "lock", "l1")
            await stream.aclose()  # type: ignore[attr-defined]

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


def test_following_the_audit_log(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.user("mira")
            stream = kit.admin.stream(SearchEvents(follow=True, types=["role.created"]))
            waiting = asyncio.ensure_future(anext(stream))
            verdict = await kit.admin.call(VerifyAudit())
            assert verdict.ok
            assert verdict.events >= 5
            names = [f"r{i}" for i in range(3)]

            async def made() -> bool:
                name = f"x-{uuid.uuid4()}"
                await kit.admin.call(PutResource(resource=role(name, Conditions())))
                names.append(name)
                return waiting.done()

            await until(made)
            assert (await waiting).events[0].event.code == "T9000I"
            await stream.aclose()  # type: ignore[attr-defined]
            found = await events(kit, "user.login")
            assert [e["user"] for e in found] == ["mira"]
            newest = kit.admin.stream(SearchEvents(order="desc", limit=1))
            (chunk,) = [c async for c in newest]
            assert chunk.events[0].event.event == "role.created"

    run(main)


def test_tinydb_as_storage(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp, teleport="storage: {type: tinydb}") as kit:
            user = await kit.user("mira")
        assert (short_tmp / "backend" / "state.json").exists()
        async with auth(short_tmp, teleport="storage: {type: tinydb}") as kit:
            kit.clock.ahead += 60
            await kit.login(user)

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


def test_the_server_proves_itself_as_the_auth_service(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            client = kit.nobody()
            await client.call(Ping())
            der = client.peer_certificate()
            assert der is not None
            identity = x509.verify_peer(der, trust=kit.service.authorities.trust, now=kit.clock.now())
            assert identity.is_host(SystemRole.AUTH)
            assert identity.name == (short_tmp / "host_uuid").read_text().strip()
            assert (short_tmp / "auth.sock").stat().st_mode & 0o777 == 0o600

    run(main)


def test_a55_an_unsigned_proxy_header_is_not_believed(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            for header in (
                b"PROXY TCP4 203.0.113.7 127.0.0.1 50000 3025\r\n",
                b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\xc3\x50\x0b\xd1",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", kit.port)
                writer.write(header)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
                writer.close()
            await kit.nobody().call(Ping())

    run(main)


def test_a_reload_takes_tokens_and_settings_from_the_file(short_tmp: Path) -> None:
    """With the real process: SIGHUP, then SIGTERM."""
    config = short_tmp / "teleport.yaml"

    def write(extra: str) -> None:
        config.write_text(
            f"version: v3\nteleport: {{nodename: hub, data_dir: {short_tmp}/data}}\n"
            "proxy_service: {enabled: no}\nssh_service: {enabled: no}\n"
            f"auth_service:\n  cluster_name: alpha\n  listen_addr: 127.0.0.1:0\n{extra}"
        )

    async def main() -> None:
        write("")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pkgs.auth.main", "-c", str(config), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            socket_path = short_tmp / "data" / "auth.sock"
            await until(socket_path.exists, 20)
            client = RpcClient(Endpoint(unix_path=str(socket_path)))
            assert not (await client.call(Ping())).has_motd
            write("  message_of_the_day: hello\n  tokens: ['node:written-later']\n")
            process.send_signal(signal.SIGHUP)

            async def taken() -> bool:
                return (await client.call(Ping())).has_motd

            await until(taken)
            assert [t.name for t in await listed(client, "token")] == ["written-later"]
            # A file with a mistake changes nothing.
            write("  message_of_the_day: [\n")
            process.send_signal(signal.SIGHUP)
            assert (await client.call(Ping())).has_motd
            await client.close()
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0

    run(main)

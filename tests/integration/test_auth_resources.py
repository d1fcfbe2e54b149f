"""Hosts and resources at the Auth Service: joins, heartbeats, tokens, changes, rules, the watch."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pkgs.common.api.audit import VerifyAudit
from pkgs.common.api.join import RenewHostCerts
from pkgs.common.api.login import (
    CreateUser,
    ResetUser,
)
from pkgs.common.api.resources import (
    CreateToken,
    DeleteResource,
    GetResource,
    Heartbeat,
    PutResource,
    WatchResources,
)
from pkgs.common.api.system import GetTrustAnchors, Ping
from pkgs.common.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
)
from pkgs.common.pki import sshcert
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.resources.documents.owned import with_revision
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
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.role import Conditions, Rule
from tests.harness.wait import until
from tests.integration.auth_kit import TOKEN, auth, events, listed, role, run

PRESETS = {preset.name for preset in preset_roles()}


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
            with pytest.raises(ConflictError, match="leave out metadata"):
                await kit.admin.call(PutResource(resource=made, mode="upsert"))
            await kit.admin.call(PutResource(resource=with_revision(made, ""), mode="upsert"))
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
            assert {r.name for r in snapshot if r.kind == "role"} == PRESETS
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

"""Conditions of rules, and `tctl access`, against a real Auth Service."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec
import pytest

from pkgs.common.access.explaining.explain import Explained, Missing
from pkgs.common.api.access import ExplainAccess, Grant, Somebody, WhatCan, WhoCan
from pkgs.common.api.login import CreateUser, ResetUser, SignUserCerts
from pkgs.common.api.resources import CreateToken, DeleteResource, GetResource, PutResource
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, auth, listed, new_keys, run

NODES = {name: str(uuid.uuid4()) for name in ("web1", "db1")}
BLUE = 'resource.metadata.labels["team"] == "blue"'


def role(name: str, *rules: Rule, labels: dict[str, str] | None = None, **allow: object) -> Role:
    conditions = msgspec.convert(
        {**allow, "rules": [msgspec.to_builtins(rule) for rule in rules]}, Conditions
    )
    return Role(metadata=Metadata(name=name, labels=labels or {}), spec=RoleSpec(allow=conditions))


async def prepared(kit: Kit) -> None:
    for name, env in (("web1", "prod"), ("db1", "dev")):
        await kit.admin.call(
            PutResource(
                resource=Node(
                    metadata=Metadata(name=NODES[name], labels={"env": env}), spec=ServerSpec(hostname=name)
                )
            )
        )


async def grants(client: RpcClient, request: WhoCan | WhatCan) -> list[Grant]:
    return [grant async for part in client.stream(request) for grant in part.grants]


def test_a_condition_is_asked_about_the_very_object(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            verbs = ["list", "read", "create", "update", "delete"]
            team = role("team", Rule(resources=["role", "user", "token"], verbs=verbs, where=BLUE))
            for made in (team, role("mine", labels={"team": "blue"}), role("theirs", labels={"team": "red"})):
                await kit.admin.call(PutResource(resource=made))
            client = kit.as_user(await kit.user("mira", "team"))
            assert [found.name for found in await listed(client, "role")] == ["mine"]
            await client.call(GetResource(kind="role", name="mine"))
            for name in ("theirs", "access", "not-there"):
                # Not allowed and not there are told alike.
                with pytest.raises(DeniedError, match='"read" on "role"'):
                    await client.call(GetResource(kind="role", name=name))
                with pytest.raises(DeniedError, match='"delete" on "role"'):
                    await client.call(DeleteResource(kind="role", name=name))
            # Neither taking over what is theirs, nor giving away what is mine, nor making what is nobody's.
            for name, labels in (("theirs", "blue"), ("mine", "red"), ("new", "red")):
                with pytest.raises(DeniedError):
                    changed = role(name, labels={"team": labels})
                    await client.call(PutResource(resource=changed, mode="upsert"))
            await client.call(PutResource(resource=role("mine", labels={"team": "blue"}), mode="upsert"))
            await client.call(PutResource(resource=role("new", labels={"team": "blue"})))
            await client.call(DeleteResource(kind="role", name="new"))
            with pytest.raises(DeniedError):
                await client.call(CreateToken(roles=["Node"]))
            await client.call(CreateToken(roles=["Node"], labels={"team": "blue"}))
            with pytest.raises(DeniedError):
                await client.call(CreateUser(name="zed", roles=["access"], traits={}))
            with pytest.raises(DeniedError):
                await client.call(ResetUser(name="mira"))

    run(main)


def test_a_condition_on_signing(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            where = 'impersonate_user.metadata.name == "bot"'
            signs = role("signs", impersonate={"users": ["*"], "roles": ["*"], "where": where})
            await kit.admin.call(PutResource(resource=signs))
            # The verb that signed before impersonation was decided gives nothing by itself.
            used = role("uses", Rule(resources=["user"], verbs=["use"]))
            await kit.admin.call(PutResource(resource=used))
            for name in ("bot", "noor"):
                await kit.admin.call(CreateUser(name=name, roles=["access"], traits={}))
            client = kit.as_user(await kit.user("mira", "signs"))
            assert await client.call(SignUserCerts(user="bot", ttl_s=60, **new_keys()))
            for name in ("mira", "noor", "not-there"):
                with pytest.raises(DeniedError, match="access denied to impersonate user"):
                    await client.call(SignUserCerts(user=name, ttl_s=60, **new_keys()))
            other = kit.as_user(await kit.user("uma", "uses"))
            with pytest.raises(DeniedError, match="access denied to impersonate user"):
                await other.call(SignUserCerts(user="bot", ttl_s=60, **new_keys()))

    run(main)


def test_a_mistake_is_refused_when_stored_with_its_place(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            bad = role("bad", node_labels_expression='lables["env"] == "prod"')
            with pytest.raises(InputError) as caught:
                await kit.admin.call(PutResource(resource=bad))
            assert caught.value.message.startswith(
                "role/bad: spec.allow.node_labels_expression: at character 1: unknown name 'lables', did you"
            )
            bad = role("bad", Rule(resources=["role"], verbs=["read"], where="name = `x`"))
            with pytest.raises(
                InputError, match=r"role/bad: spec.allow.rules\[0\].where: at character 6: = is not"
            ):
                await kit.admin.call(PutResource(resource=bad))

    run(main)


def test_explaining(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await prepared(kit)
            text = 'contains(user.spec.traits["logins"], "root") && labels["env"] == "dev"'
            await kit.admin.call(
                PutResource(resource=role("dev", logins=["dev"], node_labels_expression=text))
            )
            await kit.user("mira", "access", login=False)
            await kit.user("zoe", "dev", login=False)
            await kit.user("ed", "editor", login=False)

            def asked(user: str, *words: str, roles: tuple[str, ...] = ()) -> ExplainAccess:
                return ExplainAccess(who=Somebody(user=user, roles=list(roles)), words=list(words))

            ssh = asked("mira", "ssh", "root@web1")
            found = await kit.admin.call(ssh)
            assert found.allowed and found.missing == [] and found.resource_id == NODES["web1"]
            found = await kit.admin.call(asked("mira", "ssh", "deploy@web1"))
            assert not found.allowed
            assert [(s.change, s.role, s.field, s.value) for s in found.missing] == [
                ("add", "access", "allow.logins", "deploy")
            ]
            found = await kit.admin.call(asked("mira", "ssh", f"root@{NODES['db1']}", roles=("editor",)))
            assert not found.allowed and found.roles == ["editor"]
            update = asked("ed", "resource", "roles", "update", "access")
            assert (await kit.admin.call(update)).allowed
            assert not (await kit.admin.call(asked("mira", "resource", "roles", "update", "access"))).allowed
            for wrong in (
                asked("nobody", "ssh", "root@web1"),
                asked("mira", "ssh", "root@nowhere"),
                asked("ed", "resource", "roles", "update", "nothing"),
            ):
                with pytest.raises(NotFoundError):
                    await kit.admin.call(wrong)
            assert [g.user for g in await grants(kit.admin, WhoCan(words=["ssh", "root@web1"]))] == ["mira"]
            (who,) = await grants(kit.admin, WhoCan(words=["ssh", "dev@db1"]))
            assert who.user == "zoe" and who.reasons == [
                "role dev: allow.logins and allow.node_labels_expression"
            ]
            what = await grants(kit.admin, WhatCan(who=Somebody(user="mira")))
            assert [(g.resource, g.principals) for g in what] == [("db1", ["root"]), ("web1", ["root"])]
            assert await grants(kit.admin, WhatCan(who=Somebody(user="ed"), actions=["ssh"])) == []

    run(main)


def test_only_who_may_read_roles_and_users_is_told(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await prepared(kit)
            only = role("only", Rule(resources=["role"], verbs=["read"]))
            some = role("some", Rule(resources=["role", "user"], verbs=["read"], where='name == "mira"'))
            reader = role("reader", Rule(resources=["role", "user"], verbs=["read"]))
            for made in (only, some, reader):
                await kit.admin.call(PutResource(resource=made))
            ask = ExplainAccess(who=Somebody(user="mira"), words=["ssh", "root@web1"])
            for name, roles in (("mira", ("access",)), ("otto", ("only",)), ("sue", ("some",))):
                client = kit.as_user(await kit.user(name, *roles))
                with pytest.raises(DeniedError):
                    await client.call(ask)
                for request in (WhoCan(words=["ssh", "root@web1"]), WhatCan(who=Somebody(user="mira"))):
                    with pytest.raises(DeniedError):
                        await grants(client, request)
            client = kit.as_user(await kit.user("rita", "reader"))
            assert (await client.call(ask)).allowed
            token = await kit.admin.call(CreateToken(roles=["Node"]))
            for name in (token.resource.name, "a-guess"):
                # A join token's name is its secret: nobody finds one by asking why.
                guess = ExplainAccess(who=Somebody(user="mira"), words=["resource", "token", "read", name])
                with pytest.raises(DeniedError, match='"read" on "token"'):
                    await client.call(guess)
            with pytest.raises(DeniedError):
                await kit.nobody().call(ask)

    run(main)


def test_everything_that_is_protected_can_be_asked_about(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await prepared(kit)
            documents = """
kind: db
metadata: {name: orders, labels: {env: dev}}
spec: {protocol: postgres, uri: 'db:5432'}
---
kind: app
metadata: {name: wiki, labels: {env: dev}}
spec: {uri: 'http://127.0.0.1:1'}
---
kind: kube_cluster
metadata: {name: prod, labels: {env: dev}}
---
kind: windows_desktop
metadata: {name: win1, labels: {env: dev}}
spec: {addr: 'win1:3389'}
---
kind: role
version: v7
metadata: {name: dev}
spec:
  allow:
    db_labels: {env: dev}
    db_users: [app]
    db_names: ['*']
    app_labels: {env: dev}
    kubernetes_labels: {env: dev}
    kubernetes_groups: [viewers]
    windows_desktop_labels: {env: dev}
    windows_desktop_logins: [jdoe]
---
kind: role
version: v7
metadata: {name: office}
spec:
  allow:
    app_labels: {env: dev}
    when: [{hours: '08:00-18:00'}]
    from: [10.0.0.0/8]
"""
            for resource in load_documents(documents):
                await kit.admin.call(PutResource(resource=resource))
            await kit.user("mira", "dev", login=False)
            await kit.user("otto", "office", login=False)
            for words, allowed in (
                ("db app@orders/main", True),
                ("db root@orders/main", False),
                ("app wiki", True),
                ("kube prod", True),
                ("kube prod get pods default/x", True),
                ("desktop jdoe@win1", True),
                ("desktop root@win1", False),
            ):
                found = await kit.admin.call(ExplainAccess(who=Somebody(user="mira"), words=words.split()))
                assert (found.allowed, found.action) == (allowed, words), found
                assert bool(found.missing) is not allowed
                who = await grants(kit.admin, WhoCan(words=words.split()))
                assert [g.user for g in who] == (["mira"] if allowed else [])
            kube = await kit.admin.call(ExplainAccess(who=Somebody(user="mira"), words=["kube", "prod"]))
            assert kube.principals["kubernetes_groups"] == ["viewers"]
            what = await grants(kit.admin, WhatCan(who=Somebody(user="mira")))
            assert [(g.action, g.resource, g.principals) for g in what] == [
                ("db", "orders", ["app/*"]),
                ("app", "wiki", [""]),
                ("kube", "prod", [""]),
                ("desktop", "win1", ["jdoe"]),
            ]
            only = await grants(kit.admin, WhatCan(who=Somebody(user="mira"), actions=["app"]))
            assert [g.action for g in only] == ["app"]
            noon, night = 1_800_014_400.0, 1_799_971_200.0
            for at, addr, allowed in (
                (noon, "10.1.2.3", True),
                (noon, "192.0.2.1", False),
                (noon, "", False),
                (night, "10.1.2.3", False),
            ):
                asked = Somebody(user="otto", at=at, source_addr=addr)
                found = await kit.admin.call(ExplainAccess(who=asked, words=["app", "wiki"]))
                assert found.allowed is allowed, (found, at, addr)
            for words in (["db", "x@nowhere"], ["app", "nothing"], ["desktop", "a@b"]):
                with pytest.raises(NotFoundError):
                    await kit.admin.call(ExplainAccess(who=Somebody(user="mira"), words=words))
            for words in ([], ["fly"], ["resource", "role"], ["ssh"], ["app", ""]):
                with pytest.raises(InputError):
                    await kit.admin.call(ExplainAccess(who=Somebody(user="mira"), words=words))
            with pytest.raises(InputError):
                await kit.admin.call(ExplainAccess(who=Somebody(user="mira", at=-1.0), words=["app", "wiki"]))

    run(main)


def test_a_denial_tells_why_to_those_who_may_know_only(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            reader = role("reader", Rule(resources=["role", "user"], verbs=["read"]))
            await kit.admin.call(PutResource(resource=reader))
            flat = 'access denied to perform action "create" on "role"'
            for name, roles, told in (("rita", ("reader",), True), ("mira", ("access",), False)):
                client = kit.as_user(await kit.user(name, *roles))
                with pytest.raises(DeniedError) as caught:
                    await client.call(PutResource(resource=role("new")))
                first, *story = caught.value.message.splitlines()
                assert first == flat
                if told:
                    assert story[0] == "denied: rita, resource role create"
                    assert "  role reader: add to allow.rules: role create" in story
                else:
                    assert story == []

    run(main)


def test_asking_why_a_role_may_be_requested(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            documents = """
kind: role
version: v7
metadata: {name: oncall}
spec:
  allow:
    request:
      roles: ['prod-*']
      thresholds: [{name: two, approve: 2, deny: 1, filter: 'contains(reviewer.roles, "lead")'}]
      reason: {mode: required, prompt: Which incident?}
  deny:
    request: {roles: [prod-root]}
---
kind: role
version: v7
metadata: {name: prod-app}
---
kind: role
version: v7
metadata: {name: prod-root}
---
kind: role
version: v7
metadata: {name: other}
"""
            for resource in load_documents(documents):
                await kit.admin.call(PutResource(resource=resource))
            await kit.user("mira", "oncall", login=False)

            async def ask(*words: str) -> Explained:
                return await kit.admin.call(
                    ExplainAccess(who=Somebody(user="mira"), words=["request", *words])
                )

            found = await ask("prod-app")
            assert found.allowed
            assert found.reasons == ["role oncall: allow.request.roles"]
            assert found.conditions == [
                "a reason must be given",
                "prompt: Which incident?",
                'reviews: 2 approving where contains(reviewer.roles, "lead"), 1 denying refuse',
            ]
            for wanted, step in (
                ("prod-root", Missing("remove", "oncall", "deny.request.roles", "prod-root")),
                ("other", Missing("add", "", "allow.request.roles", "other")),
                ("oncall", Missing("meet", "", "", "mira has the role oncall already")),
                ("prod-gone", Missing("meet", "", "", "there is no role prod-gone")),
            ):
                found = await ask(wanted)
                assert not found.allowed
                assert step in found.missing
            assert (await ask("other")).reasons == ["no role lets mira request other"]
            assert (await ask("prod-root")).reasons == ["role oncall: deny.request.roles"]
            for words in ((), ("a", "b"), ("",)):
                with pytest.raises(InputError):
                    await ask(*words)

    run(main)


def test_a63_an_action_of_a_rule_writes_one_line(short_tmp: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            says = Rule(
                resources=["role"],
                verbs=["read", "list"],
                actions=['log("warning", "%v looks at %v", user.metadata.name, resource.metadata.name)'],
            )
            await kit.admin.call(PutResource(resource=role("says", says)))
            client = kit.as_user(await kit.user("mira", "says"))
            with caplog.at_level("INFO", logger="pkgs.auth.permissions"):
                await client.call(GetResource(kind="role", name="access"))
            (record,) = [r for r in caplog.records if r.name == "pkgs.auth.permissions"]
            assert record.levelname == "WARNING"
            assert record.getMessage() == "a rule says: mira looks at access"

    run(main)

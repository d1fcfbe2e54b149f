"""Rules against the calls of the Auth Service: what a deny refuses, and what nobody may say of others."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pytest

from pkgs.auth import explaining, limits
from pkgs.common.access.types import Decision, Environment, SshLogin, Subject, Target
from pkgs.common.api.access import Somebody, WhatCan
from pkgs.common.api.recordings import UploadRecording
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.resources.documents.owned import with_revision
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget, Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule
from tests.integration.auth_kit import Kit, auth, chunks, downloaded, listed, recordings, run, session

WEB, DB = str(uuid.uuid4()), str(uuid.uuid4())
EVERY_NODE = Conditions(logins=["root"], node_labels={"*": "*"})


async def nodes(kit: Kit) -> None:
    for name, host in ((WEB, "web1"), (DB, "db1")):
        node = Node(metadata=Metadata(name=name, labels={"host": host}), spec=ServerSpec(hostname=host))
        await kit.admin.call(PutResource(resource=node))


def denying(where: str = "") -> Role:
    rule = Rule(resources=["node"], verbs=["list", "read"], where=where)
    return Role(
        metadata=Metadata(name="blind"), spec=RoleSpec(allow=EVERY_NODE, deny=Conditions(rules=[rule]))
    )


def test_a_deny_rule_on_servers_is_heeded(short_tmp: Path) -> None:
    """Labels decide which servers somebody sees, but a rule that refuses them all comes first."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await nodes(kit)
            await kit.admin.call(PutResource(resource=denying()))
            client = kit.as_user(await kit.user("mallory", "blind", "access"))
            with pytest.raises(DeniedError, match='"list" on "node"'):
                await listed(client, "node")
            for name in (WEB, str(uuid.uuid4())):
                with pytest.raises(DeniedError, match='"read" on "node"'):
                    await client.call(GetResource(kind="node", name=name))

    run(main)


def test_a_deny_rule_with_a_condition_hides_the_servers_it_names(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await nodes(kit)
            await kit.admin.call(PutResource(resource=denying('resource.metadata.labels["host"] == "db1"')))
            client = kit.as_user(await kit.user("mallory", "blind"))
            assert [node.name for node in await listed(client, "node")] == [WEB]
            await client.call(GetResource(kind="node", name=WEB))
            with pytest.raises(NotFoundError):
                await client.call(GetResource(kind="node", name=DB))

    run(main)


def test_nobody_makes_a_lock_in_the_name_of_another(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            client = kit.as_user(await kit.user("mallory", "editor"))
            spec = LockSpec(target=LockTarget(user="bob"), created_by="alice")
            sent = Lock(metadata=Metadata(name="l"), spec=spec)
            made = (await client.call(PutResource(resource=sent))).resource
            assert isinstance(made, Lock)
            assert made.spec.created_by == "mallory"
            # A dump is restored as it was.
            kept = (await kit.admin.call(PutResource(resource=sent, mode="upsert"))).resource
            assert isinstance(kept, Lock)
            assert kept.spec.created_by == "alice"
            # And who changes it later has not made it.
            sent = with_revision(made, "")
            again = (await client.call(PutResource(resource=sent, mode="upsert"))).resource
            assert isinstance(again, Lock)
            assert again.spec.created_by == "alice"

    run(main)


def test_a_listing_of_grants_lets_others_in_by_decisions_not_by_servers(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role may name very many logins; no more than a certificate has are asked for."""
    asked: list[str] = []
    real = explaining.decide

    def counting(subject: Subject, target: Target, env: Environment) -> Decision:
        assert isinstance(target, SshLogin)
        asked.append(target.node.name)
        return real(subject, target, env)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await nodes(kit)
            many = Conditions(logins=[f"u{number}" for number in range(2000)], node_labels={"*": "*"})
            role = Role(metadata=Metadata(name="many"), spec=RoleSpec(allow=many))
            await kit.admin.call(PutResource(resource=role))
            await kit.user("mallory", "many", login=False)
            monkeypatch.setattr(explaining, "decide", counting)
            request = WhatCan(who=Somebody(user="mallory"))
            found = [g async for part in kit.admin.stream(request) for g in part.grants]
            assert len(found) == 2
            assert sorted(Counter(asked).values()) == [limits.MAX_PRINCIPALS] * 2

    run(main)


def test_a_deny_on_recordings_is_heeded_for_ones_own(short_tmp: Path) -> None:
    """Who was in a session may play it without a rule, but not against one."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            rule = Rule(resources=["session"], verbs=["*"])
            deny = Role(metadata=Metadata(name="unseen"), spec=RoleSpec(deny=Conditions(rules=[rule])))
            await kit.admin.call(PutResource(resource=deny))
            host = await kit.join()
            kept = {}
            for name, roles in (("mira", ("access",)), ("mallory", ("access", "unseen"))):
                kept[name] = kit.as_user(await kit.user(name, *roles)), await session(kit, host, name)
                await kit.as_host(host).upload(UploadRecording(session_id=kept[name][1]), chunks(b"x"))
            client, sid = kept["mira"]
            assert await downloaded(client, sid) == b"x"
            client, sid = kept["mallory"]
            assert await recordings(client) == []
            with pytest.raises(NotFoundError):
                await downloaded(client, sid)

    run(main)


@pytest.mark.parametrize(
    "name", ["editor ", " editor", "editor\u200b", "edi\u202etor", "default-implicit-role "]
)
def test_no_role_is_named_to_look_like_another(short_tmp: Path, name: str) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            with pytest.raises(InputError, match="name"):
                await kit.admin.call(
                    PutResource(resource=Role(metadata=Metadata(name=name), spec=RoleSpec()))
                )

    run(main)

"""Writing resources: rehearsals, conditions that hold at the moment of the write, sizes, and what the audit
log then says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.common.api.resources import DeleteResource, GetResource, PutResource
from pkgs.common.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    InputError,
    LimitExceededError,
    NotFoundError,
    ProtocolError,
    UnavailableError,
)
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.documents.owned import with_revision
from pkgs.common.resources.kinds import Github, Lock, LockSpec, LockTarget, Resource, Token, TokenSpec, User
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.registry import Ref
from pkgs.common.resources.role import Conditions, Role, Rule
from pkgs.common.rpc import answers
from tests.integration.auth_kit import Kit, auth, events, role, run

RW = ["create", "update", "delete", "read", "list"]


def one(text: str) -> Resource:
    (resource,) = load_documents(text)
    return resource


async def state(kit: Kit) -> tuple[int, list[dict[str, object]]]:
    """Everything that is stored, and every event."""
    items = await kit.service.store.backend.all("/")
    return hash(tuple((item.key, item.value, item.revision) for item in items)), await events(kit)


def labelled(name: str, team: str, description: str = "") -> Role:
    return Role(metadata=Metadata(name=name, labels={"team": team}, description=description))


async def blue_user(kit: Kit) -> Any:
    """Somebody who may do everything to roles of the blue team, and nothing else."""
    where = 'resource.metadata.labels["team"] == "blue"'
    allow = Conditions(rules=[Rule(resources=["role"], verbs=RW, where=where)])
    await kit.admin.call(PutResource(resource=role("blue-admin", allow)))
    return kit.as_user(await kit.user("bea", "blue-admin"))


def test_a_rehearsal_checks_everything_and_leaves_no_trace(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            github = one("kind: github\nmetadata: {name: sso}\nspec: {client_id: a, client_secret: hush}\n")
            await kit.admin.call(PutResource(resource=github))
            bea = await blue_user(kit)
            made = (await kit.admin.call(PutResource(resource=labelled("r1", "blue")))).resource
            red = (await kit.admin.call(PutResource(resource=labelled("r2", "red")))).resource
            before = await state(kit)

            for client in (kit.admin, bea):
                new = await client.call(PutResource(resource=labelled("r3", "blue"), dry_run=True))
                assert new.change == "created"
                same = await client.call(PutResource(resource=made, mode="update", dry_run=True))
                assert same.change == "unchanged"
                other = await client.call(
                    PutResource(resource=labelled("r1", "blue", "new"), mode="upsert", dry_run=True)
                )
                assert other.change == "updated"
                assert other.resource.metadata.description == "new"
                await client.call(DeleteResource(kind="role", name="r1", dry_run=True))
                with pytest.raises(AlreadyExistsError):
                    await client.call(PutResource(resource=made, dry_run=True))
                with pytest.raises(ConflictError):
                    await client.call(
                        PutResource(resource=with_revision(made, "999999"), mode="update", dry_run=True)
                    )
                with pytest.raises(InputError, match="not one of ours"):
                    await client.call(
                        PutResource(resource=with_revision(made, ""), mode="update", dry_run=True)
                    )
                with pytest.raises(NotFoundError):
                    await client.call(
                        PutResource(resource=labelled("none", "blue"), mode="update", dry_run=True)
                    )
                with pytest.raises(ConflictError):
                    await client.call(DeleteResource(kind="role", name="r1", revision="999999", dry_run=True))
            # What would be refused is refused.
            for request in (
                PutResource(resource=labelled("r4", "red"), dry_run=True),
                PutResource(resource=red, mode="update", dry_run=True),
                PutResource(resource=labelled("r2", "blue"), mode="upsert", dry_run=True),
                PutResource(resource=github, mode="upsert", dry_run=True),
            ):
                with pytest.raises(DeniedError):
                    await bea.call(request)
            with pytest.raises(DeniedError):
                await bea.call(DeleteResource(kind="role", name="r2", dry_run=True))
            bad = Role(metadata=Metadata(name="r5"), spec=msgspec.structs.replace(
                Role(metadata=Metadata(name="x")).spec, allow=Conditions(logins=["{{x}}"])))  # fmt: skip
            with pytest.raises(InputError, match=r"spec\.allow\.logins\[0\]"):
                await kit.admin.call(PutResource(resource=bad, dry_run=True))
            assert await state(kit) == before

    run(main)


def test_a_rehearsal_may_assume_what_the_plan_makes_before(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            user = one("kind: user\nmetadata: {name: dora}\nspec: {roles: [later]}\n")
            with pytest.raises(InputError, match="does not exist"):
                await kit.admin.call(PutResource(resource=user, dry_run=True))
            assumed = [Ref("role", "", "later"), Ref("access_list", "", "x"), Ref("lock", "", "y")]
            answer = await kit.admin.call(PutResource(resource=user, dry_run=True, assume=assumed))
            assert answer.change == "created"
            # Only a rehearsal assumes anything.
            with pytest.raises(InputError, match="does not exist"):
                await kit.admin.call(PutResource(resource=user, assume=assumed))
            with pytest.raises(LimitExceededError):
                many = [Ref("role", "", str(i)) for i in range(10_001)]
                await kit.admin.call(PutResource(resource=user, dry_run=True, assume=many))

    run(main)


def test_secrets_are_not_found_out_by_rehearsing(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            text = "kind: github\nmetadata: {{name: sso}}\nspec: {{client_id: a, client_secret: {}}}\n"
            await kit.admin.call(PutResource(resource=one(text.format("hush"))))
            editor = kit.as_user(await kit.user("ed", "editor"))
            for guess in ("hush", "wrong"):
                answer = await editor.call(
                    PutResource(resource=one(text.format(guess)), mode="upsert", dry_run=True)
                )
                assert (answer.change, answer.secrets) == ("updated", ["client_secret"])
                assert isinstance(answer.resource, Github)
                assert answer.resource.spec.client_secret == ""
            without = one("kind: github\nmetadata: {name: sso}\nspec: {client_id: a}\n")
            answer = await editor.call(PutResource(resource=without, mode="upsert", dry_run=True))
            assert (answer.change, answer.secrets) == ("unchanged", [])
            # Who may read it is told.
            for guess, change in (("hush", "unchanged"), ("wrong", "updated")):
                request = PutResource(resource=one(text.format(guess)), mode="upsert", dry_run=True)
                answer = await kit.admin.call(request)
                assert answer.change == change
                assert isinstance(answer.resource, Github)
                assert answer.resource.spec.client_secret == ""

    run(main)


def beforehand(kit: Kit, method: str, body: Callable[[], Awaitable[object]], times: int = 1) -> None:
    """Somebody else acts after the check and before the write."""
    store = kit.service.store
    real = getattr(store, method)
    left = times

    async def late(*args: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            await body()
        return await real(*args)

    setattr(store, method, late)


def test_what_was_checked_is_what_is_overwritten(short_tmp: Path) -> None:
    """The permission of an upsert is asked of the very state that it then replaces."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            bea = await blue_user(kit)
            await kit.admin.call(PutResource(resource=labelled("r1", "blue")))
            backend = kit.service.store.backend

            async def turn_red() -> None:
                item = await backend.get("/resource/role/r1")
                assert item is not None
                await backend.put(item.key, item.value.replace(b'"blue"', b'"red"'))

            beforehand(kit, "update", turn_red)
            with pytest.raises(DeniedError):
                await bea.call(PutResource(resource=labelled("r1", "blue", "mine"), mode="upsert"))
            kept = (await kit.admin.call(GetResource(kind="role", name="r1"))).resource
            assert (kept.metadata.labels, kept.metadata.description) == ({"team": "red"}, "")

            await kit.admin.call(PutResource(resource=labelled("r2", "blue")))

            async def turn_red_too() -> None:
                item = await backend.get("/resource/role/r2")
                assert item is not None
                await backend.put(item.key, item.value.replace(b'"blue"', b'"red"'))

            beforehand(kit, "remove", turn_red_too)
            with pytest.raises(DeniedError):
                await bea.call(DeleteResource(kind="role", name="r2"))
            assert kit.service.store.get("role", "r2") is not None

    run(main)


def test_an_upsert_that_lost_the_race_is_tried_again_but_not_for_ever(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            backend = kit.service.store.backend
            await kit.admin.call(PutResource(resource=labelled("r1", "blue")))

            async def touch() -> None:
                item = await backend.get("/resource/role/r1")
                assert item is not None
                await backend.put(item.key, item.value)

            beforehand(kit, "update", touch, times=2)
            stored = await kit.admin.call(PutResource(resource=labelled("r1", "blue", "won"), mode="upsert"))
            assert stored.change == "updated"
            # With a revision it is told instead, and nobody's change is lost.
            read = (await kit.admin.call(GetResource(kind="role", name="r1"))).resource
            beforehand(kit, "update", touch)
            for mode in ("upsert", "update"):
                with pytest.raises(ConflictError, match="fetch it again"):
                    await kit.admin.call(PutResource(resource=read, mode=mode))  # type: ignore[arg-type]
            # Made and deleted under one's hands.
            await kit.admin.call(DeleteResource(kind="role", name="r1"))

            async def appear() -> None:
                item = await backend.get("/resource/role/access")
                assert item is not None
                await backend.put("/resource/role/r1", item.value.replace(b'"access"', b'"r1"'))

            beforehand(kit, "create", appear)
            stored = await kit.admin.call(PutResource(resource=labelled("r1", "blue"), mode="upsert"))
            assert stored.change == "updated"
            beforehand(kit, "update", touch, times=1000)
            with pytest.raises(ConflictError):
                await kit.admin.call(PutResource(resource=labelled("r1", "blue"), mode="upsert"))

    run(main)


def test_pruning_spares_the_cluster_and_the_one_who_prunes(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp, extra="  session_recording: node") as kit:
            editor = kit.as_user(await kit.user("ed", "editor", "access"))
            for kind, name, part in (
                ("role", "access", "a preset"),
                ("cap", "cluster-auth-preference", "its own"),
                ("session_recording_config", "x", "its own"),
                ("user", "ed", "that is you"),
            ):
                for dry_run in (True, False):
                    with pytest.raises(InputError, match=part):
                        await editor.call(DeleteResource(kind=kind, name=name, prune=True, dry_run=dry_run))
            with pytest.raises(InputError, match="cannot be deleted"):
                await kit.admin.call(DeleteResource(kind="cert_authority", name="x", prune=True))
            await kit.user("mira")
            await editor.call(DeleteResource(kind="user", name="mira", prune=True))

    run(main)


def test_events_tell_what_changed_from_what_to_what(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:

            async def put(resource: Resource) -> Resource:
                return (await kit.admin.call(PutResource(resource=resource, mode="upsert"))).resource

            await put(role("dev", Conditions(logins=["a"], node_labels={"env": ["x"]})))
            await put(
                role(
                    "dev",
                    Conditions(
                        logins=["a", "b"],
                        node_labels={"env": ["x"], "zone": "y" * 1000},
                        rules=[Rule(resources=["node"], verbs=["read"])],
                    ),
                    forward_agent=True,
                )
            )
            (made, changed) = await events(kit, "role.created", "role.updated")
            told = made["changes"]
            assert isinstance(told, dict)
            assert told["spec.allow.logins"] == ["", '["a"]']
            assert "metadata.name" not in told
            assert changed["changes"] == {
                "spec.options.forward_agent": ["false", "true"],
                "spec.allow.logins": ['["a"]', '["a","b"]'],
                "spec.allow.node_labels.zone": ["", "y" * 256 + "...[744 more]"],
                "spec.allow.rules[0].resources": ["", '["node"]'],
                "spec.allow.rules[0].verbs": ["", '["read"]'],
            }
            await kit.admin.call(DeleteResource(kind="role", name="dev"))
            (gone,) = await events(kit, "role.deleted")
            assert isinstance(gone["changes"], dict)
            assert gone["changes"]["spec.allow.logins"] == ['["a","b"]', ""]

            await put(User(metadata=Metadata(name="dora"), spec=msgspec.structs.replace(
                User(metadata=Metadata(name="x")).spec, roles=["access"])))  # fmt: skip
            await put(User(metadata=Metadata(name="dora"), spec=msgspec.structs.replace(
                User(metadata=Metadata(name="x")).spec, roles=["access", "editor"])))  # fmt: skip
            (user,) = await events(kit, "user.update")
            assert user["changes"] == {"spec.roles": ['["access"]', '["access","editor"]']}
            await put(Token(metadata=Metadata(name="very-secret-token"), spec=TokenSpec(roles=["Node"])))
            await put(Token(metadata=Metadata(name="very-secret-token"), spec=TokenSpec(roles=["Proxy"])))
            lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="eve")))
            await put(lock)
            await put(one("kind: cap\nmetadata: {name: x}\nspec: {default_session_ttl: 8h}\n"))
            await put(one("kind: github\nmetadata: {name: sso}\nspec: {client_id: a, client_secret: hush}\n"))
            every = await events(kit)
            by_code = {str(e["code"]): e["changes"] for e in every if "changes" in e}
            assert by_code["TCAUTH001I"]["spec.default_session_ttl"] == ["12h0m0s", "8h"]  # type: ignore[index]
            assert "very-secret-token" not in str(every)
            assert "hush" not in str(every)
            assert ["(secret)", "(secret)"] in [c for e in by_code.values() for c in e.values()]  # type: ignore[attr-defined]

            # A large change stays one event of bounded size, with a mark.
            labels = {f"k{i}": "v" * 900 for i in range(500)}
            await put(Role(metadata=Metadata(name="huge", labels=labels)))
            huge = next(e for e in await events(kit, "role.created") if e["name"] == "huge")
            assert isinstance(huge["changes"], dict)
            assert len(huge["changes"]) == 60
            assert "more changes" in str(huge["changes"]["..."])
            assert len(msgspec.json.encode(huge)) < 48 * 1024

    run(main)


def test_a43_a_client_that_lies_about_sizes_is_refused_by_the_server(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the server's own checks is between these requests and the store."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            many = {f"k{i}": "v" for i in range(10_000)}
            rows: list[tuple[Resource, str]] = [
                (Role(metadata=Metadata(name="r", labels=many)), "10,000 labels, at most 1,000"),
                (Role(metadata=Metadata(name="r", description="x" * 20_000)), "at most 16,384"),
                (
                    Lock(
                        metadata=Metadata(name="l"),
                        spec=LockSpec(target=LockTarget(user="eve"), message="x" * 20_000),
                    ),
                    "longer than 1000",
                ),
                (role("r", Conditions(logins=["x" * 30] * 25_000)), "1,000,000 bytes"),
            ]  # fmt: skip
            for resource, part in rows:
                for dry_run in (True, False):
                    with pytest.raises(InputError, match=part):
                        await kit.admin.call(PutResource(resource=resource, mode="upsert", dry_run=dry_run))
            # Over the size of any message: the honest client says so itself, the lying one is cut off.
            large = PutResource(resource=Role(metadata=Metadata(name="r", description="x" * 10_000_000)))
            with pytest.raises(LimitExceededError, match="bytes, at most 1,048,576"):
                await kit.admin.call(large)
            monkeypatch.setattr(answers, "_MAX_REQUEST_BYTES", 1 << 30)
            with pytest.raises((LimitExceededError, ProtocolError, UnavailableError)):
                await kit.admin.call(large, deadline_s=5)
            assert kit.service.store.get("role", "r") is None
            assert kit.service.store.get("lock", "l") is None

    run(main)

"""`tctl apply`: a folder of documents against a real Auth Service."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import ConflictError, NotFoundError
from pkgs.common.pki.sealing import unseal
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import Github, Resource, User
from pkgs.common.resources.presets import preset_roles
from tests.integration.auth_kit import auth, events, run
from tests.integration.tctl_kit import PASSPHRASE, passphrase_file, tctl
from tests.integration.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]

BASE = {
    # The user is read before the role that it has.
    "a-users.yaml": """
kind: user
metadata: {name: dora, labels: {managed-by: git}}
spec: {roles: [dev], traits: {logins: [dora]}}
""",
    "roles/dev.yaml": """
kind: role
metadata:
  name: dev
  labels: {managed-by: git}
spec:
  allow:
    logins: [dev]
    node_labels: {env: [dev, qa]}
""",
    "sso.json": json.dumps(
        {
            "kind": "github",
            "metadata": {"name": "sso", "labels": {"managed-by": "git"}},
            "spec": {"client_id": "abc", "client_secret": "hush-hush"},
        }
    ),
    "settings.yml": "kind: cap\nmetadata: {name: x}\nspec: {default_session_ttl: 8h}\n",
}


def lay(folder: Path, files: dict[str, str] = BASE) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_folder_is_applied_once_and_then_nothing_is_left_to_do(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = lay(short_tmp / "conf")
            told = len(await events(kit))
            rehearsed = (await tctl(kit, "apply", "-f", str(folder), "--dry-run")).ok()
            assert "user/dora created (dry run)" in rehearsed.out
            assert "3 created, 1 updated, 0 unchanged, 0 pruned; nothing was changed" in rehearsed.out
            shown = await tctl(kit, "apply", "-f", str(folder), "--diff")
            assert shown.status == 2, shown.err
            assert "+++ role/dev (" in shown.out
            assert '+  default_session_ttl: "8h"' in shown.out
            assert "hush" not in shown.out
            for kind, name in (("role", "dev"), ("user", "dora"), ("github", "sso")):
                with pytest.raises(NotFoundError):
                    await kit.admin.call(GetResource(kind=kind, name=name))
            assert len(await events(kit)) == told, "a rehearsal is not an event"

            done = (await tctl(kit, "apply", "-f", str(folder), "-R")).ok()
            assert done.out.splitlines() == [
                "cluster_auth_preference/cluster-auth-preference updated",
                "role/dev created",
                "github/sso created",
                "user/dora created",
                "3 created, 1 updated, 0 unchanged, 0 pruned",
            ]
            again = (await tctl(kit, "apply", "-f", str(folder))).ok()
            assert "0 created, 0 updated, 4 unchanged, 0 pruned" in again.out
            assert (await tctl(kit, "apply", "-f", str(folder), "--diff")).ok().out == ""
            created = [e for e in await events(kit, "role.created") if e["name"] == "dev"]
            assert len(created) == 1

            lay(folder, {"roles/dev.yaml": BASE["roles/dev.yaml"].replace("[dev, qa]", "[dev]")})
            shown = await tctl(kit, "apply", "-f", str(folder), "--diff")
            assert shown.status == 2
            assert "\n-      - qa\n" in shown.out
            secret = json.loads(BASE["sso.json"])
            secret["spec"]["client_secret"] = "another-one"
            lay(folder, {"sso.json": json.dumps(secret)})
            shown = await tctl(kit, "apply", "-f", str(folder), "--diff")
            assert "another-one" not in shown.out + shown.err
            assert "given anew" in shown.out
            as_json = json.loads((await tctl(kit, "apply", "-f", str(folder), "--format=json")).ok().out)
            assert {r["name"]: (r["action"], r["done"]) for r in as_json["resources"]} == {
                "cluster-auth-preference": ("unchanged", False),
                "dev": ("updated", True),
                "sso": ("updated", True),
                "dora": ("unchanged", False),
            }
            held = (await kit.admin.call(GetResource(kind="github", name="sso", with_secrets=True))).resource
            assert isinstance(held, Github)
            assert held.spec.client_secret == "another-one"
            (updated,) = [e for e in await events(kit, "github.updated") if e["name"] == "sso"]
            assert updated["changes"] == {"spec.client_secret": ["(secret)", "(secret)"]}

    run(main, deadline_s=120)


def test_pruning_takes_what_the_folder_lost_and_nothing_else(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = lay(short_tmp / "conf")
            prune = ("apply", "-f", str(folder), "--prune", "--selector=managed-by=git")
            (await tctl(kit, *prune)).ok()
            others = """
kind: role
metadata: {name: by-hand}
---
kind: role
metadata: {name: other-team, labels: {managed-by: hand}}
---
kind: user
metadata: {name: mira, labels: {managed-by: git}}
spec: {roles: [dev]}
"""
            (await tctl(kit, "create", stdin=others)).ok()
            (folder / "roles/dev.yaml").unlink()
            (folder / "a-users.yaml").write_text(
                "kind: user\nmetadata: {name: dora, labels: {managed-by: git}}\nspec: {roles: [access]}\n"
            )
            lay(folder, {"roles/qa.yaml": "kind: role\nmetadata: {name: qa, labels: {managed-by: git}}\n"})
            rehearsed = (await tctl(kit, *prune, "--dry-run")).ok()
            assert "role/dev pruned (dry run)" in rehearsed.out, rehearsed.out
            shown = await tctl(kit, *prune, "--diff")
            assert shown.status == 2
            assert "+++ role/dev (gone)" in shown.out
            done = (await tctl(kit, *prune)).ok()
            # Users before the roles that they have.
            assert done.out.splitlines()[-3:] == [
                "user/mira pruned",
                "role/dev pruned",
                "1 created, 1 updated, 2 unchanged, 2 pruned",
            ]
            names = json.loads((await tctl(kit, "get", "roles", "--format=json")).ok().out)
            assert {r["metadata"]["name"] for r in names} == {
                *(preset.name for preset in preset_roles()),
                *("by-hand", "other-team", "qa"),
            }
            assert "0 pruned" in (await tctl(kit, *prune)).ok().out

    run(main, deadline_s=120)


def test_pruning_is_refused_where_it_could_hurt(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = lay(short_tmp / "conf", {"qa.yaml": "kind: role\nmetadata: {name: qa}\n"})
            for words, part in (
                (["--prune"], "needs --selector"),
                (["--prune", "--selector=a=*"], "is not allowed"),
                (["--selector=a=b"], "add --prune"),
                (["--prune", "--selector=a=b", "--prune-kinds=cap"], "never pruned"),
                (["--prune", "--selector=a=b", "--prune-kinds=rolle"], "did you mean role"),
                (["--no-such-flag"], "unknown flag"),
            ):
                refused = await tctl(kit, "apply", "-f", str(folder), *words)
                assert refused.status == 1, refused
                assert part in refused.err
            # Presets fit the selector, and are left alone.
            preset = ("--prune", "--selector=teleport.internal/resource-type=preset")
            done = (await tctl(kit, "apply", "-f", str(folder), *preset)).ok()
            assert "0 pruned" in done.out
            assert "role/access is a preset" in done.err
            # A role that a user keeps: nothing at all is done.
            (await tctl(kit, "create", stdin="kind: role\nmetadata: {name: used, labels: {a: b}}\n")).ok()
            await kit.user("mira", "used")
            lay(folder, {"new.yaml": "kind: role\nmetadata: {name: new}\n"})
            refused = await tctl(kit, "apply", "-f", str(folder), "--prune", "--selector=a=b")
            assert refused.status == 1
            assert "prune role/used" in refused.err and "used by 1 user (mira)" in refused.err
            with pytest.raises(NotFoundError):
                await kit.admin.call(GetResource(kind="role", name="new"))

    run(main, deadline_s=120)


def test_all_errors_are_told_with_their_place_and_nothing_is_done(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = lay(
                short_tmp / "conf",
                {
                    "good.yaml": "kind: role\nmetadata: {name: good}\n",
                    "bad.yaml": "kind: role\nmetadata: {name: bad}\nspec:\n  allow:\n    login: [x]\n",
                    "worse.yaml": "kind: role\nmetadata: {name: worse}\nspec:\n  allow:\n    logins:\n"
                    "    - ok\n    - '{{internal.}}'\n",
                },
            )
            refused = await tctl(kit, "apply", "-f", str(folder), "--diff")
            assert refused.status == 1
            assert "2 errors; nothing was changed" in refused.err
            assert f"{folder}/bad.yaml:5: spec.allow.login: unknown key 'login'" in refused.err
            assert f"{folder}/worse.yaml:7: role/worse: spec.allow.logins[1]: template" in refused.err
            (folder / "bad.yaml").unlink()
            (folder / "worse.yaml").write_text(
                "kind: user\nmetadata: {name: nina}\nspec:\n  roles: [good, missing]\n"
            )
            refused = await tctl(kit, "apply", "-f", str(folder))
            assert refused.status == 1
            assert f'{folder}/worse.yaml:1: role "missing" does not exist' in refused.err
            with pytest.raises(NotFoundError):
                await kit.admin.call(GetResource(kind="role", name="good"))
            for words, part in (
                (["apply"], "-f is required"),
                (["apply", "-f", str(folder / "none")], "there is no file or folder"),
            ):
                refused = await tctl(kit, *words)
                assert refused.status == 1 and part in refused.err
            lay(folder, {"worse.yaml": "kind: role\nmetadata: {name: good}\n"})
            refused = await tctl(kit, "apply", "-f", str(folder))
            assert "worse.yaml:1: role/good is given twice; the other one is at" in refused.err

    run(main, deadline_s=120)


def test_what_the_server_says_is_left_to_it(short_tmp: Path) -> None:
    """A user who was locked out after wrong passwords stays locked when the files are applied again."""

    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = lay(short_tmp / "conf")
            lay(
                folder,
                {"lock.yaml": "kind: lock\nmetadata: {name: l1}\nspec: {target: {user: eve}, message: no}\n"},
            )
            (await tctl(kit, "apply", "-f", str(folder))).ok()
            found = (await kit.admin.call(GetResource(kind="user", name="dora"))).resource
            assert isinstance(found, User)
            await _lock_out(kit, "dora")
            again = (await tctl(kit, "apply", "-f", str(folder))).ok()
            assert "0 created, 0 updated, 5 unchanged, 0 pruned" in again.out
            found = (await kit.admin.call(GetResource(kind="user", name="dora"))).resource
            assert isinstance(found, User)
            assert found.spec.status.is_locked

    run(main, deadline_s=120)


async def _lock_out(kit: object, name: str) -> None:
    store = kit.service.store  # type: ignore[attr-defined]
    user = store.must("user", name)
    status = msgspec.structs.replace(user.spec.status, is_locked=True, locked_message="too many")
    spec = msgspec.structs.replace(user.spec, status=status)
    await store.update(msgspec.structs.replace(user, spec=spec))


def test_somebody_elses_change_is_not_overwritten(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = lay(short_tmp / "conf")
            (await tctl(kit, "apply", "-f", str(folder))).ok()
            dumped = (await tctl(kit, "get", "role/dev")).ok().out
            (folder / "roles/dev.yaml").write_text(dumped)
            assert "4 unchanged" in (await tctl(kit, "apply", "-f", str(folder))).ok().out
            (changed,) = load_documents(BASE["roles/dev.yaml"].replace("[dev, qa]", "[prod]"))
            await kit.admin.call(PutResource(resource=changed, mode="upsert"))
            refused = await tctl(kit, "apply", "-f", str(folder))
            assert refused.status == 1
            assert "roles/dev.yaml:" in refused.err and "changed by somebody else" in refused.err
            # The same of a plain create -f.
            refused = await tctl(kit, "create", "-f", str(folder / "roles/dev.yaml"))
            assert refused.status == 1
            assert "leave out metadata.revision" in refused.err

    run(main, deadline_s=120)


def test_sealed_documents_are_read_back(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit, auth(short_tmp / "b") as new:
            (await tctl(kit, "apply", "-f", str(lay(short_tmp / "conf")))).ok()
            words = passphrase_file(short_tmp)
            sealed = (await tctl(kit, "get", "connectors,roles", "--with-secrets", words)).ok().out
            assert sealed.startswith("-----BEGIN SEALED RESOURCES-----\n")
            assert "hush-hush" not in sealed and "client_secret" not in sealed
            folder = lay(short_tmp / "sealed", {"all.yaml": sealed})
            assert "github/sso created" in (await tctl(new, "apply", "-f", str(folder), words)).ok().out
            held = (await new.admin.call(GetResource(kind="github", name="sso", with_secrets=True))).resource
            assert isinstance(held, Github)
            assert held.spec.client_secret == "hush-hush"
            for flags, part in (
                ([passphrase_file(short_tmp, "another passphrase")], "wrong passphrase"),
                ([], "there is no terminal to ask at"),
                ([f"--passphrase-file={short_tmp}/none"], "there is no file"),
            ):
                for verb in (["apply", "-f", str(folder)], ["create", "-f", str(folder / "all.yaml")]):
                    refused = await tctl(new, *verb, *flags)
                    assert refused.status in (1, 2), refused
                    assert part in refused.err and refused.err.count("\n") == 1
                    assert PASSPHRASE not in refused.err
            for wrong in (["--unsealed"], ["--with-secrets", "--format=text"], ["--with-secrets"]):
                refused = await tctl(kit, "get", "connectors", *wrong)
                assert refused.status == 2, refused
            (short_tmp / "words").chmod(0o644)
            refused = await tctl(
                kit, "get", "roles", "--with-secrets", f"--passphrase-file={short_tmp}/words"
            )
            assert "can be read by others" in refused.err
            clear = (await tctl(kit, "get", "connectors", "--with-secrets", "--unsealed")).ok()
            assert "hush-hush" in clear.out
            assert clear.err.startswith("WARNING: ")

    run(main, deadline_s=120)


def test_a_failure_halfway_says_what_was_done_and_what_not(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = lay(short_tmp / "conf")
            store = kit.service.store
            real, failing = store.create, True

            async def create(resource: Resource, *also: Any) -> Resource:
                if failing and resource.kind == "github":
                    raise ConflictError("the disk of the tests is in a bad mood")
                return await real(resource, *also)

            store.create = create  # type: ignore[method-assign, assignment]
            stopped = await tctl(kit, "apply", "-f", str(folder))
            assert stopped.status == 1
            assert stopped.out.splitlines() == [
                "cluster_auth_preference/cluster-auth-preference updated",
                "role/dev created",
                "1 created, 1 updated, 0 unchanged, 0 pruned",
                "github/sso not created",
                "user/dora not created",
            ]
            said = (
                f"stopped after 2 of 4 resources: {folder}/sso.json: the disk of the tests is in a bad mood"
            )
            assert stopped.err == f"ERROR: {said}\n"
            as_json = await tctl(kit, "apply", "-f", str(folder), "--format=json")
            assert as_json.status == 1
            assert {r["name"]: (r["action"], r["done"]) for r in json.loads(as_json.out)["resources"]} == {
                "cluster-auth-preference": ("unchanged", False),
                "dev": ("unchanged", False),
                "sso": ("created", False),
                "dora": ("created", False),
            }
            # The next run takes it up.
            failing = False
            done = (await tctl(kit, "apply", "-f", str(folder))).ok()
            assert "2 created, 0 updated, 2 unchanged, 0 pruned" in done.out

    run(main)


def test_at_a_terminal_the_passphrase_is_asked_for_twice_and_not_shown(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            (await tctl(kit, "get", "roles")).ok()
            config = short_tmp / "a.yaml"

            def talk(second: str, last: str) -> tuple[int, str]:
                argv = [str(ROOT / "bin" / "tctl"), "-c", str(config), "get", "roles", "--with-secrets"]
                terminal = Terminal(argv, dict(os.environ))
                terminal.expect("Passphrase (12 characters or more): ")
                terminal.type(PASSPHRASE)
                terminal.expect("The same again: ")
                terminal.type(second)
                terminal.expect(last)
                return terminal.end(), terminal.shown

            status, shown = await asyncio.to_thread(talk, PASSPHRASE, "-----END SEALED RESOURCES-----")
            assert status == 0, shown
            assert PASSPHRASE not in shown
            sealed = shown[shown.index("-----BEGIN") :]
            assert b"name: access" in unseal(sealed, PASSPHRASE)
            status, shown = await asyncio.to_thread(talk, "another passphrase", "differ")
            assert status == 2
            assert "the two passphrases differ" in shown
            assert "-----BEGIN" not in shown

    run(main)

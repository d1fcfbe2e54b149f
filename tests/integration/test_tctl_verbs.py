"""The generic verbs for every kind that people make: by name and as a list, in every format, twice edited."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from pkgs.common.resources.codec import load_documents, to_yaml
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.registry import DEFAULTED, SINGLETONS
from tests.integration.auth_kit import Kit, auth, run
from tests.integration.tctl_kit import tctl

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = ROOT / "tests" / "unit" / "resources" / "smallest.yaml"
MADE_BY_THE_CLUSTER = {
    "db_server",
    "db_service",
    *("cluster_name", "cert_authority", "proxy", "auth_server", "access_request"),
    *("autoupdate_agent_rollout", "bot_instance", "recording_encryption"),
}


def editor(kit: Kit, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = kit.data_dir.parent / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("TELEPORT_EDITOR", str(path))
    monkeypatch.setenv("TMPDIR", str(kit.data_dir.parent))


def reference(resource: Resource) -> str:
    if resource.kind in SINGLETONS:
        return resource.kind
    name = resource.name.replace(",", "\\,")
    sub_kind = resource.sub_kind or getattr(getattr(resource, "spec", None), "access_list", "")
    return f"{resource.kind}/{sub_kind}/{name}" if sub_kind else f"{resource.kind}/{name}"


def test_every_verb_on_every_kind(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            documents = [d for d in load_documents(SMALLEST.read_text()) if d.kind not in MADE_BY_THE_CLUSTER]
            assert len(documents) > 35
            # Who is a member of a list must exist.
            await kit.user("bob", "access", login=False)
            for resource in documents:
                kind, ref = resource.kind, reference(resource)
                shown = SINGLETONS.get(kind, resource.name)
                force = ["-f"] if kind in DEFAULTED else []
                made = (await tctl(kit, "create", *force, stdin=to_yaml(resource))).ok().out
                assert made == f'{kind} "{shown}" has been {"updated" if force else "created"}\n'
                again = await tctl(kit, "create", stdin=to_yaml(resource))
                assert again.status == 1, kind
                assert "use -f or --force flag to overwrite" in again.err
                assert (
                    (await tctl(kit, "create", "-f", stdin=to_yaml(resource)))
                    .ok()
                    .out.endswith("has been updated\n")
                )

                one = (await tctl(kit, "get", ref)).ok().out
                (found,) = load_documents(one)
                assert (found.kind, found.name) == (kind, shown)
                (as_json,) = json.loads((await tctl(kit, "get", ref, "--format=json")).ok().out)
                assert as_json == yaml.safe_load(one), kind
                every = json.loads((await tctl(kit, "get", kind, "--format=json")).ok().out)
                assert shown in [item["metadata"]["name"] for item in every]
                listed = load_documents((await tctl(kit, "get", kind)).ok().out)
                assert shown in [item.name for item in listed]
                text = (await tctl(kit, "get", kind, "--format=text", "-v")).ok().out
                assert shown in text or kind in ("cert_authority",)

                if "description" not in one:
                    add = "sed -i 's/^metadata:$/metadata:\\n  description: mine/' \"$1\""
                    editor(kit, monkeypatch, add)
                    edited = (await tctl(kit, "edit", ref)).ok().out
                    assert edited == f'{kind} "{shown}" has been updated\n'
                    assert "description: mine" in (await tctl(kit, "get", ref)).ok().out
                (await tctl(kit, "update", ref, "--set-labels=team=blue")).ok()
                (found,) = load_documents((await tctl(kit, "get", ref)).ok().out)
                assert found.metadata.labels["team"] == "blue"

            # Nothing that others refer to goes before them.
            for resource in reversed(documents):
                ref = reference(resource)
                gone = (await tctl(kit, "rm", ref)).ok().out
                assert "has been deleted" in gone or "defaults" in gone or "reset" in gone, gone
                left = await tctl(kit, "get", ref)
                if resource.kind in DEFAULTED:
                    assert "description" not in left.ok().out
                else:
                    assert left.status == 1 and "not found" in left.err
                    assert (await tctl(kit, "rm", ref)).status == 1

    run(main, deadline_s=300)


def test_a_list_of_kinds_in_every_format(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            await kit.user("mira")
            both = (await tctl(kit, "get", "role/access,user/mira")).ok().out
            assert [d.kind for d in load_documents(both)] == ["role", "user"]
            as_json = (await tctl(kit, "get", "user/mira,role/access", "--format=json")).ok().out
            assert [item["kind"] for item in json.loads(as_json)] == ["user", "role"]
            text = (await tctl(kit, "get", "role/access,user/mira", "--format=text")).ok().out
            assert text.startswith("role:\n")
            assert "\nuser:\n" in text
            assert "mira" in text.partition("\nuser:\n")[2]
            missing = await tctl(kit, "get", "role/access,user/none")
            assert missing.status == 1
            assert 'user "none" not found' in missing.err

    run(main)


def test_of_two_editors_the_second_is_told(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            (await tctl(kit, "create", stdin="kind: role\nmetadata: {name: ed}\n")).ok()
            config = short_tmp / "a.yaml"
            other = short_tmp / "other"
            other.write_text("#!/bin/sh\nsed -i 's/^  name: ed/  name: ed\\n  description: first/' \"$1\"\n")
            other.chmod(0o755)
            # While the one is in the editor the other begins and ends.
            editor(
                kit,
                monkeypatch,
                f"TELEPORT_EDITOR={other} {ROOT}/bin/tctl -c {config} edit role/ed >/dev/null || exit 1\n"
                "sed -i 's/^  name: ed/  name: ed\\n  description: second/' \"$1\"",
            )
            refused = await tctl(kit, "edit", "role/ed")
            assert refused.status == 1
            assert "was changed by somebody else while you edited it" in refused.err
            kept = re.search(r"kept in (\S+);", refused.err)
            assert kept
            text = Path(kept[1]).read_text()
            assert "description: second" in text
            assert "description: first" in (await tctl(kit, "get", "role/ed")).ok().out
            # What was kept still carries the revision of before, and is not forced through either.
            refused = await tctl(kit, "create", "-f", kept[1])
            assert refused.status == 1
            assert f"{kept[1]}:1: " in refused.err
            assert "fetch it again and repeat the change, or leave out metadata.revision" in refused.err
            Path(kept[1]).write_text(re.sub(r"  revision: .*\n", "", text))
            (await tctl(kit, "create", "-f", kept[1])).ok()
            assert "description: second" in (await tctl(kit, "get", "role/ed")).ok().out

    run(main)


def test_a_warning_about_what_is_kept_and_does_nothing(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            rule = "{{rules: [{{resources: [{}], verbs: [read]}}]}}"
            text = "kind: role\nmetadata: {{name: w}}\nspec: {{{}: " + rule + "}}\n"
            done = (await tctl(kit, "create", stdin=text.format("allow", "rolle"))).ok()
            assert done.err.startswith("WARNING: role/w: spec.allow.rules[0].resources[0]: ")
            assert "did you mean role?" in done.err
            refused = await tctl(kit, "create", "-f", stdin=text.format("deny", "rolle"))
            assert refused.status == 2
            assert "<stdin>:3: role/w: spec.deny.rules[0].resources[0]: unknown kind 'rolle'" in refused.err

    run(main)


def test_what_the_service_refuses_of_an_edit_names_the_line(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            text = "kind: role\nmetadata: {name: ed}\nspec: {allow: {logins: [a]}}\n"
            (await tctl(kit, "create", stdin=text)).ok()
            editor(kit, monkeypatch, 'sed -i \'s/^    - a$/    - "{{internal.}}"/\' "$1"')
            refused = await tctl(kit, "edit", "role/ed")
            assert refused.status == 2
            found = re.search(r"the edited text:(\d+): role/ed: spec\.allow\.logins\[0\]: ", refused.err)
            assert found, refused.err
            kept = re.search(r"kept in (\S+)", refused.err)
            assert kept
            assert "{{internal.}}" in Path(kept[1]).read_text().splitlines()[int(found[1]) - 1]

    run(main)


def test_a_lock_on_a_name_that_nobody_has_is_made_with_a_warning(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            await kit.user("mira", "access", login=False)
            for words, warning in (
                (("--user=mira",), ""),
                (("--role=access",), ""),
                (("--user=mria",), 'there is no user "mria"'),
                (("--role=acess", "--login=root"), 'there is no role "acess"'),
            ):
                made = (await tctl(kit, "lock", *words, "--ttl=1h")).ok()
                assert made.out.startswith("Created a lock with name")
                assert warning in made.err and bool(warning) == bool(made.err)

    run(main)


def test_a_question_about_what_does_not_exist_is_refused(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            await kit.user("mira", "access", login=False)
            for words, why in (
                (("resource", "rol", "update"), "did you mean role?"),
                (("resource", "role", "write"), "'write' is no verb; one of list, read"),
                (("resource", "role", "*"), "is no verb"),
                (("shh", "root@web1"), "'shh' is no action"),
                (("shh", "root@web1"), "resource KIND VERB [NAME]; request ROLE"),
                (("ssh", "root@web1", "--from-addr=home"), "is no IP address"),
            ):
                refused = await tctl(kit, "access", "explain", "--user=mira", *words)
                assert refused.status == 2 and why in refused.err, words
            # A kind of a newer version of the field: roles may have rules for it.
            (await tctl(kit, "access", "explain", "--user=mira", "resource", "zeppelin", "read")).ok()
            refused = await tctl(kit, "access", "who", "ssh", "root@web1", "--from-addr=home")
            assert refused.status == 2 and "is no IP address" in refused.err

    run(main)


def test_a_list_that_exists_is_not_made_again_and_leaves_no_role(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            await kit.user("olga", "access", login=False)
            words = ("acl", "create", "web", "--title=Web", "--owners=olga")
            (await tctl(kit, *words)).ok()
            again = await tctl(kit, *words, "--node-labels=env=web", "--logins=deploy")
            assert again.status == 1 and again.out == ""
            assert 'access list "web" already exists; `tctl acl update` changes it' in again.err
            assert (await tctl(kit, "get", "role/acl-access-web")).status == 1

    run(main)

"""A63 and A64 for the generic verbs: names, labels and descriptions of resources, and names of files, in what
tctl prints of them and in what the audit log keeps."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import yaml

from pkgs.common.api.resources import PutResource
from pkgs.common.resources.kinds import Installer, Lock, LockSpec, LockTarget, Resource, UiConfig
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec
from tests.integration.auth_kit import auth, events, run
from tests.integration.tctl_kit import tctl

PAYLOADS = (
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]0;title\x1b\\",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "a\rb\nERROR: fake",
    '\n{"event":"user.login","code":"T1000I","user":"root"}',
    "\u202egnp.exe",
    "\u2028line",
    "\x7f\x08\x08",
    "[link=file:///etc/passwd]x[/link]",
    "%n%s{{7*7}}",
    "\n--- role/fake (cluster)\n+++ role/fake\n@@ -1 +1 @@\n",
)
HOSTILE = "h" + "".join(PAYLOADS)
NAME = "".join(char for char in HOSTILE if char not in "/\\" and not (char < " " or char == "\x7f"))
"""As hostile as a name can be."""


def hostile() -> list[Resource]:
    metadata = Metadata(name=NAME, description=HOSTILE, labels={"team": HOSTILE})
    role = Role(
        metadata=msgspec.structs.replace(metadata, name="evil"),
        spec=RoleSpec(allow=Conditions(logins=[HOSTILE.replace("{{", "((").replace("}}", "))")])),
    )
    lock = Lock(metadata=metadata, spec=LockSpec(target=LockTarget(user=HOSTILE), message=HOSTILE))
    installer = Installer(
        metadata=metadata, spec=msgspec.convert({"script": HOSTILE}, type_of_spec(Installer))
    )
    return [role, lock, installer]


def type_of_spec(cls: type) -> type:
    return next(f.type for f in msgspec.structs.fields(cls) if f.name == "spec")  # type: ignore[no-any-return]


def assert_inert(text: str) -> None:
    bad = [char for char in text if not char.isprintable() and char != "\n"]
    assert not bad, f"{bad!r} in {text!r}"


def test_a64_what_tctl_prints_of_resources_is_inert(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = short_tmp / "conf"
            folder.mkdir()
            documents = [json.loads(msgspec.json.encode(r)) for r in hostile()]
            (folder / "all.json").write_text(json.dumps(documents))
            rehearsed = (await tctl(kit, "apply", "-f", str(folder), "--dry-run")).ok()
            shown = await tctl(kit, "apply", "-f", str(folder), "--diff")
            assert shown.status == 2
            assert shown.out.count("\n--- ") + shown.out.startswith("--- ") == 3, "no diff poses as another"
            as_json = await tctl(kit, "apply", "-f", str(folder), "--diff", "--format=json")
            applied = (await tctl(kit, "apply", "-f", str(folder))).ok()
            for resource in hostile():
                changed = msgspec.structs.replace(
                    resource, metadata=msgspec.structs.replace(resource.metadata, description="")
                )
                await kit.admin.call(PutResource(resource=changed, mode="upsert"))
            outputs = [rehearsed, shown, as_json, applied]
            outputs.append(await tctl(kit, "apply", "-f", str(folder), "--diff"))
            for kind in ("role/evil", "lock", "installer"):
                for form in ("yaml", "json", "text"):
                    outputs.append((await tctl(kit, "get", kind, f"--format={form}")).ok())
            outputs.append((await tctl(kit, "get", "all")).ok())
            outputs.append((await tctl(kit, "create", "-f", str(folder / "all.json"))).ok())
            outputs.append(await tctl(kit, "create", str(folder / "all.json")))
            outputs.append(await tctl(kit, "get", f"lock/{HOSTILE}"))
            outputs.append(await tctl(kit, "edit", f"lock/{HOSTILE}"))
            outputs.append(await tctl(kit, "rm", f"lock/{NAME.replace(' ', '')}"))
            pruned = ("--prune", f"--selector=team={HOSTILE.replace(',', '')}", "--prune-kinds=lock")
            outputs.append(await tctl(kit, "apply", "-f", str(folder), *pruned))
            for form in ("text", "json", "yaml"):
                outputs.append((await tctl(kit, "audit", "ls", f"--format={form}")).ok())
            for output in outputs:
                assert_inert(output.out)
                assert_inert(output.err)
            # Programs still get the true value.
            (lock,) = yaml.safe_load_all((await tctl(kit, "get", "lock")).ok().out)
            assert lock["spec"]["message"] == HOSTILE

    run(main, deadline_s=120)


def test_a64_names_of_files_and_errors_about_them_are_inert(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            folder = short_tmp / "conf"
            folder.mkdir()
            name = HOSTILE.replace("/", "_")[:200]
            (folder / f"{name}.yaml").write_text("kind: role\nmetadata: {name: x}\nspec: {optoins: {}}\n")
            (folder / f"x{name}.yaml").write_text(f"kind: {json.dumps(HOSTILE)}\nmetadata: {{name: x}}\n")
            for flags in ([], ["--diff"], ["--dry-run"]):
                refused = await tctl(kit, "apply", "-f", str(folder), *flags)
                assert refused.status == 1
                assert refused.out == ""
                assert_inert(refused.err)
                lines = refused.err.splitlines()
                assert lines[0].startswith("ERROR: ")
                assert all(line.startswith("  ") for line in lines[1:]), "no line poses as one of ours"

    run(main, deadline_s=120)


def test_a63_a_change_is_one_record_whatever_it_holds(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            for resource in hostile():
                await kit.admin.call(PutResource(resource=resource, mode="upsert"))
            huge = Role(metadata=Metadata(name="huge", labels={f"k{i}": HOSTILE * 2 for i in range(200)}))
            await kit.admin.call(PutResource(resource=huge))
            await kit.admin.call(PutResource(resource=UiConfig(metadata=Metadata(name="ui-config"))))
            found = await events(kit)
            assert not [e for e in found if e["event"] == "user.login"]
            made = {str(e["name"]): e["changes"] for e in found if e["event"] == "role.created"}
            evil, large = made["evil"], made["huge"]
            assert isinstance(evil, dict) and isinstance(large, dict)
            assert evil["metadata.labels.team"][1].startswith(HOSTILE[:200])
            assert all("more]" in large[f"metadata.labels.k{i}"][1] for i in range(3))
            lines = (await tctl(kit, "audit", "ls", "--format=json")).ok().out
            records = json.loads(lines)
            assert len(records) == len(found)
            assert all(len(msgspec.json.encode(e)) < 64 * 1024 for e in found)

    run(main, deadline_s=120)

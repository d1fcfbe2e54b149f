"""Presets over the starts of a cluster: new ones come, deleted ones stay away, changed ones are topped up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pkgs.auth.state.presets import RECORD
from pkgs.common.api.resources import DeleteResource, GetResource, PutResource
from pkgs.common.resources.presets import FIRST_PRESETS, preset_roles
from pkgs.common.resources.role import Conditions
from tests.integration.auth_kit import Kit, auth, listed, role, run

ALL = {preset.name for preset in preset_roles()}


async def names(kit: Kit) -> set[str]:
    return {found.name for found in await listed(kit.admin, "role")}


def test_over_the_starts_of_a_cluster(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            assert await names(kit) == ALL
            for name in ("access", "reviewer"):
                await kit.admin.call(DeleteResource(kind="role", name=name))
            own = role("reviewer", Conditions(logins=["x"]))
            await kit.admin.call(PutResource(resource=own, mode="create"))
            editor: Any = (await kit.admin.call(GetResource(kind="role", name="editor"))).resource
            rules = [r for r in editor.spec.allow.rules if r.resources != ["access_request"]]
            allow = msgspec.structs.replace(editor.spec.allow, rules=rules)
            spec = msgspec.structs.replace(editor.spec, allow=allow)
            await kit.admin.call(
                PutResource(resource=msgspec.structs.replace(editor, spec=spec), mode="update")
            )
        async with auth(tmp_path) as kit:
            # What was deleted stays deleted, one's own role stays one's own, what was missing is back.
            assert await names(kit) == ALL - {"access"}
            found: Any = (await kit.admin.call(GetResource(kind="role", name="reviewer"))).resource
            assert found.spec.allow.logins == ["x"] and not found.spec.allow.review_requests
            topped: Any = (await kit.admin.call(GetResource(kind="role", name="editor"))).resource
            assert ["access_request"] in [r.resources for r in topped.spec.allow.rules]
            revision = topped.metadata.revision
        async with auth(tmp_path) as kit:
            again = (await kit.admin.call(GetResource(kind="role", name="editor"))).resource
            assert again.metadata.revision == revision

    run(main)


def test_a_cluster_of_the_first_version_gets_what_is_new(tmp_path: Path) -> None:
    async def main() -> None:
        async with auth(tmp_path) as kit:
            for name in ALL - {"editor"}:
                await kit.admin.call(DeleteResource(kind="role", name=name))
            await kit.service.backend.delete(RECORD)
        async with auth(tmp_path) as kit:
            assert await names(kit) == ALL - (set(FIRST_PRESETS) - {"editor"})

    run(main)

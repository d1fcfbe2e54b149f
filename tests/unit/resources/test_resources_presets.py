"""The preset roles: what they are, word for word, and how a cluster that has some gets more."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pkgs.common.access.validate import validate
from pkgs.common.resources.codec import load_documents, to_yaml
from pkgs.common.resources.presets import FIRST_PRESETS, preset_roles, with_missing_rules
from pkgs.common.resources.role import Role, Rule

GOLDEN = Path(__file__).with_name("presets.yaml")
NO_PRINCIPALS = ("reviewer", "requester", "group-access", "list-access-request-resources",
                 "device-admin", "device-enroll", "terraform-provider", "wildcard-workload-identity-issuer",
                 "editor")  # fmt: skip


def preset(name: str) -> Role:
    return next(role for role in preset_roles() if role.name == name)


def test_word_for_word() -> None:
    """Whoever changes a preset changes what clusters get: the golden file shows it."""
    assert to_yaml(preset_roles()) == GOLDEN.read_text()
    assert load_documents(GOLDEN.read_text()) == preset_roles()


def test_each_is_one_that_could_be_stored() -> None:
    names = [role.name for role in preset_roles()]
    assert names[:3] == list(FIRST_PRESETS) and len(set(names)) == len(names)
    for role in preset_roles():
        validate(role)
        assert role.metadata.labels == {"teleport.internal/resource-type": "preset"}
        assert role.metadata.description


@pytest.mark.parametrize("name", NO_PRINCIPALS)
def test_what_only_shows_or_administers_lets_nobody_log_in(name: str) -> None:
    allow = preset(name).spec.allow
    for field in ("logins", "db_users", "kubernetes_users", "kubernetes_groups", "windows_desktop_logins",
                  "aws_role_arns", "kubernetes_resources"):  # fmt: skip
        assert not getattr(allow, field), field


def test_the_editor_may_administer_what_there_is() -> None:
    found = {kind: rule.verbs for rule in preset("editor").spec.allow.rules for kind in rule.resources}
    for kind in ("access_request", "access_list", "bot", "lock", "user", "role", "token"):
        assert found[kind] == ["list", "create", "read", "update", "delete"], kind
    assert "enroll" in found["device"]


def _with_rules(role: Role, allow: list[Rule], deny: list[Rule]) -> Role:
    spec = role.spec
    sides = {
        "allow": msgspec.structs.replace(spec.allow, rules=allow),
        "deny": msgspec.structs.replace(spec.deny, rules=deny),
    }
    return msgspec.structs.replace(role, spec=msgspec.structs.replace(spec, **sides))


def test_a_rule_is_added_only_where_nothing_is_said_about_its_kind() -> None:
    editor = preset("editor")
    kept = [r for r in editor.spec.allow.rules if r.resources[0] not in ("access_request", "lock", "bot")]
    narrow = Rule(resources=["lock", "something"], verbs=["read"])
    denied = Rule(resources=["bot"], verbs=["*"])
    topped = with_missing_rules(_with_rules(editor, [*kept, narrow], [denied]), editor)
    assert topped.spec.allow.rules == [*kept, narrow, Rule(resources=["access_request"], verbs=kept[0].verbs)]
    assert topped.spec.deny.rules == [denied]
    assert with_missing_rules(topped, editor) is topped
    own = msgspec.structs.replace(editor, metadata=msgspec.structs.replace(editor.metadata, labels={}))
    assert with_missing_rules(_with_rules(own, [], []), editor).spec.allow.rules == []

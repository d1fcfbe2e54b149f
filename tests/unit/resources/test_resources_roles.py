"""Roles of every version: what is filled in, what a whole one says, what is refused."""

from __future__ import annotations

import pytest

from pkgs.common.errors import InputError
from pkgs.common.resources import versions
from pkgs.common.resources.codec import load_documents, to_yaml
from pkgs.common.resources.kinds import (
    Resource,
)
from pkgs.common.resources.role import Conditions, Role, RoleOptions
from pkgs.common.resources.validate import check_fields


def load_one(text: str) -> Resource:
    (resource,) = load_documents(text, "file.yaml")
    return resource


def role(text: str, version: str = "v7") -> Role:
    found = load_one(f"kind: role\nversion: {version}\nmetadata: {{name: r}}\nspec: {text}")
    assert isinstance(found, Role)
    return found


class TestRoleVersions:
    @pytest.mark.parametrize(
        ("version", "kinds"),
        [("v3", ["pod"]), ("v4", ["pod"]), ("v5", ["pod"]), ("v6", []), ("v7", ["*"]), ("v8", ["*"])],
    )
    def test_kubernetes_objects(self, version: str, kinds: list[str]) -> None:
        allow = role("{allow: {kubernetes_labels: {env: dev}}}", version).spec.allow
        assert [item.kind for item in allow.kubernetes_resources] == kinds
        assert all((i.namespace, i.name, i.verbs) == ("*", "*", ["*"]) for i in allow.kubernetes_resources)
        assert [i.api_group for i in allow.kubernetes_resources] == (
            [] if not kinds else ["*" * (version == "v8")]
        )
        nothing = role("{allow: {kubernetes_labels: {env: dev}, kubernetes_resources: []}}", version)
        assert nothing.spec.allow.kubernetes_resources == []
        if version != "v3":
            assert role("{allow: {logins: [a]}}", version).spec.allow.kubernetes_resources == []
            assert role("{allow: {kubernetes_labels: {}}}", version).spec.allow.kubernetes_resources == []

    def test_v3_labels(self) -> None:
        allow = role("{allow: {logins: [root]}}", "v3").spec.allow
        for name in ("node_labels", "app_labels", "db_labels", "kubernetes_labels"):
            assert getattr(allow, name) == {"*": "*"}
            assert getattr(role("{allow: {logins: [root]}}", "v4").spec.allow, name) == {}
        assert role("{allow: {db_users: [x]}}", "v3").spec.allow.node_labels == {}
        assert role("{deny: {logins: [root]}}", "v3").spec.deny.node_labels == {}

    @pytest.mark.parametrize("version", versions.ROLE_VERSIONS)
    def test_what_was_written_as_nothing_stays_nothing(self, version: str) -> None:
        """Leaving out what is empty would grant it in these versions."""
        text = (
            "{allow: {logins: [root], node_labels: {}, app_labels: {}, db_labels: {}, kubernetes_labels: }}"
        )
        made = role(text, version)
        assert made.spec.allow.node_labels == made.spec.allow.kubernetes_labels == {}
        assert load_one(to_yaml(made)) == made


WHOLE = """
kind: role
version: v7
metadata: {name: all-of-it}
spec:
  options:
    create_host_user_mode: 3
    create_db_user_mode: best_effort_drop
    require_session_mfa: 2
    cert_extensions: [{type: ssh, mode: extension, name: login@github.com, value: '{{external.gh}}'}]
    idp: {saml: {enabled: no}}
    record_session: {default: strict, ssh: best_effort, desktop: off}
    web_terminal_clipboard_mode: no-copy
  allow:
    node_labels_expression: 'labels["env"] == "dev"'
    app_labels_expression: 'true'
    linux_desktop_labels: {env: dev}
    linux_desktop_logins: [dev]
    db_permissions: [{match: {kind: table}, permissions: [SELECT]}]
    account_assignments: [{account: '1', permission_set: p}]
    github_permissions: [{orgs: [acme]}]
    mcp: {tools: ['^get_.*$']}
    impersonate: {users: [bot-x], roles: [ci], where: 'true'}
    join_sessions: [{name: j, roles: ['*'], kinds: [ssh], modes: [observer, peer]}]
    require_session_join:
      - {name: q, filter: 'true', kinds: [k8s], modes: [moderator], count: 2, on_leave: pause}
    request:
      roles: ['oncall-*']
      claims_to_roles: [{claim: team, value: '^(.*)$', roles: ['$1']}]
      search_as_roles: [access]
      kubernetes_resources: [{kind: namespace}]
      thresholds: [{name: two, filter: 'true', approve: 2, deny: 1}]
      suggested_reviewers: [bob]
      annotations: {a: ['{{external.b}}']}
      max_duration: 7d
      reason: {mode: required, prompt: why}
    review_requests: {roles: [x], preview_as_roles: [y], where: 'true', claims_to_roles: []}
    spiffe: [{path: /a, dns_sans: [x.example], ip_sans: [10.0.0.0/8]}]
    db: {read_only: yes, mask: [{column: '*_token', table: 'sales.*', text: x}], rows_max: 10, bytes_max: 99}
    host_groups: [wheel]
    host_sudoers: ['ALL=(ALL) NOPASSWD: ALL']
    rules: [{resources: [session], verbs: [list], where: 'true', actions: ['log("info", "x")']}]
  deny: {azure_identities: ['*'], db_permissions: [{match: {'*': '*'}, permissions: ['*']}]}
"""


def test_a_role_with_every_block_loads_and_round_trips() -> None:
    made = load_one(WHOLE)
    check_fields(made)
    assert isinstance(made, Role)
    options = made.spec.options
    assert (options.create_host_user_mode, options.require_session_mfa) == ("keep", "hardware_key")
    assert load_one(to_yaml(made)) == made
    assert RoleOptions().web_terminal_clipboard_mode == ""
    assert Conditions().request is None


REFUSED_ROLES = [
    ("{allow: {logins: ['*']}}", "spec.allow.logins"),
    ("{allow: {aws_role_arns: ['*']}}", "spec.allow.aws_role_arns"),
    ("{allow: {db_roles: ['*']}}", "spec.allow.db_roles"),
    ("{allow: {app_labels: {'*': x}}}", "may only have the value"),
    ("{allow: {app_labels: {x: []}}}", "no values"),
    ("{allow: {rules: [{resources: [], verbs: [list]}]}}", "resources: missing"),
    ("{allow: {kubernetes_resources: [{kind: pods}]}}", "kind: found 'pods'"),
    ("{allow: {kubernetes_resources: [{kind: pod, api_group: apps}]}}", "from role version v8"),
    ("{allow: {kubernetes_resources: [{kind: pod, verbs: [eat]}]}}", "found 'eat'"),
    ("{allow: {db_roles: [x], db_permissions: [{permissions: [SELECT]}]}}", "exclude each other"),
    ("{allow: {db_permissions: [{permissions: ['*']}]}}", "only allowed in deny"),
    ("{deny: {db_permissions: [{permissions: [SELEC], match: {a: b}}]}}", "did you mean SELECT"),
    ("{deny: {db_permissions: [{permissions: [SELECT]}]}}", "match: missing"),
    ("{deny: {impersonate: {roles: [x], where: 'true'}}}", "not allowed in deny"),
    ("{allow: {impersonate: {users: [x]}}}", "impersonate.roles: missing"),
    ("{allow: {spiffe: [{path: a}]}}", "starts with /"),
    ("{allow: {spiffe: [{path: /a, ip_sans: [x]}]}}", "is no network"),
    ("{allow: {join_sessions: [{name: x, roles: [], kinds: [ssh]}]}}", "roles: missing"),
    ("{allow: {join_sessions: [{name: x, roles: [y], kinds: [ftp]}]}}", "found 'ftp'"),
    ("{allow: {require_session_join: [{name: x, kinds: [ssh], count: -1}]}}", "count: found -1"),
    ("{allow: {request: {max_duration: 15d}}}", "at most 14d"),
    ("{allow: {request: {thresholds: [{approve: 0, deny: 0}]}}}", "neither approve nor deny"),
    ("{allow: {request: {treshholds: []}}}", "did you mean thresholds?"),
    ("{deny: {db: {read_only: yes}}}", "spec.deny.db: not allowed in deny"),
    ("{allow: {db: {rows_max: -1}}}", "allow.db.rows_max: found -1"),
    ("{allow: {db: {masks: []}}}", "did you mean mask?"),
    ("{allow: {db: {mask: [{column: ''}]}}}", "allow.db.mask[0].column: missing"),
    ("{allow: {db: {mask: [{table: t}]}}}", "column"),
    ("{allow: {db: {mask: [{column: '{{internal.x}}'}]}}}", "neither a template nor a regular expression"),
    ("{allow: {db: {mask: [{column: a}, {column: '^a.*$'}]}}}", "allow.db.mask[1].column: found '^a.*$'"),
    ("{allow: {db: {mask: [{column: a, table: x.y.z}]}}}", "a table, or schema.table"),
    ("{allow: {db: {mask: [{column: a, table: x.}]}}}", "a table, or schema.table"),
    ('{allow: {db: {mask: [{column: a, text: "\\e[0m"}]}}}', "mask[0].text: at most 64 printable"),
    (f"{{allow: {{db: {{mask: [{'{column: a}, ' * 101}]}}}}}}", "101 entries, at most 100"),
    ("{options: {create_host_user_mode: drop}}", "insecure-drop"),
    ("{options: {create_host_user_mode: 2}}", "insecure-drop"),
    ("{options: {require_session_mfa: sometimes}}", "require_session_mfa: found 'sometimes'"),
    ("{options: {cert_extensions: [{name: a, value: ''}]}}", "value: missing"),
    ("{options: {cert_extensions: [{name: a, value: b}, {name: a, value: c}]}}", "given twice"),
    ("{options: {max_connections: -1}}", "0 or more"),
]


@pytest.mark.parametrize(("text", "part"), REFUSED_ROLES)
def test_roles_that_are_refused(text: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        check_fields(role(text))
    assert part in str(caught.value)

# ruff: noqa: E501 - a row is a row
"""What a person reads who got a document wrong: one row for each way of getting it wrong. Every error names the
file, the line, the path and what would be right; nothing of it needs a cluster."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.clients.tctl.verbs.resources.create import check
from pkgs.common.errors import AccessError, InputError
from pkgs.common.resources.documents.places import load_placed
from tests.harness.examples import examples
from tests.harness.pace import assert_takes_under

FRONT = "kind: user\nmetadata: {name: first}\nspec: {roles: [access]}\n---\n"
"""The document at fault is the second one, from line 5 on."""


def told(text: str) -> str:
    """The error of a file, as `tctl create` and `tctl apply` print it."""
    with pytest.raises(AccessError) as caught:
        for document in load_placed(text, "f.yaml"):
            check(document)
    return str(caught.value)


def role(spec: str) -> str:
    """`spec` begins at line 9."""
    return f"kind: role\nversion: v7\nmetadata: {{name: r}}\nspec:\n{spec}"


def kind(name: str, metadata: str, spec: str) -> str:
    return f"kind: {name}\nmetadata: {{name: {metadata}}}\nspec:\n{spec}"


ALLOW = "  allow:\n"

ROWS: list[tuple[str, str, int, str, str]] = [
    # What, document, line, path, what is said or would be right.
    ("template in logins", role(ALLOW + "    logins:\n    - ok\n    - '{{internal.logins'\n"), 12,
     "spec.allow.logins[1]", "one pair of braces"),
    ("unknown function", role(ALLOW + "    logins: ['{{email.domain(external.email)}}']\n"), 10,
     "spec.allow.logins[0]", "unknown function email.domain"),
    ("template in labels", role(ALLOW + "    node_labels:\n      env: '{{external.}}'\n"), 11,
     "spec.allow.node_labels.env", "allowed: internal.<trait>"),
    ("template in a list of labels", role("  deny:\n    app_labels:\n      env: [x, '{{}}']\n"), 11,
     "spec.deny.app_labels.env[1]", "expected a name"),
    ("template of an extension", role("  options:\n    cert_extensions:\n    - {name: x, value: '{{a}}'}\n"), 11,
     "spec.options.cert_extensions[0].value", "template"),
    ("template of an annotation", role(ALLOW + "    request:\n      annotations: {team: ['{{a}}']}\n"), 11,
     "spec.allow.request.annotations.team[0]", "template"),
    ("regular expression in labels", role(ALLOW + "    db_labels: {env: '^(a$'}\n"), 10,
     "spec.allow.db_labels.env", "missing )"),
    ("regular expression of requests", role(ALLOW + "    request: {roles: [a, '^[$']}\n"), 10,
     "spec.allow.request.roles[1]", "missing ]"),
    ("regular expression of reviews", role("  deny:\n    review_requests: {roles: ['^($']}\n"), 10,
     "spec.deny.review_requests.roles[0]", "missing )"),
    ("kubernetes pattern", role(ALLOW + "    kubernetes_resources: [{kind: pod, namespace: '^($'}]\n"), 10,
     "spec.allow.kubernetes_resources[0].namespace", "missing )"),
    ("label expression", role(ALLOW + "    node_labels_expression: 'labels[\"env\"] = \"x\"'\n"), 10,
     "spec.allow.node_labels_expression", "at character"),
    ("label expression of another protocol", role("  deny:\n    db_labels_expression: 'resource.x'\n"), 10,
     "spec.deny.db_labels_expression", "at character 1"),
    ("condition", role(ALLOW + "    rules:\n    - resources: [role]\n      verbs: [read]\n      where: a(b\n"), 13,
     "spec.allow.rules[0].where", "at character"),
    ("action", role("  deny:\n    rules: [{resources: [role], verbs: [read], actions: ['x()']}]\n"), 10,
     "spec.deny.rules[0].actions[0]", "log("),
    ("verb", role(ALLOW + "    rules: [{resources: [role], verbs: [list, raed]}]\n"), 10,
     "spec.allow.rules[0].verbs[1]", "did you mean read?"),
    ("kind in a denial", role("  deny:\n    rules: [{resources: [nodde], verbs: [list]}]\n"), 10,
     "spec.deny.rules[0].resources[0]", "did you mean node?"),
    ("duration", role("  options:\n    max_session_ttl: ten hours\n"), 10,
     "spec.options.max_session_ttl", "30m, 8h or 1h30m"),
    ("duration without unit", role("  options: {client_idle_timeout: 30}\n"), 9,
     "spec.options.client_idle_timeout", "is not a duration"),
    ("duration of a check", role("  options: {mfa_verification_interval: 1y}\n"), 9,
     "spec.options.mfa_verification_interval", "is not a duration"),
    ("duration of requests", role(ALLOW + "    request: {max_duration: soon}\n"), 10,
     "spec.allow.request.max_duration", "is not a duration"),
    ("duration of a setting", kind("cap", "cluster-auth-preference", "  default_session_ttl: x\n"), 8,
     "spec.default_session_ttl", "is not a duration"),
    *(
        (f"duration {name}", kind("netconfig", "cluster-networking-config", f"  {name}: x\n"), 8,
         f"spec.{name}", "is not a duration")
        for name in ("client_idle_timeout", "web_idle_timeout", "keep_alive_interval",
                     "session_control_timeout", "proxy_ping_interval", "ssh_dial_timeout")
    ),
    ("duration of a bot", kind("bot", "b", "  max_session_ttl: x\n"), 8, "spec.max_session_ttl", "duration"),
    ("duration of a token", kind("token", "t", "  roles: [Node]\n  aws_iid_ttl: x\n"), 9,
     "spec.aws_iid_ttl", "duration"),
    ("duration of a list", kind("access_list", "l", "  title: t\n  owners: [{name: a}]\n  grants: {roles: [a]}\n"
     "  audit: {notifications: {start: x}}\n"), 11, "spec.audit.notifications.start", "duration"),
    ("duration of a connector", kind("oidc", "o", "  issuer_url: https://i\n  client_id: c\n  max_age: x\n"), 10,
     "spec.max_age", "duration"),
    ("duration of its factor", kind("oidc", "o", "  issuer_url: https://i\n  client_id: c\n  mfa: {max_age: x}\n"),
     10, "spec.mfa.max_age", "duration"),
    ("duration of a workload", kind("workload_identity", "w", "  spiffe: {id: /a, x509: {maximum_ttl: x}}\n"), 8,
     "spec.spiffe.x509.maximum_ttl", "duration"),
    ("duration of health checks", kind("health_check_config", "h", "  interval: x\n"), 8, "spec.interval", "dur"),
    ("duration of updates", kind("autoupdate_config", "autoupdate-config",
     "  agents: {maintenance_window_duration: x}\n"), 8, "spec.agents.maintenance_window_duration", "duration"),
    ("duration of a command", kind("db", "d", "  protocol: postgres\n  uri: x:1\n"
     "  dynamic_labels: {a: {command: [ls], period: x}}\n"), 10, "spec.dynamic_labels.a.period", "duration"),
    ("label name", "kind: role\nmetadata:\n  name: r\n  labels: {'a b': c}\n", 8, "metadata.labels", "letters"),
    ("label value", "kind: role\nmetadata:\n  name: r\n  labels: {a: " + "x" * 1001 + "}\n", 8,
     "metadata.labels.a", "longer than 1000"),
    ("label value of a wrong type", "kind: role\nmetadata:\n  name: r\n  labels: {a: [b]}\n", 8,
     "metadata.labels.a", "found a list, expected text"),
    ("wildcard among logins", role(ALLOW + "    logins: ['*']\n"), 10, "spec.allow.logins[0]", "name the logins"),
    ("wildcard key", role(ALLOW + "    node_labels:\n      '*': prod\n"), 10, "spec.allow.node_labels",
     "may only have the value '*'"),
    ("labels without a value", role(ALLOW + "    node_labels: {env: []}\n"), 10, "spec.allow.node_labels.env",
     "'*' stands for any"),
    ("network", role(ALLOW + "    spiffe:\n    - path: /a\n      ip_sans: [10.0.0.0/8, 10.0.0.0/99]\n"), 12,
     "spec.allow.spiffe[0].ip_sans[1]", "for example 10.0.0.0/8"),
    ("network of redirects", kind("github", "g", "  client_id: c\n  client_redirect_settings:\n"
     "    insecure_allowed_cidr_ranges: [x]\n"), 10,
     "spec.client_redirect_settings.insecure_allowed_cidr_ranges[0]", "no network"),
    ("network of vnet", kind("vnet_config", "vnet-config", "  ipv4_cidr_range: 1.2.3\n"), 8,
     "spec.ipv4_cidr_range", "no network"),
    ("unknown key at the top", "kind: role\nmetdata: {name: r}\n", 6, "metdata", "did you mean metadata?"),
    ("unknown key of spec", role("  optoins: {}\n"), 9, "spec.optoins", "did you mean options?"),
    ("unknown key of a block", role("  options: {forward_agnt: yes}\n"), 9, "spec.options.forward_agnt",
     "did you mean forward_agent?"),
    ("unknown key in a list", role(ALLOW + "    rules:\n    - resorces: [x]\n"), 11,
     "spec.allow.rules[0].resorces", "did you mean resources?"),
    ("wrong type", role(ALLOW + "    logins: root\n"), 10, "spec.allow.logins", "found 'root', expected a list"),
    ("wrong word", role("  options: {lock: severe}\n"), 9, "spec.options.lock", "best_effort, strict"),
    ("wrong version", "kind: role\nversion: v77\nmetadata: {name: r}\n", 6, "version", "v3, v4"),
    ("no name", "kind: role\nmetadata: {labels: {}}\n", 6, "metadata.name", "missing, expected text"),
    ("no kind", "metadata: {name: r}\n", 5, "kind", "every resource names its kind"),
    ("unknown kind", "kind: rolle\nmetadata: {name: r}\n", 5, "kind", "did you mean role?"),
    ("a kind that is not kept", "kind: app_server\nmetadata: {name: r}\n", 5, "kind", "are not kept"),
    ("key given twice", role("  allow: {}\n  allow: {}\n"), 10, "spec.allow", "key given twice"),
    ("time", "kind: role\nmetadata:\n  name: r\n  expires: tomorrow\n", 8, "metadata.expires", "2026-01-31T"),
    ("long description", "kind: role\nmetadata:\n  name: r\n  description: " + "x" * 17_000 + "\n", 8,
     "metadata.description", "17,000 characters, at most 16,384"),
    ("long message", kind("lock", "l", "  target: {user: eve}\n  message: " + "x" * 17_000 + "\n"), 9,
     "spec.message", "longer than 1000"),
    ("ten thousand labels", "kind: role\nmetadata:\n  name: r\n  labels: {"
     + ", ".join(f"k{i}: v" for i in range(10_000)) + "}\n", 8, "metadata.labels", "at most 1,000"),
    ("setting under a field of another", kind("cap", "x", "  keep_alive_interval: 5m\n"), 8,
     "spec.keep_alive_interval", "unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "path", "part"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
def test_an_error_names_file_line_path_and_remedy(text: str, line: int, path: str, part: str) -> None:
    message = told(FRONT + text)
    assert message.startswith(f"f.yaml:{line}: "), message
    assert re.search(rf"[ :]{re.escape(path)}: ", message), message
    assert part in message
    assert len(message) < 800


SHAPES: list[tuple[str, str, str]] = [
    ("tab", "kind: role\n\tmetadata: {name: r}\n", "f.yaml:6: not valid YAML"),
    ("open bracket", "kind: role\nmetadata: {name: r\n", "f.yaml:7: not valid YAML"),
    ("deep nesting", "kind: role\nmetadata: {name: r}\nspec: " + "{a: " * 70 + "1" + "}" * 70, "deeper than 64"),
    ("deep brackets", "a: " + "[" * 100_000, "deeper than 64"),
    ("anchors in themselves", "kind: role\nmetadata: &m {name: x, labels: *m}\n", "f.yaml:6"),
    ("no mapping", "just words\n", "f.yaml:5: document 2 of 2: not a resource"),
    ("python object", "kind: role\nmetadata: !!python/object/apply:os.system [id]\n", "f.yaml:6"),
    ("5 MB", "kind: role\nmetadata: {name: r, description: '" + "x" * 5_000_000 + "'}\n", "1,000,000 bytes"),
    ("5 MB in a list", "- kind: role\n  metadata: {name: r}\n  spec: {allow: {logins: ["
     + ",".join(["x" * 99] * 50_000) + "]}}\n", "at most 1,000,000 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "part"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_a43_texts_that_are_no_documents(text: str, part: str) -> None:

    def refuse() -> None:
        message = told(FRONT + text)
        assert part in message
        assert len(message) < 800

    assert_takes_under(5, refuse)


def test_a43_an_alias_bomb_is_refused() -> None:
    rows = "\n".join(
        f"  {c}: &{c} [{','.join(['*' + p] * 10)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    bomb = f"kind: user\nmetadata: {{name: x}}\nspec:\n  traits:\n    a: &a [{','.join('x' * 10)}]\n{rows}\n"

    def refuse() -> None:
        assert "f.yaml:" in told(bomb)

    assert_takes_under(5, refuse)


def test_json_names_the_document() -> None:
    message = told(
        '[{"kind": "role", "metadata": {"name": "a"}}, {"kind": "role", "metadata": {"name": "/"}}]'
    )
    assert message.startswith("f.yaml: document 2: role//: metadata.name: not a valid name")


KEYS = ("kind", "version", "metadata", "spec", "name", "labels", "allow", "logins", "rules", "options", "x")
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.sampled_from(["role", "user", "v7"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
@settings(max_examples=examples(100))
def test_a43_any_tree_is_a_resource_or_an_error_of_ours(tree: dict[str, object]) -> None:
    try:
        for document in load_placed(json.dumps({"kind": "role", **tree}), "f.json"):
            check(document)
    except InputError as error:
        assert str(error).startswith("f.json: ")


@pytest.mark.fuzz
@given(st.text(alphabet="{}internal.externallogins()\"'`,$*^ \\\u0130\x00|[]?", max_size=60))
@settings(max_examples=examples(100))
def test_a43_any_template_is_one_or_an_error_with_its_place(text: str) -> None:
    tree = {"kind": "role", "metadata": {"name": "r"}, "spec": {"allow": {"logins": ["{{" + text, text]}}}
    try:
        for document in load_placed(json.dumps(tree), "f.json"):
            check(document)
    except InputError as error:
        assert str(error).startswith("f.json: role/r: spec.allow.logins["), error

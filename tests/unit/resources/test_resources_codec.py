# ruff: noqa: E501  (resource texts are easier to read in one line)
"""Strict loading, stable writing, and the fully defaulted form of every kind."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import InputError
from pkgs.common.resources import registry
from pkgs.common.resources.codec import from_builtins, load_documents, to_builtins, to_json, to_yaml
from pkgs.common.resources.durations import format_duration, parse_duration
from pkgs.common.resources.kinds import CertAuthority, Node, Resource, ServerSpec, User
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles, with_missing_rules
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule
from pkgs.common.resources.strict import line_of, load_yaml_strict
from pkgs.common.resources.validate import check_fields
from tests.harness.examples import examples
from tests.harness.pace import assert_takes_under

GOLDEN = Path(__file__).parent / "golden"
HOST_ID = "11111111-2222-4333-8444-555555555555"

SMALLEST = {
    text.partition("\n")[0].removeprefix("kind: "): text.partition("\n")[2]
    for text in (Path(__file__).parent / "smallest.yaml").read_text().split("---\n")[1:]
}
"""Kind to the least that a document of it says."""


def load_one(text: str) -> Resource:
    (resource,) = load_documents(text, "file.yaml")
    return resource


def error_of(text: str) -> str:
    with pytest.raises(InputError) as caught:
        for resource in load_documents(text, "file.yaml"):
            check_fields(resource)
    return str(caught.value)


def test_every_kind_has_a_smallest_form() -> None:
    assert set(SMALLEST) == set(registry.TYPES)


@pytest.mark.parametrize("kind", sorted(SMALLEST))
def test_golden_fully_defaulted_form(kind: str) -> None:
    """What a resource is when only what must be there is given. GOLDEN_UPDATE=1 writes the files anew."""
    resource = load_one(f"kind: {kind}\n{SMALLEST[kind]}")
    check_fields(resource)
    full = json.dumps(msgspec.to_builtins(resource), indent=1, sort_keys=True) + "\n"
    file = GOLDEN / f"{kind}.json"
    if os.environ.get("GOLDEN_UPDATE"):
        file.write_text(full)
    assert full == file.read_text()


@pytest.mark.parametrize("kind", sorted(SMALLEST))
def test_what_is_written_is_read_back(kind: str) -> None:
    resource = load_one(f"kind: {kind}\n{SMALLEST[kind]}")
    for text in (to_yaml(resource), to_json(resource), to_json([resource]), to_yaml([resource, resource])):
        assert set(map(repr, load_documents(text))) == {repr(resource)}
    assert from_builtins(to_builtins(resource)) == resource


def test_presets_round_trip_and_keep_their_order() -> None:
    for role in preset_roles():
        assert load_one(to_yaml(role)) == role
        keys = list(to_builtins(role))
        assert keys == ["kind", "version", "metadata", "spec"]
    assert list(yaml.safe_load(to_yaml(load_one("kind: cas\n" + SMALLEST["cert_authority"])))) == [
        "kind",
        "sub_kind",
        "version",
        "metadata",
        "spec",
    ]


def test_an_empty_value_that_is_no_default_is_kept() -> None:
    role = load_one(
        "kind: role\nmetadata: {name: r}\nspec: {options: {enhanced_recording: [], max_session_ttl: ''}}"
    )
    assert isinstance(role, Role)
    assert role.spec.options.enhanced_recording == ()
    assert load_one(to_yaml(role)) == role


def test_times_and_revisions_round_trip() -> None:
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    user = User(metadata=Metadata(name="a", expires=expires, revision="r1", labels={"x": "yes", "y": "1"}))
    assert load_one(to_yaml(user)) == user
    assert "2030-01-02T03:04:05Z" in to_yaml(user)


def test_secrets_only_when_asked_for() -> None:
    text = "kind: cert_authority\nsub_kind: user\nmetadata: {name: demo}\nspec:\n  type: user\n  cluster_name: demo\n"
    text += "  active_keys: {ssh: [{public_key: pub, private_key: c2VjcmV0}], tls: [{cert: c, key: c2VjcmV0}], jwt: []}\n"
    ca = load_one(text)
    assert isinstance(ca, CertAuthority)
    assert ca.spec.active_keys.ssh[0].private_key == b"secret"
    for shown in (to_yaml(ca), to_json(ca), repr(to_builtins(ca))):
        assert "c2VjcmV0" not in shown
        assert "private_key" not in shown
    assert load_one(to_yaml(ca, with_secrets=True)) == ca


def test_documents_lists_and_aliases_of_kinds() -> None:
    text = "# nothing\n---\nkind: users\nmetadata: {name: a}\n---\n---\nkind: ROLE\nmetadata: {name: b}\n"
    assert [(r.kind, r.name) for r in load_documents(text)] == [("user", "a"), ("role", "b")]
    as_list = json.dumps([{"kind": "user", "metadata": {"name": n}} for n in "ab"], indent="\t")
    assert [r.name for r in load_documents(as_list)] == ["a", "b"]
    assert load_documents("") == load_documents("# x\n") == []


def test_scalars_become_what_the_field_wants() -> None:
    text = """
kind: role
metadata: {name: 42, labels: {team: 42, env: on, since: 2026-01-01, empty: ''}, unknown_metadata: kept out}
spec:
  options: {forward_agent: 'yes', ssh_file_copy: off, max_sessions: 7, require_session_mfa: hardware_key, lock: }
  allow: {logins: [0x, 1.5, null_, ~user], node_labels: {a: 1, b: [no, off]}}
  deny:
"""
    role = load_one(text)
    assert isinstance(role, Role)
    assert role.metadata.name == "42"
    assert role.metadata.labels == {"team": "42", "env": "on", "since": "2026-01-01", "empty": ""}
    options = role.spec.options
    assert (options.forward_agent, options.ssh_file_copy, options.max_sessions) == (True, False, 7)
    assert options.require_session_mfa == "hardware_key"
    assert role.spec.allow.node_labels == {"a": "1", "b": ["no", "off"]}
    assert role.spec.allow.logins == ["0x", "1.5", "null_", "~user"]


def test_v3_roles_with_logins_reach_every_server() -> None:
    for version, logins, extra, expected in (
        ("v3", "[root]", "", {"*": "*"}),
        ("v3", "[]", "", {}),
        ("v3", "[root]", ", node_labels: {}", {}),
        ("v4", "[root]", "", {}),
    ):
        role = load_one(
            f"kind: role\nversion: {version}\nmetadata: {{name: r}}\nspec: {{allow: {{logins: {logins}{extra}}}}}"
        )
        assert isinstance(role, Role)
        assert role.spec.allow.node_labels == expected


ROLE = "kind: role\nversion: v7\nmetadata:\n  name: r\nspec:\n  options:\n    forward_agent: true\n  allow:\n    logins: [a]\n"


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        (
            "forward_agent: true",
            "forward_agnet: true",
            ("file.yaml:7", "spec.options.forward_agnet", "did you mean forward_agent?"),
        ),
        ("forward_agent: true", "forward_agent: maybe", ("file.yaml:7", "found 'maybe'", "yes or no")),
        ("forward_agent: true", "forward_agent: [x]", ("file.yaml:7", "found a list", "yes or no")),
        ("forward_agent: true", "max_sessions: many", ("file.yaml:7", "found 'many'", "a whole number")),
        ("forward_agent: true", "max_sessions: 1.5", ("found '1.5'",)),
        ("forward_agent: true", "cert_format: old", ("found 'old'", "oldssh, standard")),
        ("forward_agent: true", "cert_format: stndard", ("did you mean standard?",)),
        ("forward_agent: true", "record_session: x", ("found 'x'", "a mapping")),
        (
            "forward_agent: true",
            "forward_agent: true\n    forward_agent: false",
            ("file.yaml:8", "given twice"),
        ),
        ("logins: [a]", "logins: a", ("file.yaml:9", "spec.allow.logins", "a list")),
        ("logins: [a]", "logins: [{x: y}]", ("spec.allow.logins[0]", "found a mapping", "text")),
        ("logins: [a]", "logins: [~]", ("spec.allow.logins[0]", "found nothing")),
        ("logins: [a]", "node_labels: {x: {y: z}}", ("spec.allow.node_labels.x", "text or a list")),
        ("logins: [a]", "rules: [{resources: [x]}]", ("spec.allow.rules[0].verbs", "missing", "a list")),
        ("logins: [a]", "? [x]\n    : y", ("found a list, expected a key",)),
        ("  name: r", "  labels: {}", ("file.yaml:4", "metadata.name: missing")),
        ("  name: r", "  name: r\n  expires: tomorrow", ("file.yaml:5", "metadata.expires")),
        ("  name: r", "  name: r\n  expires: 2026-01-01T00:00:00", ("metadata.expires",)),
        ("spec:", "spce:", ("file.yaml:5", "did you mean spec?")),
        ("version: v7", "version: v2", ("role/r", "version", "v3, v4")),
        ("kind: role", "kind: rol", ("file.yaml:1", "did you mean role?")),
        ("kind: role", "kind: [role]", ("kind: missing",)),
        ("kind: role\n", "", ("kind: missing",)),
        ("name: r", "name: a/b", ("metadata.name",)),
        ("name: r", "name: ''", ("metadata.name",)),
        ("name: r", "name: " + "x" * 300, ("metadata.name",)),
        ("name: r", "name: r\n  labels: {'a b': c}", ("metadata.labels",)),
        ("name: r", "name: r\n  labels: {a: " + "c" * 1001 + "}", ("metadata.labels.a",)),
        ("spec:", "spec: [", ("not valid YAML",)),
    ],
)
def test_errors_name_place_finding_and_remedy(old: str, new: str, parts: tuple[str, ...]) -> None:
    message = error_of(ROLE.replace(old, new, 1))
    for part in parts:
        assert part in message
    assert len(message) < 700
    assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("user", "metadata: {name: alice}"),
        ("user", "metadata: {name: 'a b'}\nspec: {roles: [x]}"),
        ("user", "metadata: {name: a}\nspec: {roles: [node]}"),
        ("token", "metadata: {name: a}\nspec: {roles: []}"),
        ("token", "metadata: {name: a}\nspec: {roles: [Nodes]}"),
        ("lock", "metadata: {name: a}\nspec: {target: {}}"),
        ("node", "metadata: {name: x}\nspec: {hostname: h}"),
        ("node", f"metadata: {{name: {HOST_ID}}}\nspec: {{hostname: ''}}"),
        ("cluster_name", "metadata: {name: other}\nspec: {cluster_name: demo}"),
        ("cluster_name", "metadata: {name: cluster-name}\nspec: {cluster_name: 'a b'}"),
        (
            "cluster_auth_preference",
            "metadata: {name: cluster-auth-preference}\nspec: {default_session_ttl: x}",
        ),
        (
            "cluster_networking_config",
            "metadata: {name: cluster-networking-config}\nspec: {client_idle_timeout: x}",
        ),
        ("cluster_networking_config", "version: v9\nmetadata: {name: cluster-networking-config}"),
        ("cert_authority", "metadata: {name: demo}\nspec: {type: user, cluster_name: demo}"),
        ("cert_authority", "sub_kind: user\nmetadata: {name: x}\nspec: {type: user, cluster_name: demo}"),
    ],
)
def test_fields_that_are_refused(kind: str, text: str) -> None:
    assert kind in error_of(f"kind: {kind}\n{text}")


def test_too_many_labels_and_too_large() -> None:
    labels = {f"k{i}": "v" for i in range(1001)}
    with pytest.raises(InputError, match="labels"):
        check_fields(
            User(metadata=Metadata(name="a", labels=labels), spec=User(metadata=Metadata(name="a")).spec)
        )
    role = Role(metadata=Metadata(name="r"), spec=RoleSpec(allow=Conditions(logins=["x" * 100] * 10_000)))
    with pytest.raises(InputError, match="1,000,000 bytes"):
        check_fields(role)
    with pytest.raises(InputError, match="zone"):
        check_fields(User(metadata=Metadata(name="a", expires=datetime(2030, 1, 1))))


class TestA43HostileText:
    BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{c}: &{c} [{','.join(['*' + p] * 10)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )

    @pytest.mark.parametrize(
        "text",
        [
            "a: " + "[" * 100_000,
            "[" * 100_000,
            "{" * 5000 + "}" * 5000,
            "- " * 100_000,
            "\n".join(" " * i + "a:" for i in range(500)),
            "kind: user\nmetadata: &m {name: *m}",
            "kind: role\nmetadata: {name: x}\nspec: {allow: {node_labels: &a {x: *a}}}",
            "&a [*a]",
            "kind: !!python/object/apply:os.system [id]\nmetadata: {name: x}",
            "\0",
            "\tkind: role",
            "kind: user\nmetadata: {name: '\ud800'}",
            '{"kind": "user", "kind": "role", "metadata": {"name": "x"}}',
            '{"kind": "user", "metadata": {"name": "x", "expires": NaN}}',
            '{"a":' * 5000 + "1" + "}" * 5000,
            "- 1\n- 2",
            "just text",
            "kind: user\nmetadata: {name: " + "x" * 1_100_000 + "}",
        ],
    )
    def test_a43_refused_quickly(self, text: str) -> None:
        def refuse() -> None:
            with pytest.raises(InputError):
                load_documents(text, "f")

        assert_takes_under(2, refuse)

    def test_a43_alias_bomb(self) -> None:
        with pytest.raises(InputError, match=r"values in one document|expected"):
            load_yaml_strict(self.BOMB, dict[str, Any], "f")

    def test_a43_too_many_documents(self) -> None:
        with pytest.raises(InputError, match="documents"):
            load_documents("---\n" * 60_000, "f")

    @pytest.mark.fuzz
    @given(st.text(max_size=200))
    @settings(max_examples=examples(100))
    def test_a43_any_text(self, text: str) -> None:
        try:
            load_documents(text, "f")
        except InputError:
            return
        assert text.strip() == "" or load_documents(text) == []


class Sample(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    mode: Literal["off", "on", ""] = ""
    share: float = 0.5
    flag: bool | None = None
    addr: str | list[str] = []
    labels: dict[str, str] = {}
    anything: Any = None
    count: int | str = ""
    when: datetime | None = None


def test_generic_loading_for_configuration_files() -> None:
    text = "name: no\nmode: off\nshare: 1e3\nflag: on\naddr: a:1\ncount: 5\nanything: [1, 2.5, yes, x, {a: ~}]\nlabels:\n"
    sample = load_yaml_strict(text, Sample, "c.yaml")
    assert sample == Sample(
        name="no",
        mode="off",
        share=1000.0,
        flag=True,
        addr="a:1",
        count=5,
        anything=[1, 2.5, True, "x", {"a": None}],
    )
    assert load_yaml_strict("addr: [a, b]\ncount: '5'\nflag: ~", Sample) == Sample(addr=["a", "b"], count="5")
    assert load_yaml_strict("", Sample) == Sample()
    for bad in ("a: 1\n---\nb: 2", "nothing", "share: x", "mode: maybe", "addr: {}", "flag: 3"):
        with pytest.raises(InputError, match=r"^c\.yaml:\d"):
            load_yaml_strict(bad, Sample, "c.yaml")
    with pytest.raises(InputError, match="allowed"):
        load_yaml_strict("zzzzzz: 1", Sample, "c.yaml")


def test_line_of() -> None:
    text = "a:\n  b:\n    - x\n    - y: 1\n      z.w: 2\n"
    assert [line_of(text, path) for path in ("a", "a.b", "a.b[0]", "a.b[1].y", "a.b[1].z.w")] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert line_of(text, "a.b[9].q") == 3
    assert line_of(text, "a.nothing") == 2
    assert line_of("", "a") == 0
    assert line_of(text, "a.b[0].deeper") == 3
    with pytest.raises(InputError, match="deeper"):
        from_builtins({"kind": "user", "metadata": _nested(100)})
    with pytest.raises(InputError, match="larger"):
        load_documents("x" * (33 * 1024 * 1024))


def _nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_the_kind_is_the_one_asked_for() -> None:
    assert load_yaml_strict("kind: user\nmetadata: {name: a}", User).name == "a"
    with pytest.raises(InputError, match="expected user"):
        load_yaml_strict("kind: role\nmetadata: {name: a}", User)
    share = json.dumps({"share": 0.25, "count": None, "flag": None})
    with pytest.raises(InputError, match="count: found a list"):
        load_yaml_strict(json.dumps({"count": [1]}), Sample)
    assert load_yaml_strict(share, Sample).share == 0.25


class TestRegistry:
    def test_aliases(self) -> None:
        for alias, kind in registry.ALIASES.items():
            if kind in registry.TYPES:
                assert registry.canonical_kind(alias.upper()) == kind
            else:
                with pytest.raises(InputError, match=f"{kind}.*not kept"):
                    registry.canonical_kind(alias)
        assert registry.type_of("nodes") is Node
        with pytest.raises(InputError, match="did you mean"):
            registry.canonical_kind("nodez")
        with pytest.raises(InputError, match="known kinds"):
            registry.canonical_kind("zzzzzzz")

    def test_references(self) -> None:
        assert registry.parse_ref("roles/dev") == ("role", "", "dev")
        assert registry.parse_ref("cas user demo") == ("cert_authority", "user", "demo")
        assert registry.parse_refs("users,roles/a\\,b,users") == [("user", "", ""), ("role", "", "a,b")]
        assert len(registry.parse_refs("all")) == len(registry.TYPES)
        for bad in ("", "a/b/c/d", "user/a,"):
            with pytest.raises(InputError):
                registry.parse_refs(bad)


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("30m", 1800), ("1h30m", 5400), ("12h0m0s", 43200), ("7d", 604800), ("1.5s", 1.5), ("250ms", 0.25)],
    )
    def test_parse(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == seconds

    def test_none_at_all(self) -> None:
        assert (
            parse_duration("0") == parse_duration("") == parse_duration("never") == parse_duration("0s") == 0
        )

    @pytest.mark.parametrize(
        "text", ["x", "5", "-5m", "1h 5m", "h", "1hh", "5m5", "1" * 30 + "h", "1h" * 50, "999999d"]
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(InputError, match="not a duration"):
            parse_duration(text, "ttl")

    @given(st.integers(0, 10**8))
    @settings(max_examples=examples(60))
    def test_round_trip(self, seconds: int) -> None:
        assert parse_duration(format_duration(seconds)) == seconds

    def test_format(self) -> None:
        assert [format_duration(s) for s in (0, 45, 1800, 43200, 1.5)] == [
            "0s",
            "45s",
            "30m0s",
            "12h0m0s",
            "1.5s",
        ]


def test_presets_are_topped_up_only_where_nothing_is_said() -> None:
    editor = preset_roles()[1]
    fewer = [rule for rule in editor.spec.allow.rules if rule.resources not in (["user"], ["role"])]
    deny = Conditions(rules=[Rule(resources=["role"], verbs=["delete"])])
    stored = msgspec.structs.replace(
        editor, spec=msgspec.structs.replace(editor.spec, allow=Conditions(rules=fewer), deny=deny)
    )
    topped = with_missing_rules(stored, editor)
    kinds = [rule.resources for rule in topped.spec.allow.rules]
    assert ["user"] in kinds
    assert ["role"] not in kinds
    assert with_missing_rules(editor, editor) is editor
    own = msgspec.structs.replace(stored, metadata=Metadata(name="editor"))
    assert with_missing_rules(own, editor) is own


def test_ten_thousand_servers_as_json() -> None:
    """A part of the second that `tctl get nodes --format=json` may take."""
    nodes = [
        Node(metadata=Metadata(name=str(i), labels={"env": "prod"}), spec=ServerSpec(hostname=f"h{i}"))
        for i in range(10_000)
    ]

    def write() -> None:
        assert len(json.loads(to_json(nodes))) == 10_000

    assert_takes_under(0.6, write)

"""Labels of database objects by import rules, and permissions on them by roles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pkgs.common.access.dbobjects import DbObject, ImportRules, compile_permissions, parse_label
from pkgs.common.access.types import ConnectDatabase
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import DbObjectImportRule
from pkgs.common.resources.kinds.discovery import OBJECT_PERMISSIONS
from pkgs.common.resources.presets import import_all_objects
from pkgs.common.resources.role import DbPermission
from tests.unit.access.access_kit import STAR, ask, database, role

COWS = DbObject("table", "animals", "cows")
MILK = DbObject("procedure", "animals", "milk")


def rule(name: str, spec: str) -> DbObjectImportRule:
    text = f"{{kind: db_object_import_rule, version: v1, metadata: {{name: {name}}}, spec: {spec}}}"
    (found,) = load_documents(text)
    assert isinstance(found, DbObjectImportRule)
    return found


def labels(found: DbObject, *rules: DbObjectImportRule, inside: str = "farm") -> dict[str, str]:
    return ImportRules(rules, database({"env": "dev", "dept": "hr"}), inside).labels_of(found)


ALL = "database_labels: [{name: '*', values: ['*']}]"


def test_the_rule_that_is_there_labels_everything_with_what_it_is() -> None:
    assert labels(COWS, import_all_objects()) == {
        "database": "farm",
        "database_service_name": database().name,
        "name": "cows",
        "object_kind": "table",
        "protocol": "postgres",
        "schema": "animals",
    }
    validate(import_all_objects())


def test_the_label_of_the_higher_priority_wins() -> None:
    mapping = "mappings: [{match: {table_names: ['*']}, add_labels: {of: %s, %s: x}}]"
    low = rule("zz", f"{{priority: 1, {ALL}, {mapping % ('low', 'a')}}}")
    high = rule("aa", f"{{priority: 2, {ALL}, {mapping % ('high', 'b')}}}")
    for order in ((low, high), (high, low)):
        assert labels(COWS, *order) == {"of": "high", "a": "x", "b": "x"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (f"{{{ALL}, mappings: [{{match: {{table_names: [cows]}}, add_labels: {{a: b}}}}]}}", True),
        (f"{{{ALL}, mappings: [{{match: {{table_names: ['^c.w.$']}}, add_labels: {{a: b}}}}]}}", True),
        (f"{{{ALL}, mappings: [{{match: {{view_names: ['*']}}, add_labels: {{a: b}}}}]}}", False),
        (f"{{{ALL}, mappings: [{{match: {{table_names: [COWS, cow]}}, add_labels: {{a: b}}}}]}}", False),
        (
            f"{{{ALL}, mappings: [{{match: {{table_names: ['c*']}}, scope: {{schema_names: ['ani*']}},"
            " add_labels: {a: b}}]}",
            True,
        ),
        (
            f"{{{ALL}, mappings: [{{match: {{table_names: ['c*']}}, scope: {{schema_names: [public]}},"
            " add_labels: {a: b}}]}",
            False,
        ),
        (
            f"{{{ALL}, mappings: [{{match: {{table_names: ['c*']}}, scope: {{database_names: [shop]}},"
            " add_labels: {a: b}}]}",
            False,
        ),
        (
            "{database_labels: [{name: env, values: [dev]}, {name: dept, values: [it]}],"
            " mappings: [{match: {table_names: ['*']}, add_labels: {a: b}}]}",
            False,
        ),
        (
            "{database_labels: [{name: env, values: [dev]}, {name: env, values: [prod]}],"
            " mappings: [{match: {table_names: ['*']}, add_labels: {a: b}}]}",
            False,
        ),
    ],
)
def test_what_a_rule_is_about(spec: str, expected: bool) -> None:
    assert labels(COWS, rule("r", spec)) == ({"a": "b"} if expected else {})


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (f"{{{ALL}, mappings: []}}", "spec.mappings: missing"),
        (f"{{{ALL}, mappings: [{{match: {{}}, add_labels: {{a: b}}}}]}}", "mappings[0].match: missing"),
        (f"{{{ALL}, mappings: [{{match: {{table_names: [x]}}}}]}}", "mappings[0].add_labels: missing"),
        (
            f"{{{ALL}, mappings: [{{match: {{table_names: ['^[$']}}, add_labels: {{a: b}}}}]}}",
            "mappings[0].match.table_names[0]",
        ),
        (
            f"{{{ALL}, mappings: [{{match: {{table_names: [x]}}, add_labels: {{a: '{{{{obj.owner}}}}'}}}}]}}",
            "mappings[0].add_labels.a: an object has no 'owner'",
        ),
        ("{database_labels: [], mappings: [{match: {table_names: [x]}}]}", "database_labels: missing"),
    ],
)
def test_rules_that_are_refused(spec: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(rule("r", spec))
    assert text in caught.value.message


@example(["{", "{{obj.name}}", "{"])
@given(st.lists(st.sampled_from(["x", "{{obj.name}}", "{{ obj.schema }}", "{", "}}", "{{", "obj"])))
def test_templates_are_filled_or_refused(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        parsed = parse_label(text)
    except InputError:
        return
    assert len(parsed) % 2 == 1
    assert not any("{{" in literal for literal in parsed[::2])
    assert set(parsed[1::2]) <= {"name", "schema"}


def permission(names: str, **match: Any) -> DbPermission:
    return DbPermission(match=match or {"*": "*"}, permissions=names.split())


def test_a_deny_beats_every_allow() -> None:
    roles = compile_permissions(
        [permission("select insert", env=["dev", "test"]), permission("EXECUTE")],
        [permission("insert", name="c*"), permission("*", schema="secret")],
        {},
    )
    assert roles.on("table", {"env": "test", "name": "pigs"}) == {"SELECT", "INSERT"}
    assert roles.on("table", {"env": "dev", "name": "cows"}) == {"SELECT"}
    assert roles.on("table", {"env": "dev", "schema": "secret"}) == frozenset()
    assert roles.on("table", {"env": "prod"}) == frozenset()
    assert roles.on("procedure", {"env": "dev"}) == {"EXECUTE"}
    assert roles.on("procedure", {}) == frozenset()  # no rule imports it
    assert roles.texts == (
        "EXECUTE on *=*",
        "INSERT SELECT on env=dev|test",
        "not * on schema=secret",
        "not INSERT on name=c*",
    )


def test_traits_bring_no_wildcard() -> None:
    """Attack A25."""
    traits = {"schemas": ["public", "*"]}
    allow = compile_permissions([permission("SELECT", schema="{{external.schemas}}")], [], traits)
    assert allow.on("table", {"schema": "public"}) and not allow.on("table", {"schema": "secret"})
    assert allow.texts != compile_permissions([permission("SELECT", schema=["public", "*"])], [], {}).texts
    deny = compile_permissions(
        [permission("SELECT")], [permission("*", schema="{{external.schemas}}")], traits
    )
    assert not deny.on("table", {"schema": "secret"})
    assert not compile_permissions([permission("*")], [], {}).on("table", {"a": "b"})


_LABELS = st.dictionaries(st.sampled_from(["env", "name"]), st.sampled_from(["a", "b"]))
_PERMISSIONS = st.lists(
    st.builds(
        DbPermission,
        match=st.sampled_from(
            [{"*": "*"}, {"env": "a"}, {"name": ["a", "b"]}, {"env": "b", "name": "a"}, {}]
        ),
        permissions=st.lists(st.sampled_from(["SELECT", "insert", "EXECUTE", "*"]), min_size=1),
    ),
    max_size=3,
)


@given(_PERMISSIONS, _PERMISSIONS, _LABELS, st.sampled_from(sorted(OBJECT_PERMISSIONS)))
def test_denying_more_never_permits_more(
    allow: list[DbPermission], deny: list[DbPermission], found: dict[str, str], kind: str
) -> None:
    without, withal = (compile_permissions(allow, denied, {}) for denied in ([], deny))
    assert withal.on(kind, found) <= without.on(kind, found) <= OBJECT_PERMISSIONS[kind]


def made(allow: dict[str, Any], deny: dict[str, Any] | None = None, **options: Any) -> Any:
    given = {"db_labels": STAR, "db_names": ["*"], **allow}
    return role("m", given, deny or {}, **{"create_db_user_mode": "keep", **options})


READS = [permission("SELECT", schema="public")]


def test_the_decision_carries_what_is_permitted() -> None:
    target = ConnectDatabase(database(), "alice", "farm")
    decision = ask([made({"db_permissions": READS})], target)
    assert decision and decision.objects is not None
    assert decision.principals["db_permissions"] == ("SELECT on schema=public",)
    assert decision.objects.on("table", {"schema": "public"}) == {"SELECT"}
    no_secrets = role("d", deny={"db_permissions": [permission("*", name="secret*")]})
    denied = ask([made({"db_permissions": READS}), no_secrets], target)
    assert denied.objects is not None
    assert not denied.objects.on("table", {"schema": "public", "name": "secret_feed"})
    elsewhere = role("d", deny={"db_permissions": READS, "db_labels": {"env": "prod"}})
    assert ask([made({"db_permissions": READS}), elsewhere], target).objects.on("table", {"schema": "public"})
    # Without the mode, permissions are nobody's to grant; without permissions nothing is.
    plain = ask([made({"db_permissions": READS, "db_users": ["*"]}, create_db_user_mode="off")], target)
    assert plain and plain.objects is None
    assert ask([made({}), no_secrets], target).objects is None


def test_permissions_and_roles_exclude_each_other_and_other_protocols() -> None:
    both = [made({"db_permissions": READS}), made({"db_roles": ["reader"]})]
    refused = ask(both, ConnectDatabase(database(), "alice", "farm"))
    assert not refused and "exclude each other" in refused.reasons[0]
    mysql = ask([made({"db_permissions": READS})], ConnectDatabase(database(protocol="mysql"), "alice"))
    assert not mysql and mysql.reasons == (
        "object permissions (db_permissions) are granted in PostgreSQL only",
    )

"""Conditions, rules and templates as an attacker would bend them: towards a yes, or towards a stall."""

from __future__ import annotations

import pytest

from pkgs.common.access.contexts.labelexpr import compile_label_expression
from pkgs.common.access.contexts.query import compile_query
from pkgs.common.access.contexts.where import Answer, compile_where
from pkgs.common.access.decide import decide
from pkgs.common.access.protocols import ssh
from pkgs.common.access.roleset import compile_roles
from pkgs.common.access.types import Environment, See, SshLogin, Subject, UseRule
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import App, AuthPreference, Node, ServerSpec, User, UserSpec
from pkgs.common.resources.kinds.infrastructure import AppSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule

NOW = 1_800_000_000.0
ENV = Environment(now=NOW)


def someone(traits: dict[str, tuple[str, ...]] | None = None) -> Identity:
    return Identity(
        kind=PeerKind.USER,
        name="mallory",
        cluster="demo",
        roles=("r",),
        traits=traits or {},
        expires_at=NOW + 60,
    )


def user(traits: dict[str, list[str]] | None = None, labels: dict[str, str] | None = None) -> User:
    return User(
        metadata=Metadata(name="bob", labels=labels or {}),
        spec=UserSpec(roles=["access"], traits=traits or {}),
    )


def role(allow: Conditions | None = None, deny: Conditions | None = None) -> Role:
    return Role(
        metadata=Metadata(name="r"), spec=RoleSpec(allow=allow or Conditions(), deny=deny or Conditions())
    )


SAME_TEAM = 'user.spec.traits["team"] == resource.spec.traits["team"]'
DOMAIN = 'all_end_with(user.spec.traits["email"], resource.metadata.labels["domain"])'
PREFIX = 'has_prefix(resource.metadata.name, resource.metadata.labels["prefix"])'
OF_NAME = 'resource.metadata.labels["team"] == regexp.replace(user.metadata.name, "^team-(.*)$", "$1")'
SAME_LABEL = 'resource.metadata.labels["a"] == strings.lower(resource.metadata.labels["b"])'
ALL_EQUAL = 'all_equal(user.spec.traits["team"], resource.metadata.labels["team"])'
SUBSET = 'is_subset(user.spec.traits["team"], resource.metadata.labels["team"])'


@pytest.mark.parametrize("negation", ["", "!"])
@pytest.mark.parametrize(
    "where", [SAME_TEAM, DOMAIN, PREFIX, ALL_EQUAL, OF_NAME, SAME_LABEL, f"!({SAME_TEAM})"]
)
def test_what_is_absent_on_both_sides_is_no_likeness(where: str, negation: str) -> None:
    """Neither has a team, so they would be of the same one: whoever has nothing could edit whoever has
    nothing. Nor may the negation, or a deny, be had for it."""
    identity = someone({"email": ("m@evil.example",), "team": () if "==" in where else ("",)})
    condition = compile_where(f"{negation}({where})", frozenset({"user"}))
    assert condition is not None
    target = UseRule("user", "update", resource=user())
    assert condition.ask(identity, target) is Answer.UNKNOWN


def test_an_empty_trait_is_no_part_of_a_missing_label() -> None:
    condition = compile_where(SUBSET, frozenset({"user"}))
    assert condition is not None
    asked = UseRule("user", "update", resource=user())
    assert condition.ask(someone({"team": ("",)}), asked) is not Answer.YES


def test_the_wrong_name_is_not_the_team_of_what_has_none() -> None:
    """Nothing is made of a name that does not match, and a missing label is nothing too."""
    condition = compile_where(OF_NAME, frozenset({"user"}))
    differs = compile_where(OF_NAME.replace("==", "!="), frozenset({"user"}))
    assert condition is not None and differs is not None
    assert condition.ask(someone(), UseRule("user", "update", resource=user())) is Answer.UNKNOWN
    assert differs.ask(someone(), UseRule("user", "update", resource=user())) is Answer.UNKNOWN
    blue = UseRule("user", "update", resource=user(labels={"team": "blue"}))
    assert condition.ask(someone(), blue) is Answer.NO
    expression = 'labels["a"] == labels["b"]'
    assert not compile_label_expression(expression, {}, deny=False)({})
    assert compile_label_expression(expression, {}, deny=True)({})
    assert compile_label_expression(expression, {}, deny=False)({"a": "x", "b": "x"})


def test_a_listing_may_compare_what_is_absent() -> None:
    bare = Node(metadata=Metadata(name="n"), spec=ServerSpec(hostname="n"))
    assert compile_query('labels["a"] == labels["b"]')(bare)


def test_likeness_of_what_is_there_is_found() -> None:
    condition = compile_where(f"{SAME_TEAM} && {DOMAIN}", frozenset({"user"}))
    assert condition is not None
    bob = user({"team": ["blue"]}, {"domain": "@demo.example"})
    ours = someone({"team": ("blue",), "email": ("m@demo.example",)})
    other = someone({"team": (), "email": ("m@demo.example",)})
    assert condition.ask(ours, UseRule("user", "update", resource=bob)) is Answer.YES
    assert condition.ask(other, UseRule("user", "update", resource=bob)) is Answer.NO


def test_a_comparison_with_nothing_written_out_is_answered() -> None:
    condition = compile_where('user.spec.traits["team"] == []', frozenset({"user"}))
    assert condition is not None
    assert condition.ask(someone(), UseRule("user", "update", resource=user())) is Answer.YES


@pytest.mark.parametrize("kind", ["Lock", "LOCK", "Locks", "locks"])
def test_a_deny_is_meant_in_any_letter_case(kind: str) -> None:
    """`tctl` takes kinds in any case; a deny that is written so must not silently protect nothing."""
    roles = role(
        Conditions(rules=[Rule(resources=["*"], verbs=["*"])]),
        Conditions(rules=[Rule(resources=[kind], verbs=["*"])]),
    )
    assert not decide(Subject(someone(), (roles,)), UseRule("lock", "delete"), ENV)


def test_an_allow_for_another_namespace_allows_no_rule() -> None:
    roles = role(Conditions(namespaces=("other",), rules=[Rule(resources=["*"], verbs=["*"])]))
    assert not decide(Subject(someone(), (roles,)), UseRule("role", "update"), ENV)


def test_an_allow_for_another_namespace_shows_no_application() -> None:
    app = App(metadata=Metadata(name="wiki", labels={"env": "prod"}), spec=AppSpec(uri="http://127.0.0.1:1"))
    here = role(Conditions(app_labels={"*": "*"}))
    there = role(Conditions(namespaces=("other",), app_labels={"*": "*"}))
    assert decide(Subject(someone(), (here,)), See(app), ENV)
    assert not decide(Subject(someone(), (there,)), See(app), ENV)


def test_nested_replacements_do_not_grow_without_bound() -> None:
    """Each one multiplies; some tens of them, which fit into one expression, would fill any memory."""
    inner = 'labels["a"]'
    for _ in range(30):
        inner = f'regexp.replace({inner},"^(.*)$","$1$1$1$1")'
    text = f'contains({inner}, "b")'
    assert not compile_label_expression(text, {}, deny=False)({"a": "x"})
    assert compile_label_expression(text, {}, deny=True)({"a": "x"})
    # Nor while it is stored, when what is fixed is worked out.
    assert not compile_label_expression(text.replace('labels["a"]', '"x"'), {}, deny=False)({})


def test_a_template_that_would_fill_the_memory_refuses() -> None:
    many = "$1" * 150
    text = "external.a"
    for _ in range(3):
        text = f'regexp.replace({text},"^(.*)$","{many}")'
    roles = [role(deny=Conditions(logins=["{{" + text + "}}"]))]
    traits = {"a": ("x" * 1000,)}
    with pytest.raises(InputError, match="longer than"):
        compile_roles(roles, traits).grants(ssh.PROTOCOL)
    node = Node(metadata=Metadata(name="n"), spec=ServerSpec(hostname="n"))
    assert not decide(Subject(someone(traits), roles), SshLogin(node, "root"), ENV)


def test_a_field_that_a_kind_does_not_have_is_not_an_empty_one() -> None:
    """Settings have no roles, so that "not with the role editor" would be true of every one of them."""
    kinds = frozenset({"user", "cluster_auth_preference"})
    condition = compile_where('!contains(resource.spec.roles, "editor")', kinds)
    assert condition is not None
    settings = AuthPreference(metadata=Metadata(name="cluster-auth-preference"))
    target = UseRule("cluster_auth_preference", "update", resource=settings)
    assert condition.ask(someone(), target) is Answer.UNKNOWN
    assert condition.ask(someone(), UseRule("user", "update", resource=user())) is Answer.YES


@pytest.mark.parametrize("operator", ["==", "!="])
def test_a_comparison_with_what_always_fails_refuses_and_never_raises(operator: str) -> None:
    """It was worked out while the role was compiled, and every question of its holder ended in an error."""
    text = f'labels["env"] {operator} email.local("nobody")'
    node = Node(metadata=Metadata(name="n", labels={"env": "x"}), spec=ServerSpec(hostname="n"))
    allow = role(Conditions(logins=("root",), node_labels_expression=text))
    wide = role(Conditions(logins=("root",), node_labels={"*": "*"}))
    deny = role(deny=Conditions(node_labels_expression=text))
    for roles, allowed in (((allow,), False), ((allow, wide), True), ((wide, deny), False)):
        assert bool(decide(Subject(someone(), roles), See(node), ENV)) is allowed
    where = compile_where(text.replace('labels["env"]', "user.metadata.name"), frozenset({"user"}))
    assert where is not None
    assert where.ask(someone(), UseRule("user", "update", resource=user())) is Answer.UNKNOWN

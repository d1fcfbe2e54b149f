"""Conditions of rules: what they know, and what happens where they cannot be answered."""

from __future__ import annotations

from typing import Any

import pytest

from pkgs.common.access.contexts.where import Answer, compile_where
from pkgs.common.access.decide import decide
from pkgs.common.access.types import Environment, HostCert, Subject, UseRule
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import (
    CertAuthority,
    CertAuthoritySpec,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    Resource,
    ServerSpec,
    User,
    UserSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule

NOW = 1_800_000_000.0
ENV = Environment(now=NOW)
ALICE = Identity(
    kind=PeerKind.USER,
    name="alice",
    cluster="demo",
    roles=("dev", "ops"),
    traits={"team": ("blue", "red")},
    expires_at=NOW + 60,
)
BOB = User(
    metadata=Metadata(name="bob", labels={"team": "blue"}),
    spec=UserSpec(roles=["access", "auditor"], traits={"team": ["blue"]}),
)
WEB = Node(
    metadata=Metadata(name="11111111-2222-4333-8444-555555555555"),
    spec=ServerSpec(hostname="web1", public_addrs=["a.example.com", "b.example.com"]),
)
CA = CertAuthority(
    metadata=Metadata(name="demo"), sub_kind="host", spec=CertAuthoritySpec(type="host", cluster_name="demo")
)
LOCK = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="bob")))


def role(side: str, *rules: Rule) -> Role:
    conditions = {side: Conditions(rules=list(rules))}
    return Role(metadata=Metadata(name="r"), spec=RoleSpec(**conditions))


def rule(where: str, *kinds: str, verbs: tuple[str, ...] = ("read",)) -> Rule:
    return Rule(resources=list(kinds), verbs=list(verbs), where=where)


def allowed(roles: list[Role], target: UseRule, who: Identity = ALICE) -> bool:
    return bool(decide(Subject(who, roles), target, ENV))


@pytest.mark.parametrize(
    ("where", "resource", "holds"),
    [
        ('equals(user.metadata.name, "alice")', BOB, True),
        ('user.metadata.name != "alice"', BOB, False),
        ('contains(user.spec.roles, "dev")', BOB, True),
        ('contains(user.spec.traits["team"], labels["team"])', BOB, True),
        ('contains_all(user.spec.traits["team"], set("red", "blue"))', BOB, True),
        ("user.spec.traits.team == set(`red`, `blue`)", BOB, True),
        ('resource.metadata.name == "bob" && name == "bob"', BOB, True),
        ('resource.metadata.labels["team"] == labels.team', BOB, True),
        ('contains(resource.spec.roles, "access")', BOB, True),
        ('is_subset(resource.spec.roles, "access")', BOB, False),
        ('is_subset(resource.spec.roles, "access", "auditor", "x")', BOB, True),
        ('is_subset(resource.spec.traits["none"], "x")', BOB, False),
        ('all_end_with(resource.spec.public_addrs, ".example.com")', WEB, True),
        ('all_end_with(name, "1")', WEB, True),
        ('all_equal(resource.spec.traits["team"], "blue")', BOB, True),
        ('all_equal(resource.spec.traits["none"], "blue")', BOB, False),
        ('resource.kind == "user"', BOB, True),
        ("resource.spec.use_tunnel", WEB, False),
        ('resource.spec.target.user == "bob"', LOCK, True),
        ('has_prefix(name, "web")', WEB, True),
        ('system.catype() == "host"', CA, True),
        ('system.catype() == "user"', CA, False),
        ('regexp.match(name, "b*")', BOB, True),
    ],
)
def test_what_a_condition_knows(where: str, resource: Resource, holds: bool) -> None:
    target = UseRule(resource.kind, "read", resource=resource)
    for kinds in ((resource.kind,), ("*",)):
        if resource.kind not in ("cert_authority", "node"):
            assert allowed([role("allow", rule(where, *kinds))], target) is holds
        everything = role("allow", rule("", "*", verbs=("*",)))
        assert allowed([everything, role("deny", rule(where, *kinds))], target) is not holds


def test_a_system_authority_of_nothing_else() -> None:
    where = rule('system.catype() == ""', "user")
    assert allowed([role("allow", where)], UseRule("user", "read", resource=BOB))


def test_where_the_object_is_not_known_nothing_is_granted_and_a_deny_refuses() -> None:
    for where in ('name == "bob"', 'name != "bob"', 'system.catype() == ""', 'labels["x"] == ""'):
        condition = rule(where, "user")
        assert not allowed([role("allow", condition)], UseRule("user", "read"))
        assert not allowed(
            [role("allow", rule("", "user")), role("deny", condition)], UseRule("user", "read")
        )
    about_the_asker = rule('user.metadata.name == "alice" && resource.kind == "user"', "user")
    assert allowed([role("allow", about_the_asker)], UseRule("user", "read"))


def test_what_a_function_refuses_never_grants_and_always_refuses() -> None:
    condition = rule('contains(email.local(user.spec.traits["team"]), "x")', "user")
    target = UseRule("user", "read", resource=BOB)
    assert not allowed([role("allow", condition)], target)
    assert not allowed([role("allow", rule("", "user")), role("deny", condition)], target)
    negated = rule('!contains(email.local(user.spec.traits["team"]), "x")', "user")
    assert not allowed([role("allow", negated)], target)


class TestSessions:
    SESSION = UseRule(
        "session", "read", owner="bob", participants=("carl",), login="root", server_hostname="web1"
    )

    @pytest.mark.parametrize(
        ("where", "holds"),
        [
            ('contains(session.participants, "bob")', True),
            ('contains(session.participants, "carl")', True),
            ("contains(session.participants, user.metadata.name)", False),
            ('session.user == "bob" && session.login == "root"', True),
            ('session.server_hostname == "db1"', False),
            ('contains(session_tracker.participants, "carl")', True),
        ],
    )
    def test_what_is_known(self, where: str, holds: bool) -> None:
        assert allowed([role("allow", rule(where, "session"))], self.SESSION) is holds

    def test_a_listing_asks_whether_it_could_be_allowed(self) -> None:
        could = UseRule("session", "read", any_object=True)
        own = role("allow", rule("contains(session.participants,user.metadata.name)", "session"))
        root = role("allow", rule('session.login == "root"', "session"))
        never = role("deny", rule('session.login == "root"', "session"))
        at_all = role("deny", rule("", "session"))
        assert not allowed([own], could)
        assert allowed([own, root], could)
        assert allowed([root, never], could)
        assert not allowed([root, at_all], could)
        assert not allowed([root, never], self.SESSION)


def test_errors_of_a_role_name_the_place() -> None:
    cases: list[tuple[Any, str]] = [
        (role("allow", rule("", "role"), rule("nam == `x`", "role")), "allow.rules[1].where: at character 1"),
        (
            role("deny", rule("can_view()", "session")),
            "deny.rules[0].where: at character 1: unknown function",
        ),
        (role("allow", rule("session.user == `x`", "role")), "only rules for session, session_tracker"),
        (role("allow", rule("session.usr == `x`", "session")), "did you mean session.user?"),
        (
            role("allow", Rule(resources=["role"], verbs=["read"], actions=['log("info", "x")', "log()"])),
            "allow.rules[0].actions[1]: at character 1: log takes 2 or more",
        ),
    ]
    for bad, says in cases:
        with pytest.raises(InputError) as caught:
            validate(bad)
        assert caught.value.message.startswith("role/r: ")
        assert says in caught.value.message
    validate(
        role(
            "allow",
            Rule(resources=["role"], verbs=["read"], actions=['log("info", "by %v", user.metadata.name)']),
        )
    )


def test_every_preset_compiles_and_own_sessions_are_recognised_however_written() -> None:
    for preset in preset_roles():
        validate(preset)
    for text in (
        "contains(session.participants,user.metadata.name)",
        "contains( session.participants ,\n user.metadata.name)",
    ):
        condition = compile_where(text, frozenset({"session"}))
        assert condition is not None and condition.own_session
    other = compile_where("contains(session.participants, `alice`)", frozenset({"session"}))
    assert other is not None and not other.own_session
    assert other.ask(ALICE, UseRule("session", "read")) is Answer.UNKNOWN
    assert compile_where(" \n", frozenset({"role"})) is None


@pytest.mark.parametrize(
    ("where", "principals", "allowed"),
    [
        ('all_end_with(host_cert.principals, ".dev.example")', ("a.dev.example", "b.dev.example"), True),
        ('all_end_with(host_cert.principals, ".dev.example")', ("a.dev.example", "b.example"), False),
        ('is_subset(host_cert.principals, "a")', ("a",), True),
        ('host_cert.ttl == "1h0m0s" && host_cert.cluster_name == "demo"', ("a",), True),
        ('all_end_with(host_cert.principals, ".dev.example")', (), False),
    ],
)
def test_a_host_certificate_by_what_it_is_for(where: str, principals: tuple[str, ...], allowed: bool) -> None:
    rule = Rule(resources=["host_cert"], verbs=["create"], where=where)
    held = Role(metadata=Metadata(name="r"), spec=RoleSpec(allow=Conditions(rules=[rule])))
    who = Identity(kind=PeerKind.USER, name="al", cluster="demo", roles=("r",), expires_at=1e12)
    asked = UseRule("host_cert", "create", host_cert=HostCert(principals, "demo", "1h0m0s"))
    assert bool(decide(Subject(who, (held,)), asked, Environment(now=1.0))) is allowed
    # Where it is not known, a condition on it cannot be answered.
    assert not decide(Subject(who, (held,)), UseRule("host_cert", "create"), Environment(now=1.0))

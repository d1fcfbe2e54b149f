"""Who may take on whom: by the table, by an independent reading of it, and by its laws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.access.impersonation import may_impersonate_roles, may_impersonate_user
from pkgs.common.access.types import Decision, Environment, Subject
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.bots import BOT_LABEL
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    Lock,
    LockSpec,
    LockTarget,
    User,
    UserSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Impersonate, Role, RoleOptions, RoleSpec
from tests.harness.impersonation import second_opinion

NOW = 1_800_000_000.0
ENV = Environment(now=NOW, source_addr="192.0.2.1")


def identity(**fields: Any) -> Identity:
    known: dict[str, Any] = {
        "kind": PeerKind.USER,
        "name": "alice",
        "cluster": "demo",
        "roles": ("r",),
        "traits": {"teams": ("blue",)},
        "expires_at": NOW + 600,
    }
    return Identity(**(known | fields))


def block(users: Sequence[str] = (), roles: Sequence[str] = (), where: str = "") -> Conditions:
    return Conditions(impersonate=Impersonate(users=list(users), roles=list(roles), where=where))


def role(
    allow: Conditions | None = None, deny: Conditions | None = None, name: str = "r", **options: Any
) -> Role:
    spec = RoleSpec(options=RoleOptions(**options), allow=allow or Conditions(), deny=deny or Conditions())
    return Role(metadata=Metadata(name=name), spec=spec)


def named(*names: str, **labels: str) -> list[Role]:
    return [Role(metadata=Metadata(name=name, labels=labels), spec=RoleSpec()) for name in names]


def user(name: str, *roles: str, **labels: str) -> User:
    labels = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    return User(metadata=Metadata(name=name, labels=labels), spec=UserSpec(roles=list(roles)))


def ask_user(
    held: Sequence[Role] | Role, wanted: User, *, who: Identity | None = None, env: Environment = ENV
) -> Decision:
    roles = [held] if isinstance(held, Role) else list(held)
    return may_impersonate_user(Subject(who or identity(), roles), wanted, named(*wanted.spec.roles), env)


def ask_roles(held: Sequence[Role] | Role, *names: str, who: Identity | None = None) -> Decision:
    roles = [held] if isinstance(held, Role) else list(held)
    return may_impersonate_roles(Subject(who or identity(), roles), named(*names), ENV)


JENKINS = user("jenkins", "build", "deploy")


@pytest.mark.parametrize(
    ("users", "roles", "allowed"),
    [
        (["jenkins"], ["build", "deploy"], True),
        (["*"], ["*"], True),
        (["jen*"], ["build", "dep*"], True),
        (["^jen.+$"], ["^(build|deploy)$"], True),
        (['{{regexp.match("^jen.*$")}}'], ["{{regexp.match(`.+`)}}"], True),
        (['jen{{regexp.match("k.*")}}s'], ["*"], True),
        (['jen{{regexp.match("k*")}}s'], ["*"], False),
        (['{{regexp.not_match("bob")}}'], ["*"], True),
        (["jenkins"], ["build"], False),
        (["jenkin"], ["*"], False),
        (["Jenkins"], ["*"], False),
        (["jenkins "], ["*"], False),
        (["{{regexp.not_match(`jenkins`)}}"], ["*"], False),
        (['jenkins{{regexp.match("?")}}'], ["*"], False),
        ([], ["*"], False),
        (["{{external.missing}}"], ["*"], False),
    ],
)
def test_user_and_roles_by_matchers(users: list[str], roles: list[str], allowed: bool) -> None:
    decision = ask_user(role(block(users, roles)), JENKINS)
    assert bool(decision) is allowed, decision.reasons
    assert decision.reasons


def test_user_and_roles_must_be_in_the_same_block() -> None:
    apart = [role(block(["jenkins"], ["build"])), role(block(["bob"], ["build", "deploy"]), name="s")]
    assert not ask_user(apart, JENKINS)
    together = [*apart, role(block(["jenkins"], ["build", "deploy"]), name="t")]
    assert ask_user(together, JENKINS).reasons == ("role t: allow.impersonate",)


def test_a_block_without_users_is_for_roles_and_one_with_users_is_not() -> None:
    assert ask_roles(role(block(roles=["build", "deploy"])), "build", "deploy")
    assert not ask_roles(role(block(["*"], ["*"])), "build")
    assert not ask_user(role(block(roles=["*"])), JENKINS)


def test_one_block_covers_all_roles() -> None:
    held = [role(block(roles=["build"])), role(block(roles=["deploy"]), name="s")]
    assert ask_roles(held, "build")
    assert ask_roles(held, "deploy")
    assert not ask_roles(held, "build", "deploy")


def test_no_roles_are_no_request() -> None:
    assert not ask_roles(role(block(roles=["*"])))
    assert not ask_user(role(block(["*"], ["*"])), user("nobody"))


@pytest.mark.parametrize(
    ("users", "roles"),
    [(["jenkins"], ["other"]), (["other"], ["deploy"]), ([], ["deploy"]), (["jen*"], ["x"]), ([], ["*"])],
)
def test_one_match_of_a_deny_refuses(users: list[str], roles: list[str]) -> None:
    held = [role(block(["*"], ["*"])), role(deny=block(users, roles), name="no")]
    assert ask_user(held, JENKINS).reasons[0].startswith("role no: deny.impersonate")
    assert ask_user(held[:1], JENKINS)


@pytest.mark.parametrize("users", [[], ["bob"]])
def test_a_denied_role_is_denied_by_itself_as_well(users: list[str]) -> None:
    held = [role(block(roles=["*"])), role(deny=block(users, ["deploy"]), name="no")]
    assert ask_roles(held, "build")
    assert not ask_roles(held, "build", "deploy")


def test_a25_a_trait_is_text_in_allow_and_may_be_a_pattern_in_deny() -> None:
    held = role(block(["{{external.teams}}"], ["*"]))
    for value in ("*", "jen*", "^.*$", "{{external.teams}}"):
        who = identity(traits={"teams": (value,)})
        assert not ask_user(held, JENKINS, who=who), value
        refusing = [role(block(["*"], ["*"])), role(deny=block(["{{external.teams}}"], ["x"]), name="no")]
        assert bool(ask_user(refusing, JENKINS, who=who)) is (value[0] == "{")
    who = identity(traits={"teams": ("jenkins",)})
    assert ask_user(held, JENKINS, who=who)
    assert not ask_user(refusing, JENKINS, who=who)


def test_where_must_hold_for_every_role() -> None:
    where = (
        'contains(user.spec.traits["teams"], impersonate_role.metadata.labels["team"]) &&'
        ' contains(user.spec.traits["teams"], impersonate_user.metadata.labels["team"])'
    )
    held = role(block(["*"], ["*"], where))
    validate(held)
    subject = Subject(identity(), [held])
    ours = User(metadata=Metadata(name="ci", labels={"team": "blue"}), spec=UserSpec(roles=["a", "b"]))
    assert may_impersonate_user(subject, ours, named("a", "b", team="blue"), ENV)
    mixed = [*named("a", team="blue"), *named("b", team="red")]
    assert not may_impersonate_user(subject, ours, mixed, ENV)
    assert not may_impersonate_user(subject, ours, named("a", "b"), ENV)
    theirs = msgspec.structs.replace(ours, metadata=Metadata(name="ci", labels={"team": "red"}))
    assert not may_impersonate_user(subject, theirs, named("a", team="blue"), ENV)


def test_where_about_a_user_does_not_hold_without_one() -> None:
    assert not ask_roles(role(block(roles=["*"], where='impersonate_user.metadata.name != "x"')), "a")
    assert ask_roles(role(block(roles=["*"], where='impersonate_role.metadata.name != "x"')), "a")


@pytest.mark.parametrize(
    "restriction",
    [
        {"impersonator": "bob"},
        {"disallow_reissue": True},
        {"allowed_resources": ()},
        {"active_requests": ("q",)},
        {"force_command": "id"},
        {"expires_at": NOW - 1},
        {"source_addr": "192.0.2.9"},
        {"kind": PeerKind.HOST},
    ],
)
def test_a36_what_is_taken_on_or_restricted_takes_on_nothing(restriction: dict[str, Any]) -> None:
    who = identity(**restriction)
    held = role(block(["*"], ["*"]))
    assert not ask_user(held, JENKINS, who=who)
    assert not ask_roles(role(block(roles=["*"])), "build", who=who)


def test_a36_nobody_takes_on_machines_system_users_or_themselves() -> None:
    held = role(block(["*"], ["*"]))
    bot = User(metadata=Metadata(name="bot-ci", labels={BOT_LABEL: "ci"}), spec=UserSpec(roles=["bot-ci"]))
    system = User(
        metadata=Metadata(name="x", labels={"teleport.internal/resource-type": "system"}),
        spec=UserSpec(roles=["r"]),
    )
    for wanted in (bot, system, user("@teleport-access-approval-bot", "r"), user("alice", "r")):
        assert not ask_user(held, wanted), wanted.name


def test_a36_the_role_of_a_machine_is_not_taken_on() -> None:
    own = Role(metadata=Metadata(name="bot-ci", labels={BOT_LABEL: "ci"}), spec=RoleSpec())
    subject = Subject(identity(), [role(block(roles=["*"]))])
    assert may_impersonate_roles(subject, named("bot-ci"), ENV)
    assert not may_impersonate_roles(subject, [own], ENV)
    assert not may_impersonate_roles(subject, [*named("a"), own], ENV)


def test_a_demanded_second_factor_is_demanded_here_too() -> None:
    held = [role(block(["*"], ["*"])), role(name="mfa", require_session_mfa=True)]
    assert ask_user(held, JENKINS).reasons == ("role mfa: session MFA required",)
    assert ask_user(held, JENKINS, who=identity(mfa_device="d"))
    preference = AuthPreference(
        metadata=Metadata(name="p"), spec=AuthPreferenceSpec(require_session_mfa=True)
    )
    env = environment(auth_preference=preference)
    assert not ask_user(held[0], JENKINS, env=env)
    assert ask_user(held[0], JENKINS, who=identity(mfa_device="d"), env=env)


def test_a_role_that_does_not_count_here_gives_nothing_and_one_that_may_count_refuses() -> None:
    here, elsewhere = ["192.0.2.0/24"], ["198.51.100.0/24"]

    def at(conditions: Conditions, networks: list[str]) -> Conditions:
        return msgspec.structs.replace(conditions, source=networks)

    everything = block(["*"], ["*"])
    assert ask_user(role(at(everything, here)), JENKINS)
    assert not ask_user(role(at(everything, elsewhere)), JENKINS)
    for networks, env, allowed in (
        (elsewhere, ENV, True),
        (here, ENV, False),
        (elsewhere, environment(source_addr=""), False),
    ):
        held = [role(everything), role(deny=at(block(roles=["deploy"]), networks), name="no")]
        assert bool(ask_user(held, JENKINS, env=env)) is allowed


def test_a_demanded_device_is_demanded_here_too() -> None:
    held = [role(block(["*"], ["*"])), role(name="dev", device_trust_mode="required")]
    assert not ask_user(held, JENKINS)
    assert ask_user(held, JENKINS, who=identity(device_id="d"))


def test_a_locked_one_takes_on_nobody() -> None:
    lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(bot_instance_id="i")))
    env = environment(locks=[lock])
    held = role(block(["*"], ["*"]))
    assert not ask_user(held, JENKINS, who=identity(bot_instance_id="i"), env=env)
    assert ask_user(held, JENKINS, who=identity(bot_instance_id="j"), env=env)


def environment(**fields: Any) -> Environment:
    return Environment(**({"now": NOW, "source_addr": "192.0.2.1"} | fields))


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        (block(["{{regexp.match(x)}}"], ["*"]), "allow.impersonate.users"),
        (block(["*"], ["^($"]), "allow.impersonate.roles"),
        (block(["*"], ["{{internal.nonsense}}"]), "allow.impersonate.roles"),
        (block(["*"], ["*"], "impersonate_usr.metadata.name"), "allow.impersonate.where"),
        (block(["*"], ["*"], "resource.metadata.name == `x`"), "allow.impersonate.where"),
        (block(["*"], ['{{regexp.match("a")}}{{regexp.match("b")}}']), "allow.impersonate.roles"),
    ],
)
def test_a_mistake_is_refused_when_stored_and_refuses_when_it_is_there(
    conditions: Conditions, text: str
) -> None:
    bad = role(conditions)
    with pytest.raises(InputError, match=text):
        validate(bad)
    assert not ask_user(bad, JENKINS)
    good = role(block(["*"], ["*"]), name="good")
    assert not ask_user([good, bad], JENKINS), "what is not understood refuses everything"


NAMES = st.sampled_from(["a", "b", "ab"])
MATCH = st.sampled_from(["a", "b", "ab", "*", "a*", "*b"])
BLOCKS = st.one_of(
    st.none(),
    st.builds(block, st.lists(MATCH, max_size=2), st.lists(MATCH, min_size=1, max_size=2)),
)
HELD = st.lists(st.tuples(BLOCKS, BLOCKS), max_size=3)


def made(held: list[tuple[Conditions | None, Conditions | None]]) -> list[Role]:
    return [role(allow, deny, name=f"r{number}") for number, (allow, deny) in enumerate(held)]


@given(HELD, NAMES, st.lists(NAMES, min_size=1, max_size=2, unique=True))
def test_the_same_as_an_independent_reading(held: Any, wanted: str, roles: list[str]) -> None:
    blocks = [tuple(side.impersonate if side else None for side in both) for both in held]
    assert bool(ask_user(made(held), user(wanted, *roles))) is second_opinion(blocks, wanted, roles)
    assert bool(ask_roles(made(held), *roles)) is second_opinion(blocks, None, roles)


@given(HELD, BLOCKS, NAMES, st.lists(NAMES, min_size=1, max_size=2, unique=True))
def test_laws(held: Any, more: Conditions | None, wanted: str, roles: list[str]) -> None:
    """Order does not matter, a deny only takes away, and fewer roles are never harder to take on."""
    target, every = user(wanted, *roles), made(held)
    before = bool(ask_user(every, target)), bool(ask_roles(every, *roles))
    assert before == (bool(ask_user(every[::-1], target)), bool(ask_roles(every[::-1], *roles)))
    denying = [*every, role(deny=more, name="more")]
    after = bool(ask_user(denying, target)), bool(ask_roles(denying, *roles))
    assert all(now <= then for now, then in zip(after, before, strict=True))
    if before[1]:
        assert ask_roles(every, roles[0])

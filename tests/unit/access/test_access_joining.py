"""Who may join a session, when it may run, and what happens when somebody leaves."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.joining import (
    MODES,
    Mode,
    Participant,
    Session,
    begin,
    may_join,
    may_run,
    may_transfer,
    needs_company,
    when_left,
)
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import AuthPreference, AuthPreferenceSpec
from pkgs.common.resources.kinds.settings import DeviceTrust
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import JoinPolicy, RequirePolicy, Role
from tests.harness.examples import examples
from tests.unit.access.access_kit import role
from tests.unit.access.role_kit import only


def person(name: str, *roles: str, cluster: str = "demo", **fields: Any) -> Identity:
    return Identity(kind=PeerKind.USER, name=name, cluster=cluster, roles=roles, **fields)


def join(*modes: str, roles: tuple[str, ...] = ("*",), kinds: tuple[str, ...] = ("ssh",)) -> JoinPolicy:
    return JoinPolicy(name="j", roles=list(roles), kinds=list(kinds), modes=list(modes))  # type: ignore[arg-type]


def joiner(*policies: JoinPolicy, name: str = "auditor", **options: Any) -> Role:
    return role(name, {"join_sessions": list(policies)}, **options)


def require(count: int = 1, *modes: str, kinds: tuple[str, ...] = ("ssh",), **fields: Any) -> RequirePolicy:
    return RequirePolicy(
        name=fields.pop("name", "q"),
        kinds=list(kinds),  # type: ignore[arg-type]
        modes=list(modes or ("moderator",)),  # type: ignore[arg-type]
        count=count,
        **fields,
    )


def demanding(*policies: RequirePolicy, name: str = "prod", **options: Any) -> Role:
    return role(name, {"require_session_join": list(policies)}, **options)


def came(name: str, mode: Mode, *roles: Role, **fields: Any) -> Participant:
    return Participant(person(name, *(r.name for r in roles), **fields), roles, mode)


ALICE = person("alice", "prod")
SESSION = begin("ssh", ALICE, [demanding(require(1)), role("base")])
ANY = joiner(join("*"))


class TestMayJoin:
    @pytest.mark.parametrize(
        ("policies", "modes"),
        [
            ([join("observer")], {"observer"}),
            ([join("observer"), join("peer")], {"observer", "peer"}),
            ([join("*")], set(MODES)),
            ([join()], set()),
            ([join("*", kinds=("k8s",))], set()),
            ([join("*", kinds=("*",))], set(MODES)),
            ([join("*", roles=("prod",))], set(MODES)),
            ([join("*", roles=("pro*",))], set(MODES)),
            ([join("*", roles=("base",))], set(MODES)),
            ([join("*", roles=("^(prod|x)$",))], set(MODES)),
            ([join("*", roles=("pro", "rod"))], set()),
            ([join("*", roles=("auditor",))], set()),
            ([join("*", roles=())], set()),
            ([], set()),
        ],
    )
    def test_modes_by_the_policies_of_all_roles(self, policies: list[JoinPolicy], modes: set[str]) -> None:
        roles = [joiner(policy, name=f"r{i}") for i, policy in enumerate(policies)] or [role("r")]
        for order in permutations(roles):
            assert {m for m in MODES if may_join(SESSION, came("bob", m, *order))} == modes

    def test_a30_as_peer_where_only_watching_is_allowed(self) -> None:
        decision = may_join(SESSION, came("bob", "peer", joiner(join("observer"))))
        assert not decision
        assert decision.reasons == ("no role allows joining this session as peer",)

    def test_the_owner_joins_in_any_mode(self) -> None:
        for mode in MODES:
            assert may_join(SESSION, came("alice", mode, role("prod")))
            # A user of another cluster with the same name is somebody else.
            assert not may_join(SESSION, came("alice", mode, role("prod"), cluster="other"))
            assert not may_join(SESSION, came("alice", mode, role("prod")), in_force=only())
            assert not may_join(SESSION, came("alice", mode))

    def test_roles_from_before_there_were_policies(self) -> None:
        old = [joiner(join("*"), version="v4"), role("b", version="v3")]
        assert {m for m in MODES if may_join(SESSION, came("bob", m, *old))} == {"peer"}
        kube = begin("k8s", ALICE, [role("prod")])
        assert not any(
            may_join(kube, came("bob", m, joiner(join("*", kinds=("*",)), version="v4"))) for m in MODES
        )
        # With one newer role only policies count, and those of older roles do not.
        assert not any(may_join(SESSION, came("bob", m, *old, role("c"))) for m in MODES)
        assert not may_join(SESSION, came("bob", "peer"))
        assert not may_join(SESSION, came("bob", "peer", *old), in_force=only())
        assert may_join(SESSION, came("bob", "peer", joiner(join("peer"), version="v5")))

    def test_a_deny_takes_modes_away(self) -> None:
        for policy, left in (
            (join("peer"), {"observer", "moderator"}),
            (join(), set()),
            (join("*"), set()),
            (join("*", roles=("other",)), set(MODES)),
            (join("*", kinds=("db",)), set(MODES)),
        ):
            deny = role("d", deny={"join_sessions": [policy]})
            who = [came("bob", mode, ANY, deny) for mode in MODES]
            assert {w.mode for w in who if may_join(SESSION, w)} == left
            assert {w.mode for w in who if may_join(SESSION, w, in_force=only("auditor"))} == left

    def test_a_deny_is_read_the_wider_way_and_in_roles_of_any_age(self) -> None:
        session = begin("ssh", ALICE, [demanding(require(1), name="prod-db")])
        for entry, refused in (
            ('{{regexp.match("prod")}}', True),
            ('{{regexp.not_match("prod.*")}}', False),
            ('{{regexp.not_match("prod")}}', True),
            ("prod", False),
        ):
            deny = {"join_sessions": [join("*", roles=(entry,))]}
            assert bool(may_join(session, came("bob", "peer", ANY, role("d", deny=deny)))) is not refused
            old = role("d", deny=deny, version="v4")
            assert bool(may_join(session, came("bob", "peer", old))) is not refused
            assert may_join(session, came("alice", "peer", old))

    def test_a_role_that_is_not_in_force_lets_nobody_in(self) -> None:
        assert not may_join(SESSION, came("bob", "observer", ANY), in_force=only())
        assert not may_join(SESSION, came("bob", "observer", ANY, role("x")), in_force=only("x"))

    def test_a_role_of_another_namespace_lets_nobody_in(self) -> None:
        other = role("o", {"join_sessions": [join("*")], "namespaces": ("other",)})
        assert not may_join(SESSION, came("bob", "observer", other))

    def test_a30_without_mfa_where_it_is_required(self) -> None:
        strict = AuthPreference(
            metadata=Metadata(name="c"), spec=AuthPreferenceSpec(require_session_mfa=True)
        )
        for name, roles in (("bob", [ANY]), ("alice", [role("prod")])):
            assert not may_join(SESSION, came(name, "observer", *roles), auth_preference=strict)
            assert may_join(SESSION, came(name, "observer", *roles, mfa_device="m"), auth_preference=strict)
        asking = joiner(join("*"), require_session_mfa=True)
        decision = may_join(SESSION, came("bob", "observer", ANY, asking))
        assert decision.reasons == ("role auditor: session MFA required",)
        assert may_join(SESSION, came("bob", "observer", ANY, asking, mfa_device="m"))

    def test_without_a_trusted_device_where_it_is_required(self) -> None:
        asking = joiner(join("*"), device_trust_mode="required")
        assert not may_join(SESSION, came("bob", "observer", asking))
        cluster = AuthPreference(
            metadata=Metadata(name="c"), spec=AuthPreferenceSpec(device_trust=DeviceTrust(mode="required"))
        )
        for name, roles in (("bob", [ANY]), ("alice", [role("prod")])):
            refused = may_join(SESSION, came(name, "observer", *roles), auth_preference=cluster)
            assert (bool(refused), refused.needs) == (False, ("device",))
            assert may_join(SESSION, came(name, "observer", *roles, device_id="d"), auth_preference=cluster)
        assert may_join(SESSION, came("bob", "observer", asking, device_id="d"))

    def test_a_policy_that_is_not_understood_lets_nobody_in(self) -> None:
        decision = may_join(SESSION, came("bob", "observer", ANY, joiner(join("*", roles=("^($",)))))
        assert not decision
        assert not may_run(SESSION, [came("bob", "moderator", ANY, joiner(join("*", roles=("^($",))))])


class TestMayRun:
    def test_all_sets_and_one_policy_of_each(self) -> None:
        roles = [
            demanding(require(2, "moderator"), require(1, "peer"), name="a"),
            demanding(require(1, "observer"), name="b"),
            demanding(require(9, kinds=("db",)), name="c"),
            role("d"),
        ]
        session = begin("ssh", ALICE, roles)
        peer, seer = came("bob", "peer", ANY), came("eve", "observer", ANY)
        two = [came("bob", "moderator", ANY), came("mel", "moderator", ANY)]
        assert may_run(session, [peer, seer])
        assert may_run(session, [*two, seer])
        assert not may_run(session, [two[0], seer])
        assert not may_run(session, [peer])
        assert not may_run(session, [])
        assert may_run(begin("app", ALICE, roles), [])

    def test_what_the_owner_is_told(self) -> None:
        roles = [
            demanding(
                require(2, "moderator", name="eyes", filter='contains(user.roles, "auditor")'),
                require(1, "*", name="any"),
                name="a",
            ),
            demanding(require(1, "peer", "observer"), name="b"),
        ]
        assert may_run(begin("ssh", ALICE, roles), []).reasons == (
            'role a requires 2 as moderator ("eyes": contains(user.roles, "auditor")), 0 present'
            ' or 1 as anyone ("any"), 0 present',
            'role b requires 1 as peer or observer ("q"), 0 present',
        )

    def test_a_policy_without_modes_is_met_by_nobody(self) -> None:
        policy = RequirePolicy(name="q", kinds=["ssh"])
        session = begin("ssh", ALICE, [demanding(policy)])
        decision = may_run(session, [came("bob", mode, ANY) for mode in MODES])
        assert decision.reasons == ('role prod requires 1 as nobody ("q"), 0 present',)

    def test_each_must_hold_a_policy_for_this_session(self) -> None:
        for roles, counts in (
            ([ANY], True),
            ([joiner(join("moderator"))], True),
            ([joiner(join("observer"))], False),
            ([joiner(join("*", roles=("other",)))], False),
            ([joiner(join("*"), version="v4")], False),
            ([role("x")], False),
            ([ANY, role("d", deny={"join_sessions": [join("moderator")]})], False),
        ):
            assert bool(may_run(SESSION, [came("bob", "moderator", *roles)])) is counts
        assert not may_run(SESSION, [came("bob", "moderator", ANY)], only())

    def test_a30_before_the_moderator_is_present(self) -> None:
        assert not may_run(SESSION, [])
        assert not may_run(SESSION, [came("bob", "observer", ANY), came("eve", "peer", ANY)])
        assert may_run(SESSION, [came("bob", "moderator", ANY)])

    def test_a30_the_owner_is_nobodys_moderator(self) -> None:
        """Not from a second terminal, and not through impersonation in either direction."""
        for own in (
            came("alice", "moderator", ANY),
            came("bob", "moderator", ANY, impersonator="alice"),
        ):
            assert may_join(SESSION, own)
            assert not may_run(SESSION, [own])
        acted = begin("ssh", person("alice", impersonator="bob"), [demanding(require(1))])
        assert not may_run(acted, [came("bob", "moderator", ANY)])
        assert may_run(acted, [came("mel", "moderator", ANY)])
        assert may_run(SESSION, [came("alice", "moderator", ANY, cluster="other")])

    def test_a30_two_eyes_of_one_person_are_not_four(self) -> None:
        session = begin("ssh", ALICE, [demanding(require(2))])
        bob, mel = came("bob", "moderator", ANY), came("mel", "moderator", ANY)
        assert not may_run(session, [bob, bob, came("bob", "moderator", ANY)])
        assert not may_run(session, [bob, came("mel", "moderator", ANY, impersonator="bob")])
        assert may_run(session, [bob, mel])

    @pytest.mark.parametrize(
        ("text", "holds"),
        [
            ("", True),
            ('user.name == "bob"', True),
            ('equals(user.spec.name, "bob") && user.metadata.name == "bob"', True),
            ('contains(user.roles, "auditor")', True),
            ('contains(user.spec.roles, "auditor")', True),
            ('contains(user.spec.traits["team"], "sec")', True),
            ('contains(user.roles, "admin")', False),
            ('!contains(user.roles, "auditor")', False),
            ('email.local(user.name) == "bob"', False),
            ("user.nope", False),
            ("((", False),
        ],
    )
    def test_filter(self, text: str, holds: bool) -> None:
        session = begin("ssh", ALICE, [demanding(require(1, filter=text))])
        who = came("bob", "moderator", ANY, traits={"team": ("sec",)})
        assert bool(may_run(session, [who])) is holds

    def test_roles_before_v5_demand_nothing(self) -> None:
        assert not needs_company("ssh", [demanding(require(1), version="v4")])
        assert needs_company("ssh", [demanding(require(1), version="v5")])
        assert not needs_company("ssh", [demanding(require(0), require(1))])
        assert not needs_company("k8s", [demanding(require(1))])
        assert needs_company("k8s", [demanding(require(1, kinds=("*",)))])


class TestLeaving:
    @pytest.mark.parametrize(
        ("on_leave", "expected"),
        [
            (["pause"], "pause"),
            (["terminate"], "terminate"),
            ([""], "terminate"),
            (["pause", "pause"], "pause"),
            (["pause", ""], "terminate"),
            (["terminate", "pause"], "terminate"),
        ],
    )
    def test_pause_only_where_every_policy_says_so(self, on_leave: list[Any], expected: str) -> None:
        policies = [require(1, on_leave=value) for value in on_leave]
        together = begin("ssh", ALICE, [demanding(*policies)])
        apart = begin("ssh", ALICE, [demanding(p, name=f"r{i}") for i, p in enumerate(policies)])
        for session in (together, apart):
            assert when_left(session, []) == expected
            assert when_left(session, [came("bob", "moderator", ANY)]) == "continue"

    def test_policies_of_other_kinds_do_not_count(self) -> None:
        roles = [demanding(require(1, on_leave="pause"), require(1, kinds=("db",)))]
        assert when_left(begin("ssh", ALICE, roles), []) == "pause"
        assert when_left(begin("app", ALICE, roles), []) == "continue"


class TestFiles:
    def test_a_session_that_needs_company_copies_what_moderators_approve(self) -> None:
        session = begin("ssh", ALICE, [demanding(require(1, "moderator", "peer"))])
        bob, eve = came("bob", "moderator", ANY), came("eve", "peer", ANY)
        assert not may_transfer(session, [bob, eve], [])
        assert may_transfer(session, [bob, eve], [bob.identity])
        assert not may_transfer(session, [bob, eve], [eve.identity])
        assert not may_transfer(session, [eve], [bob.identity])
        assert not may_transfer(session, [bob], [person("bob", cluster="other")])
        own = came("alice", "moderator", ANY)
        assert not may_transfer(session, [own], [own.identity])
        reasons = may_transfer(session, [bob], []).reasons
        assert reasons == (
            'role prod requires 1 as moderator or peer ("q"), 0 present, who approve of the file',
        )

    def test_any_other_session_is_not_asked(self) -> None:
        assert may_transfer(begin("ssh", ALICE, [role("prod")]), [], [])


def test_mistakes_are_found_when_the_role_is_stored() -> None:
    with pytest.raises(InputError, match=r"allow\.require_session_join\[0\]\.filter: at character 1"):
        validate(demanding(require(1, filter="nope")))
    with pytest.raises(InputError, match=r"allow\.join_sessions\[0\]\.roles"):
        validate(joiner(join("*", roles=("^($",))))
    validate(demanding(require(1, filter='contains(user.spec.roles, "x")')))


# A naive reading: people, each with a mode and a right to that mode.

PEOPLE = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", "eve", "mel"]),
        st.sampled_from(MODES),
        st.sampled_from([*MODES, "*"]),
    ),
    max_size=5,
)
POLICIES = st.tuples(st.integers(0, 2), st.lists(st.sampled_from([*MODES, "*"]), max_size=2), st.booleans())
SETS = st.lists(st.lists(POLICIES, max_size=2), max_size=3)


def present(people: list[Any]) -> list[Participant]:
    return [came(name, mode, joiner(join(right))) for name, mode, right in people]


def session_of(sets: list[Any]) -> Session:
    roles = [
        demanding(
            *(
                RequirePolicy(
                    name="q", kinds=["ssh"], modes=modes, count=count, filter='user.name != "bob"' * picky
                )
                for count, modes, picky in policies
            ),
            name=f"r{i}",
        )
        for i, policies in enumerate(sets)
    ]
    return begin("ssh", ALICE, roles)


@given(SETS, PEOPLE)
@settings(max_examples=examples(200))
def test_against_a_naive_reading(sets: list[Any], people: list[Any]) -> None:
    def met(count: int, modes: list[str], picky: bool) -> bool:
        able = {
            name
            for name, mode, right in people
            if name != "alice"
            and (mode in modes or "*" in modes)
            and right in (mode, "*")
            and not (picky and name == "bob")
        }
        return len(able) >= count

    expected = all(not policies or any(met(*policy) for policy in policies) for policies in sets)
    assert bool(may_run(session_of(sets), present(people))) is expected


@given(SETS, PEOPLE, st.randoms())
@settings(max_examples=examples(50))
def test_more_people_never_hurt_and_order_does_not_matter(
    sets: list[Any], people: list[Any], random: Any
) -> None:
    session, all_of_them = session_of(sets), present(people)
    shuffled = list(all_of_them)
    random.shuffle(shuffled)
    assert may_run(session, shuffled) == may_run(session, all_of_them)
    mixed = msgspec.structs.replace(ALICE)
    turned = Session(session.kind, mixed, session.sets[::-1])
    assert bool(may_run(turned, shuffled)) is bool(may_run(session, all_of_them))
    for gone in range(len(all_of_them)):
        fewer = all_of_them[:gone] + all_of_them[gone + 1 :]
        assert may_run(session, all_of_them) or not may_run(session, fewer)

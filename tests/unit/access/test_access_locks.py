"""Locks: every target matches what carries it and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.access.decide import decide
from pkgs.common.access.locks import (
    STALE_LIMIT_S,
    TARGETS,
    Interaction,
    in_force,
    lock_reason,
    lock_text,
    matching_lock,
)
from pkgs.common.access.types import Environment, OpenDesktop, See, SshLogin, Subject, UseRule
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    ServerSpec,
    WindowsDesktop,
)
from pkgs.common.resources.kinds.infrastructure import WindowsDesktopSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec

NOW = 1_700_000_000.0
SERVER = "11111111-2222-4333-8444-555555555555"
PROXY = "22222222-2222-4333-8444-555555555555"
CARRIES: dict[str, tuple[str, ...]] = {
    "user": ("alice", "mallory"),
    "role": ("access", "dba"),
    "login": ("root",),
    "mfa_device": ("factor-1",),
    "device": ("laptop-1",),
    "access_request": ("request-1", "request-2"),
    "server_id": (SERVER, PROXY),
    "windows_desktop": ("desk-w",),
    "linux_desktop": ("desk-l",),
    "bot_instance_id": ("instance-1",),
    "join_token": ("token-1",),
}
"""What the interaction below carries, by target."""
ALICE = Identity(
    kind=PeerKind.USER,
    name="alice",
    cluster="demo",
    roles=("access", "dba"),
    logins=("root", "deploy"),
    expires_at=NOW + 3600,
    impersonator="mallory",
    mfa_device="factor-1",
    device_id="laptop-1",
    device_asset_tag="tag-1",
    active_requests=("request-1", "request-2"),
    bot_name="robot",
    bot_instance_id="instance-1",
    join_token="token-1",
)
EVERYTHING = Interaction(
    ALICE, (SERVER, PROXY), login="root", windows_desktop="desk-w", linux_desktop="desk-l"
)
NODE = Node(metadata=Metadata(name=SERVER, labels={"env": "prod"}), spec=ServerSpec(hostname="web-1"))
ROLES = [
    Role(
        metadata=Metadata(name=name),
        spec=RoleSpec(allow=Conditions(logins=["root", "deploy"], node_labels={"*": "*"})),
    )
    for name in ("access", "dba")
]


def lock(
    name: str = "l",
    *,
    message: str = "",
    expires: float | None = None,
    until: float | None = None,
    **target: str,
) -> Lock:
    def moment(when: float | None) -> datetime | None:
        return None if when is None else datetime.fromtimestamp(when, UTC)

    return Lock(
        metadata=Metadata(name=name, expires=moment(until)),
        spec=LockSpec(target=LockTarget(**target), message=message, expires=moment(expires)),
    )


def matches(interaction: Interaction, **target: str) -> bool:
    found = lock(**target)
    answers = {matching_lock(locks, interaction, NOW) is found for locks in ([found], (found,))}
    assert len(answers) == 1, "a list and an indexed tuple of locks answer alike"
    return answers.pop()


def test_the_tables_name_every_target() -> None:
    assert set(TARGETS) == set(CARRIES) == set(LockTarget.__struct_fields__)


@pytest.mark.parametrize("field", TARGETS)
class TestEachTarget:
    def test_matches_what_is_carried(self, field: str) -> None:
        for value in CARRIES[field]:
            assert matches(EVERYTHING, **{field: value})

    def test_matches_nothing_else(self, field: str) -> None:
        others = {value for name, values in CARRIES.items() if name != field for value in values}
        for value in (*others, "other", CARRIES[field][0] + "x", CARRIES[field][0].upper() + "X"):
            assert not matches(EVERYTHING, **{field: value})

    def test_is_not_met_by_an_interaction_without_it(self, field: str) -> None:
        nobody = Identity(kind=PeerKind.USER, name="bob", cluster="demo", expires_at=NOW + 1)
        for value in (*CARRIES[field], "*", ".*", "^.*$"):
            assert not matches(Interaction(nobody), **{field: value})
            assert not matches(Interaction(None), **{field: value})

    def test_all_set_fields_must_match(self, field: str) -> None:
        whole = {name: values[0] for name, values in CARRIES.items()}
        assert matches(EVERYTHING, **whole)
        assert not matches(EVERYTHING, **{**whole, field: "other"})

    def test_a_role_or_a_name_in_capitals_is_another_one(self, field: str) -> None:
        value = CARRIES[field][0]
        if value.upper() != value:
            assert not matches(EVERYTHING, **{field: value.upper()})


def test_a_lock_without_any_target_matches_everything() -> None:
    """Better everybody than nobody; storing one is refused."""
    assert matches(Interaction(None))
    assert matches(EVERYTHING)


def test_a_role_lock_is_about_the_certificates_roles_not_those_they_are_mapped_to() -> None:
    """A leaf cluster decides with its own roles; the lock names those of the root."""
    local = Role(metadata=Metadata(name="local"), spec=ROLES[0].spec)
    for name, locked in (("dba", True), ("local", False)):
        env = Environment(now=NOW, locks=(lock(role=name),))
        decision = decide(Subject(msgspec.structs.replace(ALICE), [local]), SshLogin(NODE, "root"), env)
        assert bool(decision) is not locked


def test_a_host_is_met_by_its_own_id_and_is_no_user() -> None:
    host = Identity(kind=PeerKind.HOST, name=SERVER, cluster="demo")
    assert matches(Interaction(host), server_id=SERVER)
    assert not matches(Interaction(host), user=SERVER)
    assert not matches(Interaction(host), server_id=SERVER, user="alice")
    user = msgspec.structs.replace(ALICE, name=SERVER)
    assert not matches(Interaction(user), server_id=SERVER)


def test_who_joins_is_met_before_there_is_a_certificate() -> None:
    joining = Interaction(None, (SERVER,), join_token="token-1")
    assert matches(joining, join_token="token-1")
    assert matches(joining, server_id=SERVER)
    assert matches(joining, server_id=SERVER, join_token="token-1")
    assert not matches(joining, server_id=PROXY, join_token="token-1")
    assert not matches(joining, user="alice", server_id=SERVER)


@pytest.mark.parametrize(
    ("ends", "forced"),
    [
        ({}, True),
        ({"expires": NOW + 1}, True),
        ({"expires": NOW}, False),
        ({"until": NOW}, False),
        ({"expires": NOW + 1, "until": NOW + 1}, True),
    ],
)
def test_a_lock_runs_out(ends: dict[str, float], forced: bool) -> None:
    found = lock(user="alice", **ends)  # type: ignore[arg-type]
    assert in_force(found, NOW) is forced
    assert (matching_lock((found,), EVERYTHING, NOW) is found) is forced


def test_what_the_locked_read() -> None:
    assert lock_text(lock(user="bob")) == 'lock targeting User:"bob" is in force'
    found = lock(device="d-1", login="root", message="stolen")
    assert lock_text(found) == 'lock targeting Login:"root", Device:"d-1" is in force: stolen'
    assert lock_reason(found) == "lock l: stolen"


@pytest.mark.parametrize("field", [name for name in TARGETS if not name.endswith("_desktop")])
def test_a14_decide_hears_every_target(field: str) -> None:
    """Of servers; rules of the API and sight where the field can be part of them."""
    for value in CARRIES[field]:
        env = Environment(now=NOW, server_id=PROXY, locks=(lock("no", message="why", **{field: value}),))
        decision = decide(Subject(ALICE, ROLES), SshLogin(NODE, "root"), env)
        assert not decision
        assert decision.reasons == ("lock no: why",)
        assert decision.text.startswith("lock targeting ")
        assert decision.text.endswith("is in force: why")
        assert not decide(Subject(ALICE, ROLES), See(NODE, "root"), env)
        if field != "login" and value != SERVER:
            assert decide(Subject(ALICE, ROLES), UseRule("node", "list"), env).reasons == ("lock no: why",)
        else:
            assert decide(Subject(ALICE, ROLES), UseRule("node", "list"), env)
    assert decide(Subject(ALICE, ROLES), SshLogin(NODE, "root"), Environment(now=NOW))


def test_a14_a_lock_on_a_desktop_stops_sight_and_use_of_that_one() -> None:
    role = Role(
        metadata=Metadata(name="access"),
        spec=RoleSpec(
            allow=Conditions(windows_desktop_logins=["root"], windows_desktop_labels={"*": "*"}),
        ),
    )
    one, other = (
        WindowsDesktop(metadata=Metadata(name=name), spec=WindowsDesktopSpec(addr="10.0.0.1:3389"))
        for name in ("desk-w", "desk-2")
    )
    for target in ({"windows_desktop": "desk-w"}, {"windows_desktop": "desk-w", "user": "alice"}):
        env = Environment(now=NOW, locks=(lock(**target),))
        assert not decide(Subject(ALICE, [role]), OpenDesktop(one, "root"), env)
        assert not decide(Subject(ALICE, [role]), See(one), env)
        assert decide(Subject(ALICE, [role]), OpenDesktop(other, "root"), env)
        assert decide(Subject(ALICE, [role]), See(other), env)


def test_a_lock_on_one_login_leaves_the_others() -> None:
    env = Environment(now=NOW, locks=(lock(login="root"),))
    assert not decide(Subject(ALICE, ROLES), SshLogin(NODE, "root"), env)
    assert decide(Subject(ALICE, ROLES), SshLogin(NODE, "deploy"), env)
    assert decide(Subject(ALICE, ROLES), See(NODE), env)


@pytest.mark.parametrize(
    ("role_mode", "cluster_mode", "strict"),
    [
        ("", "best_effort", False),
        ("", "strict", True),
        ("strict", "best_effort", True),
        ("best_effort", "strict", False),
    ],
)
def test_f07_strict_mode_refuses_everything_on_a_stale_view(
    role_mode: Any, cluster_mode: Any, strict: bool
) -> None:
    spec = msgspec.structs.replace(ROLES[0].spec, options=RoleOptions(lock=role_mode))
    roles = [ROLES[0], msgspec.structs.replace(ROLES[1], spec=spec)]
    preference = AuthPreference(
        metadata=Metadata(name="p"), spec=AuthPreferenceSpec(locking_mode=cluster_mode)
    )
    for age, live in ((STALE_LIMIT_S, False), (STALE_LIMIT_S + 1, False), (STALE_LIMIT_S + 1, True)):
        env = Environment(now=NOW, locks_stale_s=age, auth_preference=preference, live=live)
        for target in (SshLogin(NODE, "root"), See(NODE), UseRule("node", "list")):
            refused = strict and age > STALE_LIMIT_S
            decision = decide(Subject(ALICE, roles), target, env)
            assert bool(decision) is not refused
            assert ("not known for certain" in decision.text) is refused


class TestWhatGoesOn:
    def test_a_certificate_that_has_expired_ends_nothing_by_itself(self) -> None:
        after = ALICE.expires_at + 1
        subject = Subject(ALICE, ROLES)
        assert not decide(subject, SshLogin(NODE, "root"), Environment(now=after))
        assert decide(subject, SshLogin(NODE, "root"), Environment(now=after, live=True))

    def test_everything_else_is_asked_as_ever(self) -> None:
        subject, target = Subject(ALICE, ROLES), SshLogin(NODE, "root")
        assert not decide(subject, target, Environment(now=NOW, locks=(lock(user="alice"),), live=True))
        assert not decide(Subject(ALICE, []), target, Environment(now=NOW, live=True))
        assert not decide(subject, target, Environment(now=ALICE.valid_after - 3600, live=True))
        pinned = Subject(msgspec.structs.replace(ALICE, source_addr="10.0.0.1"), ROLES)
        assert not decide(pinned, target, Environment(now=NOW, source_addr="10.0.0.2", live=True))


_some = st.one_of(*(st.tuples(st.just(f), st.sampled_from([*v, "other"])) for f, v in CARRIES.items()))


@given(st.lists(_some, max_size=4), _some)
def test_a_further_field_never_makes_a_lock_match_more(
    fields: list[tuple[str, str]], more: tuple[str, str]
) -> None:
    target = dict(fields)
    wider = {more[0]: more[1], **target}
    if matches(EVERYTHING, **wider):
        assert matches(EVERYTHING, **target)


@given(
    st.lists(st.dictionaries(st.sampled_from(TARGETS), st.sampled_from(["alice", "root", "x"])), max_size=20)
)
def test_many_locks_are_found_by_index_as_one_by_one(targets: list[dict[str, str]]) -> None:
    locks = [lock(str(number), **target) for number, target in enumerate(targets)]
    found = matching_lock(tuple(locks), EVERYTHING, NOW)
    one_by_one = matching_lock(locks, EVERYTHING, NOW)
    assert (found is None) is (one_by_one is None)
    if found is not None:
        assert matching_lock([found], EVERYTHING, NOW) is found

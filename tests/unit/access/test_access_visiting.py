"""Coming to join a session: everything that is asked of a login but the login, and what joining asks."""

from __future__ import annotations

from typing import Any

import pytest

from pkgs.common.access.joining import Mode, begin
from pkgs.common.access.types import Environment, Subject
from pkgs.common.access.visiting import may_enter, may_knock, must_prove
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    ServerSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, JoinPolicy, Role, RoleOptions, RoleSpec

NODE = Node(metadata=Metadata(name="11111111-2222-4333-8444-555555555555"), spec=ServerSpec(hostname="n"))


def role(name: str, *modes: str, **options: Any) -> Role:
    join = [JoinPolicy(name="j", roles=["*"], kinds=["ssh"], modes=list(modes))] if modes else []
    return Role(
        metadata=Metadata(name=name),
        spec=RoleSpec(options=RoleOptions(**options), allow=Conditions(join_sessions=join)),
    )


def person(name: str, **fields: Any) -> Identity:
    values: dict[str, Any] = {
        "kind": PeerKind.USER,
        "name": name,
        "cluster": "c",
        "expires_at": 1000.0,
        "extensions": ("permit-pty",),
        **fields,
    }
    return Identity(**values)


def lock(**target: str) -> Lock:
    return Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(**target)))


WATCHER = role("watcher", "observer", "moderator")
ENV = Environment(now=10.0, source_addr="10.0.0.1")


def test_no_role_need_give_a_login() -> None:
    assert may_knock(Subject(person("bob"), [WATCHER]), NODE, ENV)
    assert may_knock(Subject(person("bob"), []), NODE, ENV)


@pytest.mark.parametrize(
    ("fields", "env"),
    [
        ({"kind": PeerKind.HOST}, ENV),
        ({"expires_at": 9.0}, ENV),
        ({"source_addr": "10.0.0.2"}, ENV),
        ({"allowed_resources": ("/c/node/other",)}, ENV),
        ({"force_command": "id"}, ENV),
        ({}, Environment(now=10.0, locks=[lock(user="bob")])),
        ({}, Environment(now=10.0, locks=[lock(server_id=NODE.name)])),
    ],
    ids=["host", "expired", "elsewhere", "restricted", "one command", "locked", "locked server"],
)
def test_a30_who_is_not_even_let_to_the_door(fields: dict[str, Any], env: Environment) -> None:
    assert not may_knock(Subject(person("bob", **fields), [WATCHER]), NODE, env)


def enter(who: Identity, mode: Mode, *roles: Role) -> tuple[str, ...]:
    """Why not; empty: they may."""
    session = begin("ssh", person("alice"), (role("plain"),))
    decision = may_enter(session, Subject(who, list(roles)), mode, NODE, ENV)
    return () if decision else decision.reasons


def test_roles_say_as_what_one_may_enter() -> None:
    assert enter(person("bob"), "observer", WATCHER) == ()
    assert enter(person("bob"), "moderator", WATCHER) == ()
    assert enter(person("bob"), "peer", WATCHER)
    assert enter(person("bob", extensions=()), "observer", WATCHER)


def test_who_must_show_that_they_are_there() -> None:
    strict = role("strict", require_session_mfa=True)
    cluster = AuthPreference(
        metadata=Metadata(name="cluster-auth-preference"), spec=AuthPreferenceSpec(require_session_mfa="yes")
    )
    assert must_prove(None, [WATCHER, strict])
    assert must_prove(cluster, [WATCHER])
    assert not must_prove(None, [WATCHER])
    # They may come in all the same, to show it there.
    assert enter(person("bob", mfa_device="phone"), "moderator", WATCHER, strict) == ()

"""What an agent that is not root serves, and what becoming a login refuses."""

from __future__ import annotations

import logging
import os
import pwd
from types import SimpleNamespace
from typing import Any

import pytest

from pkgs.agents.ssh.connection import cannot_become
from pkgs.agents.ssh.messages import Account
from pkgs.agents.ssh.session.account import become
from pkgs.common.errors import DeniedError
from pkgs.common.membership.cache import KINDS_HOST, ClusterCache
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import AuthPreference, Lock, LockSpec, LockTarget, Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec
from pkgs.common.runtime.clock import SystemClock
from pkgs.common.ssh.service.gate import Gate


def account(login: str, *, single_user: bool) -> Account:
    return Account(
        login=login,
        user="alice",
        cluster="demo",
        host_id="h",
        proxy_addr="",
        permit_pty=True,
        permit_user_env=False,
        permit_file_copy=True,
        single_user=single_user,
    )


def test_an_agent_that_is_not_root_serves_its_own_user_only(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.getpwnam("daemon")
    monkeypatch.setattr(os, "geteuid", lambda: entry.pw_uid)
    assert cannot_become("daemon") == ""
    assert "runs as daemon and can only serve that login" in cannot_become("root")


def test_an_agent_that_is_root_may_serve_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cannot_become("daemon") == ""


def test_becoming_refuses_what_it_cannot_be() -> None:
    with pytest.raises(LookupError, match="there is no user"):
        become(account("no-such-user", single_user=True))
    other = "daemon" if os.geteuid() == 0 else "root"
    with pytest.raises(LookupError, match="only serve its own"):
        become(account(other, single_user=True))


ROLE = Role(
    metadata=Metadata(name="access"),
    spec=RoleSpec(allow=Conditions(logins=["root"], node_labels={"env": "prod"})),
)
NODE = Node(
    metadata=Metadata(name="11111111-2222-4333-8444-555555555555", labels={"env": "prod"}),
    spec=ServerSpec(hostname="web-1"),
)
ALICE = Identity(
    kind=PeerKind.USER,
    name="alice",
    cluster="demo",
    roles=("access",),
    logins=("root",),
    expires_at=2000.0,
)


class TestWhatGoesOn:
    def gate(self, **state: Any) -> tuple[Gate, Any]:
        cache = SimpleNamespace(
            cluster_name="demo",
            locks=(),
            auth_preference=AuthPreference(metadata=Metadata(name="p")),
            stale_for_s=0.0,
            roles_of=lambda identity: (ROLE,),
            **state,
        )
        return Gate(cache, lambda: cache.node, lambda: 3000.0), cache  # type: ignore[arg-type]

    def test_an_expired_certificate_alone_does_not_end_it(self) -> None:
        gate, _ = self.gate(node=NODE)
        assert not gate.decide(ALICE, "root", "10.0.0.1")
        assert gate.decide(ALICE, "root", "10.0.0.1", live=True)

    def test_labels_of_now_decide(self) -> None:
        gate, cache = self.gate(node=NODE)
        cache.node = Node(metadata=Metadata(name=NODE.name, labels={"env": "dev"}), spec=NODE.spec)
        assert not gate.decide(ALICE, "root", "10.0.0.1", live=True)

    def test_a_locks_message_reaches_the_terminal_inert(self) -> None:
        gate, cache = self.gate(node=NODE)
        spec = LockSpec(target=LockTarget(user="alice"), message="\x1b]0;pwned\x07\nroot@host# ")
        cache.locks = (Lock(metadata=Metadata(name="l"), spec=spec),)
        text = gate.decide(ALICE, "root", "10.0.0.1", live=True).text
        assert text.isprintable()
        assert "pwned" in text

    def test_a_role_that_is_gone_ends_it(self) -> None:
        def gone(identity: Identity) -> tuple[Role, ...]:
            raise DeniedError("access denied", reasons=("role access does not exist",))

        gate, cache = self.gate(node=NODE)
        cache.roles_of = gone
        decision = gate.decide(ALICE, "root", "10.0.0.1", live=True)
        assert not decision
        assert decision.reasons == ("access denied", "role access does not exist")

    def test_f07_an_agent_that_has_never_seen_the_cluster_lets_nobody_in(self) -> None:
        cache = ClusterCache(
            None,  # type: ignore[arg-type]
            kinds=KINDS_HOST,
            cluster_name="demo",
            authorities=[],
            file=None,
            clock=SystemClock(),
            log=logging.getLogger("test"),
        )
        gate = Gate(cache, lambda: NODE, lambda: 1000.0)
        for live in (False, True):
            assert not gate.decide(ALICE, "root", "10.0.0.1", live=live)

"""What is kept of one shared session: that its owner has left it, and that they asked to copy files."""

from __future__ import annotations

from typing import Any

import pytest

from pkgs.agents.ssh.together.files.request import CopyRequest
from pkgs.agents.ssh.together.limits import COPY_ANSWER_S, COPY_SHOWN, COPY_USE_S, DETACHED_S
from pkgs.agents.ssh.together.states.detached import EXPIRED, TOO_LONG, Detachment
from pkgs.common.pki.identity import Identity, PeerKind

FAR = 10 * DETACHED_S


def person(name: str = "alice", **fields: Any) -> Identity:
    return Identity(**{"kind": PeerKind.USER, "name": name, "cluster": "c", "expires_at": FAR, **fields})


@pytest.mark.parametrize(
    ("opened", "by", "may"),
    [
        (person(), ("alice", "c"), True),
        (person(), ("alice", "other"), False),  # attack A44
        (person(), ("bob", "c"), False),
        (person(impersonator="bob"), ("alice", "c"), False),
        (person(bot_name="deploy"), ("alice", "c"), False),
    ],
)
def test_who_opened_it_in_person_leaves_it(opened: Identity, by: tuple[str, str], may: bool) -> None:
    assert Detachment(opened).may(*by) == may


def test_a_session_waits_for_its_owner_and_for_no_longer_than_the_certificate() -> None:
    detached = Detachment(person())
    assert not detached
    assert detached.over(FAR, []) == ""  # nobody has left it
    detached.begin(100.0)
    assert detached
    assert detached.over(100.0 + DETACHED_S - 1, []) == ""
    assert detached.over(100.0 + DETACHED_S, []) == TOO_LONG
    assert detached.over(FAR, []) == EXPIRED
    renewed = Detachment(person(previous_expires_at=200.0))
    renewed.begin(100.0)
    assert renewed.over(200.0, []) == EXPIRED


def test_a_request_to_copy_passes_by_and_is_used_once() -> None:
    request = CopyRequest()
    assert request.stage(0.0) == "none"
    request.ask(0.0, "why")
    assert request.stage(COPY_ANSWER_S - 1) == "asked"
    assert request.stage(COPY_ANSWER_S) == "none"
    request.ask(0.0, "why")
    request.approve(person("mona"))
    request.grant(10.0)
    assert (request.stage(10.0 + COPY_USE_S - 1), [who.name for who in request.approved_by]) == (
        "approved",
        ["mona"],
    )
    request.use()
    assert request.stage(FAR) == "used"  # what goes on is not cut by time
    request.ask(0.0, "again")  # and approvals are not carried over
    assert request.approved_by == ()
    request.drop()
    assert request.stage(0.0) == "none"


def test_some_operations_are_shown() -> None:
    request = CopyRequest()
    shown = [request.notice("open x") for _ in range(COPY_SHOWN + 5)]
    assert shown[0] == "open x"
    assert "audit log" in shown[COPY_SHOWN - 1]
    assert set(shown[COPY_SHOWN:]) == {""}

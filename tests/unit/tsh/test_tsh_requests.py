"""Waiting for a decision, and what the tools say about requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pkgs.clients.tsh.profile.certfacts import CertFacts
from pkgs.clients.tsh.requests import show
from pkgs.clients.tsh.requests.waiting import LONGEST_S, poll
from pkgs.common.api.requests import RequestShown
from pkgs.common.errors import DeniedError, NotFoundError, UnavailableError
from pkgs.common.resources.kinds import AccessRequest
from pkgs.common.resources.kinds.requests import AccessRequestSpec, ResourceId, Review
from pkgs.common.resources.metadata import Metadata

NOW = 1_800_000_000.0


def request(state: Any = "PENDING", **fields: Any) -> AccessRequest:
    return AccessRequest(
        metadata=Metadata(name="q1", expires=datetime.fromtimestamp(NOW + 3600, UTC)),
        spec=AccessRequestSpec(user="dora", roles=["ops"], state=state, **fields),
    )


class Clock:
    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def answering(*answers: AccessRequest | Exception) -> Callable[[str], AccessRequest]:
    left = list(answers)

    def read(name: str) -> AccessRequest:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return read


def test_asked_again_more_and_more_seldom() -> None:
    clock = Clock()
    read = answering(*[request()] * 20, request("APPROVED"))
    assert poll(request(), read, lambda: clock.now, clock.sleep).spec.state == "APPROVED"
    assert clock.slept == sorted(clock.slept) and len(clock.slept) == 20
    assert max(clock.slept) == LONGEST_S


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (request("DENIED", resolve_reason="no\x1b"), "DENIED: no"),
        (NotFoundError("gone"), "expired or was deleted"),
    ],
)
def test_a_no_is_told(answer: Any, text: str) -> None:
    clock = Clock()
    with pytest.raises(DeniedError, match=text):
        poll(request(), answering(request(), answer), lambda: clock.now, clock.sleep)


def test_an_outage_is_waited_through_but_not_for_ever() -> None:
    clock = Clock()
    down = UnavailableError("down")
    read = answering(down, down, request("APPROVED"))
    assert poll(request(), read, lambda: clock.now, clock.sleep).spec.state == "APPROVED"
    with pytest.raises(UnavailableError):
        poll(request(), answering(down), lambda: clock.now, clock.sleep)
    assert NOW + 3600 <= clock.now <= NOW + 3700


def test_a64_what_is_shown_is_inert() -> None:
    evil = "\x1b]52;c;x\x07\n[click]"
    shown = RequestShown(
        request=msgspec.structs.replace(
            request(
                request_reason=evil,
                resolve_reason=evil,
                resource_ids=[ResourceId(cluster="demo", kind="node", name="x")],
                suggested_reviewers=[evil],
                reviews=[Review(author=evil, proposed_state="DENIED", reason=evil)],
            )
        ),
        names={"/demo/node/x": evil},
    )
    for text in (show.block(shown), show.table([shown])):
        assert "\x1b" not in text and "\x07" not in text
    assert all(line for line in show.block(shown).splitlines() if not line.startswith("[click]"))


def test_what_a_certificate_says() -> None:
    def facts(**extensions: str) -> CertFacts:
        return CertFacts(
            "dora", [], 0, 0, {name.replace("_", "-"): text for name, text in extensions.items()}
        )

    assert facts().requests() == [] and facts().resources() is None
    held = facts(
        teleport_active_requests='{"access_requests":["q1"]}', teleport_allowed_resources='["/demo/node/x"]'
    )
    assert (held.requests(), held.resources()) == (["q1"], ["/demo/node/x"])
    odd = facts(teleport_active_requests="[1", teleport_allowed_resources="{")
    assert (odd.requests(), odd.resources()) == ([], [])

"""What an approved request adds, and when it adds nothing (A22, A32, A34)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.auth.issuing import issue
from pkgs.auth.issuing.issue import MODIFIERS, VALIDATORS, Order
from pkgs.common.access.requests.assuming import extra, refusal, restriction
from pkgs.common.errors import AccessError, DeniedError, LimitExceededError
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import AccessRequest
from pkgs.common.resources.kinds.requests import AccessRequestSpec, ResourceId
from pkgs.common.resources.metadata import Metadata
from tests.harness.examples import examples
from tests.unit.access.requests_roles import role

NOW = 1_800_000_000.0


def when(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


def request(name: str = "q1", *ids: str, life: float = 3600, **fields: Any) -> AccessRequest:
    spec = {
        "user": "dora",
        "roles": ["ops"],
        "resource_ids": [ResourceId(cluster="demo", kind="node", name=node) for node in ids],
        "state": "APPROVED",
        "created": when(-60),
        "session_ttl": when(life),
        "max_duration": when(life),
        **fields,
    }
    return AccessRequest(metadata=Metadata(name=name, expires=when(life)), spec=AccessRequestSpec(**spec))


def identity(**fields: Any) -> Identity:
    given_ = {
        "kind": PeerKind.USER,
        "name": "dora",
        "cluster": "demo",
        "roles": ("dev",),
        "logins": ("dora",),
        "expires_at": NOW + 12 * 3600,
    }
    return Identity(**(given_ | fields))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"user": "eve"}, "somebody else"),
        ({"state": "PENDING"}, "PENDING"),
        ({"state": "DENIED"}, "DENIED"),
        ({"state": "PROMOTED"}, "PROMOTED"),
        ({"dry_run": True}, "nothing"),
        ({"roles": []}, "nothing"),
        ({"max_duration": when(0)}, "expired"),
        ({"max_duration": None}, "expired"),
        ({"assume_start_time": when(1)}, "from "),
    ],
)
def test_a32_what_grants_nothing(fields: dict[str, Any], why: str) -> None:
    assert refusal(request(), "dora", NOW) == ""
    assert why in refusal(request(**fields), "dora", NOW)
    with pytest.raises(DeniedError, match=why):
        extra([request("q2"), request(**fields)], "dora", NOW)


def test_what_they_grant_together() -> None:
    found = extra([request(), request("q2", "web1", roles=["dba"], life=600)], "dora", NOW)
    assert found == (frozenset({"ops", "dba"}), ("/demo/node/web1",), NOW + 600)
    assert extra([], "dora", NOW) == (frozenset(), None, float("inf"))
    # A certificate that is taken out later is not longer, and one that does not say how long is none.
    assert extra([request(session_ttl=when(40))], "dora", NOW).until == NOW + 100
    assert extra([request(session_ttl=None)], "dora", NOW).until == 0.0
    with pytest.raises(DeniedError, match="only one"):
        extra([request("a", "web1"), request("b", "web2")], "dora", NOW)
    with pytest.raises(LimitExceededError):
        extra([request(str(n)) for n in range(17)], "dora", NOW)


WEB1, WEB2 = ("/demo/node/web1",), ("/demo/node/web2",)


@pytest.mark.parametrize(
    ("active", "allowed", "requests", "dropped", "after"),
    [
        ((), None, [], (), None),
        ((), None, [request("a", "web1")], (), WEB1),
        (("a",), WEB1, [request("a", "web1")], (), WEB1),
        (("a",), WEB1, [], (), WEB1),
        (("a",), WEB1, [], ("a",), None),
        (("a",), WEB1, [request("b", "web2")], ("a",), WEB2),
        (("a", "p"), WEB1, [request("p")], ("a",), None),
        (("a", "p"), WEB1, [request("a", "web1")], ("p",), WEB1),
        (("a", "p"), WEB1, [], ("p",), WEB1),
        (("a", "p"), WEB1, [], ("a",), WEB1),
        ((), WEB1, [], ("a",), WEB1),
        (("a",), (), [], (), ()),
        (("a",), WEB1, [request("b", "web2")], (), DeniedError),
        (("a",), WEB1, [request("b", "web2")], ("x",), DeniedError),
        ((), WEB1, [request("p")], (), DeniedError),
        ((), WEB1, [request("a", "web1")], (), DeniedError),
    ],
)  # fmt: skip
def test_a34_when_a_restriction_goes(
    active: Any, allowed: Any, requests: Any, dropped: Any, after: Any
) -> None:
    before = identity(active_requests=active, allowed_resources=allowed)

    def found() -> object:
        return restriction(before, requests, frozenset(dropped), extra(requests, "dora", NOW))

    if after is DeniedError:
        with pytest.raises(DeniedError):
            found()
    else:
        assert found() == after


# The whole pipeline.

ROLES = {
    "dev": role("dev", allow={"logins": ["dora"]}),
    "ops": role("ops", allow={"logins": ["root"]}, max_session_ttl="2h"),
    "dba": role("dba", allow={"logins": ["postgres"]}),
}


def order(before: Identity, requests: list[AccessRequest], dropped: frozenset[str] = frozenset()) -> Order:
    """As the Auth Service makes it, for a user who holds `dev` only."""
    names = dict.fromkeys(["dev", *(name for r in requests for name in r.spec.roles)])
    return Order(
        user="dora",
        cluster="demo",
        roles=tuple(ROLES[name] for name in names),
        traits={},
        now=NOW,
        ttl_s=30 * 3600,
        previous=before,
        requests=tuple(requests),
        standing=frozenset({"dev"}),
        dropped=dropped,
    )


def shaped(of: Order) -> UserCertSpec:
    spec = issue.start(of)
    for modifier in MODIFIERS:
        spec = modifier(of, spec)
    for validator in VALIDATORS:
        validator(of, spec)
    return spec


def test_a_request_adds_roles_logins_and_its_name() -> None:
    spec = shaped(order(identity(), [request("q1", "web1")]))
    assert (spec.roles, spec.logins) == (("dev", "ops"), ("dora", "root"))
    assert (spec.active_requests, spec.allowed_resources) == (("q1",), WEB1)
    assert spec.valid_before == NOW + 3600


@pytest.mark.parametrize(
    "widened",
    [
        {"roles": ("dev", "ops", "dba")},
        {"logins": ("dora", "root", "postgres")},
        {"valid_before": NOW + 3601},
        {"active_requests": ()},
        {"active_requests": ("q1", "q2")},
        {"allowed_resources": None},
        {"allowed_resources": WEB2},
        {"allowed_resources": (*WEB1, *WEB2)},
        {"traits": {"logins": ("x",)}},
        {"user": "eve"},
    ],
)
def test_a34_the_veto_allows_what_the_request_grants_and_no_more(widened: dict[str, Any]) -> None:
    of = order(identity(), [request("q1", "web1")])
    spec = shaped(of)
    issue.only_shrinks(of, spec)
    with pytest.raises(DeniedError):
        issue.only_shrinks(of, msgspec.structs.replace(spec, **widened))
    # Nor does it take the word of an order whose request says otherwise.
    for wrong in ({"state": "DENIED"}, {"user": "eve"}, {"max_duration": when(-1)}):
        forged = msgspec.structs.replace(of.requests[0].spec, **wrong)
        held = (msgspec.structs.replace(of.requests[0], spec=forged),)
        with pytest.raises(DeniedError):
            issue.only_shrinks(order(identity(), list(held)), spec)


def test_a34_roles_of_a_request_that_is_over_go() -> None:
    held = identity(roles=("dev", "ops"), logins=("dora", "root"), active_requests=("q1",))
    for dropped in (frozenset[str](), frozenset({"q1"})):
        of = order(held, [], dropped)
        spec = shaped(of)
        assert (spec.roles, spec.logins) == (("dev",), ("dora",))
        assert spec.active_requests == (() if dropped else ("q1",))
        for kept in ({"roles": ("dev", "ops")}, {"logins": ("dora", "root")}):
            with pytest.raises(DeniedError):
                issue.only_shrinks(of, msgspec.structs.replace(spec, **kept))


def test_a32_requests_are_for_people_with_a_certificate() -> None:
    for fields in ({"impersonator": "eve"}, {"bot_name": "b"}, {"renewable": True}, {"force_command": "id"}):
        with pytest.raises(DeniedError, match="a person's own"):
            shaped(order(identity(**fields), [request()]))
    of = order(identity(), [request()])
    spec = shaped(of)
    fresh = Order(
        user="dora", cluster="demo", roles=of.roles, traits={}, now=NOW, ttl_s=60, requests=of.requests
    )
    with pytest.raises(DeniedError, match="exists"):
        issue.requests_need_an_origin(fresh, spec)


REQUESTS = st.lists(
    st.builds(
        lambda name, ids, state, roles, life, user: request(
            name, *ids, state=state, roles=roles, user=user, life=life
        ),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([(), ("web1",), ("web2",)]),
        st.sampled_from(["APPROVED", "APPROVED", "DENIED", "PENDING"]),
        st.lists(st.sampled_from(["ops", "dba"]), min_size=1, max_size=2, unique=True),
        st.floats(-10, 20_000),
        st.sampled_from(["dora", "dora", "dora", "eve"]),
    ),
    max_size=3,
    unique_by=lambda found: found.name,
)


@settings(max_examples=examples(300))
@given(st.lists(st.tuples(REQUESTS, st.sets(st.sampled_from(["a", "b", "c"]))), max_size=4))
def test_a34_no_chain_of_renewals_gains_more_than_its_requests(steps: list[Any]) -> None:
    """Whatever is assumed and dropped, in any order: each certificate has what stands and what its own
    requests grant, and is restricted wherever a request of it is."""
    held = identity()
    for requests, dropped in steps:
        of = order(held, requests, frozenset(dropped) & set(held.active_requests))
        try:
            spec = shaped(of)
        except AccessError:
            continue
        good = [r for r in requests if refusal(r, "dora", NOW) == ""]
        assert good == requests
        assert set(spec.roles) <= {"dev", *(name for r in good for name in r.spec.roles)}
        assert set(spec.logins) <= {
            "dora",
            *({"ops": "root", "dba": "postgres"}[n] for n in spec.roles if n != "dev"),
        }
        assert spec.valid_before <= held.expires_at
        for found in good:
            assert found.spec.max_duration is not None
            assert spec.valid_before <= found.spec.max_duration.timestamp()
            if found.spec.resource_ids:
                assert spec.allowed_resources == tuple(
                    f"/demo/node/{i.name}" for i in found.spec.resource_ids
                )
        if held.allowed_resources is not None and spec.allowed_resources is None:
            assert of.dropped
        held = identity(
            roles=spec.roles,
            logins=spec.logins,
            expires_at=spec.valid_before,
            active_requests=spec.active_requests,
            allowed_resources=spec.allowed_resources,
        )

"""The steps that shape a user certificate and those that veto it, each alone and all together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.auth.issuing import issue
from pkgs.auth.issuing.issue import MODIFIERS, VALIDATORS, Order
from pkgs.common.errors import DeniedError
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import CertExtension, Conditions, Role, RoleOptions, RoleSpec, TimeWindow
from tests.harness.examples import examples

NOW = 1_800_000_000.25


def role(name: str, *logins: str, **options: Any) -> Role:
    spec = RoleSpec(options=RoleOptions(**options), allow=Conditions(logins=list(logins)))
    return Role(metadata=Metadata(name=name), spec=spec)


def order(*roles: Role, **fields: Any) -> Order:
    given_ = {
        "user": "mira",
        "cluster": "alpha",
        "roles": roles or (role("r", "root"),),
        "traits": {},
        "now": NOW,
        "ttl_s": 3600.0,
        "standing": frozenset({"r"}),
    }
    return Order(**(given_ | fields))


def identity(**fields: Any) -> Identity:
    given_ = {
        "kind": PeerKind.USER,
        "name": "mira",
        "cluster": "alpha",
        "roles": ("r",),
        "logins": ("root",),
        "expires_at": NOW + 1000,
    }
    return Identity(**(given_ | fields))


def shaped(of: Order) -> UserCertSpec:
    spec = issue.start(of)
    for modifier in MODIFIERS:
        spec = modifier(of, spec)
    for validator in VALIDATORS:
        validator(of, spec)
    return spec


def test_a_login_gets_what_its_roles_give() -> None:
    spec = shaped(order(role("a", "root"), role("b", "deploy"), client_addr="192.0.2.1"))
    assert spec.logins == ("deploy", "root")
    assert spec.roles == ("a", "b")
    assert spec.login_ip == "192.0.2.1"
    assert spec.source_addr == ""
    assert spec.valid_after == NOW - 60
    assert NOW + 3598 < spec.valid_before <= NOW + 3600


def test_the_shortest_role_caps_the_life() -> None:
    spec = shaped(order(role("a", "root"), role("b", "deploy", max_session_ttl="10m")))
    assert spec.valid_before <= NOW + 600


def test_a_role_for_seconds_still_gives_its_logins() -> None:
    spec = shaped(order(role("a", "root", max_session_ttl="30s")))
    assert spec.logins == ("root",)
    assert spec.valid_before <= NOW + 30


def test_grants_are_not_mixed_up_between_traits_or_changed_roles() -> None:
    template = role("a", "{{internal.logins}}")
    for logins in (("deploy",), ("root",), ("deploy",)):
        assert shaped(order(template, traits={"logins": logins})).logins == logins
    assert shaped(order(role("a", "other"), traits={"logins": ("deploy",)})).logins == ("other",)


def test_more_than_the_maximum_is_cut() -> None:
    assert shaped(order(ttl_s=1e9)).valid_before <= NOW + 30 * 3600


def test_no_login_gives_a_placeholder() -> None:
    (login,) = shaped(order(role("a"))).logins
    assert login.startswith("no-login-")


def test_options_become_extensions() -> None:
    plain = shaped(order(role("a", "root", port_forwarding=False)))
    assert plain.extensions == ("permit-pty",)
    rich = shaped(order(role("a", "root", forward_agent=True, permit_x11_forwarding=True)))
    assert set(rich.extensions) == {
        "permit-pty",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-X11-forwarding",
    }
    assert shaped(order(role("a", "root", cert_format="oldssh"))).oldssh


def test_extensions_come_from_roles_that_count_now_and_from_here() -> None:
    """For whatever reads them later asks nobody. 08:00 UTC on a Friday."""
    gh = [CertExtension(name="login@x", value="m")]
    limited = {"forward_agent": True, "permit_x11_forwarding": True, "cert_extensions": gh}
    for conditions, addr, serves in (
        ({"when": [TimeWindow(days=["fri"], hours="07:00-09:00")]}, "", True),
        ({"when": [TimeWindow(days=["sat"])]}, "", False),
        ({"source": ["10.0.0.0/8"]}, "10.1.2.3", True),
        ({"source": ["10.0.0.0/8"]}, "192.0.2.1", False),
        ({"source": ["10.0.0.0/8"]}, "", False),
    ):
        spec = RoleSpec(options=RoleOptions(**limited), allow=Conditions(logins=["root"], **conditions))
        found = Role(metadata=Metadata(name="a"), spec=spec)
        made = shaped(order(found, client_addr=addr))
        assert made.custom_extensions == ({"login@x": "m"} if serves else {})
        assert ("permit-X11-forwarding" in made.extensions) is serves
        assert ("permit-port-forwarding" in made.extensions) is serves
        assert (made.logins == ("root",)) is serves


def test_a_pin_needs_an_address() -> None:
    pinned = role("a", "root", pin_source_ip=True)
    assert shaped(order(pinned, client_addr="192.0.2.1")).source_addr == "192.0.2.1"
    with pytest.raises(DeniedError, match="not known for certain"):
        shaped(order(pinned))


def test_without_roles_there_is_no_certificate() -> None:
    with pytest.raises(DeniedError, match="at least one role"):
        shaped(order(roles=()))


def test_a34_a_reissue_keeps_and_narrows() -> None:
    before = identity(
        source_addr="192.0.2.1",
        mfa_device="m",
        impersonator="noor",
        allowed_resources=("/alpha/node/x",),
        active_requests=("q",),
    )
    spec = shaped(order(role("r", "root", "deploy"), previous=before, ttl_s=9e9, client_addr="192.0.2.1"))
    assert spec.valid_before == before.expires_at
    assert spec.logins == ("root",)
    for name in ("source_addr", "mfa_device", "impersonator", "allowed_resources", "active_requests"):
        assert getattr(spec, name) == getattr(before, name)


def test_a34_an_expired_or_marked_certificate_is_not_renewed() -> None:
    with pytest.raises(DeniedError, match="already have expired"):
        shaped(order(previous=identity(expires_at=NOW - 1)))
    with pytest.raises(DeniedError, match="cannot be renewed"):
        shaped(order(previous=identity(disallow_reissue=True)))


@pytest.mark.parametrize(
    "widened",
    [
        {"user": "noor"},
        {"cluster": "beta"},
        {"valid_before": NOW + 1001},
        {"roles": ("r", "editor")},
        {"logins": ("root", "deploy")},
        {"traits": {"logins": ("x",)}},
        {"source_addr": ""},
        {"source_addr": "192.0.2.9"},
        {"mfa_device": ""},
        {"impersonator": ""},
        {"allowed_resources": None},
        {"active_requests": ()},
        {"force_command": ""},
    ],
)
def test_a34_the_veto_stands_alone(widened: dict[str, Any]) -> None:
    """Even if a modifier were wrong, the last validator refuses anything wider than the origin."""
    before = identity(
        source_addr="192.0.2.1",
        mfa_device="m",
        impersonator="noor",
        allowed_resources=("/alpha/node/x",),
        active_requests=("q",),
        force_command="id",
    )
    of = order(previous=before, client_addr="192.0.2.1")
    issue.only_shrinks(of, shaped(of))
    with pytest.raises(DeniedError, match="more than the old one"):
        issue.only_shrinks(of, msgspec.structs.replace(shaped(of), **widened))


@settings(max_examples=examples(60))
@given(
    st.floats(min_value=1, max_value=1e9),
    st.lists(st.sampled_from(["5m", "1h", "30h0m0s"]), min_size=1, max_size=3),
    st.floats(min_value=61, max_value=200_000),
)
def test_no_life_is_longer_than_any_bound(ttl: float, caps: list[str], left: float) -> None:
    roles = [role(f"r{i}", "root", max_session_ttl=cap) for i, cap in enumerate(caps)]
    names = tuple(r.name for r in roles)
    before = identity(roles=names, expires_at=NOW + left)
    spec = shaped(order(*roles, ttl_s=ttl, previous=before))
    shortest = min({"5m": 300, "1h": 3600, "30h0m0s": 108_000}[cap] for cap in caps)
    assert spec.valid_before <= min(NOW + bound for bound in (shortest, left, max(ttl, 60)))

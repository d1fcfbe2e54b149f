"""Hours and networks of roles in certificates, which others may read without asking anybody."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, TimeWindow
from tests.unit.auth.test_auth_issue import identity, order, shaped

OFFICE = [TimeWindow(days=["mon-fri"], hours="08:00-18:00")]


def at(hour: int, minute: int = 0) -> float:
    """Friday, 15 January 2027, UTC."""
    return datetime(2027, 1, 15, hour, minute, tzinfo=UTC).timestamp()


def role(name: str, *logins: str, deny: tuple[str, ...] = (), **when: object) -> Role:
    circumstances = {"when": [], "source": [], **when}
    side = Conditions(logins=list(logins or deny), **circumstances)  # type: ignore[arg-type]
    spec = RoleSpec(deny=side) if deny else RoleSpec(allow=side)
    return Role(metadata=Metadata(name=name), spec=spec)


def test_a_role_gives_its_logins_within_its_hours_only() -> None:
    roles = (role("base", "alice"), role("office", "root", when=OFFICE))
    inside = shaped(order(*roles, now=at(12), ttl_s=3600))
    assert inside.logins == ("alice", "root")
    assert shaped(order(*roles, now=at(19), ttl_s=3600)).logins == ("alice",)


def test_a_certificate_ends_when_hours_take_a_login_away() -> None:
    office = role("office", "root", when=OFFICE)
    assert shaped(order(office, now=at(17), ttl_s=7200)).valid_before == at(18)
    assert shaped(order(office, now=at(12), ttl_s=3600)).valid_before == at(13)
    # The login stays by another role: nothing is lost at six.
    both = (office, role("base", "root"))
    assert shaped(order(*both, now=at(17), ttl_s=7200)).valid_before == at(19)
    # Hours of a deny begin.
    night = role("night", deny=("root",), when=[TimeWindow(hours="18:00-06:00")])
    assert shaped(order(role("base", "root"), night, now=at(17), ttl_s=7200)).valid_before == at(18)
    assert shaped(order(role("base", "root", "al"), night, now=at(19), ttl_s=3600)).logins == ("al",)


def test_what_begins_later_cuts_nothing() -> None:
    roles = (role("base", "alice"), role("office", "root", when=OFFICE))
    spec = shaped(order(*roles, now=at(7), ttl_s=7200))
    assert (spec.logins, spec.valid_before) == (("alice",), at(9))


def test_a_role_gives_its_logins_in_its_networks_only() -> None:
    roles = (role("base", "alice"), role("office", "root", source=["10.0.0.0/8"]))
    assert shaped(order(*roles, now=at(12), client_addr="10.1.1.1")).logins == ("alice", "root")
    for elsewhere in ("192.0.2.1", ""):
        assert shaped(order(*roles, now=at(12), client_addr=elsewhere)).logins == ("alice",)


@pytest.mark.parametrize(("hour", "logins"), [(12, ("root",)), (19, ())])
def test_a34_a_renewal_asks_the_hours_anew(hour: int, logins: tuple[str, ...]) -> None:
    office = role("r", "root", when=OFFICE)
    before = identity(expires_at=at(23), logins=("root",))
    spec = shaped(order(office, now=at(hour), ttl_s=1800, previous=before))
    assert tuple(login for login in spec.logins if not login.startswith("no-login-")) == logins


def test_a34_a_renewal_gets_no_login_that_its_origin_had_not() -> None:
    office = role("r", "root", when=OFFICE)
    before = identity(expires_at=at(23), logins=("no-login-x",))
    spec = shaped(order(office, now=at(12), ttl_s=1800, previous=before))
    assert all(login.startswith("no-login-") for login in spec.logins)

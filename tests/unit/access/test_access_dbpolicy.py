"""`allow.db` of roles: what a database session is held to over all roles, and where that is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.explaining.explain import as_if, explain, told
from pkgs.common.access.protocols.dbpolicy import fields, strictest
from pkgs.common.access.types import ConnectDatabase, Decision, Subject
from pkgs.common.resources.role import UNRESTRICTED, DbConditions, DbMask, Role, TimeWindow
from tests.harness.examples import examples
from tests.unit.access.access_kit import ENV, NOW, STAR, ask, database, role

ALL = {"db_labels": STAR, "db_users": ["*"], "db_names": ["*"]}
PROD = database({"env": "prod"})
EMAIL = DbMask(column="email", table="customers")
READ_ONLY = DbConditions(read_only=True)
NEVER = [TimeWindow(days=["mon" if NOW // 86400 % 7 != 4 else "tue"], hours="00:00-00:01")]


def free(name: str = "free") -> Role:
    return role(name, ALL)


def restricting(db: DbConditions, name: str = "careful", **allow: Any) -> Role:
    return role(name, {"db": db, **allow})


def connect(*roles: Role, user: str = "app", db: Any = PROD) -> Decision:
    return ask(list(roles), ConnectDatabase(db, user, "orders"))


def test_a_role_without_restrictions_lifts_none() -> None:
    for roles in ([free(), restricting(READ_ONLY, **ALL)], [restricting(READ_ONLY, **ALL), free()]):
        decision = connect(*roles)
        assert decision and decision.restrictions == READ_ONLY
    assert connect(free()).restrictions == UNRESTRICTED


@pytest.mark.parametrize(
    ("allow", "counts"),
    [
        ({}, True),
        ({"db_labels": {"env": "prod"}}, True),
        ({"db_labels": {"env": "dev"}}, False),
        ({"db_labels_expression": 'labels["env"] == "prod"'}, True),
        ({"db_labels_expression": 'labels["env"] == "dev"'}, False),
        ({"db_users": ["app"]}, True),
        ({"db_users": ["other"]}, False),
        ({"db_users": ["{{external.nothing}}"]}, False),
        ({"db_names": ["orders"]}, True),
        ({"db_names": ["Orders"]}, False),
        ({"db_labels": {"env": "prod"}, "db_users": ["other"]}, False),
        ({**ALL, "namespaces": ("elsewhere",)}, False),
        # Hours and networks take grants away, never what restricts.
        ({**ALL, "when": NEVER}, True),
        ({**ALL, "source": ["192.0.2.0/24"]}, True),
    ],
)
def test_a_role_counts_where_it_is_about_the_database(allow: dict[str, Any], counts: bool) -> None:
    decision = connect(free(), restricting(READ_ONLY, **allow))
    assert decision and decision.restrictions == (READ_ONLY if counts else UNRESTRICTED)


def test_names_count_where_the_protocol_has_such() -> None:
    elsewhere = restricting(READ_ONLY, db_names=["elsewhere"])
    assert connect(free(), elsewhere, db=database(protocol="mysql")).restrictions == READ_ONLY
    assert connect(free(), elsewhere).restrictions == UNRESTRICTED


def test_users_made_on_demand_are_restricted_whatever_users_a_role_allows() -> None:
    making = role("making", {**ALL, "db_roles": ["reader"]}, create_db_user_mode="keep")
    decision = connect(making, restricting(READ_ONLY, db_users=["somebody"]), user="")
    assert decision.principals["db_roles"] == ("reader",) and decision.restrictions == READ_ONLY


def test_a_restriction_in_deny_refuses() -> None:
    """It cannot be created; whoever has one all the same did not mean to be let in without it."""
    wrong = role("wrong", ALL, {"db": READ_ONLY})
    assert connect(free(), wrong).reasons == ("role wrong: deny.db: restrictions are for allow",)


def test_explanations_name_the_role_and_what_it_comes_to() -> None:
    roles = [
        free(),
        restricting(DbConditions(mask=(EMAIL, DbMask(column="*_token", text="x")), rows_max=9), "masked"),
        restricting(READ_ONLY, "elsewhere", db_labels={"env": "dev"}),
    ]
    subject = Subject(as_if("alice", roles, {}, "demo", ENV), tuple(roles))
    found = told(explain(subject, ConnectDatabase(PROD, "app", "orders"), ENV), subject, "db app@orders")
    words = ["mask customers.email", "mask *.*_token as 'x'", "rows_max 9"]
    assert found.principals["db"] == words
    assert found.conditions == [f"role masked restricts what the session may do: {', '.join(words)}"]
    assert f"restricts db: {', '.join(words)}" in found.lines()
    assert list(fields(DbConditions(mask=(EMAIL,), rows_max=9))) == ["db.mask", "db.rows_max"]


LIMITS = st.integers(0, 3)
MASKS = st.builds(DbMask, column=st.sampled_from("abc"), text=st.sampled_from(["***", "x"]))
RESTRICTIONS = st.builds(
    DbConditions,
    read_only=st.booleans(),
    mask=st.lists(MASKS, max_size=3).map(tuple),
    mask_computed=st.booleans(),
    rows_max=LIMITS,
    bytes_max=LIMITS,
)


@settings(max_examples=examples(200))
@given(st.lists(RESTRICTIONS, max_size=4), RESTRICTIONS, st.randoms())
def test_one_more_role_only_restricts_and_order_does_not_matter(
    held: list[DbConditions], more: DbConditions, random: Any
) -> None:
    roles = [restricting(found, f"role-{number}") for number, found in enumerate(held)]
    before, after = strictest(roles), strictest([*roles, restricting(more, "zzz")])
    for found in (before, more):
        assert after.read_only >= found.read_only and set(after.mask) >= set(found.mask)
        assert after.mask_computed >= (found.mask_computed and bool(found.mask))
        for name in ("rows_max", "bytes_max"):
            limit = getattr(found, name)
            assert not limit or 0 < getattr(after, name) <= limit
    shuffled = random.sample(roles, len(roles))
    assert strictest(shuffled) == before
    assert msgspec.convert(msgspec.to_builtins(before), DbConditions) == before

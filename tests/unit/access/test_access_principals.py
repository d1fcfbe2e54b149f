"""The lists of names in certificates, each kind against a naive reading of the rules."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.options.principals import PrincipalKind, logins_for, principals_for
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.resources.role import Role
from tests.harness.examples import examples
from tests.unit.access.access_kit import role
from tests.unit.access.role_kit import only

KINDS: tuple[PrincipalKind, ...] = get_args(PrincipalKind)
WITH_WILDCARD = {"db_users", "db_names"}
TRAITS = {"names": ("mira", "noor"), "star": ("*",), "none": (), "odd": ("a\nb", "", "dev")}


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_union_minus_deny(self, kind: PrincipalKind) -> None:
        roles = [
            role("a", {kind: ["{{external.names}}", "x"]}),
            role("b", {kind: ["y"]}, {kind: ["noor"]}),
        ]
        assert principals_for(kind, roles, TRAITS, 60) == ("mira", "x", "y")
        assert principals_for(kind, roles[::-1], TRAITS, 60) == ("mira", "x", "y")
        assert principals_for(kind, [], TRAITS, 60) == ()

    def test_only_roles_that_permit_the_life_give(self, kind: PrincipalKind) -> None:
        short = role("a", {kind: ["x"]}, {kind: ["z"]}, max_session_ttl="1h")
        long = role("b", {kind: ["y", "z"]}, max_session_ttl="0")
        assert principals_for(kind, [short, long], {}, 3600) == ("x", "y")
        assert principals_for(kind, [short, long], {}, 3601) == ("y",)
        with pytest.raises(DeniedError, match="live so long"):
            principals_for(kind, [short], {}, 3601)
        assert principals_for(kind, [role("a", max_session_ttl="1h")], {}, 3601) == ()

    def test_a_role_that_is_not_in_force_gives_nothing_and_still_denies(self, kind: PrincipalKind) -> None:
        roles = [role("a", {kind: ["x", "y"]}), role("b", {kind: ["z"]}, {kind: ["y"]})]
        assert principals_for(kind, roles, {}, 60, only("a")) == ("x",)
        assert principals_for(kind, roles, {}, 60, only()) == ()

    def test_a25_no_wildcard_comes_from_a_trait(self, kind: PrincipalKind) -> None:
        assert principals_for(kind, [role("a", {kind: ["{{external.star}}"]})], TRAITS, 60) == ()
        written = principals_for(kind, [role("a", {kind: ["*"]})], TRAITS, 60)
        assert written == (("*",) if kind in WITH_WILDCARD else ())

    def test_a_deny_of_everything_leaves_nothing(self, kind: PrincipalKind) -> None:
        for star in ("*", "{{external.star}}"):
            roles = [role("a", {kind: ["x"]}), role("b", deny={kind: [star]})]
            # Of ARNs there is no wildcard at all.
            assert principals_for(kind, roles, TRAITS, 60) == (("x",) if kind == "aws_role_arns" else ())

    def test_a25_what_is_no_name_is_dropped(self, kind: PrincipalKind) -> None:
        assert principals_for(kind, [role("a", {kind: ["{{external.odd}}"]})], TRAITS, 60) == ("dev",)
        assert principals_for(kind, [role("a", {kind: ["{{external.none}}"]})], TRAITS, 60) == ()

    def test_an_allow_of_another_namespace_gives_nothing(self, kind: PrincipalKind) -> None:
        assert principals_for(kind, [role("a", {kind: ["x"], "namespaces": ("other",)})], {}, 60) == ()


def test_logins_that_exist_for_a_shorter_life_only_are_refused_and_not_left_out() -> None:
    roles = [role("a", {"logins": ["root"]}, max_session_ttl="1h"), role("b")]
    with pytest.raises(DeniedError, match="live so long"):
        logins_for(roles, {}, 7200)
    # Of other kinds the certificate then simply has none.
    others = [role("a", {"db_users": ["x"]}, max_session_ttl="1h"), role("b")]
    assert principals_for("db_users", others, {}, 7200) == ()
    assert logins_for([*roles, role("c", deny={"logins": ["root"]})], {}, 7200) == ()


def test_a_template_that_is_not_understood_gives_nobody_logins() -> None:
    with pytest.raises(InputError):
        logins_for([role("a", {"logins": ["x"]}), role("b", deny={"logins": ["{{internal.nope}}"]})], {}, 60)


@pytest.mark.parametrize("name", list('"/\\[]:;|=,+*?<>'))
def test_windows_logins_with_forbidden_characters_are_dropped(name: str) -> None:
    roles = [role("a", {"windows_desktop_logins": [f"a{name}b", "{{external.x}}", "Some One"]})]
    assert principals_for("windows_desktop_logins", roles, {"x": (name,)}, 60) == ("Some One",)


def test_azure_identities_are_one_whatever_their_letter_case() -> None:
    roles = [
        role("a", {"azure_identities": ["/Sub/A", "/sub/a", "/sub/b"]}, {"azure_identities": ["/SUB/B"]})
    ]
    assert principals_for("azure_identities", roles, {}, 60) == ("/Sub/A",)
    exact = [role("a", {"db_users": ["Root", "root"]}, {"db_users": ["ROOT"]})]
    assert principals_for("db_users", exact, {}, 60) == ("Root", "root")


ENTRIES = st.lists(st.sampled_from(["x", "y", "z", "{{external.names}}", "{{external.none}}"]), max_size=3)
TTLS = st.sampled_from(["0", "1h", "8h"])


@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(ENTRIES, ENTRIES, TTLS, st.booleans()), max_size=4),
    st.sampled_from([60.0, 7200.0]),
)
@settings(max_examples=examples(200))
def test_against_a_naive_reading(kind: PrincipalKind, drawn: list[Any], ttl_s: float) -> None:
    roles: list[Role] = [
        role(f"r{i}", {kind: allow}, {kind: deny}, max_session_ttl=ttl)
        for i, (allow, deny, ttl, _) in enumerate(drawn)
    ]
    on = {f"r{i}" for i, (*_, in_force) in enumerate(drawn) if in_force}
    meaning = {"{{external.names}}": {"mira", "noor"}, "{{external.none}}": set()}
    denied = {v for _, deny, _, _ in drawn for entry in deny for v in meaning.get(entry, {entry})}
    allowed: set[str] = set()
    some, covered = False, False
    for i, (allow, _, ttl, _) in enumerate(drawn):
        values = {v for entry in allow for v in meaning.get(entry, {entry})} - denied
        values = values if f"r{i}" in on else set()
        some = some or bool(values)
        if ttl == "0" or {"1h": 3600, "8h": 28800}[ttl] >= ttl_s:
            covered = True
            allowed |= values
    if some and not covered:
        with pytest.raises(DeniedError):
            principals_for(kind, roles, TRAITS, ttl_s, only(*on))
    else:
        assert principals_for(kind, roles, TRAITS, ttl_s, only(*on)) == tuple(sorted(allowed))

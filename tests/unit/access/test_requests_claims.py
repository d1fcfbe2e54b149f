"""Which role names an entry means, in an allow and in a deny."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.access.matching.matchers import compile_entry
from pkgs.common.access.requests.claims import claim_matchers
from pkgs.common.errors import InputError
from pkgs.common.resources.role import ClaimToRoles


@pytest.mark.parametrize(
    ("text", "name", "surely", "possibly"),
    [
        ("dba", "dba", True, True),
        ("dba", "DBA", False, False),
        ("dba", "dba2", False, False),
        ("db.", "dba", False, False),
        ("db*", "dba", True, True),
        ("*", "anything", True, True),
        ("db*x", "db\nx", True, True),
        ("^db[0-9]$", "db1", True, True),
        ("^db[0-9]$", "db1x", False, False),
        ("", "", False, False),
        ("", "x", False, False),
        ('{{regexp.match("^db-.*$")}}', "db-1", True, True),
        ('{{regexp.match("^db-.*$")}}', "xdb-1", False, False),
        ("{{regexp.match(`db`)}}", "db", True, True),
        ('{{regexp.match("db")}}', "mydbx", False, True),
        ('{{regexp.match("a|b")}}', "ax", False, True),
        ('{{regexp.not_match("admin")}}', "dba", True, True),
        ('{{regexp.not_match("admin")}}', "admin", False, False),
        ('{{regexp.not_match("admin")}}', "sysadmin", False, True),
        ('team-{{regexp.match("[a-z]+")}}-ro', "team-blue-ro", True, True),
        ('team-{{regexp.match("[a-z]+")}}-ro', "team-blue-rw", False, False),
        ('team-{{regexp.not_match("blue")}}', "other", False, False),
        ('ab{{regexp.match(".*")}}ba', "aba", False, False),
        ('{{ regexp.match( "a\\"b" ) }}', 'a"b', True, True),
    ],
)
def test_names(text: str, name: str, surely: bool, possibly: bool) -> None:
    matcher = compile_entry(text)
    assert (matcher.surely(name), matcher.possibly(name)) == (surely, possibly)


@pytest.mark.parametrize(
    "text",
    [
        "{{internal.logins}}",
        "{{regexp.match(internal.logins)}}",
        '{{regexp.match("(")}}',
        '{{regexp.match("a")',
        'regexp.match("a")}}',
        '{{regexp.match("a")}}{{regexp.match("b")}}',
        '{{regexp.replace("a", "b", "c")}}',
        "^($",
        "x" * 1001,
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        compile_entry(text)


def test_a24_patterns_take_linear_time() -> None:
    for text in ("^(a+)+$", '{{regexp.match("(a+)+b")}}'):
        assert not compile_entry(text).surely("a" * 50_000 + "!")


def claims(value: str, *roles: str, **traits: tuple[str, ...]) -> set[str]:
    found = claim_matchers([ClaimToRoles(claim="groups", value=value, roles=list(roles))], traits)
    return {matcher.text for matcher in found}


def test_claims_with_captures() -> None:
    groups = ("team-blue", "team-red", "other", "team-*")
    assert claims("team-*", "$1-ops", groups=groups) == {"blue-ops", "red-ops", "*-ops"}
    assert claims("^team-(?P<who>[a-z]+)$", "${who}", groups=groups) == {"blue", "red"}
    assert claims("team-blue", "a", "b-*", groups=groups) == {"a", "b-*"}
    assert claims("team-blue", "a", other=groups) == set()
    assert claims("team-blue", "$9", groups=groups) == set()


def test_a25_a_captured_name_is_no_pattern() -> None:
    for value in ("*", "^.*$", '{{regexp.match(".*")}}'):
        (matcher,) = claim_matchers([ClaimToRoles(claim="g", value="*", roles=["$1"])], {"g": (value,)})
        assert not matcher.surely("admin") and not matcher.possibly("admin")
        assert matcher.surely(value)


@pytest.mark.parametrize("roles", [["x-*-$1"], ["^$1x$"], ['{{regexp.match("$1x")}}'], ["^($"]])
def test_claims_that_are_not_understood(roles: list[str]) -> None:
    with pytest.raises(InputError):
        claim_matchers([ClaimToRoles(claim="g", value="*", roles=roles)], {})


@given(st.text(alphabet='ab*^$.|(){}"`regxpmatcno_', max_size=30), st.text(alphabet="ab-", max_size=6))
def test_what_grants_also_refuses(text: str, name: str) -> None:
    """The narrower reading never says yes where the wider one says no."""
    try:
        matcher = compile_entry(text)
    except InputError:
        return
    assert not matcher.surely(name) or matcher.possibly(name)


@given(
    st.sampled_from(["match", "not_match"]),
    st.sampled_from(["a", "a|b", "^a", "b$", "a.*b", "^a|b$", ""]),
    st.text(alphabet="ab", max_size=5),
)
def test_functions_read_both_ways(function: str, pattern: str, name: str) -> None:
    matcher = compile_entry(f'{{{{regexp.{function}("{pattern}")}}}}')
    assert not matcher.surely(name) or matcher.possibly(name)

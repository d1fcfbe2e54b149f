"""Matcher of names, and patterns beneath them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.matching.matchers import allows, compile_matcher
from pkgs.common.access.matching.patterns import compile_pattern, compile_regex
from pkgs.common.errors import InputError
from tests.harness.examples import examples
from tests.harness.pace import assert_takes_under

NAMES = ("dev", "devops", "dev-1", "dev-2", "prod", "test", "pretest", "a.b", "aXb", "x-dev-y", "x-prod-y")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("dev", {"dev"}),
        ("a.b", {"a.b"}),
        ("*", set(NAMES)),
        ("dev*", {"dev", "devops", "dev-1", "dev-2"}),
        ("*test", {"test", "pretest"}),
        ("a.*", {"a.b"}),
        ("^dev-[0-9]$", {"dev-1", "dev-2"}),
        # The anchors hold one branch each.
        ("^dev|test$", {"dev", "devops", "dev-1", "dev-2", "test", "pretest"}),
        ("^(dev|test)$", {"dev", "test"}),
        ("^dev", set()),
        ("dev$", set()),
        ('{{regexp.match("^dev-.$")}}', {"dev-1", "dev-2"}),
        # Of what grants the whole name must match.
        ('{{regexp.match("dev")}}', {"dev"}),
        ("{{ regexp.match( `^(dev|prod)$` ) }}", {"dev", "prod"}),
        ('{{regexp.not_match("dev|test")}}', {"prod", "a.b", "aXb", "x-prod-y"}),
        ('x-{{regexp.match("^dev$")}}-y', {"x-dev-y"}),
        ('x-{{regexp.not_match("^dev$")}}-y', {"x-prod-y"}),
        ('{{regexp.match("a\\\\.b")}}', {"a.b"}),
    ],
)
def test_what_an_entry_means(entry: str, expected: set[str]) -> None:
    matchers = compile_matcher([entry])
    assert {name for name in NAMES if matchers.matches(name)} == expected
    assert not matchers.matches("")


@pytest.mark.parametrize(
    "entry",
    [
        "{{internal.logins}}",
        "{{regexp.match(external.x)}}",
        '{{regexp.match("(")}}',
        '{{regexp.match("a", "b")}}',
        '{{regexp.match("a")}}{{regexp.match("b")}}',
        '{{regexp.other("a")}}',
        '{{regexp.match("a")',
        "a}}",
        "^($",
        "x" * 2000 + "*",
        '{{regexp.match("' + "x" * 2000 + '")}}',
    ],
)
def test_what_is_no_matcher(entry: str) -> None:
    with pytest.raises(InputError):
        compile_matcher([entry])


def test_what_refuses_is_read_the_wider_way() -> None:
    wide = compile_matcher(['{{regexp.match("dev")}}'], deny=True)
    assert {name for name in NAMES if wide.matches(name)} == {"dev", "devops", "dev-1", "dev-2", "x-dev-y"}
    but = compile_matcher(['{{regexp.not_match("dev")}}'], deny=True)
    assert {name for name in NAMES if not but.matches(name)} == {"dev"}


def test_any_entry_is_enough_and_deny_wins() -> None:
    allow, deny = compile_matcher(["dev*", "prod"]), compile_matcher(["dev-*"])
    assert [name for name in NAMES if allows(allow, deny, name)] == ["dev", "devops", "prod"]
    nothing = compile_matcher([])
    assert not nothing
    assert allow
    assert not any(allows(nothing, nothing, name) for name in NAMES)


def test_a25_what_comes_out_of_a_trait_is_a_plain_name() -> None:
    traits = {
        "t": ("*", "^.*$", '{{regexp.match(".*")}}', "{{internal.logins}}", "", "prod"),
        "logins": ("dev",),
    }
    matchers = compile_matcher(["{{external.t}}"], traits)
    assert [name for name in NAMES if matchers.matches(name)] == ["prod"]
    assert matchers.matches("*")
    denied = compile_matcher(["{{external.t}}"], {"t": ("dev*",)}, deny=True)
    assert [name for name in NAMES if denied.matches(name)] == ["dev", "devops", "dev-1", "dev-2"]
    assert not compile_matcher(["{{external.none}}"], {}).matches("dev")
    with pytest.raises(InputError):
        compile_matcher(["{{external.t}}"])


def test_a24_no_pattern_takes_more_than_linear_time() -> None:
    text = "a" * 50_000 + "!"

    def match() -> None:
        for entry in ("^(a+)+$", '{{regexp.match("^(a|a)*$")}}', "*a*a*a*a*b"):
            assert not compile_matcher([entry]).matches(text)

    assert_takes_under(2.0, match)


def test_a_regular_expression_without_anchors_is_sought_anywhere() -> None:
    assert compile_regex("dev").search("x-dev-y")
    assert not compile_pattern("dev").search("x-dev-y")


@given(st.text(max_size=12), st.text(max_size=12))
def test_a_name_without_pattern_or_braces_means_itself(entry: str, other: str) -> None:
    if "*" in entry or "{{" in entry or "}}" in entry or (entry.startswith("^") and entry.endswith("$")):
        return
    matchers = compile_matcher([entry])
    assert matchers.matches(entry) is bool(entry)
    assert matchers.matches(other) is (other == entry and bool(other))


@given(st.lists(st.sampled_from(["a", "b", "*", "x"]), min_size=1, max_size=5), st.text("abxc", max_size=8))
def test_globs_against_a_naive_reading(parts: list[str], text: str) -> None:
    def naive(pattern: str, rest: str) -> bool:
        if not pattern:
            return not rest
        if pattern[0] == "*":
            return any(naive(pattern[1:], rest[i:]) for i in range(len(rest) + 1))
        return bool(rest) and rest[0] == pattern[0] and naive(pattern[1:], rest[1:])

    glob = "".join(parts)
    assert compile_matcher([glob]).matches(text) is (bool(text) and naive(glob, text))


@pytest.mark.fuzz
@given(st.text(max_size=60), st.text(max_size=20))
@settings(max_examples=examples(100))
def test_any_entry_compiles_or_is_refused(entry: str, text: str) -> None:
    for candidate in (entry, "{{regexp.match(" + entry + ")}}", '{{regexp.not_match("' + entry + '")}}'):
        try:
            compile_matcher([candidate], {"x": (text,)}).matches(text)
        except InputError:
            continue

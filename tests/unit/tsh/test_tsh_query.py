"""`--query`, label arguments, one-time codes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.clients.tsh.login.totp import code
from pkgs.clients.tsh.servers.nodes import parse_labels, split_commas
from pkgs.clients.tsh.servers.query import compile_query
from pkgs.common.errors import InputError

LABELS = {"env": "prod", "team": "web,db", "role": "front"}


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ('labels["env"] == "prod"', True),
        ('labels["env"] != "prod"', False),
        ("labels.env == `prod`", True),
        ('resource.metadata.labels["env"] == "prod"', True),
        ('name == "web-1" && labels["env"] == "prod"', True),
        ('name == "x" || labels["role"] == "front"', True),
        ('!exists(labels["nope"]) && exists(labels["env"])', True),
        ('!(name == "web-1")', False),
        ('hasPrefix(name, "web") && !hasPrefix(name, "db")', True),
        ('equals(name, "web-1")', True),
        ('contains(split(labels["team"], ","), "db")', True),
        ('contains(split(labels["team"], ","), "b")', False),
        ('search("WEB", "prod")', True),
        ('search("web", "nothing")', False),
        ('labels["nope"] == ""', False),
        ('name == "a\\"b"', False),
        ('labels["env"] == "prod" || name == "x" && name == "y"', True),
    ],
)
def test_queries(query: str, holds: bool) -> None:
    assert compile_query(query)("web-1", LABELS) is holds


@pytest.mark.parametrize(
    "query",
    [
        "",
        "name",
        "name ==",
        '== "x"',
        'name == "x" &&',
        'foo == "x"',
        'labels[env] == "x"',
        "name == 'x'",
        "(",
        ")",
        "exists()",
        "equals(name)",
        'name == "x" )',
        "!" * 100 + "exists(name)",
        "x" * 5000,
        'contains(name, "x")',
    ],
)
def test_what_is_not_understood_is_said(query: str) -> None:
    with pytest.raises(InputError, match="--query"):
        compile_query(query)


@pytest.mark.fuzz
@given(st.text(alphabet='name labels[]"&|!()=.,x`\\', max_size=60))
@settings(max_examples=100)
def test_any_text_is_a_query_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        compile_query(text)("n", {})


def test_label_arguments() -> None:
    assert parse_labels("a=1,b=two words, c=") == {"a": "1", "b": "two words", "c": ""}
    assert parse_labels('a="1,2",b=3') == {"a": "1,2", "b": "3"}
    assert parse_labels("") == {}
    assert split_commas('foo,bar,"some phrase"') == ["foo", "bar", "some phrase"]
    for bad in ("a", "=1", "a=1,b"):
        with pytest.raises(InputError, match="label"):
            parse_labels(bad)


def test_codes_of_rfc_6238() -> None:
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert code(secret, 59) == "287082"
    assert code(secret, 1111111109) == "081804"
    assert code(secret.lower().rstrip("="), 20000000000) == "353130"

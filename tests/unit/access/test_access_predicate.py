"""The predicate language: what it says, how it refuses, that it is bounded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.contexts.labelexpr import compile_label_expression, parse_label_expression
from pkgs.common.access.contexts.query import compile_query
from pkgs.common.access.predicate import parser
from pkgs.common.access.predicate.faults import MAX_DEPTH, MAX_LENGTH
from pkgs.common.access.predicate.lexer import tokens
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import CommandLabel, Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from tests.harness.examples import examples
from tests.harness.pace import assert_takes_under

TRAITS = {
    "team": ("blue", "red"),
    "env": ("prod",),
    "email": ("alice@example.com",),
    "odd": ("no address",),
    "hosts": ("web-1", "web-2", "db-1"),
}
LABELS = {"env": "prod", "team": "blue", "owner": "alice", "zone": "EU-west", "empty": "", "n/x-1": "v"}
NODE = Node(
    metadata=Metadata(name="11111111-2222-4333-8444-555555555555", labels=LABELS, description="the Front"),
    spec=ServerSpec(
        hostname="web-1",
        addr="10.0.0.1:22",
        public_addrs=["web.example.com"],
        cmd_labels={"load": CommandLabel(command=["x"], result="low")},
        use_tunnel=True,
    ),
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('labels["env"] == "prod"', True),
        ("labels.env == `prod`", True),
        ('labels["n/x-1"] != "v"', False),
        ('labels["nothing"] == ""', True),
        ('contains(user.spec.traits["team"], labels["team"])', True),
        ('contains(user.spec.traits["nothing"], labels["team"])', False),
        ('contains(user.spec.traits["nothing"], labels["nothing"])', False),
        ('contains(labels["env"], "prod")', True),
        ('contains_any(user.spec.traits["env"], set("dev", "prod"))', True),
        ('contains_any(user.spec.traits["env"], ["dev", "test"])', False),
        ('contains_any(user.spec.traits["nothing"], labels["nothing"])', False),
        ('contains_any(labels["env"], user.spec.traits.env)', True),
        ('contains_all(user.spec.traits["team"], set("red", "blue"))', True),
        ('contains_all(user.spec.traits["team"], set("red", "green"))', False),
        ('contains_all(user.spec.traits["team"], set())', False),
        ('contains_all(set(), set("x"))', False),
        ('regexp.match(labels["zone"], "EU-*")', True),
        ('regexp.match(labels["zone"], "eu-*")', False),
        ('regexp.match(strings.lower(labels["zone"]), "^eu-(west|east)$")', True),
        ('regexp.match(labels["nothing"], "*")', False),
        ('regexp.match(user.spec.traits["hosts"], "db-*")', True),
        ('regexp.replace(labels["zone"], "^EU-(.*)$", "$1") == "west"', True),
        ('regexp.replace(labels["zone"], "^US-(.*)$", "$1") == ""', True),
        ('contains(regexp.replace(user.spec.traits["hosts"], "^web-(.*)$", "w$1"), "w2")', True),
        ('email.local(user.spec.traits["email"]) == set("alice")', True),
        ('contains(email.local(user.spec.traits["email"]), labels["owner"])', True),
        ('email.local(labels["nothing"]) == ""', True),
        ('strings.upper(labels["env"]) == "PROD"', True),
        ('strings.upper(user.spec.traits["env"]) == set("PROD")', True),
        ('contains_any(labels_matching("e*"), "prod")', True),
        ('labels_matching("nope*") == set()', True),
        ('union(user.spec.traits["team"], labels["env"]) == set("prod", "red", "blue")', True),
        ('user.spec.traits["team"] != set("red", "blue")', False),
        ('has_prefix(labels["zone"], "EU") && !exists(labels["empty"])', True),
        ('is_empty(user.spec.traits["nothing"]) || labels["env"] == "x"', True),
        ('labels["env"] == "x" || labels["env"] == "prod" && labels["team"] == "red"', False),
        ('(labels["env"] == "prod" || labels["env"] == "x") && labels["team"] == "blue"', True),
        ('!(labels["env"] == "prod") || !!(labels["team"] == "blue")', True),
        ('!labels["env"] == "prod"', False),
        ('labels["env"] == "a" || labels["env"] == "b" || labels["env"] == "prod"', True),
        ('labels["env"] == "prod" && labels["team"] == "blue" && labels["owner"] == "bob"', False),
        ('"a\\"b" == `a"b`', True),
        ('regexp.match("a.b", "^a\\.b$")', True),
        ('contains(split("a,b", ","), "b")', True),
        ('split(labels["nothing"], ",") == set()', True),
    ],
)
def test_label_expressions(text: str, holds: bool) -> None:
    for deny in (False, True):
        assert compile_label_expression(text, TRAITS, deny=deny)(LABELS) is holds


@pytest.mark.parametrize(
    "text",
    [
        'contains(email.local(user.spec.traits["odd"]), "x")',
        'labels["env"] == "prod" && !contains(email.local(user.spec.traits["odd"]), "x")',
        'contains(split(labels["env"], labels["nothing"]), "x")',
        'email.local(labels["env"]) == "x"',
    ],
)
def test_what_a_function_refuses_never_allows_and_always_denies(text: str) -> None:
    assert compile_label_expression(text, TRAITS, deny=False)(LABELS) is False
    assert compile_label_expression(text, TRAITS, deny=True)(LABELS) is True


@pytest.mark.parametrize(
    "text",
    [
        'contains(user.spec.traits["x"], labels["team"])',
        'contains_any(user.spec.traits["x"], labels["team"])',
        'contains_any(user.spec.traits["x"], set(labels["team"], labels["env"]))',
        'contains_all(user.spec.traits["x"], set(labels["team"]))',
        'regexp.match(labels["team"], "*")',
        'contains(strings.lower(user.spec.traits["x"]), labels["team"])',
    ],
)
@pytest.mark.parametrize("values", [("",), ("*",), ("^.*$",), ("", "*"), ("{{external.team}}",)])
def test_no_trait_opens_what_lacks_the_label(text: str, values: tuple[str, ...]) -> None:
    """Attack A25: neither an empty value nor a pattern, on either side."""
    holds = compile_label_expression(text, {"x": values, "team": ("blue",)}, deny=False)
    assert not holds({})
    assert not holds({"team": ""})
    if not text.startswith("regexp"):
        assert not holds({"team": "blue"})


def test_a_refusal_counts_only_where_it_is_asked_for() -> None:
    text = 'labels["env"] == "prod" || contains(email.local(user.spec.traits["odd"]), "x")'
    assert compile_label_expression(text, TRAITS, deny=False)(LABELS) is True


@pytest.mark.parametrize(
    ("text", "character", "says"),
    [
        ('lables["env"] == "x"', 1, "did you mean labels?"),
        ('labels["env"] == "x" && user.spec.trait["x"] == set()', 25, "did you mean user.spec.traits?"),
        ('contain(labels["env"], "x")', 1, "did you mean contains"),
        ('labels["env"] = "x"', 15, "write == to compare"),
        ('labels["env"] == "x" & labels["a"] == "b"', 22, "write &&"),
        ("labels[env] == `x`", 8, "a key in quotes"),
        ("labels['env'] == `x`", 8, '"double quotes"'),
        ('labels["env"] == "x', 18, "the string does not end"),
        ('labels["env"]', 1, "this is a string, expected true or false"),
        ('labels == "x"', 1, "name one key in brackets"),
        ('!labels["env"]', 2, "! takes true or false"),
        ('labels["a"] == user.spec.traits["b"]', 13, "use contains(list, string)"),
        ('contains(user.spec.traits["a"], set("x"))', 33, "takes a string here, this is a list"),
        ("contains(user.spec.traits, `x`)", 10, "takes a list or a string here"),
        ('contains("a")', 1, "takes 2 arguments, found 1"),
        ("set(", 5, "found the end"),
        ('labels["a"] == "b" )', 20, "expected '&&', '||' or the end, found ')'"),
        ('regexp.match(labels["a"], "^(x$")', 27, "is not valid"),
        ('regexp.match(labels["a"], labels["b"])', 27, "a pattern written out"),
        ('resource.spec.hostname == "x"', 1, 'a label expression knows labels["key"]'),
        ("contains == `x`", 1, "contains is a function"),
        ('labels["a"]["b"] == "x"', 12, "expected '&&'"),
        ("", 1, "found the end"),
        ("\x00", 1, "means nothing here"),
        ("user.spec.traits.a.b == `x`", 1, "unknown name"),
        ("a." * 10 + "b == `x`", 1, "unknown name"),
        ("equals(`a`)", 1, "equals takes 2"),
        ('labels["a"] == "b" == "c"', 20, "expected '&&'"),
        ("equals(labels, `a`)", 8, "name one key"),
        ('labels["x"].y == "z"', 12, "expected '&&'"),
    ],
)
def test_errors_point_at_the_character(text: str, character: int, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_label_expression(text)
    message = caught.value.message
    assert message.startswith(f"at character {character}: "), message
    assert says in message
    _, shown, caret = message.split("\n")
    if text and character <= len(text) and text.isprintable():
        assert shown[len(caret) - 1] == text[character - 1]


def test_the_caret_is_right_far_into_a_long_expression() -> None:
    text = " || ".join(['labels["env"] == "prod"'] * 50) + ' || lable["x"] == "y" || labels["a"] == "b"'
    with pytest.raises(InputError) as caught:
        parse_label_expression(text)
    _, shown, caret = caught.value.message.split("\n")
    assert shown[len(caret) - 1 :].startswith("lable[")
    assert len(shown) < 100


def test_size_is_bounded() -> None:
    with pytest.raises(InputError, match=f"longer than {MAX_LENGTH}"):
        parse_label_expression("x" * (MAX_LENGTH + 1))
    for deep in ("(" * 1000, "!" * 1000, "set(" * 900, "[" * 1000):
        with pytest.raises(InputError, match=f"nested more than {MAX_DEPTH}"):
            parse_label_expression(deep)
    wide = " || ".join(["labels.a == `b`"] * 200)
    assert compile_label_expression(wide, {}, deny=False)({"a": "b"})


def test_time_is_linear() -> None:
    """Attack A24: no pattern and no nesting makes an expression slow."""
    value = "a" * 50_000

    def parse() -> None:
        for pattern in ("^(a+)+$", "^(a|a)*b$", "*a" * 100):
            compile_label_expression(f'regexp.match(labels["x"], "{pattern}")', {}, deny=False)({"x": value})
        for text in ('"' + "\\" * 4000, "`" * 4095, '"a' * 2000, "labels.a==`b`||" * 270):
            with contextlib.suppress(InputError):
                parse_label_expression(text)

    assert_takes_under(2, parse)


WORDS = st.sampled_from(
    [
        *(
            'labels["env"]',
            "labels",
            "labels.team",
            "user.spec.traits",
            '["team"]',
            '"prod"',
            "`blue`",
            "name",
        ),
        *("==", "!=", "&&", "||", "!", "(", ")", "[", "]", ",", ".", " ", "=", '"', "`", "\\", "é", "\n"),
        *(
            "contains(",
            "contains_any(",
            "set(",
            "regexp.match(",
            "regexp.replace(",
            "email.local(",
            "exists(",
        ),
        *("split(", "union(", "labels_matching(", "search(", "hasPrefix(", "resource.spec.use_tunnel"),
    ]
)
_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
EXAMPLES = int(200 + _SECONDS * 500)


@pytest.mark.fuzz
@given(st.one_of(st.lists(WORDS, max_size=25).map("".join), st.text(max_size=80)))
@settings(max_examples=EXAMPLES, deadline=None)
def test_fuzz_any_text_is_an_expression_or_an_input_error(text: str) -> None:
    """Whatever is accepted answers true or false, and nothing else comes out than an InputError."""
    with contextlib.suppress(InputError):
        assert compile_label_expression(text, TRAITS, deny=False)(LABELS) in (True, False)
    with contextlib.suppress(InputError):
        assert compile_query(text)(NODE) in (True, False)
    with contextlib.suppress(InputError):
        tokens(text)


# --- the same meaning by another way

_TEXTS = st.sampled_from(['labels["env"]', 'labels["team"]', 'labels["none"]', '"prod"', '"blue"', '""'])
_LISTS = st.sampled_from(
    [
        *('user.spec.traits["team"]', 'user.spec.traits["none"]', 'set("prod", "blue")', "set()"),
        *('email.local(user.spec.traits["odd"])', 'email.local(user.spec.traits["email"])'),
        *('labels_matching("*")', 'strings.upper(user.spec.traits["team"])'),
    ]
)
_BOTH = st.one_of(_TEXTS, _LISTS)
_LEAVES = st.one_of(
    st.tuples(_TEXTS, st.sampled_from(["==", "!="]), _TEXTS).map(" ".join),
    st.tuples(_LISTS, st.sampled_from(["==", "!="]), _LISTS).map(" ".join),
    st.tuples(_BOTH, _TEXTS).map(lambda two: f"contains({two[0]}, {two[1]})"),
    st.tuples(st.sampled_from(["contains_any", "contains_all"]), _BOTH, _BOTH).map(
        lambda three: f"{three[0]}({three[1]}, {three[2]})"
    ),
    _BOTH.map(lambda one: f"exists({one})"),
    st.tuples(_BOTH, st.sampled_from(["*", "pr*", "^b.*$"])).map(
        lambda two: f'regexp.match({two[0]}, "{two[1]}")'
    ),
)
EXPRESSIONS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' && '.join(parts)})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' || '.join(parts)})"),
        inner.map(lambda one: f"!({one})"),
    ),
    max_leaves=6,
)


class Refused(Exception):
    pass


def naive(text: str, traits: Mapping[str, tuple[str, ...]], labels: Mapping[str, str]) -> bool:
    """Walks the tree with the plainest Python there is; Refused where a function refuses."""

    def listed(value: Any) -> list[str]:
        return ([value] if value else []) if isinstance(value, str) else list(value)

    def local(value: str) -> str:
        if value.count("@") != 1 or value.startswith("@") or value.endswith("@"):
            raise Refused
        return value.split("@")[0]

    def glob(pattern: str, value: str) -> bool:
        return {"*": True, "pr*": value.startswith("pr"), "^b.*$": value.startswith("b")}[pattern]

    def walk(tree: parser.Tree) -> Any:
        if isinstance(tree, parser.Text):
            return tree.value
        if isinstance(tree, parser.Path):
            assert tree.key is not None
            return labels.get(tree.key, "") if tree.parts == ("labels",) else traits.get(tree.key, ())
        if isinstance(tree, parser.Compare):
            left, right = walk(tree.left), walk(tree.right)
            named = any(
                isinstance(side, parser.Text) or (isinstance(side, parser.Call) and side.name == "set")
                for side in (tree.left, tree.right)
            )
            if not left and not right and not named:
                raise Refused
            same = left == right if isinstance(left, str) else sorted(set(left)) == sorted(set(right))
            return same == tree.equal
        if isinstance(tree, parser.Not):
            return not walk(tree.inner)
        if isinstance(tree, parser.Every):
            return all(walk(part) for part in tree.parts)
        if isinstance(tree, parser.Either):
            return any(walk(part) for part in tree.parts)
        assert isinstance(tree, parser.Call)
        args = [walk(arg) for arg in tree.args]
        if tree.name == "set":
            return args
        if tree.name == "exists":
            return len(args[0]) > 0
        if tree.name == "strings.upper":
            return [item.upper() for item in args[0]]
        if tree.name == "email.local":
            return [local(item) for item in args[0]]
        if tree.name == "labels_matching":
            return list(labels.values())
        first = listed(args[0])
        if tree.name == "contains":
            return args[1] != "" and args[1] in first
        if tree.name == "regexp.match":
            return any(glob(args[1], item) for item in first)
        second = listed(args[1])
        if tree.name == "contains_any":
            return any(item in second for item in first if item)
        assert tree.name == "contains_all"
        return bool(first) and bool(second) and all(item and item in first for item in second)

    return bool(walk(parser.parse(text)))


@given(
    EXPRESSIONS,
    st.dictionaries(st.sampled_from(["env", "team"]), st.sampled_from(["prod", "blue", ""])),
    st.sampled_from([TRAITS, {}, {"team": ("prod",)}, {"team": ("", "blue")}]),
)
@settings(max_examples=examples(300), deadline=None)
def test_compiled_and_naive_evaluation_agree(
    text: str, labels: dict[str, str], traits: dict[str, tuple[str, ...]]
) -> None:
    for deny in (False, True):
        try:
            expected = naive(text, traits, labels)
        except Refused:
            expected = deny
        assert compile_label_expression(text, traits, deny=deny)(labels) is expected, text


@pytest.mark.parametrize("operator", ["==", "!="])
def test_a_written_out_value_that_a_function_refuses_denies_instead_of_failing(operator: str) -> None:
    """It is known to refuse before anybody asks; it may still do so only when asked."""
    for text in (
        f'labels["env"] {operator} email.local("nobody")',
        f'email.local("nobody") {operator} labels["env"]',
    ):
        assert compile_label_expression(text, TRAITS, deny=False)(LABELS) is False
        assert compile_label_expression(text, TRAITS, deny=True)(LABELS) is True

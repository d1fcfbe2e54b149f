"""Attack A22: what an id of a resource lets pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.access.matching.resource_ids import allows, format_id, parse
from pkgs.common.errors import InputError

GOOD = ["/demo/node/x", "/leaf.example/kube_cluster/prod", "/demo/app/a b", "/demo/pod/prod/default/web-1",
        "/demo/namespace/prod/default", "/demo/windows_desktop/w.x"]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_what_is_read_is_written_alike(text: str) -> None:
    assert format_id(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "demo/node/x", "/demo/node", "/demo/node/", "/demo//x", "//node/x", "/demo/node/x/y",
        "/demo/pod/prod", "/demo/pod/prod/a/b/c", "/demo/pod/prod//x", "/demo/node/..", "/demo/no-de/x",
        "/demo/node/x\n", "/demo/node/\x00", "/de mo/node/x", "/demo/node/x\\y", "*",
        "/demo/node/" + "x" * 1100, "/*/*/*", "/demo/nöde/x",
    ],
)  # fmt: skip
def test_a22_what_is_no_id_is_refused_and_lets_nothing_pass(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)
    assert not allows([text], "demo", "node", "x")


@pytest.mark.parametrize(
    ("kind", "name", "cluster", "passes"),
    [
        ("node", "x", "demo", True),
        ("node", "X", "demo", False),
        ("app", "x", "demo", False),
        ("node", "x", "leaf", False),
        ("node", "prod", "demo", False),
        ("kube_cluster", "prod", "demo", True),
        ("kube_cluster", "prod", "leaf", False),
        ("kube_cluster", "x", "demo", False),
        ("pod", "prod", "demo", False),
        ("db", "prod", "demo", False),
    ],
)
def test_a22_cluster_kind_and_name_are_equal(kind: str, name: str, cluster: str, passes: bool) -> None:
    ids = ["garbage", "/demo/node/x", "/demo/pod/prod/default/web"]
    assert allows(ids, cluster, kind, name) is passes
    assert not allows([], cluster, kind, name)


PARTS = st.text(alphabet="abc/.*\n\\ ", max_size=6)


@given(st.lists(st.tuples(PARTS, PARTS, PARTS), max_size=3), st.tuples(PARTS, PARTS, PARTS))
def test_a22_nothing_but_the_same_passes(
    ids: list[tuple[str, str, str]], target: tuple[str, str, str]
) -> None:
    texts = ["/" + "/".join(parts) for parts in ids]
    if allows(texts, *target):
        assert "/" + "/".join(target) in texts


@pytest.mark.fuzz
@given(st.text(max_size=60))
def test_reading_never_fails_otherwise(text: str) -> None:
    try:
        assert format_id(parse(text)) == text
    except InputError:
        return

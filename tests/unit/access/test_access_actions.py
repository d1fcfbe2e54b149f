"""Actions as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.access.explaining.actions import KINDS, parse_action
from pkgs.common.access.types import (
    ConnectApp,
    ConnectDatabase,
    EnterCluster,
    KubeObject,
    OpenDesktop,
    SshLogin,
    UseKube,
)
from pkgs.common.errors import InputError
from tests.unit.access.access_kit import EVERY, app, database, desktop, kube, server

ROWS = [
    ("ssh root@web1", server(), SshLogin(server(), "root")),
    ("ssh a@b@web1", server(), SshLogin(server(), "a@b")),
    ("db app@orders/main", database(), ConnectDatabase(database(), "app", "main")),
    ("db orders", database(), ConnectDatabase(database(), "")),
    ("db orders/a@b", database(), ConnectDatabase(database(), "", "a@b")),
    ("db app@orders/a/b", database(), ConnectDatabase(database(), "app", "a/b")),
    ("app wiki", app(), ConnectApp(app())),
    ("app wiki aws-role=arn:1", app(), ConnectApp(app(), aws_role_arn="arn:1")),
    ("kube prod", kube(), UseKube(kube())),
    ("kube prod user=u group=a,b", kube(), UseKube(kube(), "u", ("a", "b"))),
    ("kube prod get pods", kube(), UseKube(kube(), object=KubeObject("pods", "get"))),
    ("kube prod get nodes n1", kube(), UseKube(kube(), object=KubeObject("nodes", "get", "", "n1"))),
    (
        "kube prod group=a get deployments.apps dev/web",
        kube(),
        UseKube(kube(), "", ("a",), KubeObject("deployments", "get", "dev", "web", "apps")),
    ),
    ("desktop Administrator@win1", desktop(), OpenDesktop(desktop(), "Administrator")),
    ("cluster leaf", EVERY["remote_cluster"], EnterCluster(EVERY["remote_cluster"])),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("text", "resource", "target"), ROWS)
def test_words_and_questions(text: str, resource: object, target: object) -> None:
    action = parse_action(text.split())
    assert action.text == text
    assert action.on(resource) == target  # type: ignore[arg-type]
    for kind, other in EVERY.items():
        if kind != action.kind:
            with pytest.raises(InputError):
                action.on(other)


@pytest.mark.parametrize(
    "text",
    [
        *("", "fly", "ssh", "ssh web1", "ssh @web1", "ssh root@", "ssh root@web1 uptime", "db", "db @orders"),
        *("db app@/x", "app", "app wiki x=y", "app wiki aws-role=", "kube", "kube prod get"),
        *(
            "kube prod get pods a b",
            "desktop win1",
            "cluster",
            "cluster a b",
            "kube p a b c d e f g h i j",
        ),
    ],
)
def test_what_is_not_understood_tells_how_it_is_written(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_action(text.split())
    assert caught.value.hint or "at most" in caught.value.message


@pytest.mark.fuzz
@given(st.lists(st.one_of(st.sampled_from(sorted(KINDS)), st.text(max_size=20)), max_size=12))
def test_any_words_parse_or_are_refused(words: list[str]) -> None:
    try:
        action = parse_action(words)
    except InputError:
        return
    assert action.name
    assert action.on(EVERY[action.kind])

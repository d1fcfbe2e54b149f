"""Kubernetes, and properties of the protocols that hold for any set of roles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.decide import decide
from pkgs.common.access.types import (
    ConnectDatabase,
    KubeObject,
    Subject,
    UseKube,
    UseRule,
)
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.role import Role
from tests.harness.examples import examples
from tests.unit.access.access_kit import (
    ENV,
    NOW,
    STAR,
    ask,
    database,
    kube,
    role,
    role_text,
)
from tests.unit.access.test_access_protocols import EVERYTHING, USES


def objects(rules: str, version: str = "v7", name: str = "r") -> Role:
    return role_text(
        "{allow: {kubernetes_labels: {'*': '*'}, kubernetes_groups: [viewers],"
        f" kubernetes_resources: [{rules}]}}}}",
        name,
        version,
    )


POD = KubeObject("pods", "get", "prod", "web-1")
DEPLOYMENT = KubeObject("deployments", "get", "prod", "x", "apps")
EVERY_POD = KubeObject("pods", "deletecollection", "prod")
NAMESPACE = KubeObject("namespaces", "delete", "", "prod")
KUBE_ROWS = [
    # rule, version, object, allowed
    ("{kind: pod, namespace: prod, name: 'web-*', verbs: [get]}", "v7", POD, True),
    ("{kind: pod, namespace: prod, name: 'web-*', verbs: [list]}", "v7", POD, False),
    ("{kind: pod, namespace: prod, name: 'web-*', verbs: ['*']}", "v7", POD, True),
    ("{kind: pod, namespace: dev, name: 'web-*', verbs: ['*']}", "v7", POD, False),
    ("{kind: pod, namespace: '^(prod|dev)$', name: '*', verbs: ['*']}", "v7", POD, True),
    ("{kind: secret, namespace: '*', name: '*', verbs: ['*']}", "v7", POD, False),
    ("{kind: '*', namespace: '*', name: '*', verbs: ['*']}", "v7", POD, True),
    ("{kind: pods, api_group: '', namespace: '*', name: '*', verbs: ['*']}", "v8", POD, True),
    ("{kind: deployments, api_group: apps, namespace: '*', name: '*', verbs: ['*']}", "v8",
     KubeObject("deployments", "get", "prod", "x", "apps"), True),
    ("{kind: deployments, api_group: '', namespace: '*', name: '*', verbs: ['*']}", "v8",
     KubeObject("deployments", "get", "prod", "x", "apps"), False),
    ("{kind: deployment, namespace: '*', name: '*', verbs: ['*']}", "v7",
     KubeObject("deployments", "get", "prod", "x", "apps"), True),
    ("{kind: deployment, namespace: '*', name: '*', verbs: ['*']}", "v7",
     KubeObject("deployments", "get", "prod", "x", "other.example"), False),
    ("{kind: pod, namespace: prod, name: 'web-*', verbs: [get]}", "v7",
     KubeObject("namespaces", "get", "", "prod"), True),
    ("{kind: pod, namespace: prod, name: 'web-*', verbs: [get]}", "v7",
     KubeObject("namespaces", "delete", "", "prod"), False),
    ("{kind: pod, namespace: prod, name: 'web-*', verbs: [get]}", "v7",
     KubeObject("namespaces", "get", "", "dev"), False),
    ("{kind: namespace, name: prod, verbs: ['*']}", "v7", POD, True),
    ("{kind: namespace, name: prod, verbs: ['*']}", "v7", DEPLOYMENT, True),
    ("{kind: namespace, name: prod, verbs: [list]}", "v7", POD, False),
    ("{kind: namespace, name: dev, verbs: ['*']}", "v7", POD, False),
    ("{kind: namespace, verbs: ['*']}", "v7", POD, False),
    ("{kind: namespace, name: prod, verbs: ['*']}", "v6", POD, False),
    ("{kind: namespaces, name: prod, verbs: ['*']}", "v8", POD, False),
    ("{kind: namespace, name: prod, verbs: ['*']}", "v7", KubeObject("nodes", "get", "", "prod"), False),
]  # fmt: skip


class TestKubernetes:
    @pytest.mark.parametrize(("rule", "version", "wanted", "allowed"), KUBE_ROWS)
    def test_objects(self, rule: str, version: str, wanted: KubeObject, allowed: bool) -> None:
        decision = ask([objects(rule, version)], UseKube(kube(), object=wanted))
        assert bool(decision) is allowed, decision.reasons

    def test_older_roles_reach_pods_only(self) -> None:
        old = role_text(
            "{allow: {kubernetes_labels: {'*': '*'}, kubernetes_groups: [viewers]}}", version="v5"
        )
        assert ask([old], UseKube(kube(), object=POD))
        assert not ask([old], UseKube(kube(), object=KubeObject("secrets", "get", "prod", "x")))

    def test_an_objects_deny_counts_in_every_cluster(self) -> None:
        wide = objects("{kind: '*', namespace: '*', name: '*', verbs: ['*']}")
        deny = role_text(
            "{deny: {kubernetes_labels: {env: other}, kubernetes_resources:"
            " [{kind: pod, namespace: '*', name: '*', verbs: ['*']}]}}",
            "d",
        )
        assert not ask([wide, deny], UseKube(kube(), object=POD))
        assert ask([wide, deny], UseKube(kube(), object=KubeObject("secrets", "get", "prod", "x")))

    @pytest.mark.parametrize(
        ("rule", "version", "wanted", "refused"),
        [
            ("{kind: namespace, name: prod, verbs: ['*']}", "v7", POD, True),
            ("{kind: namespace, name: 'pr*', verbs: [get]}", "v7", POD, True),
            ("{kind: namespace, name: prod, verbs: [list]}", "v7", POD, False),
            ("{kind: namespace, name: dev, verbs: ['*']}", "v7", POD, False),
            ("{kind: namespaces, name: prod, verbs: ['*']}", "v8", POD, False),
            ("{kind: pod, namespace: '*', name: '*', verbs: [list, '*']}", "v7", POD, True),
            ("{kind: pod, name: '*', verbs: ['*']}", "v7", POD, True),
            ("{kind: pod, namespace: prod, verbs: ['*']}", "v7", POD, True),
            ("{kind: pod, namespace: prod, name: '*'}", "v7", POD, True),
            ("{kind: pod, namespace: dev, name: '*', verbs: ['*']}", "v7", POD, False),
            ("{kind: pod, namespace: prod, name: db, verbs: ['*']}", "v7", POD, False),
            ("{kind: deployments, namespace: '*', name: '*', verbs: ['*']}", "v8", DEPLOYMENT, True),
            ("{kind: '*', namespace: '*', name: '*', verbs: ['*']}", "v8", DEPLOYMENT, True),
            ("{kind: '*', namespace: '*', name: '*', api_group: batch, verbs: ['*']}", "v8", DEPLOYMENT,
             False),
            ("{kind: '*', name: '*', verbs: ['*']}", "v8", POD, False),
            ("{kind: pod, namespace: prod, name: 'db-*', verbs: ['*']}", "v7", EVERY_POD, True),
            ("{kind: pod, namespace: dev, name: 'db-*', verbs: ['*']}", "v7", EVERY_POD, False),
            ("{kind: '*', namespace: prod, name: '*', verbs: ['*']}", "v7", NAMESPACE, True),
            ("{kind: '*', namespace: 'pr*', verbs: [delete]}", "v8", NAMESPACE, True),
            ("{kind: '*', namespace: prod, name: web, verbs: ['*']}", "v7", NAMESPACE, False),
            ("{kind: '*', namespace: dev, name: '*', verbs: ['*']}", "v7", NAMESPACE, False),
            ("{kind: namespace, name: prod, verbs: ['*']}", "v7", NAMESPACE, True),
        ],
    )  # fmt: skip
    def test_a_deny_of_objects_is_meant_however_it_is_written(
        self, rule: str, version: str, wanted: KubeObject, refused: bool
    ) -> None:
        wide = objects("{kind: '*', namespace: '*', name: '*', verbs: ['*']}")
        deny = role_text(f"{{deny: {{kubernetes_resources: [{rule}]}}}}", "d", version)
        assert ask([wide], UseKube(kube(), object=wanted))
        assert bool(ask([wide, deny], UseKube(kube(), object=wanted))) is not refused

    def test_an_objects_allow_only_where_the_role_selects_the_cluster(self) -> None:
        here = role("here", {"kubernetes_labels": STAR, "kubernetes_groups": ["viewers"]}, version="v6")
        there = role_text(
            "{allow: {kubernetes_labels: {env: other}, kubernetes_groups: [g], kubernetes_resources:"
            " [{kind: '*', namespace: '*', name: '*', verbs: ['*']}]}}",
            "there",
        )
        assert ask([here, there], UseKube(kube()))
        assert not ask([here, there], UseKube(kube(), object=POD))

    def test_users_and_groups_are_united_over_the_roles_that_select_the_cluster(self) -> None:
        first = role("a", {"kubernetes_labels": STAR, "kubernetes_groups": ["a", "b"]})
        second = role("b", {"kubernetes_labels": {"env": "dev"}, "kubernetes_users": ["u"]})
        assert ask([first, second], UseKube(kube())).principals == {
            "kubernetes_users": (),
            "kubernetes_groups": ("a", "b"),
        }
        dev = kube({"env": "dev"})
        assert ask([first, second], UseKube(dev)).principals["kubernetes_users"] == ("u",)
        assert ask([first, second], UseKube(dev, "u", ("b",))).principals["kubernetes_groups"] == ("b",)
        assert not ask([first, second], UseKube(dev, "root"))
        assert not ask([first, second], UseKube(dev, groups=("system:masters",)))

    @pytest.mark.parametrize(
        ("ids", "wanted", "allowed"),
        [
            (("/demo/kube_cluster/prod",), None, True),
            (("/demo/kube_cluster/prod",), POD, True),
            (("/demo/pod/prod/prod/web-1",), POD, True),
            (("/demo/pod/prod/prod/web-1",), None, False),
            (("/demo/pod/prod/prod/web-1",), KubeObject("pods", "list", "prod"), False),
            (("/demo/pod/prod/prod/web-1",), KubeObject("pods", "get", "prod", "web-2"), False),
            (("/demo/pod/prod/prod/web-1",), KubeObject("pods", "get", "dev", "web-1"), False),
            (("/demo/pod/prod/prod/web-1",), KubeObject("secrets", "get", "prod", "web-1"), False),
            (("/demo/pod/other/prod/web-1",), POD, False),
            (("/leaf/pod/prod/prod/web-1",), POD, False),
            (("/demo/namespace/prod/dev",), KubeObject("namespaces", "get", "", "dev"), True),
            (("/demo/deployment/prod/prod/x",), KubeObject("deployments", "get", "prod", "x", "apps"), True),
            (("/demo/deployment/prod/prod/x",), KubeObject("deployments", "get", "prod", "x"), False),
        ],
    )
    def test_a22_ids_of_objects(self, ids: tuple[str, ...], wanted: KubeObject | None, allowed: bool) -> None:
        wide = objects("{kind: '*', namespace: '*', name: '*', verbs: ['*']}")
        decision = ask([wide], UseKube(kube(), object=wanted), allowed_resources=ids)
        assert bool(decision) is allowed, decision.reasons

    def test_a22_an_id_gives_nothing_that_roles_do_not(self) -> None:
        narrow = objects("{kind: pod, namespace: prod, name: '*', verbs: [get]}")
        ids = ("/demo/pod/prod/prod/web-1",)
        assert ask([narrow], UseKube(kube(), object=POD), allowed_resources=ids)
        delete = KubeObject("pods", "delete", "prod", "web-1")
        assert not ask([narrow], UseKube(kube(), object=delete), allowed_resources=ids)

    def test_without_user_and_group_there_is_no_access(self) -> None:
        assert not ask([role("a", {"kubernetes_labels": STAR})], UseKube(kube()))

    @pytest.mark.parametrize(
        ("deny", "left"),
        [
            ({"kubernetes_groups": ["a"]}, ("b",)),
            ({"kubernetes_groups": ["*"]}, None),
            ({"kubernetes_groups": ["a"], "kubernetes_labels": {"env": "prod"}}, ("a", "b")),
        ],
    )
    def test_denied_groups(self, deny: Any, left: tuple[str, ...] | None) -> None:
        """A bare deny of groups counts in every cluster."""
        giving = role("a", {"kubernetes_labels": STAR, "kubernetes_groups": ["a", "b"]})
        decision = ask([giving, role("d", deny=deny)], UseKube(kube({"env": "dev"})))
        assert (decision.principals["kubernetes_groups"] if decision else None) == left


# --- properties

_LABELS = st.dictionaries(st.sampled_from(["env", "team"]), st.sampled_from(["a", "b"]), max_size=2)
_SELECTOR = st.one_of(
    st.just(STAR), st.just({}), st.dictionaries(
        st.sampled_from(["env", "team"]), st.sampled_from(["a", "b", "*", ["a", "b"], "^a$"]), max_size=2
    ),
)  # fmt: skip
_USERS = st.lists(st.sampled_from(["app", "root", "*"]), max_size=2)
_SIDE = st.fixed_dictionaries({"db_labels": _SELECTOR, "db_users": _USERS, "db_names": _USERS})
_ROLES = st.lists(st.tuples(_SIDE, st.one_of(st.just({}), _SIDE), st.booleans()), max_size=4).map(
    lambda parts: [
        role(f"r{n}", allow, deny, require_session_mfa=mfa) for n, (allow, deny, mfa) in enumerate(parts)
    ]
)


def _naive_labels(selector: Any, labels: dict[str, str]) -> bool:
    if selector == STAR:
        return True
    wanted = {key: [value] if isinstance(value, str) else value for key, value in selector.items()}
    return bool(wanted) and all(
        key in labels and any(v in ("*", labels[key]) or (v == "^a$" and labels[key] == "a") for v in values)
        for key, values in wanted.items()
    )


def _naive(roles: list[Role], labels: dict[str, str], user: str, name: str, mfa: bool) -> bool:
    """The reference's words, one after the other."""
    for item in roles:
        deny = item.spec.deny
        if _naive_labels(deny.db_labels, labels):
            return False
        if {user, "*"} & set(deny.db_users) or {name, "*"} & set(deny.db_names):
            return False
    granting = [
        item
        for item in roles
        if _naive_labels(item.spec.allow.db_labels, labels)
        and {user, "*"} & set(item.spec.allow.db_users)
        and {name, "*"} & set(item.spec.allow.db_names)
    ]
    return bool(granting) and (mfa or not any(item.spec.options.require_session_mfa for item in granting))


@given(_ROLES, _LABELS, st.sampled_from(["app", "root"]), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=examples(300), deadline=None)
def test_compiled_and_naive_decisions_agree_in_any_order(
    roles: list[Role], labels: dict[str, str], user: str, mfa: bool, rnd: Any
) -> None:
    target = ConnectDatabase(database(labels), user, "app")
    expected = _naive(roles, labels, user, "app", mfa)
    changes = {"mfa_device": "m"} if mfa else {}
    assert bool(ask(roles, target, **changes)) is expected
    rnd.shuffle(roles)
    assert bool(ask(roles, target, **changes)) is expected


@given(_ROLES, _LABELS, _SIDE)
@settings(max_examples=examples(150), deadline=None)
def test_a24_another_deny_never_widens(roles: list[Role], labels: dict[str, str], deny: Any) -> None:
    target = ConnectDatabase(database(labels), "app", "app")
    if not ask(roles, target):
        assert not ask([*roles, role("d", deny=deny)], target)
    if not ask([EVERYTHING, role("d", deny=deny)], target):
        assert not ask([*roles, EVERYTHING, role("d", deny=deny)], target)


def test_a_machine_of_a_host_uses_nothing() -> None:
    host = Identity(kind=PeerKind.HOST, name="h", cluster="demo", expires_at=NOW + 1)
    for target in (*USES.values(), UseRule("node", "list")):
        assert not decide(Subject(host, (EVERYTHING,)), target, ENV)

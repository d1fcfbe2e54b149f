"""Databases, applications, Kubernetes, desktops and leaf clusters: one table each, and what holds for all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.decide import decide
from pkgs.common.access.types import (
    ConnectApp,
    ConnectDatabase,
    EnterCluster,
    Environment,
    KubeObject,
    OpenDesktop,
    See,
    SshLogin,
    Subject,
    Target,
    UseKube,
    UseRule,
)
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import AuthPreference, AuthPreferenceSpec, Lock, LockSpec, LockTarget
from pkgs.common.resources.kinds.settings import DeviceTrust
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Role
from tests.unit.access.access_kit import (
    ENV,
    EVERY,
    NOW,
    STAR,
    app,
    ask,
    database,
    desktop,
    kube,
    leaf,
    role,
    role_text,
    server,
)

EVERYTHING = role(
    "everything",
    {
        "logins": ["root"],
        "node_labels": STAR,
        "db_labels": STAR,
        "db_users": ["*"],
        "db_names": ["*"],
        "app_labels": STAR,
        "kubernetes_labels": STAR,
        "kubernetes_groups": ["viewers"],
        "windows_desktop_labels": STAR,
        "windows_desktop_logins": ["Administrator"],
        "cluster_labels": STAR,
    },
)
USES: dict[str, Target] = {
    "node": SshLogin(server(), "root"),
    "db": ConnectDatabase(database(), "app", "orders"),
    "app": ConnectApp(app()),
    "kube_cluster": UseKube(kube()),
    "windows_desktop": OpenDesktop(desktop(), "Administrator"),
    "remote_cluster": EnterCluster(leaf({"a": "b"})),
}
FIELDS = {
    "node": "node_labels",
    "db": "db_labels",
    "app": "app_labels",
    "kube_cluster": "kubernetes_labels",
    "windows_desktop": "windows_desktop_labels",
    "remote_cluster": "cluster_labels",
}


class TestEveryProtocol:
    @pytest.mark.parametrize("kind", sorted(USES))
    def test_allowed_by_labels_and_principals_of_one_role(self, kind: str) -> None:
        assert ask([EVERYTHING], USES[kind])
        assert ask([EVERYTHING], See(EVERY[kind]))
        assert not ask([], USES[kind])
        assert not ask([], See(EVERY[kind]))

    @pytest.mark.parametrize("kind", sorted(USES))
    def test_deny_labels_win(self, kind: str) -> None:
        for deny in ({FIELDS[kind]: STAR}, {f"{FIELDS[kind]}_expression": '"a" == "a"'}):
            for roles in ([EVERYTHING, role("d", deny=deny)], [role("d", deny=deny), EVERYTHING]):
                assert not ask(roles, USES[kind])
                assert not ask(roles, See(EVERY[kind]))

    @pytest.mark.parametrize("kind", sorted(USES))
    def test_one_protocols_deny_leaves_the_others(self, kind: str) -> None:
        roles = [EVERYTHING, role("d", deny={FIELDS[kind]: STAR})]
        for other, target in USES.items():
            assert bool(ask(roles, target)) is (other != kind), other

    @pytest.mark.parametrize("kind", sorted(set(USES) - {"remote_cluster"}))
    def test_second_factor_and_device_are_part_of_the_answer(self, kind: str) -> None:
        spec = EVERYTHING.spec
        strict = {
            "mfa": msgspec.structs.replace(spec.options, require_session_mfa=True),
            "device": msgspec.structs.replace(spec.options, device_trust_mode="required"),
        }
        proofs = {"mfa": {"mfa_device": "m"}, "device": {"device_id": "d"}}
        for need, options in strict.items():
            demanding = msgspec.structs.replace(
                EVERYTHING, spec=msgspec.structs.replace(spec, options=options)
            )
            for roles in ([demanding], [EVERYTHING, demanding], [demanding, EVERYTHING]):
                refused = ask(roles, USES[kind])
                assert not refused
                assert refused.needs == (need,)
                assert ask(roles, USES[kind], **proofs[need])
                assert ask(roles, See(EVERY[kind]))

    @pytest.mark.parametrize("kind", sorted(set(USES) - {"remote_cluster"}))
    def test_the_clusters_own_demands(self, kind: str) -> None:
        for need, spec, proof in (
            ("mfa", AuthPreferenceSpec(require_session_mfa=True), {"mfa_device": "m"}),
            ("device", AuthPreferenceSpec(device_trust=DeviceTrust(mode="required")), {"device_id": "d"}),
        ):
            preference = AuthPreference(metadata=Metadata(name="x"), spec=spec)
            env = Environment(now=NOW, auth_preference=preference)
            refused = ask([EVERYTHING], USES[kind], env)
            assert (bool(refused), refused.needs) == (False, (need,))
            assert ask([EVERYTHING], USES[kind], env, **proof)

    @pytest.mark.parametrize("kind", sorted(USES))
    def test_a22_a_restricted_certificate_reaches_what_it_names_and_nothing_else(self, kind: str) -> None:
        own = f"/demo/{kind}/{EVERY[kind].name}"
        for ids, reached in (
            ((own,), True),
            ((), False),
            ((f"/leaf/{kind}/{EVERY[kind].name}",), False),
            ((f"/demo/{kind}/other",), False),
            ((f"{own}/x",), False),
            (("*",), False),
            (tuple(f"/demo/{k}/{EVERY[kind].name}" for k in USES if k != kind), False),
        ):
            for target in (USES[kind], See(EVERY[kind])):
                assert bool(ask([EVERYTHING], target, allowed_resources=ids)) is reached, (ids, target)

    @pytest.mark.parametrize("kind", sorted(USES))
    def test_locks_expiry_and_pins_come_before_any_role(self, kind: str) -> None:
        lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="alice")))
        target = USES[kind]
        assert not ask([EVERYTHING], target, Environment(now=NOW, locks=(lock,)))
        assert not ask([EVERYTHING], target, expires_at=NOW)
        assert not ask([EVERYTHING], target, valid_after=NOW + 60)
        assert not ask([EVERYTHING], target, source_addr="10.0.0.6")
        assert ask([EVERYTHING], target, source_addr="10.0.0.5")

    @pytest.mark.parametrize("kind", sorted(USES))
    def test_roles_that_are_not_understood_decide_no(self, kind: str) -> None:
        broken = role("b", {f"{FIELDS[kind]}_expression": "labels["})
        decision = ask([EVERYTHING, broken], USES[kind])
        assert not decision
        assert f"allow.{FIELDS[kind]}_expression" in decision.reasons[0]


DATABASE_ROWS: list[tuple[Any, Any, tuple[str, str], bool]] = [
    # allow, deny, (user, database), allowed
    ({"db_users": ["app"], "db_names": ["orders"]}, {}, ("app", "orders"), True),
    ({"db_users": ["app"], "db_names": ["orders"]}, {}, ("App", "orders"), False),
    ({"db_users": ["app"], "db_names": ["orders"]}, {}, ("app ", "orders"), False),
    ({"db_users": ["app"], "db_names": ["orders"]}, {}, ("app", "Orders"), False),
    ({"db_users": ["app"], "db_names": ["orders"]}, {}, ("app", "orders host=evil sslmode=disable"), False),
    ({"db_users": ["app"], "db_names": ["orders"]}, {}, ('"app"', "orders"), False),
    ({"db_users": ["app"], "db_names": ["orders"]}, {}, ("\u0430pp", "orders"), False),  # a Cyrillic a
    ({"db_users": ["*"], "db_names": ["*"]}, {}, ("anyone", "anything"), True),
    ({"db_users": ["ap*"], "db_names": ["*"]}, {}, ("app", "orders"), False),
    ({"db_users": ["app"]}, {}, ("app", "orders"), False),
    ({"db_names": ["*"]}, {}, ("app", "orders"), False),
    ({"db_users": ["*"], "db_names": ["*"]}, {"db_users": ["root"]}, ("root", "orders"), False),
    ({"db_users": ["*"], "db_names": ["*"]}, {"db_users": ["root"]}, ("app", "orders"), True),
    ({"db_users": ["*"], "db_names": ["*"]}, {"db_names": ["*"]}, ("app", "orders"), False),
    ({"db_users": ["*"], "db_names": ["*"]}, {"db_users": ["*"]}, ("app", "orders"), False),
    ({"db_users": ["{{internal.db_users}}"], "db_names": ["*"]}, {}, ("*", "orders"), True),
    ({"db_users": ["{{internal.db_users}}"], "db_names": ["*"]}, {}, ("app", "orders"), False),
    ({"db_users": ["*"], "db_names": ["*"]}, {}, ("", "orders"), False),
]


class TestDatabases:
    @pytest.mark.parametrize(("allow", "deny", "asked", "allowed"), DATABASE_ROWS)
    def test_a26_users_and_names(self, allow: Any, deny: Any, asked: tuple[str, str], allowed: bool) -> None:
        """Compared letter by letter, and a wildcard that came from a trait is a name like any other."""
        roles = [role("a", {"db_labels": STAR, **allow}), role("d", deny=deny)]
        decision = ask(roles, ConnectDatabase(database(), *asked), traits={"db_users": ("*",)})
        assert bool(decision) is allowed, decision.reasons

    def test_user_and_name_and_labels_come_from_one_role(self) -> None:
        first = role("a", {"db_labels": STAR, "db_users": ["app"], "db_names": ["other"]})
        second = role("b", {"db_labels": STAR, "db_users": ["other"], "db_names": ["orders"]})
        assert not ask([first, second], ConnectDatabase(database(), "app", "orders"))

    @pytest.mark.parametrize("protocol", ["mysql", "redis", "clickhouse"])
    def test_protocols_without_names(self, protocol: str) -> None:
        roles = [role("a", {"db_labels": STAR, "db_users": ["app"]})]
        assert ask(roles, ConnectDatabase(database(protocol=protocol), "app"))
        assert not ask(roles, ConnectDatabase(database(), "app", "orders"))

    def test_users_made_on_demand(self) -> None:
        maker = role(
            "m",
            {"db_labels": {"env": "dev"}, "db_names": ["*"], "db_roles": ["reader", "writer"]},
            create_db_user_mode="keep",
        )
        dev, prod = database({"env": "dev"}), database({"env": "prod"})
        made = ask([maker], ConnectDatabase(dev, "alice", "orders"))
        assert made
        assert made.principals == {"db_roles": ("reader", "writer"), "create_db_user_mode": ("keep",)}
        assert ask([maker], ConnectDatabase(dev, "", "orders"))
        assert not ask([maker], ConnectDatabase(dev, "postgres", "orders"))
        assert not ask([maker], ConnectDatabase(prod, "alice", "orders"))
        some = ask([maker], ConnectDatabase(dev, "alice", "orders", roles=("reader",)))
        assert some.principals["db_roles"] == ("reader",)
        assert not ask([maker], ConnectDatabase(dev, "alice", "orders", roles=("owner",)))

    def test_denied_database_roles_are_taken_away(self) -> None:
        allow = {"db_labels": STAR, "db_names": ["*"], "db_roles": ["reader", "writer"]}
        maker = role("m", allow, create_db_user=True)
        for deny, left in (
            ({"db_roles": ["writer"]}, ("reader",)),
            ({"db_roles": ["writer"], "db_labels": {"env": "prod"}}, ("reader", "writer")),
            ({"db_roles": ["*"]}, ()),
        ):
            decision = ask([maker, role("d", deny=deny)], ConnectDatabase(database(), "alice", "orders"))
            assert decision.principals["db_roles"] == left

    def test_database_roles_need_the_mode(self) -> None:
        roles = [role("a", {"db_labels": STAR, "db_users": ["*"], "db_names": ["*"], "db_roles": ["r"]})]
        assert not ask(roles, ConnectDatabase(database(), "app", "orders", roles=("r",)))
        assert ask(roles, ConnectDatabase(database(), "app", "orders")).principals == {}


APP_ROWS: list[tuple[Any, Any, dict[str, str], bool]] = [
    ({}, {}, {}, True),
    ({"aws_role_arns": ["arn:1"]}, {}, {"aws_role_arn": "arn:1"}, True),
    ({"aws_role_arns": ["arn:1"]}, {}, {"aws_role_arn": "ARN:1"}, False),
    ({"aws_role_arns": ["*"]}, {}, {"aws_role_arn": "arn:1"}, False),
    ({"aws_role_arns": ["arn:1"]}, {"aws_role_arns": ["arn:1"]}, {"aws_role_arn": "arn:1"}, False),
    ({"azure_identities": ["/Sub/Id"]}, {}, {"azure_identity": "/sub/id"}, True),
    ({"azure_identities": ["/s/id"]}, {"azure_identities": ["/S/ID"]}, {"azure_identity": "/s/id"}, False),
    ({"azure_identities": ["/sub/id"]}, {"azure_identities": ["*"]}, {"azure_identity": "/sub/id"}, False),
    ({"gcp_service_accounts": ["a@b"]}, {}, {"gcp_service_account": "a@b"}, True),
    ({"gcp_service_accounts": ["a"]}, {"gcp_service_accounts": ["*"]}, {"gcp_service_account": "a"}, False),
    ({}, {}, {"gcp_service_account": "a@b"}, False),
]  # fmt: skip


class TestApplications:
    @pytest.mark.parametrize(("allow", "deny", "asked", "allowed"), APP_ROWS)
    def test_cloud_identities(self, allow: Any, deny: Any, asked: dict[str, str], allowed: bool) -> None:
        roles = [role("a", {"app_labels": STAR, **allow}), role("d", deny=deny)]
        assert bool(ask(roles, ConnectApp(app(), **asked))) is allowed

    def test_tools(self) -> None:
        roles = [role_text("{allow: {app_labels: {'*': '*'}, mcp: {tools: ['read_*', '^list_(a|b)$', x]}}}")]
        for tool, allowed in (
            ("read_file", True),
            ("list_a", True),
            ("list_c", False),
            ("x", True),
            ("write", False),
        ):
            assert bool(ask(roles, ConnectApp(app(), mcp_tool=tool))) is allowed
        denying = role_text("{deny: {mcp: {tools: ['*']}}}", "d")
        assert not ask([*roles, denying], ConnectApp(app(), mcp_tool="x"))
        assert ask([*roles, denying], ConnectApp(app()))


class TestDesktops:
    @pytest.mark.parametrize(
        ("logins", "asked", "allowed"),
        [
            (["Administrator"], "Administrator", True),
            (["Administrator"], "administrator", False),
            (["*"], "Administrator", False),
            (["a/b"], "a/b", False),
            (["{{internal.windows_logins}}"], "jdoe", True),
            (["{{internal.windows_logins}}"], "*", False),
            ([], "", False),
        ],
    )
    def test_logins(self, logins: list[str], asked: str, allowed: bool) -> None:
        roles = [role("a", {"windows_desktop_labels": STAR, "windows_desktop_logins": logins})]
        traits = {"windows_logins": ("jdoe", "*")}
        assert bool(ask(roles, OpenDesktop(desktop(), asked), traits=traits)) is allowed


class TestLeafClusters:
    def test_labels_protect_only_where_they_are_used(self) -> None:
        assert ask([role()], EnterCluster(leaf()))
        assert not ask([role()], EnterCluster(leaf({"a": "b"})))
        assert not ask([role("x", {"cluster_labels": {"c": "d"}})], EnterCluster(leaf()))
        assert not ask([role(), role("x", deny={"cluster_labels": {"c": "d"}})], EnterCluster(leaf()))
        assert ask([role("x", {"cluster_labels": {"a": "b"}})], EnterCluster(leaf({"a": "b"})))


def objects(rules: str, version: str = "v7", name: str = "r") -> Role:
    return role_text(
        "{allow: {kubernetes_labels: {'*': '*'}, kubernetes_groups: [viewers],"
        f" kubernetes_resources: [{rules}]}}}}",
        name,
        version,
    )


POD = KubeObject("pods", "get", "prod", "web-1")
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
@settings(max_examples=300, deadline=None)
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
@settings(max_examples=150, deadline=None)
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

"""Databases, applications, Kubernetes, desktops and leaf clusters: one table each, and what holds for all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pkgs.common.access.types import (
    ConnectApp,
    ConnectDatabase,
    EnterCluster,
    Environment,
    OpenDesktop,
    See,
    SshLogin,
    Target,
    UseKube,
)
from pkgs.common.resources.kinds import AuthPreference, AuthPreferenceSpec, Lock, LockSpec, LockTarget
from pkgs.common.resources.kinds.settings import DeviceTrust
from pkgs.common.resources.metadata import Metadata
from tests.unit.access.access_kit import (
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
    ({"azure_identities": ["/s/\u00c9"]}, {}, {"azure_identity": "/s/\u00e9"}, True),
    # What folding makes alike are names of different identities.
    ({"azure_identities": ["/s/stra\u00dfe"]}, {}, {"azure_identity": "/s/STRASSE"}, False),
    ({"azure_identities": ["/s/k"]}, {}, {"azure_identity": "/s/\u212a"}, False),
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

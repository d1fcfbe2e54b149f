"""Every kind of the field: known or left out with a reason, checked, and the same after any round trip."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as mi

from pkgs.common.errors import InputError
from pkgs.common.resources import registry, versions
from pkgs.common.resources.codec import from_builtins, load_documents, to_builtins, to_json, to_yaml
from pkgs.common.resources.kinds import (
    Github,
    LockTarget,
    Node,
    Resource,
    Saml,
    ServerSpec,
    Token,
    TrustedCluster,
    User,
)
from pkgs.common.resources.metadata import Base, Metadata
from pkgs.common.resources.role import Role
from pkgs.common.resources.secrets import _BOUND_TO, SECRETS, keeping_secrets, without_secrets
from pkgs.common.resources.validate import check_fields
from tests.harness.examples import examples

SMALLEST = (Path(__file__).parent / "smallest.yaml").read_text()

# Kinds of the field, each with all its other names.
FIELD = """
role:roles user:users node:nodes proxy:proxies auth_server:auth_servers,auth token:tokens
cert_authority:cert_authorities,cas oidc: saml: github: trusted_cluster:tc,cluster,clusters
remote_cluster:remote_clusters,rc,rcs reverse_tunnel:reverse_tunnels,rts
cluster_auth_preference:cap,cluster_auth_preferences,cluster_authentication_preferences
cluster_networking_config:networking_config,networking,net_config,netconfig
session_recording_config:recording_config,session_recording,rec_config,recconfig recording_encryption:
cluster_maintenance_config:cmc ui_config:ui semaphore:semaphores,sem,sems kube_cluster:kube_clusters
kube_server:kube_servers app:apps app_server:app_servers db: db_server:db_servers db_service:db_services
lock:locks windows_desktop:win_desktop
windows_desktop_service:windows_service,win_desktop_service,win_service dynamic_windows_desktop:
login_rule:login_rules device:devices
saml_idp_service_provider:saml_idp_service_providers,saml_sp,saml_sps
user_group:user_groups,usergroup,usergroups access_list:access_lists,accesslist,accesslists
access_list_member: access_request:access_requests,accessrequest,accessrequests
discovery_config:discovery_configs,discoveryconfig,discoveryconfigs integration:integrations bot:bots
bot_instance:bot_instances db_object_import_rule:db_object_import_rules,database_object_import_rule
db_object:database_object static_host_user:static_host_users,host_user,host_users user_task:user_tasks
workload_identity:workload_identities,workloadidentity,workloadidentities
spiffe_federation:spiffe_federations workload_identity_x509_revocation:workload_identity_x509_revocations
workload_identity_x509_issuer_override: crown_jewel:crown_jewels access_graph_settings:ags plugin:plugins
autoupdate_config: autoupdate_version: autoupdate_agent_rollout: installer: vnet_config: server_info:
access_monitoring_rule: network_restrictions: external_audit_storage: audit_query: security_report:
health_check_config: cluster_name: instance: scoped_role: scoped_role_assignment: scoped_token:
"""
TABLE = {
    kind: [alias for alias in aliases.split(",") if alias]
    for kind, _, aliases in (word.partition(":") for word in FIELD.split())
}


def load_one(text: str) -> Resource:
    (resource,) = load_documents(text, "file.yaml")
    return resource


def test_every_kind_of_the_field_is_known_or_left_out_with_a_reason() -> None:
    assert set(TABLE) == {*registry.TYPES, *registry.NOT_KEPT}
    assert not registry.TYPES.keys() & registry.NOT_KEPT.keys()
    assert all(registry.NOT_KEPT.values())
    assert {alias: kind for kind, aliases in TABLE.items() for alias in aliases} == registry.ALIASES
    for kind in registry.NOT_KEPT:
        with pytest.raises(InputError, match="not kept"):
            registry.canonical_kind(kind)


def test_the_order_of_a_backup_names_every_kind_once() -> None:
    assert sorted(registry.IN_ORDER) == sorted(registry.TYPES)
    at = registry.IN_ORDER.index
    assert at("role") < at("user") < at("access_list") < at("access_list_member")
    assert [ref.kind for ref in registry.parse_refs("connectors")] == ["github", "oidc", "saml"]
    assert [ref.kind for ref in registry.parse_refs("role,user")] == ["role", "user"]


@pytest.mark.parametrize("kind", sorted(registry.TYPES))
def test_versions(kind: str) -> None:
    (resource,) = [r for r in load_documents(SMALLEST) if r.kind == kind]
    assert resource.version == registry.default_version(kind)
    check_fields(resource)
    changed: Any = msgspec.structs.replace(resource, version="v99")
    with pytest.raises(InputError, match="version: found 'v99', expected one of v"):
        check_fields(changed)


@pytest.mark.parametrize("kind", sorted(registry.TYPES))
def test_an_unknown_key_is_refused_with_its_path(kind: str) -> None:
    (resource,) = [r for r in load_documents(SMALLEST) if r.kind == kind]
    plain = to_builtins(resource, with_secrets=True)
    for part in ("spec", None):
        if part and part not in registry.TYPES[kind].__struct_fields__:
            continue
        inner = plain.get(part, {}) if part else plain
        broken = {**plain, part: {**inner, "nonsense": 1}} if part else {**plain, "nonsense": 1}
        with pytest.raises(InputError, match=r"(spec\.)?nonsense: unknown key") as caught:
            from_builtins(broken)
        assert caught.value.hint


WORDS = [
    "",
    "*",
    "yes",
    "12",
    "1.5",
    "null",
    "~",
    "{{internal.logins}}",
    "a: b",
    "- x",
    "#",
    "\u00e9\u2028",
    "v",
]


def some(info: mi.Type, rng: random.Random, depth: int = 0) -> Any:
    """A value of any field, from its type, as a document would write it."""
    if isinstance(info, mi.StructType):
        few = 0.15 if depth > 3 else 0.5
        found = {
            field.encode_name: some(field.type, rng, depth + 1)
            for field in info.fields
            if field.required or rng.random() < few
        }
        return {**found, info.tag_field: info.tag} if info.tag_field else found
    if isinstance(info, mi.UnionType):
        return some(rng.choice(info.types), rng, depth)
    if isinstance(info, mi.LiteralType):
        return rng.choice(info.values)
    if isinstance(info, mi.ListType | mi.VarTupleType):
        return [some(info.item_type, rng, depth + 1) for _ in range(rng.randrange(3))]
    if isinstance(info, mi.DictType):
        return {rng.choice(WORDS): some(info.value_type, rng, depth + 1) for _ in range(rng.randrange(3))}
    if isinstance(info, mi.AnyType):
        return rng.choice([True, 7, ["v"], {"v": "w"}])
    simple: dict[type[mi.Type], Any] = {
        mi.BoolType: rng.random() < 0.5,
        mi.IntType: rng.randrange(-5, 10**6),
        mi.NoneType: None,
        mi.DateTimeType: datetime.fromtimestamp(rng.randrange(2**31), UTC).isoformat(),
        mi.BytesType: base64.b64encode(rng.randbytes(4)).decode(),
        mi.StrType: rng.choice(WORDS),
    }
    return simple[type(info)]


@pytest.mark.parametrize("cls", get_args(Resource), ids=lambda cls: cls.__struct_config__.tag)
def test_yaml_json_and_typed_values_say_the_same(cls: type[Base]) -> None:
    info = mi.type_info(cls)

    @given(st.integers(0, 2**32), st.sampled_from(versions.ROLE_VERSIONS))
    @settings(max_examples=examples(25), deadline=None)
    def check(seed: int, version: str) -> None:
        plain = some(info, random.Random(seed))
        made: Any = msgspec.convert(plain | {"version": version} if cls is Role else plain, cls)
        assert msgspec.json.decode(msgspec.json.encode(made), type=Resource) == made
        for text in (to_yaml(made, with_secrets=True), to_json(made, with_secrets=True)):
            assert load_one(text) == made
        hidden = without_secrets(made)
        assert without_secrets(hidden) == hidden
        assert keeping_secrets(hidden, made) == made or made.kind in (
            "cert_authority",
            "recording_encryption",
        )

    check()


REFUSED = [
    ("app", "a b", "{uri: 'http://x'}", "host name"),
    ("app", "a", "{uri: 'ftp://x'}", "spec.uri"),
    ("app", "a", "{}", "spec.uri: missing"),
    ("app", "a", "{uri: 'tcp://x:5', tcp_ports: [{port: 1}]}", "tcp_ports"),
    ("app", "a", "{uri: 'tcp://x', tcp_ports: [{port: 9, end_port: 8}]}", "end_port"),
    ("app", "a", "{uri: 'http://x', rewrite: {headers: [{name: X, value: \"a\\nb\"}]}}", "not a header"),
    ("db", "1a", "{protocol: postgres, uri: x}", "metadata.name"),
    ("db", "a", "{protocol: 'a b', uri: x}", "spec.protocol"),
    ("db", "a", "{protocol: postgres, uri: x, tls: {mode: maybe}}", "spec.tls.mode"),
    ("kube_cluster", "k", "{kubeconfig: '***'}", "not base64"),
    ("windows_desktop", "d", "{addr: 10.0.0.1}", "host:port"),
    ("dynamic_windows_desktop", "d", "{addr: 'x:1', screen_size: {width: 0, height: 1}}", "width"),
    ("token", "t", "{roles: [Bot]}", "bot_name: missing"),
    ("token", "t", "{roles: [Node], bot_name: x}", "only with role Bot"),
    ("token", "t", "{roles: [Node], join_method: github}", "spec.github: missing"),
    ("token", "t", "{roles: [Node], github: {allow: [{sub: x}]}}", "the join method is token"),
    ("token", "t", "{roles: [Node], join_method: gcp, gcp: {allow: []}}", "nobody could join"),
    ("token", "t", "{roles: [Node], join_method: gcp, gcp: {allow: [{}]}}", "everybody"),
    ("token", "t", "{roles: [Node], join_method: gcp, gcp: {allow: [{project_id: [x]}]}}", "project_ids?"),
    ("token", "t", "{roles: [Node], join_method: iam}", "spec.allow: missing"),
    ("token", "t", "{roles: [Node], allow: [{aws_account: '1'}]}", "only for methods"),
    ("token", "t", "{roles: [Node], join_method: carrier_pigeon}", "carrier_pigeon"),
    ("bot", "b", "{max_session_ttl: 169h}", "at most 168h"),
    ("bot", "b!", "{}", "name of a bot"),
    ("device", "d", "{asset_tag: x, os_type: linux}", "UUID"),
    ("workload_identity", "w", "{spiffe: {id: x}}", "starts with /"),
    ("workload_identity", "w", "{spiffe: {id: /x, jwt: {maximum_ttl: 25h}}}", "at most 24h"),
    ("workload_identity", "w", "{spiffe: {id: /x}, rules: {allow: [{}]}}", "exactly one"),
    ("spiffe_federation", "x.example", "{bundle_source: {}}", "exactly one"),
    ("workload_identity_x509_issuer_override", "x", "{overrides: []}", "named default"),
    ("trusted_cluster", "x", "{role_map: [{remote: a, local: ['*']}]}", "not allowed"),
    ("trusted_cluster", "x", "{role_map: [{remote: a, local: [b]}, {remote: a, local: [c]}]}", "given twice"),
    ("oidc", "x", "{issuer_url: x, client_id: y}", "issuer_url"),
    ("saml", "x", "{acs: 'https://x'}", "identity provider is missing"),
    ("login_rule", "x", "{traits_map: {a: [b]}, traits_expression: c}", "exactly one"),
    ("access_list", "x", "{title: t, grants: {roles: [a]}}", "owners"),
    ("access_list", "x", "{title: t, owners: [{name: a}, {name: a}]}", "given twice"),
    ("access_list", "x", "{title: t, owners: [{name: a}], grants: {roles: [b, b]}}", "given twice"),
    ("access_list", "x", "{title: t, owners: [{name: a}], grants: {traits: {b: []}}}", "found 0"),
    ("access_list_member", "y", "{access_list: l, name: y, expires: 2026-01-01T00:00:00}", "its zone"),
    ("access_list_member", "x", "{access_list: l, name: y}", "spec.name"),
    ("integration", "x", "{github: {organization: o}}", "sub_kind"),
    ("static_host_user", "x", "{matchers: [{}]}", "neither node_labels"),
    ("static_host_user", "-x", "{matchers: [{}]}", "OS account"),
    (
        "cluster_maintenance_config",
        "cluster-maintenance-config",
        "{agent_upgrades: {weekdays: [Foo]}}",
        "Foo",
    ),
    ("autoupdate_version", "autoupdate-version", "{tools: {target_version: x}}", "no version"),
    ("vnet_config", "vnet-config", "{ipv4_cidr_range: x}", "no network"),
    ("ui_config", "other", "{}", "named ui-config"),
    ("health_check_config", "x", "{timeout: 1h}", "longer than the interval"),
    ("cluster_auth_preference", "cluster-auth-preference", "{require_session_mfa: x}", "require_session_mfa"),
]


@pytest.mark.parametrize(("kind", "name", "spec", "part"), REFUSED)
def test_what_is_refused(kind: str, name: str, spec: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        check_fields(load_one(f"kind: {kind}\nmetadata: {{name: '{name}'}}\nspec: {spec}"))
    assert part in str(caught.value)


def test_numbers_stand_for_names() -> None:
    text = "kind: {}\nmetadata: {{name: {}}}\nspec: {}"
    networking = load_one(
        text.format(
            "netconfig", "cluster-networking-config", "{proxy_listener_mode: 0, routing_strategy: '1'}"
        )
    )
    spec = to_builtins(networking)["spec"]
    assert (spec["proxy_listener_mode"], spec["routing_strategy"]) == ("separate", "most_recent")
    database = load_one(text.format("db", "a", "{protocol: mysql, uri: x, tls: {mode: 2}}"))
    assert to_builtins(database)["spec"]["tls"]["mode"] == "insecure"


class TestSecrets:
    def test_every_path_exists(self) -> None:
        for kind, paths in (*SECRETS.items(), *_BOUND_TO.items()):
            for path in paths:
                info: Any = mi.type_info(registry.TYPES[kind])
                for name in ("spec", *path.split(".")):
                    options = info.types if isinstance(info, mi.UnionType) else [info]
                    struct = next(o for o in options if isinstance(o, mi.StructType))
                    info = next(f.type for f in struct.fields if f.name == name)
        assert SECRETS.keys() == _BOUND_TO.keys()

    def test_shown_only_when_asked_for_and_kept_by_an_edit(self) -> None:
        for text, cls in (
            ("kind: github\nmetadata: {name: x}\nspec: {client_id: a, client_secret: hush}", Github),
            ("kind: tc\nmetadata: {name: x}\nspec: {token: hush, web_proxy_addr: 'a:1'}", TrustedCluster),
            (
                "kind: saml\nmetadata: {name: x}\nspec: {acs: 'https://x', entity_descriptor: d,"
                " signing_key_pair: {cert: c, private_key: hush}}",
                Saml,
            ),
            (
                "kind: token\nmetadata: {name: x}\nspec: {roles: [Bot], bot_name: b,"
                " join_method: bound_keypair, bound_keypair: {onboarding: {registration_secret: hush}}}",
                Token,
            ),
        ):
            made = load_one(text)
            assert isinstance(made, cls)
            check_fields(made)
            assert "hush" not in to_yaml(made) + to_json(made)
            assert "hush" in to_yaml(made, with_secrets=True)
            edited = load_one(to_yaml(made))
            assert keeping_secrets(edited, made) == made
            assert keeping_secrets(edited, None) == edited

    def test_a_secret_does_not_follow_to_another_place(self) -> None:
        made = load_one("kind: tc\nmetadata: {name: x}\nspec: {token: hush, web_proxy_addr: 'a:1'}")
        moved = load_one("kind: tc\nmetadata: {name: x}\nspec: {web_proxy_addr: 'evil:1'}")
        assert keeping_secrets(moved, made) == moved


def test_a_lock_s_target_is_bounded() -> None:
    """Every service holds it, and every listing shows it."""
    document = "kind: lock\nmetadata: {name: l}\nspec: {target: {user: %s}}"
    with pytest.raises(InputError, match=r"spec\.target\.user: longer than 1000"):
        check_fields(load_one(document % ("a" * 1001)))
    check_fields(load_one(document % ("a" * 1000)))


def test_every_lock_target_of_the_field() -> None:
    assert set(LockTarget.__struct_fields__) == {
        *("user", "role", "login", "mfa_device", "windows_desktop", "linux_desktop", "access_request"),
        *("device", "server_id", "bot_instance_id", "join_token"),
    }


def test_the_page_names_every_kind() -> None:
    page = (Path(__file__).parents[3] / "docs" / "resources.md").read_text()
    for kind in (*registry.TYPES, *registry.NOT_KEPT):
        assert f"| `{kind}` |" in page, kind


def test_a_user_as_the_field_prints_one() -> None:
    """The zero time means never, and a trait may be null."""
    made = load_one("""
kind: user
version: v2
metadata: {name: alice, namespace: default, expires: "0001-01-01T00:00:00Z"}
spec:
  created_by: {time: "2026-01-02T03:04:05.678Z", user: {name: system}}
  expires: "0001-01-01T00:00:00Z"
  roles: [access]
  status:
    is_locked: false
    lock_expires: "0001-01-01T00:00:00Z"
    locked_time: "0001-01-01T00:00:00Z"
    recovery_attempt_lock_expires: "0001-01-01T00:00:00Z"
  traits: {logins: [root], aws_role_arns: null}
""")
    check_fields(made)
    assert made.metadata.expires is None
    assert isinstance(made, User)
    assert made.spec.expires is made.spec.status.lock_expires is None
    assert made.spec.traits == {"logins": ["root"], "aws_role_arns": []}
    lock = load_one(
        "kind: lock\nmetadata: {name: l}\nspec: {target: {user: a}, expires: '0001-01-01T00:00:00Z'}"
    )
    assert "expires" not in to_builtins(lock)["spec"]


def openssh(
    sub_kind: str = "openssh", name: str = "5da56852-2adb-4540-a37c-80790203f6a9", **spec: object
) -> Node:
    fields: dict[str, object] = {"hostname": "box9.example.com", "addr": "10.0.0.9:22", **spec}
    return Node(metadata=Metadata(name=name), sub_kind=sub_kind, spec=ServerSpec(**fields))  # type: ignore[arg-type]


def test_a_server_without_an_agent_is_described_whole() -> None:
    check_fields(openssh())
    for wrong in (
        openssh(addr=""),
        openssh(addr="nonsense"),
        openssh(addr="10.0.0.9:99999"),
        openssh(hostname="two words"),
        openssh(hostname="x\n"),
        openssh(use_tunnel=True),
        openssh(public_addrs=["a:1"]),
        openssh(sub_kind="openssh-ec2-ice"),
        openssh(name="box9"),
    ):
        with pytest.raises(InputError):
            check_fields(wrong)

"""Locks on every target, sessions that need company, and who sees what is protected beside servers."""

from __future__ import annotations

import msgspec
import pytest

from pkgs.common.access.decide import decide
from pkgs.common.access.locks import Interaction, matching_lock
from pkgs.common.access.roleset import PROTOCOLS
from pkgs.common.access.types import Environment, See, SshLogin, Subject, UseRule
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget, Node, Resource, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Role

ALICE = Identity(
    kind=PeerKind.USER,
    name="alice",
    cluster="demo",
    roles=("r",),
    logins=("root",),
    expires_at=1e12,
    active_requests=("req-1",),
)
NODE = Node(metadata=Metadata(name="n"), spec=ServerSpec(hostname="n"))


def role(spec: str, version: str = "v7") -> Role:
    (found,) = load_documents(f"kind: role\nversion: {version}\nmetadata: {{name: r}}\nspec: {spec}")
    assert isinstance(found, Role)
    return found


def locked(**target: str) -> bool:
    lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(**target)))
    return matching_lock([lock], Interaction(ALICE, login="root"), 0.0) is not None


def test_a_lock_on_what_nobody_here_carries_stops_nobody() -> None:
    """Least of all everybody, as a lock without the fields that are understood would."""
    for target in ("windows_desktop", "linux_desktop", "device", "bot_instance_id", "join_token"):
        assert not locked(**{target: "x"})
        assert not locked(user="alice", **{target: "x"})
    assert locked(user="alice")
    assert locked(access_request="req-1")
    assert not locked(access_request="req-2")
    assert locked(access_request="req-1", login="root")


@pytest.mark.parametrize(
    ("version", "policy", "allowed"),
    [
        ("v7", "{name: q, kinds: [ssh], count: 1}", False),
        ("v7", "{name: q, kinds: ['*'], count: 1}", False),
        ("v7", "{name: q, kinds: [k8s], count: 1}", True),
        ("v7", "{name: q, kinds: [ssh], count: 0}", True),
        ("v4", "{name: q, kinds: [ssh], count: 1}", True),
    ],
)
def test_a_session_that_needs_company_is_refused(version: str, policy: str, allowed: bool) -> None:
    held = role(
        f"{{allow: {{logins: [root], node_labels: {{'*': '*'}}, require_session_join: [{policy}]}}}}", version
    )
    decision = decide(Subject(ALICE, [held]), SshLogin(NODE, "root"), Environment(now=1.0))
    assert bool(decision) is allowed, decision.reasons


def sees(roles: list[Role], traits: dict[str, tuple[str, ...]], target: Resource) -> bool:
    who = msgspec.structs.replace(ALICE, traits=traits)
    return bool(decide(Subject(who, roles), See(target), Environment(now=1.0)))


@pytest.mark.parametrize("kind", ["app", "db", "kube_cluster", "windows_desktop", "remote_cluster"])
def test_labels_decide_who_sees_what(kind: str) -> None:
    field = PROTOCOLS[kind].labels
    spec = {
        "app": "{uri: 'http://x'}",
        "db": "{protocol: mysql, uri: x}",
        "windows_desktop": "{addr: 'x:1'}",
    }.get(kind, "")
    text = f"kind: {kind}\nmetadata: {{name: x, labels: {{env: dev}}}}\n" + (
        f"spec: {spec}\n" if spec else ""
    )
    (target,) = load_documents(text)

    def seen(*specs: str) -> bool:
        return sees([role(spec) for spec in specs], {"team": ("dev",)}, target)

    allow = f"{{allow: {{{field}: {{env: '{{{{external.team}}}}'}}}}}}"
    assert seen(allow)
    assert not seen("{}")
    assert not seen(f"{{allow: {{{field}: {{env: prod}}}}}}")
    assert not seen(allow, f"{{deny: {{{field}: {{env: dev}}}}}}")
    expression = """'labels["env"] == "dev"'"""
    assert seen(f"{{allow: {{{field}_expression: {expression}}}}}")
    assert not seen(f"{{allow: {{{field}: {{env: prod}}, {field}_expression: {expression}}}}}")
    assert not seen(allow, f"{{deny: {{{field}_expression: {expression}}}}}")
    assert seen(allow, f"{{deny: {{{field}_expression: '!({expression[1:-1]})'}}}}")


def test_clusters_without_labels_are_seen_where_nobody_uses_cluster_labels() -> None:
    (leaf,) = load_documents("kind: rc\nmetadata: {name: leaf}")
    assert sees([role("{}")], {}, leaf)
    assert not sees([role("{deny: {cluster_labels: {a: b}}}")], {}, leaf)


def test_dynamic_labels_count_and_win() -> None:
    (app,) = load_documents(
        "kind: app\nmetadata: {name: x, labels: {env: dev}}\n"
        "spec: {uri: 'http://x', dynamic_labels: {env: {command: [x], result: prod}}}"
    )
    assert not sees([role("{allow: {app_labels: {env: dev}}}")], {}, app)
    assert sees([role("{allow: {app_labels: {env: prod}}}")], {}, app)


@pytest.mark.parametrize("kind", ["github", "oidc", "saml"])
def test_a_rule_on_connectors_is_a_rule_on_each(kind: str) -> None:
    everything = "rules: [{resources: ['*'], verbs: ['*']}]"
    connectors = "rules: [{resources: [auth_connector], verbs: [list]}]"
    question = UseRule(kind=kind, verb="list")
    for spec, allowed in (
        (f"{{allow: {{{connectors}}}}}", True),
        (f"{{allow: {{{everything}}}}}", True),
        (f"{{allow: {{{everything}}}, deny: {{{connectors}}}}}", False),
        ("{}", False),
    ):
        assert bool(decide(Subject(ALICE, [role(spec)]), question, Environment(now=1.0))) is allowed

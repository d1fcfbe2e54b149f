"""Laws of using and seeing that hold for every protocol, and naive models of those that have lists of their
own: objects of Kubernetes, identities of clouds.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.types import (
    Access,
    ConnectApp,
    ConnectDatabase,
    EnterCluster,
    Environment,
    KubeObject,
    OpenDesktop,
    See,
    SshLogin,
    UseKube,
    resource_of,
)
from pkgs.common.resources.role import KubernetesResource, RequirePolicy, Role
from tests.harness.examples import examples
from tests.unit.access.access_kit import (
    NOW,
    STAR,
    app,
    ask,
    database,
    desktop,
    kube,
    leaf,
    role,
    server,
)
from tests.unit.access.test_access_protocols import EVERYTHING

_LABELS = st.dictionaries(st.sampled_from(["env", "team"]), st.sampled_from(["a", "b"]), max_size=2)
_SELECTOR = st.one_of(
    st.just({}),
    st.just(STAR),
    st.dictionaries(
        st.sampled_from(["env", "team", "{{external.key}}"]),
        st.sampled_from(["a", ["a", "b"], "*", "^a$", "{{external.value}}"]),
        min_size=1,
        max_size=2,
    ),
)
_EXPRESSION = st.sampled_from(
    ["", "", 'labels["env"] == "a"', 'contains(user.spec.traits["value"], labels["team"])']
)
_PREFIXES = ("node", "db", "app", "kubernetes", "windows_desktop", "cluster")
_TRAITS = st.fixed_dictionaries(
    {
        "key": st.sampled_from([(), ("env",), ("team", "env"), ("*",)]),
        "value": st.sampled_from([(), ("a",), ("*",), ("a", "b")]),
    }
)


def _some(*values: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True)


_SIDE: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {f"{prefix}_labels": _SELECTOR for prefix in _PREFIXES}
    | {f"{prefix}_labels_expression": _EXPRESSION for prefix in _PREFIXES}
    | {
        "logins": _some("root", "deploy", "{{external.value}}"),
        "windows_desktop_logins": _some("root", "ada"),
        "db_users": _some("root", "alice", "*"),
        "db_names": _some("app", "*"),
        "db_roles": _some("reader", "writer"),
        "kubernetes_users": _some("ada", "root"),
        "kubernetes_groups": _some("view", "edit"),
        "aws_role_arns": _some("arn:a", "arn:b"),
        "azure_identities": _some("/ID/A", "/id/b"),
        "gcp_service_accounts": _some("a@x", "b@x"),
        "kubernetes_resources": st.lists(
            st.builds(
                KubernetesResource,
                kind=st.sampled_from(["pod", "namespace", "*"]),
                namespace=st.sampled_from(["", "prod", "pr*", "*"]),
                name=st.sampled_from(["", "web", "prod", "w*", "*"]),
                verbs=st.sampled_from([["get"], ["*"], ["get", "delete"]]),
            ),
            max_size=2,
        ),
        "source": st.sampled_from([[], ["10.0.0.0/8"], ["192.0.2.0/24"]]),
    }
)
_OPTIONS = st.fixed_dictionaries(
    {
        "require_session_mfa": st.booleans(),
        "create_db_user_mode": st.sampled_from(["", "off", "keep", "best_effort_drop"]),
    }
)
_ROLES = st.lists(st.tuples(_SIDE, st.one_of(st.just({}), _SIDE), _OPTIONS), max_size=3).map(
    lambda parts: [role(f"r{n}", allow, deny, **options) for n, (allow, deny, options) in enumerate(parts)]
)
_OBJECTS = st.sampled_from(
    [
        KubeObject("pods", "get", "prod", "web"),
        KubeObject("pods", "list", "prod"),
        KubeObject("pods", "deletecollection", "dev"),
        KubeObject("secrets", "delete", "dev", "web"),
        KubeObject("namespaces", "get", "", "prod"),
        KubeObject("namespaces", "delete", "", "prod"),
        KubeObject("widgets", "get", "prod", "web", "example.com"),
    ]
)
_IDENTITIES = st.sampled_from(
    [{}, {"aws_role_arn": "arn:a"}, {"azure_identity": "/id/a"}, {"gcp_service_account": "a@x"}]
)


@st.composite
def _uses(draw: st.DrawFn) -> Access:
    labels = draw(_LABELS)
    return draw(
        st.one_of(
            st.builds(SshLogin, st.just(server(labels)), st.sampled_from(["root", "deploy"])),
            st.builds(OpenDesktop, st.just(desktop(labels)), st.sampled_from(["root", "ada"])),
            st.builds(
                ConnectDatabase,
                st.just(database(labels, draw(st.sampled_from(["postgres", "mysql"])))),
                st.sampled_from(["root", "alice", ""]),
                st.sampled_from(["app", "other"]),
                st.sampled_from([None, ("reader",)]),
            ),
            _IDENTITIES.map(lambda found: ConnectApp(app(labels), **found)),
            st.builds(
                UseKube,
                st.just(kube(labels)),
                st.sampled_from(["", "ada"]),
                st.sampled_from([(), ("view",)]),
                st.one_of(st.none(), _OBJECTS),
            ),
            st.just(EnterCluster(leaf(labels))),
        )
    )


_SOURCES = st.sampled_from(["10.0.0.5", "192.0.2.1", "::ffff:10.0.0.5", ""])


def _env(source: str) -> Environment:
    return Environment(now=NOW, source_addr=source)


@pytest.mark.fuzz
@given(_ROLES, _uses(), _TRAITS, _SOURCES)
@settings(max_examples=examples(100), deadline=None)
def test_whoever_may_use_a_resource_may_see_it(
    roles: list[Role], target: Access, traits: Any, source: str
) -> None:
    changes = {"traits": traits, "mfa_device": "m"}
    if ask(roles, target, _env(source), **changes):
        assert ask(roles, See(resource_of(target)), _env(source), **changes)


@pytest.mark.fuzz
@given(_ROLES, _SIDE, _uses(), _TRAITS, _SOURCES, st.booleans())
@settings(max_examples=examples(100), deadline=None)
def test_a24_another_deny_gives_nothing(
    roles: list[Role], deny: Any, target: Access, traits: Any, source: str, mfa: bool
) -> None:
    """Neither the use nor the sight of anything, nor a name to be there as."""
    changes = {"traits": traits, "mfa_device": "m" if mfa else ""}
    more = [*roles, role("d", deny=deny)]
    before, after = (ask(some, target, _env(source), **changes) for some in (roles, more))
    if after:
        assert before
        for field, values in after.principals.items():
            assert set(values) <= set(before.principals[field])
    seen = See(resource_of(target))
    assert ask(roles, seen, _env(source), **changes) or not ask(more, seen, _env(source), **changes)


@pytest.mark.fuzz
@given(_ROLES, _SIDE, _uses(), _TRAITS, _SOURCES)
@settings(max_examples=examples(100), deadline=None)
def test_another_allow_takes_nothing(
    roles: list[Role], allow: Any, target: Access, traits: Any, source: str
) -> None:
    """But that a leaf cluster without labels is open only while no role speaks of labels of clusters."""
    changes = {"traits": traits}
    more = [*roles, role("more", allow)]
    before, after = (ask(some, target, _env(source), **changes) for some in (roles, more))
    if before and not (isinstance(target, EnterCluster) and not target.remote.metadata.labels):
        assert after, after.reasons
        for field, values in before.principals.items():
            assert set(values) <= set(after.principals[field])


_EXEC = KubeObject("pods", "exec", "prod", "web")
_SESSIONS: dict[str, Access] = {
    "ssh": SshLogin(server(), "root"),
    "k8s": UseKube(kube(), object=_EXEC),
    "db": ConnectDatabase(database(), "app", "orders"),
    "app": ConnectApp(app()),
    "desktop": OpenDesktop(desktop(), "Administrator"),
}


@pytest.mark.parametrize("kind", _SESSIONS)
def test_a30_no_kind_of_session_begins_alone_where_company_is_demanded(kind: str) -> None:
    objects = [KubernetesResource(kind="*", namespace="*", name="*", verbs=["*"])]
    wide = msgspec.structs.replace(EVERYTHING.spec.allow, kubernetes_resources=objects)
    allowing = role("a", {name: getattr(wide, name) for name in wide.__struct_fields__})
    assert ask([allowing], _SESSIONS[kind])
    for demanded in (kind, "*", "ssh" if kind != "ssh" else "db"):
        policy = RequirePolicy(name="eyes", kinds=[demanded], modes=["moderator"])
        roles = [allowing, role("d", {"require_session_join": [policy]})]
        assert bool(ask(roles, _SESSIONS[kind])) is (demanded not in (kind, "*"))
        # What is no session goes on without company.
        assert ask(roles, See(resource_of(_SESSIONS[kind])))
        assert ask(roles, UseKube(kube(), object=KubeObject("pods", "get", "prod", "web")))


# --- naive models; selectors are `*: *` or nothing, since labels have models of their own


def _text(pattern: str, value: str) -> bool:
    return pattern in ("*", value) or (pattern.endswith("*") and value.startswith(pattern[:-1]))


def _allows(rule: KubernetesResource, wanted: KubeObject) -> bool:
    verb = wanted.verb in rule.verbs or rule.verbs == ["*"]
    looking = wanted.kind == "namespaces" and wanted.verb == "get"
    if looking and rule.namespace and _text(rule.namespace, wanted.name):
        return True  # whatever inside it
    if not verb:
        return False
    if rule.kind == "namespace":
        if wanted.namespace:
            return _text(rule.name, wanted.namespace)
        return wanted.kind == "namespaces" and rule.namespace in ("", "*") and _text(rule.name, wanted.name)
    kind = rule.kind == "*" or (rule.kind == "pod" and wanted.kind == "pods")
    return kind and _text(rule.namespace, wanted.namespace) and _text(rule.name, wanted.name)


def _denies(rule: KubernetesResource, wanted: KubeObject) -> bool:
    if wanted.verb not in rule.verbs and "*" not in rule.verbs:
        return False
    space, name = rule.namespace or "*", rule.name or "*"
    if rule.kind == "namespace" and wanted.namespace:
        return _text(name, wanted.namespace)
    if rule.kind == "*" and name == "*" and rule.namespace and wanted.kind == "namespaces":
        return _text(rule.namespace, wanted.name)
    kinds = {"pod": "pods", "namespace": "namespaces", "*": wanted.kind}
    named = wanted.verb == "deletecollection" or _text(name, wanted.name)
    return kinds[rule.kind] == wanted.kind and _text(space, wanted.namespace) and named


@pytest.mark.fuzz
@given(_ROLES, _OBJECTS, st.sampled_from(["", "ada"]), st.sampled_from([(), ("view",)]))
@settings(max_examples=examples(100), deadline=None)
def test_kubernetes_as_the_words_say_it(
    found: list[Role], wanted: KubeObject, user: str, groups: tuple[str, ...]
) -> None:
    roles = [_plain(one, "kubernetes_labels") for one in found]
    selecting = [one for one in roles if one.spec.allow.kubernetes_labels == STAR]
    given: dict[str, set[str]] = {}
    for field in ("kubernetes_users", "kubernetes_groups"):
        denied = {value for one in roles for value in getattr(one.spec.deny, field)}
        given[field] = {value for one in selecting for value in getattr(one.spec.allow, field)} - denied
    expected = (
        not any(one.spec.deny.kubernetes_labels == STAR for one in roles)
        and not any(one.spec.options.require_session_mfa for one in selecting)
        and any(given.values())
        and (not user or user in given["kubernetes_users"])
        and set(groups) <= given["kubernetes_groups"]
        and not any(_denies(rule, wanted) for one in roles for rule in one.spec.deny.kubernetes_resources)
        and any(_allows(rule, wanted) for one in selecting for rule in one.spec.allow.kubernetes_resources)
    )
    decision = ask(roles, UseKube(kube(), user, groups, wanted))
    assert bool(decision) is bool(expected), decision.reasons


@pytest.mark.fuzz
@given(_ROLES, st.sampled_from(["/id/a", "/ID/B", "/id/c"]), st.sampled_from(["", "arn:a", "arn:b"]))
@settings(max_examples=examples(100), deadline=None)
def test_applications_as_the_words_say_it(found: list[Role], azure: str, aws: str) -> None:
    roles = [_plain(one, "app_labels") for one in found]
    granting = [
        one
        for one in roles
        if one.spec.allow.app_labels == STAR
        and azure.lower() in [name.lower() for name in one.spec.allow.azure_identities]
        and (not aws or aws in one.spec.allow.aws_role_arns)
    ]
    expected = (
        bool(granting)
        and not any(one.spec.options.require_session_mfa for one in granting)
        and not any(
            one.spec.deny.app_labels == STAR
            or azure.lower() in [name.lower() for name in one.spec.deny.azure_identities]
            or aws in one.spec.deny.aws_role_arns
            for one in roles
        )
    )
    decision = ask(roles, ConnectApp(app(), aws_role_arn=aws, azure_identity=azure))
    assert bool(decision) is expected, decision.reasons


def _plain(found: Role, labels: str) -> Role:
    """The role with `*: *` where it has some selector, always in force and without an expression."""

    def side(conditions: Any) -> dict[str, Any]:
        fields = {name: getattr(conditions, name) for name in conditions.__struct_fields__}
        selector = STAR if fields[labels] else {}
        return {**fields, labels: selector, f"{labels}_expression": "", "source": []}

    return role(
        found.name,
        side(found.spec.allow),
        side(found.spec.deny),
        require_session_mfa=found.spec.options.require_session_mfa,
    )

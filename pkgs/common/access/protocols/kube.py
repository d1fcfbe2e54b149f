"""Kubernetes clusters: seeing one, using it as users and groups of it, and its objects.

Users and groups are united over the roles that select the cluster. Of objects, a role that selects the
cluster allows some; whatever any role denies is denied in every cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pkgs.common.access.matching import resource_ids
from pkgs.common.access.matching.patterns import compile_pattern, is_pattern
from pkgs.common.access.protocols.grants import Grant, Grants, Principal, Protocol
from pkgs.common.access.types import Decision, Environment, KubeObject, UseKube
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds.requests import ResourceId
from pkgs.common.resources.role import KubernetesResource, Role

USERS, GROUPS = 0, 1
PROTOCOL = Protocol(
    "Kubernetes cluster",
    "kubernetes_labels",
    (Principal("kubernetes_users", deny_any=True), Principal("kubernetes_groups", deny_any=True)),
)
NOBODY = Decision(False, ("no role gives a Kubernetes user or group in this cluster",))
_PLURAL_VERSION = 8
"""From this version of roles on, kinds are written as the Kubernetes API writes them, with their group."""
_NAMESPACES_OPEN = "v7"
"""In this version an allow of a namespace is one of everything inside it."""
_PLURALS = {
    "pod": ("pods", ""),
    "secret": ("secrets", ""),
    "configmap": ("configmaps", ""),
    "namespace": ("namespaces", ""),
    "service": ("services", ""),
    "serviceaccount": ("serviceaccounts", ""),
    "kube_node": ("nodes", ""),
    "persistentvolume": ("persistentvolumes", ""),
    "persistentvolumeclaim": ("persistentvolumeclaims", ""),
    "deployment": ("deployments", "apps"),
    "replicaset": ("replicasets", "apps"),
    "statefulset": ("statefulsets", "apps"),
    "daemonset": ("daemonsets", "apps"),
    "clusterrole": ("clusterroles", "rbac.authorization.k8s.io"),
    "kube_role": ("roles", "rbac.authorization.k8s.io"),
    "clusterrolebinding": ("clusterrolebindings", "rbac.authorization.k8s.io"),
    "rolebinding": ("rolebindings", "rbac.authorization.k8s.io"),
    "cronjob": ("cronjobs", "batch"),
    "job": ("jobs", "batch"),
    "certificatesigningrequest": ("certificatesigningrequests", "certificates.k8s.io"),
    "ingress": ("ingresses", "networking.k8s.io"),
}
"""What the kinds of older roles are called by the API, and in which group they are."""
_LOOKING = frozenset({"get", "list", "watch"})
_NAMESPACES = "namespaces"
_DELETING_ALL = "deletecollection"


def plural_of(kind: str) -> tuple[str, str]:
    """The API's name and group of a kind as older roles and resource ids write it; others as they are."""
    return _PLURALS.get(kind, (kind, ""))


def granted(grants: Grants, labels: Mapping[str, str], env: Environment) -> dict[str, tuple[str, ...]]:
    """Users and groups that the roles give in a cluster with these labels."""
    giving = [grant for grant in grants.every if grant.selects(labels) and grant.in_force(env)]
    refusing = [grant for grant in grants.every if _refuses(grant, labels) and grant.deny_in_force(env)]
    found = {}
    for index, principal in enumerate(PROTOCOL.principals):
        values = {value for grant in giving for value in grant.allowed[index].exact}
        kept = [v for v in values if not any(grant.denies((index, v)) for grant in refusing)]
        found[principal.field] = tuple(sorted(kept))
    return found


def _refuses(grant: Grant, labels: Mapping[str, str]) -> bool:
    """A deny of users and groups counts where the role's deny labels match; without any, everywhere."""
    deny = grant.source.spec.deny
    return not (deny.kubernetes_labels or deny.kubernetes_labels_expression) or bool(grant.refusal(labels))


def as_principals(decision: Decision, target: UseKube, found: Mapping[str, tuple[str, ...]]) -> Decision:
    """A yes with the users and groups to impersonate: those asked for, which must be granted, or all."""
    users, groups = found["kubernetes_users"], found["kubernetes_groups"]
    if not users and not groups:
        return NOBODY
    if target.user and target.user not in users:
        return Decision(False, (f"no role gives the Kubernetes user {target.user} in this cluster",))
    for group in target.groups:
        if group not in groups:
            return Decision(False, (f"no role gives the Kubernetes group {group} in this cluster",))
    chosen = {
        "kubernetes_users": (target.user,) if target.user else users,
        "kubernetes_groups": target.groups or groups,
    }
    return Decision(True, decision.reasons, principals=chosen)


def within(ids: Sequence[str], cluster: str, name: str, wanted: KubeObject | None) -> bool:
    """Whether a certificate restricted to these ids may do this in the Kubernetes cluster `name`: anything,
    if the cluster itself is among them, otherwise only what is about one of its objects (attack A22)."""
    for text in ids:
        try:
            found = resource_ids.parse(text)
        except InputError:
            continue
        if (found.cluster, found.name) != (cluster, name):
            continue
        if found.kind == "kube_cluster":
            return True
        if found.kind in resource_ids.KUBE_OBJECTS and wanted is not None and _is(found, wanted):
            return True
    return False


def _is(found: ResourceId, wanted: KubeObject) -> bool:
    namespace, slash, name = found.sub_resource.partition("/")
    if not slash:
        namespace, name = "", namespace
    return (
        plural_of(found.kind) == (wanted.kind, wanted.api_group)
        and namespace == wanted.namespace
        and bool(wanted.name)
        and name == wanted.name
    )


def check_object(grants: Grants, labels: Mapping[str, str], wanted: KubeObject, env: Environment) -> Decision:
    """Whether roles let this be done to the object; raises nothing, a pattern that fails to compile denies
    where it would deny and allows nothing."""
    for grant in grants.every:
        deny = grant.source.spec.deny
        if deny.kubernetes_resources and grant.deny_in_force(env):
            for number, rule in enumerate(deny.kubernetes_resources):
                if _denies(rule, grant.source, wanted):
                    return Decision(False, (f"role {grant.role}: deny.kubernetes_resources[{number}]",))
    for grant in grants.every:
        if not grant.selects(labels) or not grant.in_force(env):
            continue
        for number, rule in enumerate(grant.source.spec.allow.kubernetes_resources):
            if _matches(rule, grant.source, wanted) or _opens_namespace(rule, wanted):
                return Decision(True, (f"role {grant.role}: allow.kubernetes_resources[{number}]",))
    thing = f"{wanted.kind} {wanted.namespace}/{wanted.name}".rstrip("/ ")
    return Decision(False, (f"no role allows {wanted.verb} of {thing} in this cluster",))


def _matches(rule: KubernetesResource, role: Role, wanted: KubeObject) -> bool:
    if not _verb(rule.verbs, wanted.verb):
        return False
    if rule.kind == "namespace" and role.version == _NAMESPACES_OPEN and wanted.namespace:
        return _text(rule.name, wanted.namespace)
    return (
        _kind(rule, role, wanted)
        and _text(rule.namespace, wanted.namespace)
        and _text(rule.name, wanted.name)
    )


def _denies(rule: KubernetesResource, role: Role, wanted: KubeObject) -> bool:
    """A deny is meant however it is written: what it leaves out it does not narrow, in older roles a
    namespace stands for everything inside it, and with all that is inside goes the namespace itself."""
    if rule.verbs and wanted.verb not in rule.verbs and "*" not in rule.verbs:
        return False
    whole = rule.name in {"", "*"}
    # Deleting a collection takes the named ones with it: there is no answer that could be filtered.
    named = whole or wanted.verb == _DELETING_ALL or _text(rule.name, wanted.name)
    if rule.kind == "*" and whole and rule.namespace and _is_namespace(wanted):
        return _text(rule.namespace, wanted.name)
    if is_plural(role):
        # Here no namespace is the place of what lies in none.
        group = not rule.api_group or _text(rule.api_group, wanted.api_group)
        return rule.kind in {"*", wanted.kind} and group and named and _text(rule.namespace, wanted.namespace)
    if rule.kind == "namespace" and wanted.namespace:
        return _text(rule.name or "*", wanted.namespace)
    within = not rule.namespace or _text(rule.namespace, wanted.namespace)
    return _kind(rule, role, wanted) and named and within


def _is_namespace(wanted: KubeObject) -> bool:
    return wanted.kind == _NAMESPACES and not wanted.api_group and bool(wanted.name)


def _kind(rule: KubernetesResource, role: Role, wanted: KubeObject) -> bool:
    if is_plural(role):
        return rule.kind in {"*", wanted.kind} and _text(rule.api_group, wanted.api_group)
    if rule.kind == "*":
        return True
    return plural_of(rule.kind) == (wanted.kind, wanted.api_group)


def is_plural(role: Role) -> bool:
    number = role.version.removeprefix("v")
    return number.isdecimal() and int(number) >= _PLURAL_VERSION


def _opens_namespace(rule: KubernetesResource, wanted: KubeObject) -> bool:
    """A namespace may be looked at by whoever may do something inside it."""
    return (
        _is_namespace(wanted)
        and wanted.verb in _LOOKING
        and bool(rule.namespace)
        and _text(rule.namespace, wanted.name)
    )


def _verb(verbs: Sequence[str], wanted: str) -> bool:
    return wanted in verbs or (bool(verbs) and verbs[0] == "*")


def _text(pattern: str, value: str) -> bool:
    """Names, namespaces and groups: exact, glob or regular expression; `*` also stands for none."""
    if pattern == "*" or pattern == value:
        return True
    return is_pattern(pattern) and compile_pattern(pattern).search(value) is not None

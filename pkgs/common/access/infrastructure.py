"""Which applications, databases, clusters and desktops somebody may see: by labels, deny over allow.

Everybody's implicit role may list these kinds; what is listed is decided here, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pkgs.common.access.labels import compile_selector
from pkgs.common.access.roleset import applies_here
from pkgs.common.access.traits import Traits
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import App, Database, KubeCluster, Resource
from pkgs.common.resources.role import Role

SELECTORS = {
    "app": "app_labels",
    "db": "db_labels",
    "kube_cluster": "kubernetes_labels",
    "windows_desktop": "windows_desktop_labels",
    "remote_cluster": "cluster_labels",
}
"""Kind to the field of a role that selects by its labels."""


def sees(kind: str, roles: Sequence[Role], traits: Traits) -> Callable[[Resource], bool]:
    """A test for resources of one kind. A label expression, which is not understood yet, allows nothing in
    allow and denies everything in deny."""
    field = SELECTORS[kind]
    try:
        allowed = [
            compile_selector(getattr(role.spec.allow, field), traits)
            for role in roles
            if not getattr(role.spec.allow, f"{field}_expression") and applies_here(role.spec.allow)
        ]
        denied = [compile_selector(getattr(role.spec.deny, field), traits, deny=True) for role in roles]
    except InputError:
        return lambda resource: False
    if any(getattr(role.spec.deny, f"{field}_expression") for role in roles):
        return lambda resource: False
    # The field's rule for clusters: labels protect only when somebody uses them.
    unused = kind == "remote_cluster" and not any(
        getattr(side, name)
        for role in roles
        for side in (role.spec.allow, role.spec.deny)
        for name in (field, f"{field}_expression")
    )

    def test(resource: Resource) -> bool:
        labels = _labels(resource)
        if any(selector.matches(labels) for selector in denied):
            return False
        return any(selector.matches(labels) for selector in allowed) or (unused and not labels)

    return test


def _labels(resource: Resource) -> Mapping[str, str]:
    if isinstance(resource, App | Database | KubeCluster) and resource.spec.dynamic_labels:
        results = {key: label.result for key, label in resource.spec.dynamic_labels.items()}
        return {**resource.metadata.labels, **results}
    return resource.metadata.labels

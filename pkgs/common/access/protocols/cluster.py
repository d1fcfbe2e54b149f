"""Leaf clusters: seeing one, and being routed into it. What may be done there, the leaf decides."""

from __future__ import annotations

from collections.abc import Mapping

from pkgs.common.access.protocols.grants import Grants, Protocol, see
from pkgs.common.access.types import Decision, Environment

PROTOCOL = Protocol("cluster", "cluster_labels")
_UNUSED = Decision(True, ("no role selects clusters by labels, and this one has none",))


def enter(grants: Grants, labels: Mapping[str, str], env: Environment) -> Decision:
    """Labels protect a cluster only where somebody uses them: a cluster without labels is open to roles of
    which none speaks of cluster labels."""
    if not labels and not _used(grants):
        return _UNUSED
    return see(grants, labels, env)


def _used(grants: Grants) -> bool:
    return any(
        side.cluster_labels or side.cluster_labels_expression
        for grant in grants.every
        for side in (grant.source.spec.allow, grant.source.spec.deny)
    )

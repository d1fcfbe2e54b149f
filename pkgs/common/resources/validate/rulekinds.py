"""The words that rules of roles use for kinds."""

from __future__ import annotations

import difflib

from pkgs.common.errors import InputError
from pkgs.common.resources.registry import ALIASES, GROUPS, NOT_KEPT, TYPES
from pkgs.common.resources.role import Rule
from pkgs.common.resources.validate import words

PSEUDO = frozenset(
    {
        *("*", "session", "session_tracker", "ssh_session", "event", "auth_connector", "host_cert"),
        *("access_plugin_data", "instance", "billing", "connection_diagnostic", "usage_event"),
        *("github_request", "oidc_request", "saml_request", "cluster_alert", "cluster_audit_config"),
        *("database_certificate", "okta_import_rule", "okta_assignment", "access_graph", "notification"),
    }
)
"""What exists for rules only."""


def known(kind: str) -> bool:
    """Whether the field has this kind, by whatever name of it, kept here or not."""
    return kind in TYPES or kind in ALIASES or kind in GROUPS or kind in NOT_KEPT or kind in PSEUDO


def nearest(kind: str) -> str:
    """The known kind that may have been meant; empty: none is near."""
    every = sorted({*TYPES, *NOT_KEPT, *PSEUDO} - {"*"})
    return next(iter(difflib.get_close_matches(kind.strip().lower(), every, n=1, cutoff=0.75)), "")


def check_denied(rules: list[Rule], where: str) -> None:
    """A deny rule with a misspelt kind would refuse nothing, unseen. A kind that is like no other may be of
    a newer version of the field: nothing here is of it, so that there is nothing to refuse."""
    for index, rule in enumerate(rules):
        for at, kind in enumerate(rule.resources):
            # A deny is meant however it is written.
            if not known(kind.strip().lower()) and nearest(kind):
                raise InputError(
                    f"{where}.rules[{index}].resources[{at}]: unknown kind {words.short(kind)!r}",
                    hint=f"did you mean {nearest(kind)}?",
                )

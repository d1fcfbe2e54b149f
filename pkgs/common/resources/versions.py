"""What differs between versions: which are accepted, what an absent field means, numbers that have names.

The one place where a document's text is completed before it becomes a typed value; every other default
stands beside its field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROLE_VERSIONS = ("v3", "v4", "v5", "v6", "v7", "v8")
_LEGACY = frozenset({"v1", "v2", "v3"})
_OLD_KINDS = frozenset(
    {
        *("user", "node", "proxy", "auth_server", "token", "cert_authority", "cluster_name", "lock"),
        *("cluster_auth_preference", "cluster_networking_config", "session_recording_config"),
        *("trusted_cluster", "remote_cluster", "github", "oidc", "saml", "access_request"),
    }
)
"""Kinds from the time when the number meant little: readers of the field take any of the old ones."""


def accepted(kind: str, default: str) -> tuple[str, ...]:
    """The versions of a kind that are understood."""
    if kind == "role":
        return ROLE_VERSIONS
    return tuple(sorted(_LEGACY | {default})) if kind in _OLD_KINDS else (default,)


_PODS = {"kind": "pod", "namespace": "*", "name": "*", "verbs": ["*"]}
_EVERY_OBJECT = {"kind": "*", "namespace": "*", "name": "*", "verbs": ["*"]}
_KUBERNETES: dict[str, list[dict[str, Any]]] = {
    "v3": [_PODS],
    "v4": [_PODS],
    "v5": [_PODS],
    "v7": [_EVERY_OBJECT],
    "v8": [{**_EVERY_OBJECT, "api_group": "*"}],
}


def absent_in_allow(version: str, given: Mapping[str, bool]) -> dict[str, Any]:
    """What `spec.allow` of a role means where it says nothing. `given`: each field that is written, and
    whether anything is in it."""
    found: dict[str, Any] = {}
    if version == "v3":
        if given.get("logins") and "node_labels" not in given:
            found["node_labels"] = {"*": "*"}
        for name in ("app_labels", "kubernetes_labels", "db_labels"):
            if name not in given:
                found[name] = {"*": "*"}
    reaches = (
        "kubernetes_labels" in found
        or given.get("kubernetes_labels")
        or given.get("kubernetes_labels_expression")
    )
    if reaches and "kubernetes_resources" not in given and version in _KUBERNETES:
        found["kubernetes_resources"] = _KUBERNETES[version]
    return found


_MFA = ("off", "session", "hardware_key", "hardware_key_touch", "hardware_key_pin")
_MFA_NUMBERS = dict(enumerate((*_MFA, "hardware_key_touch_and_pin")))
MFA_MODES = frozenset({"", "no", "off", "yes", *_MFA_NUMBERS.values()})
"""What `require_session_mfa` may be beside true and false."""

NUMBERS: dict[str, dict[tuple[str, ...], dict[int, str]]] = {
    "role": {
        ("spec", "options", "create_host_user_mode"): {0: "", 1: "off", 3: "keep", 4: "insecure-drop"},
        ("spec", "options", "create_db_user_mode"): {0: "", 1: "off", 2: "keep", 3: "best_effort_drop"},
        ("spec", "options", "require_session_mfa"): _MFA_NUMBERS,
    },
    "cluster_auth_preference": {("spec", "require_session_mfa"): _MFA_NUMBERS},
    "cluster_networking_config": {
        ("spec", "proxy_listener_mode"): {0: "separate", 1: "multiplex"},
        ("spec", "routing_strategy"): {0: "unambiguous_match", 1: "most_recent"},
    },
    "db": {("spec", "tls", "mode"): {0: "verify-full", 1: "verify-ca", 2: "insecure"}},
    "access_request": {
        ("spec", "state"): {1: "PENDING", 2: "APPROVED", 3: "DENIED", 4: "PROMOTED"},
    },
}
"""Fields that are written by name or by number; names are what is kept."""

"""`role`: what its holders may do. Field facts and defaults: the field's own role documentation."""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.resources.metadata import Base, Spec

Labels = dict[str, str | list[str]]
"""Label selector: a value or a list of values per key; `'*': '*'` matches everything."""


class PortForwardingMode(Spec, frozen=True, kw_only=True):
    enabled: bool = False


class SshPortForwarding(Spec, frozen=True, kw_only=True):
    local: PortForwardingMode = PortForwardingMode()
    remote: PortForwardingMode = PortForwardingMode()


class RecordSession(Spec, frozen=True, kw_only=True):
    default: Literal["best_effort", "strict"] = "best_effort"
    ssh: Literal["", "best_effort", "strict"] = ""
    desktop: bool = True


class RoleOptions(Spec, frozen=True, kw_only=True):
    max_session_ttl: str = "30h0m0s"
    cert_format: Literal["standard", "oldssh"] = "standard"
    forward_agent: bool = False
    port_forwarding: bool | None = None
    ssh_port_forwarding: SshPortForwarding | None = None
    ssh_file_copy: bool = True
    permit_x11_forwarding: bool = False
    client_idle_timeout: str = ""
    disconnect_expired_cert: bool = False
    max_sessions: int = 0
    max_connections: int = 0
    enhanced_recording: tuple[Literal["command", "disk", "network"], ...] = ("command", "network")
    record_session: RecordSession = RecordSession()
    lock: Literal["", "strict", "best_effort"] = ""
    require_session_mfa: bool | str = False
    pin_source_ip: bool = False


class Rule(Spec, frozen=True, kw_only=True):
    """Permission on the API's resources by kind and verb."""

    resources: list[str]
    verbs: list[str]
    where: str = ""
    actions: list[str] = []


class Conditions(Spec, frozen=True, kw_only=True):
    """One side (allow or deny) of a role."""

    logins: list[str] = []
    node_labels: Labels = {}
    node_labels_expression: str = ""
    rules: list[Rule] = []
    namespaces: tuple[str, ...] = ("default",)


class RoleSpec(Spec, frozen=True, kw_only=True):
    options: RoleOptions = RoleOptions()
    allow: Conditions = Conditions()
    deny: Conditions = Conditions()


class Role(Base, frozen=True, kw_only=True, tag="role"):
    version: str = "v7"
    spec: RoleSpec = msgspec.field(default_factory=RoleSpec)

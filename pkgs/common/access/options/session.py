"""Options of connections and sessions, SSH ones above all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.options.login import (
    MAX_CERT_TTL_S,
    LockMode,
    cert_format,
    lock_mode,
    pins_source,
)
from pkgs.common.access.options.merge import InForce, always, granting, shortest, smallest
from pkgs.common.access.protocols.grants import matchers
from pkgs.common.access.protocols.ssh import LOGINS
from pkgs.common.resources.kinds import AuthPreference, NetworkingConfig
from pkgs.common.resources.role import PortForwardingMode, Role, SshPortForwarding


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What the roles say about a session, merged."""

    max_session_ttl_s: float
    forward_agent: bool
    port_forward_local: bool
    port_forward_remote: bool
    x11: bool
    file_copy: bool
    client_idle_timeout_s: float
    """0: none."""
    disconnect_expired_cert: bool
    max_sessions: int
    """Channels on one connection; 0: no limit by role."""
    max_connections: int
    """Connections of one user at a time in the whole cluster; 0: no limit by role."""
    max_kubernetes_connections: int
    max_db_connections: int
    """Sessions on databases of one user at a time in the whole cluster; 0: no limit by role."""
    record_strict: bool
    """End an SSH session when it cannot be recorded."""
    record_strict_default: bool
    """The same for sessions of kinds that have no word of their own."""
    pin_source_ip: bool
    lock_mode: LockMode
    cert_format: Literal["standard", "oldssh"]
    enhanced_recording: frozenset[str]


def merge_options(
    roles: Sequence[Role],
    login: str = "",
    *,
    traits: Traits | None = None,
    networking: NetworkingConfig | None = None,
    auth_preference: AuthPreference | None = None,
    in_force: InForce = always,
) -> SessionOptions:
    """Merges the options of all roles with the cluster's. With `login`, agent forwarding is granted only
    by roles that allow this login (`traits` fill in their templates). No roles: nothing is granted."""
    options = [role.spec.options for role in roles]
    return SessionOptions(
        max_session_ttl_s=shortest(o.max_session_ttl for o in options) or MAX_CERT_TTL_S,
        forward_agent=forwards_agent(roles, login, traits or {}, in_force),
        port_forward_local=forwards_ports(roles, lambda modes: modes.local, in_force),
        port_forward_remote=forwards_ports(roles, lambda modes: modes.remote, in_force),
        x11=any(role.spec.options.permit_x11_forwarding for role in granting(roles, in_force)),
        file_copy=bool(granting(roles, in_force)) and all(o.ssh_file_copy for o in options),
        client_idle_timeout_s=idle_timeout(roles, networking),
        disconnect_expired_cert=disconnects_expired(roles, auth_preference),
        max_sessions=int(smallest(o.max_sessions for o in options)),
        max_connections=int(smallest(o.max_connections for o in options)),
        max_kubernetes_connections=int(smallest(o.max_kubernetes_connections for o in options)),
        max_db_connections=int(smallest(o.max_db_connections for o in options)),
        record_strict=records_ssh_strictly(roles, in_force),
        record_strict_default=records_strictly(roles),
        pin_source_ip=pins_source(roles),
        lock_mode=lock_mode(roles, auth_preference, in_force),
        cert_format=cert_format(roles, in_force),
        enhanced_recording=frozenset(kind for o in options for kind in o.enhanced_recording),
    )


def forwards_agent(roles: Sequence[Role], login: str, traits: Traits, in_force: InForce = always) -> bool:
    """Any role; asked for a login, one that allows that login too. Raises InputError."""
    return any(
        role.spec.options.forward_agent and (not login or matchers(role, LOGINS, traits)[0].matches(login))
        for role in granting(roles, in_force)
    )


def forwards_ports(
    roles: Sequence[Role],
    direction: Callable[[SshPortForwarding], PortForwardingMode],
    in_force: InForce = always,
) -> bool:
    """One direction. A role's `port_forwarding: true` beats its own `ssh_port_forwarding`; any role that
    says no in `ssh_port_forwarding` refuses; a role that says nothing allows."""
    allowed = False
    for role in roles:
        option = role.spec.options
        modes = option.ssh_port_forwarding
        explicit = direction(modes).enabled if modes is not None else None
        if option.port_forwarding is True or (explicit is None and option.port_forwarding is None):
            allowed = allowed or in_force(role)
        elif explicit is False:
            return False
        elif explicit:
            allowed = allowed or in_force(role)
    return allowed


def idle_timeout(roles: Sequence[Role], networking: NetworkingConfig | None) -> float:
    """Seconds; the shortest of the roles and the cluster, 0 for none."""
    texts = [role.spec.options.client_idle_timeout for role in roles]
    if networking is not None:
        texts.append(networking.spec.client_idle_timeout)
    return shortest(texts)


def disconnects_expired(roles: Sequence[Role], auth_preference: AuthPreference | None) -> bool:
    """The cluster or any role."""
    cluster = auth_preference is not None and auth_preference.spec.disconnect_expired_cert
    return cluster or any(role.spec.options.disconnect_expired_cert for role in roles)


def records_ssh_strictly(roles: Sequence[Role], in_force: InForce = always) -> bool:
    """`record_session.ssh`: strict in any role wins, then best_effort in any, then the strictest default.
    A role that is not in force does not relax."""
    if any(role.spec.options.record_session.ssh == "strict" for role in roles):
        return True
    if any(role.spec.options.record_session.ssh for role in granting(roles, in_force)):
        return False
    return records_strictly(roles)


def records_strictly(roles: Sequence[Role]) -> bool:
    """`record_session.default`: the strictest."""
    return any(role.spec.options.record_session.default == "strict" for role in roles)

"""Role options over a set of roles, each merged the way the field does it: mostly to the strictest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pkgs.common.access.protocols.grants import matchers
from pkgs.common.access.protocols.ssh import LOGINS
from pkgs.common.access.traits import Traits
from pkgs.common.errors import DeniedError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import AuthPreference, NetworkingConfig
from pkgs.common.resources.role import PortForwardingMode, Role, RoleOptions, SshPortForwarding

LockMode = Literal["strict", "best_effort"]
MAX_CERT_TTL_S = 30 * 3600.0
"""Longest life of a user certificate that no role shortens."""


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
    record_strict: bool
    """End the session when it cannot be recorded."""
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
) -> SessionOptions:
    """Merges the options of all roles with the cluster's. With `login`, agent forwarding is granted only
    by roles that allow this login (`traits` fill in their templates). No roles: nothing is granted."""
    options = [role.spec.options for role in roles]
    idle = [parse_duration(o.client_idle_timeout) for o in options]
    if networking is not None:
        idle.append(parse_duration(networking.spec.client_idle_timeout))
    cluster_disconnects = auth_preference is not None and auth_preference.spec.disconnect_expired_cert
    return SessionOptions(
        max_session_ttl_s=_smallest([parse_duration(o.max_session_ttl) for o in options]) or MAX_CERT_TTL_S,
        forward_agent=any(
            role.spec.options.forward_agent and _allows_login(role, login, traits or {}) for role in roles
        ),
        port_forward_local=_port_forwarding(options, lambda modes: modes.local),
        port_forward_remote=_port_forwarding(options, lambda modes: modes.remote),
        x11=any(o.permit_x11_forwarding for o in options),
        file_copy=bool(options) and all(o.ssh_file_copy for o in options),
        client_idle_timeout_s=_smallest(idle),
        disconnect_expired_cert=cluster_disconnects or any(o.disconnect_expired_cert for o in options),
        max_sessions=int(_smallest([o.max_sessions for o in options])),
        record_strict=_record_strict(options),
        pin_source_ip=any(o.pin_source_ip for o in options),
        lock_mode=lock_mode(roles, auth_preference),
        cert_format="oldssh" if any(o.cert_format == "oldssh" for o in options) else "standard",
        enhanced_recording=frozenset(kind for o in options for kind in o.enhanced_recording),
    )


def max_session_ttl(roles: Iterable[Role], requested_s: float) -> float:
    """Seconds a certificate may live: the request, cut by every role and by the platform's maximum.
    A request of 0 or less asks for as much as the roles give."""
    limits = [parse_duration(role.spec.options.max_session_ttl) for role in roles]
    most = _smallest(limits) or MAX_CERT_TTL_S
    return min(requested_s, most) if requested_s > 0 else most


def logins_for(roles: Sequence[Role], traits: Traits, ttl_s: float) -> tuple[str, ...]:
    """OS logins for a certificate of this life: union of the allows of roles that permit the life, minus
    every deny. Empty when no role gives any; DeniedError when some would, but not for so long."""
    found = [(role, *matchers(role, LOGINS, traits)) for role in roles]
    covering = []
    for role, allowed, _ in found:
        longest = parse_duration(role.spec.options.max_session_ttl)
        if not longest or longest >= ttl_s:
            covering.append(allowed)
    if not covering and any(allowed.exact for _, allowed, _ in found):
        raise DeniedError("no role allows certificates that live so long", hint="ask for a shorter --ttl")
    logins = {login for allowed in covering for login in allowed.exact}
    return tuple(sorted(x for x in logins if not any(denied.matches(x) for _, _, denied in found)))


def lock_mode(roles: Iterable[Role], auth_preference: AuthPreference | None) -> LockMode:
    """`strict` in any role wins, then any role's choice, then the cluster's."""
    chosen = {role.spec.options.lock for role in roles} - {""}
    if "strict" in chosen:
        return "strict"
    if chosen:
        return "best_effort"
    return auth_preference.spec.locking_mode if auth_preference is not None else "best_effort"


def _smallest(values: Iterable[float]) -> float:
    """The smallest of those that are set; 0 when none is."""
    return min((value for value in values if value > 0), default=0)


def _allows_login(role: Role, login: str, traits: Traits) -> bool:
    return not login or matchers(role, LOGINS, traits)[0].matches(login)


def _port_forwarding(
    options: Sequence[RoleOptions], direction: Callable[[SshPortForwarding], PortForwardingMode]
) -> bool:
    """One direction. A role's `port_forwarding: true` beats its own `ssh_port_forwarding`; any role that
    says no in `ssh_port_forwarding` refuses; a role that says nothing allows."""
    allowed = False
    for option in options:
        modes = option.ssh_port_forwarding
        explicit = direction(modes).enabled if modes is not None else None
        if option.port_forwarding is True or (explicit is None and option.port_forwarding is None):
            allowed = True
        elif explicit is False:
            return False
        elif explicit:
            allowed = True
    return allowed


def _record_strict(options: Sequence[RoleOptions]) -> bool:
    ssh = {o.record_session.ssh for o in options} - {""}
    if ssh:
        return "strict" in ssh
    return any(o.record_session.default == "strict" for o in options)

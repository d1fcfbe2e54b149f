"""Options of logins and certificates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pkgs.common.access.matching.traits import Traits, expand
from pkgs.common.access.options.merge import InForce, always, by_name, granting, shortest
from pkgs.common.access.protocols.grants import requires_mfa
from pkgs.common.resources.kinds import AuthPreference
from pkgs.common.resources.names import valid_extension_name, valid_extension_value
from pkgs.common.resources.role import Role

LockMode = Literal["strict", "best_effort"]
MfaMode = Literal["always", "per-role", "never"]
DeviceMode = Literal["off", "optional", "required"]
KeyPolicy = Literal[
    "none", "hardware_key", "hardware_key_touch", "hardware_key_pin", "hardware_key_touch_and_pin"
]
MAX_CERT_TTL_S = 30 * 3600.0
"""Longest life of a user certificate that no role shortens."""

_SESSION_ONLY = frozenset({"yes", "session", "true", "1"})
_POLICIES: dict[frozenset[str], KeyPolicy] = {
    frozenset(): "hardware_key",
    frozenset({"touch"}): "hardware_key_touch",
    frozenset({"pin"}): "hardware_key_pin",
    frozenset({"touch", "pin"}): "hardware_key_touch_and_pin",
}
_DEMANDS = {policy: demands for demands, policy in _POLICIES.items()}


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """What `request_access` asks of a login."""

    must_request: bool
    """Make an access request right after logging in."""
    reason_required: bool
    prompts: tuple[str, ...]
    """What the roles say when a reason is asked for, in the order of their names."""


def max_session_ttl(roles: Iterable[Role], requested_s: float) -> float:
    """Seconds a certificate may live: the request, cut by every role and by the platform's maximum.
    A request of 0 or less asks for as much as the roles give."""
    most = shortest(role.spec.options.max_session_ttl for role in roles) or MAX_CERT_TTL_S
    return min(requested_s, most) if requested_s > 0 else most


def mfa_verification_interval(roles: Sequence[Role]) -> float:
    """Seconds after which a long-lived tunnel asks for the second factor again: the shortest, at most the
    life of a certificate."""
    ttl = max_session_ttl(roles, 0)
    return min(shortest(role.spec.options.mfa_verification_interval for role in roles) or ttl, ttl)


def lock_mode(
    roles: Iterable[Role], auth_preference: AuthPreference | None, in_force: InForce = always
) -> LockMode:
    """`strict` in any role wins, then any role's choice, then the cluster's. A role that is not in force
    does not relax."""
    chosen = [role for role in roles if role.spec.options.lock]
    if any(role.spec.options.lock == "strict" for role in chosen):
        return "strict"
    if granting(chosen, in_force):
        return "best_effort"
    return auth_preference.spec.locking_mode if auth_preference is not None else "best_effort"


def pins_source(roles: Iterable[Role]) -> bool:
    return any(role.spec.options.pin_source_ip for role in roles)


def cert_format(roles: Sequence[Role], in_force: InForce = always) -> Literal["standard", "oldssh"]:
    """The form that more programs read wins."""
    old = any(role.spec.options.cert_format == "oldssh" for role in granting(roles, in_force))
    return "oldssh" if old else "standard"


def cert_extensions(roles: Sequence[Role], traits: Traits, in_force: InForce = always) -> dict[str, str]:
    """Custom extensions of SSH certificates. Of a template the first value counts; an empty or unfit one
    gives nothing (attack A25). The same name again: the later role by name overwrites. Names that mean
    something to us or to OpenSSH never come out. Raises InputError."""
    found: dict[str, str] = {}
    for role in by_name(granting(roles, in_force)):
        for extension in role.spec.options.cert_extensions:
            expanded = expand(extension.value, traits)
            value = next(iter(expanded.values), "")
            if value == "*" and expanded.from_trait:
                continue
            if valid_extension_name(extension.name) and valid_extension_value(value):
                found[extension.name] = value
    return found


def mfa_mode(roles: Iterable[Role], auth_preference: AuthPreference | None) -> MfaMode:
    """`per-role`: the strictest role that grants decides. The implicit role asks for nothing, so that roles
    alone never make it `always`."""
    if auth_preference is not None and requires_mfa(auth_preference.spec.require_session_mfa):
        return "always"
    return (
        "per-role" if any(requires_mfa(role.spec.options.require_session_mfa) for role in roles) else "never"
    )


def key_policy(roles: Iterable[Role], auth_preference: AuthPreference | None) -> KeyPolicy:
    """The policy for private keys that satisfies the cluster and every role: touch in one and pin in
    another is both. What is not known is the strictest."""
    values = [role.spec.options.require_session_mfa for role in roles]
    if auth_preference is not None:
        values.append(auth_preference.spec.require_session_mfa)
    demands: set[str] = set()
    hardware = False
    for value in values:
        if isinstance(value, bool) or not requires_mfa(value) or value.lower() in _SESSION_ONLY:
            continue
        hardware = True
        demands |= next((_DEMANDS[known] for known in _DEMANDS if known == value), {"touch", "pin"})
    return _POLICIES[frozenset(demands)] if hardware else "none"


def login_request(roles: Sequence[Role]) -> LoginRequest:
    """`always` or `reason` in any role takes effect; `reason` also makes the reason mandatory."""
    modes = {role.spec.options.request_access for role in roles}
    prompts = [role.spec.options.request_prompt for role in by_name(roles)]
    return LoginRequest(
        must_request=bool(modes & {"always", "reason"}),
        reason_required="reason" in modes,
        prompts=tuple(dict.fromkeys(prompt for prompt in prompts if prompt)),
    )


def allows_saml_idp(
    roles: Sequence[Role], auth_preference: AuthPreference | None, in_force: InForce = always
) -> bool:
    """Use of the built-in SAML identity provider: the cluster's switch, and no role says no."""
    cluster = auth_preference is None or auth_preference.spec.idp.saml.enabled
    said = all(role.spec.options.idp.saml.enabled for role in roles)
    return cluster and said and bool(granting(roles, in_force))


def device_mode(granting_roles: Iterable[Role], auth_preference: AuthPreference | None) -> DeviceMode:
    """The strictest of the roles that grant an access and of the cluster."""
    modes = {role.spec.options.device_trust_mode for role in granting_roles}
    if auth_preference is not None and auth_preference.spec.device_trust is not None:
        modes.add(auth_preference.spec.device_trust.mode)
    if "required" in modes:
        return "required"
    return "optional" if "optional" in modes else "off"

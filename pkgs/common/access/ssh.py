"""The decision about servers: seeing one, and logging in."""

from __future__ import annotations

from pkgs.common.access.labels import node_labels
from pkgs.common.access.roleset import CompiledRole, RoleSet, requires_mfa
from pkgs.common.access.types import Decision, Environment, SeeNode, SshLogin
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.names import valid_login
from pkgs.common.resources.role import Role

_NO_ROLE = Decision(False, ("no role allows this server with these labels",))
_NO_ROLE_LOGIN = Decision(False, ("no role allows this server and this login together",))
_BAD_LOGIN = Decision(False, ("login is not a valid OS user name",))
_NOT_IN_CERT = Decision(False, ("login is not among the certificate's principals",))
_NEEDS_MFA = "session MFA required"
_NEEDS_DEVICE = "trusted device required"


def decide_see(roles: RoleSet, target: SeeNode) -> Decision:
    """Seen is a server whose labels some role allows and none denies."""
    labels = node_labels(target.node)
    for role in roles.compiled:
        if role.deny_nodes.matches(labels):
            return Decision(False, (f"role {role.name}: deny.node_labels",))
    for role in roles.compiled:
        if role.allow_nodes.matches(labels):
            return Decision(True, (f"role {role.name}: allow.node_labels",))
    return _NO_ROLE


def decide_login(identity: Identity, roles: RoleSet, target: SshLogin, env: Environment) -> Decision:
    """Labels and login must be allowed by the same role; any one deny match refuses."""
    login = target.login
    if not valid_login(login):  # attack A17
        return _BAD_LOGIN
    if login not in identity.logins:  # attack A05
        return _NOT_IN_CERT
    preference = env.auth_preference
    always_mfa = preference is not None and requires_mfa(preference.spec.require_session_mfa)
    if always_mfa and not identity.mfa_device:
        return Decision(False, (_NEEDS_MFA,))
    labels = node_labels(target.node)
    for role in roles.compiled:
        if role.deny_nodes.matches(labels):
            return Decision(False, (f"role {role.name}: deny.node_labels",))
        if login in role.deny_logins or "*" in role.deny_logins:
            return Decision(False, (f"role {role.name}: deny.logins",))
    granting = [
        role for role in roles.compiled if login in role.allow_logins and role.allow_nodes.matches(labels)
    ]
    for role in granting:
        missing = _missing(role, identity)
        if missing:
            return Decision(False, (f"role {role.name}: {missing}",))
    if granting:
        return Decision(True, (f"role {granting[0].name}: allow.logins and allow.node_labels",))
    return _NO_ROLE_LOGIN


def needs_company(role: Role) -> bool:
    """Whether the role lets SSH sessions run only while others watch. Roles before v5 know no such thing."""
    return role.version not in {"v3", "v4"} and any(
        policy.count > 0 and not {"ssh", "*"}.isdisjoint(policy.kinds)
        for policy in role.spec.allow.require_session_join
    )


def _missing(role: CompiledRole, identity: Identity) -> str:
    """What a granting role demands beyond labels and login; the strictest granting role decides."""
    if role.requires_mfa and not identity.mfa_device:
        return _NEEDS_MFA
    return _NEEDS_DEVICE if role.requires_device else ""

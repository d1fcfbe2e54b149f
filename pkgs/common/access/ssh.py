"""The decision about servers: seeing one, and logging in."""

from __future__ import annotations

from pkgs.common.access.labels import node_labels
from pkgs.common.access.roleset import CompiledRole, RoleSet, requires_mfa
from pkgs.common.access.types import Decision, Environment, SeeNode, SshLogin
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.names import valid_login

_NO_ROLE = Decision(False, ("no role allows this server with these labels",))
_NO_ROLE_LOGIN = Decision(False, ("no role allows this server and this login together",))
BAD_LOGIN = Decision(False, ("login is not a valid OS user name",))
NOT_IN_CERT = Decision(False, ("login is not among the certificate's principals",))
NEEDS_MFA = "session MFA required"
NEEDS_DEVICE = "trusted device required"


def decide_see(roles: RoleSet, target: SeeNode) -> Decision:
    """Seen is a server whose labels some role allows and none denies."""
    labels = node_labels(target.node)
    for role in roles.denying:
        refusal = role.node_refusal(labels)
        if refusal:
            return Decision(False, (f"role {role.name}: {refusal}",))
    for role in roles.allowing:
        if role.allows_node(labels):
            return Decision(True, (f"role {role.name}: allow.node_labels",))
    return _NO_ROLE


def barred_login(identity: Identity, target: SshLogin, env: Environment) -> Decision | None:
    """What refuses this login before any role is asked; None: nothing."""
    if not valid_login(target.login):  # attack A17
        return BAD_LOGIN
    if target.login not in identity.logins:  # attack A05
        return NOT_IN_CERT
    preference = env.auth_preference
    if (
        preference is not None
        and requires_mfa(preference.spec.require_session_mfa)
        and not identity.mfa_device
    ):
        return Decision(False, (NEEDS_MFA,))
    return None


def decide_login(identity: Identity, roles: RoleSet, target: SshLogin, env: Environment) -> Decision:
    """Labels and login must be allowed by the same role; any one deny match refuses."""
    bar = barred_login(identity, target, env)
    if bar is not None:
        return bar
    login = target.login
    labels = node_labels(target.node)
    for role in roles.denying:
        refusal = role.node_refusal(labels)
        if refusal:
            return Decision(False, (f"role {role.name}: {refusal}",))
        if login in role.deny_logins or "*" in role.deny_logins:
            return Decision(False, (f"role {role.name}: deny.logins",))
    granting = [role for role in roles.allowing if login in role.allow_logins and role.allows_node(labels)]
    for role in granting:
        missing = unmet(role, identity)
        if missing:
            return Decision(False, (f"role {role.name}: {missing}",))
    if granting:
        return Decision(True, (f"role {granting[0].name}: allow.logins and allow.node_labels",))
    return _NO_ROLE_LOGIN


def unmet(role: CompiledRole, identity: Identity) -> str:
    """What a granting role demands beyond labels and login; the strictest granting role decides."""
    if role.requires_mfa and not identity.mfa_device:
        return NEEDS_MFA
    return NEEDS_DEVICE if role.requires_device else ""

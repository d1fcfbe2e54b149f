"""What is worth asking about a resource: the uses of it that a set of roles speaks of.

Decides nothing: every question still goes to `decide`.
"""

from __future__ import annotations

from collections.abc import Iterator

from pkgs.common.access.matching.labels import WILDCARD, labels_of
from pkgs.common.access.protocols import db
from pkgs.common.access.protocols.grants import Grants
from pkgs.common.access.roleset import PROTOCOLS, RoleSet
from pkgs.common.access.types import (
    Access,
    ConnectApp,
    ConnectDatabase,
    EnterCluster,
    Environment,
    OpenDesktop,
    SshLogin,
    UseKube,
)
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import (
    App,
    Database,
    DynamicWindowsDesktop,
    KubeCluster,
    Node,
    RemoteCluster,
    Resource,
    WindowsDesktop,
)

MAX_QUESTIONS = 256
"""About one resource; a role that lists more principals is known by its first ones."""
_IDENTITIES = ("aws_role_arn", "azure_identity", "gcp_service_account")
"""Fields of `ConnectApp`, in the order of the protocol's principals."""


def uses(
    identity: Identity, roles: RoleSet, resource: Resource, env: Environment
) -> Iterator[tuple[str, Access]]:
    """Each principal by which the roles could let somebody use the resource, in words, and the question; at
    most `MAX_QUESTIONS`. `*` stands for any that is not named. Raises InputError."""
    for number, found in enumerate(_uses(identity, roles, resource, env)):
        if number == MAX_QUESTIONS:
            return
        yield found


def _uses(
    identity: Identity, roles: RoleSet, resource: Resource, env: Environment
) -> Iterator[tuple[str, Access]]:
    if resource.kind not in PROTOCOLS:
        return
    grants = roles.grants(PROTOCOLS[resource.kind])
    match resource:
        case Node():
            # As many as a certificate has: others could not log in, whatever the roles say.
            for login in identity.logins:
                yield login, SshLogin(resource, login)
        case Database():
            auto = db.auto_user(grants, labels_of(resource), env)
            users = [identity.name] if auto.mode != "off" else _named(grants, db.USERS)
            names = _named(grants, db.NAMES) if resource.spec.protocol in db.WITH_NAMES else [""]
            for user in users:
                for name in names:
                    yield f"{user}/{name}".rstrip("/"), ConnectDatabase(resource, user, name)
        case App():
            yield "", ConnectApp(resource)
            for index, field in enumerate(_IDENTITIES):
                for value in _named(grants, index):
                    yield value, ConnectApp(resource, **{field: value})
        case KubeCluster():
            yield "", UseKube(resource)
        case WindowsDesktop() | DynamicWindowsDesktop():
            for login in _named(grants, 0):
                yield login, OpenDesktop(resource, login)
        case RemoteCluster():
            yield "", EnterCluster(resource)
        case _:
            return


def _named(grants: Grants, index: int) -> list[str]:
    """Values of a principal that some role allows."""
    values = {value for grant in grants.every for value in grant.allowed[index].exact}
    return sorted(values | ({WILDCARD} if any(g.allowed[index].anything for g in grants.every) else set()))

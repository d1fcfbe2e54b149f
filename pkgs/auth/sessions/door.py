"""Who may join a live session, as far as the Auth Service knows: the server that runs it decides."""

from __future__ import annotations

from pkgs.auth.permissions import Permissions
from pkgs.common.access.joining import MODES, Mode, Participant, PolicySet, Session, may_join
from pkgs.common.access.matching import resource_ids
from pkgs.common.access.options.merge import serving
from pkgs.common.access.visiting import must_prove
from pkgs.common.api.sessions import SessionTracker
from pkgs.common.errors import DeniedError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.role import Role
from pkgs.common.rpc.calls import Caller


class Door:
    def __init__(self, permissions: Permissions, cluster: str) -> None:
        self._permissions = permissions
        self._cluster = cluster

    def roles_of(self, caller: Caller) -> tuple[Role, ...]:
        """Nobody's but a user's. Raises DeniedError."""
        if caller.identity is None or caller.identity.kind is not PeerKind.USER:
            return ()
        return self._permissions.roles(caller.identity.roles)

    def modes(self, caller: Caller, roles: tuple[Role, ...], session: SessionTracker) -> tuple[Mode, ...]:
        """In which modes somebody with these roles may join."""
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return ()
        ids = identity.allowed_resources
        if ids is not None and not resource_ids.allows(ids, self._cluster, "node", session.host_id):
            return ()
        owner = Identity(kind=PeerKind.USER, name=session.host_user, cluster=session.owner_cluster)
        about = Session(session.kind, owner, tuple(PolicySet(name) for name in session.host_roles))
        in_force = serving(self._permissions.environment(caller))
        return tuple(
            mode for mode in MODES if may_join(about, Participant(identity, roles, mode), in_force=in_force)
        )

    def must_prove(self, roles: tuple[Role, ...], session: SessionTracker) -> bool:
        """Whether a moderator with these roles must show that they are there."""
        try:
            owners = self._permissions.roles(session.host_roles)
        except DeniedError:
            return True  # a role of the owner's is gone: nobody knows what it demands
        return must_prove(self._permissions.auth_preference(), (*roles, *owners))

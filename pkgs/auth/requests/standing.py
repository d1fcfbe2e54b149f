"""What users may ask for and review, by the roles they hold without any request."""

from __future__ import annotations

from typing import NamedTuple

from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store
from pkgs.common.access.requests.requester import Requester
from pkgs.common.access.requests.reviewing import Reviewer
from pkgs.common.access.types import Environment
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import AccessRequest, User
from pkgs.common.resources.names import valid_host_id
from pkgs.common.resources.role import Role


class Standing(NamedTuple):
    """A user with what they hold."""

    name: str
    roles: tuple[Role, ...]
    traits: dict[str, tuple[str, ...]]

    def requester(self, env: Environment) -> Requester:
        try:
            return Requester.of(self.name, self.roles, self.traits, env)
        except InputError as error:
            raise _unclear(error) from error

    def reviewer(self, env: Environment) -> Reviewer:
        try:
            return Reviewer.of(self.name, self.roles, self.traits, env)
        except InputError as error:
            raise _unclear(error) from error


def standing_of(store: Store, permissions: Permissions, name: str) -> Standing:
    user = store.get("user", name)
    if not isinstance(user, User):
        raise NotFoundError(f'user "{name[:80]}" not found')
    holding = permissions.holding(user)
    return Standing(user.name, permissions.roles(holding.roles), holding.traits)


def stored_request(store: Store, name: str) -> AccessRequest:
    """NotFoundError also for what has expired."""
    request = store.get("access_request", name) if valid_host_id(name) else None
    if not isinstance(request, AccessRequest):
        raise not_found(name)
    return request


def not_found(name: str) -> NotFoundError:
    """The same for a request that the caller may not see."""
    return NotFoundError(f'access request "{name[:80]}" not found')


def require_person(identity: Identity) -> None:
    """Requests and reviews are made by people in their own name, with nothing that a certificate for
    something else leaves open (attacks A32, A36)."""
    if identity.impersonator or identity.disallow_reissue:
        raise DeniedError("an impersonated certificate neither makes nor reviews access requests")
    if identity.bot_name or identity.renewable:
        raise DeniedError("a machine neither makes nor reviews access requests")
    if identity.allowed_resources is not None:
        raise DeniedError(
            "a certificate restricted to resources neither makes nor reviews access requests",
            hint="`tsh request drop` lifts the restriction",
        )


def _unclear(error: InputError) -> DeniedError:
    return DeniedError(
        "a role says something about requests that is not understood",
        detail=str(error),
        hint="ask an administrator to look at your roles",
    )

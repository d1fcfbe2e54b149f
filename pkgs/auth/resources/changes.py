"""The audit events of changed resources."""

from __future__ import annotations

from pkgs.auth.audit.journal import Journal
from pkgs.auth.issuing.join import masked
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Event, FieldValue
from pkgs.common.resources.kinds import Lock, Resource, Token, User

_KINDS: dict[str, tuple[Kind | None, Kind | None, Kind | None]] = {
    "role": (codes.ROLE_CREATED, codes.ROLE_UPDATED, codes.ROLE_DELETED),
    "user": (codes.USER_CREATE, codes.USER_UPDATE, codes.USER_DELETE),
    "lock": (codes.LOCK_CREATED, codes.LOCK_CREATED, codes.LOCK_DELETED),
    "token": (codes.TOKEN_CREATE, codes.TOKEN_CREATE, None),
    "cluster_auth_preference": (None, codes.AUTH_PREFERENCE_UPDATE, None),
    "cluster_networking_config": (None, codes.NETWORKING_UPDATE, None),
    "session_recording_config": (None, codes.RECORDING_CONFIG_UPDATE, None),
}
"""Per kind: created, updated, deleted; None where the field has no event."""


def change_events(
    journal: Journal, actor: str, before: Resource | None, after: Resource | None
) -> list[Event]:
    """The event of a change, if that kind of change has one."""
    resource = after or before
    assert resource is not None
    kinds = _KINDS.get(resource.kind)
    if kinds is None:
        return []
    kind = kinds[2] if after is None else kinds[0] if before is None else kinds[1]
    if kind is None:
        return []
    fields: dict[str, FieldValue] = {"name": resource.name, "user": actor, "updated_by": actor}
    if resource.metadata.expires is not None:
        fields["expires"] = rfc3339(resource.metadata.expires.timestamp())
    if isinstance(resource, User):
        fields |= {"roles": list(resource.spec.roles), "connector": "local"}
    elif isinstance(resource, Token):
        fields |= {
            "name": masked(resource.name),
            "roles": list(resource.spec.roles),
            "join_method": resource.spec.join_method,
        }
    elif isinstance(resource, Lock):
        target = resource.spec.target
        fields["target"] = {
            name: str(getattr(target, name)) for name in target.__struct_fields__ if getattr(target, name)
        }
    return [journal.event(kind, **fields)]

"""What a user resource may look like in this cluster, beyond its own syntax."""

from __future__ import annotations

import msgspec

from pkgs.auth import limits
from pkgs.auth.backend.interface import Operation
from pkgs.auth.state.store import Store, delete_operation
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.kinds import AccessRequest, User, UserStatus
from pkgs.common.resources.names import valid_user_name


def checked_user(user: User, store: Store) -> User:
    """The user if name, traits and roles are in order; roles must exist at this moment."""
    if not valid_user_name(user.name):
        raise InputError(
            f"user name {user.name[:80]!r} is not allowed",
            hint="letters, digits, '.', '_', '-', '@', up to 64 bytes",
        )
    validate(user)
    if not user.spec.roles:
        raise InputError("a user needs at least one role", hint="give --roles")
    if len(user.spec.roles) > limits.MAX_USER_ROLES:
        raise InputError(f"a user may have {limits.MAX_USER_ROLES} roles")
    for role in user.spec.roles:
        found = store.get("role", role)
        if found is None:
            raise InputError(f'role "{role}" does not exist', hint="`tctl get roles` lists those that do")
        if bot_of(found):
            raise InputError(
                f'role "{role}" belongs to a bot and goes with it', hint="give its roles instead"
            )
    if len(user.spec.traits) > limits.MAX_TRAITS:
        raise InputError(f"a user may have {limits.MAX_TRAITS} traits")
    for name, values in user.spec.traits.items():
        if len(values) > limits.MAX_TRAIT_VALUES:
            raise InputError(f"trait {name[:50]!r} may have {limits.MAX_TRAIT_VALUES} values")
        if any(len(text) > limits.MAX_TRAIT_TEXT for text in (name, *values)):
            raise InputError(f"trait names and values may have {limits.MAX_TRAIT_TEXT} characters")
    return user


def request_removal(store: Store, user: str) -> list[Operation]:
    """The operations that forget a user's access requests: whoever gets the name next did not ask for them,
    and nobody approved it for them (attack A32). To be committed without waiting for anything before."""
    return [
        delete_operation(found)
        for found in store.all("access_request")
        if isinstance(found, AccessRequest) and found.spec.user == user
    ]


def without_lock(user: User) -> User:
    return msgspec.structs.replace(user, spec=msgspec.structs.replace(user.spec, status=UserStatus()))

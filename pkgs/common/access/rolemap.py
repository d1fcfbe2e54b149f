"""Users of a root cluster in this one, its leaf: which local roles they have, and what else is theirs.

Nothing of the root is taken at its word but what its certificate proves: the user's name is made different
from every local one, the roles are those that the `role_map` of the leaf gives, and what a capture or a trait
holds is text that nothing looks at again (attacks A25, A44).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pkgs.common.access.locks import Interaction, lock_reason, lock_text, matching_lock
from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.traits import captures_in, fill_captures
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.kinds import Lock, TrustedCluster
from pkgs.common.resources.kinds.clusters import RoleMapping
from pkgs.common.resources.names import REMOTE_USER_PREFIX, SYSTEM_ROLES, valid_login

CERTIFICATE_LISTS = ("kubernetes_groups", "kubernetes_users", "db_names", "db_users", "aws_role_arns")
"""Traits that stand for what the root granted: the complete lists of the certificate, beside its logins."""
_NO_ROLES = frozenset({IMPLICIT_ROLE.name, *SYSTEM_ROLES})
"""What no mapping can give: these are no roles of people."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    pattern: Any
    local: tuple[str, ...]


def map_roles(remote: Iterable[str], mappings: Sequence[RoleMapping]) -> tuple[str, ...]:
    """Local roles for remote ones, in the order of the mappings, each once. `remote` of a mapping must match
    the whole name. Raises DeniedError when there are none, InputError for a mapping that is not valid."""
    names = [name for name in remote if name != IMPLICIT_ROLE.name] or [""]
    found: dict[str, None] = {}
    for mapping in map(_compile, mappings):
        for name in names:
            match = mapping.pattern.fullmatch(name)
            if match is None:
                continue
            for local in mapping.local:
                found[fill_captures(local, match)] = None
    mapped = tuple(name for name in found if name and name not in _NO_ROLES)
    if not mapped:
        shown = ", ".join(name for name in names if name)
        raise DeniedError(
            f"no roles mapped for user with remote roles [{shown}]",
            hint="the administrator of this cluster maps roles in its trusted_cluster",
        )
    return mapped


def check_mappings(mappings: Sequence[RoleMapping], where: str) -> None:
    """Raises InputError for patterns that are not valid and captures that cannot be there. What the fields
    may hold is checked with the resource's structure."""
    for index, mapping in enumerate(mappings):
        at = f"{where}[{index}]"
        try:
            pattern = _compile(mapping).pattern
        except InputError as error:
            raise InputError(f"{at}.remote: {error.message}") from None
        known = {*map(str, range(pattern.groups + 1)), *pattern.groupindex}
        for local in mapping.local:
            for name in captures_in(local):
                if name not in known:
                    raise InputError(
                        f"{at}.local: {local[:80]!r} asks for the capture {name!r}, which remote has not",
                        hint="$1 is what the first (...) or * of remote stands for; a dollar is $$",
                    )


def as_local(
    identity: Identity,
    trusted: TrustedCluster,
    *,
    cluster: str,
    locks: Iterable[Lock],
    now: float,
    server_id: str = "",
    login: str = "",
    certificate_lists: Mapping[str, Sequence[str]] | None = None,
) -> Identity:
    """A verified user of `trusted` as one of `cluster`. Raises DeniedError for everybody else.

    `cluster` of the result stays the root's: it is part of who they are. Every restriction stays; what was
    restricted to resources is left with those of this cluster. Locks are asked here for the root's roles;
    those on the mapped ones are asked with every decision. `certificate_lists` are the lists of the
    certificate beside its logins; one that is not given is empty, whatever the traits say."""
    if identity.kind is not PeerKind.USER:
        raise DeniedError("only users of a root cluster are known here")
    if identity.cluster == cluster or identity.cluster != trusted.name or not trusted.spec.enabled:
        raise DeniedError(f"the cluster {identity.cluster} is not trusted here")
    remote = msgspec.structs.replace(
        identity,
        name=remote_name(identity.name, identity.cluster),
        impersonator=remote_name(identity.impersonator, identity.cluster) if identity.impersonator else "",
        # This cluster makes no certificates for users of another.
        disallow_reissue=True,
        renewable=False,
    )
    lock = matching_lock(locks, Interaction(remote, (server_id,), login), now)
    if lock is not None:
        raise DeniedError(lock_text(lock), detail=lock_reason(lock))
    try:
        roles = map_roles(identity.roles, trusted.spec.role_map)
    except InputError as error:
        raise DeniedError("no roles mapped", reasons=(error.message,)) from error
    return msgspec.structs.replace(
        remote,
        roles=roles,
        traits=_traits(identity, certificate_lists or {}),
        allowed_resources=_resources_here(identity.allowed_resources, cluster),
    )


def remote_name(user: str, cluster: str) -> str:
    """What a user of another cluster is called in roles, locks and the audit log; no local user may be."""
    return f"{REMOTE_USER_PREFIX}{user}-{cluster}"


def _traits(identity: Identity, lists: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """`{{internal.logins}}` means: every login that the root granted."""
    granted = {name: tuple(lists.get(name, ())) for name in CERTIFICATE_LISTS}
    logins = tuple(login for login in identity.logins if valid_login(login))
    return {**identity.traits, **granted, "logins": logins}


def _resources_here(allowed: tuple[str, ...] | None, cluster: str) -> tuple[str, ...] | None:
    """Ids of this cluster only (attack A22): those of the root are about other things with perhaps the same
    names. A restriction that is left with nothing still restricts."""
    if allowed is None:
        return None
    return tuple(found for found in allowed if found.startswith(f"/{cluster}/"))


def _compile(mapping: RoleMapping) -> _Compiled:
    return _Compiled(patterns.compile_capturing(mapping.remote), tuple(mapping.local))

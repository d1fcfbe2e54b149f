"""A resource from outside made fit for storing: checked for this cluster, server-owned fields set."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import msgspec

from pkgs.auth import limits
from pkgs.auth.accounts.users import checked_user
from pkgs.auth.bots.owned import checked_bot
from pkgs.auth.encryption.rotation import adopted
from pkgs.auth.issuing.join import NOT_BY_TOKEN
from pkgs.auth.state.bootstrap import CONFIG_FILE, EVERLASTING, ORIGIN, SETTINGS, system_role
from pkgs.auth.state.store import Store
from pkgs.common.access.locks import TARGETS, set_fields
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import (
    AuthPreference,
    Bot,
    Lock,
    LockSpec,
    Node,
    RecordingConfig,
    RecordingKeys,
    Resource,
    Token,
    User,
)
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.names import valid_host_id
from pkgs.common.resources.registry import SINGLETONS
from pkgs.common.resources.role import Role
from pkgs.common.resources.secrets import keeping_secrets

CLUSTER_ROLE = "Trusted_Cluster"
_SYSTEM_ROLES = {role.value.lower() for role in SystemRole}


def prepare(
    resource: Resource,
    before: Resource | None,
    store: Store,
    actor: str,
    now: float,
    *,
    restoring: bool = False,
) -> Resource:
    """The form to store; raises InputError for what this cluster cannot have. Only who may restore a dump
    (the administrator) says who made a thing and when; for others it is themselves, now."""
    if resource.kind in EVERLASTING and resource.metadata.expires is not None:
        raise InputError(
            f"{resource.kind}: metadata.expires: a cluster is never without it",
            hint="leave metadata.expires out",
        )
    if resource.kind in SETTINGS:
        # There is one of each, whatever name it is sent under, and from now on it is nobody's default.
        labels = {**resource.metadata.labels, ORIGIN: "dynamic"}
        metadata = msgspec.structs.replace(resource.metadata, name=SINGLETONS[resource.kind], labels=labels)
        resource = msgspec.structs.replace(resource, metadata=metadata)
    elif resource.metadata.labels.get(ORIGIN) == CONFIG_FILE:
        # Only the file itself may claim to be from the file. What was dumped from it loses the mark.
        resource = _without_label(resource, ORIGIN)
    if isinstance(resource, User):
        return checked_user(_with_status(resource, before), store)
    resource = keeping_secrets(with_own_status(resource, before), before)
    if isinstance(resource, AuthPreference):
        resource = _preference(resource)
    if isinstance(resource, RecordingConfig):
        _check_encryption(resource)
    if isinstance(resource, RecordingKeys) and isinstance(before, RecordingKeys):
        resource = adopted(resource, before)
    if isinstance(resource, Lock):
        if not restoring:
            made = before.spec if isinstance(before, Lock) else LockSpec(target=resource.spec.target)
            spec = msgspec.structs.replace(
                resource.spec, created_at=made.created_at, created_by=made.created_by
            )
            resource = msgspec.structs.replace(resource, spec=spec)
        resource = _lock(resource, before, store, actor, now)
    if isinstance(resource, Token):
        resource = _token(resource)
    if isinstance(resource, Bot):
        validate(resource)
        resource = checked_bot(resource, store)
    if isinstance(resource, Role) and resource.name.lower() in _SYSTEM_ROLES:
        raise InputError(f'"{resource.name}" is the name of a service role and cannot name a role')
    if isinstance(resource, Node):
        _check_id_is_free(resource, store)
    validate(resource)
    return resource


def _check_id_is_free(node: Node, store: Store) -> None:
    """One id, one server: an agent never stands in for a server without one, nor the other way round."""
    other = "" if node.sub_kind == OPENSSH else OPENSSH
    if store.get("node", node.name, other) is not None:
        raise InputError(f"metadata.name: {node.name} is the id of another server", hint="use a new UUID")


def with_own_status(resource: Resource, before: Resource | None) -> Resource:
    """What the cluster says about a resource is not for its author to say."""
    fields = {field.name: field for field in msgspec.structs.fields(type(resource))}
    if "status" not in fields:
        return resource
    status = fields["status"].default if before is None else getattr(before, "status")  # noqa: B009
    changed: Resource = msgspec.structs.replace(resource, status=status)
    return changed


def _preference(preference: AuthPreference) -> AuthPreference:
    """Refuses what could not be enforced: everybody would log in with less than was asked for."""
    spec = preference.spec
    factors = spec.second_factors
    if spec.second_factor == "webauthn" or (factors and "otp" not in factors):
        raise InputError(
            "cluster_auth_preference: spec.second_factors: only one-time codes are served yet",
            hint="write second_factors: [otp], or [otp, webauthn] for later",
        )
    if not factors:
        return preference
    return msgspec.structs.replace(preference, spec=msgspec.structs.replace(spec, second_factor="otp"))


def _check_encryption(config: RecordingConfig) -> None:
    """Refuses what could not be done: keys of a security module that nothing here talks to."""
    encryption = config.spec.encryption
    manual = encryption.manual_key_management if encryption is not None else None
    if manual is not None and manual.enabled:
        raise InputError(
            "session_recording_config: spec.encryption.manual_key_management: keys of a security module are"
            " not served yet",
            hint="leave it out: the Auth Service then keeps keys of its own",
        )


def _without_label(resource: Resource, label: str) -> Resource:
    labels = {key: value for key, value in resource.metadata.labels.items() if key != label}
    return msgspec.structs.replace(
        resource, metadata=msgspec.structs.replace(resource.metadata, labels=labels)
    )


def _with_status(user: User, before: Resource | None) -> User:
    """A lock can be lifted by hand but not made up: that is what `lock` resources are for."""
    if user.spec.status.is_locked and isinstance(before, User):
        return msgspec.structs.replace(
            user, spec=msgspec.structs.replace(user.spec, status=before.spec.status)
        )
    return user


def _lock(lock: Lock, before: Resource | None, store: Store, actor: str, now: float) -> Lock:
    """A lock that protects: with a target, and with names in it that something can have (attack A14)."""
    target = lock.spec.target
    if not set_fields(target):  # it would lock everybody out
        raise InputError("spec.target: a lock needs a target", hint=f"one or more of {', '.join(TARGETS)}")
    if target.server_id and not valid_host_id(target.server_id):
        raise InputError(
            f"spec.target.server_id: {target.server_id[:80]!r} is no server's id and would lock nothing",
            hint="`tctl nodes ls` lists the ids; `tctl lock --server-id` takes the server's name too",
        )
    token = store.get("token", target.join_token) if target.join_token else None
    if isinstance(token, Token) and token.spec.join_method == "token":
        raise InputError(
            "spec.target.join_token: this token's name is its secret, and every service reads the locks",
            hint="take the token away with `tctl tokens rm`, and lock what joined with it",
        )
    created = datetime.fromtimestamp(int(now), UTC)
    end = _end_of(lock, before)
    spec = msgspec.structs.replace(
        lock.spec,
        created_at=lock.spec.created_at or created,
        created_by=lock.spec.created_by or actor,
        expires=end,
    )
    name = lock.metadata.name or str(uuid.uuid4())
    metadata = msgspec.structs.replace(lock.metadata, name=name, expires=end)
    return msgspec.structs.replace(lock, metadata=metadata, spec=spec)


def _end_of(lock: Lock, before: Resource | None) -> datetime | None:
    """When the lock ends. The specification says so; what the metadata of an edited lock still has from
    before must not end it earlier."""
    end = lock.metadata.expires
    if isinstance(before, Lock) and before.spec.expires is not None and end == before.metadata.expires:
        end = None
    return lock.spec.expires or end


def _token(token: Token) -> Token:
    if not 0 < len(token.name) <= limits.TOKEN_TEXT_MAX or not token.name.isprintable():
        raise InputError(f"a join token is 1 to {limits.TOKEN_TEXT_MAX} printable characters")
    if not token.spec.roles:
        raise InputError("spec.roles: a join token needs at least one role")
    roles = [_token_role(role) for role in token.spec.roles]
    return msgspec.structs.replace(token, spec=msgspec.structs.replace(token.spec, roles=roles))


def _token_role(text: str) -> str:
    """The role as it is written everywhere; a cluster joins by calls of its own, which do not exist yet."""
    if text.lower() == CLUSTER_ROLE.lower():
        return CLUSTER_ROLE
    role = system_role(text)
    if role in NOT_BY_TOKEN:
        raise InputError(f"spec.roles: no token makes a host an {role.value} server")
    return role.value

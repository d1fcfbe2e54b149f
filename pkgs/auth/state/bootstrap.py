"""The first start of a cluster, and what every start takes from teleport.yaml."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from typing import TypeVar

import msgspec

from pkgs.auth.backend.interface import Backend, Operation
from pkgs.auth.state.presets import record_of
from pkgs.auth.state.store import Store, create_operation, with_revision
from pkgs.common.errors import AlreadyExistsError, InputError
from pkgs.common.pki.authority import CA_TYPES, new_authority
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.defaults import ORIGIN_LABEL, default_singletons
from pkgs.common.resources.durations import format_duration, parse_duration
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    CertAuthority,
    ClusterName,
    NetworkingConfig,
    NetworkingSpec,
    RecordingConfig,
    RecordingEncryption,
    RecordingSpec,
    Resource,
    Token,
    TokenSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.names import valid_cluster_name
from pkgs.common.resources.presets import import_all_objects, preset_roles
from pkgs.common.resources.registry import DEFAULTED, SINGLETONS
from pkgs.common.runtime.config import AuthService, Config

ORIGIN = ORIGIN_LABEL
CONFIG_FILE = "config-file"
SETTINGS = DEFAULTED
EVERLASTING = (*SETTINGS, "recording_encryption")
"""Gone by themselves, settings would give way to weaker ones, and the keys take all recordings with them."""
S = TypeVar("S", AuthPreference, NetworkingConfig, RecordingConfig)


async def ensure_cluster(store: Store, backend: Backend, wanted_name: str) -> ClusterName:
    """The cluster's name, having made the cluster if this is its first start: authorities, presets and
    settings are written in one commit, so a start that was cut off leaves nothing half made."""
    existing = [r for r in store.all("cluster_name") if isinstance(r, ClusterName)]
    if existing:
        name = existing[0].spec.cluster_name
        if wanted_name and wanted_name != name:
            raise InputError(
                f"auth_service.cluster_name is {wanted_name!r}, but this cluster was made as {name!r}",
                hint="a cluster cannot be renamed: correct the file, or start with an empty data directory",
            )
        return existing[0]
    name = wanted_name or generated_name()
    if not valid_cluster_name(name):
        raise InputError(f"auth_service.cluster_name {name!r} is not valid", hint="use a DNS name")
    now = backend.clock()
    authorities = await asyncio.to_thread(_new_authorities, name, now)
    resources: list[Resource] = [
        *authorities,
        *default_singletons(name, str(uuid.uuid4())),
        *preset_roles(),
    ]
    operations: list[Operation] = [create_operation(resource) for resource in resources]
    operations.append(record_of(role.name for role in preset_roles()))
    await backend.commit(operations)
    made = [r for r in store.all("cluster_name") if isinstance(r, ClusterName)]
    return made[0]


def generated_name() -> str:
    """A name for a cluster whose file gives none: the host's, or a random one."""
    name = socket.gethostname().lower()
    return name if valid_cluster_name(name) else str(uuid.uuid4())


def _new_authorities(cluster: str, now: float) -> list[CertAuthority]:
    return [new_authority(ca_type, cluster, now) for ca_type in CA_TYPES]


async def keep_settings(store: Store) -> None:
    """What may have no end goes on without the one that an earlier version let it have; settings that are
    gone have their defaults, and so have the rules for objects of databases where none is left."""
    if not store.all("db_object_import_rule"):
        with contextlib.suppress(AlreadyExistsError):  # by another Auth Service of the same storage
            await store.create(import_all_objects())
    for kind in EVERLASTING:
        found = store.get(kind, SINGLETONS[kind])
        if found is None:
            for default in default_singletons("", ""):
                if default.kind == kind:
                    await store.create(default)
        elif found.metadata.expires is not None:
            metadata = msgspec.structs.replace(found.metadata, expires=None)
            await store.put(msgspec.structs.replace(found, metadata=metadata))


async def apply_settings(store: Store, config: AuthService) -> None:
    """Settings of the file replace the stored ones and are marked as the file's; where the file says
    nothing (any more), settings made by `tctl` stay and former settings of the file fall back."""
    authentication = config.authentication
    await _apply(
        store,
        AuthPreference,
        AuthPreferenceSpec(
            second_factor=authentication.effective_second_factor,
            local_auth=authentication.local_auth,
            locking_mode=authentication.locking_mode,
            default_session_ttl=format_duration(parse_duration(authentication.default_session_ttl)),
            disconnect_expired_cert=config.disconnect_expired_cert,
            message_of_the_day=config.message_of_the_day,
        ),
        AuthPreferenceSpec(),
    )
    await _apply(
        store,
        NetworkingConfig,
        NetworkingSpec(
            client_idle_timeout=_duration(config.client_idle_timeout),
            client_idle_timeout_message=config.client_idle_timeout_message,
            keep_alive_interval=_duration(config.keep_alive_interval),
            keep_alive_count_max=config.keep_alive_count_max,
            proxy_listener_mode=config.proxy_listener_mode,
            routing_strategy=config.routing_strategy,
            case_insensitive_routing=config.case_insensitive_routing,
        ),
        NetworkingSpec(),
    )
    await _apply(
        store,
        RecordingConfig,
        RecordingSpec(
            mode=config.recording_mode,
            proxy_checks_host_keys=config.recording_checks_host_keys,
            encryption=RecordingEncryption(enabled=True) if config.recording_encryption else None,
        ),
        RecordingSpec(),
    )


def _duration(text: str) -> str:
    return format_duration(0.0 if text == "never" else parse_duration(text))


async def _apply(store: Store, kind: type[S], wanted: msgspec.Struct, default: msgspec.Struct) -> None:
    tag = kind.__struct_config__.tag
    current = next((r for r in store.all(str(tag)) if isinstance(r, kind)), None)
    name = SINGLETONS[str(tag)]
    from_file = wanted != default
    was_from_file = current is not None and current.metadata.labels.get(ORIGIN) == CONFIG_FILE
    if not from_file and not was_from_file:
        return
    labels = dict(current.metadata.labels) if current is not None else {}
    labels[ORIGIN] = CONFIG_FILE if from_file else "defaults"
    made = kind(metadata=Metadata(name=name, labels=labels), spec=wanted)  # type: ignore[arg-type]
    if isinstance(made, RecordingConfig) and isinstance(current, RecordingConfig):
        made = msgspec.structs.replace(made, status=current.status)
    if current is None or with_revision(current, "") != made:
        await store.put(made)


def system_role(text: str) -> SystemRole:
    """A role of a join token, in any case; raises InputError with what is possible."""
    for role in SystemRole:
        if role.value.lower() == text.strip().lower().replace("_", ""):
            return role
    known = ", ".join(role.value.lower() for role in SystemRole)
    raise InputError(f"unknown service role {text!r}", hint=f"known are {known}")


def static_tokens(config: Config) -> list[Token]:
    """The tokens of `auth_service.tokens`; they never expire and are never stored."""
    return [
        Token(
            metadata=Metadata(name=token.secret, labels={ORIGIN: CONFIG_FILE}),
            spec=TokenSpec(roles=[system_role(role).value for role in token.roles]),
        )
        for token in config.static_tokens()
    ]

"""The cluster as an SSH node of a test sees it: state that a test changes, and an Auth Service in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from pkgs.common.api.login import Done
from pkgs.common.api.semaphores import AcquireLease, LeaseAnswer, Renewed, RenewLeases
from pkgs.common.errors import AccessError
from pkgs.common.events.types import Event
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import (
    AuthPreference,
    Lock,
    NetworkingConfig,
    RecordingConfig,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Role

CLUSTER = "demo"


@dataclass
class State:
    """The cluster as the node sees it; tests change it."""

    roles: dict[str, Role] = field(default_factory=dict)
    locks: tuple[Lock, ...] = ()
    auth_preference: AuthPreference = field(
        default_factory=lambda: AuthPreference(metadata=Metadata(name="cluster-auth-preference"))
    )
    networking: NetworkingConfig = field(
        default_factory=lambda: NetworkingConfig(metadata=Metadata(name="cluster-networking-config"))
    )
    recording_config: RecordingConfig = field(
        default_factory=lambda: RecordingConfig(metadata=Metadata(name="session-recording-config"))
    )
    cluster_name: str = CLUSTER
    stale_for_s: float = 0.0
    trust: Trust = field(default_factory=lambda: Trust.from_authorities([], CLUSTER))

    def roles_of(self, identity: Identity) -> tuple[Role, ...]:
        return tuple(self.roles[name] for name in identity.roles)


class Events:
    """An emitter that keeps what it is given."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self.broken: Exception | None = None

    async def emit(self, *events: Event) -> None:
        if self.broken is not None:
            raise self.broken
        self.all += events

    def named(self, name: str) -> list[Event]:
        return [event for event in self.all if event.event == name]


class Uploads:
    """An Auth Service that takes recordings, or does not."""

    def __init__(self) -> None:
        self.finished: dict[str, bytes] = {}
        self.live: dict[str, bytes] = {}
        self.problem: Exception | None = None

    async def upload(
        self, request: Any, chunks: AsyncIterator[bytes], *, deadline_s: float | None = None
    ) -> None:
        data = b""
        async for chunk in chunks:
            if self.problem is not None:
                raise self.problem
            data += chunk
            if request.live:
                self.live[request.session_id] = data
        self.finished[request.session_id] = data


class Semaphores:
    """An Auth Service that counts one user's connections, or cannot be reached."""

    def __init__(self) -> None:
        self.most = 0
        self.held: set[str] = set()
        self.problem: AccessError | None = None

    async def call(self, request: Any, *, deadline_s: float = 10.0) -> Any:
        if self.problem is not None:
            raise self.problem
        if isinstance(request, AcquireLease):
            granted = len(self.held - {request.lease_id}) < self.most
            self.held |= {request.lease_id} if granted else set()
            return LeaseAnswer(granted=granted, most=self.most, ttl_s=120.0)
        ids = {lease.lease_id for lease in request.leases}
        if isinstance(request, RenewLeases):
            return Renewed(lost=sorted(ids - self.held))
        self.held -= ids
        return Done()

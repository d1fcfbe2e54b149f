"""What a service knows of the cluster: kept current by a watch, and still there when the Auth Service is not.

    empty --snapshot--> live --watch lost--> stale --snapshot--> live
    empty --file of the last run--> stale

A snapshot replaces everything at once; readers never see half of one. Decisions on stale state are bounded
by CACHE_MAX_STALE_S and `stale_for_s` says how old it is. What is missing denies, it is never skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from pkgs.common.api.resources import WatchItem, WatchResources
from pkgs.common.errors import AccessError, DeniedError, LockedError, NotFoundError, UnavailableError
from pkgs.common.membership import limits
from pkgs.common.membership.cachefile import Saved, load_saved, save
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import (
    AuthPreference,
    CertAuthority,
    ClusterName,
    DatabaseServer,
    Lock,
    NetworkingConfig,
    Node,
    Proxy,
    RecordingConfig,
    Resource,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Role
from pkgs.common.rpc.calls import AsyncClient
from pkgs.common.runtime.backoff import Backoff
from pkgs.common.runtime.clock import Clock
from pkgs.common.runtime.debug.readiness import Component

KINDS_HOST = (
    "cert_authority",
    "cluster_name",
    "role",
    "lock",
    "cluster_auth_preference",
    "cluster_networking_config",
    "session_recording_config",
    "proxy",
)
"""What an agent decides on, and the proxies it keeps tunnels to."""
KINDS_PROXY = (*KINDS_HOST, "node", "db_server")

_PRESENCE = frozenset({"node", "proxy", "auth_server", "db_server"})
_Key = tuple[str, str]
_Tables = dict[str, dict[_Key, Resource]]
R = TypeVar("R")


class ClusterCache:
    """Start it once; then read its properties at any time from the event loop's thread."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        kinds: Sequence[str],
        cluster_name: str,
        authorities: Iterable[CertAuthority],
        file: Path | None,
        clock: Clock,
        log: logging.Logger,
        component: Component | None = None,
    ) -> None:
        """`authorities` are believed until the cluster says otherwise; `file` keeps state over restarts."""
        self.cluster_name = cluster_name
        self._client = client
        self._kinds = tuple(kinds)
        self._file = file
        self._clock = clock
        self._log = log
        self._component = component
        self._tables: _Tables = {"cert_authority": {_key(ca): ca for ca in authorities}}
        self._views: dict[str, object] = {}
        self._callbacks: list[Callable[[str], None]] = []
        self._ready = asyncio.Event()
        self._live = False
        self._cut_off = ""
        """The text of the lock by which the cluster has cut this host off; empty: it has not."""
        self._current_at: float | None = None
        """Monotonic time at which the state was last known to be current; None: never in this run."""
        self._save_at: float | None = None
        self._save_wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # Life.

    async def start(self) -> None:
        """Take what the last run left, and begin to watch."""
        if self._file is not None:
            await self._load(self._file)
        self._tasks = [asyncio.create_task(self._watch_loop(), name="cache-watch")]
        if self._file is not None:
            self._tasks.append(asyncio.create_task(self._save_loop(self._file), name="cache-save"))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks and self._file is not None and self._save_at is not None:
            await self._save(self._file)
        self._tasks = []
        self._live = False

    async def wait_ready(self, deadline_s: float | None = None) -> None:
        """Until there is state to decide on, current or of the last run; UnavailableError at the deadline."""
        if self.ready:
            return
        try:
            await asyncio.wait_for(self._ready.wait(), deadline_s)
        except TimeoutError:
            raise UnavailableError(
                "the state of the cluster is not known yet", hint="check that the Auth Service is reachable"
            ) from None

    def on_change(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """`callback(kind)` after each change; the returned function ends that. A callback must not block."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    # Reading.

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    @property
    def live(self) -> bool:
        """The watch stands and the state is current."""
        return self._live

    @property
    def stale_for_s(self) -> float:
        """For how long the state may have been out of date; 0 while the watch is live."""
        if self._live:
            return 0.0
        if self._current_at is None:
            return float("inf")
        return max(self._clock.monotonic() - self._current_at, 0.0)

    @property
    def trust(self) -> Trust:
        """The authorities of the cluster."""
        return self._view("cert_authority", self._make_trust)

    def role(self, name: str) -> Role:
        """The role as it is now; NotFoundError if there is none."""
        found = self._table("role").get(("", name))
        if not isinstance(found, Role):
            raise NotFoundError(f"role {name!r} does not exist")
        return found

    def roles_of(self, identity: Identity) -> tuple[Role, ...]:
        """The current roles of a user; DeniedError when one is gone, or the state is too old to decide on."""
        self.require_fresh()
        if identity.kind is not PeerKind.USER or identity.cluster != self.cluster_name:
            raise DeniedError("access denied", reasons=("not a user of this cluster",))
        try:
            return tuple(self.role(name) for name in identity.roles)
        except NotFoundError as error:
            # A role that is gone may have held a deny: going on without it could allow more.
            raise DeniedError("access denied", reasons=(error.message,)) from error

    def require_fresh(self) -> None:
        """DeniedError when nothing is known, when what is known is older than may be decided on (fault F07),
        and when the cluster has cut this host off (attack A14): it is then as if it had never joined."""
        if self._cut_off:
            raise DeniedError(self._cut_off, reasons=("the cluster has cut this host off",))
        if not self.ready or self.stale_for_s > limits.CACHE_MAX_STALE_S:
            raise DeniedError(
                "access denied: the Auth Service has not been reached for too long",
                reasons=(f"cluster state is {self.stale_for_s:.0f} s old",),
            )

    @property
    def nodes(self) -> Mapping[str, Node]:
        """By host id."""
        return self._view("node", lambda: self._by_name("node", Node))

    @property
    def database_servers(self) -> Mapping[str, tuple[DatabaseServer, ...]]:
        """By the database's name in lower case, as it stands in host names."""
        return self._view("db_server", self._servers_by_database)

    @property
    def proxies(self) -> Mapping[str, Proxy]:
        """By host id."""
        return self._view("proxy", lambda: self._by_name("proxy", Proxy))

    @property
    def locks(self) -> tuple[Lock, ...]:
        return self._view(
            "lock", lambda: tuple(r for r in self._table("lock").values() if isinstance(r, Lock))
        )

    @property
    def auth_preference(self) -> AuthPreference:
        return self._single("cluster_auth_preference", AuthPreference)

    @property
    def networking(self) -> NetworkingConfig:
        return self._single("cluster_networking_config", NetworkingConfig)

    @property
    def recording_config(self) -> RecordingConfig:
        return self._single("session_recording_config", RecordingConfig)

    def resources(self, kind: str) -> list[Resource]:
        """All of a kind, in no order."""
        return list(self._table(kind).values())

    def _table(self, kind: str) -> dict[_Key, Resource]:
        return self._tables.get(kind, {})

    def _view(self, kind: str, make: Callable[[], R]) -> R:
        """Made at the first reading after a change of `kind`."""
        if kind not in self._views:
            self._views[kind] = make()
        return self._views[kind]  # type: ignore[return-value]

    def _by_name(self, kind: str, kind_type: type[R]) -> Mapping[str, R]:
        return MappingProxyType(
            {name: r for (_, name), r in self._table(kind).items() if isinstance(r, kind_type)}
        )

    def _servers_by_database(self) -> Mapping[str, tuple[DatabaseServer, ...]]:
        found: dict[str, list[DatabaseServer]] = {}
        for server in self._table("db_server").values():
            if isinstance(server, DatabaseServer):
                found.setdefault(server.name.lower(), []).append(server)
        return MappingProxyType({name: tuple(servers) for name, servers in found.items()})

    def _single(self, kind: str, kind_type: type[_S]) -> _S:
        for found in self._table(kind).values():
            if isinstance(found, kind_type):
                return found
        return kind_type(metadata=Metadata(name=kind))

    def _make_trust(self) -> Trust:
        found = [r for r in self._table("cert_authority").values() if isinstance(r, CertAuthority)]
        return Trust.from_authorities(found, self.cluster_name)

    # Watching.

    async def _watch_loop(self) -> None:
        backoff = Backoff(limits.WATCH_RETRY_FIRST_S, limits.WATCH_RETRY_LIMIT_S)
        told = ""
        while True:
            problem = "the Auth Service ended the watch"
            try:
                await self._watch(backoff)
            except AccessError as error:
                if isinstance(error, LockedError) and not self._cut_off:
                    self._cut_off = error.message
                    self._changed("lock")
                problem = f"{error} ({error.detail})" if error.detail else str(error)
            except Exception as error:
                problem = f"unexpected {type(error).__name__}"
                self._log.exception("the watch of the cluster failed")
            was_live = self._live
            self._lost()
            # The same trouble is a warning once, not at every attempt.
            level = logging.WARNING if was_live or problem != told else logging.DEBUG
            self._log.log(level, "the view of the cluster is not kept current: %s", problem)
            told = problem
            if self._component is not None and self.ready and self.stale_for_s > limits.WATCH_GRACE_S:
                self._component.degraded(f"cluster state is not current: {problem}")
            await asyncio.sleep(backoff.next())

    async def _watch(self, backoff: Backoff) -> None:
        fresh: _Tables = {}
        complete = False
        async with _closing(self._client.stream(WatchResources(kinds=list(self._kinds)))) as items:
            async for item in items:
                if item.op == "resync":
                    return
                if item.op == "ready":
                    self._replace(fresh)
                    complete = True
                    backoff.reset()
                elif complete:
                    self._apply(self._tables, item)
                    for kind in {resource.kind for resource in item.resources} or {item.kind}:
                        self._changed(kind)
                else:
                    self._apply(fresh, item)

    def _apply(self, tables: _Tables, item: WatchItem) -> None:
        if item.op == "delete":
            tables.get(item.kind, {}).pop((item.sub_kind, item.name), None)
        for resource in item.resources:
            tables.setdefault(resource.kind, {})[_key(resource)] = resource

    def _replace(self, fresh: _Tables) -> None:
        if not self._belongs(fresh):
            raise UnavailableError("the snapshot is not of this cluster")
        before, self._tables = self._tables, fresh
        self._live, self._cut_off = True, ""
        self._current_at = self._clock.monotonic()
        self._ready.set()
        if self._component is not None:
            self._component.ok()
        self._log.info(
            "the view of the cluster is current", extra={"resources": sum(map(len, fresh.values()))}
        )
        for kind in self._kinds:
            if before.get(kind, {}) != fresh.get(kind, {}):
                self._changed(kind)
        self._save_within(limits.CACHE_SAVE_LATER_S)

    def _belongs(self, fresh: _Tables) -> bool:
        """A snapshot without authorities, or of a cluster by another name, would leave us trusting nobody."""
        authorities = fresh.get("cert_authority", {})
        names = [
            r.spec.cluster_name for r in fresh.get("cluster_name", {}).values() if isinstance(r, ClusterName)
        ]
        return bool(authorities) and all(name == self.cluster_name for name in names)

    def _changed(self, kind: str) -> None:
        self._views.pop(kind, None)
        self._save_within(limits.CACHE_SAVE_LATER_S if kind in _PRESENCE else limits.CACHE_SAVE_SOON_S)
        for callback in tuple(self._callbacks):
            try:
                callback(kind)
            except Exception:
                self._log.exception("a listener to changes of %s failed", kind)

    def _lost(self) -> None:
        if self._live:
            self._live = False
            self._current_at = self._clock.monotonic()

    # The file.

    async def _load(self, file: Path) -> None:
        saved = await asyncio.to_thread(load_saved, file, self._log)
        if saved is None or saved.cluster_name != self.cluster_name:
            return
        age_s = max(self._clock.now() - saved.current_at, 0.0)
        if age_s > limits.CACHE_MAX_STALE_S:
            self._log.warning(
                "the stored view of the cluster is too old to be used", extra={"age_s": int(age_s)}
            )
            return
        self._tables = {}
        for resource in saved.resources:
            self._tables.setdefault(resource.kind, {})[_key(resource)] = resource
        self._views.clear()
        self._current_at = self._clock.monotonic() - age_s
        self._ready.set()
        self._log.info("took the view of the cluster of the last run", extra={"age_s": int(age_s)})

    def _save_within(self, seconds: float) -> None:
        at = self._clock.monotonic() + seconds
        if self._save_at is None or at < self._save_at:
            self._save_at = at
            self._save_wanted.set()

    async def _save_loop(self, file: Path) -> None:
        while True:
            self._save_wanted.clear()
            if self._save_at is None:
                await self._save_wanted.wait()
                continue
            rest = self._save_at - self._clock.monotonic()
            if rest > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._save_wanted.wait(), rest)
                continue
            await self._save(file)
            if self._live:
                # The time up to which the state was current is part of what is saved.
                self._save_within(limits.CACHE_SAVE_LATER_S)

    async def _save(self, file: Path) -> None:
        self._save_at = None
        saved = Saved(
            cluster_name=self.cluster_name,
            current_at=self._clock.now() - self.stale_for_s,
            resources=[r for kind in self._kinds for r in self._table(kind).values()],
        )
        try:
            await asyncio.to_thread(save, file, saved)
        except OSError as error:
            self._log.warning("the view of the cluster cannot be stored: %s", error)


_S = TypeVar("_S", AuthPreference, NetworkingConfig, RecordingConfig)


def _key(resource: Resource) -> _Key:
    return (resource.sub_kind, resource.name)


@contextlib.asynccontextmanager
async def _closing(items: AsyncIterator[WatchItem]) -> AsyncIterator[AsyncIterator[WatchItem]]:
    """Ends the stream at the server too, however the reading of it ends."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()

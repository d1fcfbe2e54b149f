"""Asking each database now and then whether it is there and speaks its protocol, without logging in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pkgs.agents.db import limits
from pkgs.agents.db.engine import Engine
from pkgs.agents.db.registry import Registry, address_of
from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.net.dial import dial_resolved, resolve
from pkgs.common.net.sockets import join_host_port
from pkgs.common.net.stream import adopt
from pkgs.common.resources.kinds import Database, TargetHealth

UNKNOWN = TargetHealth(status="unknown")


@dataclass(slots=True)
class _State:
    """Of one database; what it is now changes after some answers of the same kind in a row."""

    shown: TargetHealth = UNKNOWN
    good: int = 0
    bad: int = 0

    def take(self, problem: str) -> bool:
        """One more answer; empty: a good one. Whether what is shown changes."""
        self.good, self.bad = (0, self.bad + 1) if problem else (self.good + 1, 0)
        before = self.shown
        if self.good and (self.good >= limits.HEALTHY_AFTER or before.status == "unknown"):
            self.shown = TargetHealth(status="healthy")
        elif self.bad >= limits.UNHEALTHY_AFTER:
            self.shown = TargetHealth(status="unhealthy", message=problem)
        return self.shown != before


class Health:
    """Checks until it is closed."""

    def __init__(
        self,
        registry: Registry,
        engines: Mapping[str, Engine],
        on_change: Callable[[], None],
        log: logging.Logger,
        every_s: float = limits.HEALTH_EVERY_S,
    ) -> None:
        self._registry = registry
        self._engines = engines
        self._on_change = on_change
        self._log = log
        self._every_s = every_s
        self._states: dict[str, _State] = {}
        self._places = asyncio.Semaphore(limits.HEALTH_AT_ONCE)
        self._task: asyncio.Task[None] | None = None

    def of(self, name: str) -> TargetHealth:
        state = self._states.get(name)
        return UNKNOWN if state is None else state.shown

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="health of databases")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            databases = list(self._registry.all.values())
            self._states = {
                database.name: self._states.get(database.name, _State()) for database in databases
            }
            changed = await asyncio.gather(*(self._check(database) for database in databases))
            if any(changed):
                self._on_change()
            await asyncio.sleep(self._every_s)

    async def _check(self, database: Database) -> bool:
        async with self._places:
            problem = await self._ask(database)
        state = self._states[database.name]
        changed = state.take(problem)
        if changed:
            self._log.info(
                "a database is %s", state.shown.status, extra={"database": database.name, "why": problem}
            )
        return changed

    async def _ask(self, database: Database) -> str:
        """What is wrong; empty: nothing."""
        try:
            async with asyncio.timeout(limits.HEALTH_TIMEOUT_S):
                host, port = address_of(database)
                addresses = await resolve(host, port)
                stream = await adopt(await dial_resolved(addresses, join_host_port(host, port)))
                try:
                    await self._engines[database.spec.protocol].probe(stream, database)
                finally:
                    stream.abort()
        except TimeoutError:
            return "no answer in time"
        except (AccessError, ProtocolError) as problem:
            return f"{problem.message} {problem.detail}".strip()
        return ""

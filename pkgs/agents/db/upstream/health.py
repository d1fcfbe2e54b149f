"""Asking each database now and then whether it is there and speaks its protocol to whom the agent may be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pkgs.agents.db import limits
from pkgs.agents.db.engine import HEALTH_USER, Engine
from pkgs.agents.db.upstream.registry import Registry
from pkgs.agents.db.upstream.servers import Servers
from pkgs.common.access.contexts.labelexpr import compile_label_expression
from pkgs.common.access.matching.labels import compile_selector, labels_of
from pkgs.common.errors import AccessError, InputError, TrustError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import Database, HealthCheckConfig, TargetHealth
from pkgs.common.resources.kinds.infrastructure import HealthMatch
from pkgs.common.resources.role import Labels

UNKNOWN = TargetHealth(status="unknown")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a database is looked after."""

    every_s: float = limits.HEALTH_EVERY_S
    timeout_s: float = limits.HEALTH_TIMEOUT_S
    healthy_after: int = limits.HEALTHY_AFTER
    unhealthy_after: int = limits.UNHEALTHY_AFTER
    off: bool = False


def plan_for(database: Database, configs: Iterable[HealthCheckConfig]) -> Plan:
    """As the first `health_check_config`, by name, that selects the database says; without one as usual. One
    that makes no sense selects nothing."""
    labels = labels_of(database)
    for config in sorted(configs, key=lambda config: config.name):
        spec = config.spec
        try:
            if not _selects(spec.match, labels):
                continue
            return Plan(
                max(parse_duration(spec.interval), limits.HEALTH_TICK_S),
                max(parse_duration(spec.timeout), limits.HEALTH_TICK_S),
                spec.healthy_threshold,
                spec.unhealthy_threshold,
                off=spec.match.disabled,
            )
        except InputError:
            continue
    return Plan()


def _selects(match: HealthMatch, labels: Mapping[str, str]) -> bool:
    by_labels: Labels = {wanted.name: wanted.values for wanted in match.db_labels}
    if by_labels and compile_selector(by_labels, {}).matches(labels):
        return True
    expression = match.db_labels_expression
    return bool(expression) and compile_label_expression(expression, {}, deny=False)(labels)


@dataclass(slots=True)
class _State:
    """Of one database; what it is now changes after some answers of the same kind in a row."""

    shown: TargetHealth = UNKNOWN
    due_at: float = 0.0
    """Loop time."""
    good: int = 0
    bad: int = 0

    def take(self, problem: str, plan: Plan) -> bool:
        """One more answer; empty: a good one. Whether what is shown changes."""
        self.good, self.bad = (0, self.bad + 1) if problem else (self.good + 1, 0)
        before = self.shown
        if self.good and (self.good >= plan.healthy_after or before.status == "unknown"):
            self.shown = TargetHealth(status="healthy")
        elif self.bad >= plan.unhealthy_after:
            self.shown = TargetHealth(status="unhealthy", message=problem)
        return self.shown != before


class _NoCertificate(Exception):
    """Nothing can be asked now."""


class Health:
    """Checks until it is closed."""

    def __init__(
        self,
        registry: Registry,
        engines: Mapping[str, Engine],
        servers: Servers,
        configs: Callable[[], Iterable[HealthCheckConfig]],
        on_change: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        self._registry = registry
        self._engines = engines
        self._servers = servers
        self._configs = configs
        self._on_change = on_change
        self._log = log
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
        loop = asyncio.get_running_loop()
        while True:
            databases, configs = self._registry.all, list(self._configs())
            self._states = {name: self._states.get(name, _State()) for name in databases}
            now, states = loop.time(), self._states
            due = [database for name, database in databases.items() if states[name].due_at <= now]
            changed = await asyncio.gather(
                *(self._check(database, plan_for(database, configs)) for database in due)
            )
            if any(changed):
                self._on_change()
            await asyncio.sleep(limits.HEALTH_TICK_S)

    async def _check(self, database: Database, plan: Plan) -> bool:
        state = self._states[database.name]
        state.due_at = asyncio.get_running_loop().time() + plan.every_s
        if plan.off:
            before, state.shown = state.shown, UNKNOWN
            return before != UNKNOWN
        async with self._places:
            try:
                problem = await self._ask(database, plan.timeout_s)
            except _NoCertificate:
                # The Auth Service is away, or has not heard of this database yet: that says nothing of it.
                state.due_at = asyncio.get_running_loop().time() + min(plan.every_s, limits.HEALTH_AGAIN_S)
                return False
        changed = state.take(problem, plan)
        if changed:
            self._log.info(
                "a database is %s", state.shown.status, extra={"database": database.name, "why": problem}
            )
        return changed

    async def _ask(self, database: Database, timeout_s: float) -> str:
        """What is wrong; empty: nothing."""

        async def secure(stream: Stream) -> Stream:
            return await self._servers.secure(stream, database, HEALTH_USER)

        try:
            await self._prepare(database)
            async with asyncio.timeout(timeout_s):
                stream = await self._servers.dial(database)
                try:
                    await self._engines[database.spec.protocol].probe(stream, database, secure)
                finally:
                    stream.abort()
        except TimeoutError:
            return "no answer in time"
        except AccessError as problem:
            return f"{problem.message} {problem.detail}".strip()
        return ""

    async def _prepare(self, database: Database) -> None:
        try:
            await self._servers.prepare(database, HEALTH_USER)
        except TrustError:
            raise  # what the database's own `tls` says makes no sense
        except AccessError as problem:
            raise _NoCertificate from problem

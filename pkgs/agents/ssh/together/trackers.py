"""Telling the Auth Service which sessions live here, and hearing from it which are to end and who is there.

A report is always the whole truth: at each change, every minute, and as soon as a lost Auth Service is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from pkgs.agents.ssh.together import limits
from pkgs.agents.ssh.together.table import Table
from pkgs.common.api.sessions import ReportSessions, SessionOrder, SessionOrders
from pkgs.common.errors import AccessError, NotFoundError
from pkgs.common.rpc.calls import AsyncClient
from pkgs.common.runtime.backoff import Backoff


class Reporter:
    def __init__(self, table: Table, client: AsyncClient, log: logging.Logger) -> None:
        self._table = table
        self._client = client
        self._log = log
        self._due = asyncio.Event()
        self._reporting = asyncio.Lock()
        self._told = False
        """Whether the last report named any session: nothing need be said twice of none."""
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._table.announce = self.report
        self._table.changed = self._due.set
        self._tasks = [
            asyncio.create_task(self._reports(), name="session reports"),
            asyncio.create_task(self._orders(), name="session orders"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._told:
            try:
                async with asyncio.timeout(limits.LAST_REPORT_S):
                    await self.report()
            except (AccessError, TimeoutError) as problem:
                self._log.info("the end of the live sessions is not reported: %s", problem)

    async def report(self) -> None:
        """Tell now. Raises AccessError."""
        async with self._reporting:
            trackers = [session.tracker() for session in self._table.all()]
            parts = [
                trackers[start : start + limits.REPORT_PART]
                for start in range(0, len(trackers), limits.REPORT_PART)
            ] or [[]]
            for number, part in enumerate(parts):
                request = ReportSessions(sessions=part, first=number == 0, last=number == len(parts) - 1)
                await self._client.call(request, deadline_s=limits.REPORT_CALL_S)
            self._told = bool(trackers)

    async def _reports(self) -> None:
        backoff = Backoff(limits.RETRY_FIRST_S, limits.RETRY_MOST_S)
        while True:
            try:
                async with asyncio.timeout(limits.REPORT_EVERY_S if self._told else None):
                    await self._due.wait()
                await asyncio.sleep(limits.REPORT_SETTLE_S)  # the rest of the burst
            except TimeoutError:
                self._log.debug("reporting the live sessions again")
            self._due.clear()
            try:
                await self.report()
                backoff.reset()
            except AccessError as problem:
                self._log.info("the live sessions are not reported yet: %s", problem)
                self._due.set()
                await asyncio.sleep(backoff.next())

    async def _orders(self) -> None:
        backoff = Backoff(limits.RETRY_FIRST_S, limits.RETRY_MOST_S)
        while True:
            try:
                items = cast("AsyncGenerator[SessionOrder]", self._client.stream(SessionOrders()))
                async with aclosing(items):
                    async for order in items:
                        backoff.reset()
                        if order.session_id:
                            await self._obey(order)
                        else:
                            # It may be an Auth Service that knows nothing, or this the agent of a host whose
                            # last one died with sessions that it knows.
                            self._due.set()
            except AccessError as problem:
                self._log.debug("no orders can be heard: %s", problem)
            await asyncio.sleep(backoff.next())

    async def _obey(self, order: SessionOrder) -> None:
        try:
            session = self._table.find(order.session_id)
            if order.what == "present":
                session.proven(order.by, order.at)
            elif order.what == "detach":
                await session.detach(order.by)
            elif order.what == "copy":
                await session.copying.ask(order.by, order.reason)
            else:
                await session.kill(order.by, order.reason)
        except NotFoundError:
            self._log.info("a session that an order was for is over", extra={"sid": order.session_id})
        except AccessError as problem:
            self._log.error(
                "an order about a session is not carried out: %s", problem, extra={"sid": order.session_id}
            )

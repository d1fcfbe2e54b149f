"""Who is logged in to which account that we made, and what follows from it.

    nobody --claim--> made, or brought up to date --claim, release--> the same --last release--> finished

One thread does all work on the host, in the order in which it was asked for: two connections that want the
same account at once never see half of it (attack A59).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pkgs.agents.ssh.hostusers.accounts import Accounts
from pkgs.agents.ssh.hostusers.tools import HostTools
from pkgs.agents.ssh.hostusers.wanted import DROP, Wanted, shared
from pkgs.common.errors import AccessError, UnavailableError

T = TypeVar("T")


class HostUsers:
    """`start` it before the first claim; `close` ends what is left."""

    def __init__(self, tools: HostTools, log: logging.Logger) -> None:
        self._accounts = Accounts(tools, log)
        self._log = log
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="host users")
        self._claims: dict[str, dict[object, Wanted]] = {}
        self._going: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Remove what an earlier process left."""
        try:
            for login in await self.run(self._accounts.clean_up):
                self._log.info("removed an account that was left over", extra={"login": login})
        except AccessError as problem:
            self._log.error("leftovers of host users are not removed: %s", problem)

    async def close(self) -> None:
        logins, self._claims = list(self._claims), {}
        for login in logins:
            self._later(self._finish(login))
        await asyncio.gather(*self._going, return_exceptions=True)
        self._thread.shutdown()

    async def claim(self, key: object, login: str, wanted: Wanted | None) -> bool:
        """Somebody is about to be logged in. `wanted` None: their roles make no account; they still count
        where others' roles made this one, and then nobody has more in it than they do. Whether there is
        something to release. Raises DeniedError, UnavailableError: then nothing is claimed."""
        claims = self._claims.get(login, {})
        if wanted is None:
            if not claims:
                return False
            wanted = Wanted(marker=DROP)
        self._claims[login] = {**claims, key: wanted}
        try:
            await self._apply(login)
        except BaseException as problem:
            if isinstance(problem, AccessError):
                self._log.error("no account for a login: %s", problem, extra={"login": login})
            self._later(self._drop(key, login))
            raise
        return True

    def release(self, key: object, login: str) -> None:
        """That connection is over."""
        self._later(self._drop(key, login))

    async def run(self, work: Callable[[], T]) -> T:
        """In the one thread; what has begun is not cut short by whoever waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @property
    def accounts(self) -> Accounts:
        """To be used inside `run` only."""
        return self._accounts

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def _apply(self, login: str) -> None:
        together = shared(self._claims[login].values())
        outcome = await self.run(lambda: self._accounts.ensure(login, together))
        if outcome in ("made", "changed"):
            self._log.info(
                "an account is %s", outcome, extra={"login": login, "groups": ",".join(together.groups)}
            )

    async def _drop(self, key: object, login: str) -> None:
        claims = self._claims.get(login, {})
        if claims.pop(key, None) is None:
            return
        if not claims:
            del self._claims[login]
            await self._finish(login)
            return
        try:
            await self._apply(login)
        except AccessError as problem:
            self._log.error("an account is not brought up to date: %s", problem, extra={"login": login})

    async def _finish(self, login: str) -> None:
        try:
            if await self.run(lambda: self._accounts.finish(login)):
                self._log.info("removed an account: its last visitor left", extra={"login": login})
        except (AccessError, UnavailableError) as problem:
            self._log.error("an account is not removed: %s", problem, extra={"login": login})

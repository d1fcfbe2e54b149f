"""Cancel requests: a second connection that names the first by its process id and secret.

Whoever sends one has shown a certificate; it goes on to the server only when the key belongs to a session of
the same user with the same database in this agent. To the server it travels inside TLS, as the session does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Iterator

from pkgs.agents.db.engine import Session
from pkgs.agents.db.postgres import limits
from pkgs.agents.db.postgres.login import Login, ask_for_tls
from pkgs.common.dbwire.postgres.startup import CancelRequest
from pkgs.common.errors import AccessError
from pkgs.common.net.stream import Stream


class LiveSessions:
    """Those of one agent, by whose they are and their process id. Two servers may use the same number."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, int], list[Cancels]] = {}

    @contextlib.contextmanager
    def entered(self, session: Session, cancels: Cancels) -> Iterator[None]:
        key = _key(session, cancels.request.pid)
        self._found.setdefault(key, []).append(cancels)
        try:
            yield
        finally:
            self._found[key].remove(cancels)
            if not self._found[key]:
                del self._found[key]

    def find(self, session: Session, request: CancelRequest) -> Cancels | None:
        """Of the session that this asks to cancel, as asked by the user of `session`."""
        for cancels in self._found.get(_key(session, request.pid), ()):
            if hmac.compare_digest(cancels.request.key, request.key):
                return cancels
        return None


def _key(session: Session, pid: int) -> tuple[str, str, int]:
    return session.user, session.database.metadata.name, pid


class Cancels:
    """Brings cancel requests for one session to its server."""

    def __init__(self, session: Session, login: Login) -> None:
        self._session = session
        self.request = CancelRequest(login.pid, login.key)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, wanted: Callable[[], bool]) -> None:
        """Send one in the background, if it is still wanted when the server has been reached: a late one
        would hit the session's next statement."""
        if self.request.key and len(self._tasks) < limits.CANCELS_MAX:
            task = asyncio.create_task(self.send(wanted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def send(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Returns when the server has taken it, or it is clear that it does not."""
        if not self.request.key:
            return
        stream: Stream | None = None
        with contextlib.suppress(AccessError, TimeoutError):
            try:
                async with asyncio.timeout(limits.CANCEL_S):
                    stream = await self._session.dial()
                    await ask_for_tls(stream)
                    stream = await self._session.secure(stream)
                    if wanted():
                        stream.write(self.request.encode())
                        await stream.drain()
                        await stream.read_some()
            finally:
                if stream is not None:
                    stream.abort()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

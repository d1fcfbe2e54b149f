"""Which sessions are alive, and where; and the way back to the agents that run them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from pkgs.auth.sessions import limits
from pkgs.common.api.sessions import SessionOrder, SessionTracker
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, UnavailableError
from pkgs.common.recording.ids import require_session_id


class Trackers:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hosts: dict[str, dict[str, SessionTracker]] = {}
        self._parts: dict[str, list[SessionTracker]] = {}
        self._streams: dict[str, list[asyncio.Queue[SessionOrder]]] = {}

    def report(
        self, host_id: str, sessions: Iterable[SessionTracker], *, first: bool = True, last: bool = True
    ) -> None:
        """What lives on one host now, in place of what did. Raises InputError, LimitExceededError, and
        DeniedError for a session of another host (attack A39)."""
        parts = [] if first else self._parts.pop(host_id, [])
        self._parts.pop(host_id, None)
        parts += [self._checked(session, host_id) for session in sessions]
        if len(parts) > limits.MAX_SESSIONS_PER_HOST:
            raise LimitExceededError(f"a host may tell of {limits.MAX_SESSIONS_PER_HOST} sessions")
        if not last:
            self._parts[host_id] = parts
            return
        if parts:
            self._hosts[host_id] = {session.session_id: session for session in parts}
        else:
            self._hosts.pop(host_id, None)

    def _checked(self, session: SessionTracker, host_id: str) -> SessionTracker:
        require_session_id(session.session_id)
        known = self.find(session.session_id)
        if known is not None and known.host_id != host_id:
            raise DeniedError(
                "the session belongs to another host",
                detail=f"{host_id} told of {session.session_id} of {known.host_id}",
            )
        if len(session.participants) > limits.MAX_NAMES:
            raise LimitExceededError(f"a session may have {limits.MAX_NAMES} participants")
        for struct in (session, *session.participants):
            for value in msgspec.structs.asdict(struct).values():
                texts = value if isinstance(value, list) else [value]
                if len(texts) > limits.MAX_NAMES or any(
                    isinstance(text, str) and len(text) > limits.MAX_TEXT for text in texts
                ):
                    raise InputError(f"a text of a session may have {limits.MAX_TEXT} characters")
        return msgspec.structs.replace(session, host_id=host_id, expires=self._clock() + limits.EXPIRES_S)

    def now(self) -> float:
        return self._clock()

    def all(self) -> list[SessionTracker]:
        """The oldest first."""
        now = self._clock()
        for host_id, sessions in list(self._hosts.items()):
            if all(session.expires <= now for session in sessions.values()):
                del self._hosts[host_id]
        found = [session for sessions in self._hosts.values() for session in sessions.values()]
        return sorted(found, key=lambda session: (session.created, session.session_id))

    def find(self, session_id: str) -> SessionTracker | None:
        now = self._clock()
        for sessions in self._hosts.values():
            session = sessions.get(session_id)
            if session is not None and session.expires > now:
                return session
        return None

    # Orders.

    def listen(self, host_id: str) -> asyncio.Queue[SessionOrder]:
        """Orders for this host, from now until `forget`. Raises LimitExceededError."""
        streams = self._streams.setdefault(host_id, [])
        if len(streams) >= limits.MAX_STREAMS_PER_HOST:
            raise LimitExceededError("this host listens for orders already")
        queue: asyncio.Queue[SessionOrder] = asyncio.Queue(limits.MAX_ORDERS)
        streams.append(queue)
        return queue

    def forget(self, host_id: str, queue: asyncio.Queue[SessionOrder]) -> None:
        streams = self._streams.get(host_id, [])
        if queue in streams:
            streams.remove(queue)
        if not streams:
            self._streams.pop(host_id, None)

    def reachable(self, host_id: str) -> bool:
        return host_id in self._streams

    def order(self, host_id: str, order: SessionOrder) -> None:
        """Raises UnavailableError when the host does not listen."""
        heard = False
        for queue in self._streams.get(host_id, ()):
            try:
                queue.put_nowait(order)
                heard = True
            except asyncio.QueueFull:
                continue
        if not heard:
            raise UnavailableError("the server of this session does not listen for orders now")

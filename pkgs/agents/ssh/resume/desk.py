"""Meets every new stream of the SSH Service, and knows the connections that can be taken up again.

    stream -> offer -> plain SSH: handed back untouched
                    -> NEW: a connection's process, and a token that names it
                    -> a token: the connection that has it, if it may go on from there (attacks A08, A14)

A token opens nothing by itself: what it leads to is ciphertext that only the client who logged in can read
and continue, under the identity that this login proved. So the worst that a stolen one does is to interrupt.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pkgs.agents.ssh.resume.arrivals import Arrival
from pkgs.agents.ssh.resume.limits import (
    FAREWELL_S,
    MEETING,
    MEETING_OF_SOURCE,
    RESUMABLE,
    RESUMABLE_OF_SOURCE,
    SILENT_S,
    SPEAK_S,
)
from pkgs.agents.ssh.resume.pipe import Budget, Pipe
from pkgs.common.errors import AccessError, ProtocolError, UnavailableError
from pkgs.common.net.resume.limits import KEPT_S
from pkgs.common.net.resume.wire import (
    ACCEPT,
    HELLO,
    KNOWN,
    NEW,
    OFFER,
    TOKEN_BIT,
    TOKEN_SIZE,
    UNKNOWN,
    encode_ticket,
)
from pkgs.common.net.sockets import split_host_port
from pkgs.common.net.stream import Stream
from pkgs.common.pki.source import source_of


class Guest(Protocol):
    """The connection behind a pipe, as its service knows it."""

    @property
    def logged_in(self) -> bool:
        """Whether somebody has proven who they are. Before that nothing is worth keeping."""

    def may_go_on(self, client_addr: str) -> bool:
        """Whether it may go on from this `ip:port`: decided as at a login, now. If so it is there."""

    def can_be_away(self, is_here: Callable[[], bool]) -> None:
        """Its client may go and come back, and this tells which it is. Called once."""

    def abandoned(self, why: str) -> None:
        """Its client is not waited for any more."""


Begin = Callable[[socket.socket, str], Awaitable[Guest]]
"""Hands a socket and the client's `ip:port` to a process of its own. Raises AccessError."""


@dataclass(frozen=True, slots=True)
class _Kept:
    token: bytes
    pipe: Pipe
    guest: Guest


class Desk:
    """Of one service. `serve` each stream as it comes."""

    def __init__(
        self,
        begin: Begin,
        host_id: Callable[[], str],
        log: logging.Logger,
        *,
        kept_s: float = KEPT_S,
        silent_s: float = SILENT_S,
    ) -> None:
        self._begin = begin
        self._host_id = host_id
        self._log = log
        self._kept_s = kept_s
        self._silent_s = silent_s
        self._kept: dict[bytes, _Kept] = {}
        """By the token's hash: how long a look-up takes tells nothing of a token."""
        self._kept_of: Counter[str] = Counter()
        self._meeting: Counter[str] = Counter()
        self._budget = Budget()

    @property
    def waiting(self) -> int:
        """Connections whose client is away."""
        return sum(not kept.pipe.is_attached for kept in self._kept.values())

    async def serve(self, arrival: Arrival, client_addr: str) -> bool:
        """False: a plain client, nothing of whose stream was taken. True: the stream was served to its end
        and is closed. Raises UnavailableError when it ended before that was known."""
        source = source_of(split_host_port(client_addr)[0])
        if not self._has_place(source):
            return False
        with self._at_the_desk(source):
            if not await self._takes_offer(arrival):
                return False
            stream = await arrival.claim()
            try:
                token = await self._answer(stream)
            except BaseException:
                stream.abort()
                raise
        try:
            if token:
                await self._take_up(stream, token, client_addr)
            else:
                await self._open(stream, client_addr, source)
        except (AccessError, OSError) as problem:
            self._log.info("a resumable connection ended: %s", problem, extra={"addr": client_addr})
        finally:
            await stream.close()
        return True

    async def close(self) -> None:
        """Let clients take what their processes said last, briefly, and end what is left."""
        deadline = asyncio.get_running_loop().time() + FAREWELL_S
        while any(kept.pipe.is_attached for kept in self._kept.values()):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.02)
        for kept in list(self._kept.values()):
            kept.pipe.close("the service is stopping")

    # --- meeting

    def _has_place(self, source: str) -> bool:
        """Strangers hold few places, and those of one source never all of them (attack A54)."""
        return self._meeting.total() < MEETING and self._meeting[source] < MEETING_OF_SOURCE

    @contextmanager
    def _at_the_desk(self, source: str) -> Iterator[None]:
        self._meeting[source] += 1
        try:
            yield
        finally:
            self._meeting[source] -= 1
            self._meeting += Counter()  # forgets what is 0

    async def _takes_offer(self, arrival: Arrival) -> bool:
        await arrival.offer(OFFER)
        try:
            async with asyncio.timeout(self._silent_s):
                first = await arrival.peek(1)
        except TimeoutError:
            return False
        start = HELLO + ACCEPT[:1]
        try:
            async with asyncio.timeout(SPEAK_S):
                if first == start[:1]:
                    first = await arrival.peek(len(start))
        except TimeoutError:
            raise UnavailableError("the client did not say what it speaks") from None
        return first == start

    async def _answer(self, stream: Stream) -> bytes:
        """The token of a client who comes back; empty for a new one."""
        try:
            async with asyncio.timeout(SPEAK_S):
                if await stream.read_exactly(len(HELLO + ACCEPT)) != HELLO + ACCEPT:
                    raise ProtocolError("another version of resumption than was offered")
                kind = await stream.read_exactly(1)
                if kind == NEW:
                    return b""
                if not kind[0] & TOKEN_BIT:
                    raise ProtocolError("neither a new connection nor a token")
                return kind + await stream.read_exactly(TOKEN_SIZE - 1)
        except TimeoutError:
            raise UnavailableError("the client did not say what it wants") from None

    # --- serving

    async def _open(self, stream: Stream, client_addr: str, source: str) -> None:
        ours, theirs = socket.socketpair()
        try:
            guest = await self._begin(theirs, client_addr)
        except BaseException:
            ours.close()
            raise
        token = secrets.token_bytes(TOKEN_SIZE)
        token = bytes([token[0] | TOKEN_BIT]) + token[1:]
        key = _key(token)

        # Only this tells them from those who come back: to the offer both are alike.
        has_place = len(self._kept) < RESUMABLE and self._kept_of[source] < RESUMABLE_OF_SOURCE

        def over(why: str) -> None:
            if has_place:
                del self._kept[key]
                self._kept_of[source] -= 1
                self._kept_of += Counter()
            if why:
                guest.abandoned(why)

        pipe = Pipe(ours, self._budget, lambda: has_place and guest.logged_in, over, kept_s=self._kept_s)
        guest.can_be_away(lambda: pipe.is_attached)
        if has_place:
            self._kept[key] = _Kept(token, pipe, guest)
            self._kept_of[source] += 1
        try:
            stream.write(encode_ticket(token, self._host_id()))
        except BaseException:
            pipe.close("")
            raise
        await pipe.carry(stream, again=False)

    async def _take_up(self, stream: Stream, token: bytes, client_addr: str) -> None:
        kept = self._kept.get(_key(token))
        if kept is None or not hmac.compare_digest(kept.token, token):
            await self._turn_away(stream, "nothing is known of it", client_addr)
        elif not kept.guest.may_go_on(client_addr):
            await self._turn_away(stream, "it may not go on from there", client_addr)
        else:
            self._log.info("a connection is resumed", extra={"addr": client_addr})
            stream.write(KNOWN)
            await kept.pipe.carry(stream, again=True)

    async def _turn_away(self, stream: Stream, why: str, client_addr: str) -> None:
        """The client learns the same in each case."""
        self._log.info("a connection is not resumed: %s", why, extra={"addr": client_addr})
        stream.write(UNKNOWN)
        await stream.drain()


def _key(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()

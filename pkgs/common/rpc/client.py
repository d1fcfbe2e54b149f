"""The client of services: keeps itself connected, many calls at once on one connection.

It speaks ZMTP over TLS (or a unix socket) itself, with the guard's codec. A connection that is lost takes
its calls with it: they fail as unavailable, and only those with an idempotency key are sent once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar, cast

import msgspec

from pkgs.common.errors import (
    AccessError,
    TrustError,
    UnavailableError,
)
from pkgs.common.rpc.answers import decode_answer, encode_request
from pkgs.common.rpc.calls import Request, StreamRequest, UploadRequest
from pkgs.common.rpc.limits import (
    DEFAULT_CALL_DEADLINE_S,
    UPLOAD_CHUNK_BYTES,
    ClientLimits,
)
from pkgs.common.rpc.link import Link, LostError, Upload

A = TypeVar("A")

_CLOSE_S = 1.0
"""For a farewell to the server; then the connection is cut."""

Dial = Callable[
    [Callable[[], asyncio.Protocol]], Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]]
]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is: a TLS port, or a unix socket."""

    host: str = ""
    port: int = 0
    ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None
    """A function is asked at every dial, so that renewed certificates are used."""
    server_hostname: str = ""
    unix_path: str = ""

    def __str__(self) -> str:
        return self.unix_path or f"{self.host}:{self.port}"


class RpcClient:
    """An AsyncClient. Connects at the first call and stays connected until `close`."""

    def __init__(
        self,
        target: Endpoint | Sequence[Endpoint] | Dial,
        *,
        limits: ClientLimits | None = None,
        on_connected: Callable[[], None] | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        """`on_connected` is called each time a server has let us in."""
        self._limits = limits or ClientLimits()
        self._on_connected = on_connected
        self._log = log or logging.getLogger("rpc.client")
        self._dials: list[tuple[str, Dial]]
        if isinstance(target, Endpoint):
            self._dials = [(str(target), _dial(target))]
        elif isinstance(target, Sequence):
            self._dials = [(str(endpoint), _dial(endpoint)) for endpoint in target]
        else:
            self._dials = [("the server", target)]
        if not self._dials:
            raise ValueError("a client without an endpoint")
        self._link: Link | None = None
        self._links: set[Link] = set()
        """All whose transport is still there: the current one, retired ones, ones that say farewell."""
        self._keeper: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[Link]] = []
        self._wanted = asyncio.Event()
        self._closed = False

    # the connection

    @property
    def connected(self) -> bool:
        """Whether a server has let us in and the connection stands."""
        return self._link is not None and self._link.ready

    def peer_certificate(self) -> bytes | None:
        """DER of the server's certificate, while connected by TLS."""
        if self._link is None:
            return None
        return self._link.peer_certificate()

    async def connect(self, deadline_s: float = DEFAULT_CALL_DEADLINE_S) -> None:
        """Wait until a server has let us in; raises what a call would."""
        try:
            async with asyncio.timeout(deadline_s):
                link = await self._linked()
                await link.admitted()
        except TimeoutError as late:
            raise UnavailableError("the server did not let us in within the deadline") from late

    def reconnect(self) -> None:
        """Dial anew (new certificate, new CAs); what runs on the old connection may end there."""
        link, self._link = self._link, None
        if link is not None:
            link.retire()
        self._wanted.set()

    async def close(self) -> None:
        """End the connection; running calls fail as unavailable."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            # Who is cancelled while he waits for it has to hear of that.
            await asyncio.wait((self._keeper,))
            self._keeper = None
        self._tell(UnavailableError("the client was closed"))
        links = set(self._links)
        for link in links:
            link.close("the client was closed")
        if links:
            await asyncio.wait([link.down for link in links], timeout=_CLOSE_S)
        for link in links:
            link.abort()

    async def _linked(self) -> Link:
        """The connection. Without one: the outcome of the next attempt to dial."""
        if self._link is not None:
            return self._link
        if self._closed:
            raise UnavailableError("the client was closed")
        loop = asyncio.get_running_loop()
        if self._keeper is None:
            self._keeper = loop.create_task(self._keep())
        waiter: asyncio.Future[Link] = loop.create_future()
        self._waiting.append(waiter)
        self._wanted.set()
        return await waiter

    async def _keep(self) -> None:
        """Dial, hold, and dial again with growing, jittered pauses."""
        failures = 0
        while True:
            try:
                link = await self._dial_any()
                self._link = link
                self._tell(link)
                await link.admitted()
                failures = 0
                if self._on_connected is not None:
                    self._on_connected()
                await link.over()
                if link.retired:
                    continue
            except AccessError as failure:
                failures += 1
                self._link = None
                self._tell(failure)
                self._log.debug("no connection: %s", failure)
            except Exception:
                failures += 1
                self._tell(UnavailableError("no connection, for a reason that the log has"))
                self._log.exception("the connection could not be kept")
            await self._pause(failures)

    async def _pause(self, failures: int) -> None:
        """Back-off. A call that wants the connection cuts it short, but not to nothing."""
        limits = self._limits
        longest = min(limits.backoff_max_s, limits.backoff_first_s * 2 ** min(failures, 16))
        pause = longest * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, keeps no secret)
        self._wanted.clear()
        least = min(pause, limits.backoff_first_s)
        await asyncio.sleep(least if failures else least * random.random())  # noqa: S311
        if self._waiting:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), pause)

    def _tell(self, outcome: Link | AccessError) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if waiter.done():
                continue
            if isinstance(outcome, AccessError):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)

    async def _dial_any(self) -> Link:
        """A connection to the first endpoint that takes us; the one that did comes first next time."""
        failure: AccessError | None = None
        for at, (name, dial) in enumerate(self._dials):
            try:
                async with asyncio.timeout(self._limits.dial_s):
                    _, protocol = await dial(self._new_link)
                link = cast(Link, protocol)
            except ssl.SSLCertVerificationError as bad:
                failure = TrustError(f"{name} did not prove who it is: {bad.verify_message}")
            except AccessError as bad:
                failure = bad
            except (OSError, TimeoutError) as bad:
                failure = UnavailableError(f"{name} is not to be reached: {bad or 'no answer in time'}")
            else:
                self._dials = self._dials[at:] + self._dials[:at]
                self._links.add(link)
                link.down.add_done_callback(functools.partial(self._down, link))
                return link
        assert failure is not None
        raise failure

    def _new_link(self) -> Link:
        return Link(self._limits, self._lost)

    def _down(self, link: Link, _: asyncio.Future[None]) -> None:
        self._links.discard(link)

    def _lost(self, link: Link) -> None:
        """At once, so that no call is tried on a connection that is known to be gone."""
        if self._link is link:
            self._link = None

    # calls

    async def call(
        self,
        request: Request[A],
        *,
        deadline_s: float = DEFAULT_CALL_DEADLINE_S,
        idempotency_key: str = "",
    ) -> A:
        """The answer, or the error the server gave. Raises UnavailableError when it does not answer."""
        method, body = encode_request(request)
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        for retry in (bool(idempotency_key), False):
            link = self._link
            try:
                if link is None:
                    async with asyncio.timeout_at(end):
                        link = await self._linked()
                raw = await link.call(method, body, end - loop.time(), idempotency_key)
            except TimeoutError as late:
                raise UnavailableError("no connection within the deadline of the call") from late
            except LostError:
                if not retry:
                    raise
                continue
            return cast(A, decode_answer(type(request), raw))
        raise AssertionError("unreachable")

    async def stream(self, request: StreamRequest[A], *, deadline_s: float | None = None) -> AsyncIterator[A]:
        """The items as they come. Closing the iterator ends the stream at the server too."""
        method, body = encode_request(request)
        link = await self._link_within(deadline_s)
        items = link.open_stream(method, body, deadline_s or 0.0)
        try:
            while (raw := await items.next()) is not None:
                yield cast(A, decode_answer(type(request), raw))
        finally:
            items.close()

    async def upload(
        self,
        request: UploadRequest[A],
        chunks: AsyncIterator[bytes],
        *,
        deadline_s: float | None = None,
    ) -> A:
        """Send the chunks as fast as the handler reads them; its answer."""
        method, body = encode_request(request)
        link = await self._link_within(deadline_s)
        upload = link.open_upload(method, body, deadline_s or 0.0)
        try:
            async with asyncio.timeout(deadline_s):
                if await _send_all(upload, chunks):
                    upload.end()
                raw = await upload.answer
        except TimeoutError as late:
            raise UnavailableError("the upload did not end within its deadline", hint="try again") from late
        finally:
            upload.close()
        return cast(A, decode_answer(type(request), raw))

    async def _link_within(self, deadline_s: float | None) -> Link:
        try:
            async with asyncio.timeout(DEFAULT_CALL_DEADLINE_S if deadline_s is None else deadline_s):
                return await self._linked()
        except TimeoutError as late:
            raise UnavailableError("no connection within the deadline of the call") from late


async def _send_all(upload: Upload, chunks: AsyncIterator[bytes]) -> bool:
    """False when the server has answered before the end."""
    source = aiter(chunks)
    while True:
        coming = asyncio.ensure_future(anext(source, None))
        try:
            # A source may be quiet for hours; an answer or a lost connection is not to wait for it.
            await asyncio.wait((coming, upload.answer), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return False
            chunk = coming.result()
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.wait((coming,))
        if chunk is None:
            return True
        for at in range(0, len(chunk), UPLOAD_CHUNK_BYTES):
            if not await upload.send(chunk[at : at + UPLOAD_CHUNK_BYTES]):
                return False


def _dial(endpoint: Endpoint) -> Dial:
    async def dial(
        factory: Callable[[], asyncio.Protocol],
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        loop = asyncio.get_running_loop()
        context = endpoint.ssl_context() if callable(endpoint.ssl_context) else endpoint.ssl_context
        name = endpoint.server_hostname or endpoint.host
        if endpoint.unix_path:
            if context is None:
                return await loop.create_unix_connection(factory, endpoint.unix_path)
            return await loop.create_unix_connection(
                factory, endpoint.unix_path, ssl=context, server_hostname=name
            )
        if context is None:
            raise ValueError("a TCP endpoint needs TLS")
        return await loop.create_connection(
            factory, endpoint.host, endpoint.port, ssl=context, server_hostname=name
        )

    return dial

"""HTTP on the proxy's public port: connections into aiohttp, with the limits that it does not have itself.

aiohttp parses and answers. Around it: a deadline for the headers and the body of every request (attack
A54), a size for both, a rate per source (A50), the same security headers on every answer, and errors as
`{"error": {"message": ..., "code": ...}}` with nothing internal in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, cast

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from pkgs.common.errors import (
    AccessError,
    InputError,
    InternalError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
)
from pkgs.common.net.listener import Accepted
from pkgs.common.net.penalties import Penalties, RateLimit, source_of
from pkgs.common.pki.source import parse_address
from pkgs.proxy import limits

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CLIENT_IP: Final = web.RequestKey("client_ip", str)
COSTLY: Final = "costly"
CHEAP: Final = "cheap"
FREE: Final = "free"

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


_CODES: Final = {
    404: NotFoundError.code,
    413: LimitExceededError.code,
    500: InternalError.code,
    503: UnavailableError.code,
}


_NO_LOG: Final = logging.getLogger("aiohttp.unheard")
"""For aiohttp, which would write a traceback for every request that does not parse: anybody can make as many
of these as they like. What fails behind the parser is logged by us."""
_NO_LOG.setLevel(logging.CRITICAL + 1)


class _Connection(asyncio.Protocol):
    """Stands before aiohttp's protocol of one connection; ends it when a request takes too long
    to come, or an answer too long to be taken."""

    def __init__(self, server: WebServer, remote_ip: str) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._inner: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._handling = 0
        self.transport: asyncio.Transport | None = None
        self.remote_ip = remote_ip
        self.over: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._server.connections[transport] = self
        self._inner = self._server.make_protocol()
        self._inner.connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._timer is None and not self._handling:
            self._arm()
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._taken()
        if self.transport is not None:
            self._server.connections.pop(self.transport, None)
        if self._inner is not None:
            self._inner.connection_lost(exc)
        if not self.over.done():
            self.over.set_result(None)

    def pause_writing(self) -> None:
        # aiohttp waits without end for a client to read.
        self._unread = self._loop.call_later(limits.ANSWER_TAKEN_S, self.abort)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._taken()
        if self._inner is not None:
            self._inner.resume_writing()

    def request_began(self) -> None:
        """The headers are complete; from here the handler has deadlines of its own."""
        self._handling += 1
        self._disarm()

    def request_ended(self) -> None:
        self._handling -= 1

    def _arm(self) -> None:
        self._timer = self._loop.call_later(limits.HEADER_S, self.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _taken(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class WebServer:
    """Serves an aiohttp application on sockets that the listener accepted."""

    def __init__(
        self,
        app: web.Application,
        *,
        routes: dict[str, str],
        trust_forwarded: bool,
        penalties: Penalties,
        log: logging.Logger,
    ) -> None:
        """`routes`: COSTLY, CHEAP or FREE by pattern of the resource; one that is missing is COSTLY."""
        self.connections: dict[asyncio.BaseTransport, _Connection] = {}
        self._routes = routes
        self._trust_forwarded = trust_forwarded
        self._penalties = penalties
        self._log = log
        self._rates = {
            COSTLY: RateLimit(limits.PER_MINUTE, limits.BURST),
            CHEAP: RateLimit(limits.PER_MINUTE_HIGH, limits.BURST_HIGH),
        }
        app.middlewares.append(self._middleware())
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_NO_LOG,
            keepalive_timeout=limits.KEEPALIVE_S,
            lingering_time=1.0,
            max_line_size=limits.HEADER_LINE_MAX,
            max_field_size=limits.HEADER_LINE_MAX,
            max_headers=limits.HEADERS_MAX,
            auto_decompress=False,
            shutdown_timeout=1.0,
        )

    async def start(self) -> None:
        await self._runner.setup()

    def make_protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return server()

    async def serve(self, accepted: Accepted, context: ssl.SSLContext) -> None:
        """Serve one connection until it is over. Never raises for what the peer does."""
        connection = _Connection(self, accepted.remote_ip)
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: connection,
                accepted.sock,
                ssl=context,
                ssl_handshake_timeout=limits.HEADER_S,
                ssl_shutdown_timeout=2.0,
            )
        except (OSError, TimeoutError):
            accepted.sock.close()
            return
        try:
            await asyncio.shield(connection.over)
        except asyncio.CancelledError:
            connection.abort()
            raise

    async def close(self) -> None:
        await self._runner.cleanup()

    # --- around every request

    def _middleware(self) -> Middleware:
        @web.middleware
        async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = self.connections.get(request.transport) if request.transport is not None else None
            if connection is None:
                raise web.HTTPServiceUnavailable
            connection.request_began()
            try:
                response = await self._guarded(request, handler, connection.remote_ip)
            finally:
                connection.request_ended()
            for name, value in SECURITY_HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers["Server"] = "teleport"
            return response

        return around

    async def _guarded(self, request: web.Request, handler: Handler, ip: str) -> web.StreamResponse:
        try:
            _check_headers(request)
            request[CLIENT_IP] = self._client_ip(request, ip)
            self._check_rate(request)
            if (request.content_length or 0) > limits.BODY_MAX:
                raise web.HTTPRequestEntityTooLarge(limits.BODY_MAX, request.content_length or 0)
            async with asyncio.timeout(limits.HANDLER_S):
                return await handler(request)
        except web.HTTPException as exc:
            if exc.status < 400:
                return exc
            response = problem(
                exc.status, exc.reason.lower(), "bad-input" if exc.status < 500 else "internal"
            )
            if exc.status == 413:
                response.force_close()
            if "Allow" in exc.headers:
                response.headers["Allow"] = exc.headers["Allow"]
            return response
        except AccessError as exc:
            return self._refused(request, exc)
        except TimeoutError:
            return problem(503, "the answer took too long; try again", UnavailableError.code)
        except Exception as exc:
            incident = secrets.token_hex(4)
            self._log.error("a web request failed, incident %s", incident, exc_info=exc)
            return problem(500, f"internal error, incident {incident}", InternalError.code)

    def _client_ip(self, request: web.Request, ip: str) -> str:
        if not self._trust_forwarded:
            return ip
        forwarded = request.headers.getall("X-Forwarded-For", [])
        if not forwarded:
            return ip
        address = parse_address(forwarded[0].strip()) if len(forwarded) == 1 else None
        if address is None:
            # Never pass on an empty or odd address: to Auth, none means the proxy itself.
            raise InputError("X-Forwarded-For must hold exactly one address")
        return str(address)

    def _check_rate(self, request: web.Request) -> None:
        resource = request.match_info.route.resource
        pattern = resource.canonical if resource is not None else ""
        cost = self._routes.get(pattern.removeprefix("/v1"), CHEAP if resource is None else COSTLY)
        if cost == FREE:
            return
        source = source_of(request[CLIENT_IP])
        wait_s = self._penalties.retry_after(source) if cost == COSTLY else 0.0
        if wait_s <= 0.0 and self._rates[cost].allow(source):
            return
        wait_s = max(wait_s, self._rates[cost].retry_after_s(source), 1.0)
        raise LimitExceededError(
            "too many requests from your address", hint=f"try again in {int(wait_s) + 1} seconds"
        )

    def _refused(self, request: web.Request, exc: AccessError) -> web.Response:
        if exc.http_status == 403:
            self._penalties.punish(request[CLIENT_IP], limits.FAILURE_PENALTY_S)
        if exc.http_status >= 500 or exc.detail:
            self._log.info(
                "web request refused",
                extra={"addr": request[CLIENT_IP], "reason": exc.message, "detail": exc.detail},
            )
        response = problem(exc.http_status, str(exc), exc.code)
        if exc.http_status in (429, 503):
            response.headers["Retry-After"] = "5"
        return response


def _check_headers(request: web.Request) -> None:
    """No handler meets a header that is no text: it could neither show it nor pass it on."""
    for _, value in request.raw_headers:
        try:
            value.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise InputError("a header of the request is not UTF-8") from exc


def problem(status: int, message: str, code: str) -> web.Response:
    """The one shape of an error."""
    return json_response({"error": {"message": message, "code": code}}, status=status)


def json_response(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


async def read_body(request: web.Request) -> bytes:
    """The whole body, within its size and deadline."""
    try:
        async with asyncio.timeout(limits.BODY_S):
            return await request.read()
    except TimeoutError as exc:
        with contextlib.suppress(AttributeError):
            request.transport.abort()  # type: ignore[union-attr]
        raise UnavailableError("the request did not come in time") from exc

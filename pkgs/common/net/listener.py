"""One accept loop for every public port: a connection is handed on when it is known what it wants.

Nothing but a PROXY header is consumed: the ClientHello is peeked at, so that the connection can be relayed
untouched or given to whichever TLS stack serves it. No client can hold up another: each waits in a task
of its own, with a deadline, and when too many are waiting the one that waited longest is closed (attacks
A42, A54). Out of descriptors, accepting rests for a moment instead of spinning.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pkgs.common.errors import AccessError, InputError, ProtocolError, TrustError, UnavailableError
from pkgs.common.net import limits
from pkgs.common.net.clienthello import ClientHello, bytes_needed, parse_client_hello
from pkgs.common.net.limits import ListenerLimits
from pkgs.common.net.peek import PeerEnded, peek
from pkgs.common.net.penalties import Penalties, source_of
from pkgs.common.net.proxyproto.header import V1_START, V2_START, Endpoint, header_length
from pkgs.common.net.sockets import join_host_port, plain_ip, split_host_port, tune

SSL_REQUEST = bytes.fromhex("00000008 04d2162f")
GSS_REQUEST = bytes.fromhex("00000008 04d21630")
_REQUESTS = (SSL_REQUEST, GSS_REQUEST)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection that has said what it wants. Whoever gets it owns the socket."""

    sock: socket.socket
    remote_ip: str
    remote_port: int
    hello: ClientHello | None
    via_proxy: bool = False
    """The address comes from a PROXY header that was believed."""
    postgres: bool = False
    """It began as PostgreSQL does: with a request for TLS, which was granted."""
    greeted_as: int = 0
    """The number that this connection has in its greeting, where the server spoke first; 0: it did not."""

    @property
    def remote_addr(self) -> str:
        return join_host_port(self.remote_ip, self.remote_port)


OnConnection = Callable[[Accepted], Awaitable[None]]
Greet = Callable[[socket.socket], Awaitable[int]]
"""Speaks first, in plain, until the client's hello is what comes next, and gives `Accepted.greeted_as`.
Raises AccessError for who will not say hello; the socket is closed then."""


class HeaderCheck(Protocol):
    """Who decides whether a PROXY header is believed: `ProxyVerifier` or `PlainHeaderReader`."""

    @property
    def required(self) -> bool: ...

    def verify(self, header: bytes) -> Endpoint | None: ...


def bind(addr: str) -> list[socket.socket]:
    """Listening sockets for `host:port`; an empty host means all addresses, port 0 a free one. Raises
    UnavailableError naming the address when it is taken or not ours."""
    host, port = split_host_port(addr)
    if ":" not in addr.removeprefix("tcp://"):
        raise InputError(f"{addr!r} has no port", hint="write host:port")
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as exc:
        raise InputError(f"cannot listen on {addr}: {host!r} is not an address of this machine") from exc
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            # The protocol number is given so that the event loop turns Nagle off on what it accepts.
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port == 0 and len(sockets) > 1:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            sock.bind(address)
            sock.setblocking(False)
            sock.listen(limits.BACKLOG)
    except OSError as exc:
        for sock in sockets:
            sock.close()
        raise UnavailableError(f"cannot listen on {addr}: {exc.strerror or exc}") from exc
    return sockets


class Listener:
    """Accepts on some sockets and gives each connection to `on_connection`, which must return only when
    that connection is over: its slot in the limits is held until then."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        on_connection: OnConnection,
        *,
        hello: bool = True,
        limits: ListenerLimits | None = None,
        verify_proxy: HeaderCheck | None = None,
        penalties: Penalties | None = None,
        postgres: bool = False,
        greet: Greet | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        """With `postgres`, its clients' request for TLS may come before the hello; with `greet` a whole
        exchange of another protocol, which the server begins."""
        self._sockets = list(sockets)
        self._on_connection = on_connection
        self._hello = hello
        self._limits = limits or ListenerLimits()
        self._total = _affordable(self._limits.total)
        # Whatever the limits say, one source never gets more than half of all places.
        self._per_source = min(self._limits.per_source, max(1, self._total // 2))
        self._verify_proxy = verify_proxy
        self._penalties = penalties
        self._postgres = postgres
        self._greet = greet
        self._speaks_first = greet is not None or not hello
        self._log = log or logging.getLogger(__name__)
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: dict[asyncio.Task[None], str] = {}
        self._pending_of: dict[str, dict[asyncio.Task[None], None]] = {}
        self._count_of: dict[str, int] = {}
        self._accepting = False
        self._resume: asyncio.TimerHandle | None = None
        self._exhausted_logged = float("-inf")

    @property
    def addresses(self) -> list[str]:
        """`ip:port` of each socket."""
        return [join_host_port(*sock.getsockname()[:2]) for sock in self._sockets]

    @property
    def connections(self) -> int:
        return len(self._tasks)

    @property
    def pending(self) -> int:
        """Connections that have not said yet what they want."""
        return len(self._pending)

    def start(self) -> None:
        self._accepting = True
        self._watch()

    def _watch(self) -> None:
        self._resume = None
        if self._accepting:
            loop = asyncio.get_running_loop()
            for sock in self._sockets:
                loop.add_reader(sock.fileno(), self._accept, sock)

    def _unwatch(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if sock.fileno() != -1:
                loop.remove_reader(sock.fileno())

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections that exist go on."""
        self._accepting = False
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._unwatch()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def drain(self, timeout_s: float) -> int:
        """Wait for the connections to end by themselves; how many are left."""
        self.stop_accepting()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)
        return len(self._tasks)

    async def close(self) -> None:
        """Stop accepting and end every connection."""
        self.stop_accepting()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- accepting

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(limits.ACCEPT_BATCH):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno in _EXHAUSTED:
                    self._rest(exc)
                return
            self._take(sock, plain_ip(address[0]), address[1])

    def _rest(self, exc: OSError) -> None:
        """Out of descriptors or memory: leave the connections in the kernel's queue for a moment."""
        loop = asyncio.get_running_loop()
        self._unwatch()
        self._resume = loop.call_later(limits.EXHAUSTED_PAUSE_S, self._watch)
        if loop.time() - self._exhausted_logged > limits.EXHAUSTED_LOG_EVERY_S:
            self._exhausted_logged = loop.time()
            self._log.error("cannot accept connections: %s; %d are open", exc.strerror, len(self._tasks))

    def _take(self, sock: socket.socket, ip: str, port: int) -> None:
        source = source_of(ip)
        if (
            (len(self._tasks) >= self._total and not self._evict(None))
            or self._count_of.get(source, 0) >= self._per_source
            or (self._penalties is not None and not self._penalties.allow(ip))
        ):
            sock.close()
            return
        if len(self._pending_of.get(source, ())) >= self._limits.pending_per_source:
            self._evict(source)
        elif len(self._pending) >= self._limits.pending:
            self._evict(None)
        task = asyncio.get_running_loop().create_task(self._run(sock, ip, port))
        self._tasks.add(task)
        self._count_of[source] = self._count_of.get(source, 0) + 1
        self._pending[task] = source
        self._pending_of.setdefault(source, {})[task] = None
        task.add_done_callback(lambda done: self._gone(done, source, sock))

    def _evict(self, source: str | None) -> bool:
        """Close the connection that has been silent longest (of this source); False if none is silent."""
        candidates = self._pending if source is None else self._pending_of.get(source, {})
        oldest = next(iter(candidates), None)
        if oldest is None:
            return False
        self._spoken(oldest)
        oldest.cancel()
        return True

    def _spoken(self, task: asyncio.Task[None]) -> None:
        source = self._pending.pop(task, None)
        if source is not None:
            of_source = self._pending_of[source]
            del of_source[task]
            if not of_source:
                del self._pending_of[source]

    def _gone(self, task: asyncio.Task[None], source: str, sock: socket.socket) -> None:
        self._tasks.discard(task)
        self._spoken(task)
        left = self._count_of[source] - 1
        if left:
            self._count_of[source] = left
        else:
            del self._count_of[source]
        if task.cancelled():
            # Cancelled before its first step, nobody else has closed it.
            sock.close()
        elif (exc := task.exception()) is not None:
            self._log.error("a connection failed unexpectedly", exc_info=exc)

    # --- one connection

    async def _run(self, sock: socket.socket, ip: str, port: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            tune(sock)
            async with asyncio.timeout(self._limits.hello_s):
                accepted = await self._identify(sock, ip, port)
        except (TimeoutError, PeerEnded, OSError):
            sock.close()
            return
        except AccessError as exc:
            # At debug: anybody can make as many of these as they like.
            self._log.debug("connection refused: %s", exc.message, extra={"addr": ip, "detail": exc.detail})
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        self._spoken(task)
        await self._on_connection(accepted)

    async def _identify(self, sock: socket.socket, ip: str, port: int) -> Accepted:
        source, via_proxy = await self._proxy_header(sock, ip, port)
        postgres = self._hello and self._postgres and await self._grant_tls(sock)
        greeted_as = await self._greet(sock) if self._greet is not None else 0
        hello = await self._read_hello(sock) if self._hello else None
        return Accepted(sock, source[0], source[1], hello, via_proxy, postgres, greeted_as)

    async def _proxy_header(self, sock: socket.socket, ip: str, port: int) -> tuple[tuple[str, int], bool]:
        """Client address by a PROXY header that is believed, else by the socket. Attack A55."""
        check = self._verify_proxy
        if check is None and self._speaks_first:
            return (ip, port), False
        required = check is not None and check.required
        start = await self._first_bytes(sock, optional=self._speaks_first and not required)
        if not start.startswith((V1_START[:6], V2_START[: len(start)])) or not start:
            if required:
                raise ProtocolError("a PROXY header is required here")
            return (ip, port), False
        if check is None:
            raise TrustError("a PROXY header is not accepted here")
        while (length := header_length(start)) is None or len(start) < length:
            start = await peek(sock, len(start) + 1 if length is None else length, start)
        header = sock.recv(length)
        found = check.verify(header)
        return (found if found is not None else (ip, port)), found is not None

    async def _first_bytes(self, sock: socket.socket, *, optional: bool) -> bytes:
        """At least twelve bytes, which tells a PROXY header from anything else. When it is optional on a
        port where the server speaks first, a silent client is not waited for long."""
        if not optional:
            start = await peek(sock, len(SSL_REQUEST), b"")
            # A client of PostgreSQL says no more than that before it is answered.
            return start if start[: len(SSL_REQUEST)] in _REQUESTS else await peek(sock, len(V2_START), start)
        try:
            async with asyncio.timeout(limits.PROXY_HEADER_OPTIONAL_WAIT_S):
                return await peek(sock, len(V2_START), b"")
        except TimeoutError:
            return b""

    async def _grant_tls(self, sock: socket.socket) -> bool:
        """Answer a client of PostgreSQL that asks for encryption (its protocol, "SSL Session Encryption" and
        "GSSAPI Session Encryption"): yes to TLS, no to GSSAPI, after which it asks for TLS."""
        for _ in range(len(_REQUESTS)):
            start = await peek(sock, len(SSL_REQUEST), b"")
            request = start[: len(SSL_REQUEST)]
            if request not in _REQUESTS:
                return False
            if len(start) > len(request):
                # Whoever put bytes behind it speaks for a client that is still waiting (CVE-2021-23222).
                raise ProtocolError("a request for encryption with something behind it")
            sock.recv(len(request))
            sock.send(b"S" if request == SSL_REQUEST else b"N")
            if request == SSL_REQUEST:
                return True
        return False

    async def _read_hello(self, sock: socket.socket) -> ClientHello:
        raw = await peek(sock, 5, b"")
        while (hello := parse_client_hello(raw)) is None:
            raw = await peek(sock, bytes_needed(raw), raw)
        return hello


def _affordable(wanted: int) -> int:
    """As many connections as descriptors allow, two for each: its own and the one it is relayed to."""
    with contextlib.suppress(OSError, ValueError):
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            return max(1, min(wanted, (soft - limits.FD_RESERVE) // 2))
    return wanted

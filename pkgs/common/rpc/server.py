"""The server of calls: guards in front, one libzmq ROUTER behind them, driven by its file descriptor.

The ROUTER listens on a private ipc path only; guards of the same process are its only clients. libzmq's
descriptor is edge-triggered: after it fired, and after every send, its event flags are looked at until
nothing is left (otherwise a message could lie there unseen for ever).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import zmq
import zmq.backend

from pkgs.common.errors import (
    DeniedError,
    LimitExceededError,
    ProtocolError,
    TrustError,
)
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.source import check_source
from pkgs.common.rpc.calls import Caller
from pkgs.common.rpc.limits import ServerLimits
from pkgs.common.rpc.registry import Registry
from pkgs.common.rpc.serving.guard import Admission, Guard
from pkgs.common.rpc.serving.local import BACKLOG, MAX_SOCKET_PATH, bind_unix, peer_uid
from pkgs.common.rpc.serving.places import Places
from pkgs.common.rpc.serving.replay import Replays, Scope, scope_of
from pkgs.common.rpc.serving.session import Session

__all__ = ["Registry", "RpcServer", "ServerLimits"]

Identify = Callable[[bytes | None], Identity | None]
Misplaced = Callable[[Identity, str, DeniedError], None]
"""Told of a good certificate that is used from where it may not be: whose, the address, why."""

_TLS_SHUTDOWN_S = 3.0
_FAREWELL_S = 1.0
"""For peers to take the end of their connections; then these are cut."""
_CLOSE_S = 5.0
"""For cancelled handlers to end before the server counts as closed."""
_MIN_LIBZMQ = (4, 3, 5)
# Without the layer of Python that zmq.Socket puts around them; it shows at ten thousand calls a second.
_send = zmq.backend.Socket.send
_recv = zmq.backend.Socket.recv
_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class RpcServer:
    """Serves the calls of a registry on accepted sockets and on unix sockets."""

    def __init__(
        self,
        registry: Registry,
        *,
        identify: Identify,
        limits: ServerLimits | None = None,
        on_misplaced: Misplaced | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        registry.check()
        self.registry = registry
        self.limits = limits or ServerLimits()
        self.log = log or logging.getLogger("rpc")
        self.draining = False
        self.orphans: set[asyncio.Task[None]] = set()
        self._identify = identify
        self._on_misplaced = on_misplaced
        self._sessions: dict[bytes, Session] = {}
        self._guards: set[Guard] = set()
        self._held: Counter[Scope] = Counter()
        self._handshaking = Places(self.limits.handshaking, self.limits.share_of_source)
        self._strangers = Places(self.limits.anonymous_connections, self.limits.share_of_source)
        self._listeners: list[tuple[asyncio.Server, Path]] = []
        self._router: zmq.Socket[bytes] | None = None
        self._router_fd = -1
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._recheck_due = False
        self._settled = asyncio.Event()
        self._dir: Path | None = None
        self._dir_fd = -1
        self.ipc_path = Path()

    # start

    async def start(self, private_dir: Path) -> None:
        """Open the ROUTER under `private_dir`. Call once, before any socket is served."""
        if zmq.zmq_version_info() < _MIN_LIBZMQ:
            raise RuntimeError(f"libzmq {zmq.zmq_version()} is too old")
        loop = asyncio.get_running_loop()
        self.replays = Replays(self.limits, loop.time)
        self._dir = Path(tempfile.mkdtemp(prefix="rpc-", dir=private_dir))
        self.ipc_path = self._dir / "router"
        if len(os.fsencode(self.ipc_path)) > MAX_SOCKET_PATH:
            self._dir_fd = os.open(self._dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.ipc_path = Path(f"/proc/self/fd/{self._dir_fd}/router")
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 16)
        router = self._context.socket(zmq.ROUTER)
        window = self.limits.outbound_messages * 2
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.ROUTER_HANDOVER, 0),
            (zmq.SNDHWM, window),
            (zmq.RCVHWM, window),
            (zmq.MAXMSGSIZE, self.limits.wire.frame_bytes),
            (zmq.HANDSHAKE_IVL, int(self.limits.handshake_s * 1000)),
            (zmq.BACKLOG, BACKLOG),
        ):
            router.setsockopt(option, value)
        mask = os.umask(0o177)
        try:
            router.bind(f"ipc://{self.ipc_path}")
        finally:
            os.umask(mask)
        self._router = router
        self._router_fd = int(router.getsockopt(zmq.FD))
        loop.add_reader(self._router_fd, self._drain_router)
        self._ticker = loop.call_later(self.limits.tick_s, self._tick)

    # taking connections

    @property
    def connections(self) -> int:
        return len(self._sessions)

    async def serve_tls_socket(
        self, sock: socket.socket, ssl_context: ssl.SSLContext, remote_addr: str
    ) -> None:
        """Serve an accepted socket from its TLS handshake on. Returns when the connection is over.

        Never raises for the peer's faults. Cancelled, it ends the connection.
        """
        if self.draining or not self._handshaking.take(remote_addr):
            sock.close()
            return

        def admit(guard: Guard, transport: asyncio.Transport) -> Admission:
            return self._admit(guard, self._tls_caller(transport, remote_addr))

        guard = self._guard(admit)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: guard,
                sock,
                ssl=ssl_context,
                ssl_handshake_timeout=self.limits.handshake_s,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
            )
        except (OSError, TimeoutError) as bad:
            guard.close(f"the TLS handshake with {remote_addr} failed: {bad}")
            sock.close()
            return
        finally:
            self._handshaking.leave(remote_addr)
        try:
            await asyncio.shield(guard.over)
        except asyncio.CancelledError:
            guard.close("the server gave the connection up")
            raise

    async def listen_unix(self, path: Path, admin_uids: Collection[int] | None = None) -> None:
        """Let processes of these users (root and our own by default) in as administrators."""
        allowed = frozenset((0, os.geteuid()) if admin_uids is None else admin_uids)

        def admit(guard: Guard, transport: asyncio.Transport) -> Admission:
            uid = peer_uid(transport)
            if uid not in allowed:
                raise DeniedError(f"user id {uid} is not an administrator here")
            return self._admit(guard, Caller(identity=None, admin=True, local_uid=uid))

        sock = bind_unix(path)
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: self._guard(admit), sock=sock, backlog=BACKLOG
        )
        self._listeners.append((server, path))

    def _guard(self, admit: Callable[[Guard, asyncio.Transport], Admission]) -> Guard:
        guard = Guard(self, self.limits, admit)
        self._guards.add(guard)
        return guard

    def _tls_caller(self, transport: asyncio.Transport, remote_addr: str) -> Caller:
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        identity = self._identify(der)
        if der is not None and identity is None:
            raise TrustError("the certificate names nobody")
        if der is None and identity is not None:
            raise TrustError("a peer without a certificate is nobody")
        if identity is not None:
            try:
                check_source(identity, remote_addr)
            except DeniedError as refusal:
                if self._on_misplaced is not None:
                    self._on_misplaced(identity, remote_addr, refusal)
                raise
        return Caller(identity=identity, remote_addr=remote_addr)

    def _admit(self, guard: Guard, caller: Caller) -> Admission:
        """Count the connection in, or raise."""
        limits = self.limits
        nobody = caller.identity is None and not caller.admin
        scope = scope_of(caller)
        most = limits.local_connections if caller.admin else limits.connections_per_identity
        if self.draining:
            raise LimitExceededError("the server is shutting down")
        if len(self._sessions) >= limits.connections:
            raise LimitExceededError("too many connections")
        if not nobody and self._held[scope] >= most:
            raise LimitExceededError("too many connections of one caller")
        if nobody and not self._strangers.take(caller.remote_addr):
            raise LimitExceededError("too many connections without a certificate")
        self._held[scope] += 1
        self._sessions[guard.session_id] = Session(self, guard, caller)
        if nobody:
            return Admission(
                wire=limits.anonymous_wire,
                messages_per_s=limits.anonymous_messages_per_s,
                life_s=limits.anonymous_life_s,
            )
        return Admission(wire=limits.wire, messages_per_s=limits.messages_per_s)

    def relayed(self, guard: Guard, messages: int, payload: int) -> None:
        session = self._sessions.get(guard.session_id)
        if session is not None:
            session.relayed(messages, payload)

    def gone(self, guard: Guard, reason: str) -> None:
        self._guards.discard(guard)
        session = self._sessions.pop(guard.session_id, None)
        caller = session.caller if session is not None else None
        self.log.debug("connection of %s over: %s", _name(caller), reason)
        if session is None:
            return
        nobody = session.caller.identity is None and not session.caller.admin
        if nobody:
            self._strangers.leave(session.caller.remote_addr)
        scope = scope_of(session.caller)
        self._held[scope] -= 1
        if not self._held[scope]:
            del self._held[scope]
        session.drop()
        if self.draining:
            self._settle()

    def drop(self, where: Callable[[Caller], bool]) -> int:
        """End the connections of these callers at once; how many."""
        found = [session for session in self._sessions.values() if where(session.caller)]
        for session in found:
            session.guard.close("dropped by the server")
        return len(found)

    # the ROUTER

    def route(self, session_id: bytes, head: bytes, body: bytes) -> None:
        """One message to a peer. A peer that has gone meanwhile is no error."""
        if self._router is None:
            return
        try:
            _send(self._router, session_id, _MORE)
            _send(self._router, head, _MORE)
            _send(self._router, body, _LAST)
        except zmq.ZMQError as failure:
            # The guard's window keeps below libzmq's, so this is a connection that is just ending.
            self.log.debug("an answer was not sent: %s", failure)
        if not self._recheck_due:
            self._recheck_due = True
            asyncio.get_running_loop().call_soon(self._recheck)

    def _recheck(self) -> None:
        self._recheck_due = False
        if self.draining:
            self._settle()
        if self._router is not None and int(self._router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._drain_router()

    def _drain_router(self) -> None:
        """Take what is there, up to a batch, and come back for the rest."""
        router = self._router
        if router is None:
            return
        for _ in range(self.limits.drain_batch):
            try:
                # Three parts, always: the guard lets nothing else through.
                session_id = _recv(router, _LAST)
                head = _recv(router, _LAST)
                body = _recv(router, _LAST)
            except zmq.Again:
                return
            except zmq.ZMQError as failure:
                self.log.error("the ROUTER failed to give a message: %s", failure)
                break
            self._take(session_id, head, body)
        if not self._recheck_due:
            self._recheck_due = True
            asyncio.get_running_loop().call_soon(self._recheck)

    def _take(self, session_id: bytes, head: bytes, body: bytes) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.guard.taken(len(head) + len(body))
        try:
            session.message(head, body)
        except ProtocolError as bad:
            session.guard.close(f"broke the protocol: {bad.message}")
        except Exception:
            # One peer's message must never stop the ROUTER for all the others.
            self.log.exception("a message could not be acted on")
            session.guard.close("internal failure")

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._ticker = loop.call_later(self.limits.tick_s, self._tick)
        now = loop.time()
        if self.draining:
            self._settle()
        unix_now = time.time()
        for session in list(self._sessions.values()):
            identity = session.caller.identity
            if identity is not None and 0 < identity.expires_at <= unix_now:
                session.guard.close("the certificate has expired")
        for guard in list(self._guards):
            guard.tick(now)

    # the end

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, let running calls end, then end the streams."""
        self.draining = True
        await self._close_listeners()
        self._settled.clear()
        self._settle()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), timeout_s)
        for session in list(self._sessions.values()):
            session.end_streams()
        await asyncio.sleep(0)

    def _settle(self) -> None:
        if not self.orphans and not any(session.busy for session in self._sessions.values()):
            self._settled.set()

    async def close(self) -> None:
        """End everything now."""
        self.draining = True
        await self._close_listeners()
        if self._ticker is not None:
            self._ticker.cancel()
        guards = [guard for guard in self._guards if guard.open]
        for guard in list(self._guards):
            guard.close("the server is shutting down", gently=True)
        if guards:
            await asyncio.wait([guard.down for guard in guards], timeout=_FAREWELL_S)
        for guard in guards:
            guard.abort()
        for orphan in self.orphans:
            orphan.cancel()
        if self.orphans:
            await asyncio.wait(list(self.orphans), timeout=_CLOSE_S)
        if self._router is not None:
            asyncio.get_running_loop().remove_reader(self._router_fd)
            self._router.close(0)
            self._router = None
        if self._context is not None:
            self._context.term()
            self._context = None
        if self._dir is not None:
            shutil.rmtree(self._dir, ignore_errors=True)
        if self._dir_fd >= 0:
            os.close(self._dir_fd)
            self._dir_fd = -1

    async def _close_listeners(self) -> None:
        listeners, self._listeners = self._listeners, []
        for server, path in listeners:
            server.close()
            with contextlib.suppress(OSError):
                path.unlink()


def _name(caller: Caller | None) -> str:
    if caller is None:
        return "nobody admitted"
    if caller.admin:
        return f"local uid {caller.local_uid}"
    return (
        f"{caller.identity.kind} {caller.identity.name}"
        if caller.identity
        else f"nobody at {caller.remote_addr}"
    )

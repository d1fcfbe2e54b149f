"""The multiplexer: takes requests on a private socket and joins each to a stream of the proxy.

accepted --(LOGIN@HOST:PORT, NUL)--> asking the proxy --> "\\n", then the server's bytes both ways
                                                     \\-> a line that says why not, then the end
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from pkgs.clients.tsh.multiplex.limits import ANSWER_S, END_S, MAX_REQUEST, MAX_STREAMS, REQUEST_S
from pkgs.clients.tsh.multiplex.ready import Ready
from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.verbs.proxy.ssh import DEFAULT_PORTS
from pkgs.common.api.tunnel import UserDial, UserDialReply
from pkgs.common.errors import (
    AccessError,
    AlreadyExistsError,
    InputError,
    NotFoundError,
    UnavailableError,
)
from pkgs.common.net.framing import encode_frame, read_frame
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.output.sanitize import inert
from pkgs.common.runtime.atomicfile import make_private_dir


class Place:
    """The socket on disk: held by one multiplexer at a time, seen by its user only."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        make_private_dir(self._path.parent)
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise AlreadyExistsError(
                f"a multiplexer already runs at {path}", hint="one serves any number of connections"
            ) from None
        self._path.unlink(missing_ok=True)  # of one that died
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self.listener.bind(path)
        finally:
            os.umask(before)
        self.listener.listen(512)
        self.listener.setblocking(False)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self.listener.close()
        os.close(self._lock)


class Multiplexer:
    """`gone` is called when there is no login any more."""

    def __init__(self, find: Callable[[], Login], gone: Callable[[], object]) -> None:
        self._ready = Ready(find)
        self._gone = gone
        self._streams: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Until cancelled; then all streams are cut."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                sock, _ = await loop.sock_accept(listener)
                if len(self._streams) >= MAX_STREAMS or not _is_ours(sock):
                    sock.close()
                    continue
                sock.setblocking(False)
                task = asyncio.ensure_future(self._serve(sock))
                self._streams.add(task)
                task.add_done_callback(self._streams.discard)
        finally:
            for task in tuple(self._streams):
                task.cancel()
            if self._streams:
                await asyncio.wait(self._streams, timeout=END_S)
            await self._ready.close()

    async def _serve(self, sock: socket.socket) -> None:
        client = await adopt(sock)
        try:
            upstream = await self._connect(client)
        except (AccessError, TimeoutError) as problem:
            if isinstance(problem, NotFoundError):
                self._gone()
            await _answer(client, " ".join(inert(str(problem) or "that took too long").split()))
            await client.close()
        else:
            await relay(client, upstream)

    async def _connect(self, client: Stream) -> Stream:
        """The server's stream; the client has been told. Raises NotFoundError when there is no login."""
        async with asyncio.timeout(REQUEST_S):
            request = await _request(client)
        dial = parse_request(request, self._ready.login().cluster)
        upstream = await self._ready.take()
        try:
            try:
                reply = await _ask(upstream, dial)
            except UnavailableError:
                # One that was kept ready may have been lost meanwhile; nothing has happened on it.
                upstream.abort()
                upstream = await self._ready.take(fresh=True)
                reply = await _ask(upstream, dial)
            if reply.error:
                raise UnavailableError(reply.error, hint=reply.hint)
            await _answer(client, "")
        except BaseException:
            upstream.abort()
            raise
        return upstream


async def _request(client: Stream) -> bytes:
    data = b""
    while not data.endswith(b"\0"):
        more = await client.read_some()
        data += more
        # What comes after the request would be SSH's; nobody sends it before the answer.
        if not more or len(data) > MAX_REQUEST or b"\0" in data[:-1]:
            raise InputError("that is no request for a connection")
    return data[:-1]


def parse_request(request: bytes, cluster: str) -> UserDial:
    """`[login@]host[:port]` as `tsh proxy ssh` takes it. Raises InputError."""
    try:
        text = request.decode()
    except UnicodeDecodeError:
        raise InputError("that is no name of a server") from None
    login, _, target = text.rpartition("@")
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit():
        host, port = target, ""
    host = host.removesuffix("." + cluster)
    if not host or not text.isprintable():
        raise InputError("that is no name of a server")
    wanted = host if port in DEFAULT_PORTS else f"{host}:{port}"
    return UserDial(service="ssh", target=wanted, cluster=cluster, login=login)


async def _ask(upstream: Stream, dial: UserDial) -> UserDialReply:
    async with asyncio.timeout(ANSWER_S):
        upstream.write(encode_frame(dial))
        await upstream.drain()
        return await read_frame(upstream, UserDialReply)


async def _answer(client: Stream, text: str) -> None:
    with contextlib.suppress(UnavailableError):  # who has gone needs no answer
        client.write(f"{text}\n".encode())
        await client.drain()


def _is_ours(sock: socket.socket) -> bool:
    """The folder keeps others out; this does where somebody has opened it to them."""
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", found)
    return bool(uid == os.geteuid())

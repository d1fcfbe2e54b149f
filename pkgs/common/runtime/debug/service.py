"""The debug service of a process: HTTP/1.1 on a private unix socket, a read-only part of it on `diag_addr`.

File permissions (0600 in a 0700 folder) and the peer's uid are the access control of the socket. The TCP
listener answers only /healthz, /livez, /readyz and /metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import h11
import msgspec

from pkgs.common.errors import InputError
from pkgs.common.runtime import limits, paths
from pkgs.common.runtime.debug import metrics, profiling, readiness
from pkgs.common.runtime.logging import current_level, parse_level, set_level

_MAX_SOCKET_PATH: Final = 107
_PUBLIC_PATHS: Final = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: str
    content_type: str = _TEXT


class DebugService:
    """Answers questions about this process. `start_*` open listeners, `close` ends them."""

    def __init__(
        self, state: readiness.Readiness, registry: metrics.Metrics, log: logging.Logger, argv: list[str]
    ) -> None:
        self._state = state
        self._metrics = registry
        self._log = log
        self._argv = argv
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._profiling = asyncio.Lock()
        self._links: list[tuple[Path, Path]] = []
        self._routes: dict[tuple[str, str], Callable[[float, bytes], Awaitable[_Answer]]] = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/livez"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._get_metrics,
            ("GET", "/log-level"): self._get_level,
            ("PUT", "/log-level"): self._put_level,
            ("GET", "/debug/pprof/cmdline"): self._cmdline,
            ("GET", "/debug/pprof/profile"): self._profile,
            ("GET", "/debug/pprof/goroutine"): self._goroutine,
            ("GET", "/debug/pprof/heap"): self._heap,
            ("GET", "/debug/pprof/allocs"): self._heap,
            ("GET", "/debug/pprof/threadcreate"): self._threads,
        }

    async def start_unix(self, data_dir: Path, service: str) -> None:
        """Listens on `debug-<service>.sock`, and makes `debug.sock` point there if nobody else has it."""
        path = paths.debug_socket(data_dir, service)
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise InputError(f"teleport.data_dir: {data_dir} is too long for the sockets in it")
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old_umask = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(old_umask)
        sock.setblocking(False)
        self._servers.append(await asyncio.start_unix_server(self._accept_unix, sock=sock))
        self._links.append((path, paths.debug_socket_alone(data_dir)))
        _point_link(paths.debug_socket_alone(data_dir), path)

    async def start_tcp(self, host: str, port: int) -> None:
        """Listens for the read-only part. Raises OSError when the address is not to be had."""
        self._servers.append(await asyncio.start_server(self._accept_tcp, host, port))

    async def close(self) -> None:
        """Stops listening and ends open connections."""
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        for path, link in self._links:
            with contextlib.suppress(OSError):
                if os.readlink(link) == path.name:  # noqa: PTH115 - the text of the link, not what it leads to
                    link.unlink()
            path.unlink(missing_ok=True)

    def _accept_unix(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, uid, _ = struct.unpack("iII", peer)
        if uid not in (0, os.geteuid()):
            writer.close()
            return
        self._spawn(reader, writer, private=True)

    def _accept_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(reader, writer, private=False)

    def _spawn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, private: bool) -> None:
        if len(self._connections) >= limits.DEBUG_MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(
            self._serve(reader, writer, private=private), name="debug-connection"
        )
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, private: bool
    ) -> None:
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.DEBUG_MAX_HEAD)
        try:
            while await self._serve_one(conn, reader, writer, private=private):
                conn.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send(conn, writer, _Answer(error.error_status_hint, "bad request\n"))
        except (OSError, TimeoutError):
            self._log.debug("debug connection broke off")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(
        self,
        conn: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        private: bool,
    ) -> bool:
        """One request and its answer; whether another may follow on this connection."""
        request: h11.Request | None = None
        body = b""
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(limits.DEBUG_IDLE_S):
                    conn.receive_data(await reader.read(limits.DEBUG_MAX_HEAD))
            elif isinstance(event, h11.Request):
                request = event
                if conn.they_are_waiting_for_100_continue:
                    writer.write(conn.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
                if len(body) > limits.DEBUG_MAX_BODY:
                    await self._send(conn, writer, _Answer(422, "Unable to read request body.\n"))
                    return False
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        if request is None:
            return False
        answer = await self._answer(request, body, private=private)
        await self._send(conn, writer, answer)
        return conn.our_state is h11.DONE and conn.their_state is h11.DONE

    async def _send(self, conn: h11.Connection, writer: asyncio.StreamWriter, answer: _Answer) -> None:
        body = answer.body.encode(errors="backslashreplace")
        headers = [("content-type", answer.content_type), ("content-length", str(len(body)))]
        for event in (
            h11.Response(status_code=answer.status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            writer.write(conn.send(event) or b"")
        async with asyncio.timeout(limits.DEBUG_IDLE_S):
            await writer.drain()

    async def _answer(self, request: h11.Request, body: bytes, *, private: bool) -> _Answer:
        url = urlsplit(request.target.decode("ascii", "replace"))
        method = request.method.decode("ascii", "replace")
        route = self._routes.get((method, url.path))
        if route is None or not (private or url.path in _PUBLIC_PATHS):
            return self._not_found(method, url.path, private=private)
        raw = parse_qs(url.query, max_num_fields=8).get("seconds", ["0"])[0]
        if not raw.isascii() or not raw.isdigit() or int(raw) > limits.MAX_PROFILE_S:
            return _Answer(400, f"seconds must be a number from 0 to {limits.MAX_PROFILE_S:g}\n")
        return await route(float(raw), body)

    def _not_found(self, method: str, path: str, *, private: bool) -> _Answer:
        if private and any(known == path for _, known in self._routes):
            return _Answer(405, f"{method} is not offered here\n")
        if private and path.startswith("/debug/pprof/"):
            names = sorted(known.rsplit("/", 1)[1] for _, known in self._routes if "/pprof/" in known)
            return _Answer(404, f"no such profile; there are {', '.join(names)}\n")
        return _Answer(404, "not found\n")

    async def _healthz(self, _seconds: float, _body: bytes) -> _Answer:
        return _Answer(200, '{"status":"ok"}\n', "application/json")

    async def _readyz(self, _seconds: float, _body: bytes) -> _Answer:
        state = self._state.state
        text = msgspec.json.encode({"status": readiness.TEXTS[state], "pid": os.getpid()}).decode()
        return _Answer(readiness.HTTP_STATUS[state], text + "\n", "application/json")

    async def _get_metrics(self, _seconds: float, _body: bytes) -> _Answer:
        return _Answer(200, self._metrics.render(), metrics.CONTENT_TYPE)

    async def _get_level(self, _seconds: float, _body: bytes) -> _Answer:
        return _Answer(200, current_level())

    async def _put_level(self, _seconds: float, body: bytes) -> _Answer:
        level = parse_level(body.decode("ascii", "replace"))
        if level is None:
            return _Answer(422, "Invalid log level.")
        before = current_level()
        if level == before:
            return _Answer(200, f'Log level already set to "{level}".')
        set_level(level)
        self._log.info("log level changed", extra={"before": before, "now": level})
        return _Answer(200, f'Changed log level from "{before}" to "{level}".')

    async def _cmdline(self, _seconds: float, _body: bytes) -> _Answer:
        return _Answer(200, profiling.command_line(self._argv))

    async def _profile(self, seconds: float, _body: bytes) -> _Answer:
        if self._profiling.locked():
            return _Answer(429, "another profile is being taken\n")
        async with self._profiling:
            text = await asyncio.to_thread(profiling.sample_cpu, seconds or limits.DEFAULT_PROFILE_S)
        return _Answer(200, text)

    async def _goroutine(self, _seconds: float, _body: bytes) -> _Answer:
        return _Answer(200, profiling.stacks(asyncio.get_running_loop()))

    async def _heap(self, seconds: float, _body: bytes) -> _Answer:
        return _Answer(200, await profiling.heap(seconds))

    async def _threads(self, _seconds: float, _body: bytes) -> _Answer:
        return _Answer(200, profiling.threads())


def own_command_line() -> list[str]:
    """How this process was started."""
    return list(sys.orig_argv)


def _point_link(link: Path, target: Path) -> None:
    """Makes `link` lead to `target` unless it leads to a socket that exists."""
    if link.is_symlink() and not link.exists():
        link.unlink(missing_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(target.name)

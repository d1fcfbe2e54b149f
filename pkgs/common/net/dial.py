"""Dialling out, with a deadline, over whichever address of a name answers first (RFC 8305)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TypeVar

from pkgs.common.errors import AccessError, ProtocolError, TrustError, UnavailableError
from pkgs.common.net import limits
from pkgs.common.net.handshake import start_tls
from pkgs.common.net.sockets import split_host_port, tune
from pkgs.common.net.stream import Stream

P = TypeVar("P", bound=asyncio.BaseProtocol)
Resolved = tuple[int, tuple[str, int] | tuple[str, int, int, int]]

__all__ = [
    "Resolved",
    "dial_resolved",
    "dial_tcp",
    "dial_tls",
    "dial_transport",
    "resolve",
    "split_host_port",
]


async def resolve(host: str, port: int, *, deadline_s: float = limits.DIAL_S) -> list[Resolved]:
    """Addresses of a name, families taking turns. Raises UnavailableError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline_s):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except TimeoutError as exc:
        raise UnavailableError(f"{host} does not resolve to an address in time") from exc
    except (OSError, UnicodeError) as exc:
        raise UnavailableError(f"{host or 'the empty name'} does not resolve to an address") from exc
    by_family: dict[int, list[Resolved]] = {}
    for family, _, _, _, address in found:
        by_family.setdefault(int(family), []).append((int(family), address))  # type: ignore[arg-type]
    lists = list(by_family.values())
    turns = max((len(one) for one in lists), default=0)
    return [one[turn] for turn in range(turns) for one in lists if turn < len(one)]


async def _connect(resolved: Resolved) -> socket.socket:
    family, address = resolved
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        tune(sock)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_loser(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def dial_resolved(
    addresses: Sequence[Resolved], name: str, *, deadline_s: float = limits.DIAL_S
) -> socket.socket:
    """A connected socket to the first of these addresses that answers."""
    attempts: set[asyncio.Task[socket.socket]] = set()
    failures: list[str] = []
    waiting = list(addresses)
    winner: socket.socket | None = None
    try:
        async with asyncio.timeout(deadline_s):
            while winner is None and (waiting or attempts):
                if waiting:
                    attempts.add(asyncio.create_task(_connect(waiting.pop(0))))
                done, attempts = await asyncio.wait(
                    attempts,
                    timeout=limits.HAPPY_EYEBALLS_S if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    error = task.exception()
                    if error is not None:
                        failures.append(str(error))
                    elif winner is None:
                        winner = task.result()
                    else:
                        task.result().close()
    except TimeoutError:
        failures.append("no answer in time")
    finally:
        # Without waiting for them: who is cancelled here must not lose the winner's socket.
        for task in attempts:
            task.add_done_callback(_close_loser)
            task.cancel()
    if winner is None:
        why = failures[-1] if failures else "no address"
        raise UnavailableError(f"cannot connect to {name}", detail=why)
    return winner


async def dial_tcp(addr: str, *, deadline_s: float = limits.DIAL_S) -> socket.socket:
    """A connected, non-blocking TCP socket to `host:port`. Raises UnavailableError."""
    host, port = split_host_port(addr)
    try:
        async with asyncio.timeout(deadline_s):
            addresses = await resolve(host, port, deadline_s=deadline_s)
            return await dial_resolved(addresses, addr, deadline_s=deadline_s)
    except TimeoutError as exc:
        raise UnavailableError(f"cannot connect to {addr}", detail="no answer in time") from exc


async def dial_tls(
    addr: str, context: ssl.SSLContext, *, server_hostname: str, deadline_s: float = limits.DIAL_S
) -> Stream:
    """A TLS stream to `host:port`. Raises UnavailableError, or TrustError when it is the wrong server."""
    try:
        async with asyncio.timeout(deadline_s):
            sock = await dial_tcp(addr, deadline_s=deadline_s)
            return await start_tls(sock, context, server_hostname=server_hostname, deadline_s=deadline_s)
    except TimeoutError as exc:
        raise UnavailableError(f"cannot connect to {addr}", detail="no answer in time") from exc


async def dial_transport(
    addr: str,
    context: ssl.SSLContext | None,
    protocol_factory: Callable[[], P],
    *,
    server_hostname: str = "",
    deadline_s: float = limits.DIAL_S,
) -> tuple[asyncio.BaseTransport, P]:
    """The same as a transport and protocol pair of the event loop. Bytes may reach the protocol before
    this returns."""
    loop = asyncio.get_running_loop()
    protocol = protocol_factory()
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(deadline_s):
            sock = await dial_tcp(addr, deadline_s=deadline_s)
            transport, _ = await loop.create_connection(
                lambda: protocol,
                sock=sock,
                ssl=context,
                server_hostname=server_hostname if context is not None else None,
            )
    except BaseException as exc:
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()
        raise _as_access_error(addr, exc) from exc
    return transport, protocol


def _as_access_error(addr: str, exc: BaseException) -> BaseException:
    match exc:
        case AccessError():
            return exc
        case ssl.SSLCertVerificationError():
            return TrustError(f"the certificate of {addr} is not to be trusted: {exc.verify_message}")
        case ssl.SSLError():
            return ProtocolError("the TLS handshake failed", detail=str(exc))
        case TimeoutError() | OSError():
            return UnavailableError(f"cannot connect to {addr}", detail=str(exc))
        case _:
            return exc

"""One byte stream over a non-blocking socket, raw or TLS, that the event loop drives by descriptor.

Pull side: `read_exactly`, `read_some` take bytes when the caller wants them; nothing is read ahead of
that but what one read of the kernel brought. Push side: `relay` uses the non-blocking primitives
(`fill`, `push`) directly. TLS runs in memory buffers: measured, half the CPU per byte of the event
loop's own TLS transport (docs/adr/0040). A stream has one reader and one writer at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable

from pkgs.common.errors import ProtocolError, TrustError, UnavailableError
from pkgs.common.net import limits
from pkgs.common.net.scratch import scratch_of
from pkgs.common.net.sockets import peer_of, tune
from pkgs.common.net.tls import peer_der

_WOULD_BLOCK = (BlockingIOError, InterruptedError)


class PeerGoneError(UnavailableError):
    """The other side has ended the connection, or broken it."""


class Stream:
    """Made by `adopt`, or by the functions of `handshake`; owns its socket."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLObject | None = None) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = asyncio.get_running_loop()
        self._scratch = scratch_of(self._loop)
        self._tls = tls
        self._decryptor = self._encryptor = tls
        """None: that direction is raw."""
        self._undecrypted = True
        self._inbound = ssl.MemoryBIO()
        self._outbound = ssl.MemoryBIO()
        self._early = bytearray()
        self._unsent: memoryview | None = None
        self._read_closed = False
        self._write_closed = False
        self._closed = False
        self._over: asyncio.Event | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self.peer_ip, self.peer_port = peer_of(sock)

    # --- what is known about the other end

    @property
    def peer_der(self) -> bytes | None:
        """Certificate of the peer as sent; None for a raw stream or a peer without one."""
        return peer_der(self._tls)

    @property
    def alpn(self) -> str:
        """Protocol agreed on, empty for none."""
        return (self._tls.selected_alpn_protocol() or "") if self._tls is not None else ""

    @property
    def closed(self) -> bool:
        return self._closed

    def fileno(self) -> int:
        return self._fd

    # --- TLS set-up

    async def handshake(self, context: ssl.SSLContext, *, server: bool, server_hostname: str = "") -> None:
        """Run the TLS handshake on a raw stream, without a deadline. Raises TrustError, ProtocolError,
        UnavailableError."""
        self._inbound, self._outbound = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._inbound.write(self._early)
        self._early.clear()
        self._tls = context.wrap_bio(
            self._inbound, self._outbound, server_side=server, server_hostname=server_hostname or None
        )
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.drain()
                await self._receive_handshake()
            except ssl.SSLCertVerificationError as exc:
                await self._send_alert()
                raise TrustError(
                    f"the certificate of the other side is not to be trusted: {exc.verify_message}"
                ) from exc
            except ssl.SSLError as exc:
                await self._send_alert()
                raise ProtocolError("the TLS handshake failed", detail=str(exc)) from exc
            else:
                await self.drain()
                self._decryptor = self._encryptor = self._tls
                self._undecrypted = True
                return

    async def _receive_handshake(self) -> None:
        while True:
            try:
                got = self._sock.recv(limits.TLS_RECORD)
            except _WOULD_BLOCK:
                await self._readable()
                continue
            except OSError as exc:
                raise PeerGoneError("the connection was lost", detail=str(exc)) from exc
            if not got:
                raise PeerGoneError("the other side closed the connection during the TLS handshake")
            self._inbound.write(got)
            return

    def shed_writing(self) -> None:
        """End TLS in our direction: what is written from now on goes out as it is, and the peer, having done
        `shed_reading`, takes it so. Raises UnavailableError."""
        assert self._encryptor is not None
        with contextlib.suppress(ssl.SSLError):
            # Only sends our close_notify: the peer's own comes when it sheds its direction.
            self._encryptor.unwrap()
        self._encryptor = None
        try:
            self._collect()
            self.flush()
        except OSError as exc:
            raise UnavailableError("the connection was lost", detail=str(exc)) from exc

    async def shed_reading(self) -> None:
        """End TLS in the peer's direction, where it did `shed_writing`. Without a deadline. Raises
        ProtocolError when it says something else before that, UnavailableError."""
        while not self._read_closed or self._early:
            if self._fill_or_raise(self._scratch.plain) > 0:
                raise ProtocolError("the other side goes on in TLS where it should end it")
            if not self._read_closed:
                await self._readable()
        self._early += self._inbound.read()
        self._decryptor = None
        # After a cut without close_notify the socket says again that it is at its end.
        self._read_closed = False

    async def _send_alert(self) -> None:
        """Let the peer read why, as far as it takes the bytes at once."""
        with contextlib.suppress(OSError):
            self._collect()
            self.flush()

    # --- non-blocking primitives

    def fill(self, into: memoryview) -> int:
        """Bytes of the peer put into `into` (a `Scratch.plain`): a count, 0 at the end, -1 if none are
        there now. Raises OSError when the connection broke."""
        if self._early:
            count = min(len(self._early), len(into))
            into[:count] = self._early[:count]
            del self._early[:count]
            return count
        if self._read_closed:
            return 0
        if self._decryptor is None:
            try:
                count = self._sock.recv_into(into[: limits.READ_CHUNK])
            except _WOULD_BLOCK:
                return -1
            self._read_closed = count == 0
            return count
        if self._undecrypted:
            # What the handshake or an earlier read left comes first.
            count = self._decrypt(into)
            if count != -1:
                return count
        wire = self._scratch.wire
        try:
            received = self._sock.recv_into(wire)
        except _WOULD_BLOCK:
            return -1
        if received:
            self._inbound.write(wire[:received])
        else:
            self._inbound.write_eof()
        return self._decrypt(into)

    def _decrypt(self, into: memoryview) -> int:
        """All that can be decrypted now, straight into `into`."""
        tls = self._decryptor
        assert tls is not None
        read = tls.read
        count = 0
        self._undecrypted = True
        try:
            while len(into) - count >= limits.TLS_RECORD:
                got = read(limits.TLS_RECORD, into[count:])
                if not got:
                    self._read_closed = True
                    break
                count += got  # type: ignore[operator]
                if not self._inbound.pending and not self._inbound.eof and not tls.pending():
                    # The usual end; to be told of it by an exception costs more than a small record.
                    self._undecrypted = False
                    break
        except ssl.SSLWantReadError:
            self._undecrypted = False
            if not count:
                count = -1
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # A cut without close_notify ends the stream as well: what is relayed carries its own integrity.
            self._read_closed = True
        except ssl.SSLError as exc:
            raise OSError(errno.EPROTO, f"TLS: {exc.reason}") from exc
        if self._outbound.pending:
            # An answer to a key update; it goes out now or with the next write.
            self._collect()
            self.flush()
        return count

    def push(self, data: memoryview | bytes) -> bool:
        """Send, or keep what the kernel does not take. True when nothing is left unsent."""
        if self._encryptor is not None:
            if len(data):
                self._encryptor.write(data)
            data = self._outbound.read()
        if self._unsent is not None:
            self._keep(bytes(data))
            return self.flush()
        try:
            sent = self._sock.send(data)
        except _WOULD_BLOCK:
            sent = 0
        if sent == len(data):
            return True
        self._unsent = memoryview(bytes(data[sent:]))
        return False

    def _collect(self) -> None:
        if self._outbound.pending:
            self._keep(self._outbound.read())

    def _keep(self, data: bytes) -> None:
        self._unsent = memoryview(data if self._unsent is None else bytes(self._unsent) + data)

    def flush(self) -> bool:
        """Send what is unsent. True when nothing is left. Raises OSError when the connection broke."""
        while self._unsent is not None:
            try:
                sent = self._sock.send(self._unsent)
            except _WOULD_BLOCK:
                return False
            self._unsent = self._unsent[sent:] if sent < len(self._unsent) else None
        return True

    @property
    def holds_more(self) -> bool:
        """Whether there may be bytes, or the end, that no readiness of the socket will announce."""
        return bool(self._early) or (self._decryptor is not None and (self._undecrypted or self._read_closed))

    @property
    def unsent(self) -> int:
        return 0 if self._unsent is None else len(self._unsent)

    def end_writing(self) -> None:
        """Tell the peer that no more bytes come; call when nothing is unsent."""
        if self._write_closed:
            return
        self._write_closed = True
        if self._encryptor is not None:
            with contextlib.suppress(OSError):
                self._read_ahead()
            # Only sends our close_notify: the peer's own comes when it is done.
            with contextlib.suppress(ssl.SSLError):
                self._encryptor.unwrap()
            self._collect()
            with contextlib.suppress(OSError):
                self.flush()
        if self._unsent is None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def _read_ahead(self) -> None:
        """Decrypt what is here already: OpenSSL loses what is unread when we end our direction."""
        into = memoryview(bytearray(2 * limits.TLS_RECORD))
        while self._decryptor is not None and not self._read_closed and (count := self._decrypt(into)) > 0:
            self._early += into[:count]

    # --- waiting

    async def _readable(self) -> None:
        self._reader = self._loop.create_future()
        self._loop.add_reader(self._fd, _wake, self._reader)
        try:
            await self._reader
        finally:
            self._reader = None
            self._loop.remove_reader(self._fd)

    async def _writable(self) -> None:
        self._writer = self._loop.create_future()
        self._loop.add_writer(self._fd, _wake, self._writer)
        try:
            await self._writer
        finally:
            self._writer = None
            self._loop.remove_writer(self._fd)

    # --- the pull side

    async def read_some(self) -> bytes:
        """The next bytes, or b"" when the peer has ended. Raises UnavailableError when it broke."""
        while True:
            count = self._fill_or_raise(self._scratch.plain)
            if count >= 0:
                return bytes(self._scratch.plain[:count])
            await self._readable()

    async def read_exactly(self, count: int) -> bytes:
        """Exactly so many bytes; the rest stays for the next reader. Raises UnavailableError at the end."""
        result = await self.peek(count)
        del self._early[:count]
        return result

    async def peek(self, count: int) -> bytes:
        """The same, but they stay too."""
        if count > limits.EARLY_MAX:
            raise ValueError("more than a stream keeps")
        while len(self._early) < count:
            early, self._early = self._early, bytearray()
            try:
                got = self._fill_or_raise(self._scratch.plain)
            finally:
                self._early = early
            if got == 0:
                raise PeerGoneError("the other side closed the connection")
            if got < 0:
                await self._readable()
            else:
                self._early += self._scratch.plain[:got]
        return bytes(self._early[:count])

    def _fill_or_raise(self, view: memoryview) -> int:
        if self._closed:
            raise UnavailableError("the connection is closed")
        try:
            return self.fill(view)
        except OSError as exc:
            raise PeerGoneError("the connection was lost", detail=str(exc)) from exc

    def watch_idle(self, disturbed: Callable[[], None] | None) -> None:
        """Until called with None: tell when the idle peer has ended, broken or said something unasked."""
        if self._closed:
            return
        if disturbed is None:
            self._loop.remove_reader(self._fd)
        else:
            self._loop.add_reader(self._fd, self._notice, disturbed)

    def _notice(self, disturbed: Callable[[], None]) -> None:
        if self.peek_closed():
            self._loop.remove_reader(self._fd)
            disturbed()

    def peek_closed(self) -> bool:
        """Whether an idle stream has ended or was sent something nobody asked for."""
        if self._closed or self._early:
            return True
        try:
            return self.fill(self._scratch.plain) != -1
        except OSError:
            return True

    # --- the writing side

    def write(self, data: bytes) -> None:
        """Queue bytes; `drain` waits until the kernel has them."""
        if self._closed or self._write_closed:
            raise UnavailableError("the connection is closed")
        if self.unsent > limits.WRITE_MAX:
            raise UnavailableError("the other side does not read")
        try:
            self.push(data)
        except (OSError, ssl.SSLError) as exc:
            raise PeerGoneError("the connection was lost", detail=str(exc)) from exc

    async def drain(self) -> None:
        try:
            self._collect()
            while not self.flush():
                await self._writable()
        except OSError as exc:
            raise PeerGoneError("the connection was lost", detail=str(exc)) from exc

    def write_eof(self) -> None:
        """End our direction; the peer's goes on. Drain first."""
        self.end_writing()

    async def close(self) -> None:
        """Send what is unsent and the TLS close, briefly, then close the socket."""
        if self._closed:
            return
        try:
            async with asyncio.timeout(limits.CLOSE_S):
                await self.drain()
                self.end_writing()
                await self.drain()
        except (TimeoutError, UnavailableError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the socket now. Anybody who waits on this stream gets an UnavailableError."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        for waiting in (self._reader, self._writer):
            if waiting is not None and not waiting.done():
                waiting.set_exception(UnavailableError("the connection is closed"))
        self._sock.close()
        if self._over is not None:
            self._over.set()

    async def wait_closed(self) -> None:
        """Returns when this stream has been closed on our side."""
        if self._closed:
            return
        if self._over is None:
            self._over = asyncio.Event()
        await self._over.wait()


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def adopt(sock: socket.socket) -> Stream:
    """A raw stream over a connected socket: TCP, unix, or one end of a socketpair."""
    tune(sock)
    return Stream(sock)

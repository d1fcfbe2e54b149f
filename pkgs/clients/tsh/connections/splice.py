"""A TLS connection and a pair of descriptors, spliced: what `tsh proxy ssh` does for its whole life.

TLS runs in memory buffers, so that one read of the kernel brings many records and either direction can
end while the other goes on. One thread, one poll; a side that does not read stops the other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import ssl

from pkgs.common.errors import ProtocolError, TrustError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from collections.abc import Iterator

CHUNK = 256 * 1024
RECORD = 16 * 1024
PIPE_BYTES = 1024 * 1024
"""A larger pipe lets each side move more bytes before it waits for the other."""
FRAME_MAX = 16 * 1024


class TlsStream:
    """A client's TLS connection. Blocking until `splice`, which owns it from then on."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_hostname: str) -> None:
        self._sock = sock
        self._inbound = ssl.MemoryBIO()
        self._outbound = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._inbound, self._outbound, server_hostname=server_hostname)
        self._wire = memoryview(bytearray(CHUNK))
        self._plain = memoryview(bytearray(CHUNK + 2 * RECORD))
        self._to_net = memoryview(b"")
        self._skip = b""
        self._ended = False

    def handshake(self) -> None:
        """TrustError when the server is not who it should be."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_all()
                self._receive()
            except ssl.SSLCertVerificationError as error:
                raise TrustError(
                    f"the proxy's certificate is not of this cluster: {error.verify_message}",
                    hint="log in again if the cluster was rebuilt; else somebody is in between",
                ) from error
            except ssl.SSLError as error:
                raise ProtocolError("the TLS handshake with the proxy failed", detail=str(error)) from error
            else:
                self._send_all()
                return

    def write_frame(self, payload: bytes) -> None:
        """One frame of the tunnel protocol: two bytes of length, then the message."""
        self.write(len(payload).to_bytes(2, "big") + payload)

    def read_frame(self) -> bytes:
        """The next frame's message; nothing after it is consumed."""
        size = int.from_bytes(self.exactly(2), "big")
        if not 0 < size <= FRAME_MAX:
            raise ProtocolError("the proxy's answer is too long")
        return self.exactly(size)

    def write(self, data: bytes) -> None:
        """Send some bytes, all of them. UnavailableError when the connection is lost."""
        self._encrypt(data)
        self._send_all()

    def exactly(self, count: int) -> bytes:
        """So many bytes, and nothing after them. UnavailableError when the peer ends before."""
        data = b""
        while len(data) < count:
            try:
                more = self._tls.read(count - len(data))
            except ssl.SSLWantReadError:
                self._receive()
                continue
            except ssl.SSLError as error:
                raise UnavailableError("the proxy closed the connection", detail=str(error)) from error
            if not more:
                raise UnavailableError("the proxy closed the connection")
            data += more
        return data

    def _receive(self) -> None:
        try:
            count = self._sock.recv_into(self._wire)
        except OSError as error:
            raise UnavailableError("the connection to the proxy was lost", detail=str(error)) from error
        if not count:
            raise UnavailableError("the proxy closed the connection")
        self._inbound.write(self._wire[:count])

    def _send_all(self) -> None:
        if self._outbound.pending:
            try:
                self._sock.sendall(self._outbound.read())
            except OSError as error:
                raise UnavailableError("the connection to the proxy was lost", detail=str(error)) from error

    # --- the splice

    def splice(self, source: int, sink: int, *, heard: bytes = b"", said: bytes = b"") -> bool:
        """Copy `source` to the peer and the peer to `sink` until both directions have ended, or until
        nobody reads `sink` any more. `sink` is closed when the peer has said all. False when the peer ended
        first and had said nothing. `heard` was read from the peer already; `said` was sent to it already, and
        is what `source` begins with."""
        self._skip = said
        with nonblocking(source, sink), self:
            try:
                return self._copy(source, sink, heard)
            except BrokenPipeError:
                return True

    def __enter__(self) -> TlsStream:
        """From here on nothing blocks."""
        self._sock.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def lose_after(self, silent_s: int) -> None:
        """Take the connection for lost when the network acknowledges nothing for so long."""
        for option, value in (
            (socket.TCP_USER_TIMEOUT, 1000 * silent_s),
            (socket.TCP_KEEPIDLE, silent_s),
            (socket.TCP_KEEPINTVL, max(1, silent_s // 3)),
        ):
            self._sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def ended(self) -> bool:
        """Whether the peer sends no more."""
        return self._ended

    @property
    def blocked(self) -> bool:
        """Whether bytes wait for the network."""
        return bool(self._to_net)

    def send(self, data: bytes) -> None:
        """Send, or keep for `flush`. UnavailableError when the connection is lost."""
        self._encrypt(data)
        self._queue()

    def _encrypt(self, data: bytes) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            # The peer's end was read before.
            raise UnavailableError("the proxy closed the connection", detail=str(error)) from error

    def _copy(self, source: int, sink: int, early: bytes) -> bool:
        net = self._sock.fileno()
        to_sink = memoryview(early) if early else self.decrypt()
        heard = False
        reading, writing = True, True
        while True:
            heard = heard or bool(to_sink)
            if self._ended and not to_sink and writing:
                if not heard and reading:
                    return False
                writing = False
                os.close(sink)
            if not writing and not reading and not self._to_net:
                return True
            poller = select.poll()
            events = select.POLLOUT if self._to_net else 0
            if not self._ended and not to_sink:
                events |= select.POLLIN
            if events or self._ended:
                # Without events only for the news that the connection is gone.
                poller.register(net, events)
            if reading and not self._to_net:
                poller.register(source, select.POLLIN)
            if to_sink:
                poller.register(sink, select.POLLOUT)
            ready = dict(poller.poll())
            if sink in ready and to_sink:
                to_sink = to_sink[write_some(sink, to_sink) :]
            if net in ready:
                if self._ended and ready[net] & (select.POLLHUP | select.POLLERR):
                    return True
                if self._to_net:
                    self.flush()
                if not to_sink and not self._ended:
                    to_sink = self.fill()
            if source in ready and reading and not self._to_net:
                reading = self._take(source)
                if not reading:
                    to_sink = self._end(to_sink)

    def _take(self, source: int) -> bool:
        try:
            data = os.read(source, CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if data:
            self._send_new(data)
            return True
        return False

    def _end(self, unwritten: memoryview) -> memoryview:
        """End our direction. What the peer said is read before, and returned behind what is not written yet:
        OpenSSL loses what is unread at that moment."""
        everything = memoryview(bytes(unwritten) + bytes(self.decrypt()))
        with contextlib.suppress(ssl.SSLWantReadError):
            # Writes our close_notify; the peer's own comes when it is done.
            self._tls.unwrap()
        self._queue()
        return everything

    def _send_new(self, data: bytes) -> None:
        if self._skip:
            size = min(len(data), len(self._skip))
            if data[:size] != self._skip[:size]:
                raise ProtocolError("standard input does not speak SSH 2")
            self._skip, data = self._skip[size:], data[size:]
        if data:
            self.send(data)

    def _queue(self) -> None:
        self._to_net = memoryview(bytes(self._to_net) + self._outbound.read())
        self.flush()

    def flush(self) -> None:
        """Send what the network takes now."""
        try:
            while self._to_net:
                self._to_net = self._to_net[self._sock.send(self._to_net) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise UnavailableError("the connection to the proxy was lost", detail=str(error)) from error

    def fill(self) -> memoryview:
        """What the peer has sent; valid until the next call. UnavailableError when the connection is lost."""
        try:
            count = self._sock.recv_into(self._wire)
        except BlockingIOError:
            return memoryview(b"")
        except OSError as error:
            raise UnavailableError("the connection to the proxy was lost", detail=str(error)) from error
        if count:
            self._inbound.write(self._wire[:count])
        else:
            self._inbound.write_eof()
        return self.decrypt()

    def decrypt(self) -> memoryview:
        """Everything that can be decrypted now. SSH carries its own integrity, so an end without
        close_notify is an end like any other."""
        count, plain, read = 0, self._plain, self._tls.read
        try:
            while len(plain) - count >= RECORD:
                got = read(RECORD, plain[count:])
                if not got:
                    self._ended = True
                    break
                count += got  # type: ignore[operator]
                if not self._inbound.pending and not self._tls.pending():
                    # The usual end; to be told of it by an exception costs more than a small record.
                    break
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        except ssl.SSLError as error:
            raise ProtocolError("the TLS connection to the proxy broke", detail=str(error)) from error
        if self._outbound.pending:
            self._queue()
        return plain[:count]


@contextlib.contextmanager
def nonblocking(*descriptors: int) -> Iterator[None]:
    """Larger pipes that block nobody, until the end of the block: a terminal or pipe may be shared with other
    programs."""
    before = [(descriptor, os.get_blocking(descriptor)) for descriptor in descriptors]
    try:
        for descriptor, _ in before:
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                # Refused for what is no pipe, and beyond what the user's limit allows.
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        yield
    finally:
        for descriptor, blocking in before:
            try:
                os.set_blocking(descriptor, blocking)
            except OSError:
                continue


def write_some(sink: int, data: memoryview) -> int:
    """How many bytes a descriptor took. BrokenPipeError when nobody reads it."""
    try:
        return os.write(sink, data)
    except BlockingIOError:
        return 0


def say(text: str, sink: int = 2) -> None:
    """A message on a descriptor that may be non-blocking. What nobody takes now is not said: connections must
    not stop for it."""
    with contextlib.suppress(OSError):
        os.write(sink, text.encode(errors="backslashreplace"))

"""One end of a resumable stream, without I/O. It does not know whether it is a client's or a server's.

    attached --lost()--> detached --attach()--> greeting --(the peer's numbers)--> attached

Every change of state is in this file. Bytes of ours move from `put` to a queue, from there by `pull` to the
connection, and stay until the peer says that it has them; `attach` puts back what did not arrive. Positions
count from the beginning of the stream: sent, received, and passed on ("consumed") by either side. An end is
said by each side for itself; the stream is over when both have said it.
"""

from __future__ import annotations

from collections import deque

from pkgs.common.errors import ProtocolError
from pkgs.common.net.resume.limits import ACK_STEP, CHUNK, EMPTY_MAX, SEND_MAX, WINDOW
from pkgs.common.net.resume.wire import CLOSE, CLOSE_VALUE, NumberReader, encode_number

_RECEIVED, _LEFT, _GAIN, _LENGTH = range(4)
"""Which number the peer sends next."""


class Resumable:
    """This end of a stream, on its first connection. Whatever raises ProtocolError is over."""

    def __init__(self) -> None:
        # Ours.
        self._unsent: deque[bytes] = deque()
        self._unacked: deque[bytes] = deque()
        self._base = 0
        """Where the first byte that we still keep stands."""
        self._put = 0
        self._out = 0
        """How far we got on this connection."""
        self._pulled = 0
        """How far on any: no honest peer has received more."""
        self._peer_consumed = 0
        self._ending = False
        self._close_sent = False
        # The peer's.
        self._received = 0
        self._consumed = 0
        self._reported = 0
        self._peer_closed = False
        # The connection's.
        self._number = NumberReader()
        self._next = _GAIN
        self._gain = 0
        self._left = 0
        self._peer_received = 0
        self._empty = 0
        self._to_greet = False
        self._greeted = True

    @property
    def room(self) -> int:
        """How many bytes `put` takes now."""
        window = self._peer_consumed + WINDOW - self._put
        return 0 if self._ending else max(0, min(window, SEND_MAX - self.held))

    @property
    def held(self) -> int:
        """Bytes of ours that are kept."""
        return self._put - self._base

    @property
    def peer_closed(self) -> bool:
        """Whether the peer has said all."""
        return self._peer_closed

    @property
    def over(self) -> bool:
        """Whether both sides have said all, and the peer was told."""
        return self._peer_closed and self._close_sent

    def put(self, data: bytes) -> None:
        """More bytes for the peer: at most `room`."""
        if len(data) > self.room:
            raise ValueError("more than there is room for")
        for at in range(0, len(data), CHUNK):
            self._unsent.append(data[at : at + CHUNK])
        self._put += len(data)

    def end(self) -> None:
        """No more bytes will be put."""
        self._ending = True

    def consumed(self, count: int) -> None:
        """So many of the received bytes have been passed on: the peer may forget them, and send more."""
        self._consumed += count

    # The connection.

    def lost(self) -> None:
        """The connection is gone, with whatever was on its way."""
        self._greeted = self._to_greet = False

    def attach(self) -> None:
        """Another connection has taken its place."""
        self._number.reset()
        self._next = _RECEIVED
        self._left = 0
        self._to_greet, self._greeted = True, False
        self._close_sent = False

    def pull(self) -> bytes:
        """What goes to the peer next; empty when there is nothing to say."""
        if self._to_greet:
            self._to_greet = False
            self._reported = self._consumed
            return encode_number(self._received) + encode_number(WINDOW - self._received + self._consumed)
        if not self._greeted:
            return b""
        if self._unsent:
            chunk = self._unsent.popleft()
            self._unacked.append(chunk)
            self._out += len(chunk)
            self._pulled = max(self._pulled, self._out)
            return self._gained() + encode_number(len(chunk)) + chunk
        if self._ending and not self._close_sent:
            self._close_sent = True
            return CLOSE
        if self._consumed - self._reported >= ACK_STEP:
            return self._gained() + b"\x00"
        return b""

    def _gained(self) -> bytes:
        gained, self._reported = self._consumed - self._reported, self._consumed
        return encode_number(gained)

    def receive(self, data: memoryview) -> memoryview:
        """The peer's bytes in these of the connection; may be a part of `data`. Raises ProtocolError."""
        pieces = []
        at, size = 0, len(data)
        while at < size:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._received += len(piece)
            else:
                number = self._number.take(data[at])
                at += 1
                if number is not None:
                    self._understand(number)
        # As one, of however many frames: what comes next would cost as much for a byte as for a chunk.
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def _understand(self, number: int) -> None:
        if self._next == _GAIN:
            if number == CLOSE_VALUE:
                self._peer_closed = True
                self._count_empty()
                return
            self._gain = number
            self._has_consumed(self._peer_consumed + number, self._out)
            self._next = _LENGTH
        elif self._next == _LENGTH:
            self._begin_payload(number)
            self._next = _GAIN
        elif self._next == _RECEIVED:
            if not self._base <= number <= self._pulled:
                raise ProtocolError("the peer has received what was never sent, or lost what it had")
            self._peer_received = number
            self._next = _LEFT
        else:
            self._has_consumed(self._peer_received + number - WINDOW, self._peer_received)
            self._rewind(self._peer_received)
            self._next = _GAIN
            self._greeted = True

    def _begin_payload(self, size: int) -> None:
        if size > self._reported + WINDOW - self._received:
            raise ProtocolError("the peer sends more than it may")
        if size and self._peer_closed:
            raise ProtocolError("bytes after the end")
        if size or self._gain:
            self._empty = 0
        else:
            self._count_empty()
        self._left = size

    def _count_empty(self) -> None:
        self._empty += 1
        if self._empty > EMPTY_MAX:
            raise ProtocolError("the peer sends frames of nothing")

    def _has_consumed(self, position: int, most: int) -> None:
        if not self._peer_consumed <= position <= most:
            raise ProtocolError("the peer's window is none that it can have")
        self._peer_consumed = position
        while self._unacked and self._base + len(self._unacked[0]) <= position:
            self._base += len(self._unacked.popleft())

    def _rewind(self, position: int) -> None:
        """What the peer has not received is sent again, and what it has is forgotten."""
        while self._unacked:
            self._unsent.appendleft(self._unacked.pop())
        while self._base < position:
            chunk = self._unsent.popleft()
            arrived = position - self._base
            if len(chunk) > arrived:
                self._unsent.appendleft(chunk[arrived:])
            self._base += min(len(chunk), arrived)
        self._out = position

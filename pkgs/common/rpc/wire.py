"""The ZMTP 3 codec, sans-IO: bytes in, messages out, no sockets.

Both clients and both sides of the guard use it. Only the NULL mechanism, only DEALER and ROUTER, no peer
identities: what libzmq would accept beyond that, this refuses (attacks A41, A43). Sizes are checked when
they are announced, so that nothing is buffered for a frame that will be refused.

    GREETING --64 bytes--> HANDSHAKE --READY--> TRAFFIC        any violation --> FAILED (for good)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum, auto

import msgspec

from pkgs.common.errors import ProtocolError
from pkgs.common.rpc.limits import WireLimits

MORE = 1
LONG = 2
COMMAND = 4

GREETING_BYTES = 64
_SIGNATURE = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f"
_MECHANISM = b"NULL".ljust(20, b"\0")
_VERSION_AT = 10
_MECHANISM_AT = 12
_AS_SERVER_AT = 32
_LONG_HEAD = struct.Struct(">BQ")
_SIZE = struct.Struct(">Q")
_PROPERTY_SIZE = struct.Struct(">I")
_PING_TTL = struct.Struct(">H")
MAX_PING_CONTEXT = 16
_MAX_REASON = 255

GREETING = _SIGNATURE + b"\x03\x01" + _MECHANISM + b"\0" * (GREETING_BYTES - _AS_SERVER_AT)


class Ready(msgspec.Struct, frozen=True):
    """The handshake is done; the peer's socket type."""

    socket_type: str


class Ping(msgspec.Struct, frozen=True):
    """Wants a pong with the same context."""

    context: bytes


class Pong(msgspec.Struct, frozen=True):
    context: bytes


class Refused(msgspec.Struct, frozen=True):
    """The server does not let us in, and says why."""

    reason: str


Message = list[bytes]
Event = Message | Ready | Ping | Pong | Refused


def encode_message(parts: Sequence[bytes]) -> bytes:
    """The frames of one message."""
    out: list[bytes] = []
    last = len(parts) - 1
    for at, part in enumerate(parts):
        more = MORE if at < last else 0
        size = len(part)
        out.append(bytes((more, size)) if size < 256 else _LONG_HEAD.pack(more | LONG, size))
        out.append(part)
    return b"".join(out)


def encode_command(name: bytes, data: bytes) -> bytes:
    body = bytes((len(name),)) + name + data
    if len(body) < 256:
        return bytes((COMMAND, len(body))) + body
    return _LONG_HEAD.pack(COMMAND | LONG, len(body)) + body


def encode_ready(socket_type: str, identity: bytes = b"") -> bytes:
    """READY. Only the guard gives an identity, and only to its own ROUTER."""
    properties = _property(b"Socket-Type", socket_type.encode())
    if socket_type == "DEALER":
        properties += _property(b"Identity", identity)
    return encode_command(b"READY", properties)


def encode_refusal(reason: str) -> bytes:
    """ERROR instead of READY."""
    raw = reason.encode()[:_MAX_REASON]
    return encode_command(b"ERROR", bytes((len(raw),)) + raw)


def encode_ping(context: bytes = b"") -> bytes:
    return encode_command(b"PING", _PING_TTL.pack(0) + context)


def encode_pong(context: bytes) -> bytes:
    return encode_command(b"PONG", context)


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + _PROPERTY_SIZE.pack(len(value)) + value


class _State(Enum):
    GREETING = auto()
    HANDSHAKE = auto()
    TRAFFIC = auto()
    FAILED = auto()


class ZmtpReader:
    """Reads one peer's bytes. `feed` gives what is complete, or raises ProtocolError, and then for good."""

    def __init__(self, limits: WireLimits, *, accept: str) -> None:
        """`accept` is the one socket type the peer may have."""
        self._limits = limits
        self._accept = accept
        self._state = _State.GREETING
        self._tail = bytearray()
        self._need = 1
        self._parts: Message = []
        self._message_bytes = 0

    @property
    def ready(self) -> bool:
        return self._state is _State.TRAFFIC

    @property
    def mid_message(self) -> bool:
        """Whether a message (or the handshake) has begun and is not complete."""
        return bool(self._tail) or bool(self._parts)

    def feed(self, data: bytes) -> list[Event]:
        """Everything that is complete now. Raises ProtocolError; then the connection is to be closed."""
        tail = self._tail
        if tail:
            tail += data
            if len(tail) < self._need:
                return []
            data = bytes(tail)
            tail.clear()
        events: list[Event] = []
        try:
            at = 0
            if self._state is not _State.TRAFFIC:
                at = self._handshake(data, events)
            if self._state is _State.TRAFFIC:
                at = self._traffic(data, at, events)
        except ProtocolError:
            self._fail()
            raise
        if at < len(data) and self._state is not _State.FAILED:
            tail += data[at:]
        return events

    def _fail(self) -> None:
        self._state = _State.FAILED
        self._tail.clear()
        self._parts = []

    def _handshake(self, data: bytes, events: list[Event]) -> int:
        if self._state is _State.FAILED:
            raise ProtocolError("the connection has failed already")
        at = 0
        if self._state is _State.GREETING:
            _check_greeting(data)
            if len(data) < GREETING_BYTES:
                self._need = len(data) + 1
                return 0
            self._state = _State.HANDSHAKE
            at = GREETING_BYTES
        frame = self._frame(data, at)
        if frame is None:
            return at
        flags, start, end = frame
        if not flags & COMMAND:
            raise ProtocolError("a message before READY")
        name, body = _split_command(data[start:end])
        if name == b"ERROR" and self._accept == "ROUTER":
            events.append(Refused(body[1:].decode("utf-8", "replace")))
            self._fail()
            return end
        if name != b"READY":
            raise ProtocolError("the first command must be READY")
        socket_type = _parse_ready(body)
        if socket_type != self._accept:
            raise ProtocolError(f"the peer's socket must be {self._accept}")
        self._state = _State.TRAFFIC
        events.append(Ready(socket_type))
        return end

    def _traffic(self, data: bytes, at: int, events: list[Event]) -> int:
        while (frame := self._frame(data, at)) is not None:
            flags, start, at = frame
            if flags & COMMAND:
                events.append(_parse_command(data[start:at]))
                continue
            self._parts.append(data[start:at])
            if not flags & MORE:
                events.append(self._parts)
                self._parts = []
                self._message_bytes = 0
        return at

    def _frame(self, data: bytes, at: int) -> tuple[int, int, int] | None:
        """Flags, start and end of the body of a complete frame at `at`; None when bytes are missing."""
        have = len(data) - at
        if have < 2:
            self._need = 2
            return None
        flags = data[at]
        if flags > MORE | LONG | COMMAND:
            raise ProtocolError("reserved bits are set in a frame")
        if flags & LONG:
            if have < 9:
                self._need = 9
                return None
            size: int = _SIZE.unpack_from(data, at + 1)[0]
            start = at + 9
        else:
            size = data[at + 1]
            start = at + 2
        limits = self._limits
        if flags & COMMAND:
            if flags & MORE or self._parts:
                raise ProtocolError("a command inside a message")
            if size > limits.command_bytes:
                raise ProtocolError("a command is too long")
        elif size > limits.frame_bytes:
            raise ProtocolError("a frame is too long")
        elif len(self._parts) >= limits.parts:
            raise ProtocolError("a message has too many parts")
        elif self._message_bytes + size > limits.message_bytes:
            raise ProtocolError("a message is too long")
        end = start + size
        if end > len(data):
            self._need = end - at
            return None
        if not flags & COMMAND:
            self._message_bytes += size
        return flags, start, end


def _check_greeting(data: bytes) -> None:
    """Refuse as early as the bytes allow."""
    if not data:
        return
    if data[0] != _SIGNATURE[0] or (len(data) > 9 and data[9] != _SIGNATURE[9]):
        raise ProtocolError("not a ZMTP 3 greeting")
    if len(data) > _VERSION_AT and data[_VERSION_AT] != 3:
        raise ProtocolError("only ZMTP 3 is spoken here")
    mechanism = data[_MECHANISM_AT:_AS_SERVER_AT]
    if mechanism != _MECHANISM[: len(mechanism)]:
        raise ProtocolError("only the NULL mechanism is spoken here")
    if len(data) > _AS_SERVER_AT and data[_AS_SERVER_AT] > 1:
        raise ProtocolError("not a ZMTP 3 greeting")


def _split_command(body: bytes) -> tuple[bytes, bytes]:
    if not body or len(body) < 1 + body[0] or body[0] == 0:
        raise ProtocolError("a command without a name")
    end = 1 + body[0]
    return body[1:end], body[end:]


def _parse_ready(body: bytes) -> str:
    """The socket type of a READY; refuses an identity chosen by the peer."""
    seen: set[bytes] = set()
    socket_type = ""
    at = 0
    while at < len(body):
        name_end = at + 1 + body[at]
        value_at = name_end + 4
        if body[at] == 0 or value_at > len(body):
            raise ProtocolError("a property of READY is cut short")
        name = body[at + 1 : name_end].lower()
        at = value_at + int(_PROPERTY_SIZE.unpack_from(body, name_end)[0])
        if at > len(body):
            raise ProtocolError("a property of READY is cut short")
        value = body[value_at:at]
        if name in seen:
            raise ProtocolError("a property of READY is given twice")
        seen.add(name)
        if name == b"identity" and value:  # attack A41
            raise ProtocolError("a peer may not choose its identity")
        if name == b"socket-type":
            socket_type = value.decode("ascii", "replace")
    return socket_type


def _parse_command(body: bytes) -> Event:
    name, data = _split_command(body)
    if name == b"PING":
        if not _PING_TTL.size <= len(data) <= _PING_TTL.size + MAX_PING_CONTEXT:
            raise ProtocolError("a malformed PING")
        return Ping(data[_PING_TTL.size :])
    if name == b"PONG":
        if len(data) > MAX_PING_CONTEXT:
            raise ProtocolError("a malformed PONG")
        return Pong(data)
    raise ProtocolError("an unexpected command")

"""The requests a client may make on a channel or a connection, parsed into typed values. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass, field

from pkgs.common.ssh.wire import Reader, WireError

_MAX_SIDE = 10_000


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """Columns and rows, and pixels where the client knows them. Absurd sizes are clamped."""

    columns: int = 80
    rows: int = 24
    width: int = 0
    height: int = 0

    @classmethod
    def read(cls, reader: Reader) -> TerminalSize:
        columns, rows, width, height = (reader.uint32() for _ in range(4))
        return cls(
            min(columns, _MAX_SIDE) or 80, min(rows, _MAX_SIDE) or 24, min(width, 0xFFFF), min(height, 0xFFFF)
        )

    def __str__(self) -> str:
        return f"{self.columns}:{self.rows}"


@dataclass(frozen=True, slots=True)
class PtyRequest:
    term: str
    size: TerminalSize
    modes: bytes


@dataclass(frozen=True, slots=True)
class EnvRequest:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ShellRequest:
    pass


@dataclass(frozen=True, slots=True)
class ExecRequest:
    command: bytes
    """Bytes for the shell, whatever they are."""


@dataclass(frozen=True, slots=True)
class SubsystemRequest:
    name: str


@dataclass(frozen=True, slots=True)
class WindowChange:
    size: TerminalSize


@dataclass(frozen=True, slots=True)
class SignalRequest:
    name: str
    """Without SIG: TERM, INT, ..."""


@dataclass(frozen=True, slots=True)
class AgentForwardRequest:
    pass


@dataclass(frozen=True, slots=True)
class X11Request:
    """`x11-req` (RFC 4254, 6.3.1), as the client wrote it: nothing of it is checked yet."""

    single: bool
    """Only one connection is to be forwarded."""
    protocol: str
    cookie: str = field(repr=False)
    """In hexadecimal. OpenSSH's is good for this connection only, and no less a secret."""
    screen: int


@dataclass(frozen=True, slots=True)
class OtherRequest:
    """Anything else; always refused."""

    kind: str


ChannelRequest = (
    PtyRequest
    | EnvRequest
    | ShellRequest
    | ExecRequest
    | SubsystemRequest
    | WindowChange
    | SignalRequest
    | AgentForwardRequest
    | X11Request
    | OtherRequest
)


@dataclass(frozen=True, slots=True)
class DirectTcp:
    """Where a `direct-tcpip` channel is to go, and who the client says is asking."""

    host: str
    port: int
    origin_host: str
    origin_port: int


def read_request(kind: str, reader: Reader) -> ChannelRequest:
    """Parse the body of a channel request. Raises WireError."""
    match kind:
        case "pty-req":
            term = reader.string().decode("ascii", "replace")
            return PtyRequest(term, TerminalSize.read(reader), reader.string())
        case "env":
            name, value = reader.string(), reader.string()
            return EnvRequest(name.decode(errors="replace"), value.decode(errors="replace"))
        case "shell":
            return ShellRequest()
        case "exec":
            return ExecRequest(reader.string())
        case "subsystem":
            return SubsystemRequest(reader.text())
        case "window-change":
            return WindowChange(TerminalSize.read(reader))
        case "signal":
            return SignalRequest(reader.text())
        case "auth-agent-req@openssh.com":
            return AgentForwardRequest()
        case "x11-req":
            single, protocol, cookie = reader.boolean(), reader.string(), reader.string()
            return X11Request(
                single,
                protocol.decode("ascii", "replace"),
                cookie.decode("ascii", "replace"),
                reader.uint32(),
            )
        case _:
            return OtherRequest(kind)


def read_direct_tcp(reader: Reader) -> DirectTcp:
    """Parse the body of a `direct-tcpip` channel open. Raises WireError."""
    host, port = reader.text(), reader.uint32()
    origin_host, origin_port = reader.text(), reader.uint32()
    if not 0 < port <= 0xFFFF:
        raise WireError("port is out of range")
    return DirectTcp(host, port, origin_host, origin_port)


def read_direct_unix(reader: Reader) -> bytes:
    """The path in an open of `direct-streamlocal@openssh.com` (OpenSSH's PROTOCOL, 2.4), as it was written.
    Raises WireError."""
    path = reader.string()
    reader.string(), reader.uint32()  # reserved
    return path

"""Between an agent and a proxy: the control connection, and the header of a data connection.

The control connection is RPC served by the proxy (ALPN `teleport-reversetunnel`): the agent opens one
stream and gets a `DialRequest` whenever the proxy wants a data connection. A data connection is TLS with
ALPN `teleport-reversetunnel-data`; it begins with one framed `DataHello` by the agent, then one framed
`DialHeader` by the proxy when a user's stream is to start; after that the bytes are the user's.
Where a user's bytes are TLS themselves (databases), each side ends the tunnel's with its frame (ADR 135).
A frame is a 2-byte big-endian length and MessagePack.
"""

from __future__ import annotations

import msgspec

from pkgs.common.rpc.calls import StreamRequest


class DialRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Proxy to agent on the control stream: dial me a data connection. Empty id: a spare one."""

    dial_id: str = ""
    ping: bool = False
    """Only a sign of life."""


class OpenTunnel(StreamRequest[DialRequest], frozen=True, kw_only=True):
    """Agent to proxy: I am here, ask me for data connections. The host id is the certificate's."""

    services: list[str]
    """Protocols served: ssh, later db, app, ..."""


class DataHello(msgspec.Struct, frozen=True, kw_only=True):
    """First frame on a data connection, by the agent. With a dial id it answers a DialRequest."""

    dial_id: str = ""


class DialHeader(msgspec.Struct, frozen=True, kw_only=True):
    """By the proxy, when a user's stream begins."""

    service: str = "ssh"
    client_addr: str
    """`ip:port` of the user as the proxy saw it; the agent trusts it because the proxy is authenticated."""
    target: str = ""
    greeted_as: int = 0
    """The user speaks MySQL and has had a greeting from the proxy, with this number of the connection."""


class UserDial(msgspec.Struct, frozen=True, kw_only=True):
    """First frame of a user's stream to the proxy (TLS with the user's certificate, ALPN `teleport-dial`)."""

    service: str = "ssh"
    target: str
    """`host[:port]`, a host id, or `label=value[,..]`."""
    cluster: str = ""
    login: str = ""


class UserDialReply(msgspec.Struct, frozen=True, kw_only=True):
    """The proxy's answer; after an empty `error` the bytes are the agent's."""

    error: str = ""
    hint: str = ""
    code: str = ""
    """Of the error: whether trying again may help."""
    host_id: str = ""
    hostname: str = ""

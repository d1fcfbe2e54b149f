"""What a connection's process and its service say to each other. Data only.

One message is one packet of a SOCK_SEQPACKET pair, MessagePack of one of these. The legal order is drawn
in `monitor`. A service adds its own types for what comes after the login.
"""

from __future__ import annotations

import msgspec

from pkgs.common.ssh.owner import HostKey


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Base of every message in either direction."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a new connection's process is given. Holds no secret."""

    number: int
    client_addr: str
    """`ip:port`."""
    host_keys: list[HostKey]
    allow_ctr: bool = False
    keep_alive_s: float = 300.0
    keep_alive_count: int = 3
    group: str = ""
    """Control group to enter first; empty: none."""


class Sign(Message, frozen=True, kw_only=True):
    """Sign this exchange hash with the host key."""

    algorithm: str
    exchange_hash: bytes


class Signature(Message, frozen=True, kw_only=True):
    blob: bytes
    """Wire form: algorithm name and signature."""


class Offer(Message, frozen=True, kw_only=True):
    """Would this certificate do for this user? Asked for the unsigned probe; changes nothing."""

    user: str
    blob: bytes


class OfferAnswer(Message, frozen=True, kw_only=True):
    acceptable: bool


class Prove(Message, frozen=True, kw_only=True):
    """The signed request: on a yes the connection belongs to this certificate's holder for good."""

    user: str
    algorithm: str
    blob: bytes
    signature: bytes


class Refused(Message, frozen=True, kw_only=True):
    """No. The text is for the user, and says nothing that the user may not know."""

    text: str = ""


class Idle(Message, frozen=True, kw_only=True):
    """The client has sent nothing for as long as it may."""


class End(Message, frozen=True, kw_only=True):
    """The service ends this connection: a lock, an expired certificate, a shutdown."""

    text: str


class Spawn(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """To the spawner, with two descriptors: the connection and the process's end of the monitor pair."""

    start: Start


class Kill(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    number: int
    signal: int


class Exited(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    number: int
    status: int


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The spawner has imported everything and may be given connections."""

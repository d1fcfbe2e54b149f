"""What a database protocol is to the rest of the Database Service: one engine and one conversation.

    user's client --TLS--> Engine.serve: the protocol's greeting and login
                             |  session.authorize(user, database)   decides, audits
                             |  session.dial()                      to the server, as far as a plain stream
                             |  session.secure(stream)              TLS with the certificate for that user
                             '- session.relay(client, server, conversation)

Everything that knows a protocol's bytes is sans-IO and lives in `pkgs/common/dbwire` (messages) and in the
protocol's own folder here (conversations). An engine only orders the steps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Database
from pkgs.common.resources.role import UNRESTRICTED, DbConditions

GREETED: Final = "mysql"
"""The one protocol whose clients the proxy may have greeted before their TLS: its servers speak first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked for in its protocol's login."""

    user: str
    """Of the database; empty: whom the certificate names."""
    database: str = ""
    """Inside the server, where the protocol has such; empty: what the certificate names."""
    agent: str = ""
    """What the client calls itself, for the audit log."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The decision's yes."""

    user: str
    """Whom to log in as at the server: never what the client sent, but what was decided on."""
    database: str
    roles: tuple[str, ...] = ()
    """Database roles of a user that is made on demand."""
    policy: DbConditions = UNRESTRICTED
    """What the session is held to; everything is allowed for an engine that does not restrict."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that the client sent, for `db.session.query`. Cut and masked by the conversation."""

    text: str
    parameters: tuple[str, ...] = ()
    cut: bool = False
    """Something is missing at the end of the text or of a parameter."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The server's error in answer to a statement."""

    message: str
    code: str = ""
    """The protocol's own: SQLSTATE, a number of MySQL, the first word of Redis."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement came to."""

    rows: int | None
    """Returned, or touched; None where the server does not say."""
    success: bool = True


@dataclass(frozen=True, slots=True)
class Detail:
    """An event of one protocol only; `kind` is its name without `db.session.`, and fields as in its reference
    page, already cut and masked."""

    kind: str
    fields: tuple[tuple[str, str | int | tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are not the protocol's, described and not kept: nobody can say whether a secret or a row is
    among them (ADR 137). The relay tells it when a conversation raises ProtocolError."""

    by: Literal["client", "server"]
    """Who said them."""
    size: int
    """How many were read with them."""
    error: str
    """What is wrong with them."""


Fact = Statement | Failed | Outcome | Detail | Malformed


@dataclass(slots=True)
class Step:
    """What follows from bytes that one side said."""

    onward: bytes | bytearray | memoryview = b""
    """For the other side; a view is used before the next step is asked for."""
    back: bytes = b""
    """For the side that spoke: an answer of ours, at a place where its protocol allows one."""
    facts: Sequence[Fact] = ()
    over: bool = False
    """Both sides are to be closed when everything has been sent."""
    hold: bool = False
    """The side that spoke has said enough: it is not read again before the other has spoken."""


class Conversation(Protocol):
    """A session after its login, sans-IO. Bytes may be cut anywhere. Memory is bounded: a message that need
    not be held whole goes onward in parts. Both methods raise ProtocolError when the peer breaks the
    protocol, and then neither is called again."""

    def from_client(self, data: memoryview) -> Step: ...

    def from_server(self, data: memoryview) -> Step: ...

    def refusal(self, text: str) -> bytes:
        """For the client, that the session ends for this reason (a lock, an expiry), in the shape of its
        protocol's errors; empty where it would be taken for something else now."""


class Session(Protocol):
    """What the Database Service does for an engine; one user's connection to one database."""

    @property
    def database(self) -> Database: ...

    @property
    def user(self) -> str:
        """Of the cluster; for messages."""

    @property
    def greeted_as(self) -> int:
        """MySQL: the connection's number in the greeting that the client has had from the proxy, outside TLS.
        0: it has had none."""

    async def authorize(self, asked: Asked) -> Granted:
        """Decide, and audit the start or the refusal. Once, before anything is said to the server. Raises
        DeniedError with a text for the user."""

    async def dial(self) -> Stream:
        """A plain stream to the database's address. Raises UnavailableError naming the hop. Again, with
        `secure`, for a connection beside the session's own: a cancel request. When `relay` is over, however
        it ended: once, and soon. Raises DeniedError when the session is no longer allowed."""

    async def secure(self, stream: Stream) -> Stream:
        """TLS on it as the database's `tls` says, showing the certificate for the granted user. Raises
        TrustError, UnavailableError."""

    def know(self, **fields: int) -> None:
        """What the server told of the session: fields of every event from now on."""

    async def relay(self, client: Stream, server: Stream, conversation: Conversation) -> None:
        """Move bytes until either side ends or the session is no longer allowed; audit what is told."""


Secure = Callable[[Stream], Awaitable[Stream]]
"""TLS on a stream to a database, as its `tls` says, showing a certificate for `HEALTH_USER`. Raises
TrustError, UnavailableError."""
HEALTH_USER = "teleport-health"
"""Whom health checks are at a server. Nobody has to make this user; one without any right is greeted more
quietly than none."""


class Engine(Protocol):
    """One protocol. Made once for the service; holds nothing of a session."""

    protocols: tuple[str, ...]
    """Names of `spec.protocol` that it serves."""
    restricts: bool
    """Whether it holds sessions to `Granted.policy`; where it does not, restricted ones are refused."""

    async def serve(self, client: Stream, session: Session) -> None:
        """One connection from its first byte inside TLS until it is over. A refusal is written to the client
        in the shape of the protocol's errors, and then raised on for the log."""

    async def probe(self, server: Stream, database: Database, secure: Secure) -> None:
        """Whether the server speaks the protocol, behind TLS that both sides trust, as far as a user can see
        who may do nothing. Leaves the server without a failure that it would hold against this host. Raises
        UnavailableError, TrustError, ProtocolError."""

"""What a call is: request types that name their method and their answer, and who is calling.

One definition serves both sides: the server registers a handler for the type together with the callers
it accepts, the client sends an instance. Three shapes: a call with one answer, a stream of items from
the server, and an upload of chunks to the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from enum import Flag, auto
from typing import Any, Generic, Protocol, TypeVar, get_args

import msgspec

from pkgs.common.errors import DeniedError
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole

A = TypeVar("A")


class _Typed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    @classmethod
    def method(cls) -> str:
        """Name of the method on the wire: the request type's own name."""
        return cls.__name__

    @classmethod
    def answer_type(cls) -> Any:
        """Type of the answer (or of one item), as given in the class's base."""
        for base in getattr(cls, "__orig_bases__", ()):
            args = get_args(base)
            if args and not isinstance(args[0], TypeVar):
                return args[0]
        raise TypeError(f"{cls.__name__} does not name its answer type")


class Request(_Typed, Generic[A], frozen=True, kw_only=True):
    """A call with one answer of type A."""


class StreamRequest(_Typed, Generic[A], frozen=True, kw_only=True):
    """A call answered by a credit-controlled stream of items of type A."""


class UploadRequest(_Typed, Generic[A], frozen=True, kw_only=True):
    """A call that carries a credit-controlled stream of byte chunks up, and has one answer of type A."""


class Callers(Flag):
    """Who may call a method. A registration that names none is refused at start."""

    NOBODY = auto()
    """A peer without a certificate: may only ping, log in and join."""
    USER = auto()
    HOST = auto()
    """Any host of this cluster, whatever its system roles."""
    NODE = auto()
    DB = auto()
    PROXY = auto()
    AUTH = auto()
    ADMIN = auto()
    """A process on the Auth host, by the local socket's peer credentials."""


_HOST_ROLES = {
    Callers.NODE: SystemRole.NODE,
    Callers.DB: SystemRole.DB,
    Callers.PROXY: SystemRole.PROXY,
    Callers.AUTH: SystemRole.AUTH,
}


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who is at the other end of a connection, fixed for the connection's life."""

    identity: Identity | None
    admin: bool = False
    remote_addr: str = ""
    """IP address of the client as far as it is known for certain; empty for a local socket."""
    local_uid: int | None = None

    def may_be(self, allowed: Callers) -> bool:
        """Whether this caller is one of `allowed`."""
        if self.admin:
            return Callers.ADMIN in allowed
        if self.identity is None:
            return Callers.NOBODY in allowed
        if self.identity.kind is PeerKind.USER:
            return Callers.USER in allowed
        if Callers.HOST in allowed:
            return True
        return any(flag in allowed and self.identity.is_host(role) for flag, role in _HOST_ROLES.items())

    def user(self) -> Identity:
        """The identity of a user caller; raises DeniedError for anybody else."""
        if self.identity is None or self.identity.kind is not PeerKind.USER:
            raise DeniedError("this call is for users")
        return self.identity

    def host(self) -> Identity:
        """The identity of a host caller; raises DeniedError for anybody else."""
        if self.identity is None or self.identity.kind is not PeerKind.HOST:
            raise DeniedError("this call is for hosts of the cluster")
        return self.identity


class AsyncClient(Protocol):
    """A connection to a server of calls, for services. Reconnects by itself with jitter."""

    async def call(
        self, request: Request[A], *, deadline_s: float = 10.0, idempotency_key: str = ""
    ) -> A: ...

    def stream(self, request: StreamRequest[A], *, deadline_s: float | None = None) -> AsyncIterator[A]: ...

    async def upload(
        self, request: UploadRequest[A], chunks: AsyncIterator[bytes], *, deadline_s: float | None = None
    ) -> A: ...

    async def close(self) -> None: ...


class BlockingClient(Protocol):
    """The same for command lines: no event loop, no threads."""

    def call(self, request: Request[A], *, deadline_s: float = 10.0, idempotency_key: str = "") -> A: ...

    def stream(self, request: StreamRequest[A], *, deadline_s: float | None = None) -> Iterator[A]: ...

    def upload(
        self, request: UploadRequest[A], chunks: Iterable[bytes], *, deadline_s: float | None = None
    ) -> A: ...

    def close(self) -> None: ...

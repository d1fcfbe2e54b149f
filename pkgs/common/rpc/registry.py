"""Which handler answers which request type, and for whom."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, overload

import msgspec

from pkgs.common.rpc import envelope
from pkgs.common.rpc.calls import Caller, Callers, Request, StreamRequest, UploadRequest

A = TypeVar("A")
R = TypeVar("R", bound=Request[Any])
S = TypeVar("S", bound=StreamRequest[Any])
U = TypeVar("U", bound=UploadRequest[Any])

Unary = Callable[[Caller, Any], Awaitable[Any]]
Stream = Callable[[Caller, Any], AsyncIterator[Any]]
Upload = Callable[[Caller, Any, AsyncIterator[bytes]], Awaitable[Any]]


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One registration."""

    name: str
    kind: int
    """The header kind that starts it."""
    callers: Callers
    decoder: Any
    handler: Any


class Registry:
    """Handlers by request type. Every mistake is an error at registration, which is at start."""

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}

    @overload
    def register(
        self, request: type[R], handler: Callable[[Caller, R], Awaitable[Any]], *, callers: Callers
    ) -> None: ...
    @overload
    def register(
        self, request: type[S], handler: Callable[[Caller, S], AsyncIterator[Any]], *, callers: Callers
    ) -> None: ...
    @overload
    def register(
        self,
        request: type[U],
        handler: Callable[[Caller, U, AsyncIterator[bytes]], Awaitable[Any]],
        *,
        callers: Callers,
    ) -> None: ...
    def register(self, request: type[Any], handler: Callable[..., Any], *, callers: Callers) -> None:
        """Let `handler` answer `request` for `callers`.

        Raises ValueError when nobody may call it, when the type has a handler already, and when the
        handler has the wrong shape for the type.
        """
        name = request.method()
        if not callers:
            raise ValueError(f"{name}: a handler must declare which callers it accepts")
        if name in self._methods:
            raise ValueError(f"{name}: has a handler already")
        request.answer_type()
        self._methods[name] = Method(
            name=name,
            kind=_kind(request, handler),
            callers=callers,
            decoder=msgspec.msgpack.Decoder(request),
            handler=handler,
        )

    def get(self, name: str) -> Method | None:
        return self._methods.get(name)

    def names(self) -> list[str]:
        return sorted(self._methods)

    def check(self) -> None:
        """Raises ValueError when there is nothing to serve."""
        if not self._methods:
            raise ValueError("a server without a single handler")


def _kind(request: type[Any], handler: Callable[..., Any]) -> int:
    name = request.method()
    if issubclass(request, StreamRequest):
        if not inspect.isasyncgenfunction(_plain(handler)):
            raise ValueError(f"{name}: the handler of a stream must be an async generator")
        return envelope.STREAM
    if not inspect.iscoroutinefunction(_plain(handler)):
        raise ValueError(f"{name}: the handler must be an async function")
    if issubclass(request, UploadRequest):
        return envelope.UPLOAD
    if issubclass(request, Request):
        return envelope.CALL
    raise ValueError(f"{name}: not a request type")


def _plain(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind an object with `__call__`."""
    if inspect.isroutine(handler) or inspect.isfunction(handler):
        return handler
    return getattr(handler, "func", None) or type(handler).__call__

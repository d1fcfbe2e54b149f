"""Mistakes in registering are errors at start; lean imports stay lean."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from pkgs.common.errors import DeniedError
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.rpc.calls import Caller, Callers, Request, StreamRequest, UploadRequest
from pkgs.common.rpc.registry import Registry
from pkgs.common.rpc.server import RpcServer


class Ask(Request[int], frozen=True, kw_only=True):
    pass


class Follow(StreamRequest[int], frozen=True, kw_only=True):
    pass


class Send(UploadRequest[int], frozen=True, kw_only=True):
    pass


class Vague(Request, frozen=True, kw_only=True):  # type: ignore[type-arg]
    pass


async def ask(caller: Caller, request: Ask) -> int:
    return 1


async def follow(caller: Caller, request: Follow) -> AsyncIterator[int]:
    yield 1


async def send(caller: Caller, request: Send, chunks: AsyncIterator[bytes]) -> int:
    return 1


def test_a_handler_without_callers_is_refused() -> None:
    with pytest.raises(ValueError, match="which callers"):
        Registry().register(Ask, ask, callers=Callers(0))


def test_a_second_handler_is_refused() -> None:
    registry = Registry()
    registry.register(Ask, ask, callers=Callers.USER)
    with pytest.raises(ValueError, match="already"):
        registry.register(Ask, ask, callers=Callers.HOST)


def test_shapes_must_fit() -> None:
    registry = Registry()
    for request, handler in ((Ask, follow), (Follow, ask), (Send, follow), (Ask, lambda c, r: 1)):
        with pytest.raises(ValueError):
            registry.register(request, handler, callers=Callers.USER)  # type: ignore[call-overload]


def test_a_request_must_name_its_answer() -> None:
    with pytest.raises(TypeError):
        Registry().register(Vague, ask, callers=Callers.USER)  # type: ignore[arg-type]


def test_methods_and_partials_are_handlers_too() -> None:
    class Service:
        async def ask(self, caller: Caller, request: Ask) -> int:
            return 1

        async def follow(self, caller: Caller, request: Follow) -> AsyncIterator[int]:
            yield 1

    async def more(extra: int, caller: Caller, request: Send, chunks: AsyncIterator[bytes]) -> int:
        return extra

    registry = Registry()
    registry.register(Ask, Service().ask, callers=Callers.USER)
    registry.register(Follow, Service().follow, callers=Callers.USER)
    registry.register(Send, functools.partial(more, 1), callers=Callers.USER)
    assert registry.names() == ["Ask", "Follow", "Send"]


def test_a_server_without_handlers_does_not_start() -> None:
    with pytest.raises(ValueError):
        RpcServer(Registry(), identify=lambda der: None)


USER = Identity(kind=PeerKind.USER, name="alice", cluster="demo")
NODE = Identity(kind=PeerKind.HOST, name="h", cluster="demo", system_roles=(SystemRole.NODE,))


@pytest.mark.parametrize(
    ("caller", "fits"),
    [
        (Caller(identity=None), Callers.NOBODY),
        (Caller(identity=USER), Callers.USER),
        (Caller(identity=NODE), Callers.HOST | Callers.NODE),
        (Caller(identity=None, admin=True), Callers.ADMIN),
    ],
)
def test_who_may_be_what(caller: Caller, fits: Callers) -> None:
    for one in Callers:
        assert caller.may_be(one) == (one in fits)


def test_user_and_host_of_the_wrong_caller() -> None:
    for caller in (Caller(identity=None), Caller(identity=NODE), Caller(identity=None, admin=True)):
        with pytest.raises(DeniedError):
            caller.user()
    for caller in (Caller(identity=None), Caller(identity=USER), Caller(identity=None, admin=True)):
        with pytest.raises(DeniedError):
            caller.host()


def test_the_blocking_client_imports_nothing_heavy() -> None:
    heavy = ("asyncio", "zmq", "ssl", "cryptography", "uvloop", "logging", "concurrent.futures")
    code = (
        "import sys, pkgs.common.rpc.blocking, pkgs.common.rpc.calls\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]", done.stdout

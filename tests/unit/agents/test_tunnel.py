"""Tunnels of an agent: dialled again when lost or silent, one per proxy, data connections on request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pkgs.agents.base import tunnel
from pkgs.agents.base.tunnel import Tunnels
from pkgs.common.api.tunnel import DialRequest
from pkgs.common.errors import UnavailableError

PING = DialRequest(ping=True)


class FakeClient:
    """A control connection whose proxy says what the test put there; then it is silent."""

    scripts: dict[str, list[list[DialRequest | Exception]]] = {}
    dialled: list[str] = []
    open = 0

    def __init__(self, endpoint: Any, *, log: logging.Logger) -> None:
        self.addr = f"{endpoint.host}:{endpoint.port}"

    async def connect(self, deadline_s: float) -> None:
        FakeClient.dialled.append(self.addr)
        FakeClient.open += 1

    def peer_certificate(self) -> bytes:
        return self.addr.encode()

    async def stream(self, request: Any) -> AsyncIterator[DialRequest]:
        scripts = FakeClient.scripts.get(self.addr, [])
        for item in scripts.pop(0) if scripts else [PING]:
            if isinstance(item, Exception):
                raise item
            yield item
        await asyncio.Event().wait()

    async def close(self) -> None:
        FakeClient.open -= 1


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeClient.scripts, FakeClient.dialled, FakeClient.open = {}, [], 0
    monkeypatch.setattr(tunnel, "RpcClient", FakeClient)
    monkeypatch.setattr(tunnel, "REDIAL_FIRST_S", 0.01)
    monkeypatch.setattr(tunnel, "REDIAL_MOST_S", 0.02)
    monkeypatch.setattr(Tunnels, "proxy_behind", lambda self, der: f"id-of-{der.decode()}")


def run(work: Callable[[Tunnels], Any]) -> None:
    async def main() -> None:
        async def serve(sock: Any, header: Any) -> None: ...

        made = Tunnels(
            None,  # type: ignore[arg-type]
            ["ssh"],
            serve,
            lambda: 0.0,
            logging.getLogger("t"),
            lambda: None,
        )
        try:
            await work(made)
        finally:
            await made.close()
        assert FakeClient.open == 0

    asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - whatever the condition looks at has no event
            await asyncio.sleep(0.005)


def test_a_lost_tunnel_is_dialled_again() -> None:
    FakeClient.scripts["p:1"] = [[PING, UnavailableError("lost")], [UnavailableError("again")], [PING]]

    async def work(tunnels: Tunnels) -> None:
        tunnels.configure(["p:1"], [])
        await until(lambda: len(FakeClient.dialled) == 3 and tunnels.proxy_ids == ["id-of-p:1"])

    run(work)


def test_a_silent_tunnel_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "SILENCE_S", 0.05)

    async def work(tunnels: Tunnels) -> None:
        tunnels.configure(["p:1"], [])
        await until(lambda: len(FakeClient.dialled) >= 3)

    run(work)


def test_every_discovered_proxy_gets_one_and_a_vanished_one_loses_it() -> None:
    async def work(tunnels: Tunnels) -> None:
        tunnels.configure(["p:1"], [])
        await until(lambda: tunnels.proxy_ids == ["id-of-p:1"])
        # The first is the configured proxy itself, under its public name.
        tunnels.configure(["p:1"], [("id-of-p:1", "public:1"), ("id-of-q:2", "q:2")])
        await until(lambda: tunnels.proxy_ids == ["id-of-p:1", "id-of-q:2"])
        assert "public:1" not in FakeClient.dialled
        tunnels.configure(["p:1"], [("id-of-p:1", "public:1")])
        await until(lambda: tunnels.proxy_ids == ["id-of-p:1"])

    run(work)


def test_after_the_stop_no_tunnel_comes_back() -> None:
    """The end of a tunnel is a change, and the service configures again at every change."""

    async def work(tunnels: Tunnels) -> None:
        tunnels._on_change = lambda: tunnels.configure(["p:1"], [])
        tunnels.configure(["p:1"], [])
        await until(lambda: tunnels.proxy_ids == ["id-of-p:1"])
        await tunnels.stop_accepting()
        tunnels.configure(["p:1"], [("id-of-q:2", "q:2")])
        await asyncio.sleep(0)
        assert tunnels.proxy_ids == []
        assert FakeClient.open == 0
        assert FakeClient.dialled == ["p:1"]

    run(work)


def test_requests_are_obeyed_and_pings_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(Tunnels, "carry", lambda self, addr, dial_id, slots: asked.append((addr, dial_id)))
    FakeClient.scripts["p:1"] = [[PING, DialRequest(dial_id="x"), PING, DialRequest()]]

    async def work(tunnels: Tunnels) -> None:
        tunnels.configure(["p:1"], [])
        await until(lambda: len(asked) == 2)
        assert asked == [("p:1", "x"), ("p:1", "")]

    run(work)

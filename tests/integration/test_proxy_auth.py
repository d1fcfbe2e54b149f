"""Calls to the Auth Service through the proxy: untouched, and with the caller's true address."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgs.common.errors import AccessError
from pkgs.common.net.dial import dial_tls
from pkgs.common.net.tls import client_context
from tests.integration.proxy_kit import Authorities, auth_port, proxy, read_line, run

AUTH_NAME = "auth.teleport.cluster.local"


def test_the_auth_service_gets_the_connection_untouched_with_the_callers_address(tmp_path: Path) -> None:
    async def body() -> None:
        shared = Authorities()
        async with (
            auth_port(shared) as auth,
            proxy(tmp_path, authorities=shared, auth_addrs=(auth.addr,)) as kit,
        ):
            for alpn in ("teleport-auth@test", "teleport-auth@"):
                context = client_context(roots_pem=shared.roots, alpn=(alpn,))
                stream = await dial_tls(kit.addr, context, server_hostname=AUTH_NAME)
                addr, via_proxy = (await read_line(stream)).split()
                assert via_proxy == b"True"
                assert addr.decode() == ":".join(map(str, stream._sock.getsockname()))
                assert auth.seen[-1].hello is not None
                assert auth.seen[-1].hello.alpn == (alpn,)
                stream.write(b"x" * 1_000_000)
                assert await stream.read_exactly(1_000_000) == b"x" * 1_000_000
                await stream.close()
            context = client_context(roots_pem=shared.roots, alpn=("teleport-auth@other",))
            with pytest.raises(AccessError):
                await dial_tls(kit.addr, context, server_hostname=AUTH_NAME)
            assert len(auth.seen) == 2

    run(body())


def test_an_auth_service_that_is_down_ends_the_call_and_nothing_else(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path, auth_addrs=("127.0.0.1:1",)) as kit:
            context = client_context(roots_pem=kit.authorities.roots, alpn=("teleport-auth@test",))
            with pytest.raises(AccessError):
                await dial_tls(kit.addr, context, server_hostname=AUTH_NAME)

    run(body())

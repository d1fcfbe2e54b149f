"""Whose id a joining host may not take (attacks A37, A39)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pkgs.common.errors import AlreadyExistsError
from pkgs.common.resources.kinds import AuthServer
from tests.integration.auth_kit import auth, listed, run
from tests.security.test_join_attacks import request


def test_a37_the_auth_services_own_id_is_not_given_away(short_tmp: Path) -> None:
    """Whoever held it could write audit events and heartbeats in its name."""

    async def main() -> None:
        async with auth(short_tmp) as kit:
            async with asyncio.timeout(10):
                while not (servers := await listed(kit.admin, "auth_server")):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            [server] = servers
            assert isinstance(server, AuthServer)
            with pytest.raises(AlreadyExistsError):
                await kit.nobody().call(request(host_id=server.name))
            # A node on the Auth host itself shares the id, and joins by the administrator's socket.
            certs = await kit.admin.call(request(host_id=server.name, token=""))
            assert certs.host_id == server.name

    run(main)

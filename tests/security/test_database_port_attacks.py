"""The port that `tsh proxy db --tunnel` and `tsh db connect` open: whoever reaches it is its user."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from typing import cast

import pytest

from pkgs.clients.tsh.databases.files import Held
from pkgs.clients.tsh.databases.owner import is_own
from pkgs.clients.tsh.databases.port import LocalPort
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import NotFoundError
from tests.unit.net.loops import run

NOBODY = 65534
CLIENT = """
import encodings.idna, os, socket, sys
os.setuid(int(sys.argv[3]))
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
client.sendall(b"drop everything")
if sys.argv[4:] == ["leave"]:
    client.close()
else:
    client.settimeout(30)
    try:
        client.recv(1)
    except ConnectionError:
        pass
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_other_users_of_the_machine_are_not_its_user(
    host: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither while they are there nor when they said something and left."""
    used = asyncio.Event()

    def held() -> Held:
        used.set()
        raise NotFoundError("no certificate")

    async def connects(port: int, uid: int, *words: str) -> None:
        argv = [sys.executable, "-I", "-c", CLIENT, host, str(port), str(uid), *words]
        process = await asyncio.to_thread(subprocess.run, argv, timeout=60)
        assert process.returncode == 0

    async def story() -> None:
        port = LocalPort(cast(Login, None), "orders", held)
        port.open(host, 0)
        try:
            await connects(port.port, NOBODY)
            await connects(port.port, NOBODY, "leave")
            assert not used.is_set()
            await connects(port.port, 0)
            assert used.is_set()
            # Not root, and root comes; then somebody comes as whom a closed connection shows.
            used.clear()
            monkeypatch.setattr(os, "getuid", lambda: NOBODY - 1)
            await connects(port.port, 0)
            assert used.is_set()
            used.clear()
            await connects(port.port, NOBODY)
            assert not used.is_set()
        finally:
            await port.close()

    run(story())
    assert "another user of this machine" in capfd.readouterr().err


def test_a_client_by_ipv6_for_an_ipv4_port_is_known() -> None:
    async def story() -> None:
        used = asyncio.Event()

        def held() -> Held:
            used.set()
            raise NotFoundError("no certificate")

        port = LocalPort(cast(Login, None), "orders", held)
        port.open("127.0.0.1", 0)
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
                await asyncio.to_thread(client.connect, ("::ffff:127.0.0.1", port.port))
                await asyncio.wait_for(used.wait(), 20)
        finally:
            await port.close()

    run(story())


def test_a_connection_that_was_closed_is_nobodys() -> None:
    """It shows root in the kernel's table: root's own ports must not take it for root's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            assert is_own(accepted)
            client.close()
            assert not is_own(accepted)

"""A real X server for tests of X11 forwarding, and a node whose displays nobody else's test has."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.ssh_kit import MANY_EXTENSIONS, SshNode, User, change_role, wait_until

SOCKETS = Path("/tmp/.X11-unix")
X11_EXTENSIONS = (*MANY_EXTENSIONS, "permit-X11-forwarding")


@contextmanager
def x11_node(folder: Path) -> Iterator[SshNode]:
    """A node that allows it to all."""
    node = SshNode(folder)
    first = random.randrange(1000, 50_000)
    node.displays = range(first, first + 10)
    with node:
        change_role(node, "access", permit_x11_forwarding=True)
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")
        assert not [path for path in map(socket_of, node.displays) if path.exists()]


def x11_user(node: SshNode, name: str, **spec: Any) -> User:
    return node.user(name, **{"extensions": X11_EXTENSIONS, **spec})


def socket_of(number: int) -> Path:
    return SOCKETS / f"X{number}"


@dataclass(frozen=True)
class XServer:
    environment: dict[str, str]
    """Of clients that may use it."""


@contextmanager
def x_server(folder: Path) -> Iterator[XServer]:
    """Xvfb, which lets in who has its cookie."""
    authority = folder / "Xauthority"
    command = f"add :0 MIT-MAGIC-COOKIE-1 {os.urandom(16).hex()}\n"
    subprocess.run(
        ["xauth", "-q", "-f", str(authority), "-"], input=command.encode(), check=True, capture_output=True
    )
    read_end, write_end = os.pipe()
    argv = ["Xvfb", "-displayfd", str(write_end), "-auth", str(authority), "-nolisten", "tcp"]
    process = subprocess.Popen(argv, pass_fds=(write_end,), stderr=subprocess.DEVNULL)
    os.close(write_end)
    try:
        with os.fdopen(read_end) as told:
            number = told.readline().strip()
        assert number, "Xvfb does not start"
        # The client looks the cookie up by the display that the server chose.
        command = f"add :{number} {command.split(' ', 2)[2]}"
        subprocess.run(
            ["xauth", "-q", "-f", str(authority), "-"],
            input=command.encode(),
            check=True,
            capture_output=True,
        )
        yield XServer({**os.environ, "DISPLAY": f":{number}", "XAUTHORITY": str(authority)})
    finally:
        process.terminate()
        process.wait(20)

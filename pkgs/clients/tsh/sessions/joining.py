"""How OpenSSH is told to join a session: under a login name of its own, with the session's id as command."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.runtime.atomicfile import write_atomic

JOIN_LOGIN = "-teleport-internal-join"
MODE_VARIABLE = "TELEPORT_SSH_JOIN_MODE"


def options(login: Login, mode: str) -> list[str]:
    """Words of the command line up to the host; sets the variable that tells the mode."""
    port = str(openssh.PORT)
    words = openssh.locked_options(login, port=port)
    assert words[:2] == ["-F", "/dev/null"]
    os.environ[MODE_VARIABLE] = mode
    own = {"ProxyCommand": _proxy_command(login, port), "SendEnv": MODE_VARIABLE, "RequestTTY": "yes"}
    return [
        "-F",
        _config(login),
        *(word for key, value in own.items() for word in ("-o", f"{key}={value}")),
        *words[2:],
        *openssh.default_options(agent=False),
    ]


def _proxy_command(login: Login, port: str) -> str:
    """The usual one, but that the login looks like a flag and must not be a word."""
    usual = openssh.proxy_command(login, port=port)
    return usual.replace(f" %r@%h:{port}", f" --login={shlex.quote(JOIN_LOGIN)} %h:{port}")


def _config(login: Login) -> str:
    """A file with the login: on its command line OpenSSH (since 9.6) takes none with a leading dash."""
    path = Path(login.ssh_key).with_name("join_config")
    write_atomic(path, f"User {JOIN_LOGIN}\n".encode())
    return str(path)

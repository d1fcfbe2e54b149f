"""Where a multiplexer is reached, and what OpenSSH is told about it. Imports nothing heavy: `tsh config` and
`handover` need it too."""

from __future__ import annotations

import shlex
import sys

from pkgs.clients.tsh.multiplex.limits import MAX_SOCKET_PATH
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import InputError

_HANDOVER = __file__.rpartition("/")[0] + "/handover.py"
_SAFE = frozenset("/._-+@:,=")


def socket_path(login: Login) -> str:
    """Of the multiplexer for this login. InputError where a kernel or OpenSSH could not take the name."""
    path = f"{login.home}/multiplex/{login.profile_name}"
    if len(path.encode(errors="surrogateescape")) > MAX_SOCKET_PATH:
        raise InputError(
            f"the path {path!r} is too long for a socket", hint="set TELEPORT_HOME to a shorter one"
        )
    if not all(letter.isascii() and (letter.isalnum() or letter in _SAFE) for letter in path):
        raise InputError(f"the path {path!r} can't be written for OpenSSH", hint="move TELEPORT_HOME")
    return path


def config_block(login: Login, port: int) -> str:
    """Goes in front of `openssh.config_block`, whose ProxyCommand serves while no multiplexer runs."""
    sock = socket_path(login)
    words = [sys.executable, "-I", "-S", _HANDOVER, sock]
    command = " ".join(shlex.quote(word).replace("%", "%%") for word in words)
    return f"""\
# Begin generated multiplexer configuration for cluster {login.cluster} (tsh config --multiplex)
Match host *.{login.cluster},!{login.profile_name} exec "test -S {sock}"
    Port {port}
    ProxyUseFdpass yes
    ProxyCommand {command} %r@%h:%p
# End generated multiplexer configuration for cluster {login.cluster}
"""

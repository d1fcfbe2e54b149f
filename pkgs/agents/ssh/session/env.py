"""Which variables a client may set, and the environment every session gets.

A short list of names that cannot change what programs load or run (attack A57); everything else is
refused. `TELEPORT_SESSION_REASON` and its like are read, not passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pwd import struct_passwd
from types import MappingProxyType
from typing import Any

from pkgs.agents.ssh.limits import USER_ENV_BYTES, USER_ENV_LINES
from pkgs.agents.ssh.messages import Account
from pkgs.common.ssh.limits import MAX_ENV_VALUE, MAX_ENV_VARS
from pkgs.common.ssh.sessions.messages import RECORDED_AS

_ALLOWED = re.compile(
    r"(LANG|LANGUAGE|LC_[A-Z]{1,24}|TZ|TERM|COLORTERM|TERM_PROGRAM|TERM_PROGRAM_VERSION|GIT_PROTOCOL|NO_COLOR)"
)
_VALUE = re.compile(r"[\w.,:;@%+=/ -]*", re.ASCII)
_CONTROL = (
    "TELEPORT_SESSION_REASON",
    "TELEPORT_SESSION_INVITED_USERS",
    "TELEPORT_SESSION_PARTICIPANT_REQUIREMENTS",
    "TELEPORT_SSH_JOIN_MODE",
    RECORDED_AS,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USER_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"


@dataclass(slots=True)
class ClientEnv:
    """What a client asked for on one channel."""

    variables: dict[str, str] = field(default_factory=dict)
    control: dict[str, str] = field(default_factory=dict)

    def accept(self, name: str, value: str) -> bool:
        """Take one variable, or say no."""
        if len(self.variables) + len(self.control) >= MAX_ENV_VARS or len(value) > MAX_ENV_VALUE:
            return False
        if name in _CONTROL:
            if value.isprintable():
                self.control[name] = value
            return value.isprintable()
        # A value such as `LANG=../../x` or `TZ=:/etc/shadow` would make a library open that file.
        if not _ALLOWED.fullmatch(name) or not _VALUE.fullmatch(value) or ".." in value:
            return False
        if name in ("TZ", "LANG", "LANGUAGE") and value.startswith(("/", ":")):
            return False
        self.variables[name] = value
        return True


def asked_of_others(client: ClientEnv) -> dict[str, Any]:
    """What a client says about the company of a session, as fields of `OpenSession`."""
    control = client.control
    verbose = control.get("TELEPORT_SESSION_PARTICIPANT_REQUIREMENTS", "")
    invited = control.get("TELEPORT_SESSION_INVITED_USERS", "").split(",")
    return {
        "reason": control.get("TELEPORT_SESSION_REASON", ""),
        "invited": [name.strip() for name in invited if name.strip()],
        "verbose_demands": verbose in ("true", "1", "yes"),
    }


def session_env(
    account: Account,
    entry: struct_passwd,
    client: ClientEnv,
    *,
    session_id: str,
    client_addr: str,
    tty: str = "",
    term: str = "",
    original_command: str = "",
    of_pam: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """The whole environment of one session; nothing of the service's own leaks into it."""
    host, _, port = client_addr.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    env = {
        "LANG": "C.UTF-8",
        **of_pam,
        **(user_env(Path(entry.pw_dir)) if account.permit_user_env else {}),
        **client.variables,
        "USER": entry.pw_name,
        "LOGNAME": entry.pw_name,
        "HOME": entry.pw_dir,
        "SHELL": entry.pw_shell or "/bin/sh",
        "PATH": of_pam.get("PATH") or (_ROOT_PATH if entry.pw_uid == 0 else _USER_PATH),
        "SSH_CLIENT": f"{host} {port or 0} 0",
        "SSH_CONNECTION": f"{host} {port or 0} 127.0.0.1 0",
        "SSH_TELEPORT_USER": account.user,
        "SSH_TELEPORT_CLUSTER_NAME": account.cluster,
        "SSH_TELEPORT_HOST_UUID": account.host_id,
        "SSH_SESSION_ID": session_id,
    }
    if account.proxy_addr:
        env["SSH_SESSION_WEBPROXY_ADDR"] = account.proxy_addr
    if term:
        env["TERM"] = term
    if tty:
        env["SSH_TTY"] = tty
    if original_command:
        env["SSH_ORIGINAL_COMMAND"] = original_command
    return env


def user_env(home: Path) -> dict[str, str]:
    """`~/.tsh/environment`, where the administrator permits it. Unreadable or odd lines are skipped."""
    out: dict[str, str] = {}
    try:
        with (home / ".tsh" / "environment").open(errors="replace") as source:
            text = source.read(USER_ENV_BYTES)
    except OSError:
        return out
    for line in text.splitlines()[:USER_ENV_LINES]:
        name, found, value = line.strip().partition("=")
        if found and _NAME.fullmatch(name) and "\0" not in value:
            out[name] = value
    return out

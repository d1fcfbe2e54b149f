"""How a connection's process becomes the login's user of this host, for good."""

from __future__ import annotations

import os
import pwd
import resource
import time
from pathlib import Path

from pkgs.agents.ssh.messages import Account
from pkgs.agents.ssh.session import pam

_SHADOW = Path("/etc/shadow")
_EXPIRES = 7
"""Field of the day, counted from 1970, on which an account ends."""
_DAY_S = 86400


def become(account: Account, client: str = "") -> tuple[pwd.struct_passwd, pam.PamSession | None]:
    """Turn this process into the login's user, for good, with a session of PAM where that is asked for.
    Raises LookupError or OSError."""
    opened = None
    try:
        entry = pwd.getpwnam(account.login)
    except KeyError:
        raise LookupError(f"there is no user {account.login} on this host") from None
    if entry.pw_name != account.login:
        raise LookupError("the host knows that login under another name")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    if os.geteuid() == 0 and not account.single_user:
        if has_expired(entry.pw_name, time.time()):
            raise LookupError(f"the account {account.login} of this host has expired")
        os.initgroups(entry.pw_name, entry.pw_gid)
        if entry.pw_uid != 0 and account.max_processes:
            limit_processes(account.max_processes)
        if account.pam_service:
            opened = pam.open_session(
                account.pam_service, account.login, client=client, facts=account.pam_facts
            )
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    if os.getresuid() != (entry.pw_uid,) * 3:
        raise LookupError(
            f"this service runs as another user and can only serve its own, not {account.login}"
        )
    os.umask(0o022)
    try:
        os.chdir(entry.pw_dir)
    except OSError:
        os.chdir("/")
    return entry, opened


def limit_processes(most: int) -> None:
    """For whoever this process becomes: never more than it has now."""
    soft, hard = (
        most if bound == resource.RLIM_INFINITY else min(most, bound)
        for bound in resource.getrlimit(resource.RLIMIT_NPROC)
    )
    resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


def has_expired(name: str, now: float) -> bool:
    """Whether the host's administrator has let this account end (`usermod --expiredate`). Needs root."""
    try:
        with _SHADOW.open(errors="replace") as lines:
            for line in lines:
                fields = line.rstrip("\n").split(":")
                if fields[0] == name and len(fields) > _EXPIRES and fields[_EXPIRES].isdigit():
                    return int(fields[_EXPIRES]) * _DAY_S <= now
    except FileNotFoundError:
        return False  # a host without such a file keeps its accounts elsewhere
    return False

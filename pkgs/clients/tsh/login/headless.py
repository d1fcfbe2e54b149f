"""`--headless`: a login for one command on a machine that is not trusted with one, approved elsewhere.

The keys are made here and are never on a disk: OpenSSH and OpenSSL want files, so they are in a private
folder of a file system that is in memory, and go away with this process. The certificates live for a
minute; a session that they opened goes on.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pkgs.clients.tsh.login.flow import reach, user_name
from pkgs.clients.tsh.login.webapi import WebApi
from pkgs.clients.tsh.profile import home, identity, store
from pkgs.clients.tsh.profile.login import Login, of_profile
from pkgs.common.errors import DeniedError, NotFoundError
from pkgs.common.output.argv import Parsed
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.keys import new_ssh_key, new_tls_key

WAIT_S = 180.0
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made in it is private


def headless_login(args: Parsed) -> Login:
    """Ask, say where to approve, wait, and answer with a login for this process and its children."""
    from pkgs.common.api.headless import headless_id

    if not _IN_MEMORY.is_dir():
        raise NotFoundError("there is no file system in memory (/dev/shm), and keys are not put on a disk")
    where = home.home_dir()
    api, pong = reach(args, where)
    if not pong.auth.allow_headless:
        raise DeniedError("headless logins are turned off in this cluster")
    user = user_name(args, where, api.addr)
    ssh, tls = new_ssh_key(), new_tls_key()
    wanted = headless_id(ssh.public_line)
    sys.stderr.write(
        "Approve this login on a machine where you are logged in:\n\n"
        f"    tsh headless approve --proxy={inert(api.addr)} --user={inert(user)} {wanted}\n\n"
    )
    sys.stderr.flush()
    issued = _wait(api, user, wanted, ssh.public_line, tls.public_pem)
    folder = identity.private_folder(_IN_MEMORY)
    profile = home.Profile(home.profile_name(api.addr), api.addr, issued.user, issued.cluster, "")
    store.save(folder, profile, issued, ssh, tls)
    # Where the programs that this one starts find the login; they are not to ask for another.
    os.environ["TELEPORT_HOME"] = folder
    for name in ("TELEPORT_HEADLESS", "TELEPORT_AUTH"):
        os.environ.pop(name, None)
    login = of_profile(folder, profile)
    login.temporary = True
    return login


def _wait(api: WebApi, user: str, wanted: str, ssh_public: str, tls_public: str) -> store.Issued:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        answer = api.headless_login(
            user=user, headless_id=wanted, ssh_public=ssh_public, tls_public=tls_public
        )
        if answer.certs is not None:
            return store.Issued(answer.certs, user=user)
    raise DeniedError("nobody approved the login in time", hint="start again")

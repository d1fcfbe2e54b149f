"""From a wish to a login that holds it: ask, wait, take out certificates."""

from __future__ import annotations

import sys
import time

from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.requests import calls, certificates, show, waiting
from pkgs.common.api.requests import CreateAccessRequest, GetAccessRequest
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.kinds import AccessRequest


def ask(login: Login, request: CreateAccessRequest, *, nowait: bool) -> Login:
    """The login with what was asked for; with `nowait` the login as it is."""
    certificates.require_profile(login)
    shown = calls.created(login, request)
    sys.stdout.write(show.block(shown))
    sys.stdout.flush()
    if nowait:
        sys.stderr.write(
            f"The request waits for its decision. Use it with: {waiting.resume(shown.request)}\n"
        )
        return login
    return use(login, waiting.decision(login, shown.request))


def resume(login: Login, name: str, *, nowait: bool) -> Login:
    """The login with a request that was made before; waits for its decision when there is none yet."""
    certificates.require_profile(login)
    with calls.connected(login) as client:
        request = client.call(GetAccessRequest(id=name)).request
    if request.spec.state == "PENDING" and not nowait:
        request = waiting.decision(login, request)
    return use(login, request)


def use(login: Login, request: AccessRequest) -> Login:
    """Take out certificates, if it is time."""
    start = waiting.approved(request).spec.assume_start_time
    if start is not None and start.timestamp() > time.time():
        sys.stderr.write(
            f"Approved, and may be used from {start:%Y-%m-%d %H:%M:%S} UTC on, with:"
            f" {waiting.resume(request)}\n"
        )
        return login
    renewed = certificates.renew(login, assume=[request.name])
    sys.stderr.write(f"Request {inert(request.name)} is approved, its certificates are here.\n")
    return renewed

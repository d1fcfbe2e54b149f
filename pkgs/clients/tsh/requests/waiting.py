"""Waiting for the decision: asking again at growing intervals, through outages, until the request is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.requests.calls import connected
from pkgs.common.api.requests import GetAccessRequest
from pkgs.common.errors import DeniedError, NotFoundError, UnavailableError
from pkgs.common.output.progress import Progress
from pkgs.common.output.sanitize import inert
from pkgs.common.output.times import remaining
from pkgs.common.resources.kinds import AccessRequest

FIRST_S = 0.5
LONGEST_S = 5.0
FACTOR = 1.3


def decision(login: Login, request: AccessRequest) -> AccessRequest:
    """The request once it is approved; DeniedError when it is not. Interrupted, it says how to go on."""
    sys.stderr.write(f"Waiting for the decision about request {inert(request.name)} ...\n")
    try:
        return poll(request, lambda name: _read(login, name), time.time, time.sleep)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nThe request stays as it is. Go on with: {resume(request)}\n")
        raise


def resume(request: AccessRequest) -> str:
    """The command that uses the request, or waits for it once more."""
    return f"tsh login --request-id={inert(request.name)}"


def poll(
    request: AccessRequest,
    read: Callable[[str], AccessRequest],
    now: Callable[[], float],
    sleep: Callable[[float], None],
) -> AccessRequest:
    """Ask until it is decided or has expired; an answer that does not come is asked for again."""
    pause = FIRST_S
    ends = request.metadata.expires.timestamp() if request.metadata.expires else 0.0
    with Progress(f"Request {request.name}:") as progress:
        while True:
            try:
                request = read(request.name)
            except UnavailableError:
                if now() >= ends:
                    raise
            except NotFoundError:
                raise DeniedError(
                    f"request {request.name} has expired or was deleted, nobody decided", hint="ask again"
                ) from None
            if request.spec.state != "PENDING":
                return approved(request)
            reviews = len(request.spec.reviews)
            progress.update(f"pending, {reviews} review(s) so far, expires in {remaining(ends - now())}")
            sleep(pause)
            pause = min(pause * FACTOR, LONGEST_S)


def approved(request: AccessRequest) -> AccessRequest:
    """The request if it is approved, else DeniedError with the reason."""
    spec = request.spec
    if spec.state != "APPROVED":
        raise DeniedError(
            f"request {request.name} is {spec.state}"
            + (f": {spec.resolve_reason}" if spec.resolve_reason else "")
        )
    return request


def _read(login: Login, name: str) -> AccessRequest:
    with connected(login) as client:
        return client.call(GetAccessRequest(id=name)).request

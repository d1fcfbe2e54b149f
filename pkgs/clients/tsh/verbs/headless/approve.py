"""`tsh headless approve`."""

from __future__ import annotations

import sys
from typing import TypeVar

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.login import ask
from pkgs.clients.tsh.profile.login import Login, current
from pkgs.common.api.headless import DecideHeadless, GetHeadless
from pkgs.common.errors import DeniedError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.rpc.calls import Request

A = TypeVar("A")

SPEC = Spec(
    "Approve a login that you started with --headless on another machine. It gets certificates for a minute."
    " Approve only what you have just started yourself: whoever did gets your access.",
    Flag(
        "skip-confirm", "Do not ask whether it is yours", is_bool=True, env="TELEPORT_HEADLESS_SKIP_CONFIRM"
    ),
    ask.OTP_STDIN,
    CLUSTER,
    usage="REQUEST_ID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Show, ask, prove, approve; a no is told to the other machine too."""
    login = current(args)
    wanted = args.words[0].strip().lower()
    found = _call(login, GetHeadless(headless_id=wanted))
    sys.stderr.write(f"A login as {inert(found.user)} waits at {inert(found.client_addr)}.\n")
    if not args.on("skip-confirm") and not _confirmed():
        _call(login, DecideHeadless(headless_id=wanted, approve=False))
        raise DeniedError("the headless login was denied")
    otp = ask.one_time_code(args, "One-time code: ")
    _call(login, DecideHeadless(headless_id=wanted, approve=True, otp=otp))
    sys.stdout.write("The headless login was approved.\n")
    return 0


def _call(login: Login, request: Request[A]) -> A:
    """By a connection of its own: one that is idle while somebody thinks, or looks for a code, is closed."""
    client = auth_client(login)
    try:
        return client.call(request)
    finally:
        client.close()


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise DeniedError("there is nobody to ask", hint="add --skip-confirm if it is your own")
    sys.stderr.write("Is this your own login, started just now? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

"""`tsh signup`: accept an invitation or a password reset."""

from __future__ import annotations

import re
import sys
import time

from pkgs.clients.tsh.login import ask, totp
from pkgs.clients.tsh.login.webapi import Invitation, WebApi
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Accept an invitation (tctl users add) or a password reset (tctl users reset): set a password and"
    " connect an authenticator app. --format=json is for scripts: it prints the second factor's secret, and"
    " proves it itself unless --otp-stdin is given.",
    *ask.SECRET_FLAGS,
    Flag("format", "Output format", short="f", default="text", choices=("text", "json"), metavar="FORMAT"),
    usage="LINK",
    least=1,
    most=1,
)
_LINK = re.compile(
    r"https://(?P<addr>(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?)/web/(?:invite|reset)/(?P<token>[A-Za-z0-9_-]{8,128})/?\Z"
)


def run(args: Parsed) -> int:
    """Show the second factor, ask for the password, prove both."""
    match = _LINK.match(args.words[0])
    if match is None:
        raise InputError(
            "this is no invitation link", hint="it looks like https://<proxy>/web/invite/<token>"
        )
    addr, token = match["addr"], match["token"]
    if not re.search(r":\d+\Z", addr):
        addr += ":443"
    api = WebApi(addr, insecure=args.on("insecure"))
    invitation = api.invitation(token)
    as_json = args.text("format") == "json"
    if not as_json:
        what = "reset the password of" if invitation.kind == "reset" else "join as"
        sys.stderr.write(
            f"You are about to {what} {inert(invitation.user)} in {inert(invitation.cluster_name)}.\n"
        )
    password = ask.new_password(args)
    otp = _prove(args, invitation) if _has_factor(invitation) else ""
    api.finish_signup(token, password, otp)
    if as_json:
        _print_json(invitation, addr)
    else:
        sys.stdout.write(
            f"Done. Log in with: tsh login --proxy={addr} --user={inert(invitation.user)}"
            f"{' --insecure' if args.on('insecure') else ''}\n"
        )
    return 0


def _has_factor(invitation: Invitation) -> bool:
    return bool(invitation.otp_secret) and invitation.second_factor != "off"


def _prove(args: Parsed, invitation: Invitation) -> str:
    if args.on("otp-stdin"):
        if args.text("format") != "json":
            _show(invitation)
        return ask.one_time_code(args, "")
    if args.text("format") == "json":
        # A script learns the secret only from this run's output, so it can't give the code.
        return totp.code(invitation.otp_secret, time.time())
    if not sys.stdin.isatty():
        raise InputError(
            "there is no terminal to ask for the one-time code",
            hint="use --otp-stdin, or --format=json which prints the secret and proves it itself",
        )
    _show(invitation)
    return ask.one_time_code(args, "One-time code from the app: ")


def _show(invitation: Invitation) -> None:
    """The QR code and the secret, on standard error like every question."""
    import segno

    # Half blocks: two rows of the code in one line of the terminal.
    segno.make(invitation.otp_url, error="l").terminal(out=sys.stderr, compact=True)
    sys.stderr.write(
        f"Scan this with an authenticator app, or type the secret: {inert(invitation.otp_secret)}\n"
    )


def _print_json(invitation: Invitation, addr: str) -> None:
    from pkgs.common.output import formats

    formats.write(
        {
            "user": invitation.user,
            "cluster": invitation.cluster_name,
            "proxy": addr,
            "kind": invitation.kind,
            "second_factor": invitation.second_factor,
            "otp_secret": invitation.otp_secret if _has_factor(invitation) else "",
            "otp_url": invitation.otp_url if _has_factor(invitation) else "",
        },
        "json",
    )

"""What the verbs share: whom a question is about, and their flags."""

from __future__ import annotations

from pkgs.clients.tctl.flags import commas
from pkgs.common.api.access import Somebody
from pkgs.common.errors import InputError
from pkgs.common.output import times
from pkgs.common.output.argv import Flag, Parsed
from pkgs.common.pki.source import parse_address

WITH_MFA = Flag("with-mfa", "As if the session were verified by a second factor", is_bool=True)
WITH_DEVICE = Flag("with-device", "As if it came from a trusted device", is_bool=True)
AT = Flag("at", "As if it were then, for roles with hours", metavar="TIME")
FROM = Flag("from-addr", "As if it came from this address, for roles with networks", metavar="ADDR")
ROLES = Flag("roles", "As if the user had these roles, comma separated", metavar="ROLES")
USER = Flag("user", "The user (required)", metavar="USER")
CIRCUMSTANCES = (WITH_MFA, WITH_DEVICE, AT, FROM)
DEADLINE_S = 120.0


def moment(text: str) -> float:
    """Unix seconds of `--at`; 0: now."""
    return times.parse(text, flag="--at") if text else 0.0


def source(args: Parsed) -> str:
    """The address of `--from-addr`; empty: not known."""
    text = args.text("from-addr")
    if text and parse_address(text) is None:
        raise InputError(f"--from-addr: {text[:80]!r} is no IP address", hint="write for example 10.0.0.5")
    return text


def somebody(args: Parsed) -> Somebody:
    """The user of `--user`, as the other flags have them."""
    if not args.text("user"):
        raise InputError("--user is required", hint="for example --user=alice")
    return Somebody(
        user=args.text("user"),
        roles=commas(args.text("roles")),
        with_mfa=args.on("with-mfa"),
        with_device=args.on("with-device"),
        at=moment(args.text("at")),
        source_addr=source(args),
    )

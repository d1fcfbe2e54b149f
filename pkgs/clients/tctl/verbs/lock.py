"""`tctl lock`."""

from __future__ import annotations

import sys
import time
import uuid
from datetime import UTC, datetime

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import duration
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import InputError
from pkgs.common.output import times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata

SPEC = Spec(
    "Lock somebody or something out at once, running sessions included. Several targets in one lock must all"
    " match. See 'tctl get locks', take away with 'tctl rm lock/<id>'.",
    Flag("user", "User to lock", metavar="NAME"),
    Flag("role", "Everybody with this role", metavar="NAME"),
    Flag("login", "OS login", metavar="LOGIN"),
    Flag("server-id", "Server, by its id", metavar="UUID"),
    Flag("mfa-device", "Second factor, by its id", metavar="UUID"),
    Flag("access-request", "Whoever uses this access request, by its id", metavar="UUID"),
    Flag("message", "What the locked ones read", metavar="TEXT"),
    Flag("expires", "When the lock ends (RFC 3339)", metavar="TIME"),
    Flag("ttl", "How long the lock holds", metavar="DURATION"),
)
TARGETS = ("user", "role", "login", "server-id", "mfa-device", "access-request")


def run(args: Parsed) -> int:
    """Create the lock."""
    target = {name.replace("-", "_"): args.text(name) for name in TARGETS if args.text(name)}
    if not target:
        raise InputError("what is to be locked?", hint=f"use one of --{', --'.join(TARGETS)}")
    if args.text("expires") and args.text("ttl"):
        raise InputError("use only one of --expires and --ttl")
    end = 0.0
    if args.text("expires"):
        end = times.parse(args.text("expires"), flag="--expires")
        if end <= time.time():
            raise InputError("--expires: this time is over")
    elif args.text("ttl"):
        end = time.time() + duration(args, "ttl")
    name = str(uuid.uuid4())
    spec = LockSpec(
        target=LockTarget(**target),
        message=args.text("message"),
        expires=datetime.fromtimestamp(end, UTC) if end else None,
    )
    with connect(args) as client:
        client.call(PutResource(resource=Lock(metadata=Metadata(name=name), spec=spec), mode="create"))
    sys.stdout.write(f'Created a lock with name "{name}".\n')
    return 0

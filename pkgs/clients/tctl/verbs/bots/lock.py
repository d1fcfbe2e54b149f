"""`tctl bots lock`."""

from __future__ import annotations

import sys
import time
import uuid
from datetime import UTC, datetime

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import duration
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import InputError
from pkgs.common.output import times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.resources.bots import user_of
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata

SPEC = Spec(
    "Lock all machines of a bot out at once, also from what they took on. Take the lock away with"
    " 'tctl rm lock/<id>'.",
    Flag("message", "What the locked ones read", metavar="TEXT"),
    Flag("expires", "When the lock ends (RFC 3339)", metavar="TIME"),
    Flag("ttl", "How long the lock holds", metavar="DURATION"),
    usage="NAME",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Create the lock."""
    end = _end(args)
    name = str(uuid.uuid4())
    spec = LockSpec(
        target=LockTarget(user=user_of(args.words[0])),
        message=args.text("message"),
        expires=datetime.fromtimestamp(end, UTC) if end else None,
    )
    with connect(args) as client:
        # A lock on nobody would look as if it held.
        client.call(GetResource(kind="bot", name=args.words[0]))
        client.call(PutResource(resource=Lock(metadata=Metadata(name=name), spec=spec), mode="create"))
    sys.stdout.write(f'Created a lock with name "{name}".\n')
    return 0


def _end(args: Parsed) -> float:
    """When the lock ends; 0: never by itself."""
    if args.text("expires") and args.text("ttl"):
        raise InputError("use only one of --expires and --ttl")
    if args.text("ttl"):
        return time.time() + duration(args, "ttl")
    if not args.text("expires"):
        return 0.0
    end = times.parse(args.text("expires"), flag="--expires")
    if end <= time.time():
        raise InputError("--expires: this time is over")
    return end

"""`tctl lock`."""

from __future__ import annotations

import math
import sys
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import duration
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import AccessError, InputError, NotFoundError
from pkgs.common.output import times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.kinds import (
    AuthServer,
    Device,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    Proxy,
    Resource,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.names import valid_host_id
from pkgs.common.rpc.calls import BlockingClient

TARGETS = (
    Flag("user", "User, and what they impersonate", metavar="NAME"),
    Flag("role", "Everybody with this role", metavar="NAME"),
    Flag("login", "OS login, on every server", metavar="LOGIN"),
    Flag("mfa-device", "Second factor, by its id", metavar="UUID"),
    Flag("windows-desktop", "Windows desktop", metavar="NAME"),
    Flag("linux-desktop", "Linux desktop", metavar="NAME"),
    Flag("access-request", "What an access request granted, by its id", metavar="UUID"),
    Flag("device", "Trusted device, by its id or asset tag", metavar="UUID"),
    Flag("server-id", "Server, by its id or host name: it is cut off from the cluster", metavar="UUID"),
    Flag("bot-instance-id", "One instance of a bot", metavar="UUID"),
    Flag("join-token", "What joined with this token (not of the method token)", metavar="NAME"),
)
SPEC = Spec(
    "Lock somebody or something out at once, running sessions included. Several targets in one lock must all"
    " match. See 'tctl get locks', take away with 'tctl rm lock/<id>'.",
    *TARGETS,
    Flag("message", "What the locked ones read", metavar="TEXT"),
    Flag("expires", "When the lock ends (RFC 3339)", metavar="TIME"),
    Flag("ttl", "How long the lock holds", metavar="DURATION"),
)


def run(args: Parsed) -> int:
    """Create the lock."""
    target = {flag.name.replace("-", "_"): value for flag in TARGETS if (value := args.text(flag.name))}
    if not target:
        names = ", --".join(flag.name for flag in TARGETS)
        raise InputError("it is not said what is to be locked", hint=f"use one of --{names}")
    end = _end(args)
    with connect(args) as client:
        target |= _resolved(client, target)
        name = str(uuid.uuid4())
        spec = LockSpec(
            target=LockTarget(**target),
            message=args.text("message"),
            expires=datetime.fromtimestamp(math.ceil(end), UTC) if end else None,
        )
        client.call(PutResource(resource=Lock(metadata=Metadata(name=name), spec=spec), mode="create"))
        sys.stdout.write(f'Created a lock with name "{name}".\n')
        sys.stdout.flush()
        for kind in _unknown(client, target):
            sys.stderr.write(
                f'WARNING: there is no {kind} "{inert(target[kind])}" in this cluster now; check the name:'
                " the lock stops whoever has it, now or later\n"
            )
    return 0


def _unknown(client: BlockingClient, target: dict[str, str]) -> list[str]:
    """Names of the target that nothing here has: a lock on a mistyped name stops nobody, and whoever is in
    a hurry should see it. Asked after the lock is made, so that it delays nothing."""
    missing = []
    for kind in ("user", "role"):
        if target.get(kind):
            try:
                client.call(GetResource(kind=kind, name=target[kind]))
            except NotFoundError:
                missing.append(kind)
            except AccessError:
                # The lock is made; that its target cannot be looked up takes nothing from it.
                continue
    return missing


def _end(args: Parsed) -> float:
    """Unix time at which the lock ends; 0: never."""
    if args.text("expires") and args.text("ttl"):
        raise InputError("use only one of --expires and --ttl")
    if args.text("expires"):
        end = times.parse(args.text("expires"), flag="--expires")
        if end <= time.time():
            raise InputError("--expires: this time is over")
        return end
    return time.time() + duration(args, "ttl") if args.text("ttl") else 0.0


def _resolved(client: BlockingClient, target: dict[str, str]) -> dict[str, str]:
    """Ids in place of names that people know: a lock knows ids alone; one of a name would lock nothing."""
    ids = {}
    server = target.get("server_id", "")
    if server and not valid_host_id(server):
        for kind in ("node", "proxy", "auth_server"):
            if found := server_ids(fetch_all(client, kind), server):
                break
        ids["server_id"] = the_one(found, f'server "{server}"', "--server-id=UUID if it is not connected now")
    device = target.get("device", "")
    if device and not valid_host_id(device):
        devices = [d for d in fetch_all(client, "device") if isinstance(d, Device)]
        found = sorted(d.name for d in devices if d.spec.asset_tag == device)
        ids["device"] = the_one(found, f'device "{device}"', "--device=UUID")
    return ids


def server_ids(resources: Iterable[Resource], hostname: str) -> list[str]:
    """Ids of the servers of this name."""
    servers = [server for server in resources if isinstance(server, Node | Proxy | AuthServer)]
    return sorted({server.name for server in servers if server.spec.hostname == hostname})


def the_one(found: list[str], what: str, flag: str) -> str:
    """The only id; raises when there is none, or when it is not clear which is meant."""
    if not found:
        raise NotFoundError(f"{what} not found", hint=f"write {flag}")
    if len(found) > 1:
        raise InputError(
            f"{what} is not the only one of its name: {', '.join(found[:10])}", hint=f"write {flag}"
        )
    return found[0]

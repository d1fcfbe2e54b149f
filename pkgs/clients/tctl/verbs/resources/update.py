"""`tctl update`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

import msgspec

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas, duration
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.registry import SINGLETONS, parse_refs

SPEC = Spec(
    "Change labels and expiry of one resource, for example tctl update rc/leaf --set-labels=env=prod. It is"
    " written back only if nobody else has changed it in the meantime.",
    Flag("set-labels", "Labels that replace the present ones: key=value,...", metavar="LABELS"),
    Flag("set-ttl", "How long it lives from now on, for example 8h", metavar="DURATION"),
    usage="KIND/NAME",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Fetch, change the metadata, write back."""
    refs = parse_refs(args.words[0])
    if len(refs) != 1 or not (refs[0].name or refs[0].kind in SINGLETONS):
        raise InputError("update takes one resource", hint="write kind/name")
    labels = args.text("set-labels")
    if not labels and not args.text("set-ttl"):
        raise InputError("nothing to change", hint="give --set-labels or --set-ttl")
    changes: dict[str, object] = {"labels": _labels(labels)} if labels else {}
    if args.text("set-ttl"):
        changes["expires"] = datetime.fromtimestamp(int(time.time()) + duration(args, "set-ttl"), UTC)
    ref = refs[0]
    name = ref.name or SINGLETONS[ref.kind]
    with connect(args) as client:
        found = client.call(GetResource(kind=ref.kind, name=name, sub_kind=ref.sub_kind)).resource
        metadata = msgspec.structs.replace(found.metadata, **changes)
        changed = msgspec.structs.replace(found, metadata=metadata)
        client.call(PutResource(resource=changed, mode="update"))
    sys.stdout.write(f'{ref.kind} "{inert(name)}" has been updated\n')
    return 0


def _labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in commas(text):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set-labels: {item!r} is not a label", hint="write key=value,key=value")
        found[key.strip()] = value.strip()
    return found

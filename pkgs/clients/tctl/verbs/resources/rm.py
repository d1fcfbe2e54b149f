"""`tctl rm`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.common.api.resources import DeleteResource
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.registry import DEFAULTED, SINGLETONS, parse_refs

SPEC = Spec(
    "Delete resources: tctl rm role/dev. Of a kind that a cluster has exactly one of, the defaults come"
    " back.",
    usage="KIND/NAME[,...]",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Delete one after the other; the first failure ends it."""
    refs = parse_refs(args.words[0])
    for ref in refs:
        if not ref.name and ref.kind not in SINGLETONS:
            raise InputError(f"{ref.kind}: which one?", hint=f"write {ref.kind}/<name>")
    with connect(args) as client:
        for ref in refs:
            name = ref.name or SINGLETONS[ref.kind]
            client.call(DeleteResource(kind=ref.kind, name=name, sub_kind=ref.sub_kind))
            done = "reset to defaults" if ref.kind in DEFAULTED else "deleted"
            sys.stdout.write(f'{ref.kind} "{inert(name)}" has been {done}\n')
    return 0

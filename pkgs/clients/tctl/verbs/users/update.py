"""`tctl users update`."""

from __future__ import annotations

import sys

import msgspec

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas
from pkgs.clients.tctl.verbs.users.traits import TRAITS, trait_flags, traits_of
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.kinds import User

SPEC = Spec(
    "Replace roles or traits of a user. An empty list takes a trait away.",
    Flag("set-roles", "Replace the roles, comma separated", metavar="ROLES"),
    *trait_flags("set-", TRAITS),
    usage="ACCOUNT",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Read, change, write back if nobody else has in between."""
    traits = traits_of(args, "set-", TRAITS)
    roles = commas(args.text("set-roles"))
    if "set-roles" in args.given and not roles:
        raise InputError("--set-roles: a user needs at least one role")
    if not traits and not roles:
        raise InputError("nothing to update", hint="use --set-roles or one of the --set-... traits")
    with connect(args) as client:
        user = client.call(GetResource(kind="user", name=args.words[0])).resource
        assert isinstance(user, User)
        merged = {**user.spec.traits, **traits}
        spec = msgspec.structs.replace(
            user.spec,
            roles=roles or user.spec.roles,
            traits={key: values for key, values in merged.items() if values},
        )
        client.call(PutResource(resource=msgspec.structs.replace(user, spec=spec), mode="update"))
    sys.stdout.write(f"User {inert(user.name)} has been updated:\n")
    if roles:
        sys.stdout.write(f"\tNew roles: {inert(','.join(roles))}\n")
    for key, values in traits.items():
        sys.stdout.write(f"\tNew {inert(key)}: {inert(','.join(values) or '(none)')}\n")
    return 0

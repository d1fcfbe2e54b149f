"""`tctl acl update`."""

from __future__ import annotations

import contextlib
import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.verbs.acl import grants
from pkgs.clients.tctl.verbs.acl.rm import remove_roles
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.kinds import AccessList

SPEC = Spec(
    "Change an access list: each flag replaces what it is about. Members are changed by 'tctl acl users'. The"
    " resource flags together describe the one role that was made for the list, and replace it.",
    *grants.FLAGS,
    Flag("remove-access", "Take away the roles that were made for the list's resources", is_bool=True),
    usage="NAME",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Read, change, write back if nobody else has in between."""
    name, removing = args.words[0], args.on("remove-access")
    if removing and grants.describes_access(args):
        raise InputError("--remove-access takes away what the resource flags give", hint="use one of both")
    if not args.given & {flag.name for flag in SPEC.flags}:
        raise InputError("nothing to update", hint="see 'tctl acl update --help'")
    roles = grants.roles_for(args, name)
    with connect(args) as client:
        before = client.call(GetResource(kind="access_list", name=name)).resource
        assert isinstance(before, AccessList)
        wanted = grants.applied(args, before)
        if roles or removing:
            wanted = grants.granting(wanted, roles)
        for role in roles:
            with contextlib.suppress(NotFoundError):
                grants.check_ours(client.call(GetResource(kind="role", name=role.name)).resource, name)
            client.call(PutResource(resource=role, mode="upsert"))
            sys.stdout.write(f'role "{inert(role.name)}" has been written\n')
        client.call(PutResource(resource=wanted, mode="update"))
        sys.stdout.write(f'access list "{inert(name)}" has been updated\n')
        if roles or removing:
            remove_roles(client, name, keep=[role.name for role in roles])
    return 0
